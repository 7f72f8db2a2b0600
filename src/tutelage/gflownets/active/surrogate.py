"""What evaluated sequences say about others: a Gaussian process on the latent of a masked-language-model encoder.

Encoder and process are fitted together, to −log p(y, parameters)/n + the cross-entropy of masked letters, by full-batch
Adam, until the likelihood of held-out sequences has stopped rising; then the process is conditioned on all of them.
Rewards are maximised everywhere in this package, so that they are z-scored and their sign stays (the published code
minimises, and negates them here).

One compiled program for all rounds: arrays have room for every sequence there will be, and a count says how many there
are. It runs with 64-bit types switched on, for the process's sake; the encoder stays in float32.

Reference: Stanton et al. (2022), Accelerating Bayesian optimization for biological sequence design with denoising
autoencoders, arXiv 2203.12742.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from tutelage.gflownets.active import gaussian_process as gp
from tutelage.gflownets.active.config import SurrogateConfig
from tutelage.gflownets.active.sequence_encoder import SequenceEncoder, sequence_encoder


class Surrogate(NamedTuple):
    """The parameters, all float32."""

    encoder: SequenceEncoder
    process: gp.Parameters


class Scaling(NamedTuple):
    """z = (reward − mean) / deviation; an objective that does not vary has a deviation of 1."""

    mean: Float[Array, "M"]
    deviation: Float[Array, "M"]

    def __call__(self, rewards: Float[Array, "*b M"]) -> Float[Array, "*b M"]:
        return (rewards - self.mean) / self.deviation


class Fitted(NamedTuple):
    """What a fit leaves.

    Attributes:
        surrogate: the parameters with the best held-out likelihood.
        posterior: of z-scored rewards over the encoder's latent, given all sequences, float32.
        scaling: the z-score.
        held_out: mean log-likelihood of a held-out sequence's z-scored rewards.
        steps: how many there were.
    """

    surrogate: Surrogate
    posterior: gp.Posterior
    scaling: Scaling
    held_out: Float[Array, ""]
    steps: Int[Array, ""]


Fit = Callable[[Surrogate, Int[Array, "N L"], Float[Array, "N M"], Int[Array, ""], Key[Array, ""]], Fitted]


def initial_surrogate(
    key: Key[Array, ""], num_letters: int, max_len: int, num_objectives: int, config: SurrogateConfig
) -> Surrogate:
    """Untrained."""
    encoder = sequence_encoder(key, num_letters, max_len, config.encoder)
    process = gp.initial_parameters(config.encoder.latent, num_objectives, config.lengthscale, config.noise)
    return Surrogate(encoder, process)


def compiled_fit(config: SurrogateConfig) -> Fit:
    """`(surrogate, tokens, rewards, count, key) -> Fitted`; of the N rows the first `count` are there."""
    fit = jax.jit(lambda *arguments: _fit(config, *arguments))

    def run(
        surrogate: Surrogate,
        tokens: Int[Array, "N L"],
        rewards: Float[Array, "N M"],
        count: Int[Array, ""],
        key: Key[Array, ""],
    ) -> Fitted:
        with jax.enable_x64(True):
            return fit(surrogate, tokens, rewards, count, key)

    return run


def z_score(rewards: Float[Array, "N M"], there: Bool[Array, "N"]) -> Scaling:
    """From the rows that are there."""
    number, rows = jnp.maximum(jnp.sum(there), 1), there[:, None]
    mean = jnp.sum(jnp.where(rows, rewards, 0.0), axis=0) / number
    variance = jnp.sum(jnp.where(rows, (rewards - mean) ** 2, 0.0), axis=0) / number
    return Scaling(mean, jnp.where(variance > 1e-12, jnp.sqrt(variance), 1.0))


def masked_letters(key: Key[Array, ""], tokens: Int[Array, "B L"], ratio: float) -> Bool[Array, "B L"]:
    """Each letter with probability `ratio`, and one of each sequence for certain."""
    draw = jax.random.uniform(key, tokens.shape, jnp.float32)
    draw = jnp.where(tokens >= 0, draw, 2.0)
    return (tokens >= 0) & ((draw < ratio) | (draw == draw.min(axis=1, keepdims=True)))


def masked_language_model_loss(
    encoder: SequenceEncoder, tokens: Int[Array, "B L"], masked: Bool[Array, "B L"]
) -> Float[Array, ""]:
    """Mean cross-entropy of the masked letters, given the others."""
    logits = encoder.logits(tokens, encoder.features(tokens, masked))
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(tokens, 0)[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(masked, log_p, 0.0)) / jnp.maximum(jnp.sum(masked), 1)


def _fit(
    config: SurrogateConfig,
    surrogate: Surrogate,
    tokens: Int[Array, "N L"],
    rewards: Float[Array, "N M"],
    count: Int[Array, ""],
    key: Key[Array, ""],
) -> Fitted:
    row = jnp.arange(tokens.shape[0])
    there = row < count
    # The same ones in every round, so that none is held out that an earlier round has learnt from.
    every = max(round(1 / config.holdout), 2)
    held = there & (row % every == every - 1)
    learnt = there & ~held
    scaling = z_score(rewards, there)
    targets = jnp.where(there[:, None], scaling(rewards), 0.0)
    number = jnp.sum(learnt)

    def inputs(encoder: SequenceEncoder) -> Float[Array, "N D"]:
        return encoder(tokens).astype(jnp.float64)

    def double(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)

    def loss(surrogate: Surrogate, step: Int[Array, ""]) -> Float[Array, ""]:
        process = double(surrogate.process)
        log_p = gp.log_marginal_likelihood(
            process, inputs(surrogate.encoder), double(targets), learnt, config.noise_floor
        )
        log_p += gp.log_prior(process, config.lkj_eta, config.lengthscale, config.lengthscale_sd)
        masked = masked_letters(jax.random.fold_in(key, step), tokens, config.encoder.mask_ratio) & learnt[:, None]
        return masked_language_model_loss(surrogate.encoder, tokens, masked) - log_p / number

    def held_out(surrogate: Surrogate) -> Float[Array, ""]:
        process, points = double(surrogate.process), inputs(surrogate.encoder)
        posterior = gp.condition_on(process, points, double(targets), learnt, config.noise_floor)
        mean, covariance = gp.predict(posterior, points)
        factor = jnp.linalg.cholesky(covariance + jnp.diag(gp.noise_variance(process, config.noise_floor)))
        residual = jax.scipy.linalg.solve_triangular(factor, (targets - mean)[..., None], lower=True)[..., 0]
        log_p = -0.5 * jnp.sum(residual**2, axis=1) - jnp.sum(jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)), axis=1)
        log_p = log_p - 0.5 * targets.shape[1] * jnp.log(2.0 * jnp.pi)
        return (jnp.sum(jnp.where(held, log_p, 0.0)) / jnp.maximum(jnp.sum(held), 1)).astype(jnp.float32)

    # One vector instead of many small arrays: a fraction of the operations to compile, and to run.
    first, shaped = ravel_pytree(surrogate)
    of_encoder = jax.tree.map(jnp.ones_like, surrogate.encoder), jax.tree.map(jnp.zeros_like, surrogate.process)
    decay = config.weight_decay * ravel_pytree(of_encoder)[0]
    adam = optax.scale_by_adam()

    def going(loop: tuple) -> Bool[Array, ""]:
        step, *_, best_step = loop
        return (step < config.steps) & (step - best_step < config.patience)

    def body(loop: tuple) -> tuple:
        step, flat, moments, best, score, best_step = loop
        found = held_out(shaped(flat))
        better = found > score
        best = jnp.where(better, flat, best)
        score, best_step = jnp.where(better, found, score), jnp.where(better, step, best_step)

        def one(carry: tuple, shift: Int[Array, ""]) -> tuple:
            flat, moments = carry
            gradient = jax.grad(lambda flat: loss(shaped(flat), step + shift))(flat)
            direction, moments = adam.update(gradient, moments)
            return (flat - config.learning_rate * (direction + decay * flat), moments), None

        (flat, moments), _ = jax.lax.scan(one, (flat, moments), jnp.arange(config.period, dtype=jnp.int32))
        return step + jnp.int32(config.period), flat, moments, best, score, best_step

    zero, lowest = jnp.zeros((), jnp.int32), jnp.full((), -jnp.inf, jnp.float32)
    loop = (zero, first, adam.init(first), first, lowest, zero)
    step, _, _, best, score, _ = jax.lax.while_loop(going, body, loop)
    best = shaped(best)
    posterior = gp.condition_on(double(best.process), inputs(best.encoder), double(targets), there, config.noise_floor)
    single = jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf.astype(jnp.float32), posterior)
    return Fitted(best, single, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), scaling), score, step)
