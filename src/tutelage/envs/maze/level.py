"""A level of the maze: its free parameters, when two are the same, when one is valid, and how it is embedded."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from tutelage.lab.errors import BadInput

DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Unit vectors (x, y) of the directions 0 right, 1 down, 2 left, 3 up; y grows downwards."""


class Level(NamedTuple):
    """A maze of H×W cells; everything beyond them is wall.

    Attributes:
        wall: [H, W], row y and column x; true is wall. Agent and goal stand on free cells.
        agent: its first cell (x, y).
        direction: where it looks at first: 0 right, 1 down, 2 left, 3 up.
        goal: the goal's cell (x, y), not the agent's.
        max_steps: steps after which the episode ends.
    """

    wall: Bool[Array, "*B H W"]
    agent: Int[Array, "*B 2"]
    direction: Int[Array, "*B"]
    goal: Int[Array, "*B 2"]
    max_steps: Int[Array, "*B"]


def equal(left: Level, right: Level) -> Bool[Array, ""]:
    """Whether two levels of one size have the same walls, agent and goal; directions and horizons do not count."""
    same_wall = jnp.all(left.wall == right.wall)
    same_agent = jnp.all(left.agent == right.agent)
    same_goal = jnp.all(left.goal == right.goal)
    return same_wall & same_agent & same_goal


def is_valid(level: Level) -> Bool[Array, ""]:
    """Whether agent and goal stand on two free cells inside the map, with a direction and a horizon."""
    height, width = level.wall.shape

    def is_free(cell: Int[Array, "2"]) -> Bool[Array, ""]:
        x, y = cell
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return inside & ~level.wall[jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)]

    apart = jnp.any(level.agent != level.goal)
    looks = (level.direction >= 0) & (level.direction < len(DIRECTIONS))
    return is_free(level.agent) & is_free(level.goal) & apart & looks & (level.max_steps >= 1)


def pad(level: Level, height: int, width: int) -> Level:
    """The level inside a larger map of walls, top left: the same task, since beyond the border there is wall anyway.

    Levels of many sizes so run in one program. Leading axes are kept.

    Raises:
        BadInput: the map is smaller than the level.
    """
    rows, columns = level.wall.shape[-2:]
    if rows > height or columns > width:
        raise BadInput(f"a level of {rows}×{columns} cells does not fit into {height}×{width}")
    leading = [(0, 0)] * (level.wall.ndim - 2)
    wall = jnp.pad(level.wall, [*leading, (0, height - rows), (0, width - columns)], constant_values=True)
    return level._replace(wall=wall)


def stack(levels: list[Level]) -> Level:
    """One batch [M, ...] of levels, padded to the largest height and width among them.

    Raises:
        BadInput: there is no level.
    """
    if not levels:
        raise BadInput("no levels to stack; at least one is needed")
    height = max(level.wall.shape[-2] for level in levels)
    width = max(level.wall.shape[-1] for level in levels)
    padded = [pad(level, height, width) for level in levels]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)
