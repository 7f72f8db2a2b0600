"""HyperGrid: from the origin, steps of +1 along the axes, until a cell is declared the object.

The classic test of GFlowNets (Bengio et al. 2021, arXiv 2106.04399), with the objectives of the multi-objective study
(Jain et al. 2023, arXiv 2210.12765). All H^D cells are objects; the official script ends a trajectory at the far edge
and so drops those with two coordinates there (`terminate_at_edge`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.environment import Environment
from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.worlds.config import HyperGridConfig, check_hypergrid
from tutelage.gflownets.worlds.enumeration import LIMIT, front_of
from tutelage.gflownets.worlds.landscapes import surface

MUTATION_RATE = 0.5
"""Share of the children that are moved by one cell after the crossover."""


class Cell(NamedTuple):
    """One state.

    Attributes:
        position: int32 [D], the coordinates, 0 … H − 1.
        over: bool, this cell is the object.
    """

    position: Int[Array, "D"]
    over: Bool[Array, ""]


def hypergrid(config: HyperGridConfig) -> Problem:
    """The problem of a configuration.

    Objects are coordinates, int32 [D]. The functions of two coordinates are used as published where D = 2; with more
    axes an objective is the mean of its function over the D − 1 neighbouring pairs (x₁, x₂), (x₂, x₃), …: every
    coordinate counts, and the range stays the same. 'corners' is Bengio et al.'s reward
    (R0 + ½·[all ¼ < |i/(H−1) − ½|] + 2·[all 0.3 < |i/(H−1) − ½| < 0.4])/(R0 + 2.5), its membership decided in integers.

    Raises:
        BadInput: what is wrong with the configuration.
    """
    check_hypergrid(config)
    rewards, exact = _rewards(config, jnp), _rewards(config, np)
    upper = tuple(
        1.0 if name == "corners" else max(1.0, float(surface(name, config.side).max())) for name in config.objectives
    )
    objectives = Objectives(config.objectives, rewards, upper=upper, render=lambda cell: str(tuple(cell.tolist())))
    problem = grid_problem(config.dimensions, config.side, objectives, terminate_at_edge=config.terminate_at_edge)
    if problem.objects is None or problem.num_objects > LIMIT:
        return problem
    cells = problem.objects
    return problem._replace(front=lambda: front_of(exact(cells())))


def grid_problem(dimensions: int, side: int, objectives: Objectives, *, terminate_at_edge: bool = False) -> Problem:
    """Cells under objectives of one's own (of int32 [n, D] coordinates; `landscapes.positions` has the places)."""
    edge = side - 1
    number = edge**dimensions + dimensions * edge ** (dimensions - 1) if terminate_at_edge else side**dimensions

    def legal(cells: Int[Array, "n D"]) -> Bool[Array, "n"]:
        return ((cells == edge).sum(axis=-1) < 2) | (not terminate_at_edge)

    def mutate(key: Key[Array, ""], objects: Int[Array, "n D"]) -> Int[Array, "n D"]:
        """One step up or down a random axis; what would leave the grid stays. Symmetric."""
        k_axis, k_sign = jax.random.split(key)
        axis = jax.random.randint(k_axis, objects.shape[:1], 0, dimensions)
        sign = jnp.where(jax.random.bernoulli(k_sign, shape=objects.shape[:1]), 1, -1)
        moved = objects + sign[:, None] * jax.nn.one_hot(axis, dimensions, dtype=jnp.int32)
        stays = (moved < 0).any(axis=-1) | (moved > edge).any(axis=-1) | ~legal(moved)
        return jnp.where(stays[:, None], objects, moved)

    def variation(key: Key[Array, ""], objects: Int[Array, "n D"], partners: Int[Array, "n D"]) -> Int[Array, "n D"]:
        """Each coordinate of the one or the other, then for half of the children a mutation."""
        k_cross, k_mutate, k_which = jax.random.split(key, 3)
        child = jnp.where(jax.random.bernoulli(k_cross, shape=objects.shape), objects, partners)
        child = jnp.where(legal(child)[:, None], child, objects)
        changed = jax.random.bernoulli(k_which, MUTATION_RATE, objects.shape[:1])
        return jnp.where(changed[:, None], mutate(k_mutate, child), child)

    return Problem(
        environment=grid_environment(dimensions, side, terminate_at_edge=terminate_at_edge),
        objectives=objectives,
        distances=lambda first, second: np.abs(first[:, None].astype(int) - second[None]).sum(axis=-1),
        num_objects=number,
        variation=variation,
        mutate=mutate,
        objects=lambda: all_cells(dimensions, side, terminate_at_edge=terminate_at_edge),
    )


