"""The mazes nobody trains on: the out-of-distribution suite of the literature, fixed maps and families."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources

from jaxtyping import Array, Key

from tutelage.envs.maze.level import Level
from tutelage.envs.maze.procedural import corridor, crossing, four_rooms, perfect_maze
from tutelage.envs.maze.text import parse_levels
from tutelage.lab.errors import BadInput, nearest


@dataclass(frozen=True)
class LevelSource:
    """Where the levels of one test maze come from. All have the same size and horizon, so `vmap` makes a batch.

    Attributes:
        sample: `key -> Level`.
        fixed: every key gives the same level.
    """

    name: str
    height: int
    width: int
    max_steps: int
    sample: Callable[[Key[Array, ""]], Level]
    fixed: bool


FIXED = (
    "SixteenRooms",
    "SixteenRooms2",
    "Labyrinth",
    "Labyrinth2",
    "LabyrinthFlipped",
    "StandardMaze",
    "StandardMaze2",
    "StandardMaze3",
)
"""Names of the hand-made maps (Dennis et al. 2020; Jiang et al. 2021), kept as text beside this module."""

FAMILIES = (
    "SmallCorridor",
    "LargeCorridor",
    "FourRooms",
    "Crossing",
    "PerfectMaze",
    "PerfectMazeMedium",
    "PerfectMazeXL",
)
"""Names of the generated ones."""

NAMES = FIXED + FAMILIES


def suite(names: Sequence[str] = NAMES) -> dict[str, LevelSource]:
    """The sources of the named test mazes.

    Horizons: 250 steps for the fixed maps and four rooms; for the others the reference's, which grow with the map
    with its border, (H + 2)·(W + 2): twice that for corridors and perfect mazes, four times for crossings. (minimax
    gives twice that to the fixed maps as well, 450 steps; jaxued, and we, the 250 of training.)

    Sizes differ: `level.pad` the levels to the largest of them to evaluate all in one program.

    Raises:
        BadInput: a name is unknown; the message has the nearest one.
    """
    for name in names:
        if name not in NAMES:
            raise BadInput(f"unknown maze {name!r}; known are {', '.join(NAMES)}{nearest(name, NAMES)}")
    maps = parse_levels(
        resources.files("tutelage.envs.maze").joinpath("suite.txt").read_text("utf-8"), source="suite.txt"
    )
    return {name: _fixed(name, maps[name]) if name in maps else _family(name) for name in names}


def _fixed(name: str, level: Level) -> LevelSource:
    height, width = level.wall.shape
    return LevelSource(name, height, width, int(level.max_steps), lambda key: level, fixed=True)


def _family(name: str) -> LevelSource:
    sample, size, max_steps = {
        "SmallCorridor": (corridor, 13, 2 * 15 * 15),
        "LargeCorridor": (corridor, 19, 2 * 21 * 21),
        "FourRooms": (four_rooms, 17, 250),
        "Crossing": (partial(crossing, num_rivers=5), 9, 4 * 11 * 11),
        "PerfectMaze": (perfect_maze, 13, 2 * 15 * 15),
        "PerfectMazeMedium": (perfect_maze, 19, 2 * 21 * 21),
        "PerfectMazeXL": (perfect_maze, 101, 2 * 103 * 103),
    }[name]
    return LevelSource(name, size, size, max_steps, partial(sample, size=size, max_steps=max_steps), fixed=False)
