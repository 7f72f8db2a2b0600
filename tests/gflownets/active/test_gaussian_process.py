from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tutelage.gflownets.active import gaussian_process as gp

N, D, M, Q = 7, 3, 3, 4
FLOOR = 1e-4


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        parameters = gp.Parameters(
            jnp.asarray(rng.normal(size=D) * 0.3),
            jnp.asarray(rng.normal(size=M * (M - 1) // 2)),
            jnp.asarray(rng.normal(size=M) * 0.3),
            jnp.asarray(rng.normal(size=M) - 1.0),
            jnp.asarray(rng.normal(size=M)),
        )
    inputs, targets, points = rng.normal(size=(N, D)), rng.normal(size=(N, M)), rng.normal(size=(Q, D))
    return parameters, inputs, targets, points, np.array([1, 1, 0, 1, 1, 0, 1], bool)


def literal_kernel(a, b, lengthscale):
    out = np.zeros((len(a), len(b)))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            r = np.sqrt(np.sum(((x - y) / lengthscale) ** 2))
            out[i, j] = (1 + np.sqrt(5) * r + 5 * r * r / 3) * np.exp(-np.sqrt(5) * r)
    return out


def literal_correlation(partial):
    """Each partial correlation undone in turn (Lewandowski, Kurowicka & Joe 2009, for M = 3)."""
    p12, p13, p23_1 = np.tanh(partial)
    r23 = p23_1 * np.sqrt((1 - p12**2) * (1 - p13**2)) + p12 * p13
    return np.array([[1, p12, p13], [p12, 1, r23], [p13, r23, 1]])


def literal(problem):
    """The dense (nM)² algebra: log p(y), mean and covariance of f at the points."""
    parameters, inputs, targets, points, mask = problem
    x, y = inputs[mask], targets[mask]
    lengthscale, scale = np.exp(parameters.log_lengthscale), np.exp(parameters.log_scale)
    task = np.diag(scale) @ literal_correlation(np.asarray(parameters.partial)) @ np.diag(scale)
    noise = FLOOR + np.exp(parameters.log_noise)
    covariance = np.kron(literal_kernel(x, x, lengthscale), task) + np.kron(np.eye(len(x)), np.diag(noise))
    residual = (y - np.asarray(parameters.mean)).ravel()
    log_p = -0.5 * (
        residual @ np.linalg.solve(covariance, residual)
        + np.linalg.slogdet(covariance)[1]
        + residual.size * np.log(2 * np.pi)
    )
    cross = np.kron(literal_kernel(points, x, lengthscale), task)
    mean = np.tile(parameters.mean, Q) + cross @ np.linalg.solve(covariance, residual)
    joint = np.kron(literal_kernel(points, points, lengthscale), task) - cross @ np.linalg.solve(covariance, cross.T)
    return log_p, mean.reshape(Q, M), joint.reshape(Q, M, Q, M)


def test_marginal_likelihood_is_that_of_the_dense_covariance(problem):
    parameters, inputs, targets, _, mask = problem
    found = gp.log_marginal_likelihood(parameters, *map(jnp.asarray, (inputs, targets, mask)), FLOOR)
    assert abs(float(found) - literal(problem)[0]) < 1e-8


def test_predictions_are_those_of_the_dense_covariance(problem):
    parameters, inputs, targets, points, mask = problem
    posterior = gp.condition_on(parameters, *map(jnp.asarray, (inputs, targets, mask)), FLOOR)
    mean, covariance = gp.predict(posterior, jnp.asarray(points))
    joint_mean, joint = gp.predict_jointly(posterior, jnp.asarray(points))
    _, expected_mean, expected = literal(problem)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-8)
    np.testing.assert_allclose(joint_mean, expected_mean, atol=1e-8)
    np.testing.assert_allclose(joint, expected, atol=1e-8)
    np.testing.assert_allclose(covariance, np.einsum("qaqb->qab", expected), atol=1e-8)


def test_draws_have_the_joint_law_of_the_predictions(problem):
    parameters, inputs, targets, points, mask = problem
    posterior = gp.condition_on(parameters, *map(jnp.asarray, (inputs, targets, mask)), FLOOR)
    draws = np.asarray(gp.draw(posterior, jax.random.key(0), jnp.asarray(points), 20_000)).reshape(-1, Q * M)
    _, mean, joint = literal(problem)
    np.testing.assert_allclose(draws.mean(0), mean.ravel(), atol=0.05)
    np.testing.assert_allclose(np.cov(draws.T), joint.reshape(Q * M, Q * M), atol=0.06)


@pytest.mark.parametrize("equal_tasks", [False, True])
def test_gradients_of_the_marginal_likelihood_are_finite_differences(problem, equal_tasks):
    parameters, inputs, targets, _, mask = problem
    if equal_tasks:  # eigenvalues of the task covariance coincide
        zeros = jnp.zeros(M)
        parameters = parameters._replace(partial=zeros, log_scale=zeros, log_noise=zeros)
    inputs = inputs.copy()
    inputs[1] = inputs[0]  # a distance of zero

    @jax.jit
    def value(flat):
        return gp.log_marginal_likelihood(unravel(flat), *map(jnp.asarray, (inputs, targets, mask)), FLOOR)

    flat, unravel = ravel_pytree(parameters)
    steps = 1e-5 * jnp.eye(flat.size)
    difference = jax.vmap(lambda step: (value(flat + step) - value(flat - step)) / 2e-5)(steps)
    np.testing.assert_allclose(jax.grad(value)(flat), difference, atol=1e-6)


def test_gradient_with_respect_to_inputs_reaches_the_encoder(problem):
    parameters, inputs, targets, _, mask = problem

    def value(x):
        return gp.log_marginal_likelihood(parameters, x, jnp.asarray(targets), jnp.asarray(mask), FLOOR)

    x = jnp.asarray(inputs)
    gradient = np.asarray(jax.grad(value)(x))
    step = jnp.zeros_like(x).at[3, 1].set(1e-5)
    assert gradient[3, 1] == pytest.approx(float(value(x + step) - value(x - step)) / 2e-5, abs=1e-6)
    assert (gradient[~mask] == 0).all()


def test_log_prior_prefers_uncorrelated_tasks_and_the_length_scale_it_was_given():
    free = gp.initial_parameters(D, M, 0.7, 0.25)
    tied = free._replace(partial=jnp.full(M * (M - 1) // 2, 1.0, jnp.float32))
    gain = float(gp.log_prior(free, 2.0, 0.7, 0.01) - gp.log_prior(tied, 2.0, 0.7, 0.01))
    assert gain == pytest.approx(-np.linalg.slogdet(literal_correlation(np.ones(3)))[1], abs=1e-5)
    assert gp.log_prior(free, 2.0, 0.7, 0.01) > gp.log_prior(free, 2.0, 0.9, 0.01)


def test_single_precision_predicts_at_the_noise_floor(problem):
    """Observations almost without noise: float32 prediction of a float64 fit keeps the means to 1e-3."""
    parameters, inputs, targets, points, mask = problem
    parameters = parameters._replace(log_noise=jnp.full(M, -20.0))
    posterior = gp.condition_on(parameters, *map(jnp.asarray, (inputs, targets, mask)), FLOOR)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, posterior)
    mean, covariance = gp.predict(posterior, jnp.asarray(points))
    mean_single, covariance_single = gp.predict(single, jnp.asarray(points, jnp.float32))
    assert mean_single.dtype == jnp.float32
    np.testing.assert_allclose(mean_single, mean, atol=1e-3)
    np.testing.assert_allclose(covariance_single, covariance, atol=1e-3)
