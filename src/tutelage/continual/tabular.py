"""Markov decision processes as tables, and the chains that policies make of them. Everything here is float64.

JAX computes in float32 unless told otherwise; `precise()` tells it for a block of code alone, so that no other system
of the process is changed. Tables are NumPy arrays at rest and may be given to any function of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from tutelage.lab.errors import BadInput

TOLERANCE = 1e-8
"""How far the sum of a row of probabilities may be from 1."""


def precise() -> Any:
    """A context in which JAX computes in float64."""
    return jax.enable_x64(True)


class TabularMDP(NamedTuple):
    """A finite Markov decision process.

    Attributes:
        P: transition probabilities, f64 [S, A, S].
        R: expected rewards, f64 [S, A].
        p0: law of the first state, f64 [S].
        states: a name for each state, for messages and pictures; may be empty.
    """

    P: Float[np.ndarray | Array, "S A S"]
    R: Float[np.ndarray | Array, "S A"]
    p0: Float[np.ndarray | Array, "S"]
    states: tuple[str, ...] = ()


class Chain(NamedTuple):
    """A Markov chain with rewards: what a policy makes of a decision process.

    Attributes:
        P: f64 [..., S, S]; leading axes are a batch of chains (one for each policy, say).
        r: expected reward of each state, f64 [..., S].
    """

    P: Float[np.ndarray | Array, "*batch S S"]
    r: Float[np.ndarray | Array, "*batch S"]


class World(NamedTuple):
    """A family's member: its table, and the same dynamics as a stepper that needs no table.

    Attributes:
        mdp: the table.
        step: `(key, state int32[], action int32[]) -> (next state, reward f32[])`, pure and jit-able; a test compares
            its frequencies with the table.
        start: `key -> state`, a draw from p0.
        picture: `values [S] -> SVG` over the world's map, where it has one.
    """

    mdp: TabularMDP
    step: Callable[[Key[Array, ""], Int[Array, ""], Int[Array, ""]], tuple[Int[Array, ""], Float[Array, ""]]]
    start: Callable[[Key[Array, ""]], Int[Array, ""]]
    picture: Callable[[Sequence[float] | np.ndarray], str] | None = None


def tabular_mdp(P: Any, R: Any, p0: Any = None, states: Sequence[str] = ()) -> TabularMDP:
    """A checked process of a user's numbers; p0 is uniform when it is not given.

    Raises:
        BadInput: on shapes that do not fit, NaN, negative probabilities, or rows that do not sum to 1 ± 1e-8; the
            first few (state, action) pairs are named.
    """
    transition, reward = np.asarray(P, np.float64), np.asarray(R, np.float64)
    if transition.ndim != 3 or transition.shape[0] != transition.shape[2] or transition.size == 0:
        raise BadInput(f"P: shape {transition.shape}; must be [states, actions, states]")
    if reward.shape != transition.shape[:2]:
        raise BadInput(f"R: shape {reward.shape}; must be {transition.shape[:2]}, one reward for each state and action")
    if not np.isfinite(reward).all():
        raise BadInput(f"R: {int((~np.isfinite(reward)).sum())} entries are not finite")
    check_rows("P", transition)
    start = np.full(len(transition), 1 / len(transition)) if p0 is None else np.asarray(p0, np.float64)
    if start.shape != transition.shape[:1]:
        raise BadInput(f"p0: shape {start.shape}; must be {transition.shape[:1]}")
    check_rows("p0", start)
    return TabularMDP(transition, reward, start, tuple(states))


def check_rows(name: str, rows: np.ndarray) -> None:
    """Refuse rows (last axis) that are no probability laws, naming the first few by their indices."""
    problems = (
        ("are not finite", ~np.isfinite(rows).all(axis=-1)),
        ("have negative entries", (rows < 0).any(axis=-1)),
        (f"do not sum to 1 ± {TOLERANCE:g}", ~(np.abs(rows.sum(axis=-1) - 1) <= TOLERANCE)),
    )
    for what, wrong in problems:
        if np.any(wrong):
            where = np.argwhere(np.atleast_1d(wrong))
            shown = ", ".join(str(tuple(map(int, index)) if len(index) > 1 else int(index[0])) for index in where[:5])
            more = f" and {len(where) - 5} more" if len(where) > 5 else ""
            raise BadInput(f"{name}: rows {shown}{more} {what}")


def induced(mdp: TabularMDP, policy: Any) -> Chain:
    """The chain of a policy: action probabilities [..., S, A], or one action for each state, int [..., S].

    Raises:
        BadInput: if the policy's shape does not fit, its rows are no laws, or an action does not exist.
    """
    P, R = np.asarray(mdp.P), np.asarray(mdp.R)
    S, A = R.shape
    given = np.asarray(policy)
    if np.issubdtype(given.dtype, np.integer):
        if given.shape[-1:] != (S,) or given.min() < 0 or given.max() >= A:
            raise BadInput(f"policy: actions of shape {given.shape}; must be {S} numbers in [0, {A})")
        given = np.eye(A)[given]
    if given.shape[-2:] != (S, A):
        raise BadInput(f"policy: shape {given.shape}; must end in {(S, A)}: a law over actions for each state")
    check_rows("policy", np.asarray(given, np.float64))
    return Chain(np.einsum("...sa,sat->...st", given, P), np.einsum("...sa,sa->...s", given, R))
