"""Long short-term memory over a batch, with a hand-written backward pass.

Where the time goes in training is known exactly, so it is spent on purpose:
- the input projection of all T steps is one product before the scan (the bias is added inside, while the row is hot);
- the four gates are one tanh over [N, 4H], as σ(z) = ½ + ½ tanh(z / 2);
- the gradient of both matrices and the bias, Σₜ [xₜ, hₜ₋₁, 1]ᵀ dzₜ, is one product over all T·N rows after the backward
  scan, where plain differentiation of a scan reads and writes the whole matrices at every step.

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

    input_weight: Float[Array, "F H4"]
    recurrent_weight: Float[Array, "H H4"]
    bias: Float[Array, "H4"]

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
        carry, _ = _gates(x @ self.input_weight + hidden @ self.recurrent_weight + self.bias, cell)
        return carry, carry.hidden

    def unroll(
        self, carry: LSTMCarry, x: Float[Array, "T N F"], first: Bool[Array, "T N"]
    ) -> tuple[LSTMCarry, Float[Array, "T N H"]]:
        """T steps; the same numbers as T calls of `step`."""
        return _unroll(x, self.input_weight, self.recurrent_weight, self.bias, carry, first)


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


def _gates(z: Array, cell: Array) -> tuple[LSTMCarry, Array]:
    """The new carry, and the activated gates side by side for the backward pass."""
    z = z.reshape(*z.shape[:-1], 4, -1)
    # Columns i, f, o are σ(z) = ½ + ½ tanh(z / 2); column g is tanh(z).
    scale = jnp.asarray([0.5, 0.5, 1.0, 0.5], z.dtype)[:, None]
    gates = jnp.tanh(z * scale) * scale + (1 - scale)
    i, f, g, o = (gates[..., k, :] for k in range(4))
    cell = f * cell + i * g
    return LSTMCarry(cell, o * jnp.tanh(cell)), gates.reshape(*cell.shape[:-1], -1)


def _unrolled(x: Array, input_weight: Array, recurrent_weight: Array, bias: Array, carry: LSTMCarry, first: Array):
    """The final carry, and for every step the output h, the cell state before it and its gates."""

    def step(carry: LSTMCarry, inputs: tuple[Array, Array]):
        z, restart = inputs
        cell, hidden = _restart(carry, restart)
        carry, gates = _gates(z + hidden @ recurrent_weight + bias, cell)
        return carry, (carry.hidden, cell, gates)

    return jax.lax.scan(step, carry, (x @ input_weight, first))


@jax.custom_vjp
def _unroll(
    x: Array, input_weight: Array, recurrent_weight: Array, bias: Array, carry: LSTMCarry, first: Array
) -> tuple[LSTMCarry, Array]:
    final, (hidden, _, _) = _unrolled(x, input_weight, recurrent_weight, bias, carry, first)
    return final, hidden


def _unroll_forward(
    x: Array, input_weight: Array, recurrent_weight: Array, bias: Array, carry: LSTMCarry, first: Array
):
    final, (hidden, cell, gates) = _unrolled(x, input_weight, recurrent_weight, bias, carry, first)
    before = jnp.where(first[..., None], 0.0, jnp.concatenate([carry.hidden[None], hidden[:-1]]))
    return (final, hidden), (x, input_weight, recurrent_weight, first, before, cell, gates)


def _unroll_backward(residuals, cotangents):
    x, input_weight, recurrent_weight, first, before, cell, gates = residuals
    d_final, d_hidden = cotangents

    def step(d_carry: LSTMCarry, inputs):
        d_output, restart, cell, gates = inputs
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        squashed = jnp.tanh(f * cell + i * g)
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

    d_carry, d_z = jax.lax.scan(step, d_final, (d_hidden, first, cell, gates), reverse=True)
    # Flat rows on purpose: contracting over T and N at once makes XLA transpose and copy both operands.
    d_z = d_z.reshape(-1, d_z.shape[-1])
    rows = jnp.concatenate([x, before, jnp.ones_like(before[..., :1])], axis=-1)
    d_weights = rows.reshape(-1, rows.shape[-1]).T @ d_z
    size_in = x.shape[-1]
    d_x = (d_z @ input_weight.T).reshape(x.shape)
    return d_x, d_weights[:size_in], d_weights[size_in:-1], d_weights[-1], d_carry, None


_unroll.defvjp(_unroll_forward, _unroll_backward)
