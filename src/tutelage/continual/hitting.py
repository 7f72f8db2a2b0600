"""How far apart states are: hitting times, residence times of regions, and the diameter of a decision process.

    D = max_{s≠s'} min_π E[steps from s to s']

over pairs of one closed class of the process (of the graph of all its actions): within it every state can be made to
reach every other, and beyond it some pair would be infinitely far. One shortest-path problem per target; the targets
are solved side by side.

Bounds prune most of them. If V ≤ T V ≤ V + δ for the problem's Bellman operator T and δ < 1, then V ≤ V* ≤ V/(1 − δ),
for T(V/(1 − δ)) ≤ V/(1 − δ); and the policy greedy for V reaches its target. So a few sweeps from the distances in the
graph leave the targets that can still be the farthest, and policy iteration solves these exactly.

References: Jaksch, Ortner & Auer (2010), Near-optimal Regret Bounds for Reinforcement Learning, JMLR 11, definition 1;
Bertsekas & Tsitsiklis (1991), An Analysis of Stochastic Shortest Path Problems.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra, shortest_path

from tutelage.continual.stationary import stationary
from tutelage.continual.structure import as_region, checked, structure
from tutelage.continual.tabular import Chain, TabularMDP, check_rows

_LOOSE = 0.05  # δ at which the sweeps stop.
_MEMORY = 2**27  # Bytes of the systems that are solved at once.
_SPARSE = 0.1  # Share of transitions with probability above 0, below which sparse products are faster.


def hitting_times(chain: Chain, region: Any) -> Float[np.ndarray, "S"]:
    """Expected steps until the region is entered, f64 [S]; 0 in it, inf where it may never be.

    Args:
        region: a state, several, or a mask bool [S].

    Raises:
        BadInput: rows that are no laws, a region without states.
    """
    P, _ = checked(chain)
    inside = as_region(region, len(P))
    stopped = P.copy()
    stopped[inside] = np.eye(len(P))[inside]
    found = structure(stopped)
    lost = np.zeros(len(P), bool)
    for states in found.closed:
        lost[states] = not inside[states[0]]
    times = np.where(_can_reach(stopped, lost), math.inf, 0.0)
    some = np.flatnonzero(~inside & np.isfinite(times))
    if some.size:
        times[some] = np.linalg.solve(np.eye(some.size) - P[np.ix_(some, some)], np.ones(some.size))
    return times


def residence_time(chain: Chain, region: Any) -> float:
    """Expected steps inside a region per visit, μ(R) / Σ_{s∈R, s'∉R} μ(s) P(s,s'), ≥ 1.

    inf when the chain stays in it for ever, NaN when it is left for ever.

    Raises:
        BadInput: rows that are no laws, several closed classes, a region without states.
    """
    (P, _), mu = checked(chain), stationary(chain)
    inside = as_region(region, len(P))
    here, leaving = float(mu[inside].sum()), float(mu[inside] @ P[np.ix_(inside, ~inside)].sum(axis=1))
    if leaving > 0:
        return here / leaving
    return math.inf if here > 0 else math.nan


def diameter(mdp: TabularMDP) -> float:
    """D in steps; 0 for a process whose closed classes have one state each.

    Raises:
        BadInput: rows that are no laws.
    """
    P = np.asarray(mdp.P, np.float64)
    check_rows("P", P)
    classes = structure(P.max(axis=1)).closed
    return max(_diameter(P[states][:, :, states]) for states in classes)


def _diameter(P: np.ndarray) -> float:
    """Of a process in which every state can reach every other."""
    num_states, num_actions, _ = P.shape
    if num_states == 1:
        return 0.0
    flat = P.reshape(-1, num_states)
    table = csr_array(flat) if np.count_nonzero(flat) < _SPARSE * flat.size else flat
    targets = np.arange(num_states)

    def backup(cost: np.ndarray) -> np.ndarray:
        """1 + Σ P cost for each state and action: [S, T] -> [S, A, T]."""
        return 1 + (table @ cost).reshape(num_states, num_actions, -1)

    cost = shortest_path(csr_array(P.max(axis=1)), unweighted=True)
    while True:
        better = backup(cost).min(axis=1)
        better[targets, targets] = 0
        gap = float((better - cost).max())
        if gap <= _LOOSE:
            break
        cost = better
    farthest = cost.max(axis=0)
    left = np.flatnonzero(farthest >= (1 - gap) * farthest.max())

    chunk = max(1, _MEMORY // (8 * num_states**2))
    best = 0.0
    for first in range(0, left.size, chunk):
        some = left[first : first + chunk]
        best = max(best, float(_shortest(P, backup, cost[:, some], some).max()))
    return best


def _shortest(P: np.ndarray, backup: Any, cost: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Least expected steps to each target, f64 [S, T], by policy iteration from costs whose greedy policy arrives."""
    num_states, num_targets = cost.shape
    column = np.arange(num_targets)
    states = np.arange(num_states)[:, None]
    policy = backup(cost).argmin(axis=1)
    while True:
        system = np.eye(num_states) - P[states.T, policy.T]  # [T, S, S]
        system[column, targets] = 0
        system[column, targets, targets] = 1
        ones = np.ones((num_targets, num_states, 1))
        ones[column, targets] = 0
        cost = np.linalg.solve(system, ones)[..., 0].T
        options = backup(cost)
        current = np.take_along_axis(options, policy[:, None], axis=1)[:, 0]
        # Changing only for a clear gain, so that rounding cannot make it go round in circles.
        changed = options.min(axis=1) < current - 1e-10 * (1 + current)
        changed[targets, column] = False
        if not changed.any():
            return cost
        policy = np.where(changed, options.argmin(axis=1), policy)


def _can_reach(P: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The states from which some path leads into the region, itself included."""
    if not region.any():
        return region
    return np.isfinite(dijkstra(csr_array(P.T), unweighted=True, indices=np.flatnonzero(region), min_only=True))
