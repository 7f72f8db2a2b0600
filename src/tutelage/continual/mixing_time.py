"""How long a chain remembers where it started: total-variation curve, mixing time, relaxation time. Dense, exact.

    d(t) = max_s ½‖P^t(s,·) − μ‖₁        t_mix(ε) = min{t : d(t) ≤ ε}        t_rel = 1 / (1 − |λ₂|)

d never increases, so t_mix is found by repeated squaring and bisection; the rows of a power are made to sum to 1 again
after each product, for their error would double with every squaring. The maximum is over the start states of the
closed class: where the chain can be, not where it could only have been put. Packages differ here without saying so, so
the definition is printed with the number.

References: Levin & Peres (2017), Markov Chains and Mixing Times, sections 4.5 and 12.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tutelage.continual.stationary import stationary
from tutelage.continual.structure import checked, unichain
from tutelage.continual.tabular import Chain
from tutelage.lab.errors import BadInput, nearest

ROUNDING = 1e-12
"""A distance that exceeds ε by no more than this counts as ε: it would by rounding alone."""

STARTS = ("closed", "all")
_LONGEST = 40  # Squarings; the relative error of a power doubles with each, and float64 has 52 bits.


class MixingTime(NamedTuple):
    """A mixing time with its definition.

    Attributes:
        steps: t_mix(ε), a whole number of steps; inf for a periodic chain.
        eps: the distance ε.
        period: of the closed class.
        relaxation: t_rel in steps; NaN where it was not asked for.
        definition: what the number means.
    """

    steps: float
    eps: float
    period: int
    relaxation: float
    definition: str

    def __str__(self) -> str:
        steps = "inf" if math.isinf(self.steps) else f"{self.steps:.0f} steps"
        why = f" (the chain has period {self.period})" if self.period > 1 else ""
        relaxation = "" if math.isnan(self.relaxation) else f"; relaxation time {self.relaxation:.6g} steps"
        return f"t_mix({self.eps:g}) = {steps}{why}, {self.definition}{relaxation}"


def mixing_time(
    chain: Chain, eps: float = 0.25, *, starts: str = "closed", relaxation: bool = True, names: Sequence[str] = ()
) -> MixingTime:
    """t_mix(ε) of a chain with one closed class.

    Args:
        eps: distance in total variation, in (0, 1).
        starts: "closed", start states in the closed class; "all", transient ones too.
        relaxation: whether to compute the relaxation time as well (the eigenvalues of P).
        names: a name for each state, for messages.

    Raises:
        BadInput: ε outside (0, 1), rows that are no laws, several closed classes; a chain that has not mixed after
            2^40 steps, beyond which float64 says nothing.
    """
    check_eps(eps)
    P, mu, period = _restricted(chain, starts, names)
    slow = relaxation_time(chain, names=names) if relaxation else math.nan
    steps = math.inf if period > 1 else _first(P, mu, eps)
    return MixingTime(steps, eps, period, slow, definition(eps, starts))


def mixing_times(chain: Chain, eps: float = 0.25, *, starts: str = "closed") -> Float[np.ndarray, "*batch"]:
    """t_mix(ε) of a batch of chains, f64 [...]; inf where a chain is periodic. Raises as `mixing_time`."""
    P, r = checked(chain, batched=True)
    found = np.empty(P.shape[:-2])
    for index in np.ndindex(found.shape):
        found[index] = mixing_time(Chain(P[index], r[index]), eps, starts=starts, relaxation=False).steps
    return found


def tv_curve(chain: Chain, ts: Sequence[int] | np.ndarray, *, starts: str = "closed") -> Float[np.ndarray, "T"]:
    """d(t) at the times `ts` (whole numbers ≥ 0, in any order); never increases in t.

    A periodic chain has a curve too: its limit is above 0. Raises as `mixing_time`, and on negative times.
    """
    times = np.asarray(ts)
    if times.ndim != 1 or not np.issubdtype(times.dtype, np.integer) or (times.size and times.min() < 0):
        raise BadInput(f"ts: {ts!r}; must be whole numbers ≥ 0")
    P, mu, _ = _restricted(chain, starts, ())
    powers = Powers(P)
    law, now = np.eye(len(P)), 0
    distance = {}
    for t in np.unique(times):
        law = powers.laws_after(int(t) - now, law)
        now = int(t)
        distance[now] = _distance(law, mu)
    return np.array([distance[int(t)] for t in times])


def relaxation_time(chain: Chain, *, names: Sequence[str] = ()) -> float:
    """1 / (1 − |λ₂|) in steps, ≥ 1, with |λ₂| the largest modulus below 1 of an eigenvalue of the closed class.

    A class of period p has exactly p eigenvalues of modulus 1; a class with no others has relaxation time 1. For an
    aperiodic chain (t_rel − 1) · ln(1/2ε) ≤ t_mix(ε). Raises as `mixing_time`.
    """
    P, _ = checked(chain)
    found = unichain(P, names)
    states, period = found.closed[0], found.periods[0]
    modulus = np.sort(np.abs(np.linalg.eigvals(P[np.ix_(states, states)])))[::-1]
    second = float(modulus[period]) if modulus.size > period else 0.0
    return 1 / (1 - second) if second < 1 else math.inf


def definition(eps: float, starts: str = "closed") -> str:
    """What `mixing_time` computes, in words."""
    which = "of the closed class" if starts == "closed" else "of the whole chain, transient ones too"
    return f"the first t at which P^t(s,·) is within {eps:g} of μ in total variation (½‖·‖₁) from every start s {which}"


def check_eps(eps: float) -> None:
    """Refuse a distance outside (0, 1)."""
    if not 0 < eps < 1:
        raise BadInput(f"eps = {eps}: must be in (0, 1)")


class Powers:
    """Powers of a chain's transition probabilities, by squares that are computed when they are first needed."""

    def __init__(self, P: np.ndarray) -> None:
        self._squares = [P]

    def __getitem__(self, k: int) -> np.ndarray:
        """P^(2^k), with rows that sum to 1."""
        while len(self._squares) <= k:
            self._squares.append(_renormalized(self._squares[-1] @ self._squares[-1]))
        return self._squares[k]

    def laws_after(self, steps: int, laws: np.ndarray) -> np.ndarray:
        """`laws` P^steps: where the chain is after so many steps, for laws of the start [..., S]."""
        for k in range(steps.bit_length()):
            if steps >> k & 1:
                laws = _renormalized(laws @ self[k])
        return laws

    def values_ahead(self, steps: int, values: np.ndarray) -> np.ndarray:
        """P^steps `values`: the expectation of values [S, ...] after so many steps, for each start."""
        for k in range(steps.bit_length()):
            if steps >> k & 1:
                values = self[k] @ values
        return values


