import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tutelage.lab.bootstrap import bootstrap, mean
from tutelage.lab.errors import BadInput


def every_resample(values):
    """The whole bootstrap distribution, n^n resamples, in place of a random part of it."""
    return np.array(list(itertools.product(values, repeat=len(values))))


def test_agrees_with_the_enumerated_bootstrap_distribution():
    values = np.array([0.0, 1.0, 3.0, 7.0, 20.0])
    exact = np.quantile(every_resample(values).mean(axis=1), [0.025, 0.975])
    interval = bootstrap(mean, values, num_resamples=20_000)
    assert interval.estimate == 6.2
    assert_allclose([interval.low, interval.high], exact, atol=0.3)


def test_agrees_with_scipy_on_two_samples():
    rng = np.random.default_rng(1)
    a, b = rng.normal(1.0, 1.0, 12), rng.normal(0.0, 2.0, 9)
    ours = bootstrap(lambda x, y: mean(x) - mean(y), a, b, num_resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    assert_allclose(ours.estimate, a.mean() - b.mean())
    assert_allclose([ours.low, ours.high], [theirs.low, theirs.high], atol=0.03)


def test_strata_are_resampled_apart():
    # Two runs of two tasks. Rows stay whole without strata: the mean of a resample is 0, 1 or 2 in the ratio 1:2:1
    # (column sums 0 or 2 or 4). With strata it is 0, ½, 1, 1½, 2 in the ratio 1:4:6:4:1, so 6.25 % sit at each end.
    scores = np.array([[0.0, 0.0], [2.0, 2.0]])

    def overall(sample):
        return sample.mean(axis=(1, 2))

    whole = bootstrap(overall, scores, confidence=0.7)
    apart = bootstrap(overall, scores, confidence=0.7, stratified=True)
    assert_array_equal(whole, [1, 0, 2])
    assert_array_equal(apart, [1, 0.5, 1.5])


def test_curves_keep_their_shape_and_seed_their_interval():
    curves = np.random.default_rng(3).normal(size=(5, 7))
    first = bootstrap(mean, curves, seed=4)
    assert first.low.shape == (7,)
    assert_array_equal(first, bootstrap(mean, curves, seed=4))
    assert np.any(first.low != bootstrap(mean, curves, seed=5).low)
    assert_allclose(first.estimate, curves.mean(axis=0))


def test_one_run_has_no_interval():
    interval = bootstrap(mean, [0.5])
    assert interval.estimate == 0.5
    assert np.isnan([interval.low, interval.high]).all()


def test_nan_stays_where_it_is():
    interval = bootstrap(mean, [[1.0, np.nan], [3.0, 2.0]])
    assert_array_equal(interval.low, [1.0, np.nan])
    assert_array_equal(interval.high, [3.0, np.nan])


def test_blocks_do_not_change_the_number_of_resamples(monkeypatch):
    monkeypatch.setattr("tutelage.lab.bootstrap._BLOCK", 25)
    seen = []

    def count(sample):
        seen.append(sample.shape[0])
        return mean(sample)

    bootstrap(count, np.zeros((2, 5)), num_resamples=7)
    assert seen == [1, 2, 2, 2, 1]  # the estimate, then seven resamples of ten numbers, at most 25 at once


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=6),
    st.floats(0.1, 10),
    st.floats(-10, 10),
)
def test_scale_shift_and_bounds(values, scale, shift):
    plain = bootstrap(mean, values, num_resamples=200)
    moved = bootstrap(mean, scale * np.array(values) + shift, num_resamples=200)
    assert_allclose(np.array(moved), scale * np.array(plain) + shift, atol=1e-8)
    assert min(values) - 1e-9 <= plain.low <= plain.high <= max(values) + 1e-9


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        ([[]], {}, "samples"),
        ([1.0], {}, "samples"),
        ([[1.0, 2.0]], {"stratified": True}, "stratified"),
        ([[1.0, 2.0]], {"confidence": 1.0}, "confidence"),
        ([[1.0, 2.0]], {"num_resamples": 0}, "num_resamples"),
    ],
)
def test_bad_input(samples, options, message):
    with pytest.raises(BadInput, match=message):
        bootstrap(mean, *samples, **options)
