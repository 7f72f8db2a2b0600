from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.special import erfcx
from scipy.stats import norm

from tutelage.gflownets.active import acquisition as acq
from tutelage.gflownets.active import gaussian_process as gp
from tutelage.gflownets.active.hypervolume import cells, improvement

FRONT = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
ZERO = np.zeros(2, np.float32)

log_ehvi = jax.jit(acq.log_ehvi)
log_improvement = jax.jit(acq.log_improvement, static_argnums=2)


def boxes_of(front, reference=None):
    front = jnp.asarray(front, jnp.float32)
    reference = jnp.zeros(front.shape[1], jnp.float32) if reference is None else reference
    return cells(front, jnp.ones(len(front), bool), reference)


@pytest.mark.parametrize("candidate, gain", [((2, 2), 1.0), ((1.5, 1.5), 0.25), ((3, 3), 6.0)])
def test_a_certain_candidate_is_expected_to_add_what_it_adds(candidate, gain):
    boxes, mean = boxes_of(FRONT), jnp.asarray(candidate, jnp.float32)
    assert float(improvement(mean, boxes)) == pytest.approx(gain, abs=1e-6)
    for deviation in (0.0, 1e-30):
        assert float(jnp.exp(log_ehvi(mean, jnp.full(2, deviation, jnp.float32), boxes))) == pytest.approx(
            gain, rel=1e-5
        )
    assert float(jnp.exp(log_ehvi(mean, jnp.full(2, 1e-7, jnp.float32), boxes))) == pytest.approx(gain, rel=1e-5)
    assert float(jnp.exp(log_improvement(mean, boxes, 1e-4))) == pytest.approx(gain, rel=2e-3)


def test_log_h_is_exact_from_far_below_to_far_above():
    z = np.concatenate([np.linspace(-30, 8, 400), [-1e3, 1e3, -1e6]])
    t = np.minimum(z, 0)
    # φ(z) + z Φ(z) = φ(z) (1 + z √(π/2) erfcx(−z/√2)); its asymptote beyond what float64 resolves.
    ratio = 1 + t * np.sqrt(np.pi / 2) * erfcx(-t / np.sqrt(2))
    near = np.maximum(z, 0)
    above = np.log(norm.pdf(near) + near * norm.cdf(near))
    exact = np.where(z > 0, above, norm.logpdf(t) + np.log(np.maximum(ratio, 1e-300)))
    exact = np.where(z < -300, norm.logpdf(t) - 2 * np.log(np.maximum(-t, 1)), exact)
    found = np.asarray(jax.jit(acq.log_h)(jnp.asarray(z, jnp.float32)), np.float64)
    np.testing.assert_allclose(found, exact, rtol=3e-6, atol=3e-5)


@pytest.mark.parametrize("num_objectives", [2, 3])
def test_exact_expectation_is_that_of_monte_carlo(num_objectives):
    rng = np.random.default_rng(num_objectives)
    front = rng.uniform(0.2, 1.0, (6, num_objectives)).astype(np.float32)
    boxes = boxes_of(front)
    for mean in (0.3, 0.8):
        mean, deviation = np.full(num_objectives, mean), rng.uniform(0.1, 0.5, num_objectives)
        draws = mean + deviation * rng.normal(size=(100_000, num_objectives))
        gains = np.asarray(improvement(jnp.asarray(draws, jnp.float32), boxes), np.float64)
        error = gains.std() / np.sqrt(len(gains))
        found = float(jnp.exp(log_ehvi(jnp.asarray(mean, jnp.float32), jnp.asarray(deviation, jnp.float32), boxes)))
        assert abs(found - gains.mean()) < 4 * error


def test_far_below_the_front_there_is_a_gradient_towards_it():
    boxes = boxes_of(FRONT)
    for deviation in (1e-3, 0.1):
        mean = jnp.asarray([-3.0, -2.0], jnp.float32)
        value, gradient = jax.value_and_grad(log_ehvi)(mean, jnp.full(2, deviation, jnp.float32), boxes)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        if deviation == 0.1:
            assert (np.asarray(gradient) > 0).all()
    value, gradient = jax.value_and_grad(log_improvement)(jnp.asarray([-3.0, -2.0], jnp.float32), boxes, 1e-2)
    assert -60 < value < -10 and (np.asarray(gradient) > 0).all()


def test_the_smoothed_improvement_does_not_depend_on_how_the_region_is_cut():
    """A dominated or a duplicate point changes boxes, not the region; and it is the integral it is said to be."""
    for y in ([1.2, 0.4], [-1.0, 0.5]):
        y = jnp.asarray(y, jnp.float32)
        once = float(log_improvement(y, boxes_of(FRONT), 0.05))
        again = float(log_improvement(y, boxes_of(np.vstack([FRONT, FRONT[:1], [[0.5, 0.5]]])), 0.05))
        assert once == pytest.approx(again, abs=1e-3)

    def slope(x, tau=0.3):
        return 1 / (1 + np.exp(-x / tau)) - 0.2 * (x / tau) / (1 + (x / tau) ** 2) ** 2

    y = (0.5, 0.7)
    region = [(0, 1, 2), (1, 2, 1), (2, 60, 0)]
    total = sum(
        dblquad(lambda b, a: slope(y[0] - a) * slope(y[1] - b), low, high, floor, 60)[0] for low, high, floor in region
    )
    assert float(log_improvement(jnp.asarray(y, jnp.float32), boxes_of(FRONT), 0.3)) == pytest.approx(
        np.log(total), abs=5e-3
    )