def grid_environment(dimensions: int, side: int, *, terminate_at_edge: bool = False) -> Environment:
    """Actions 0 … D − 1 add 1 to a coordinate, action D stops. A policy sees one-hot coordinates, f32 [D·H].

    With `terminate_at_edge` there is no stop action in a cell with a coordinate of H − 1: it is the end already, and
    its only parent is the cell before that step.
    """
    stop, edge = dimensions, side - 1

    def source() -> Cell:
        return Cell(jnp.zeros(dimensions, jnp.int32), jnp.zeros((), bool))

    def mask(state: Cell) -> Bool[Array, "A"]:
        return jnp.append(state.position < edge, True)

    def step(state: Cell, action: Int[Array, ""]) -> Cell:
        position = state.position + (np.arange(dimensions) == action)
        return Cell(position, (action == stop) | _at_edge(position))

    def _at_edge(position: Int[Array, "D"]) -> Bool[Array, ""]:
        return (position == edge).any() & terminate_at_edge

    def ways(after: Cell) -> Bool[Array, "A"]:
        """Which actions may have led to a state, each from a parent of its own."""
        at_edge = _at_edge(after.position)
        stopped = after.over & ~at_edge
        from_below = jnp.where(at_edge, after.position == edge, after.position > 0)
        return jnp.append(from_below & ~stopped, stopped)

    def log_pb(state: Cell, action: Int[Array, ""], after: Cell) -> Float[Array, ""]:
        return -jnp.log(ways(after).sum().astype(jnp.float32))

    def retrace(key: Key[Array, ""], after: Cell) -> tuple[Cell, Int[Array, ""]]:
        action = jax.random.categorical(key, jnp.where(ways(after), 0.0, -jnp.inf)).astype(jnp.int32)
        return Cell(after.position - (np.arange(dimensions) == action), jnp.zeros((), bool)), action

    def parents(state: Cell) -> tuple[Cell, Int[Array, "K"], Bool[Array, "K"]]:
        below = jnp.maximum(state.position - np.eye(dimensions + 1, dimensions, dtype=np.int32), 0)
        actions = jnp.arange(dimensions + 1, dtype=jnp.int32)
        return Cell(below, jnp.zeros(dimensions + 1, bool)), actions, ways(state)

    def observe(state: Cell) -> Float[Array, "F"]:
        return jax.nn.one_hot(state.position, side, dtype=jnp.float32).reshape(-1)

    return Environment(
        num_actions=dimensions + 1,
        max_steps=dimensions * (edge - 1 if terminate_at_edge else edge) + 1,
        source=source,
        mask=mask,
        step=step,
        done=lambda state: state.over,
        log_pb=log_pb,
        retrace=retrace,
        observe=observe,
        object_of=lambda state: state.position,
        terminal=lambda cell: Cell(cell, jnp.ones((), bool)),
        is_tree=dimensions == 1,
        parents=parents,
    )


def all_cells(dimensions: int, side: int, *, terminate_at_edge: bool = False) -> Int[np.ndarray, "X D"]:
    """Every object, in lexicographic order: H^D of them, or (H−1)^D + D(H−1)^(D−1) if the edge terminates."""
    cells = np.indices((side,) * dimensions, dtype=np.int32).reshape(dimensions, -1).T
    return np.ascontiguousarray(cells[(cells == side - 1).sum(axis=1) < 2] if terminate_at_edge else cells)


def corner_membership(side: int) -> tuple[Bool[np.ndarray, "H"], Bool[np.ndarray, "H"]]:
    """Of the cells of an axis, whether ¼ < |i/(H−1) − ½| and whether 0.3 < |i/(H−1) − ½| < 0.4, in integers.

    In floating point |12/15 − ½| is above 0.3 and |3/15 − ½| is not.
    """
    doubled = np.abs(2 * np.arange(side) - (side - 1))  # 2(H − 1)·|i/(H − 1) − ½|
    return 2 * doubled > side - 1, (5 * doubled > 3 * (side - 1)) & (5 * doubled < 4 * (side - 1))


def _rewards(config: HyperGridConfig, xp: Any) -> Callable[[Any], Any]:
    """The objectives of cells [n, D], by tables: float32 of JAX, or float64 of NumPy."""
    dtype = np.float64 if xp is np else np.float32
    names = [name for name in config.objectives if name != "corners"]
    surfaces = {name: xp.asarray(surface(name, config.side).astype(dtype)) for name in names}
    outer, band = (xp.asarray(member.astype(dtype)) for member in corner_membership(config.side))
    base = config.corner_base

    def measure(name: str, cells: Any) -> Any:
        if name == "corners":
            return (base + 0.5 * outer[cells].prod(axis=-1) + 2.0 * band[cells].prod(axis=-1)) / (base + 2.5)
        return surfaces[name][cells[:, :-1], cells[:, 1:]].mean(axis=-1)

    return lambda cells: xp.stack([measure(name, cells) for name in config.objectives], axis=-1)
