import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_chains import alternating, noisy_cycle, random_chain, random_mdp, random_unichain, two_rooms, two_state

from tutelage.continual.hitting import diameter, hitting_times, residence_time
from tutelage.continual.structure import structure
from tutelage.continual.tabular import Chain, TabularMDP, induced
from tutelage.lab.errors import BadInput


def test_hitting_times_solve_their_equation():
    rng = np.random.default_rng(0)
    never = 0
    for _ in range(100):
        P = random_chain(rng, 7, 1 if rng.random() < 0.3 else 2).P
        region = rng.random(7) < 0.3
        if not region.any():
            continue
        times = hitting_times(Chain(P, np.zeros(7)), region)
        # The mass that has not arrived: its sum over time is the expectation. Here over 2^20 steps, by doubling.
        power = P * np.outer(~region, ~region)
        total = np.diag((~region).astype(float))
        for _ in range(20):
            total, power = total + power @ total, power @ power
        arrives = power.sum(axis=1) < 1e-6
        assert_allclose(times[arrives], total.sum(axis=1)[arrives], rtol=1e-6)
        assert (times[~arrives] == math.inf).all()
        never += (times == math.inf).any()
    assert never > 10


def test_hitting_times_by_hand():
    assert_allclose(hitting_times(noisy_cycle(5, 0.5), 4), [8, 6, 4, 2, 0])
    assert_allclose(hitting_times(two_rooms(), [0, 1]), [0, 0, math.inf, math.inf, math.inf, math.inf])
    assert hitting_times(alternating(3), [2, 4]).tolist() == [2, 1, 0, 1, 0, 3]


def test_residence_is_the_mean_length_of_visits():
    assert_allclose([residence_time(two_state(0.1, 0.2), s) for s in (0, 1)], [10, 5])
    assert residence_time(alternating(10), range(10)) == pytest.approx(10)
    assert residence_time(two_state(), [0, 1]) == math.inf
    rng = np.random.default_rng(1)
    P = random_unichain(rng, 5).P
    region = np.array([True, True, False, True, False])
    # A visit begins at the law of entrances and lasts until it leaves: 1 / mean of the inverse of (I − P_RR).
    law = np.linalg.matrix_power((np.eye(5) + P) / 2, 4000)[0]
    entrances = (law * ~region) @ P * region
    stay = np.linalg.solve(np.eye(3) - P[np.ix_(region, region)], np.ones(3))
    assert_allclose(
        residence_time(Chain(P, np.zeros(5)), region), entrances[region] @ stay / entrances.sum(), rtol=1e-9
    )


def test_a_region_left_for_ever_has_no_residence():
    P = np.array([[0.5, 0.5, 0], [0, 0, 1], [0, 1, 0]])
    assert math.isnan(residence_time(Chain(P, np.zeros(3)), 0))


def by_all_policies(mdp):
    """D by trying every deterministic policy: for small processes."""
    S, A = mdp.R.shape
    best = np.full((S, S), math.inf)
    for policy in itertools.product(range(A), repeat=S):
        chain = induced(mdp, np.array(policy))
        for target in range(S):
            best[:, target] = np.minimum(best[:, target], hitting_times(chain, target))
    return best


def test_the_diameter_is_that_of_all_policies_tried():
    rng = np.random.default_rng(2)
    transient = 0
    for branching in (1, 2, 3):
        for _ in range(6):
            mdp = random_mdp(rng, 4, 2, branching)
            best = by_all_policies(mdp)
            found = structure(mdp.P.max(axis=1))
            transient += found.transient.size > 0
            expected = max(best[np.ix_(states, states)].max() for states in found.closed)
            assert_allclose(diameter(mdp), expected, rtol=1e-10)
    assert transient > 3


def test_the_diameter_of_larger_processes_is_that_of_value_iteration():
    rng = np.random.default_rng(3)
    mdp = random_mdp(rng, 40, 3, branching=2)
    states = structure(mdp.P.max(axis=1)).closed[0]
    P = mdp.P[np.ix_(states, range(3), states)]
    worst = 0.0
    for target in range(states.size):
        cost = np.zeros(states.size)
        for _ in range(3000):
            cost = 1 + (P @ cost).min(axis=1)
            cost[target] = 0
        worst = max(worst, cost.max())
    assert_allclose(diameter(mdp), worst, rtol=1e-9)


def test_diameters_by_hand():
    # A line of n states, left or right for sure, resting at the ends: n − 1 steps from end to end.
    n = 6
    P = np.zeros((n, 2, n))
    for s in range(n):
        P[s, 0, max(s - 1, 0)] = P[s, 1, min(s + 1, n - 1)] = 1
    assert diameter(TabularMDP(P, np.zeros((n, 2)), np.full(n, 1 / n))) == n - 1
    assert_allclose(diameter(TabularMDP(noisy_cycle(8).P[:, None], np.zeros((8, 1)), np.eye(8)[0])), 7 / 0.96)
    alone = TabularMDP(np.ones((1, 2, 1)), np.zeros((1, 2)), np.ones(1))
    assert diameter(alone) == 0


@pytest.mark.parametrize("region", [[], [7], -1, [0.5], np.zeros(2, bool), np.ones(3, bool)])
def test_a_region_that_is_none_is_refused(region):
    with pytest.raises(BadInput, match="region"):
        hitting_times(two_state(), region)
