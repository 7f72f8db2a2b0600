"""A small hypergrid for tests: corners and all, its states and flows enumerated independently of the package."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tutelage.gflownets.environment import Environment
from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.problem import Problem


class Cell(NamedTuple):
    place: jax.Array
    finished: jax.Array


def grid(dimensions: int, height: int, *, observe_float=True) -> Environment:
    """Actions 0 … D−1 add one to a coordinate, D stops."""
    stop = dimensions

    def parents(state: Cell):
        back = state.place - jnp.eye(dimensions, dtype=jnp.int32)
        places = jnp.concatenate([back, state.place[None]])
        exist = jnp.concatenate([(state.place > 0) & ~state.finished, state.finished[None]])
        return Cell(places, jnp.zeros(dimensions + 1, bool)), jnp.arange(dimensions + 1), exist

    def retrace(key, after: Cell):
        logits = jnp.where(after.place > 0, 0.0, -jnp.inf)
        axis = jax.random.categorical(key, jnp.where((after.place > 0).any(), logits, 0.0)).astype(jnp.int32)
        back = after.place - (jnp.arange(dimensions) == axis)
        place = jnp.where(after.finished, after.place, back)
        return Cell(place, jnp.zeros((), bool)), jnp.where(after.finished, stop, axis)

    def log_pb(state, action, after: Cell):
        del state
        count = jnp.maximum((after.place > 0).sum(), 1)
        return jnp.where(action == stop, 0.0, -jnp.log(count.astype(jnp.result_type(float))))

    return Environment(
        num_actions=dimensions + 1,
        max_steps=dimensions * (height - 1) + 1,
        source=lambda: Cell(jnp.zeros(dimensions, jnp.int32), jnp.zeros((), bool)),
        mask=lambda state: jnp.append(state.place < height - 1, True) & ~state.finished,
        step=lambda state, action: Cell(
            state.place + (jnp.arange(dimensions) == action), state.finished | (action == stop)
        ),
        done=lambda state: state.finished,
        log_pb=log_pb,
        retrace=retrace,
        observe=lambda state: jax.nn.one_hot(state.place, height).reshape(-1),
        object_of=lambda state: state.place,
        terminal=lambda place: Cell(place, jnp.ones((), bool)),
        parents=parents,
    )


def cells(dimensions: int, height: int) -> np.ndarray:
    """All cells in lexicographic order, so that every state stands after its parents."""
    return np.array(list(itertools.product(range(height), repeat=dimensions)))


def uniform_flows(reward: np.ndarray, dimensions: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """log F of every cell and the logits of P_F where P_B is uniform: F(s) = R(s) + Σ_c F(c)/n_c."""
    order = cells(dimensions, height)
    index = {tuple(cell): row for row, cell in enumerate(order)}
    flow = reward.astype(np.float64).copy()
    edges = np.full((len(order), dimensions + 1), -np.inf)
    for row in range(len(order) - 1, -1, -1):
        edges[row, dimensions] = np.log(reward[row])
        for axis in range(dimensions):
            child = order[row].copy()
            child[axis] += 1
            if child[axis] < height:
                at = index[tuple(child)]
                part = flow[at] / (child > 0).sum()
                flow[row] += part
                edges[row, axis] = np.log(part)
    return np.log(flow), edges


def grid_problem(dimensions: int = 2, height: int = 4) -> Problem:
    """Two rewards that pull to opposite corners."""

    def rewards(objects):
        share = objects.mean(axis=-1) / (height - 1)
        return jnp.stack([0.1 + 0.9 * share, 0.1 + 0.9 * (1 - share)], axis=-1)

    return Problem(
        grid(dimensions, height), Objectives(("high", "low"), rewards), lambda a, b: np.zeros((len(a), len(b)))
    )
