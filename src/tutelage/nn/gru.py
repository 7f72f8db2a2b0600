"""Gated recurrent unit over a batch, with the same hand-written backward pass as the LSTM (`tutelage.nn.lstm`).

References: Cho et al. (2014), arXiv 1406.1078; the reset gate acts after the recurrent product, as in cuDNN.
"""

from __future__ import annotations

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
        carry, _ = _gates(
            x @ self.input_weight + self.bias, self.recurrent_weight, self.candidate_bias, _restart(carry, first)
        )
        return carry, carry

    def unroll(
        self, carry: Float[Array, "N H"], x: Float[Array, "T N F"], first: Bool[Array, "T N"]
    ) -> tuple[Float[Array, "N H"], Float[Array, "T N H"]]:
        """T steps; the same numbers as T calls of `step`."""
        z = x @ self.input_weight + self.bias
        return _unroll(z, self.recurrent_weight, self.candidate_bias, carry, first)


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


def _gates(z_input: Array, recurrent_weight: Array, candidate_bias: Array, hidden: Array):
    """h', and what the backward pass needs: r, u, n and the candidate's recurrent term, side by side."""
    size = hidden.shape[-1]
    z_hidden = hidden @ recurrent_weight
    r, u = jnp.split(jax.nn.sigmoid(z_input[..., : 2 * size] + z_hidden[..., : 2 * size]), 2, axis=-1)
    memory = z_hidden[..., 2 * size :] + candidate_bias
    n = jnp.tanh(z_input[..., 2 * size :] + r * memory)
    return n + u * (hidden - n), jnp.concatenate([r, u, n, memory], axis=-1)


@jax.custom_vjp
def _unroll(
    z_input: Array, recurrent_weight: Array, candidate_bias: Array, carry: Array, first: Array
) -> tuple[Array, Array]:
    def step(hidden: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        z, restart = inputs
        hidden, _ = _gates(z, recurrent_weight, candidate_bias, _restart(hidden, restart))
        return hidden, hidden

    return jax.lax.scan(step, carry, (z_input, first))


def _unroll_forward(z_input: Array, recurrent_weight: Array, candidate_bias: Array, carry: Array, first: Array):
    def step(hidden: Array, inputs: tuple[Array, Array]):
        z, restart = inputs
        hidden, gates = _gates(z, recurrent_weight, candidate_bias, _restart(hidden, restart))
        return hidden, (hidden, gates)

    final, (hidden, gates) = jax.lax.scan(step, carry, (z_input, first))
    before = jnp.where(first[..., None], 0.0, jnp.concatenate([carry[None], hidden[:-1]]))
    return (final, hidden), (recurrent_weight, first, before, gates)


def _unroll_backward(residuals, cotangents):
    recurrent_weight, first, before, gates = residuals
    d_final, d_hidden = cotangents

    def step(d_carry: Array, inputs):
        d_output, restart, before, gates = inputs
        r, u, n, memory = jnp.split(gates, 4, axis=-1)
        d_h = d_carry + d_output
        d_n = d_h * (1 - u) * (1 - n * n)
        d_r = d_n * memory * r * (1 - r)
        d_u = d_h * (before - n) * u * (1 - u)
        d_z_hidden = jnp.concatenate([d_r, d_u, d_n * r], axis=-1)
        d_before = d_h * u + d_z_hidden @ recurrent_weight.T
        return _restart(d_before, restart), (d_z_hidden, d_n)

    d_carry, (d_z_hidden, d_n) = jax.lax.scan(step, d_final, (d_hidden, first, before, gates), reverse=True)
    size = before.shape[-1]
    # Flat rows on purpose: contracting over T and N at once makes XLA transpose and copy both operands.
    rows = jnp.concatenate([before, jnp.ones_like(before[..., :1])], axis=-1).reshape(-1, size + 1)
    d_weights = rows.T @ d_z_hidden.reshape(-1, 3 * size)
    d_z_input = jnp.concatenate([d_z_hidden[..., : 2 * size], d_n], axis=-1)
    return d_z_input, d_weights[:-1], d_weights[-1, 2 * size :], d_carry, None


_unroll.defvjp(_unroll_forward, _unroll_backward)
