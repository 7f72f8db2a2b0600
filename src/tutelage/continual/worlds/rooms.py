"""The scalable grid worlds of Riemer et al. (2022, arXiv 2112.07066): ScaleClass, NBottleneck and NCycle."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from tutelage.continual.structure import refuse_dense
from tutelage.continual.tabular import World, tabular_mdp
from tutelage.continual.worlds import grid
from tutelage.continual.worlds.config import EVOLUTIONS
from tutelage.continual.worlds.outcomes import closed_class, restricted, start_from
from tutelage.lab.errors import BadInput, nearest

Goals = Sequence[tuple[int, int]]


def scale_class(length: int, goal: tuple[int, int] | None = None, slip: float = 0.05) -> World:
    """One room of L×L; arriving at the goal pays 1 and leads at once to a uniform cell of another row and column.

    So nobody is ever seen at the goal, and S = L² − 1.

    Args:
        goal: (x, y); (0, L−1) when it is not given.

    Raises:
        BadInput: a room too small, a goal outside, or a slip that is no probability.
    """
    grid.check(length, slip)
    (goal_cell,) = grid.goal_cells([(0, length - 1) if goal is None else goal], length, 1)
    n = length**2
    law, to = grid.outcome_law(slip), grid.targets(length)
    P, cells = np.zeros((n, grid.NUM_ACTIONS, n)), np.arange(n)
    away = cells[(cells % length != goal_cell % length) & (cells // length != goal_cell // length)].astype(np.int32)
    for outcome in range(5):
        for a in range(grid.NUM_ACTIONS):
            P[cells, a, to[outcome]] += law[a, outcome]
    R = P[:, :, goal_cell].copy()
    P[:, :, away] += R[..., None] / len(away)
    P[:, :, goal_cell] = 0
    return _world(
        P, R, np.full(n, 1 / n), length, np.zeros(n, np.int32), 1, _scale_step(length, int(goal_cell), away, slip)
    )


def _scale_step(length: int, goal_cell: int, away: np.ndarray, slip: float):
    def step(key, state, action):
        move_key, teleport_key = jax.random.split(key)
        cell = grid.move(move_key, state, action, length, slip)
        arrived = cell == goal_cell
        elsewhere = jnp.asarray(away)[jax.random.randint(teleport_key, (), 0, len(away), jnp.int32)]
        return jnp.where(arrived, elsewhere, cell), arrived.astype(jnp.float32)

    return step


def n_bottleneck(
    length: int, rooms: int, evolution: str = "cycles", goals: Goals | None = None, slip: float = 0.05
) -> World:
    """K rooms of L×L; arriving at a room's goal pays 1 and switches to the next room, at the same place.

    A state is (cell, place in the sequence of rooms): `cycles` 1, 2, …, K and again; `random` any room, the same one
    included; `curricular` 1, 1, 2, 1, 2, 3, …, K and again, whose sequence is K(K+1)/2 long.

    Raises:
        BadInput: sizes, goals, an evolution or a slip that are not allowed, or a table that would be too large.
    """
    grid.check(length, slip)
    if rooms < 1:
        raise BadInput(f"rooms = {rooms}: must be at least 1")
    if evolution not in EVOLUTIONS:
        raise BadInput(f"evolution = {evolution!r}: must be one of {EVOLUTIONS}{nearest(evolution, EVOLUTIONS)}")
    goal_of_room = grid.goal_cells(goals, length, rooms)
    sequence = np.arange(rooms, dtype=np.int32)
    if evolution == "curricular":
        sequence = np.concatenate([sequence[: k + 1] for k in range(rooms)])
    goal, phases, n = goal_of_room[sequence], len(sequence), length**2
    S = phases * n
    refuse_dense(S, grid.NUM_ACTIONS)
    law, to = grid.outcome_law(slip), grid.targets(length)
    P, R = np.zeros((S, grid.NUM_ACTIONS, S)), np.zeros((S, grid.NUM_ACTIONS))
    phase, cell = np.divmod(np.arange(S), n)
    following = np.arange(rooms)[None].repeat(S, 0) if evolution == "random" else ((phase + 1) % phases)[:, None]
    for outcome in range(5):
        reached = to[outcome][cell]
        arrived = reached == goal[phase]
        for a in range(grid.NUM_ACTIONS):
            weight = law[a, outcome]
            R[:, a] += weight * arrived
            P[~arrived, a, (phase * n + reached)[~arrived]] += weight
            for column in following.T:
                P[arrived, a, (column * n + reached)[arrived]] += weight / following.shape[1]

    def step(key, state, action):
        move_key, room_key = jax.random.split(key)
        now = state // n
        place = grid.move(move_key, state % n, action, length, slip)
        arrived = place == jnp.asarray(goal)[now]
        drawn = jax.random.randint(room_key, (), 0, rooms, jnp.int32)
        switched = drawn if evolution == "random" else (now + 1) % phases
        return jnp.where(arrived, switched, now) * n + place, arrived.astype(jnp.float32)

    p0 = np.where(phase == 0, 1 / n, 0.0)
    return _world(P, R, p0, length, sequence[phase], rooms, step)


def n_cycle(length: int, rooms: int, exponent: float, goals: Goals | None = None, slip: float = 0.05) -> World:
    """K rooms of L×L of which the next begins every 2·L^x steps; arriving at the goal pays 1 and leads to a uniform
    cell of another row and column of the same room.

    A state is (cell, clock): the clock counts the 2·K·L^x steps of a round, so the chain of every policy is periodic
    and never mixes; only its return-mixing time means something.

    Raises:
        BadInput: sizes, goals or a slip that are not allowed, or a table that would be too large.
    """
    grid.check(length, slip)
    if rooms < 1:
        raise BadInput(f"rooms = {rooms}: must be at least 1")
    if not exponent >= 0:
        raise BadInput(f"exponent = {exponent}: must be in [0, inf)")
    goal_of_room, n, lasts = grid.goal_cells(goals, length, rooms), length**2, round(2 * length**exponent)
    around = rooms * lasts
    refuse_dense(around * n, grid.NUM_ACTIONS)
    law, to = grid.outcome_law(slip), grid.targets(length)
    cells = np.arange(n)
    away = np.stack([_away(length, int(goal)) for goal in goal_of_room])
    clock = np.arange(around * n) // n
    room = clock // lasts
    P, R = np.zeros((around * n, grid.NUM_ACTIONS, around * n)), np.zeros((around * n, grid.NUM_ACTIONS))
    moved = np.zeros((n, grid.NUM_ACTIONS, n))
    for outcome in range(5):
        for a in range(grid.NUM_ACTIONS):
            moved[cells, a, to[outcome]] += law[a, outcome]
    for tick in range(around):
        goal = goal_of_room[tick // lasts]
        here, later = slice(tick * n, tick * n + n), (tick + 1) % around * n
        R[here] = moved[:, :, goal]
        P[here, :, later : later + n] = moved
        P[here, :, later + goal] = 0
        P[here, :, later + away[tick // lasts]] += R[here][..., None] / away.shape[1]

    def step(key, state, action):
        move_key, reset_key = jax.random.split(key)
        tick = state // n
        place = grid.move(move_key, state % n, action, length, slip)
        now = tick // lasts
        arrived = place == jnp.asarray(goal_of_room)[now]
        drawn = jax.random.randint(reset_key, (), 0, away.shape[1], jnp.int32)
        place = jnp.where(arrived, jnp.asarray(away)[now, drawn], place)
        return (tick + 1) % around * n + place, arrived.astype(jnp.float32)

    return _world(P, R, np.where(clock == 0, 1 / n, 0.0), length, room, rooms, step)


def _away(length: int, goal: int) -> Int[np.ndarray, "n"]:
    """The cells of another row and column than the goal's."""
    cells = np.arange(length**2)
    return cells[(cells % length != goal % length) & (cells // length != goal // length)].astype(np.int32)


def _world(P, R, p0, length: int, room: np.ndarray, rooms: int, full_step) -> World:
    """The world within the closed class of a full table, whose stepper counts the states of the full table."""
    n = length**2
    cell = np.arange(len(P)) % n
    names = tuple(f"room {room[s] + 1} ({cell[s] % length}, {cell[s] // length})" for s in range(len(P)))
    full = tabular_mdp(P, R, p0, names)
    keep = closed_class(full.P, full.p0)
    mdp = restricted(full, keep)
    to_full, to_kept = keep.astype(np.int32), np.full(len(P), -1, np.int32)
    to_kept[keep] = np.arange(len(keep), dtype=np.int32)

    def step(
        key: Key[Array, ""], state: Int[Array, ""], action: Int[Array, ""]
    ) -> tuple[Int[Array, ""], Float[Array, ""]]:
        successor, reward = full_step(key, jnp.asarray(to_full)[state], action)
        return jnp.asarray(to_kept)[successor], reward

    return World(mdp, step, start_from(mdp.p0), grid.rooms_picture(length, rooms, room[keep], cell[keep]))
