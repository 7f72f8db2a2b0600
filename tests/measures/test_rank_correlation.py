import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from tutelage.lab.errors import BadInput
from tutelage.measures.rank_correlation import pearson, spearman, spearman_interval

few = st.integers(-3, 3).map(float)


def test_by_hand():
    # Ranks 1 2 3 4 5 and 2 1 4 3 5: the squared differences sum to 4, ρ = 1 − 6·4/(5·24).
    assert spearman([10, 20, 30, 40, 50], [2, 1, 40, 3, 90]) == pytest.approx(0.8)
    assert spearman([1, 2, 3], [-1, -8, -27]) == -1


@given(arrays(np.float64, 8, elements=few), arrays(np.float64, 8, elements=few))
def test_is_scipys_with_ties(x, y):
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(spearman(x, y))
    else:
        assert_allclose(spearman(x, y), scipy.stats.spearmanr(x, y).statistic, atol=1e-12)


@given(st.permutations(range(6)), arrays(np.float64, 6, elements=few))
def test_only_order_counts(order, y):
    x = np.arange(6.0)
    assert_allclose(spearman(np.exp(x), y**3 + y), spearman(x, y))
    assert_allclose(spearman(x[list(order)], y[list(order)]), spearman(x, y))
    assert_allclose(spearman(-x, y), -spearman(x, y))


def test_maps_over_leading_axes():
    steps, curves = np.arange(9), np.random.default_rng(0).normal(size=(3, 9))
    assert_allclose(spearman(steps, curves), [scipy.stats.spearmanr(steps, curve).statistic for curve in curves])


def test_interval_holds_the_truth_and_narrows():
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    y = x + rng.normal(size=400)
    truth = 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2)  # of a bivariate normal with correlation √½
    wide, narrow = spearman_interval(x[:40], y[:40]), spearman_interval(x, y)
    assert wide.low < truth < wide.high
    assert narrow.low < truth < narrow.high
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_resamples_of_one_point_are_left_out():
    interval = spearman_interval([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert interval == (1, 1, 1)


@pytest.mark.parametrize("call", [lambda: spearman([1.0], [2.0]), lambda: spearman_interval([[1.0, 2.0]], [1.0, 2.0])])
def test_bad_input(call):
    with pytest.raises(BadInput, match="x, y"):
        call()


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1.0, 1e200, 4e307])
def test_pearson_does_not_depend_on_the_unit(unit):
    x, y = np.array([1.0, 2.0, 4.0]), [1.0, 3.0, 2.0]
    assert_allclose(pearson(x * unit, y), scipy.stats.pearsonr(x, y).statistic, atol=1e-15)
    assert_allclose(pearson(x * unit, x), 1)


def test_pearson_is_scipys_and_undefined_for_a_constant():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 20))
    assert_allclose(pearson(x, y), [scipy.stats.pearsonr(a, b).statistic for a, b in zip(x, y)], atol=1e-12)
    assert pearson([1, 2, 3], [5, 7, 9]) == 1
    assert np.isnan(pearson([0.1] * 7, range(7)))
    with pytest.raises(BadInput, match="at least two pairs"):
        pearson([1], [2])
