import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq, linprog
from small_chains import random_mdp, two_loops, two_rooms

from tutelage.continual.discounted import (
    discounted_value_iteration,
    myopia_threshold,
    solve_discounted,
    two_loop_threshold,
)
from tutelage.continual.planning import relative_value_iteration, solve_gain
from tutelage.continual.sparse import to_sparse
from tutelage.continual.stationary import gain_bias
from tutelage.continual.structure import structure
from tutelage.continual.tabular import TabularMDP, induced
from tutelage.lab.errors import BadInput

GAMMA_STAR = {5: 0.739429, 10: 0.871906, 20: 0.936553, 40: 0.968432, 80: 0.984255}


def by_linear_programme(mdp):
    """ρ* of a process whose states reach each other: the best stationary flow."""
    S, A = mdp.R.shape
    balance = np.repeat(np.eye(S), A, axis=1) - mdp.P.reshape(S * A, S).T
    constraints = np.vstack([balance, np.ones(S * A)])
    found = linprog(-mdp.R.ravel(), A_eq=constraints, b_eq=np.append(np.zeros(S), 1), method="highs")
    return -found.fun


def test_the_best_gain_is_that_of_the_linear_programme():
    rng = np.random.default_rng(0)
    for _ in range(30):
        mdp = random_mdp(rng, 12, 3, branching=4)
        rho = by_linear_programme(mdp)
        found = solve_gain(mdp)
        assert_allclose(found.rho, rho, atol=1e-9)
        assert_allclose(found.gain, rho, atol=1e-9)
        assert_allclose(found.rho + found.bias, (mdp.R + mdp.P @ found.bias).max(axis=1), atol=1e-8)
        assert_allclose(gain_bias(induced(mdp, found.policy)).bias, found.bias, atol=1e-9)
        swept = relative_value_iteration(mdp, tolerance=1e-8)
        assert abs(swept.rho - rho) <= swept.error / 2 + 1e-12
        assert gain_bias(induced(mdp, swept.policy)).gain >= rho - 1e-7
        assert_allclose(relative_value_iteration(to_sparse(mdp)).rho, rho, atol=1e-8)


def test_processes_of_any_structure_have_the_gain_of_the_best_policy_from_each_start():
    rng = np.random.default_rng(1)
    several = refused = 0
    for _ in range(50):
        num_actions = int(rng.integers(1, 3))
        mdp = random_mdp(rng, 4, num_actions, branching=1 if rng.random() < 0.7 else 2)
        best = np.full(4, -np.inf)
        for policy in itertools.product(range(num_actions), repeat=4):
            best = np.maximum(best, gain_bias(induced(mdp, np.array(policy)), multichain="per_class").gain)
        found = solve_gain(mdp, multichain="per_class")
        assert_allclose(found.gain, best, atol=1e-8)
        assert_allclose(found.rho, best.mean(), atol=1e-8)
        several += len(structure(mdp.P.max(axis=1)).closed) > 1
        if np.ptp(best) > 1e-6:
            refused += 1
            with pytest.raises(BadInput, match="the best gain depends on the start"):
                solve_gain(mdp)
        else:
            assert_allclose(solve_gain(mdp).rho, best[0], atol=1e-8)
    assert several > 2 and refused > 5


def test_a_gain_that_p0_cannot_lead_to_does_not_count():
    chain = two_rooms()
    R = np.array([1.0, 3.0, 0.0, 9.0, 0.0, -1.0])[:, None]
    mdp = TabularMDP(chain.P[:, None], R, np.eye(6)[0], tuple("abcdef"))
    assert solve_gain(mdp).rho == pytest.approx(2)
    with pytest.raises(BadInput, match=r"\(2 to 3\).*\{a, b\}, \{c, d, e\} of period 3; transient: f"):
        solve_gain(mdp._replace(p0=np.eye(6)[5]))


