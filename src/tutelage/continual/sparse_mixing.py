"""Stationary law, gain and mixing of chains too large for S × S tables.

The law is iterated: sweeps μ ← μP, and Arnoldi's method where these are too slow; the residual ‖μP − μ‖₁ is checked and
returned. The distance d(t) is propagated from a block of start states, those where the slowest mode is most extreme
among them: a maximum over some starts is a lower bound of d(t), and is called one.

References: Stewart (1994), Introduction to the Numerical Solution of Markov Chains, chapters 3 and 4; Levin & Peres
(2017), Markov Chains and Mixing Times, section 12.2, for the slowest mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackError, eigs

from tutelage.continual.mixing_time import ROUNDING, MixingTime, check_eps, definition
from tutelage.continual.sparse import SparseChain, checked_sparse
from tutelage.continual.structure import unichain
from tutelage.lab.errors import BadInput

_BLOCK = 64  # Start states at once.
_FEW = 400  # States for which the dense eigenvalues take no time.
_PATIENCE = 50  # Sweeps between two looks at the residual.


class SparseLaw(NamedTuple):
    """A stationary law found by iteration.

    Attributes:
        mu: f64 [S]; exactly 0 on transient states.
        gain: ρ = μ · r.
        residual: ‖μP − μ‖₁. The error of μ is larger by a factor of the order of the relaxation time.
        sweeps: products with P that it took.
    """

    mu: Float[np.ndarray, "S"]
    gain: float
    residual: float
    sweeps: int


class DistanceBound(NamedTuple):
    """A lower bound of the distance to the stationary law.

    Attributes:
        distance: max over the starts of ½‖P^t(s,·) − μ‖₁ for t = 0, 1, …; never increases, f64 [T].
        starts: the states it is over.
        exact: whether these are all states of the closed class, and the bound is d(t) itself.
    """

    distance: Float[np.ndarray, "T"]
    starts: Int[np.ndarray, "B"]
    exact: bool


def sparse_stationary(chain: SparseChain, *, tolerance: float = 1e-12, max_sweeps: int = 20_000) -> SparseLaw:
    """The stationary law of a chain with one closed class, periodic or not.

    Args:
        tolerance: of the residual ‖μP − μ‖₁, in (0, 1).
        max_sweeps: products μP before the slowest chains are left to Arnoldi's method.

    Raises:
        BadInput: rows that are no laws, several closed classes, a residual that stays above the tolerance.
    """
    if not 0 < tolerance < 1:
        raise BadInput(f"tolerance = {tolerance}: must be in (0, 1)")
    P, r = checked_sparse(chain)
    found = unichain(P)
    states, period = found.closed[0], found.periods[0]
    back = csr_array(P[states][:, states].T)

    def swept(law: np.ndarray, sweeps: int) -> np.ndarray:
        for _ in range(sweeps):
            law = back @ law if period == 1 else (back @ law + law) / 2
        return law / law.sum()

    def residual(law: np.ndarray) -> float:
        return float(np.abs(back @ law - law).sum())

    law, sweeps = np.full(states.size, 1 / states.size), 0
    while residual(law) > tolerance and sweeps < max_sweeps:
        law, sweeps = swept(law, _PATIENCE), sweeps + _PATIENCE
    if residual(law) > tolerance:
        vector = np.real(_leading(back, 1, "LR", start=law)[1][:, 0])
        vector = np.maximum(vector / vector.sum(), 0)
        law, sweeps = swept(vector / vector.sum(), _PATIENCE), sweeps + _PATIENCE
    if not residual(law) <= tolerance:
        raise BadInput(
            f"tolerance = {tolerance:g}: the residual is {residual(law):.2g} after {sweeps} sweeps; "
            "the chain is slow: give more max_sweeps or a larger tolerance"
        )
    mu = np.zeros(len(r))
    mu[states] = law
    return SparseLaw(mu, float(mu @ r), residual(law), sweeps)


def sparse_relaxation_time(chain: SparseChain) -> float:
    """1 / (1 − |λ₂|) in steps, by Arnoldi's method. Raises as `sparse_stationary`."""
    P = checked_sparse(chain).P
    found = unichain(P)
    states, period = found.closed[0], found.periods[0]
    inner = csr_array(P[states][:, states])
    values, _ = _leading(inner, period + 1, "LM")
    modulus = np.sort(np.abs(values))[::-1]
    second = float(modulus[period]) if modulus.size > period else 0.0
    return 1 / (1 - second) if second < 1 else math.inf


