"""Where a chain spends its time, and what it earns: stationary law, gain, bias, fundamental matrix. Dense, exact.

With P* the long-run average of P^t, whose row s is the law of occupation from start s:

    μ P = μ,   ρ = P* r,   Z = (I − P + P*)^{-1},   h = Z (r − ρ)

For one closed class every row of P* is μ and h = Z r − ρ. Nothing here needs an aperiodic chain. Leading axes of a
chain are a batch (of policies, say) and are solved side by side.

References: Puterman (1994), Markov Decision Processes, appendix A and section 8.2; Kemeny & Snell (1960), Finite Markov
Chains, chapter 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tutelage.continual.structure import (
    BELOW_ROUNDING,
    Structure,
    checked,
    refuse_below_rounding,
    structure,
    unichain,
)
from tutelage.continual.tabular import Chain
from tutelage.lab.errors import BadInput, nearest

MULTICHAIN = ("refuse", "per_class")


class GainBias(NamedTuple):
    """What a chain earns per step in the long run, and what each start earns beyond that in total.

    Attributes:
        gain: ρ, f64 [...]; with multichain="per_class" that of each start, f64 [S].
        bias: h, f64 [..., S]; its mean under the stationary law (of each closed class) is 0.
    """

    gain: Float[np.ndarray, "*_"]
    bias: Float[np.ndarray, "*_"]


def stationary(
    chain: Chain, *, multichain: str = "refuse", names: Sequence[str] = ()
) -> Float[np.ndarray, "*batch_or_class S"]:
    """The stationary law μ, f64 [..., S]; exactly 0 on transient states.

    Args:
        multichain: what to do with several closed classes: "refuse", or "per_class", for which the result is one law
            for each closed class of one chain, f64 [K, S], in the order of `structure(P).closed`.
        names: a name for each state, for the message.

    Raises:
        BadInput: rows that are no laws; several closed classes, which are listed; states that hang together only by
            probabilities below rounding.
    """
    _check_choice(multichain)
    if multichain == "per_class":
        P, _ = checked(chain)
        return np.asarray(_laws(P, structure(P, names)))
    P, _ = checked(chain, batched=True)
    # Before anything is solved: the system of several classes is singular, and would tell of rounding.
    transient = {index: unichain(P[index], names).transient for index in np.ndindex(P.shape[:-2])}
    mu = _law(P)
    for index, states in transient.items():
        mu[index][states] = 0
    return mu / mu.sum(axis=-1, keepdims=True)


def absorption(chain: Chain) -> Float[np.ndarray, "S K"]:
    """The probability that a chain from each state ends in each closed class, in the order of `structure(P).closed`."""
    P, _ = checked(chain)
    return _absorption(P, structure(P))


def fundamental(
    chain: Chain, *, multichain: str = "refuse", names: Sequence[str] = ()
) -> Float[np.ndarray, "*batch S S"]:
    """The fundamental matrix Z = (I − P + P*)^{-1}, f64 [..., S, S].

    Raises:
        BadInput: as `stationary`; with "per_class" one chain of several closed classes is allowed.
    """
    P, _ = checked(chain, batched=True)
    return np.linalg.inv(_system(P, _limit(chain, multichain, names)))


def gain_bias(chain: Chain, *, multichain: str = "refuse", names: Sequence[str] = ()) -> GainBias:
    """Gain and bias.

    Raises:
        BadInput: as `stationary`; with "per_class" one chain of several closed classes is allowed.
    """
    P, r = checked(chain, batched=True)
    limit = _limit(chain, multichain, names)
    gain = np.asarray((limit @ r[..., None])[..., 0])
    bias = np.linalg.solve(_system(P, limit), (r - gain)[..., None])[..., 0]
    return GainBias(gain if multichain == "per_class" else np.asarray(gain[..., 0]), bias)


def gain(chain: Chain, *, multichain: str = "refuse", names: Sequence[str] = ()) -> Float[np.ndarray, "*batch"]:
    """The long-run reward per step ρ, f64 [...]; with "per_class" that of each start of one chain, f64 [S]."""
    _, r = checked(chain, batched=True)
    if multichain == "per_class":
        return _limit(chain, multichain, names) @ r
    return np.asarray((stationary(chain, multichain=multichain, names=names) * r).sum(axis=-1))


def _check_choice(multichain: str) -> None:
    if multichain not in MULTICHAIN:
        raise BadInput(f"multichain = {multichain!r}: must be one of {MULTICHAIN}{nearest(multichain, MULTICHAIN)}")


def _law(P: np.ndarray) -> np.ndarray:
    """μ (I − P + 1uᵀ) = u with the uniform law u, for one closed class; rounding below 0 is cut off."""
    num_states = P.shape[-1]
    u = np.full((*P.shape[:-1], 1), 1 / num_states)
    try:
        mu = np.linalg.solve(np.swapaxes(np.eye(num_states) - P + 1 / num_states, -1, -2), u)[..., 0]
    except np.linalg.LinAlgError as error:
        raise BadInput(BELOW_ROUNDING) from error
    mu = np.maximum(mu, 0)
    return mu / mu.sum(axis=-1, keepdims=True)


def _laws(P: np.ndarray, found: Structure) -> np.ndarray:
    refuse_below_rounding(P, found)
    laws = np.zeros((len(found.closed), len(P)))
    for law, states in zip(laws, found.closed, strict=True):
        law[states] = _law(P[np.ix_(states, states)])
    return laws


def _absorption(P: np.ndarray, found: Structure) -> np.ndarray:
    ends = np.zeros((len(P), len(found.closed)))
    for k, states in enumerate(found.closed):
        ends[states, k] = 1
    some = found.transient
    if some.size:
        ends[some] = np.linalg.solve(np.eye(some.size) - P[np.ix_(some, some)], P[some] @ ends)
    return ends


def _limit(chain: Chain, multichain: str, names: Sequence[str]) -> np.ndarray:
    """P*, f64 [..., S, S]; a read-only view of repeated rows where there is one closed class."""
    _check_choice(multichain)
    if multichain == "per_class":
        P, _ = checked(chain)
        found = structure(P, names)
        return _absorption(P, found) @ _laws(P, found)
    mu = stationary(chain, multichain=multichain, names=names)
    return np.broadcast_to(mu[..., None, :], np.shape(chain.P))


def _system(P: np.ndarray, limit: np.ndarray) -> np.ndarray:
    return np.eye(P.shape[-1]) - P + limit
