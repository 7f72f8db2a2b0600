"""A small hypergrid for the tests of methods: increments of D coordinates below H, and a stop."""

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
    at: jax.Array
    stopped: jax.Array


def tiny_grid(side: int = 4, dims: int = 2) -> Problem:
    """Objects are cells [D]; objective i is 1 at the far end of axis i and falls off with the other axes."""

    def source() -> Cell:
        return Cell(jnp.zeros(dims, jnp.int32), jnp.zeros((), jnp.bool_))

    def mask(state: Cell) -> jax.Array:
        return jnp.concatenate([state.at < side - 1, jnp.ones(1, jnp.bool_)]) & ~state.stopped

    def step(state: Cell, action: jax.Array) -> Cell:
        return Cell(state.at + (jnp.arange(dims) == action), action == dims)

    def log_pb(state: Cell, action: jax.Array, after: Cell) -> jax.Array:
        return jnp.where(after.stopped, 0.0, -jnp.log(jnp.maximum((after.at > 0).sum(), 1).astype(jnp.float32)))

    def retrace(key: jax.Array, after: Cell) -> tuple[Cell, jax.Array]:
        axis = jax.random.categorical(key, jnp.where(after.at > 0, 0.0, -jnp.inf))
        action = jnp.where(after.stopped, dims, axis).astype(jnp.int32)
        return Cell(after.at - (jnp.arange(dims) == action), jnp.zeros((), jnp.bool_)), action

    def observe(state: Cell) -> jax.Array:
        return jax.nn.one_hot(state.at, side, dtype=jnp.float32).reshape(-1)

    environment = Environment(
        num_actions=dims + 1,
        max_steps=dims * (side - 1) + 1,
        source=source,
        mask=mask,
        step=step,
        done=lambda state: state.stopped,
        log_pb=log_pb,
        retrace=retrace,
        observe=observe,
        object_of=lambda state: state.at,
        terminal=lambda cell: Cell(cell, jnp.ones((), jnp.bool_)),
    )

    def rewards(cells: jax.Array) -> jax.Array:
        place = cells.astype(jnp.float32) / (side - 1)
        others = (place.sum(axis=-1, keepdims=True) - place) / max(dims - 1, 1)
        return 0.1 + 0.9 * place * (1 - 0.75 * others)

    def mutate(key: jax.Array, cells: jax.Array) -> jax.Array:
        """One coordinate one up or down; stays where that would leave the grid, so it is symmetric."""
        k_axis, k_sign = jax.random.split(key)
        axis = jax.random.randint(k_axis, (len(cells),), 0, dims)
        sign = 2 * jax.random.bernoulli(k_sign, 0.5, (len(cells),)) - 1
        moved = cells + sign[:, None] * (jnp.arange(dims) == axis[:, None])
        return jnp.where(((moved >= 0) & (moved < side)).all(axis=1, keepdims=True), moved, cells).astype(jnp.int32)

    def variation(key: jax.Array, cells: jax.Array, partners: jax.Array) -> jax.Array:
        k_cross, k_mutate = jax.random.split(key)
        crossed = jnp.where(jax.random.bernoulli(k_cross, 0.5, cells.shape), cells, partners)
        return mutate(k_mutate, crossed)

    return Problem(
        environment=environment,
        objectives=Objectives(tuple(f"axis {axis}" for axis in range(dims)), rewards),
        distances=lambda one, other: np.abs(one[:, None] - other[None]).sum(axis=-1),
        num_objects=side**dims,
        variation=variation,
        mutate=mutate,
    )


def all_cells(side: int = 4, dims: int = 2) -> np.ndarray:
    return np.array(list(itertools.product(range(side), repeat=dims)), np.int32)
