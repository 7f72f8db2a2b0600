import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal

from tutelage.lab.errors import BadInput
from tutelage.measures.intervals import mean_error, stratified_interval
from tutelage.measures.performance import iqm, performance_profile, probability_of_improvement


def test_mean_error_by_hand_and_by_scipy():
    assert_allclose(mean_error([1.0, 2.0, 3.0, 6.0]), [3.0, np.sqrt(14 / 3) / 2])
    table = np.random.default_rng(0).normal(size=(5, 3))
    assert_allclose(mean_error(table).error, scipy.stats.sem(table, axis=0))
    assert_allclose(mean_error(table, axis=1).mean, table.mean(axis=1))


def test_one_value_has_no_error():
    assert_array_equal(mean_error([2.0]), [2.0, np.nan])


def test_no_value_is_refused():
    with pytest.raises(BadInput, match="values"):
        mean_error([])


def test_strata_hold_the_difference_between_tasks():
    # Every run scores the same on a task: resampling runs within tasks changes nothing, so the interval is a point.
    scores = np.tile([0.0, 0.5, 1.0, 5.0], (4, 1))
    interval = stratified_interval(iqm, scores)
    assert interval == (0.75, 0.75, 0.75)


def test_interval_of_a_comparison():
    ours, theirs = np.full((5, 2), 1.0), np.full((3, 2), 0.0)
    assert stratified_interval(probability_of_improvement, ours, theirs) == (1, 1, 1)
    mixed = stratified_interval(probability_of_improvement, np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]]))
    assert mixed == (0.5, 0, 1)


def test_interval_of_a_profile_holds_the_profile():
    scores = np.random.default_rng(1).uniform(size=(6, 4))
    thresholds = np.linspace(0, 1, 11)
    profile = stratified_interval(lambda sample: performance_profile(sample, thresholds), scores, num_resamples=500)
    assert profile.low.shape == (11,)
    assert np.all(profile.low <= profile.estimate)
    assert np.all(profile.estimate <= profile.high)
    assert_allclose(profile.estimate[5], np.mean(scores > 0.5))
