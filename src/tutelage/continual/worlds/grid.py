"""Moves in square rooms: four directions, walls that bounce, slips; and the picture of values over the rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from tutelage.lab.drawing.plots import heat_map
from tutelage.lab.errors import BadInput

UP, DOWN, LEFT, RIGHT, STAY = range(5)
"""The actions are the first four; a slip may also stay. y grows downwards, a cell is y·L + x."""

NUM_ACTIONS = 4
_DX, _DY = np.array([0, 0, -1, 1, 0], np.int32), np.array([-1, 1, 0, 0, 0], np.int32)


def check(length: int, slip: float) -> None:
    """Refuse a room in which a wall leaves nowhere to bounce to, and a slip that is no probability."""
    if length < 2:
        raise BadInput(f"length = {length}: must be at least 2, a wall bounces to the cell on the other side")
    if not 0 <= slip <= 1:
        raise BadInput(f"slip = {slip}: must be in [0, 1]")


def corners(length: int, number: int) -> list[tuple[int, int]]:
    """(0,0), (L−1,L−1), (0,L−1), (L−1,0) in turn: `number` goals."""
    end = length - 1
    return [((0, 0), (end, end), (0, end), (end, 0))[k % 4] for k in range(number)]


def goal_cells(goals: Sequence[tuple[int, int]] | None, length: int, rooms: int) -> Int[np.ndarray, "K"]:
    """The cell of each room's goal; the corners in turn when none are given.

    Raises:
        BadInput: if their number is not that of the rooms, or one lies outside.
    """
    chosen = corners(length, rooms) if goals is None else list(goals)
    if len(chosen) != rooms:
        raise BadInput(f"goals: {len(chosen)} are given; must be {rooms}, one for each room")
    for x, y in chosen:
        if not (0 <= x < length and 0 <= y < length):
            raise BadInput(f"goals: ({x}, {y}) lies outside; must be in [0, {length}) × [0, {length})")
    return np.array([y * length + x for x, y in chosen], np.int32)


def targets(length: int) -> Int[np.ndarray, "5 cells"]:
    """The cell that each move (and staying) leads to from each cell, walls bounced."""
    y, x = np.divmod(np.arange(length**2), length)
    found = []
    for dx, dy in zip(_DX, _DY):
        to_x, to_y = x + dx, y + dy
        to_x = np.where((to_x < 0) | (to_x >= length), x - dx, to_x)
        to_y = np.where((to_y < 0) | (to_y >= length), y - dy, to_y)
        found.append(to_y * length + to_x)
    return np.stack(found)


def outcome_law(slip: float) -> Float[np.ndarray, "4 5"]:
    """Probability of each move (or staying) under each action: 1 − slip, and slip/5 for every one of the five."""
    return (1 - slip) * np.eye(NUM_ACTIONS, 5) + slip / 5


def move(key: Key[Array, ""], cell: Int[Array, ""], action: Int[Array, ""], length: int, slip: float) -> Int[Array, ""]:
    """The cell after an action that may slip."""
    slip_key, outcome_key = jax.random.split(key)
    slipped = jax.random.uniform(slip_key, (), jnp.float32) < slip
    taken = jnp.where(slipped, jax.random.randint(outcome_key, (), 0, 5, jnp.int32), action)
    x, y = cell % length, cell // length
    dx, dy = jnp.asarray(_DX)[taken], jnp.asarray(_DY)[taken]
    to_x = jnp.where((x + dx < 0) | (x + dx >= length), x - dx, x + dx)
    to_y = jnp.where((y + dy < 0) | (y + dy >= length), y - dy, y + dy)
    return (to_y * length + to_x).astype(jnp.int32)


def rooms_picture(
    length: int, rooms: int, room: Int[np.ndarray, "S"], cell: Int[np.ndarray, "S"]
) -> Callable[[Sequence[float] | np.ndarray], str]:
    """`values [S] -> SVG`: the rooms side by side, each cell with the mean value of its states, in a thousandth."""

    def picture(values: Sequence[float] | np.ndarray) -> str:
        given = np.asarray(values, np.float64)
        if given.shape != room.shape:
            raise BadInput(f"values: shape {given.shape}; must be {room.shape}, one for each state")
        place = room * length**2 + cell
        count, total = (np.bincount(place, weight, rooms * length**2) for weight in (None, given))
        mean = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0).reshape(rooms, length, length)
        gap = np.full((length, 1), np.nan)
        panels = [panel for k in range(rooms) for panel in (gap, mean[k])][1:]
        columns = [label for k in range(rooms) for label in ("", f"room {k + 1}", *[""] * (length - 1))][1:]
        return heat_map(np.hstack(panels), rows=[str(y) for y in range(length)], columns=columns, digits=3)

    return picture
