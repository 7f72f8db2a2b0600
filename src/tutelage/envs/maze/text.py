"""Levels as text, to read, to write and to send around.

    name: TwoRooms
    max_steps: 100
    >..#...
    ...#..G
    .......

One character a cell: `#` wall, `.` free, `G` the goal, and `>` `v` `<` `^` the agent, looking that way. The two lines
above the map may be left out. Blank lines separate the levels of a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np

from tutelage.envs.maze.level import Level
from tutelage.lab.errors import BadInput, nearest

AGENT_MARKS = ">v<^"
"""The agent's character by direction: right, down, left, up."""
WALL_MARK, FREE_MARK, GOAL_MARK = "#", ".", "G"
_FIELDS = ("name", "max_steps")
_LARGEST = np.iinfo(np.int32).max
_Lines = list[tuple[int, str]]


def parse_levels(text: str, *, max_steps: int = 250, source: str = "levels") -> dict[str, Level]:
    """All levels of a text by name, in their order. A level without a name is called by its number, from "1".

    `max_steps` is the horizon of levels that do not say theirs; `source` names the text in errors.

    Raises:
        BadInput: naming source, line and column of the first fault.
    """
    levels: dict[str, Level] = {}
    for block in _blocks(text):
        name, level = _parse_block(block, str(len(levels) + 1), max_steps, source)
        if name in levels:
            raise BadInput(f"{source}, line {block[0][0]}: there are two levels with the name {name!r}")
        levels[name] = level
    if not levels:
        raise BadInput(f"{source}: there is no level in it; a level is rows of '#', '.', 'G' and one of '>v<^'")
    return levels


def parse_level(text: str, *, max_steps: int = 250, source: str = "level") -> Level:
    """The only level of a text.

    Raises:
        BadInput: as `parse_levels`, or the text holds several levels.
    """
    levels = parse_levels(text, max_steps=max_steps, source=source)
    if len(levels) > 1:
        raise BadInput(f"{source}: there are {len(levels)} levels in it; exactly one is wanted")
    return next(iter(levels.values()))


def format_level(level: Level) -> str:
    """The map of one level, one row a line, without name and horizon."""
    rows = [[WALL_MARK if wall else FREE_MARK for wall in row] for row in np.asarray(level.wall)]
    agent_x, agent_y = np.asarray(level.agent)
    goal_x, goal_y = np.asarray(level.goal)
    rows[goal_y][goal_x] = GOAL_MARK
    rows[agent_y][agent_x] = AGENT_MARKS[int(level.direction)]
    return "\n".join("".join(row) for row in rows)


def format_levels(levels: Mapping[str, Level]) -> str:
    """Levels as a text that `parse_levels` reads back to the same names and levels.

    Raises:
        BadInput: a name is empty, has a line break in it, or spaces at an end.
    """
    for name in levels:
        if not name or name != name.strip() or len(name.splitlines()) != 1:
            raise BadInput(f"level name {name!r} cannot be written; allowed is one line without spaces at its ends")
    blocks = (
        f"name: {name}\nmax_steps: {int(level.max_steps)}\n{format_level(level)}\n" for name, level in levels.items()
    )
    return "\n".join(blocks)


def _blocks(text: str) -> Iterator[_Lines]:
    """Runs of lines between blank ones, each line with its number from 1."""
    block: _Lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            block.append((number, line.rstrip()))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _parse_block(block: _Lines, name: str, max_steps: int, source: str) -> tuple[str, Level]:
    fields: dict[str, str] = {}
    rows: _Lines = []
    for number, line in block:
        if ":" not in line:
            rows.append((number, line))
            continue
        field, _, content = line.partition(":")
        field, content = field.strip(), content.strip()
        where = f"{source}, line {number}"
        if rows:
            raise BadInput(f"{where}: {field!r} stands below its map; allowed is above it, or after a blank line")
        if field not in _FIELDS:
            raise BadInput(f"{where}: unknown field {field!r}; allowed are name and max_steps{nearest(field, _FIELDS)}")
        if field in fields:
            raise BadInput(f"{where}: {field} is given twice")
        if not content:
            raise BadInput(f"{where}: {field} is empty")
        if field == "max_steps":
            max_steps = _horizon(content, where)
        fields[field] = content
    name = fields.get("name", name)
    if not rows:
        raise BadInput(f"{source}, line {block[-1][0]}: level {name!r} has no map")
    return name, _parse_map(rows, max_steps, source)


def _horizon(content: str, where: str) -> int:
    digits = content.isascii() and content.isdecimal() and len(content) <= 10
    if not digits or not 1 <= int(content) <= _LARGEST:
        raise BadInput(f"{where}: max_steps = {content[:20]!r} is not a number of steps; allowed is [1, {_LARGEST}]")
    return int(content)


def _parse_map(rows: _Lines, max_steps: int, source: str) -> Level:
    width = len(rows[0][1])
    wall = np.zeros((len(rows), width), dtype=bool)
    agents: list[tuple[int, int, int]] = []
    goals: list[tuple[int, int]] = []
    for y, (number, line) in enumerate(rows):
        if len(line) != width:
            raise BadInput(
                f"{source}, line {number}, column {min(len(line), width) + 1}: the row has {len(line)} cells, "
                f"the first row of its level {width}"
            )
        for x, mark in enumerate(line):
            where = f"{source}, line {number}, column {x + 1}"
            if mark == WALL_MARK:
                wall[y, x] = True
            elif mark == GOAL_MARK:
                if goals:
                    raise BadInput(f"{where}: a second goal; allowed is one")
                goals.append((x, y))
            elif mark in AGENT_MARKS:
                if agents:
                    raise BadInput(f"{where}: a second agent; allowed is one")
                agents.append((x, y, AGENT_MARKS.index(mark)))
            elif mark != FREE_MARK:
                raise BadInput(f"{where}: {mark!r} is no cell; allowed are '#', '.', 'G' and one of '>v<^'")
    where = f"{source}, line {rows[0][0]}"
    if not agents:
        raise BadInput(f"{where}: the level has no agent; one of '>v<^' is needed")
    if not goals:
        raise BadInput(f"{where}: the level has no goal; a 'G' is needed")
    agent_x, agent_y, direction = agents[0]
    return Level(
        wall=jnp.asarray(wall),
        agent=jnp.asarray((agent_x, agent_y), dtype=jnp.int32),
        direction=jnp.asarray(direction, dtype=jnp.int32),
        goal=jnp.asarray(goals[0], dtype=jnp.int32),
        max_steps=jnp.asarray(max_steps, dtype=jnp.int32),
    )
