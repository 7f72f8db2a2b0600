"""Small worlds with closed forms: chains without a choice, and the two in which a choice needs patience."""

from __future__ import annotations

import numpy as np

from tutelage.continual.tabular import World
from tutelage.continual.worlds.outcomes import Outcomes, chain_outcomes, world_of
from tutelage.lab.errors import BadInput


def two_state(p: float = 0.1, q: float = 0.2) -> World:
    """Two states, left with probabilities p and q; reward 1 in the second. Gain p/(p+q).

    TV distance to the stationary law after t steps: max(p, q)/(p+q)·|1−p−q|^t.
    """
    _probability("p", p)
    _probability("q", q)
    rows = [[(0, 1 - p), (1, p)], [(0, q), (1, 1 - q)]]
    return world_of(chain_outcomes(rows, [0, 1], np.full(2, 0.5)), ("first", "second"))


def lazy_cycle(states: int) -> World:
    """A walk on a cycle: stays with probability ½, else one step either way; reward 1 at node 0."""
    _at_least("states", states, 3)
    rows = [[(i, 0.5), ((i + 1) % states, 0.25), ((i - 1) % states, 0.25)] for i in range(states)]
    return world_of(chain_outcomes(rows, np.eye(states)[0], np.full(states, 1 / states)))


def noisy_cycle(states: int, advance: float = 0.96) -> World:
    """A directed cycle: the next node with probability `advance`, else it stays; reward 1 at node 0."""
    _at_least("states", states, 2)
    _probability("advance", advance)
    rows = [[(i, 1 - advance), ((i + 1) % states, advance)] for i in range(states)]
    return world_of(chain_outcomes(rows, np.eye(states)[0], np.full(states, 1 / states)))


def hypercube(dimension: int) -> World:
    """The lazy walk on {0,1}^n: stays with probability ½, else flips one uniform coordinate; the reward is the share
    of ones. The gain is ½, the eigenvalues 1 − k/n."""
    if not 1 <= dimension <= 14:
        raise BadInput(f"dimension = {dimension}: must be in [1, 14]")
    S = 2**dimension
    rows = [[(s, 0.5), *((s ^ (1 << i), 0.5 / dimension) for i in range(dimension))] for s in range(S)]
    ones = np.array([s.bit_count() for s in range(S)]) / dimension
    names = tuple(f"{s:0{dimension}b}" for s in range(S))
    return world_of(chain_outcomes(rows, ones, np.full(S, 1 / S)), names)


def two_cliques(states: int) -> World:
    """The lazy walk on two complete graphs of n nodes joined by one edge; reward 1 in the second. Gain ½.

    The stationary law is proportional to a node's degree, and the edge between the cliques is the bottleneck.
    """
    _at_least("states", states, 2)
    neighbours = [[j for j in range(2 * states) if j != i and j // states == i // states] for i in range(2 * states)]
    neighbours[states - 1].append(states)
    neighbours[states].append(states - 1)
    rows = [[(i, 0.5), *((j, 0.5 / len(near)) for j in near)] for i, near in enumerate(neighbours)]
    return world_of(chain_outcomes(rows, np.arange(2 * states) // states, np.full(2 * states, 0.5 / states)))


def alternating(tau: int) -> World:
    """Two tasks of reward 1 and 0, `tau` steps each, in turn: a deterministic cycle of 2·tau states that never mixes.

    Its ε-return mixing time is ⌈(m+1)·tau/(½+ε)⌉ with m the largest integer such that 2m+1 < 1/(2ε).
    """
    _at_least("tau", tau, 1)
    S = 2 * tau
    rows = [[((i + 1) % S, 1.0)] for i in range(S)]
    return world_of(chain_outcomes(rows, np.arange(S) < tau, np.full(S, 1 / S)))


def two_loops(states: int, short: float = 0.1, long: float = 0.2) -> World:
    """Two loops from one state: action 0 stays there for a reward of `short` a step; action 1 enters a loop of n
    steps, which pays n·`long` at its end.

    The long loop has the larger gain, and a discounted learner prefers it only if
    (1−γ)·γ^(n−1)·n·long/(1−γ^n) > short: with the default rewards the threshold is 0.739429 at n = 5.
    """
    _at_least("states", states, 2)
    successors = np.zeros((states, 2, 1), np.int32)
    successors[:, :, 0] = ((np.arange(states) + 1) % states)[:, None]
    successors[0, 0] = 0
    rewards = np.zeros((states, 2, 1))
    rewards[-1], rewards[0, 0] = states * long, short
    return world_of(Outcomes(successors, np.ones((states, 2, 1)), rewards, np.eye(states)[0]))


def river_swim(states: int = 6) -> World:
    """RiverSwim (Strehl & Littman 2008, with the numbers of Osband, Russo & Van Roy 2013, arXiv 1306.0940).

    Action 0 drifts left for certain and pays 0.005 at the left bank. Action 1 swims right against the current (0.35,
    else 0.6 stays, 0.05 falls back; at the left bank 0.6 right, 0.4 stays; at the right 0.6 stays, 0.4 back) and pays 1
    at the right bank.
    """
    _at_least("states", states, 3)
    s = np.arange(states)
    left, right = np.maximum(s - 1, 0), np.minimum(s + 1, states - 1)
    swim = np.stack([left, s, right], axis=1)
    law = np.tile([0.05, 0.6, 0.35], (states, 1))
    law[0], law[-1] = (0, 0.4, 0.6), (0.4, 0.6, 0)
    drift = np.repeat(left[:, None], 3, axis=1)
    rewards = np.zeros((states, 2, 3))
    rewards[0, 0], rewards[-1, 1] = 0.005, 1.0
    certain = np.tile([1.0, 0.0, 0.0], (states, 1))
    successors = np.stack([drift, swim], axis=1).astype(np.int32)
    return world_of(Outcomes(successors, np.stack([certain, law], axis=1), rewards, np.eye(states)[0]))


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise BadInput(f"{name} = {value}: must be at least {least}")


def _probability(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise BadInput(f"{name} = {value}: must be in (0, 1]")
