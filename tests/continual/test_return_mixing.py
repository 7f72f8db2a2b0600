import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_chains import alternating, lazy_cycle, noisy_cycle, random_unichain, two_rooms, two_state

from tutelage.continual.return_mixing import (
    alternating_return_mixing_time,
    return_deviation,
    return_mixing_time,
)
from tutelage.continual.stationary import gain_bias
from tutelage.continual.structure import structure
from tutelage.continual.tabular import Chain
from tutelage.lab.errors import BadInput


def by_summing(chain, horizon):
    """max_s |ρ(s,h) − ρ| for h = 1 … horizon, by adding up expected rewards step by step."""
    states = structure(chain.P).closed[0]
    P, r = chain.P[np.ix_(states, states)], chain.r[states]
    rho = gain_bias(chain).gain
    ahead, total, worst = r.copy(), np.zeros(len(r)), []
    for h in range(1, horizon + 1):
        total = total + ahead
        worst.append(np.abs(total / h - rho).max())
        ahead = P @ ahead
    return np.array(worst)


def test_the_alternating_process_has_its_closed_form():
    assert return_mixing_time(alternating(10), 0.05).steps == alternating_return_mixing_time(10, 0.05) == 91
    for task_steps in (1, 2, 7, 25):
        for eps in (0.01, 0.05, 1 / 6, 0.1, 0.2, 0.25, 0.3, 0.49, 0.5, 0.7):
            formula = alternating_return_mixing_time(task_steps, eps)
            assert return_mixing_time(alternating(task_steps), eps).steps == formula, (task_steps, eps)
    assert alternating_return_mixing_time(10_000, 0.05) / 10_000 == pytest.approx(90.91 / 10, rel=1e-3)


def test_it_is_the_last_crossing_of_plain_sums_and_not_the_first():
    rng = np.random.default_rng(0)
    crossed_again = 0
    chains = [random_unichain(rng, 6, branching=2) for _ in range(30)]
    for chain in [*chains, lazy_cycle(12), noisy_cycle(9, 0.99), two_state(0.01, 0.02), alternating(6)]:
        span, tried = np.ptp(gain_bias(chain).bias), (0.3, 0.03, 0.004)
        horizons = {eps: horizon for eps in tried if (horizon := int(span / eps) + 2) <= 20_000}
        summed = by_summing(chain, max(horizons.values()))
        for eps, horizon in horizons.items():
            worst = summed[:horizon]
            over = np.flatnonzero(worst > eps + 1e-9 / np.arange(1, horizon + 1))
            expected = over[-1] + 2 if over.size else 1
            assert return_mixing_time(chain, eps).steps == expected
            crossed_again += np.flatnonzero(worst <= eps)[0] + 1 < expected
    assert crossed_again > 3


def test_the_curve_of_deviations_is_that_of_plain_sums():
    chain = random_unichain(np.random.default_rng(1), 8)
    hs = np.array([1, 2, 3, 17, 64, 200])
    assert_allclose(return_deviation(chain, hs), by_summing(chain, 200)[hs - 1], atol=1e-12)


def test_a_leap_over_millions_of_horizons_lands_on_the_last_violation():
    # A fast chain at a tiny ε: P^h b vanishes at once, and t_ret is max|b|/ε.
    chain = two_state(0.4, 0.3)
    largest = np.abs(gain_bias(chain).bias).max()
    assert return_mixing_time(chain, 1e-7).steps == math.floor(largest / 1e-7) + 1


def test_constant_rewards_need_one_step():
    assert return_mixing_time(Chain(lazy_cycle(5).P, np.full(5, 0.3)), 1e-6).steps == 1


def test_transient_starts_count_only_on_request():
    P = np.array([[0.9, 0.1, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]])
    chain = Chain(P, np.array([1.0, 0, 0]))
    assert return_mixing_time(chain, 0.1).steps == 1
    assert return_mixing_time(chain, 0.1, starts="all").steps == 100  # 10 expected rewards over h steps


def test_the_definition_is_printed_with_the_number():
    text = str(return_mixing_time(alternating(10), 0.05))
    assert text.startswith("t_ret(0.05) = 91 steps at gain 0.5, the first h from which on the expected average reward")


def test_bad_input():
    with pytest.raises(BadInput, match=r"eps = 0.0: must be in \(0, inf\)"):
        return_mixing_time(two_state(), 0.0)
    with pytest.raises(BadInput, match="2 closed classes"):
        return_mixing_time(two_rooms(), 0.1)
    with pytest.raises(BadInput, match="horizons"):
        return_deviation(two_state(), [0, 1])
    with pytest.raises(BadInput, match="task_steps"):
        alternating_return_mixing_time(0, 0.1)
