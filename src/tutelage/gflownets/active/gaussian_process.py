"""Exact Gaussian-process regression of several correlated tasks, all observed at every point.

    f ~ GP(m, k ⊗ B),   y = f + ε,   ε_i ~ N(0, d_i)

k is Matérn 5/2 with one length scale per input (ARD) and unit variance; B = diag(s) R diag(s) is the covariance between
tasks, with the LKJ prior p(R) ∝ |R|^(η−1) on their correlation.

With W = diag(d)^(1/2) U and U the eigenvectors of diag(d)^(-1/2) B diag(d)^(-1/2), f = m + W g, where the g_j are
independent, each with covariance μ_j k and unit noise. So everything costs M Cholesky factorisations of n × n instead
of one of nM × nM: eigenvectors are needed of the small factor of the Kronecker product only. A point that is masked out
has a row of zeros in k and a residual of zero, and so changes nothing.

Everything here keeps the precision of its arguments. Noise may go down to `noise_floor` of a variance of 1, which
leaves float32 no digits for the factorisation, so that `surrogate` fits in float64 (inside `jax.enable_x64(True)`) and
only predicts in float32: there the inverse factors, whose norm is at most 1 in these coordinates, are plain products.

References: Bonilla, Chai & Williams (2007), Multi-task Gaussian process prediction; Rakitsch et al. (2013), It is all
in the noise; Lewandowski, Kurowicka & Joe (2009), Generating random correlation matrices.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Bool, Float, Key


class Parameters(NamedTuple):
    """The parameters of D inputs and M tasks, all unconstrained.

    Attributes:
        log_lengthscale: f [D].
        partial: arctanh of the canonical partial correlations of R, f [M(M−1)/2].
        log_scale: log s, f [M].
        log_noise: log(d − noise_floor), f [M].
        mean: m, f [M].
    """

    log_lengthscale: Float[Array, "D"]
    partial: Float[Array, "F"]
    log_scale: Float[Array, "M"]
    log_noise: Float[Array, "M"]
    mean: Float[Array, "M"]


class Posterior(NamedTuple):
    """What n observations say, in the coordinates g.

    Attributes:
        inputs: f [n, D], in units of the length scales.
        mask: which of them were observed.
        lengthscale: f [D].
        mean: m, f [M].
        mixing: W, f [M, M].
        variance: μ, f [M].
        weights: (μ_j K + I)^(-1) of the residuals, f [M, n].
        inverse_factor: the inverse of the Cholesky factor of μ_j K + I, f [M, n, n].
    """

    inputs: Float[Array, "n D"]
    mask: Bool[Array, "n"]
    lengthscale: Float[Array, "D"]
    mean: Float[Array, "M"]
    mixing: Float[Array, "M M"]
    variance: Float[Array, "M"]
    weights: Float[Array, "M n"]
    inverse_factor: Float[Array, "M n n"]


def initial_parameters(num_inputs: int, num_tasks: int, lengthscale: float, noise: float) -> Parameters:
    """Uncorrelated tasks of unit variance, float32."""
    return Parameters(
        log_lengthscale=jnp.full(num_inputs, math.log(lengthscale), jnp.float32),
        partial=jnp.zeros(num_tasks * (num_tasks - 1) // 2, jnp.float32),
        log_scale=jnp.zeros(num_tasks, jnp.float32),
        log_noise=jnp.full(num_tasks, math.log(noise), jnp.float32),
        mean=jnp.zeros(num_tasks, jnp.float32),
    )


@jax.custom_jvp
def matern52(squared: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """(1 + √5 r + 5/3 r²) exp(−√5 r) of r²; its derivative −5/6 (1 + √5 r) exp(−√5 r) is finite at 0."""
    scaled = jnp.sqrt(5.0 * squared)
    return (1.0 + scaled + scaled * scaled / 3.0) * jnp.exp(-scaled)


@matern52.defjvp
def _matern52_jvp(primals, tangents):
    (squared,), (tangent,) = primals, tangents
    scaled = jnp.sqrt(5.0 * squared)
    return matern52(squared), -5.0 / 6.0 * (1.0 + scaled) * jnp.exp(-scaled) * tangent


def kernel(first: Float[Array, "a D"], second: Float[Array, "b D"]) -> Float[Array, "a b"]:
    """k of inputs in units of their length scales."""
    return matern52(jnp.sum((first[:, None] - second[None]) ** 2, axis=-1))


def correlation_factor(partial: Float[Array, "F"], num_tasks: int) -> Float[Array, "M M"]:
    """The Cholesky factor of R: row i is spread over the sphere by its partial correlations tanh(partial)."""
    rows, canonical = [], jnp.tanh(partial)
    for row in range(num_tasks):
        left, entries = jnp.ones((), partial.dtype), []
        for column in range(row):
            value = canonical[row * (row - 1) // 2 + column]
            entries.append(value * jnp.sqrt(left))
            left = left * (1.0 - value * value)
        rows.append(jnp.stack([*entries, jnp.sqrt(left), *[jnp.zeros((), partial.dtype)] * (num_tasks - row - 1)]))
    return jnp.stack(rows)


def task_covariance(parameters: Parameters) -> Float[Array, "M M"]:
    """B."""
    scale = jnp.exp(parameters.log_scale)
    factor = scale[:, None] * correlation_factor(parameters.partial, scale.shape[0])
    return factor @ factor.T


def noise_variance(parameters: Parameters, noise_floor: float) -> Float[Array, "M"]:
    """d."""
    return noise_floor + jnp.exp(parameters.log_noise)


def log_prior(
    parameters: Parameters, lkj_eta: float, lengthscale_mean: float, lengthscale_sd: float
) -> Float[Array, ""]:
    """log of LKJ(η) on R and N(mean, sd²) on the length scales, up to a constant.

    Densities of R and of the length scales themselves, without the Jacobians of our coordinates: the maximum is the one
    of those quantities, as in the published surrogate.
    """
    diagonal = jnp.diagonal(correlation_factor(parameters.partial, parameters.log_scale.shape[0]))
    deviation = (jnp.exp(parameters.log_lengthscale) - lengthscale_mean) / lengthscale_sd
    return 2.0 * (lkj_eta - 1.0) * jnp.sum(jnp.log(diagonal)) - 0.5 * jnp.sum(deviation**2)


def log_marginal_likelihood(
    parameters: Parameters,
    inputs: Float[Array, "n D"],
    targets: Float[Array, "n M"],
    mask: Bool[Array, "n"],
    noise_floor: float,
) -> Float[Array, ""]:
    """log p(y) of the points in the mask."""
    noise = noise_variance(parameters, noise_floor)
    gram, task, residual = _whitened(parameters, inputs, targets, mask, noise)
    number = jnp.sum(mask).astype(gram.dtype)
    constant = jnp.sum(jnp.log(noise)) + noise.shape[0] * math.log(2.0 * math.pi)
    return _log_density(gram, task, residual) - 0.5 * number * constant


def condition_on(
    parameters: Parameters,
    inputs: Float[Array, "n D"],
    targets: Float[Array, "n M"],
    mask: Bool[Array, "n"],
    noise_floor: float,
) -> Posterior:
    """The posterior given the points in the mask."""
    noise = noise_variance(parameters, noise_floor)
    gram, task, residual = _whitened(parameters, inputs, targets, mask, noise)
    variance, vectors, factor, weights = _solved(gram, task, residual)
    identity = jnp.eye(gram.shape[0], dtype=gram.dtype)
    lengthscale = jnp.exp(parameters.log_lengthscale)
    return Posterior(
        inputs=inputs / lengthscale,
        mask=mask,
        lengthscale=lengthscale,
        mean=parameters.mean,
        mixing=jnp.sqrt(noise)[:, None] * vectors,
        variance=variance,
        weights=weights.T,
        inverse_factor=jax.vmap(lambda lower: solve_triangular(lower, identity, lower=True))(factor),
    )


class Latent(NamedTuple):
    """The independent g_j at q points: their means, and how they covary with other points.

    Attributes:
        inputs: in units of the length scales, f [q, D].
        mean: f [M, q].
        explained: μ_j times the inverse factor times k(inputs observed, points), f [M, n, q]: the covariance that the
            observations take away from two points is the product of their columns.
    """

    inputs: Float[Array, "q D"]
    mean: Float[Array, "M q"]
    explained: Float[Array, "M n q"]


def latent(posterior: Posterior, points: Float[Array, "q D"]) -> Latent:
    """g at the points, which are in the units of the encoder."""
    scaled = points / posterior.lengthscale
    cross = kernel(posterior.inputs, scaled) * posterior.mask[:, None]
    return Latent(
        inputs=scaled,
        mean=posterior.variance[:, None] * (posterior.weights @ cross),
        explained=posterior.variance[:, None, None] * (posterior.inverse_factor @ cross),
    )


def latent_variance(posterior: Posterior, at: Latent) -> Float[Array, "M q"]:
    """Var g_j at each point, at least a millionth of its prior variance."""
    prior = posterior.variance[:, None]
    return jnp.maximum(prior - jnp.sum(at.explained**2, axis=1), 1e-6 * prior)


def latent_covariance(posterior: Posterior, first: Latent, second: Latent) -> Float[Array, "M a b"]:
    """Cov(g_j(first), g_j(second))."""
    prior = posterior.variance[:, None, None] * kernel(first.inputs, second.inputs)
    return prior - jnp.einsum("jna,jnb->jab", first.explained, second.explained)


def predict(posterior: Posterior, points: Float[Array, "q D"]) -> tuple[Float[Array, "q M"], Float[Array, "q M M"]]:
    """Mean of f at each point, and its covariance between tasks."""
    at = latent(posterior, points)
    variance = latent_variance(posterior, at)
    mixing = posterior.mixing
    return posterior.mean + at.mean.T @ mixing.T, jnp.einsum("aj,jq,bj->qab", mixing, variance, mixing)


def predict_jointly(
    posterior: Posterior, points: Float[Array, "q D"]
) -> tuple[Float[Array, "q M"], Float[Array, "q M q M"]]:
    """Mean of f, and its covariance between all points and tasks."""
    at = latent(posterior, points)
    covariance = latent_covariance(posterior, at, at)
    mixing = posterior.mixing
    return posterior.mean + at.mean.T @ mixing.T, jnp.einsum("aj,jpq,bj->paqb", mixing, covariance, mixing)


def latent_factor(posterior: Posterior, at: Latent) -> Float[Array, "M q q"]:
    """The Cholesky factor of each g_j's covariance between the points, which may coincide."""
    covariance = latent_covariance(posterior, at, at)
    # Points that are observed have hardly any variance left: the jitter is far below the noise's own variance of 1
    # where the prior's is at most 10^4, and float32 needs that much.
    jitter = 1e-8 if covariance.dtype == jnp.float64 else 1e-5
    identity = jnp.eye(covariance.shape[-1], dtype=covariance.dtype)
    return jnp.linalg.cholesky(covariance + jitter * posterior.variance[:, None, None] * identity)


