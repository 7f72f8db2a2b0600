"""Pareto measures against moocore, brute force and closed forms."""

from __future__ import annotations

import math

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tutelage.lab.errors import BadInput
from tutelage.measures.pareto import (
    front,
    gd_plus,
    grid_front,
    hsri,
    hypervolume,
    igd_plus,
    nondominated,
    pc_ent,
    r2,
)


def random_sets(number=200, seed=0):
    """Sets of 1 to 20 points of 2 to 5 objectives, some with duplicates, ties, and points outside the box [0, ∞)."""
    rng = np.random.default_rng(seed)
    for index in range(number):
        size, width = int(rng.integers(1, 21)), 2 + index % 4
        points = rng.uniform(-0.3, 1.0, (size, width))
        if index % 3 == 0:
            points = np.round(points * 4) / 4
        yield np.concatenate([points, points[rng.integers(0, size, size // 3)]])


def dominates(a, b):
    return bool((a >= b).all() and (a > b).any())


def brute_hypervolume(points):
    """Inclusion and exclusion over the non-empty subsets of boxes [0, p]."""
    inside = [p for p in points if (p > 0).all()]
    total = 0.0
    for subset in range(1, 1 << len(inside)):
        chosen = [p for bit, p in enumerate(inside) if subset >> bit & 1]
        total -= (-1) ** len(chosen) * np.prod(np.min(chosen, axis=0))
    return total


def test_nondominated_mask_is_the_definition():
    for points in random_sets():
        expected = [not any(dominates(q, p) for q in points) for p in points]
        assert nondominated(points, maximise=True).tolist() == expected
        assert nondominated(-points, maximise=False).tolist() == expected
        first = [keep and not (points[:i] == points[i]).all(axis=1).any() for i, keep in enumerate(expected)]
        assert nondominated(points, maximise=True, duplicates=False).tolist() == first
        assert np.array_equal(
            nondominated(points, maximise=True), moocore.is_nondominated(points, maximise=True, keep_weakly=True)
        )


def test_front_keeps_each_point_once():
    points = [(1, 0), (0, 1), (1, 0), (0.5, 0.5), (0.4, 0.4)]
    assert front(points, maximise=True).tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert front(points, maximise=True, duplicates=True).tolist() == [[1, 0], [0, 1], [1, 0], [0.5, 0.5]]
    assert front(points, maximise=[True, False]).tolist() == [[1, 0]]


def test_direction_must_be_said():
    for call in (
        lambda: nondominated([(1, 2)]),
        lambda: front([(1, 2)]),
        lambda: hypervolume([(1, 2)], 0),
        lambda: igd_plus([(1, 2)], [(1, 2)]),
        lambda: gd_plus([(1, 2)], [(1, 2)]),
        lambda: hsri([(1, 2)], 0, 3),
    ):
        with pytest.raises(BadInput, match="maximise is missing"):
            call()
    with pytest.raises(BadInput, match=r"maximise has shape \(3,\): must be one value, or one for each of 2"):
        front([(1, 2)], maximise=[True, True, False])


@pytest.mark.filterwarnings("ignore:the reference point")
def test_hypervolume_is_moocores_and_inclusion_exclusion():
    for index, points in enumerate(random_sets()):
        value = hypervolume(points, 0.0, maximise=True)
        assert value == pytest.approx(moocore.hypervolume(points, ref=0, maximise=True), abs=1e-12)
        assert value == pytest.approx(hypervolume(1 - points, 1.0, maximise=False), abs=1e-12)
        if index < 60 and len(points) <= 12:
            assert value == pytest.approx(brute_hypervolume(points), abs=1e-11)


def test_hypervolume_of_the_unigram_front():
    """With L letters of M kinds, rewards counts/L: the volume is C(L, M)/L^M."""
    length = 18
    for kinds, published in ((2, 0.472222), (3, 0.139918), (4, 0.0291495)):
        grid = np.stack(np.meshgrid(*[np.arange(length + 1)] * kinds), -1).reshape(-1, kinds)
        points = grid[grid.sum(axis=1) == length] / length
        value = hypervolume(points, 0.0, maximise=True)
        assert value == pytest.approx(math.comb(length, kinds) / length**kinds, abs=1e-12)
        assert value == pytest.approx(published, abs=1e-6)


def test_reference_dominated_by_nothing_is_zero_with_a_warning():
    with pytest.warns(UserWarning, match=r"reference point \(1, 1\) is dominated by none of the 2 points"):
        assert hypervolume([(1, 2), (0.5, 0.5)], 1.0, maximise=True) == 0.0
    with pytest.warns(UserWarning, match="none of the 0 points"):
        assert hypervolume(np.zeros((0, 2)), 0.0, maximise=True) == 0.0


def test_igd_plus_and_gd_plus_are_their_definitions():
    def shortfall(z, s):
        return np.linalg.norm(np.maximum(z - s, 0))

    rng = np.random.default_rng(1)
    for points in random_sets():
        targets = rng.uniform(0, 1, (int(rng.integers(1, 9)), points.shape[1]))
        expected = np.mean([min(shortfall(z, s) for s in points) for z in targets])
        assert igd_plus(points, targets, maximise=True) == pytest.approx(expected, abs=1e-12)
        assert igd_plus(points, targets, maximise=True) == pytest.approx(
            moocore.igd_plus(points, ref=targets, maximise=True), abs=1e-12
        )
        expected = np.mean([min(shortfall(z, s) for z in targets) for s in points])
        assert gd_plus(points, targets, maximise=True) == pytest.approx(expected, abs=1e-12)
        assert gd_plus(-points, -targets, maximise=False) == pytest.approx(expected, abs=1e-12)


def test_r2_of_the_published_example():
    weights = [(0, 1), (0.25, 0.75), (0.5, 0.5), (0.75, 0.25), (1, 0)]
    points = [(1, 0), (0, 1), (0.5, 0.5)]
    assert r2(points, weights, normalise="official") == pytest.approx(0.3872983, abs=1e-7)
    assert r2(points, weights, normalise="mean") == pytest.approx(0.15, abs=1e-12)


def test_r2_is_its_definition():
    rng = np.random.default_rng(2)
    for points in random_sets(40):
        weights = rng.dirichlet(np.ones(points.shape[1]), 7)
        ideal = rng.uniform(0.5, 1, points.shape[1])
        expected = sum(min(max(w * np.abs(ideal - s)) for s in points) for w in weights)
        assert r2(points, weights, ideal, normalise="mean") == pytest.approx(expected / 7, abs=1e-12)
        assert r2(points, weights, ideal) == pytest.approx(expected / np.sqrt((weights**2).sum()), abs=1e-12)


def test_pc_ent_reaches_the_logarithm_of_its_reference_points():
    for objectives, count in ((2, 19), (3, 271)):
        reference = grid_front(objectives)
        assert len(reference) == count
        assert pc_ent(np.repeat(reference, 3, axis=0)) == pytest.approx(math.log(count), abs=1e-12)
        assert pc_ent(reference[:1]) == 0.0


def test_pc_ent_counts_samples_by_their_nearest_reference_point():
    points = [(0.1, 1.0), (0.1, 1.0), (0.1, 0.9), (0.9, 0.2)]
    share = np.array([3 / 4, 1 / 4])
    assert pc_ent(points, [(0, 1), (1, 0), (5, 5)]) == pytest.approx(-(share * np.log(share)).sum())


def sharpe_by_search(points):
    """The largest Sharpe ratio in the box [0, 1]^M by a general constrained search from several starts."""
    points = np.clip(points, 0, 1)
    p = points.prod(axis=1)
    both = np.minimum(points[:, None], points[None]).prod(axis=-1)
    covariance = both - np.outer(p, p)

    def negative(x):
        return -(p @ x) / np.sqrt(max(x @ covariance @ x, 1e-300))

    best = 0.0
    starts = [*np.eye(len(p)) * 0.8 + 0.2 / len(p), np.ones(len(p)) / len(p)]
    for start in starts:
        result = minimize(
            negative,
            start / start.sum(),
            method="SLSQP",
            bounds=[(0, 1)] * len(p),
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        best = max(best, -result.fun)
    return best


def test_hsri_of_one_point_is_its_own_sharpe_ratio():
    value, investment = hsri([(0.5, 0.4)], 0, 1, maximise=True)
    assert value == pytest.approx(0.2 / np.sqrt(0.2 * 0.8))
    assert investment.tolist() == [1.0]


def test_hsri_is_the_best_portfolio_and_invests_in_the_front_alone():
    rng = np.random.default_rng(3)
    for index in range(25):
        points = rng.uniform(0.05, 0.95, (int(rng.integers(2, 7)), 2 + index % 2))
        value, investment = hsri(points, 0, 1, maximise=True)
        assert value == pytest.approx(sharpe_by_search(points), rel=1e-5)
        assert investment.sum() == pytest.approx(1) and (investment >= 0).all()
        assert not investment[~nondominated(points, maximise=True)].any()
        assert hsri(-points, 0, -1, maximise=False).indicator == pytest.approx(value)
        doubled = hsri(np.concatenate([points, points]), 0, 1, maximise=True)
        assert doubled.indicator == pytest.approx(value)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.05, 0.9), st.floats(0.05, 0.9)), min_size=2, max_size=6))
def test_hsri_does_not_fall_when_a_point_is_added(points):
    assert hsri(points, 0, 1, maximise=True).indicator >= hsri(points[:-1], 0, 1, maximise=True).indicator - 1e-6


def test_hsri_at_the_borders():
    assert hsri([(1, 1), (0.5, 0.5)], 0, 1, maximise=True).indicator == float("inf")
    with pytest.warns(UserWarning, match="HSRI 0"):
        assert hsri([(-1, 0.5)], 0, 1, maximise=True).indicator == 0
    with pytest.raises(BadInput, match=r"ideal \(0, 0\) must be better than the reference \(1, 1\)"):
        hsri([(0.5, 0.5)], 1, 0, maximise=True)


def test_bad_points_are_named():
    with pytest.raises(BadInput, match=r"points: row 1 is \(nan, 1\)"):
        front([(0, 0), (float("nan"), 1)], maximise=True)
    with pytest.raises(BadInput, match=r"points of shape \(2,\): must be \[n, M\]"):
        hypervolume([0.0, 1.0], 0, maximise=True)
    with pytest.raises(BadInput, match=r"reference = \(0, 0, 0\): must be finite, one number or one for each of 2"):
        hypervolume([(1, 1)], [0, 0, 0], maximise=True)
    with pytest.raises(BadInput, match="normalise = 'max'"):
        r2([(1, 1)], [(1, 0)], normalise="max")
    with pytest.raises(BadInput, match="weights of shape"):
        r2([(1, 1)], [(1, 0, 0)])
    with pytest.raises(BadInput, match="a front of shape"):
        igd_plus([(1, 1)], [(1, 0, 0)], maximise=True)