def sparse_distance(
    chain: SparseChain,
    steps: int,
    *,
    law: SparseLaw | None = None,
    starts: Sequence[int] | np.ndarray | None = None,
    num_starts: int = 32,
    until: float = 0.0,
) -> DistanceBound:
    """A lower bound of d(t) for t = 0 … `steps`, by propagating a block of start states.

    Args:
        law: the stationary law where it is known already.
        starts: the start states; when not given, `num_starts` of the closed class, by `slowest_starts`. They are
            taken a block at a time, so all states may be given: then the bound is d(t), at S times the work.
        until: stop early once the bound is no larger than this; the last value may then be too small.

    Raises:
        BadInput: as `sparse_stationary`; starts that are not in the closed class.
    """
    if steps < 0:
        raise BadInput(f"steps = {steps}: must be in [0, inf)")
    P, r = checked_sparse(chain)
    mu = (law or sparse_stationary(chain)).mu
    closed = unichain(P).closed[0]
    block = slowest_starts(chain, num_starts) if starts is None else np.unique(np.asarray(starts))
    outside = block[~np.isin(block, closed)]
    if block.size == 0 or outside.size:
        raise BadInput(f"starts: {outside[:5].tolist() or 'none'}; must be states of the closed class")
    back, distance = csr_array(P.T), []
    for first in range(0, block.size, _BLOCK):
        some = block[first : first + _BLOCK]
        laws = np.zeros((r.size, some.size))
        laws[some, np.arange(some.size)] = 1
        for t in range(steps + 1):
            if t:
                laws = back @ laws
                laws /= laws.sum(axis=0)
            farthest = float(np.abs(laws - mu[:, None]).sum(axis=0).max() / 2)
            if t == len(distance):
                distance.append(farthest)
            distance[t] = max(distance[t], farthest)
            if farthest <= until:
                break
    return DistanceBound(np.array(distance), block, block.size == closed.size)


def slowest_starts(chain: SparseChain, num_starts: int = 32, *, seed: int = 0) -> Int[np.ndarray, "B"]:
    """States of the closed class from which forgetting promises to be slow, at most `num_starts`.

    Half are the extremes of the real and the imaginary part of the slowest mode (a rough right eigenvector of λ₂), the
    others are drawn evenly; so are all where that mode does not show.
    """
    P = checked_sparse(chain).P
    found = unichain(P)
    states, period = found.closed[0], found.periods[0]
    if states.size <= num_starts:
        return states
    chosen: list[int] = []
    try:
        values, vectors = _leading(csr_array(P[states][:, states]), period + 1, "LM", tolerance=0.01, restarts=5)
    except BadInput:
        pass
    else:
        mode = vectors[:, np.argsort(-np.abs(values))[period]]
        each = max(1, num_starts // 8)
        for part in (np.real(mode), np.imag(mode)):
            order = np.argsort(part)
            chosen += [*order[:each], *order[-each:]]
    rest = np.random.default_rng(seed).permutation(states.size)
    ordered = dict.fromkeys(int(k) for k in (*chosen, *rest))  # Each once, in this order.
    return np.sort(states[list(ordered)[:num_starts]])


def sparse_mixing_time(
    chain: SparseChain,
    eps: float = 0.25,
    *,
    starts: Sequence[int] | np.ndarray | None = None,
    num_starts: int = 32,
    max_steps: int = 100_000,
) -> MixingTime:
    """A lower bound of t_mix(ε), from a block of start states; inf for a periodic chain. The definition says so.

    Raises:
        BadInput: as `sparse_distance`; ε outside (0, 1); a chain still farther than ε after `max_steps`.
    """
    check_eps(eps)
    period = unichain(checked_sparse(chain).P).periods[0]
    if period > 1:
        return MixingTime(math.inf, eps, period, math.nan, definition(eps))
    bound = sparse_distance(chain, max_steps, starts=starts, num_starts=num_starts, until=eps + ROUNDING)
    if bound.distance[-1] > eps + ROUNDING:
        raise BadInput(f"max_steps = {max_steps}: the distance is {bound.distance[-1]:.3g} then; must be more")
    meaning = definition(eps)
    if not bound.exact:
        meaning = f"a lower bound from {bound.starts.size} start states of {meaning}"
    return MixingTime(len(bound.distance) - 1, eps, period, math.nan, meaning)


def _leading(
    matrix: csr_array,
    count: int,
    which: str,
    *,
    start: np.ndarray | None = None,
    tolerance: Any = 0,
    restarts: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The first eigenvalues and right eigenvectors; by the dense method for a few states."""
    num_states = matrix.indptr.size - 1
    if count >= num_states - 1 or num_states <= _FEW:
        values, vectors = np.linalg.eig(matrix.toarray())
        order = np.argsort(-np.real(values) if which == "LR" else -np.abs(values))[:count]
        return values[order], vectors[:, order]
    if start is None:
        start = np.random.default_rng(0).random(num_states)  # ARPACK would draw one by a clock.
    basis = min(num_states - 1, max(2 * count + 1, 40))
    try:
        found: Any = eigs(matrix, k=count, which=which, v0=start, ncv=basis, tol=tolerance, maxiter=restarts)
    except ArpackError as error:
        raise BadInput(f"P: Arnoldi's method does not converge on these {num_states} states ({error})") from error
    return found
