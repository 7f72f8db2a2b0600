"""What an agent lost by learning: against the exact optimal gain, and as the official code of arXiv 2112.07066 counts.

Only gain regrets can be compared. The legacy count pays its reference 1/(Manhattan distance) for every step that the
agent spends on its way, so that it depends on where the agent wastes its time, and it ignores slips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tutelage.lab.errors import BadInput


def gain_regret(rewards: Any, rho_star: float) -> Float[np.ndarray, "*batch T"]:
    """t·ρ* − Σ r after each step t = 1 … T, f64 [..., T].

    Args:
        rewards: of each step, [..., T].
        rho_star: the optimal gain, from `planning.solve_gain`.
    """
    given = _rewards(rewards)
    return np.arange(1, given.shape[-1] + 1) * rho_star - np.cumsum(given, axis=-1)


def mean_regret(rewards: Any, rho_star: float) -> Float[np.ndarray, "*batch"]:
    """The area under the curve of `gain_regret` divided by T, f64 [...]."""
    return gain_regret(rewards, rho_star).mean(axis=-1)


def reward_rate(rewards: Any, window: int) -> Float[np.ndarray, "*batch W"]:
    """Mean reward per step in consecutive windows, f64 [..., T // window]; those left over are the first.

    Raises:
        BadInput: if the window is not in [1, T].
    """
    given = _rewards(rewards)
    steps = given.shape[-1]
    if not 1 <= window <= steps:
        raise BadInput(f"window = {window}: must be in [1, {steps}], the number of steps")
    whole = given[..., steps % window :]
    return whole.reshape(*given.shape[:-1], steps // window, window).mean(axis=-1)


def legacy_regret(
    rewards: Any, start: tuple[int, int], goals: Sequence[tuple[int, int]], rooms: Any = None
) -> Float[np.ndarray, "T"]:
    """The official code's regret in an NBottleneck, after each step, f64 [T].

    Its reference earns, in every step of the agent, one over the Manhattan distance from where the current goal began
    to be sought (the last goal; at first the start) to this goal, or 1 where they coincide.

    Args:
        rewards: of one life, [T]; 1 where a goal was reached.
        start: (x, y) of the first state.
        goals: (x, y) of each room's goal.
        rooms: the room (from 0) whose goal is sought after each step, int [T]; the rooms in a cycle when not given.
    """
    given = _rewards(rewards)
    if given.ndim != 1:
        raise BadInput(f"rewards: shape {given.shape}; must be [T], one life")
    if rooms is None:
        sought = np.cumsum(given > 0) % len(goals)
    else:
        sought = np.asarray(rooms)
        if sought.shape != given.shape or sought.min() < 0 or sought.max() >= len(goals):
            raise BadInput(f"rooms: shape {sought.shape}; must be {given.shape}, numbers in [0, {len(goals)})")
    origin, reference = np.asarray(start), np.empty(len(given))
    before = np.concatenate([[0], sought[:-1]])
    for t, reward in enumerate(given):
        if reward > 0:
            origin = np.asarray(goals[before[t]])
        reference[t] = 1 / max(1, np.abs(origin - goals[sought[t]]).sum())
    return np.cumsum(reference) - np.cumsum(given)


def _rewards(rewards: Any) -> np.ndarray:
    given = np.asarray(rewards, np.float64)
    if given.ndim == 0 or given.size == 0 or not np.isfinite(given).all():
        raise BadInput(f"rewards: shape {given.shape}; must be [..., T], finite, not empty")
    return given