def _renormalized(power: np.ndarray) -> np.ndarray:
    return power / power.sum(axis=-1, keepdims=True)


def _first(P: np.ndarray, mu: np.ndarray, eps: float) -> int:
    """The first t with d(t) ≤ ε: double t until it is too long, then build the longest t that is too short."""
    bound = eps + ROUNDING
    if _distance(np.eye(len(P)), mu) <= bound:
        return 0
    powers, longest = Powers(P), 0
    while _distance(powers[longest], mu) > bound:
        longest += 1
        if longest > _LONGEST:
            raise BadInput(f"P: not within {eps:g} of its stationary law after 2^{_LONGEST} steps; float64 ends here")
    power, steps = np.eye(len(P)), 0
    for k in reversed(range(longest)):
        longer = powers.laws_after(2**k, power) if steps else powers[k]
        if _distance(longer, mu) > bound:
            power, steps = longer, steps + 2**k
    return steps + 1


def _distance(power: np.ndarray, mu: np.ndarray) -> float:
    return float(np.abs(power - mu).sum(axis=-1).max() / 2)


def _restricted(chain: Chain, starts: str, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, int]:
    """Transition probabilities among the states that count, their stationary law, and the period."""
    if starts not in STARTS:
        raise BadInput(f"starts = {starts!r}: must be one of {STARTS}{nearest(starts, STARTS)}")
    P, _ = checked(chain)
    found = unichain(P, names)
    mu = stationary(chain)
    if starts == "closed":
        states = found.closed[0]
        P, mu = P[np.ix_(states, states)], mu[states]
    return P, mu, found.periods[0]
