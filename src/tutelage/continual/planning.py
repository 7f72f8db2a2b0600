"""The policy of the largest average reward, exactly: Howard's policy iteration and relative value iteration.

    ρ(s) = max_a Σ P(s,a,s') ρ(s'),      ρ(s) + h(s) = max_a R(s,a) + Σ P(s,a,s') h(s')      (a among the former's best)

Every policy is evaluated as a chain with any number of closed classes, so no policy met on the way can break the
iteration, and a process whose best gain depends on the start is noticed instead of averaged.

Optimal policies are not unique and their mixing times differ, so one is made canonical: in each state the lowest action
within 1e-9 of the largest R + Σ P h.

References: Puterman (1994), Markov Decision Processes, sections 8.5 and 9.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from tutelage.continual.sparse import SparseMDP, one_step
from tutelage.continual.stationary import gain_bias
from tutelage.continual.structure import Structure, above_rounding, refuse_below_rounding, structure
from tutelage.continual.tabular import Chain, TabularMDP, check_rows
from tutelage.lab.errors import BadInput

TIE = 1e-9
"""Actions whose values differ by no more than this are equally good."""


class GainSolution(NamedTuple):
    """A policy of the largest average reward.

    Attributes:
        policy: an action for each state, int [S]; ties go to the lowest.
        rho: its gain ρ* from the law of the first state, reward per step.
        bias: h of this policy, f64 [S]; mean 0 under its stationary law.
        gain: ρ* of each start, f64 [S]; all equal unless the process is multichain.
    """

    policy: Int[np.ndarray, "S"]
    rho: float
    bias: Float[np.ndarray, "S"]
    gain: Float[np.ndarray, "S"]


class RelativeValues(NamedTuple):
    """An approximate solution with its error.

    Attributes:
        policy: greedy for the values, int [S]; its gain is within `error` of ρ*.
        rho: an estimate of ρ*, no farther from it than `error` / 2.
        values: h up to a constant, f64 [S]; 0 at the first state.
        error: width of the interval that holds ρ*.
        sweeps: how many were needed.
    """

    policy: Int[np.ndarray, "S"]
    rho: float
    values: Float[np.ndarray, "S"]
    error: float
    sweeps: int


def solve_gain(mdp: TabularMDP, *, multichain: str = "refuse", max_iterations: int = 1000) -> GainSolution:
    """ρ*, its canonical policy and bias, by policy iteration: a few solves of S × S systems.

    Args:
        multichain: what to do if the best gain is not the same from all states that p0 can lead to: "refuse", or
            "per_class" (then `rho` is the mean over p0).

    Raises:
        BadInput: a table that is none; a best gain that depends on the start, with "refuse".
    """
    P, R = _checked(mdp)
    policy = R.argmax(axis=1)
    for _ in range(max_iterations):
        gain, bias = _evaluate(P, R, policy)
        better = _improved(P, R, policy, gain, bias)
        if np.array_equal(better, policy):
            break
        policy = better
    else:
        raise BadInput(f"max_iterations = {max_iterations}: policy iteration did not end; give more")
    policy = _canonical(P, R, gain, bias)
    gain, bias = _evaluate(P, R, policy)
    if multichain == "refuse":
        _refuse_several_gains(mdp, P, policy, gain)
    return GainSolution(policy, float(np.asarray(mdp.p0) @ gain), bias, gain)


def relative_value_iteration(
    mdp: TabularMDP | SparseMDP, *, tolerance: float = 1e-9, laziness: float = 0.1, max_sweeps: int = 1_000_000
) -> RelativeValues:
    """ρ* and a policy by sweeps of O(S²A), or O(SAk) for successor lists: for processes too large to invert.

    Args:
        tolerance: width of the interval around ρ* at which the sweeps end, > 0, in units of reward.
        laziness: share of a sweep that stays where it is, in (0, 1): periodic processes converge only with some.

    Raises:
        BadInput: settings outside their ranges; closed classes of different best gains, which are listed as soon as
            the sweeps tell them apart; no convergence in `max_sweeps` (a slow process, or one that can stay for ever,
            and earn more, in states which are of no closed class).
    """
    if not tolerance > 0:
        raise BadInput(f"tolerance = {tolerance}: must be in (0, inf)")
    if not 0 < laziness < 1:
        raise BadInput(f"laziness = {laziness}: must be in (0, 1)")
    ahead, R = _backup(mdp), np.asarray(mdp.R, np.float64)
    actions = _all_actions(mdp)
    classes = structure(above_rounding(actions), mdp.states)
    values, low, high = np.zeros(len(R)), -np.inf, np.inf
    for sweep in range(1, max_sweeps + 1):
        options = R + ahead(values)
        change = options.max(axis=1) - values
        low, high = float(change.min()), float(change.max())
        if high - low <= tolerance:
            policy = _lowest(options)
            return RelativeValues(policy, (low + high) / 2, values - values[0], high - low, sweep)
        if len(classes.closed) > 1:
            _refuse_apart(classes, change, actions)
        values = values + (1 - laziness) * (change - change[0])
    raise BadInput(f"max_sweeps = {max_sweeps}: ρ* is only known to lie in [{low:.6g}, {high:.6g}]; give more")


def _checked(mdp: TabularMDP) -> tuple[np.ndarray, np.ndarray]:
    P, R = np.asarray(mdp.P, np.float64), np.asarray(mdp.R, np.float64)
    check_rows("P", P)
    return P, R


def _backup(mdp: TabularMDP | SparseMDP) -> Callable[[np.ndarray], np.ndarray]:
    """Expectation of values [S] after one step, f64 [S, A]."""
    table = one_step(mdp)
    return lambda values: (table @ values).reshape(np.shape(mdp.R))


def _all_actions(mdp: TabularMDP | SparseMDP) -> Any:
    """Probabilities summed over actions, [S, S]: the closed classes of the process are those of this graph."""
    if isinstance(mdp, TabularMDP):
        return np.asarray(mdp.P, np.float64).sum(axis=1)
    num_states, num_actions = np.shape(mdp.R)
    row = np.arange(num_states * num_actions) // num_actions
    return csr_array((np.ones(row.size), (row, np.arange(row.size))), shape=(num_states, row.size)) @ one_step(mdp)


def _refuse_apart(classes: Structure, change: np.ndarray, actions: Any) -> None:
    """Classes whose best gains differ: each is a process, whose gain lies within the changes of its values."""
    lowest = np.array([change[states].min() for states in classes.closed])
    highest = np.array([change[states].max() for states in classes.closed])
    scale = TIE * max(1.0, float(np.abs(change).max()))
    if lowest.max() > highest.min() + scale:
        refuse_below_rounding(actions, structure(actions))
        raise BadInput(
            f"mdp: the best gain depends on the start (at most {highest.min():.6g} in one closed class, at least "
            f"{lowest.max():.6g} in another): the process has {classes}; must be one gain: use `solve_gain` with "
            'multichain="per_class"'
        )


def _lowest(options: np.ndarray) -> np.ndarray:
    """In each row the lowest action within a tie of the largest value."""
    return (options >= options.max(axis=1, keepdims=True) - TIE).argmax(axis=1)


def _evaluate(P: np.ndarray, R: np.ndarray, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    states = np.arange(len(R))
    return gain_bias(Chain(P[states, policy], R[states, policy]), multichain="per_class")


def _improved(P: np.ndarray, R: np.ndarray, policy: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Howard's step: first for the gain, and only where no state gains for the bias. An action stays unless beaten."""
    states = np.arange(len(R))
    ahead = P @ gain
    scale = TIE * max(1.0, float(np.abs(gain).max()))
    beaten = ahead.max(axis=1) > ahead[states, policy] + scale
    if beaten.any():
        return np.where(beaten, ahead.argmax(axis=1), policy)
    options = np.where(ahead >= ahead.max(axis=1, keepdims=True) - scale, R + P @ bias, -np.inf)
    scale = TIE * max(1.0, float(np.abs(bias).max())) * 1e-2
    beaten = options.max(axis=1) > options[states, policy] + scale
    return np.where(beaten, options.argmax(axis=1), policy)


def _canonical(P: np.ndarray, R: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    ahead = P @ gain
    keeps = ahead >= ahead.max(axis=1, keepdims=True) - TIE * max(1.0, float(np.abs(gain).max()))
    return _lowest(np.where(keeps, R + P @ bias, -np.inf))


def _refuse_several_gains(mdp: TabularMDP, P: np.ndarray, policy: np.ndarray, gain: np.ndarray) -> None:
    """Compare the gains of the states that some policy can reach from p0."""
    reached = np.asarray(mdp.p0) > 0
    step = P.max(axis=1) > 0
    while (more := reached | step[reached].any(axis=0)).sum() > reached.sum():
        reached = more
    gains = gain[reached]
    if np.ptp(gains) > 1e-7 * max(1.0, float(np.abs(gains).max())):
        found = structure(P[np.arange(len(P)), policy], mdp.states)
        raise BadInput(
            f"mdp: the best gain depends on the start ({gains.min():.6g} to {gains.max():.6g}): the optimal policy has "
            f'{found}; must be one gain, or ask for multichain="per_class"'
        )
