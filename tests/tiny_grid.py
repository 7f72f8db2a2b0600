"""A small hypergrid with rewards that are simple to reason about, for the tests of methods."""

from __future__ import annotations

import jax
import numpy as np

from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.worlds.hypergrid import all_cells as cells_of
from tutelage.gflownets.worlds.hypergrid import grid_problem


def tiny_grid(side: int = 4, dims: int = 2) -> Problem:
    """Objects are cells [D]; objective i is 1 at the far end of axis i and falls off with the other axes."""

    def rewards(cells: jax.Array) -> jax.Array:
        place = cells.astype("float32") / (side - 1)
        others = (place.sum(axis=-1, keepdims=True) - place) / max(dims - 1, 1)
        return 0.1 + 0.9 * place * (1 - 0.75 * others)

    return grid_problem(dims, side, Objectives(tuple(f"axis {axis}" for axis in range(dims)), rewards))


def all_cells(side: int = 4, dims: int = 2) -> np.ndarray:
    return cells_of(dims, side)
