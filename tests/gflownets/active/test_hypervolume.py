"""The compiled hypervolume, its boxes and improvements against moocore and the definitions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import moocore
import numpy as np
import pytest

from tutelage.gflownets.active.hypervolume import (
    cells,
    dominated_boxes,
    hypervolume,
    improvement,
    nondominated,
)
from tutelage.lab.errors import BadInput

SLOTS = 24
"""All sets of the tests have as many slots, so that each function is compiled once."""


@functools.cache
def random_sets(width, number=100):
    """Sets of up to 18 points, every third on a coarse grid, with duplicates, with points outside the box above 0.1."""
    rng = np.random.default_rng(width)
    points = rng.uniform(-0.2, 1.0, (number, SLOTS, width))
    points[::3] = np.round(points[::3] * 4) / 4
    points[:, 15:18] = points[:, 3:6]
    return points, rng.uniform(size=(number, SLOTS)) < rng.uniform(0, 0.9, (number, 1))


def reference(width, dtype):
    return jnp.full(width, 0.1, dtype)


batched_hypervolume = jax.jit(jax.vmap(hypervolume, (0, 0, None)))
batched_cells = jax.jit(jax.vmap(cells, (0, 0, None)))


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_hypervolume_is_moocores(width, dtype, tolerance):
    points, mask = random_sets(width)
    with jax.enable_x64(dtype == "float64"):
        values = np.asarray(batched_hypervolume(jnp.asarray(points, dtype), jnp.asarray(mask), reference(width, dtype)))
    assert values.dtype == dtype
    expected = [
        moocore.hypervolume(p[m], ref=np.full(width, 0.1), maximise=True) if m.any() else 0.0
        for p, m in zip(points, mask)
    ]
    np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("width", [2, 3, 4, 5])
def test_nondominated_mask_is_moocores_with_the_first_of_equals(width):
    points, mask = random_sets(width, 50)
    with jax.enable_x64(True):
        values = np.asarray(jax.jit(jax.vmap(nondominated))(jnp.asarray(points), jnp.asarray(mask)))
    for p, m, value in zip(points, mask, values):
        assert not value[~m].any()
        if m.any():
            assert np.array_equal(value[m], moocore.is_nondominated(p[m], maximise=True))


@pytest.mark.parametrize("width", [2, 3])
def test_improvement_is_what_a_candidate_adds(width):
    points, mask = random_sets(width, 100)
    candidates = np.random.default_rng(9).uniform(0.0, 1.4, (len(points), 5, width))
    candidates[::3] = np.round(candidates[::3] * 4) / 4
    candidates[:, 0] = points[:, 0]
    with jax.enable_x64(True):
        corner = reference(width, "float64")
        values = np.asarray(
            jax.jit(lambda p, m, c: jax.vmap(improvement)(c, batched_cells(p, m, corner)))(
                *map(jnp.asarray, (points, mask, candidates))
            )
        )
    for p, m, rows, gains in zip(points, mask, candidates, values):
        before = moocore.hypervolume(p[m], ref=np.full(width, 0.1), maximise=True) if m.any() else 0.0
        for row, gain in zip(rows, gains):
            after = moocore.hypervolume(np.vstack([p[m], row]), ref=np.full(width, 0.1), maximise=True)
            assert gain == pytest.approx(after - before, abs=1e-12)


@pytest.mark.parametrize("width", [2, 3])
def test_boxes_tile_what_is_dominated_and_what_is_not(width):
    points, mask = random_sets(width, 40)
    places = np.random.default_rng(7).uniform(0.1, 1.3, (400, width))

    def inside(boxes):
        lower, upper = map(np.asarray, boxes)
        assert np.isfinite(lower).all() and (upper >= lower).all()
        return ((places[:, None] > lower) & (places[:, None] <= upper)).all(axis=-1).sum(axis=1)

    with jax.enable_x64(True):
        for p, m in zip(points, mask):
            present = p[m & (p > 0.1).all(axis=1)]
            dominated = (present[:, None] >= places[None]).all(axis=-1).any(axis=0).astype(int)
            given = jnp.asarray(p), jnp.asarray(m), reference(width, "float64")
            below, above = dominated_boxes(*given), cells(*given)
            assert below.lower.shape == ((width - 1) * SLOTS, width)
            assert above.lower.shape == ((width - 1) * SLOTS + 1, width)
            assert np.array_equal(inside(below), dominated)
            assert np.array_equal(inside(above), 1 - dominated)


def test_improvements_of_the_published_front():
    points = jnp.array([(1.0, 2.0), (2.0, 1.0)])
    free = cells(points, jnp.ones(2, bool), jnp.zeros(2))
    gains = improvement(jnp.array([(2.0, 2.0), (1.5, 1.5), (3.0, 3.0), (1.0, 1.0)]), free)
    np.testing.assert_allclose(gains, [1, 0.25, 6, 0], atol=1e-6)


def test_an_empty_set_leaves_all_space_free():
    for width in (2, 3):
        nobody = jnp.zeros(SLOTS, bool)
        points, corner = jnp.ones((SLOTS, width)), reference(width, "float32")
        assert hypervolume(points, nobody, corner) == 0
        gain = improvement(jnp.full((1, width), 0.6), cells(points, nobody, corner))
        np.testing.assert_allclose(gain, 0.5**width, atol=1e-6)


def test_four_objectives_are_refused():
    with pytest.raises(BadInput, match="4 objectives: the compiled hypervolume has two or three"):
        hypervolume(jnp.ones((2, 4)), jnp.ones(2, bool), jnp.zeros(4))
