"""What the agent sees: a square of cells in front of it, as one small integer per cell."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from tutelage.envs.config import MazeConfig
from tutelage.envs.maze.level import Level

EMPTY, WALL, GOAL, AGENT = 0, 1, 2, 3
"""Codes of a cell. `AGENT + direction` is the agent, so there are `NUM_CODES` in all."""
NUM_CODES = 7

CHANNELS = np.array([[1, 0, 0], [2, 5, 0], [8, 1, 0], [10, 0, 0], [10, 0, 1], [10, 0, 2], [10, 0, 3]], dtype=np.uint8)
"""MiniGrid's (object, colour, state) of each code [7, 3]: empty; grey wall; green goal; red agent and its direction."""


class MazeObs(NamedTuple):
    """An egocentric view, seen through walls.

    Attributes:
        view: [view, view] codes; the agent is at the middle of the bottom row and looks up. Its own cell is empty
            unless `see_agent`. Beyond the border there is wall.
        direction: 0 right, 1 down, 2 left, 3 up, in the frame of the map.
    """

    view: UInt8[Array, "*B V V"]
    direction: Int[Array, "*B"]


def channels(config: MazeConfig) -> Float[np.ndarray, "7 3"]:
    """The table code -> (object, colour, state) that an encoder looks cells up in; divided by 10 where normalised."""
    return CHANNELS.astype(np.float32) / np.float32(10 if config.normalize else 1)


def view_channels(config: MazeConfig) -> Float[np.ndarray, "codes 3"]:
    """The rows of `channels` that occur in `MazeObs.view`: without the agent's unless it is seen.

    The state is then 0 everywhere, and an encoder may drop that channel.
    """
    return channels(config)[: NUM_CODES if config.see_agent else AGENT]


def cells_of(level: Level, margin: int) -> UInt8[Array, "Hp Wp"]:
    """The map of codes with walls and goal, in a frame of `margin` cells of wall on every side."""
    cells = jnp.pad(level.wall.astype(jnp.uint8), margin, constant_values=WALL)
    x, y = level.goal
    return cells.at[y + margin, x + margin].set(GOAL)


def view_of(
    cells: UInt8[Array, "Hp Wp"], place: Int[Array, ""], direction: Int[Array, ""], side: int
) -> UInt8[Array, "V V"]:
    """Cut the view out of a framed map, already turned: one gather of `side`² cells, no rotation.

    `place` is the agent's index in the flattened map. The cell `ahead` steps in front of the agent and `right` steps
    to its right lies at `place + ahead·s(d) + right·s(d + 1)`, with s(d) the stride of a step in direction d.
    """
    rows, columns = np.mgrid[:side, :side]
    ahead = jnp.asarray(side - 1 - rows, dtype=jnp.int32)
    right = jnp.asarray(columns - side // 2, dtype=jnp.int32)
    width = cells.shape[-1]
    index = place + ahead * stride(direction, width) + right * stride((direction + 1) & 3, width)
    return cells.reshape(-1).at[index].get(mode="promise_in_bounds")


def stride(direction: Int[Array, ""], width: int) -> Int[Array, ""]:
    """How far one step in `direction` goes in a flattened map of `width` columns: 1, width, −1, −width."""
    length = jnp.where(direction & 1, width, 1)
    return jnp.where(direction & 2, -length, length)
