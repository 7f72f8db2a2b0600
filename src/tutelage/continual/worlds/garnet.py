"""Random processes: Garnet (Archibald, McKinnon & Thomas 1995) with Dirichlet probabilities, dense or as successors."""

from __future__ import annotations

import numpy as np

from tutelage.continual.tabular import World
from tutelage.continual.worlds.outcomes import Outcomes, world_of
from tutelage.lab.errors import BadInput


def sparse_garnet(states: int, actions: int, branching: int, seed: int = 0) -> Outcomes:
    """A random process as lists of successors: S·A·k numbers, so that 20,000 states are small.

    Each state and action has `branching` different successors, probabilities from Dirichlet(1, …, 1), and one reward,
    uniform in [0, 1]. One successor of action a = 0 is the next state, so that from everywhere everything is reached.

    Raises:
        BadInput: sizes that are not allowed.
    """
    for name, value, low, high in (
        ("states", states, 1, np.inf), ("actions", actions, 1, np.inf), ("branching", branching, 1, states),
    ):  # fmt: skip
        if not low <= value <= high:
            raise BadInput(f"{name} = {value}: must be in [{low}, {high}]")
    rng = np.random.default_rng(seed)
    successors = _distinct(rng, states, states * actions, branching).reshape(states, actions, branching)
    following = (np.arange(states) + 1) % states
    missing = ~(successors[:, 0] == following[:, None]).any(axis=1)
    successors[missing, 0, 0] = following[missing]
    probabilities = rng.dirichlet(np.ones(branching), (states, actions))
    rewards = np.broadcast_to(rng.random((states, actions, 1)), probabilities.shape)
    return Outcomes(successors, probabilities, rewards, np.full(states, 1 / states))


def garnet(states: int, actions: int, branching: int, seed: int = 0) -> World:
    """`sparse_garnet` as a table and a stepper."""
    return world_of(sparse_garnet(states, actions, branching, seed))


def _distinct(rng: np.random.Generator, states: int, rows: int, k: int) -> np.ndarray:
    """`rows` draws of k different states, int32 [rows, k]: one after another, the draw after j others from the states
    that are left, by skipping what was taken."""
    taken = np.empty((rows, 0), np.int64)
    for j in range(k):
        drawn = rng.integers(0, states - j, rows)
        for column in np.sort(taken, axis=1).T:
            drawn += drawn >= column
        taken = np.column_stack([taken, drawn])
    return taken.astype(np.int32)
