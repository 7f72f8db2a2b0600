"""Action distributions: batched records of parameters. Every method maps over the leading axes."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


class Categorical(NamedTuple):
    """Actions 0 … A−1 with probability softmax(logits). A logit of −inf forbids an action (not all of them)."""

    logits: Float[Array, "*batch A"]

    def sample(self, key: Key[Array, ""]) -> Int[Array, "*batch"]:
        return jax.random.categorical(key, self.logits, axis=-1)

    def log_prob(self, action: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        """log π(action), by comparison with every action: cheaper than a gather, and so is its gradient."""
        chosen = action[..., None] == jnp.arange(self.logits.shape[-1], dtype=action.dtype)
        log_probs = jax.nn.log_softmax(self.logits, axis=-1)
        return jnp.sum(jnp.where(chosen, log_probs, 0.0), axis=-1)

    def entropy(self) -> Float[Array, "*batch"]:
        """H = −Σ p log p in nats; a forbidden action contributes 0."""
        log_probs = jax.nn.log_softmax(self.logits, axis=-1)
        # The inner `where` keeps −inf out of the product, whose gradient would be NaN.
        finite = jnp.isfinite(log_probs)
        log_probs = jnp.where(finite, log_probs, 0.0)
        return -jnp.sum(jnp.where(finite, jnp.exp(log_probs) * log_probs, 0.0), axis=-1)

    def mode(self) -> Int[Array, "*batch"]:
        """The most probable action, the first of equals."""
        return jnp.argmax(self.logits, axis=-1)


class DiagonalNormal(NamedTuple):
    """Independent normals over the last axis; `log_std` broadcasts against `mean`. Actions are not squashed."""

    mean: Float[Array, "*batch D"]
    log_std: Float[Array, "*#batch D"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*batch D"]:
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, action: Float[Array, "*batch D"]) -> Float[Array, "*batch"]:
        """log π(action), summed over the D coordinates."""
        standard = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * jnp.square(standard) - self.log_std - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> Float[Array, "*batch"]:
        """H = Σ (log σ + ½ log 2πe) in nats."""
        log_std = jnp.broadcast_to(self.log_std, self.mean.shape)
        return jnp.sum(log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def mode(self) -> Float[Array, "*batch D"]:
        return self.mean


Distribution = Categorical | DiagonalNormal
