"""How long a run must be before its average reward tells the policy's gain, from wherever it started. Dense, exact.

    t_ret(ε) = min{h : |ρ(s,h') − ρ| ≤ ε for all s and all h' ≥ h},   ρ(s,h) = (1/h) E[Σ_{t<h} r_t | s₀ = s]

It follows from h·ρ(s,h) = hρ + b(s) − (P^h b)(s) with the bias b. The deviation is not monotone in h, so a first
crossing is not enough: the last violation is sought. A periodic chain has a return mixing time like any other.

Where to look: max|P^h b| never increases, and with B = max|b| every h' ≥ h below (B − max|P^h b|)/ε violates while
none above (B + max|P^h b|)/ε does. Powers of P leap to the beginning of that window; only the window is scanned.

References: Riemer et al. (2022), Continual Learning In Environments With Polynomial Mixing Times, arXiv 2112.07066;
Kearns & Singh (2002), Near-Optimal Reinforcement Learning in Polynomial Time, for ρ(s,h).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tutelage.continual.mixing_time import ROUNDING, STARTS, Powers
from tutelage.continual.stationary import gain_bias
from tutelage.continual.structure import checked, unichain
from tutelage.continual.tabular import Chain
from tutelage.lab.errors import BadInput, nearest

_BLOCK = 128  # Horizons scanned by one product of matrices.


class ReturnMixingTime(NamedTuple):
    """An ε-return mixing time with its definition.

    Attributes:
        steps: t_ret(ε) ≥ 1, in steps.
        eps: ε, in units of reward per step.
        gain: ρ.
        definition: what the number means.
    """

    steps: int
    eps: float
    gain: float
    definition: str

    def __str__(self) -> str:
        return f"t_ret({self.eps:g}) = {self.steps} steps at gain {self.gain:.6g}, {self.definition}"


def return_mixing_time(
    chain: Chain, eps: float, *, starts: str = "closed", names: Sequence[str] = ()
) -> ReturnMixingTime:
    """t_ret(ε) of a chain with one closed class, periodic or not.

    Args:
        eps: largest deviation of the average reward from the gain, > 0, in units of reward (not relative to ρ).
        starts: "closed", start states in the closed class; "all", transient ones too.
        names: a name for each state, for messages.

    Raises:
        BadInput: ε ≤ 0, rows that are no laws, several closed classes.
    """
    if not 0 < eps < math.inf:
        raise BadInput(f"eps = {eps}: must be in (0, inf), in units of reward per step")
    P, bias, gain = _restricted(chain, starts, names)
    steps = _last_violation(P, bias, eps) + 1
    which = "of the closed class" if starts == "closed" else "of the whole chain, transient ones too"
    meaning = (
        f"the first h from which on the expected average reward stays within {eps:g} of ρ from every start {which}"
    )
    return ReturnMixingTime(steps, eps, gain, meaning)


def return_deviation(
    chain: Chain, horizons: Sequence[int] | np.ndarray, *, starts: str = "closed"
) -> Float[np.ndarray, "H"]:
    """max_s |ρ(s,h) − ρ| at each horizon h ≥ 1, in units of reward: the curve of which t_ret is the last crossing."""
    hs = np.asarray(horizons)
    if hs.ndim != 1 or not np.issubdtype(hs.dtype, np.integer) or (hs.size and hs.min() < 1):
        raise BadInput(f"horizons: {horizons!r}; must be whole numbers ≥ 1")
    P, bias, _ = _restricted(chain, starts, ())
    powers = Powers(P)
    return np.array([np.abs(bias - powers.values_ahead(int(h), bias)).max() / h for h in hs])


def alternating_return_mixing_time(task_steps: int, eps: float) -> int:
    """t_ret(ε) of two tasks of reward rates 1 and 0 that follow each other, `task_steps` = τ steps each.

    ⌈(m+1)τ/(½+ε)⌉ with m the largest whole number such that 2m+1 < 1/(2ε): linear in τ. For ε ≥ ½ it is 1.
    """
    if task_steps < 1:
        raise BadInput(f"task_steps = {task_steps}: must be in [1, inf)")
    if not 0 < eps < math.inf:
        raise BadInput(f"eps = {eps}: must be in (0, inf), in units of reward per step")
    # Both roundings up forgive what the divisions add to a whole number.
    cycles = math.ceil((1 / (2 * eps) - 1) / 2 - ROUNDING)
    return max(1, math.ceil(cycles * task_steps / (0.5 + eps) - ROUNDING * cycles * task_steps))


def _restricted(chain: Chain, starts: str, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, float]:
    if starts not in STARTS:
        raise BadInput(f"starts = {starts!r}: must be one of {STARTS}{nearest(starts, STARTS)}")
    P, _ = checked(chain)
    gain, bias = gain_bias(chain, names=names)
    if starts == "closed":
        states = unichain(P).closed[0]
        P, bias = P[np.ix_(states, states)], bias[states]
    return P, bias, float(gain)


def _last_violation(P: np.ndarray, bias: np.ndarray, eps: float) -> int:
    """The largest h with max_s |b(s) − (P^h b)(s)| > ε h; 0 if there is none."""
    powers, largest, span = Powers(P), float(np.abs(bias).max()), float(np.ptp(bias))
    slack = ROUNDING * largest

    def sure(h: int) -> int:
        """Below this every horizon from h on violates."""
        return math.floor((largest - np.abs(powers.values_ahead(h, bias)).max()) / eps)

    h, begin = 1, 0
    while h <= span / eps and not begin:
        begin = later if (later := sure(h)) > h else 0
        h *= 2
    while begin and (later := sure(begin)) > begin + _BLOCK:
        begin = later

    last = max(begin - 1, 0)
    block = np.empty((len(P), _BLOCK))  # Columns P^h b of consecutive horizons.
    block[:, 0] = powers.values_ahead(begin, bias)
    for j in range(1, _BLOCK):
        block[:, j] = P @ block[:, j - 1]
    while True:
        deviation = np.abs(bias[:, None] - block).max(axis=0)
        violations = np.flatnonzero(deviation > eps * (begin + np.arange(_BLOCK)) + slack)
        if violations.size:
            last = begin + int(violations[-1])
        begin += _BLOCK
        if min(largest + np.abs(block[:, -1]).max(), span) <= eps * begin:
            return last
        block = powers[_BLOCK.bit_length() - 1] @ block