def test_ties_go_to_the_lowest_action():
    rng = np.random.default_rng(2)
    mdp = random_mdp(rng, 8, 3)
    once = solve_gain(mdp).policy
    # Every action twice, the copies first: the policy must not notice the second ones.
    twice = TabularMDP(np.concatenate([mdp.P] * 2, axis=1), np.concatenate([mdp.R] * 2, axis=1), mdp.p0)
    assert (solve_gain(twice).policy == once).all()
    # A hair less, within 1e-9, in front: it wins the tie.
    near = TabularMDP(twice.P, np.concatenate([mdp.R - 5e-10, mdp.R], axis=1), mdp.p0)
    assert (solve_gain(near).policy == once).all()
    far = TabularMDP(twice.P, np.concatenate([mdp.R - 5e-9, mdp.R], axis=1), mdp.p0)
    assert (solve_gain(far).policy == once + 3).all()


def test_periodic_processes_are_swept_too():
    for n in (2, 5, 9):
        swept = relative_value_iteration(two_loops(n))
        assert_allclose([swept.rho, solve_gain(two_loops(n)).rho], 0.2, atol=1e-9)
        assert swept.policy[0] == 1


def test_discounted_values_are_those_of_the_policies_tried():
    rng = np.random.default_rng(3)
    for discount in (0.0, 0.5, 0.95, 0.999):
        mdp = random_mdp(rng, 4, 2)
        best = np.full(4, -np.inf)
        for policy in itertools.product(range(2), repeat=4):
            P, r = induced(mdp, np.array(policy))
            best = np.maximum(best, np.linalg.solve(np.eye(4) - discount * P, r))
        exact = solve_discounted(mdp, discount)
        assert_allclose(exact.values, best, rtol=1e-9)
        for table in (mdp, to_sparse(mdp)):
            swept = discounted_value_iteration(table, discount, tolerance=1e-9)
            assert_allclose(swept.values, best, atol=2e-9)
            assert (swept.policy == exact.policy).all()


def test_the_myopia_threshold_of_two_loops():
    for n, digits in GAMMA_STAR.items():
        assert two_loop_threshold(n) == pytest.approx(digits, abs=5e-7)
    c = brentq(lambda c: c / np.expm1(c) - 0.5, 0.1, 5)
    assert c == pytest.approx(1.2564, abs=5e-5)
    errors = [n * (1 - two_loop_threshold(n)) - c for n in (80, 800, 8000)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2] > 0 and errors[2] < 1e-4


@pytest.mark.parametrize("n", [5, 10, 20])
def test_planning_flips_at_the_threshold(n):
    mdp, threshold = two_loops(n), two_loop_threshold(n)
    for planner in (solve_discounted, discounted_value_iteration):
        assert planner(mdp, threshold - 1e-6).policy[0] == 0
        assert planner(mdp, threshold + 1e-6).policy[0] == 1
    assert myopia_threshold(mdp) == pytest.approx(threshold, abs=1e-6)


def test_a_process_that_is_never_myopic_has_threshold_zero():
    rng = np.random.default_rng(4)
    one_action = random_mdp(rng, 4, 1)
    assert myopia_threshold(one_action) == 0
    with pytest.raises(BadInput, match=r"longest = 10: .* still myopic"):
        myopia_threshold(two_loops(40), longest=10.0)


def test_bad_settings():
    mdp = two_loops(4)
    for planner in (solve_discounted, discounted_value_iteration):
        with pytest.raises(BadInput, match=r"discount = 1: must be in \[0, 1\); .* `planning.solve_gain`"):
            planner(mdp, 1.0)
        with pytest.raises(BadInput, match=r"discount = 1.2: must be in \[0, 1\)"):
            planner(mdp, 1.2)
    with pytest.raises(BadInput, match="laziness"):
        relative_value_iteration(mdp, laziness=0.0)
    with pytest.raises(BadInput, match=r"ρ\* is only known to lie in"):
        relative_value_iteration(mdp, max_sweeps=3)
    with pytest.raises(BadInput, match="P: rows"):
        solve_gain(mdp._replace(P=np.asarray(mdp.P) * 0.9))
    with pytest.raises(BadInput, match="length = 1"):
        two_loop_threshold(1)
    with pytest.raises(BadInput, match="0 < short < long"):
        two_loop_threshold(5, 0.3, 0.2)
