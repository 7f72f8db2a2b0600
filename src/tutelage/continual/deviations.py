"""What a change of one state's row does to a chain: every single-state deviation from one inverse.

With M = (I − P + 1uᵀ)^{-1} for a fixed law u > 0, the stationary law is μ = uᵀM and the gain ρ = μ · r. Replace row s
of P by p' and its reward by r', and let v = M r, δ = p' − p(s). Then, exactly,

    μ'(s) = μ(s) / (1 − (δM)_s)                 1 − (δM)_s = M(s,s) + μ(s) − (p'M)_s
    ρ'    = ρ + μ'(s) (r' + p'·v − v(s) − ρ)    the advantage, with v as the bias

so all S·A deviations cost one inverse and O(S²A), and taking one on costs O(S²) (Sherman & Morrison 1950). The sign of
ρ' − ρ is the advantage's, but the action of the largest ρ' need not be that of the largest advantage: μ'(s) differs.

The functions take NumPy or JAX arrays and stay in their precision; all but `chain_inverse` may be used in compiled
code. Updates drift by rounding: watch `drift`, and invert anew every few hundred in float64, every hundred in float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tutelage.continual.structure import BELOW_ROUNDING, unichain
from tutelage.lab.errors import BadInput

Numbers = np.ndarray | Array


class ChainInverse(NamedTuple):
    """M = (I − P + 1uᵀ)^{-1}, [S, S], with its fixed law u > 0, [S]."""

    M: Float[Numbers, "S S"]
    u: Float[Numbers, "S"]


class Deviations(NamedTuple):
    """What each action, taken in one state for ever while the policy stays in the others, makes of the chain.

    Attributes:
        gain: ρ', [S, A] (or [A] for one state). NaN where the deviation makes the chain multichain.
        visits: μ'(s), the same shape.
    """

    gain: Float[Numbers, "*_"]
    visits: Float[Numbers, "*_"]


def chain_inverse(P: Float[Numbers, "S S"], u: Float[Numbers, "_"] | None = None) -> ChainInverse:
    """The inverse of a chain of one closed class, in the precision of P; u is uniform when it is not given.

    Raises:
        BadInput: several closed classes, which are listed; states that hang together only by probabilities below
            rounding; a u that is not a law with positive entries.
    """
    unichain(np.asarray(P))
    if u is None:
        return _certain(inverted(P, _namespace(P).full(P.shape[:1], 1 / P.shape[0], dtype=P.dtype)))
    if np.shape(u) != P.shape[:1] or not (np.min(u) > 0 and abs(np.sum(u) - 1) < 1e-6):
        raise BadInput(f"u: shape {np.shape(u)}, sum {np.sum(u):.6g}; must be {P.shape[:1]} positive entries of sum 1")
    return _certain(inverted(P, u))


def inverted(P: Float[Numbers, "S S"], u: Float[Numbers, "S"]) -> ChainInverse:
    """The inverse anew, for compiled code: nothing is checked."""
    xp = _namespace(P)
    return ChainInverse(xp.linalg.inv(xp.eye(P.shape[0], dtype=P.dtype) - P + u[None, :]), u)


def _certain(inverse: ChainInverse) -> ChainInverse:
    if not np.isfinite(inverse.M).all():
        raise BadInput(BELOW_ROUNDING)
    return inverse


def law_of(inverse: ChainInverse) -> Float[Numbers, "S"]:
    """The stationary law μ = uᵀM."""
    return inverse.u @ inverse.M


def row_deviations(
    inverse: ChainInverse, r: Float[Numbers, "S"], P: Float[Numbers, "S A S"], R: Float[Numbers, "S A"]
) -> Deviations:
    """All S·A deviations in O(S²A).

    Args:
        inverse: of the current policy's chain.
        r: reward of each state under the current policy.
        P, R: of the process: row (s, a) is what the chain's row s would become.
    """
    M = inverse.M
    mu, v = law_of(inverse), M @ r
    back = (P @ M.T[:, :, None])[..., 0]  # (p'M)_s: each state's rows meet only its own column of M.
    room = (M.diagonal() + mu)[:, None] - back
    return _deviations(mu[:, None], room, R + P @ v - v[:, None], mu @ r)


def row_deviations_of(
    inverse: ChainInverse, r: Float[Numbers, "S"], rows: Float[Numbers, "A S"], rewards: Float[Numbers, "A"], s: Any
) -> Deviations:
    """The deviations of state s alone, in O(S² + SA).

    Args:
        rows, rewards: the laws [A, S] and rewards [A] that could replace the chain's row s.
        s: the state; may be traced.
    """
    M = inverse.M
    mu, v = law_of(inverse), M @ r
    room = M[s, s] + mu[s] - rows @ M[:, s]
    return _deviations(mu[s], room, rewards + rows @ v - v[s], mu @ r)


def updated(inverse: ChainInverse, change: Float[Numbers, "S"], s: Any) -> ChainInverse:
    """The inverse after row s of P has changed by `change` = p' − p(s), whose sum is 0: O(S²), pure.

    Args:
        s: the state; may be traced.
    """
    M = inverse.M
    row = change @ M
    return inverse._replace(M=M + (M[:, s] / (1 - row[s]))[:, None] * row[None, :])


def drift(inverse: ChainInverse, P: Float[Numbers, "S S"]) -> Any:
    """How far the inverse is from one of P, in O(S²): the largest of |μP − μ|, |M1 − 1| and a probe of |A M x − x|.

    The probe is a fixed vector x of entries in [−1, 1], A = I − P + 1uᵀ; a fresh inverse is at a few roundings.
    """
    xp = _namespace(P)
    M, u = inverse
    mu = u @ M
    x = xp.cos(1.7 * xp.arange(P.shape[0], dtype=P.dtype) + 1)
    y = M @ x
    errors = (mu @ P - mu, M.sum(axis=1) - 1, y - P @ y + u @ y - x)
    return xp.max(xp.stack([xp.abs(error).max() for error in errors]))


def _deviations(mu: Any, room: Any, gap: Any, rho: Any) -> Deviations:
    xp = _namespace(room)
    # room = μ(s)/μ'(s) vanishes where the deviation closes a second class.
    closes = xp.abs(room) <= 32 * xp.finfo(room.dtype).eps
    visits = xp.where(closes, xp.nan, mu / xp.where(closes, 1, room))
    return Deviations(rho + visits * (gap - rho), visits)


def _namespace(array: Any) -> Any:
    return jnp if isinstance(array, jax.Array) else np
