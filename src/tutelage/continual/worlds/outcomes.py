"""Tables and steppers from lists of outcomes, and the part of a table in which a continuing process stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from tutelage.continual.tabular import TabularMDP, World, tabular_mdp
from tutelage.lab.errors import BadInput

LARGEST_TABLE = 2 << 30
"""Bytes of P above which a dense table is refused."""

Step = Callable[[Key[Array, ""], Int[Array, ""], Int[Array, ""]], tuple[Int[Array, ""], Float[Array, ""]]]


class Outcomes(NamedTuple):
    """What may follow each state and action: at most k outcomes, padded with probability 0.

    Attributes:
        successors: int32 [S, A, k].
        probabilities: f64 [S, A, k]; rows sum to 1; a successor may occur twice.
        rewards: of each outcome, f64 [S, A, k].
        p0: law of the first state, f64 [S].
    """

    successors: Int[np.ndarray, "S A k"]
    probabilities: Float[np.ndarray, "S A k"]
    rewards: Float[np.ndarray, "S A k"]
    p0: Float[np.ndarray, "S"]


def refuse_large(num_states: int, num_actions: int) -> None:
    """Refuse a dense table that would not fit.

    Raises:
        BadInput: with the bytes that P would take.
    """
    size = 8 * num_actions * num_states**2
    if size > LARGEST_TABLE:
        raise BadInput(
            f"states = {num_states}: P would take {size / 2**30:.1f} GiB; a dense table may take "
            f"{LARGEST_TABLE / 2**30:g} GiB, larger chains need padded successors (worlds.garnet.sparse_garnet)"
        )


def dense(outcomes: Outcomes, states: tuple[str, ...] = ()) -> TabularMDP:
    """The table of these outcomes.

    Raises:
        BadInput: if it would be too large, or the probabilities are no laws.
    """
    S, A, _ = outcomes.successors.shape
    refuse_large(S, A)
    P = np.zeros((S, A, S))
    s, a = np.indices((S, A))
    np.add.at(P, (s[..., None], a[..., None], outcomes.successors), outcomes.probabilities)
    return tabular_mdp(P, (outcomes.probabilities * outcomes.rewards).sum(-1), outcomes.p0, states)


def outcome_step(outcomes: Outcomes) -> Step:
    """A stepper that draws one of the listed outcomes."""
    cumulative = np.cumsum(outcomes.probabilities, axis=-1).astype(np.float32)
    # Rounding may leave the last outcome that can happen at less than 1.
    cumulative[cumulative >= cumulative[..., -1:]] = 2.0
    successors, rewards = outcomes.successors.astype(np.int32), outcomes.rewards.astype(np.float32)

    def step(
        key: Key[Array, ""], state: Int[Array, ""], action: Int[Array, ""]
    ) -> tuple[Int[Array, ""], Float[Array, ""]]:
        uniform = jax.random.uniform(key, (), jnp.float32)
        which = (uniform >= jnp.asarray(cumulative)[state, action]).sum()
        return jnp.asarray(successors)[state, action, which], jnp.asarray(rewards)[state, action, which]

    return step


def start_from(p0: np.ndarray) -> Callable[[Key[Array, ""]], Int[Array, ""]]:
    """`key -> state`, a draw from p0."""
    support = np.flatnonzero(p0).astype(np.int32)
    cumulative = np.cumsum(p0[support]).astype(np.float32)[:-1]

    def start(key: Key[Array, ""]) -> Int[Array, ""]:
        uniform = jax.random.uniform(key, (), jnp.float32)
        return jnp.asarray(support)[(uniform >= jnp.asarray(cumulative)).sum()]

    return start


def world_of(outcomes: Outcomes, states: tuple[str, ...] = ()) -> World:
    """A world of nothing but its outcomes."""
    return World(dense(outcomes, states), outcome_step(outcomes), start_from(outcomes.p0))


def chain_outcomes(rows: list[list[tuple[int, float]]], rewards: Any, p0: np.ndarray) -> Outcomes:
    """Outcomes of a chain (one action): for each state its (successor, probability) pairs and the reward there."""
    k = max(map(len, rows))
    successors, probabilities = np.zeros((len(rows), 1, k), np.int32), np.zeros((len(rows), 1, k))
    for s, row in enumerate(rows):
        for i, (successor, probability) in enumerate(row):
            successors[s, 0, i], probabilities[s, 0, i] = successor, probability
    of_state = np.asarray(rewards, np.float64)[:, None, None]
    return Outcomes(successors, probabilities, np.broadcast_to(of_state, successors.shape), p0)


def closed_class(P: np.ndarray, p0: np.ndarray) -> Int[np.ndarray, "n"]:
    """The states, ascending, of the one closed communicating class that p0 leads to, all actions being possible.

    Raises:
        BadInput: if there are several; the first state of each is named.
    """
    S = len(P)
    edges = csr_array(P.max(axis=1) > 0)
    _, component = connected_components(edges, directed=True, connection="strong")
    source, target = edges.nonzero()
    reached = p0 > 0
    while True:
        grown = reached.copy()
        grown[target[reached[source]]] = True
        if (grown == reached).all():
            break
        reached = grown
    leaving = np.zeros(S, bool)
    leaving[component[source[component[source] != component[target]]]] = True
    closed = np.unique(component[reached & ~leaving[component]])
    if len(closed) != 1:
        first = ", ".join(str(int(np.flatnonzero(component == number)[0])) for number in closed[:5])
        raise BadInput(f"P: {len(closed)} closed classes are reached, at states {first}; must be one")
    return np.flatnonzero(component == closed[0])


def restricted(mdp: TabularMDP, keep: Int[np.ndarray, "n"]) -> TabularMDP:
    """The process within a closed set of states; p0 is what it was there, or uniform where it had nothing there."""
    p0 = np.asarray(mdp.p0)[keep]
    p0 = p0 / p0.sum() if p0.sum() > 0 else np.full(len(keep), 1 / len(keep))
    names = tuple(mdp.states[s] for s in keep) if mdp.states else ()
    return tabular_mdp(np.asarray(mdp.P)[np.ix_(keep, range(mdp.P.shape[1]), keep)], np.asarray(mdp.R)[keep], p0, names)
