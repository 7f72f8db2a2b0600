import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tutelage.lab.errors import BadInput
from tutelage.measures.mixing import mixing_report, return_mixing_estimate, scaling_exponent


def alternating(task_steps, length, phases):
    """Rewards 1 and 0 in turns, from each phase."""
    t = np.arange(length)[None] + np.asarray(phases)[:, None]
    return 1.0 - t // task_steps % 2


def literal(rewards, eps, quantile=1.0):
    """The definition, horizon by horizon."""
    N, T = rewards.shape
    rho = rewards[:, T // 2 :].mean()
    settled = []
    for n in range(N):
        h = T + 1
        while h > 1 and abs(rewards[n, : h - 1].mean() - rho) <= eps * abs(rho) + 1e-11:
            h -= 1
        settled.append(h)
    return sorted(settled)[math.ceil(quantile * N) - 1]


def test_estimates_are_the_definition_horizon_by_horizon():
    rng = np.random.default_rng(0)
    reached = 0
    for _ in range(30):
        N, T = int(rng.integers(1, 9)), int(rng.integers(2, 120))
        rewards = rng.normal(1, rng.random(), size=(N, T)) - 2 * (rng.random() < 0.3)
        for quantile in (1.0, 0.5):
            expected = literal(rewards, 0.2, quantile)
            found = return_mixing_estimate(rewards, 0.2, quantile=quantile, num_resamples=5)
            assert found.steps == (expected if expected <= T / 2 else math.inf)
            assert found.reached == (expected <= T / 2)
            reached += found.reached
    assert 10 < reached < 55


def test_the_deterministic_alternation_has_its_closed_form():
    # All phases of τ = 10; ε of ρ̂ = ½ is 0.05: t_ret is ⌈5·10/0.55⌉ = 91.
    rewards = alternating(10, 400, range(20))
    found = return_mixing_estimate(rewards, 0.1)
    assert found.gain == 0.5 and found.tolerance == pytest.approx(0.05)
    assert found.steps == 91
    assert return_mixing_estimate(rewards, 0.05, absolute=True).steps == 91


def test_the_interval_is_over_rollouts_and_the_same_again():
    rng = np.random.default_rng(1)
    rewards = np.cumsum(rng.normal(size=(40, 400)), axis=1) * 0.002 + 1 + rng.normal(size=(40, 400)) * 0.1
    one, again = (return_mixing_estimate(rewards, 0.1, quantile=0.8) for _ in range(2))
    assert one == again
    assert 1 <= one.low <= one.steps <= one.high
    alone = return_mixing_estimate(alternating(3, 200, [0]), 0.2)
    assert math.isnan(alone.low) and math.isnan(alone.high)


def test_too_short_rollouts_are_not_reached():
    found = return_mixing_estimate(alternating(50, 120, range(100)), 0.1)
    assert found.steps == math.inf and not found.reached
    assert "not reached within 60 steps" in str(found)


def test_a_report_tells_a_short_window_from_a_long_one():
    rewards = alternating(10, 400, range(20))
    short = mixing_report(rewards, 29)
    assert not short.enough
    assert_allclose([short.mixing_times, short.windows_needed], [29 / 91, 91 / 29])
    assert str(short).startswith(
        "your evaluation window of 29 steps is 0.32 return-mixing times; 3.1 such windows would be needed. t_ret(0.1)"
    )
    long = mixing_report(rewards)
    assert long.enough and long.window == 400 and "which is enough" in str(long)
    unknown = mixing_report(alternating(50, 120, range(100)), 30)
    assert not unknown.enough
    assert "cannot be judged" in str(unknown) and "less than 0.5 return-mixing times" in str(unknown)


def test_the_definition_is_printed_with_the_number():
    text = str(return_mixing_estimate(alternating(10, 400, range(20)), 0.1))
    assert (
        "the running average reward of all rollouts stays within 0.1·|ρ̂| of ρ̂ = 0.5 (20 rollouts of 400 steps)" in text
    )
    assert text.startswith("t_ret(0.1) = 91 steps [")


def test_a_power_law_is_found_with_its_interval():
    scale = np.array([5, 6, 8, 10, 12])
    exact = scaling_exponent(scale, 3 * scale**2.2)
    assert_allclose([exact.exponent, exact.low, exact.high, exact.factor, exact.r_squared], [2.2, 2.2, 2.2, 3, 1])
    import scipy.stats

    rng = np.random.default_rng(2)
    time = scale**1.5 * np.exp(rng.normal(size=5) * 0.1)
    found, peer = scaling_exponent(scale, time), scipy.stats.linregress(np.log(scale), np.log(time))
    half = scipy.stats.t.ppf(0.975, 3) * peer.stderr
    assert_allclose(
        [found.exponent, found.low, found.high, found.factor, found.r_squared],
        [peer.slope, peer.slope - half, peer.slope + half, np.exp(peer.intercept), peer.rvalue**2],
    )
    assert math.isnan(scaling_exponent([1, 2], [1, 4]).low) and scaling_exponent([1, 2], [1, 4]).exponent == 2


def test_the_interval_of_an_exponent_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    scale = np.array([4, 6, 8, 12, 16, 24])
    inside = 0
    for _ in range(400):
        found = scaling_exponent(scale, scale**1.9 * np.exp(0.2 * rng.normal(size=6)), confidence=0.9)
        inside += found.low <= 1.9 <= found.high
    assert 0.86 < inside / 400 < 0.94


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: return_mixing_estimate(np.ones(5)), r"rewards: shape \(5,\); must be \[rollouts, steps\]"),
        (lambda: return_mixing_estimate([[1.0, math.nan], [1, 1]]), r"rewards: rollouts \[0\] have entries"),
        (lambda: return_mixing_estimate(np.ones((2, 9)), 1.0), r"eps = 1.0: must be in \(0, 1\)"),
        (lambda: return_mixing_estimate(np.ones((2, 9)), 0, absolute=True), r"eps = 0: must be in \(0, inf\)"),
        (lambda: return_mixing_estimate(np.zeros((2, 9))), "give absolute=True"),
        (lambda: return_mixing_estimate(np.ones((2, 9)), quantile=0), r"quantile = 0: must be in \(0, 1\]"),
        (lambda: mixing_report(np.ones((2, 9)), 0), r"window = 0: must be in \[1, inf\)"),
        (lambda: scaling_exponent([1, 2, 3], [1, 2]), "scale, time: shapes"),
        (lambda: scaling_exponent([1, 2], [1, math.inf]), r"time: inf; must be in \(0, inf\)"),
        (lambda: scaling_exponent([2, 2], [1, 3]), "scale: 1 different values"),
        (lambda: scaling_exponent([1, 2], [1, 3], confidence=1), r"confidence = 1: must be in \(0, 1\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BadInput, match=message):
        call()
