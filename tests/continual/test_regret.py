"""Regret: sums by hand, and the official code's count step by step."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.continual.regret import gain_regret, legacy_regret, mean_regret, reward_rate
from tutelage.lab.errors import BadInput


def test_gain_regret_is_steps_times_gain_less_what_was_earned():
    rewards = np.array([[0, 1, 0, 1], [0, 0, 0, 0]])
    assert gain_regret(rewards, 0.5) == pytest.approx(np.array([[0.5, 0, 0.5, 0], [0.5, 1, 1.5, 2]]))
    assert mean_regret(rewards, 0.5) == pytest.approx([0.25, 1.25])


def test_reward_rates_are_means_of_the_last_whole_windows():
    assert reward_rate([9, 0, 1, 1, 1], 2) == pytest.approx([0.5, 1])
    with pytest.raises(BadInput, match=r"window = 6: must be in \[1, 5\]"):
        reward_rate([0] * 5, 6)


def test_the_legacy_regret_pays_its_reference_for_every_step_of_the_agent():
    # From (0,0) to (2,0), then from there to (2,3), then back: distances 2, 3, 3.
    rewards = [0, 0, 0, 1, 0, 1]
    reference = np.cumsum([1 / 2, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])
    found = legacy_regret(rewards, (0, 0), [(2, 0), (2, 3)])
    assert found == pytest.approx(reference - np.cumsum(rewards))
    assert legacy_regret(rewards, (0, 0), [(2, 0), (2, 3)], [0, 0, 0, 1, 1, 0]) == pytest.approx(found)
    # Where goal and origin coincide it is paid 1, and wasting time elsewhere changes it: pitfalls of this count.
    assert legacy_regret([1, 0], (0, 0), [(1, 1), (1, 1)]) == pytest.approx([1 / 1 - 1, 1])


def test_rewards_that_are_no_numbers_are_refused():
    with pytest.raises(BadInput, match="rewards"):
        gain_regret([np.nan], 0.1)
    with pytest.raises(BadInput, match="rooms"):
        legacy_regret([1, 0], (0, 0), [(1, 1)], [0, 1])
