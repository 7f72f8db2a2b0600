"""Processes and chains with few successors: tables that grow with S·A·k instead of S²·A.

A process is a list of k successors for each state and action, padded with probability 0, which is also what compiled
code indexes; a chain is a SciPy sparse matrix.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.sparse import csr_array

from tutelage.continual.structure import refuse_dense
from tutelage.continual.tabular import TOLERANCE, TabularMDP, check_rows
from tutelage.lab.errors import BadInput


class SparseMDP(NamedTuple):
    """A finite decision process by lists of successors.

    Attributes:
        successors: states, int [S, A, k]; one may occur twice in a list, and padding may be any state.
        probabilities: of these, f64 [S, A, k]; 0 where the list is padded.
        R: expected rewards, f64 [S, A].
        p0: law of the first state, f64 [S].
        states: a name for each state; may be empty.
    """

    successors: Int[np.ndarray | Array, "S A k"]
    probabilities: Float[np.ndarray | Array, "S A k"]
    R: Float[np.ndarray | Array, "S A"]
    p0: Float[np.ndarray | Array, "S"]
    states: tuple[str, ...] = ()


class SparseChain(NamedTuple):
    """A chain with rewards: P a sparse matrix [S, S], r f64 [S]."""

    P: csr_array
    r: Float[np.ndarray, "S"]


def sparse_mdp(successors: Any, probabilities: Any, R: Any, p0: Any = None, states: Any = ()) -> SparseMDP:
    """A checked process of a user's lists; p0 is uniform when it is not given.

    Raises:
        BadInput: on shapes that do not fit, successors that do not exist, NaN, negative probabilities, or lists that do
            not sum to 1 ± 1e-8; the first few (state, action) pairs are named.
    """
    after, chance = np.asarray(successors), np.asarray(probabilities, np.float64)
    reward = np.asarray(R, np.float64)
    if after.ndim != 3 or after.size == 0 or not np.issubdtype(after.dtype, np.integer):
        raise BadInput(f"successors: {after.dtype} of shape {after.shape}; must be whole numbers [states, actions, k]")
    num_states = len(after)
    if chance.shape != after.shape:
        raise BadInput(f"probabilities: shape {chance.shape}; must be {after.shape}, one for each successor")
    if reward.shape != after.shape[:2]:
        raise BadInput(f"R: shape {reward.shape}; must be {after.shape[:2]}, one reward for each state and action")
    if not np.isfinite(reward).all():
        raise BadInput(f"R: {int((~np.isfinite(reward)).sum())} entries are not finite")
    if after.min() < 0 or after.max() >= num_states:
        where = np.argwhere((after < 0) | (after >= num_states))[0]
        raise BadInput(f"successors{where.tolist()} = {after[tuple(where)]}: must be in [0, {num_states})")
    check_rows("probabilities", chance)
    start = np.full(num_states, 1 / num_states) if p0 is None else np.asarray(p0, np.float64)
    if start.shape != (num_states,):
        raise BadInput(f"p0: shape {start.shape}; must be {(num_states,)}")
    check_rows("p0", start)
    return SparseMDP(after, chance, reward, start, tuple(states))


def sparse_garnet(num_states: int, num_actions: int, branching: int, seed: int = 0) -> SparseMDP:
    """A random process: `branching` different successors of each state and action, Dirichlet(1) probabilities.

    Rewards are uniform in [0, 1].

    References: Archibald, McKinnon & Thomas (1995), On the Generation of Markov Decision Processes.
    """
    if not 1 <= branching <= num_states:
        raise BadInput(f"branching = {branching}: must be in [1, {num_states}], the number of states")
    rng = np.random.default_rng(seed)
    shape = (num_states, num_actions, branching)
    # Of i.i.d. draws the lists with a repetition are drawn again: few, where states are many.
    successors = rng.integers(num_states, size=shape)
    while (again := (np.diff(np.sort(successors, axis=-1), axis=-1) == 0).any(axis=-1)).any():
        if branching > num_states // 4:
            successors = rng.permuted(np.broadcast_to(np.arange(num_states), (*shape[:2], num_states)), axis=-1)
            successors = successors[..., :branching]
        else:
            successors[again] = rng.integers(num_states, size=(int(again.sum()), branching))
    probabilities = rng.dirichlet(np.ones(branching), size=shape[:2])
    return sparse_mdp(successors, probabilities, rng.random(shape[:2]))


def to_sparse(mdp: TabularMDP) -> SparseMDP:
    """The successor lists of a dense table; k is the largest number of successors of any state and action."""
    P = np.asarray(mdp.P, np.float64)
    width = int((P > 0).sum(axis=-1).max())
    successors = np.argsort(P <= 0, axis=-1, kind="stable")[..., :width]
    probabilities = np.take_along_axis(P, successors, axis=-1)
    return SparseMDP(successors, probabilities, np.asarray(mdp.R), np.asarray(mdp.p0), mdp.states)


def to_dense(mdp: SparseMDP) -> TabularMDP:
    """The dense table.

    Raises:
        BadInput: if it would take more than half of the machine's memory; the message says how many bytes.
    """
    num_states, num_actions = np.shape(mdp.R)
    refuse_dense(num_states, num_actions)
    P = one_step(mdp).toarray().reshape(num_states, num_actions, num_states)
    return TabularMDP(P, np.asarray(mdp.R, np.float64), np.asarray(mdp.p0, np.float64), mdp.states)


def one_step(mdp: TabularMDP | SparseMDP) -> Any:
    """Transition probabilities as a matrix [S·A, S], sparse for a sparse process: `one_step(mdp) @ values`."""
    num_states, num_actions = np.shape(mdp.R)
    if isinstance(mdp, TabularMDP):
        return np.asarray(mdp.P, np.float64).reshape(-1, num_states)
    width = np.shape(mdp.successors)[-1]
    starts = np.arange(0, num_states * num_actions * width + 1, width)
    data, columns = np.asarray(mdp.probabilities, np.float64).ravel(), np.asarray(mdp.successors).ravel()
    table = csr_array((data.copy(), columns.copy(), starts), shape=(num_states * num_actions, num_states))
    table.sum_duplicates()
    table.eliminate_zeros()
    return table


def induced_sparse(mdp: SparseMDP, policy: Any) -> SparseChain:
    """The chain of a policy: action probabilities [S, A], or one action for each state, int [S].

    Raises:
        BadInput: if the policy's shape does not fit, its rows are no laws, or an action does not exist.
    """
    S, A = np.shape(mdp.R)
    given = np.asarray(policy)
    if np.issubdtype(given.dtype, np.integer):
        if given.shape != (S,) or given.min() < 0 or given.max() >= A:
            raise BadInput(f"policy: actions of shape {given.shape}; must be {S} numbers in [0, {A})")
        given = np.eye(A)[given]
    if given.shape != (S, A):
        raise BadInput(f"policy: shape {given.shape}; must be {(S, A)}: a law over actions for each state")
    given = np.asarray(given, np.float64)
    check_rows("policy", given)
    choose = csr_array((given.ravel(), np.arange(S * A), np.arange(0, S * A + 1, A)), shape=(S, S * A))
    P = csr_array(choose @ one_step(mdp))
    P.eliminate_zeros()
    return SparseChain(P, (given * np.asarray(mdp.R)).sum(axis=-1))


def checked_sparse(chain: SparseChain) -> SparseChain:
    """The chain in float64 and row order.

    Raises:
        BadInput: on shapes that do not fit, or rows that are no laws.
    """
    P, r = csr_array(chain.P, dtype=np.float64), np.asarray(chain.r, np.float64)
    shape = tuple(P.shape or ())
    if r.ndim != 1 or r.size == 0 or shape != (r.size, r.size):
        raise BadInput(f"P, r: shapes {shape}, {r.shape}; must be [states, states] and [states]")
    problems = (
        ("P: entries that are not finite, in rows", ~np.isfinite(P.data)),
        ("P: negative entries, in rows", P.data < 0),
    )
    rows = np.repeat(np.arange(r.size), np.diff(P.indptr))
    for what, wrong in problems:
        if wrong.any():
            raise BadInput(f"{what} {np.unique(rows[wrong])[:5].tolist()}; must be probabilities")
    wrong = np.abs(P.sum(axis=1) - 1) > TOLERANCE
    if wrong.any():
        more = f" and {int(wrong.sum()) - 5} more" if wrong.sum() > 5 else ""
        raise BadInput(f"P: rows {np.flatnonzero(wrong)[:5].tolist()}{more} do not sum to 1 ± {TOLERANCE:g}")
    return SparseChain(P, r)
