"""What a sampler is asked for: preferences and exponents, their laws, their encodings, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import gamma

from tutelage.gflownets.condition import (
    Condition,
    condition,
    draw_conditions,
    encode,
    encoded_size,
    simplex_grid,
    thermometer,
)
from tutelage.gflownets.config import BetaConfig, PreferenceConfig, beta_range
from tutelage.lab.errors import BadInput

MANY = 4000


@pytest.mark.parametrize(
    ("value", "entries"), [(1.0, [1, 1, 1, 1, 0]), (0.6, [1, 1, 0.4, 0, 0]), (0.3, [1, 0.2, 0, 0, 0])]
)
def test_thermometer_of_the_page(value, entries):
    np.testing.assert_allclose(thermometer(jnp.asarray(value), 5, 0.0, 1.0), entries, atol=1e-6)


@pytest.mark.parametrize(("low", "high", "bins"), [(0.0, 1.0, 50), (1.0, 16.0, 7), (0.5, 32.0, 2)])
def test_a_thermometer_tells_its_value_and_its_last_entry_is_zero(low, high, bins):
    values = np.linspace(low, high, 41)
    entries = np.asarray(thermometer(jnp.asarray(values, jnp.float32), bins, low, high))
    assert entries.min() >= 0 and entries.max() <= 1
    np.testing.assert_allclose(entries.sum(axis=1) * (high - low) / (bins - 1) + low, values, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(entries[:, -1], 0, atol=1e-5)  # all ones would be a value that training never saw


@pytest.mark.parametrize("encoding", ["thermometer", "raw"])
@pytest.mark.parametrize("kind", ["constant", "uniform", "loguniform", "gamma", "beta"])
def test_conditions_are_encoded_as_wide_as_promised_and_apart(encoding, kind):
    preference, beta = PreferenceConfig(encoding=encoding, bins=5), BetaConfig(kind=kind, bins=6)
    asked = Condition(jnp.asarray([[0.2, 0.8], [0.8, 0.2], [0.2, 0.8]]), jnp.asarray([0.5, 0.5, 0.9]))
    rows = np.asarray(encode(asked, preference, beta))
    assert rows.shape == (3, encoded_size(2, preference, beta))
    assert not np.array_equal(rows[0], rows[1])
    # The exponent is read where it varies, and has no part in it where it is constant.
    low, high = beta_range(beta)
    assert np.array_equal(rows[0], rows[2]) == (kind == "constant" or high < 0.5 or low > 0.9)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_preferences_have_the_moments_of_the_dirichlet_law(alpha):
    asked = draw_conditions(jax.random.key(0), MANY, 3, PreferenceConfig(alpha=alpha), BetaConfig())
    weights = np.asarray(asked.preference, np.float64)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    variance = (1 / 3) * (2 / 3) / (3 * alpha + 1)
    np.testing.assert_allclose(weights.mean(axis=0), 1 / 3, atol=5 * np.sqrt(variance / MANY))
    np.testing.assert_allclose(weights.var(axis=0), variance, rtol=0.1)


@pytest.mark.parametrize(("distinct", "runs"), [(0, 8), (1, 1), (2, 2), (3, 3)])
def test_a_batch_has_so_many_different_preferences_in_a_row(distinct, runs):
    law = PreferenceConfig(prefs_per_batch=distinct)
    asked = draw_conditions(jax.random.key(1), 8, 2, law, BetaConfig(kind="uniform"))
    rows = np.column_stack([asked.preference, asked.beta])
    assert rows.shape == (8, 3)
    assert 1 + (rows[1:] != rows[:-1]).any(axis=1).sum() == len(np.unique(rows, axis=0)) == runs


@pytest.mark.parametrize(
    ("law", "mean"),
    [
        (BetaConfig("constant", value=96.0), 96.0),
        (BetaConfig("uniform", low=1.0, high=16.0), 8.5),
        (BetaConfig("loguniform", low=1.0, high=np.e), np.e - 1),
        (BetaConfig("gamma", shape=2.0, scale=1.5), 3.0),
        (BetaConfig("beta", shape=2.0, shape_b=1.0, scale=30.0), 20.0),
    ],
    ids=lambda value: value.kind if isinstance(value, BetaConfig) else "",
)
def test_exponents_are_positive_and_have_the_mean_and_range_of_their_law(law, mean):
    drawn = np.asarray(draw_conditions(jax.random.key(2), MANY, 2, PreferenceConfig(), law).beta, np.float64)
    assert drawn.min() > 0
    assert drawn.mean() == pytest.approx(mean, rel=0.05)
    low, high = beta_range(law)
    assert ((drawn >= low - 1e-6) & (drawn <= high + 1e-6)).mean() >= 0.997
    if law.kind == "gamma":
        assert high == pytest.approx(gamma.ppf(0.999, 2.0, scale=1.5))


def test_the_regular_grid_has_as_many_preferences_as_the_official_evaluation():
    assert [len(simplex_grid(2, 50)), len(simplex_grid(3, 50)), len(simplex_grid(2, 11))] == [50, 1275, 11]
    for number, bins in ((2, 11), (3, 5), (4, 3)):
        grid = simplex_grid(number, bins)
        np.testing.assert_allclose(grid.sum(axis=1), 1, atol=1e-12)
        assert len(np.unique(grid, axis=0)) == len(grid)
        np.testing.assert_allclose(grid * (bins - 1), np.round(grid * (bins - 1)), atol=1e-9)
        assert {tuple(row) for row in np.eye(number)} <= {tuple(row) for row in grid}


@pytest.mark.parametrize(
    ("preference", "beta", "message"),
    [
        ([[0.5, 0.5], [1.2, -0.2]], 1.0, "preference row 1 = (1.2, -0.2) is not on the simplex"),
        ([0.5, 0.5002], 1.0, "preference row 0 = (0.5, 0.5002) is not on the simplex"),
        ([np.nan, 1.0], 1.0, "preference row 0 = (nan, 1) is not on the simplex"),
        ([0.2, 0.3, 0.5], 1.0, "preference: 3 weights for 2 objectives"),
        ([0.5, 0.5], 0.0, "beta = 0: must be > 0"),
        ([0.5, 0.5], -2.0, "beta = -2: must be > 0"),
        ([[0.5, 0.5]] * 2, [1.0, np.inf], "beta = inf: must be > 0 and finite"),
    ],
)
def test_what_no_sampler_can_be_asked_is_refused_in_one_line(preference, beta, message):
    with pytest.raises(BadInput) as caught:
        condition(preference, beta, 2)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_rounding_of_a_preference_is_forgiven():
    asked = condition([0.50004, 0.5], 4.0, 2)
    assert asked.preference.shape == (1, 2) and float(asked.beta[0]) == 4.0
