"""The discounted criterion beside the average one: exact solutions, and the discount below which it is myopic.

    V(s) = max_a R(s,a) + γ Σ P(s,a,s') V(s'),   γ in [0, 1)

A discounted optimum need not earn the most per step: it does only from some γ on, and in a process whose rewards lie
far apart that γ is close to 1. Of two loops from one state, one of length 1 with reward a, one of length n with reward
b·n at its end, the long one is preferred if and only if (1 − γ) γ^{n−1} b n / (1 − γⁿ) > a; the threshold's n(1 − γ*)
tends to the root c of c/(e^c − 1) = a/b.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tutelage.continual.planning import solve_gain
from tutelage.continual.sparse import SparseMDP, one_step
from tutelage.continual.stationary import gain_bias
from tutelage.continual.tabular import TabularMDP, check_rows, induced
from tutelage.lab.errors import BadInput


class DiscountedSolution(NamedTuple):
    """A policy of the largest discounted return.

    Attributes:
        policy: an action for each state, int [S]; the lowest of those within rounding (1e-12 · max|V|) of the best.
        values: V, f64 [S], in units of reward.
    """

    policy: Int[np.ndarray, "S"]
    values: Float[np.ndarray, "S"]


def solve_discounted(mdp: TabularMDP, discount: float) -> DiscountedSolution:
    """Policy iteration: exact up to rounding.

    Raises:
        BadInput: a discount outside [0, 1); 1 is the average-reward criterion, `planning.solve_gain`.
    """
    check_discount(discount)
    P, R = np.asarray(mdp.P, np.float64), np.asarray(mdp.R, np.float64)
    check_rows("P", P)
    states = np.arange(len(R))
    policy = R.argmax(axis=1)
    while True:
        values = np.linalg.solve(np.eye(len(R)) - discount * P[states, policy], R[states, policy])
        options = R + discount * (P @ values)
        # Changing only for a clear gain, so that rounding cannot make it go round in circles.
        slack = 1e-13 * max(1.0, float(np.abs(values).max()))
        beaten = options.max(axis=1) > options[states, policy] + slack
        if not beaten.any():
            return DiscountedSolution(_lowest(options), values)
        policy = np.where(beaten, options.argmax(axis=1), policy)


def discounted_value_iteration(
    mdp: TabularMDP | SparseMDP, discount: float, *, tolerance: float = 1e-9
) -> DiscountedSolution:
    """Sweeps of O(S²A), or O(SAk) for successor lists, until the values are within `tolerance` of V in every state.

    Raises:
        BadInput: as `solve_discounted`; a tolerance that is not positive.
    """
    check_discount(discount)
    if not tolerance > 0:
        raise BadInput(f"tolerance = {tolerance}: must be in (0, inf)")
    table, R = one_step(mdp), np.asarray(mdp.R, np.float64)
    values = np.zeros(len(R))
    while True:
        options = R + discount * (table @ values).reshape(R.shape)
        change = options.max(axis=1) - values
        # V lies between values + min and max of change · γ/(1−γ) beyond the sweep's result (MacQueen's bounds).
        low, high = (float(bound) * discount / (1 - discount) for bound in (change.min(), change.max()))
        values = values + change
        if high - low <= 2 * tolerance:
            return DiscountedSolution(_lowest(options), values + (low + high) / 2)


def myopia_threshold(mdp: TabularMDP, *, tolerance: float = 1e-9, longest: float = 1e6, points: int = 200) -> float:
    """γ*: from this discount on, the discounted optimum earns the largest gain from p0. 0 if every discount does.

    Horizons 1/(1 − γ) between 1 and `longest` steps are tried at `points` places, evenly in their logarithm, and the
    last change from a smaller gain to the largest is bisected; so of thresholds which lie closer together than two
    places one may be missed.

    Args:
        tolerance: error of γ*, > 0.

    Raises:
        BadInput: if even the discount of the longest horizon is myopic.
    """
    best = solve_gain(mdp, multichain="per_class").rho

    def myopic(discount: float) -> bool:
        policy = solve_discounted(mdp, discount).policy
        gain = np.asarray(mdp.p0) @ gain_bias(induced(mdp, policy), multichain="per_class").gain
        return bool(gain < best - 1e-9 * max(1.0, abs(best)))

    discounts = 1 - np.geomspace(1, 1 / longest, points)
    if myopic(float(discounts[-1])):
        raise BadInput(f"longest = {longest:g}: the optimum of this horizon is still myopic; must be longer")
    last = next((k for k in reversed(range(points)) if myopic(float(discounts[k]))), None)
    if last is None:
        return 0.0
    low, high = float(discounts[last]), float(discounts[last + 1])
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (middle, high) if myopic(middle) else (low, middle)
    return (low + high) / 2


def two_loop_threshold(length: int, short: float = 0.1, long: float = 0.2) -> float:
    """γ* of the two loops, in closed form: the root of (1 − γ) γ^{n−1} b n = a (1 − γⁿ).

    Args:
        length: n ≥ 2, steps of the long loop.
        short, long: gains a < b of the loops, > 0.
    """
    if length < 2:
        raise BadInput(f"length = {length}: must be in [2, inf)")
    if not 0 < short < long:
        raise BadInput(f"short = {short}, long = {long}: must be 0 < short < long")
    low, high = 0.0, 1.0
    for _ in range(53):
        middle = (low + high) / 2
        # (1 − γⁿ)/(1 − γ) as a sum: the quotient loses its digits where γ is near 1.
        preferred = middle ** (length - 1) * long * length > short * math.fsum(middle**k for k in range(length))
        low, high = (low, middle) if preferred else (middle, high)
    return (low + high) / 2


def check_discount(discount: float) -> None:
    """Refuse a discount outside [0, 1)."""
    if discount == 1:
        raise BadInput("discount = 1: must be in [0, 1); for the average reward use `planning.solve_gain`")
    if not 0 <= discount < 1:
        raise BadInput(f"discount = {discount}: must be in [0, 1)")


def _lowest(options: np.ndarray) -> np.ndarray:
    """In each row the lowest action within rounding of the largest value."""
    slack = 1e-12 * max(1.0, float(np.abs(options).max()))
    return (options >= options.max(axis=1, keepdims=True) - slack).argmax(axis=1)