def draw(
    posterior: Posterior, key: Key[Array, ""], points: Float[Array, "q D"], number: int
) -> Float[Array, "number q M"]:
    """Joint draws of f at the points."""
    at = latent(posterior, points)
    factor = latent_factor(posterior, at)
    normal = jax.random.normal(key, (number, *at.mean.shape), factor.dtype)
    g = at.mean + jnp.einsum("jpq,sjq->sjp", factor, normal)
    return posterior.mean + jnp.einsum("sjp,aj->spa", g, posterior.mixing)


def _whitened(
    parameters: Parameters,
    inputs: Float[Array, "n D"],
    targets: Float[Array, "n M"],
    mask: Bool[Array, "n"],
    noise: Float[Array, "M"],
) -> tuple[Float[Array, "n n"], Float[Array, "M M"], Float[Array, "n M"]]:
    """K, and B and the residuals in units of the noise."""
    scaled = inputs / jnp.exp(parameters.log_lengthscale)
    gram = kernel(scaled, scaled) * (mask[:, None] & mask[None, :])
    task = task_covariance(parameters) / jnp.sqrt(noise[:, None] * noise[None, :])
    return gram, task, jnp.where(mask[:, None], (targets - parameters.mean) / jnp.sqrt(noise), 0.0)


def _solved(
    gram: Float[Array, "n n"], task: Float[Array, "M M"], residual: Float[Array, "n M"]
) -> tuple[Float[Array, "M"], Float[Array, "M M"], Float[Array, "M n n"], Float[Array, "n M"]]:
    """μ, U, the factors of μ_j K + I, and (μ_j K + I)^(-1) of column j of the rotated residuals."""
    variance, vectors = jnp.linalg.eigh(task)
    variance = jnp.maximum(variance, 0.0)
    identity = jnp.eye(gram.shape[0], dtype=gram.dtype)
    factor = jnp.linalg.cholesky(variance[:, None, None] * gram + identity)
    weights = jax.vmap(lambda lower, column: cho_solve((lower, True), column), (0, 1), 1)(factor, residual @ vectors)
    return variance, vectors, factor, weights


