"""Long short-term memory over a batch, with a hand-written backward pass.

Two things make the unrolled cell fast. The input projection of all T steps is one product before the scan. And the
gradient of the recurrent matrix, Σₜ hₜ₋₁ᵀ dzₜ, is one product over all T·N rows after the backward scan, where plain
differentiation of a scan would read and write the whole matrix at every step.

References: Hochreiter & Schmidhuber (1997), Long Short-Term Memory.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from tutelage.nn.layers import orthogonal, stacked


class LSTMCarry(NamedTuple):
    """Cell state c and output h of N environments."""

    cell: Float[Array, "N H"]
    hidden: Float[Array, "N H"]


class LSTM(eqx.Module):
    """z = x W + h U + b; (i, f, g, o) = z; c' = σ(f) c + σ(i) tanh(g); h' = σ(o) tanh(c').

    The forget gate has no bias of its own (as in minimax and jaxued). Gates lie in the order i, f, g, o.
    """

    input_weight: Float[Array, "F 4H"]
    recurrent_weight: Float[Array, "H 4H"]
    bias: Float[Array, "4H"]

    @property
    def size(self) -> int:
        return self.recurrent_weight.shape[0]

    def initial_carry(self, num_envs: int) -> LSTMCarry:
        zeros = jnp.zeros((num_envs, self.size), self.bias.dtype)
        return LSTMCarry(zeros, zeros)

    def step(
        self, carry: LSTMCarry, x: Float[Array, "N F"], first: Bool[Array, "N"]
    ) -> tuple[LSTMCarry, Float[Array, "N H"]]:
        """One step; the carry is zeroed where `first`."""
        cell, hidden = _restart(carry, first)
        z = x @ self.input_weight + self.bias + hidden @ self.recurrent_weight
        carry, _ = _gates(z, cell)
        return carry, carry.hidden

    def unroll(
        self, carry: LSTMCarry, x: Float[Array, "T N F"], first: Bool[Array, "T N"]
    ) -> tuple[LSTMCarry, Float[Array, "T N H"]]:
        """T steps; the same numbers as T calls of `step`."""
        return _unroll(x @ self.input_weight + self.bias, self.recurrent_weight, carry, first)


def lstm(key: Key[Array, ""], size_in: int, hidden: int) -> LSTM:
    """Each gate's two matrices orthogonal, zero bias."""
    k_input, k_recurrent = jax.random.split(key)
    return LSTM(
        stacked(k_input, size_in, hidden, 4, orthogonal()),
        stacked(k_recurrent, hidden, hidden, 4, orthogonal()),
        jnp.zeros((4 * hidden,), jnp.float32),
    )


def _restart(carry: LSTMCarry, first: Bool[Array, "N"]) -> LSTMCarry:
    return LSTMCarry(*(jnp.where(first[:, None], 0.0, leaf) for leaf in carry))


def _gates(z: Array, cell: Array) -> tuple[LSTMCarry, tuple[Array, Array]]:
    """The new carry, and what the backward pass needs: the four gates side by side, and tanh(c')."""
    i, f, g, o = jnp.split(z, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    new_cell = f * cell + i * g
    squashed = jnp.tanh(new_cell)
    return LSTMCarry(new_cell, o * squashed), (jnp.concatenate([i, f, g, o], axis=-1), squashed)


@jax.custom_vjp
def _unroll(z_input: Array, recurrent_weight: Array, carry: LSTMCarry, first: Array) -> tuple[LSTMCarry, Array]:
    def step(carry: LSTMCarry, inputs: tuple[Array, Array]) -> tuple[LSTMCarry, Array]:
        z, restart = inputs
        cell, hidden = _restart(carry, restart)
        carry, _ = _gates(z + hidden @ recurrent_weight, cell)
        return carry, carry.hidden

    return jax.lax.scan(step, carry, (z_input, first))


def _unroll_forward(z_input: Array, recurrent_weight: Array, carry: LSTMCarry, first: Array):
    def step(carry: LSTMCarry, inputs: tuple[Array, Array]):
        z, restart = inputs
        cell, hidden = _restart(carry, restart)
        carry, (gates, squashed) = _gates(z + hidden @ recurrent_weight, cell)
        return carry, (carry.hidden, cell, gates, squashed)

    final, (hidden, cell, gates, squashed) = jax.lax.scan(step, carry, (z_input, first))
    return (final, hidden), (recurrent_weight, carry.hidden, first, hidden, cell, gates, squashed)


def _unroll_backward(residuals, cotangents):
    recurrent_weight, initial_hidden, first, hidden, cell, gates, squashed = residuals
    d_final, d_hidden = cotangents

    def step(d_carry: LSTMCarry, inputs):
        d_output, restart, cell, gates, squashed = inputs
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        d_h = d_carry.hidden + d_output
        d_c = d_carry.cell + d_h * o * (1 - squashed * squashed)
        d_z = jnp.concatenate(
            [
                d_c * g * i * (1 - i),
                d_c * cell * f * (1 - f),
                d_c * i * (1 - g * g),
                d_h * squashed * o * (1 - o),
            ],
            axis=-1,
        )
        return _restart(LSTMCarry(d_c * f, d_z @ recurrent_weight.T), restart), d_z

    d_carry, d_z = jax.lax.scan(step, d_final, (d_hidden, first, cell, gates, squashed), reverse=True)
    before = jnp.concatenate([initial_hidden[None], hidden[:-1]])
    before = jnp.where(first[..., None], 0.0, before)
    d_recurrent = jnp.einsum("tnh,tnz->hz", before, d_z)
    return d_z, d_recurrent, d_carry, None


_unroll.defvjp(_unroll_forward, _unroll_backward)
