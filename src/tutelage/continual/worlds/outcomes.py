"""Tables and steppers from lists of outcomes, and the part of a table in which a continuing process stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from scipy.sparse import csr_array

from tutelage.continual.sparse import SparseMDP
from tutelage.continual.structure import refuse_dense, structure
from tutelage.continual.tabular import TabularMDP, World, tabular_mdp
from tutelage.lab.errors import BadInput

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


def of_sparse(mdp: SparseMDP) -> Outcomes:
    """The outcomes of a process given as lists of successors; every outcome pays the expected reward."""
    chances = np.asarray(mdp.probabilities, np.float64)
    rewards = np.broadcast_to(np.asarray(mdp.R, np.float64)[..., None], chances.shape)
    return Outcomes(np.asarray(mdp.successors, np.int32), chances, rewards, np.asarray(mdp.p0, np.float64))


def dense(outcomes: Outcomes, states: tuple[str, ...] = ()) -> TabularMDP:
    """The table of these outcomes.

    Raises:
        BadInput: if it would be too large, or the probabilities are no laws.
    """
    S, A, _ = outcomes.successors.shape
    refuse_dense(S, A)
    row = np.arange(S * A)[:, None] * S
    flat = (row + outcomes.successors.reshape(S * A, -1)).ravel()
    P = np.bincount(flat, outcomes.probabilities.ravel(), S * A * S)
    return tabular_mdp(P.reshape(S, A, S), (outcomes.probabilities * outcomes.rewards).sum(-1), outcomes.p0, states)


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


def start_from(p0: Any) -> Callable[[Key[Array, ""]], Int[Array, ""]]:
    """`key -> state`, a draw from p0."""
    law = np.asarray(p0)
    support = np.flatnonzero(law).astype(np.int32)
    cumulative = np.cumsum(law[support]).astype(np.float32)[:-1]

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


def closed_class(P: Any, p0: Any) -> Int[np.ndarray, "n"]:
    """The states, ascending, of the one closed communicating class that p0 leads to, all actions being possible.

    Raises:
        BadInput: if there are several; the first state of each is named.
    """
    step = csr_array((np.asarray(P) > 0).any(axis=1), dtype=np.float64)
    reached = np.asarray(p0) > 0
    while (grown := reached | (reached @ step > 0)).sum() > reached.sum():
        reached = grown
    closed = [states for states in structure(step).closed if reached[states[0]]]
    if len(closed) != 1:
        first = ", ".join(str(int(states[0])) for states in closed[:5])
        raise BadInput(f"P: {len(closed)} closed classes are reached, at states {first}; must be one")
    return closed[0]


def within_closed_class(outcomes: Outcomes) -> World:
    """The world of these outcomes in the closed class that p0 leads to; a state's name is its number here.

    Raises:
        BadInput: if the table would be too large, the probabilities are no laws, or several classes are reached.
    """
    keep = closed_class(dense(outcomes).P, outcomes.p0)
    number = np.zeros(len(outcomes.p0), np.int32)
    number[keep] = np.arange(len(keep))
    p0 = _law_within(outcomes.p0, keep)
    inner = Outcomes(number[outcomes.successors[keep]], outcomes.probabilities[keep], outcomes.rewards[keep], p0)
    return World(dense(inner, tuple(str(s) for s in keep)), outcome_step(inner), start_from(p0))


def restricted(mdp: TabularMDP, keep: Int[np.ndarray, "n"]) -> TabularMDP:
    """The process within a closed set of states; p0 is what it was there, or uniform where it had nothing there."""
    p0 = _law_within(np.asarray(mdp.p0), keep)
    names = tuple(mdp.states[s] for s in keep) if mdp.states else ()
    return tabular_mdp(np.asarray(mdp.P)[keep][:, :, keep], np.asarray(mdp.R)[keep], p0, names)


def _law_within(p0: np.ndarray, keep: np.ndarray) -> np.ndarray:
    within = p0[keep]
    return within / within.sum() if within.sum() > 0 else np.full(len(keep), 1 / len(keep))