# Acquisitions over a fitted process.


def process(noise=1e-4):
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.uniform(-2, 2, (8, 2)), jnp.float32)
    targets = jnp.asarray(np.stack([np.sin(inputs[:, 0]), np.cos(inputs[:, 1])], axis=1), jnp.float32)
    parameters = gp.initial_parameters(2, 2, 0.7, noise)
    parameters = parameters._replace(partial=jnp.asarray([0.8], jnp.float32))
    return (
        jax.jit(gp.condition_on, static_argnums=4)(parameters, inputs, targets, jnp.ones(8, bool), 1e-4),
        inputs,
        targets,
    )


def log_a(posterior, inputs, targets, points, kind, num_samples, smoothing=1e-3):
    return np.asarray(_log_a(posterior, inputs, targets, points, kind, num_samples, smoothing))


@jax.jit(static_argnames=("kind", "num_samples", "smoothing"))
def _log_a(posterior, inputs, targets, points, kind, num_samples, smoothing):
    reference = jnp.full(2, -1.5, jnp.float32)
    acquired = acq.acquisition(
        jax.random.key(0), posterior, inputs, targets, jnp.ones(8, bool), reference, kind, num_samples
    )
    return acq.log_acquisition(acquired, points, kind, smoothing)


POINTS = jnp.asarray([[0.3, 0.2], [1.5, 0.1], [-1.0, 1.0]], jnp.float32)


def test_samples_of_the_improvement_have_the_exact_mean_under_correlated_tasks():
    posterior, inputs, targets = process()
    found = np.exp(log_a(posterior, inputs, targets, POINTS, "qehvi", 4096))
    mean, covariance = map(np.asarray, jax.jit(gp.predict)(posterior, POINTS))
    rng = np.random.default_rng(1)
    boxes = boxes_of(targets, jnp.full(2, -1.5, jnp.float32))
    for value, centre, spread in zip(found, mean, covariance):
        gains = improvement(jnp.asarray(rng.multivariate_normal(centre, spread, 20_000), jnp.float32), boxes)
        assert value == pytest.approx(float(gains.mean()), rel=0.1, abs=2e-3)


def test_the_uncertain_front_changes_little_where_observations_have_no_noise():
    posterior, inputs, targets = process()
    known = np.exp(log_a(posterior, inputs, targets, POINTS, "qehvi", 2048))
    noisy = np.exp(log_a(posterior, inputs, targets, POINTS, "nehvi", 2048))
    np.testing.assert_allclose(noisy, known, rtol=0.15, atol=0.01)


def test_an_observed_point_adds_nothing_once_the_front_itself_is_uncertain():
    posterior, inputs, targets = process(noise=0.5)
    best = int(np.argmax(np.asarray(targets).sum(axis=1)))
    own = np.exp(log_a(posterior, inputs, targets, inputs[best][None], "nehvi", 256))
    naive = np.exp(log_a(posterior, inputs, targets, inputs[best][None], "qehvi", 256))
    assert own[0] < 0.2 * naive[0]


def test_expected_improvement_of_a_preference_is_that_of_the_weighted_sum():
    posterior, _, targets = process()
    preference = jnp.asarray([[0.3, 0.7], [1.0, 0.0], [0.5, 0.5]], jnp.float32)
    found = np.exp(acq.log_expected_improvement(posterior, POINTS, preference, targets, jnp.ones(8, bool)))
    mean, covariance = map(np.asarray, jax.jit(gp.predict)(posterior, POINTS))
    for row, w in enumerate(np.asarray(preference)):
        sigma, best = np.sqrt(w @ covariance[row] @ w), np.max(np.asarray(targets) @ w)
        z = (w @ mean[row] - best) / sigma
        assert found[row] == pytest.approx(sigma * (norm.pdf(z) + z * norm.cdf(z)), rel=1e-3)


def test_a_batch_spreads_and_never_takes_what_it_may_not():
    posterior, inputs, targets = process()
    twins = jnp.repeat(POINTS, 4, axis=0)  # four copies of each of three candidates
    allowed = jnp.arange(12) != 0
    chosen = np.asarray(
        jax.jit(acq.greedy_batch, static_argnames=("number", "num_samples", "noisy", "smoothing"))(
            jax.random.key(3), posterior, inputs, targets, jnp.ones(8, bool), twins, allowed,
            jnp.full(2, -1.5, jnp.float32), number=5, num_samples=256, noisy=False, smoothing=1e-3,
        )
    )  # fmt: skip
    assert len(set(chosen.tolist())) == 5 and 0 not in chosen
    single = np.exp(log_a(posterior, inputs, targets, POINTS, "qehvi", 2048))
    assert chosen[0] // 4 == int(np.argmax(single))
    # A copy of what was chosen adds nothing, so that the next is another candidate.
    assert chosen[1] // 4 != chosen[0] // 4
