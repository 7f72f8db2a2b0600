"""Gated recurrent unit over a batch, with the same hand-written backward pass as the LSTM (`tutelage.nn.lstm`).

References: Cho et al. (2014), arXiv 1406.1078; the reset gate acts after the recurrent product, as in cuDNN.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from tutelage.nn.layers import orthogonal, stacked


class GRU(eqx.Module):
    """r, u = σ(x W + h U + b); n = tanh(x Wₙ + bₙ + r (h Uₙ + cₙ)); h' = (1 − u) n + u h. Order r, u, n."""

    input_weight: Float[Array, "F H3"]
    recurrent_weight: Float[Array, "H H3"]
    bias: Float[Array, "H3"]
    candidate_bias: Float[Array, "H"]

    @property
    def size(self) -> int:
        return self.recurrent_weight.shape[0]

    def initial_carry(self, num_envs: int) -> Float[Array, "N H"]:
        return jnp.zeros((num_envs, self.size), self.bias.dtype)

    def step(
        self, carry: Float[Array, "N H"], x: Float[Array, "N F"], first: Bool[Array, "N"]
    ) -> tuple[Float[Array, "N H"], Float[Array, "N H"]]:
        """One step; the carry is zeroed where `first`."""
        before = _restart(carry, first)
        z_input = x @ self.input_weight + self.bias
        carry, _ = _gates(z_input, before @ self.recurrent_weight, self.candidate_bias, before)
        return carry, carry

    def unroll(
        self, carry: Float[Array, "N H"], x: Float[Array, "T N F"], first: Bool[Array, "T N"]
    ) -> tuple[Float[Array, "N H"], Float[Array, "T N H"]]:
        """T steps; the same numbers as T calls of `step`."""
        weights = _Weights(self.input_weight, self.bias, self.recurrent_weight, self.candidate_bias)
        return _unroll(x, weights, carry, first)


def gru(key: Key[Array, ""], size_in: int, hidden: int) -> GRU:
    """Each gate's two matrices orthogonal, zero biases."""
    k_input, k_recurrent = jax.random.split(key)
    return GRU(
        stacked(k_input, size_in, hidden, 3, orthogonal()),
        stacked(k_recurrent, hidden, hidden, 3, orthogonal()),
        jnp.zeros((3 * hidden,), jnp.float32),
        jnp.zeros((hidden,), jnp.float32),
    )


def _restart(hidden: Array, first: Array) -> Array:
    return jnp.where(first[:, None], 0.0, hidden)


class _Weights(NamedTuple):
    input: Array
    bias: Array
    recurrent: Array
    candidate_bias: Array


def _gates(z_input: Array, z_hidden: Array, candidate_bias: Array, before: Array) -> tuple[Array, Array]:
    """h', and what the backward pass needs: r, u, n and the candidate's recurrent term m, side by side."""
    size = before.shape[-1]
    # σ(z) = ½ + ½ tanh(z / 2): one tanh for both gates.
    gates = 0.5 + 0.5 * jnp.tanh(0.5 * (z_input[..., : 2 * size] + z_hidden[..., : 2 * size]))
    r, u = gates[..., :size], gates[..., size:]
    m = z_hidden[..., 2 * size :] + candidate_bias
    n = jnp.tanh(z_input[..., 2 * size :] + r * m)
    return n + u * (before - n), jnp.concatenate([r, u, n, m], axis=-1)


def _unrolled(x: Array, weights: _Weights, carry: Array, first: Array):
    """The final carry, and for every step the output and its gates."""

    def step(hidden: Array, inputs: tuple[Array, Array]):
        z, restart = inputs
        before = _restart(hidden, restart)
        hidden, gates = _gates(z + weights.bias, before @ weights.recurrent, weights.candidate_bias, before)
        return hidden, (hidden, gates)

    return jax.lax.scan(step, carry, (x @ weights.input, first))


@jax.custom_vjp
def _unroll(x: Array, weights: _Weights, carry: Array, first: Array) -> tuple[Array, Array]:
    final, (hidden, _) = _unrolled(x, weights, carry, first)
    return final, hidden


def _unroll_forward(x: Array, weights: _Weights, carry: Array, first: Array):
    final, (hidden, gates) = _unrolled(x, weights, carry, first)
    before = jnp.where(first[..., None], 0.0, jnp.concatenate([carry[None], hidden[:-1]]))
    return (final, hidden), (x, weights, first, before, gates)


def _unroll_backward(residuals, cotangents):
    x, weights, first, before, gates = residuals
    d_final, d_hidden = cotangents
    size = before.shape[-1]

    def step(d_carry: Array, inputs):
        d_output, restart, before, gates = inputs
        r, u, n, m = jnp.split(gates, 4, axis=-1)
        d_h = d_carry + d_output
        d_n = d_h * (1 - u) * (1 - n * n)
        d_r = d_n * m * r * (1 - r)
        d_u = d_h * (before - n) * u * (1 - u)
        d_z_hidden = jnp.concatenate([d_r, d_u, d_n * r], axis=-1)
        d_z_input = jnp.concatenate([d_r, d_u, d_n], axis=-1)
        return _restart(d_h * u + d_z_hidden @ weights.recurrent.T, restart), (d_z_input, d_z_hidden)

    d_carry, d_z = jax.lax.scan(step, d_final, (d_hidden, first, before, gates), reverse=True)
    # Flat rows on purpose: contracting over T and N at once makes XLA transpose and copy both operands. A column of
    # ones gives the bias's gradient in the same product.
    d_z_input, d_z_hidden = (leaf.reshape(-1, 3 * size) for leaf in d_z)
    ones = jnp.ones_like(before[..., :1])
    d_input = jnp.concatenate([x, ones], axis=-1).reshape(-1, x.shape[-1] + 1).T @ d_z_input
    d_recurrent = jnp.concatenate([before, ones], axis=-1).reshape(-1, size + 1).T @ d_z_hidden
    d_weights = _Weights(d_input[:-1], d_input[-1], d_recurrent[:-1], d_recurrent[-1, 2 * size :])
    return (d_z_input @ weights.input.T).reshape(x.shape), d_weights, d_carry, None


_unroll.defvjp(_unroll_forward, _unroll_backward)