@jax.custom_vjp
def _log_density(
    gram: Float[Array, "n n"], task: Float[Array, "M M"], residual: Float[Array, "n M"]
) -> Float[Array, ""]:
    """log N(residual; 0, K ⊗ B + I) without its 2π."""
    return _log_density_forward(gram, task, residual)[0]


# By hand, because the derivative of eigenvectors is infinite where eigenvalues meet, as they do for equal tasks.
def _log_density_forward(gram, task, residual):
    variance, vectors, factor, weights = _solved(gram, task, residual)
    log_determinant = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)))
    value = -0.5 * jnp.sum((residual @ vectors) * weights) - 0.5 * log_determinant
    return value, (gram, task, variance, vectors, factor, weights)


def _log_density_backward(saved, cotangent):
    gram, task, variance, vectors, factor, weights = saved
    identity = jnp.eye(gram.shape[0], dtype=gram.dtype)
    inverse = jax.vmap(lambda lower: cho_solve((lower, True), identity))(factor)
    solution = weights @ vectors.T
    of_gram = solution @ task @ solution.T - jnp.einsum("j,jnm->nm", variance, inverse)
    traces = jnp.einsum("nm,jnm->j", gram, inverse)
    of_task = solution.T @ gram @ solution - (vectors * traces) @ vectors.T
    return 0.5 * cotangent * of_gram, 0.5 * cotangent * of_task, -cotangent * solution


_log_density.defvjp(_log_density_forward, _log_density_backward)
