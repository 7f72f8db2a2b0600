import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal

from tutelage.lab.errors import BadInput
from tutelage.measures.performance import cvar, iqm, optimality_gap, performance_profile, probability_of_improvement

numbers = st.floats(-50, 50, width=32)
matrices = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=numbers)


def test_iqm_by_hand():
    assert iqm([[0, 1], [2, 3], [4, 5], [6, 100]]) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert iqm([[1], [2], [3], [4], [60]]) == pytest.approx(3)  # one of five falls on each side
    assert iqm([[1], [2], [9]]) == pytest.approx(4)  # nothing falls: the mean


@given(matrices)
def test_iqm_is_the_trimmed_mean_of_scipy(scores):
    assert_allclose(iqm(scores), scipy.stats.trim_mean(scores, 0.25, axis=None), atol=1e-9)


@given(matrices, st.randoms(use_true_random=False), st.floats(0.1, 10), numbers)
def test_iqm_permutation_scale_shift(scores, random, scale, shift):
    shuffled = scores.ravel().tolist()
    random.shuffle(shuffled)
    moved = scale * np.reshape(shuffled, scores.shape) + shift
    assert_allclose(iqm(moved), scale * iqm(scores) + shift, atol=1e-6)


@given(matrices, st.floats(-1, 5))
def test_optimality_gap_by_loop(scores, target):
    gap = sum(max(target - score, 0) for score in scores.ravel()) / scores.size
    assert_allclose(optimality_gap(scores, target), gap, atol=1e-9)


@given(matrices, st.lists(numbers, min_size=1, max_size=5))
def test_profile_by_counting_and_monotone(scores, thresholds):
    thresholds = sorted(thresholds)
    profile = performance_profile(scores, thresholds)
    assert_allclose(profile, [np.mean(scores > tau) for tau in thresholds])
    assert np.all(np.diff(profile) <= 0)


def test_profile_area_is_one_minus_the_gap():
    scores = np.random.default_rng(0).uniform(0, 1.5, (4, 3))
    thresholds = np.linspace(0, 1, 20_001)
    area = performance_profile(scores, thresholds).mean()
    assert area == pytest.approx(1 - optimality_gap(scores), abs=1e-4)


def test_improvement_by_hand():
    # Task 1: 3 of the 4 pairs won, 1 tied -> 3.5/4. Task 2: all 4 tied -> ½.
    assert probability_of_improvement([[2, 0], [3, 0]], [[1, 0], [2, 0]]) == pytest.approx((3.5 / 4 + 0.5) / 2)


@given(matrices, st.data())
def test_improvement_by_pairs_and_its_mirror(ours, data):
    theirs = data.draw(arrays(np.float64, (data.draw(st.integers(1, 5)), ours.shape[1]), elements=st.integers(-3, 3)))
    ours = np.round(ours / 20)  # few values, many ties
    pairs = [
        (x > y) + (x == y) / 2
        for task in range(ours.shape[1])
        for x, y in itertools.product(ours[:, task], theirs[:, task])
    ]
    assert_allclose(probability_of_improvement(ours, theirs), np.mean(pairs))
    assert_allclose(probability_of_improvement(theirs, ours), 1 - np.mean(pairs))


def test_improvement_agrees_with_mann_whitney():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=8), rng.normal(0.5, 1, size=6)
    u = scipy.stats.mannwhitneyu(x, y).statistic
    assert probability_of_improvement(x[:, None], y[:, None]) == pytest.approx(u / 48)


def test_cvar_by_hand():
    values = [3.0, 1.0, 2.0, 10.0]
    assert cvar(values, 0.25) == 1.0
    assert cvar(values, 0.5) == 1.5
    assert cvar(values, 1.0) == 4.0
    # 1.5 values: all of the worst, half of the next.
    assert cvar(values, 0.375) == pytest.approx((1.0 + 0.5 * 2.0) / 1.5)
    assert cvar(values, 0.01) == pytest.approx(1.0)


def test_cvar_chosen_by_other_values():
    # The worst half by the first set is items 0 and 2; measured by the second set they score 5 and 7.
    assert cvar([5.0, 1.0, 7.0, 1.0], 0.5, chosen_by=[0.0, 0.9, 0.1, 0.8]) == 6.0
    # A tie across the boundary: item 0 is in, and each of the other three has a third of the second place.
    assert cvar([4.0, 3.0, 6.0, 9.0], 0.5, chosen_by=[0.0, 0.5, 0.5, 0.5]) == pytest.approx((4 + (3 + 6 + 9) / 3) / 2)


def test_cvar_ties_are_the_mean_over_all_orders():
    values, choice = np.array([4.0, 3.0, 6.0, 9.0, 1.0]), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    worst = []
    for order in itertools.permutations(range(5)):
        ranked = sorted(order, key=lambda i: choice[i])  # stable: ties in the order of this permutation
        worst.append(values[ranked[:3]].mean())
    assert cvar(values, 0.6, chosen_by=choice) == pytest.approx(np.mean(worst))


@given(arrays(np.float64, (2, 7), elements=numbers), st.lists(st.floats(0.01, 1), min_size=2, max_size=5))
def test_cvar_rises_to_the_mean_and_maps_over_both(values, alphas):
    alphas = sorted(alphas)
    curve = cvar(values, alphas)
    assert curve.shape == (2, len(alphas))
    assert np.all(np.diff(curve, axis=1) >= -1e-9)
    assert np.all(curve <= values.mean(axis=1, keepdims=True) + 1e-9)
    assert_allclose(curve[1, 0], cvar(values[1], alphas[0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iqm([1.0, 2.0]), "scores"),
        (lambda: optimality_gap(np.zeros((0, 3))), "scores"),
        (lambda: performance_profile([[1.0]], 0.5), "thresholds"),
        (lambda: probability_of_improvement([[1.0]], [[1.0, 2.0]]), "theirs"),
        (lambda: cvar([1.0], 0.0), "alpha"),
        (lambda: cvar([1.0], 1.1), "alpha"),
        (lambda: cvar([], 0.5), "values"),
        (lambda: cvar([1.0, 2.0], 0.5, chosen_by=[1.0]), "chosen_by"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def test_batches_are_mapped():
    scores = np.random.default_rng(2).normal(size=(3, 4, 5))
    assert_array_equal(iqm(scores), [iqm(matrix) for matrix in scores])
    assert_array_equal(
        performance_profile(scores, [0.0, 0.5]), [performance_profile(matrix, [0.0, 0.5]) for matrix in scores]
    )
