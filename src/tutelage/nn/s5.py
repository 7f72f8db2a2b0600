"""S5: a stack of diagonal linear state-space layers, unrolled by a scan over time: parallel, except on a CPU.

Each layer is x' = Λ̄ x + B̄ u, y = 2 Re(C x) + D u with complex diagonal Λ̄ (half of each conjugate pair is kept),
followed by a half-gated linear unit, a skip connection and layer normalisation. The state is zeroed at `first` by
setting Λ̄ to 0 in that step, which an associative scan carries along for nothing.

Deviations from minimax's copy of S5: the real parts of Λ are kept below −1e-4 (the option that the authors recommend
for long sequences), and C has variance 1/P as in S5's default, where minimax's has 1/(P·H).

References: Smith, Warrington & Linderman (2022), Simplified State Space Layers for Sequence Modeling, arXiv 2208.04933;
Lu et al. (2023), Structured State Space Models for In-Context Reinforcement Learning, arXiv 2303.03982 (the resets).
"""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Key

from tutelage.lab.errors import BadInput
from tutelage.nn.layers import Linear, linear, orthogonal, product

MIN_STEP, MAX_STEP = 1e-3, 1e-1
"""Range of the initial discretisation steps Δ, log-uniform (S5's and minimax's defaults)."""


class S5Layer(eqx.Module):
    """One layer of width H with P complex states. Complex parameters are stored as real and imaginary parts."""

    eigenvalue: Float[Array, "2 P"]
    input_matrix: Float[Array, "H 2*P"]
    output_matrix: Float[Array, "2*P H"]
    feedthrough: Float[Array, "H"]
    log_step: Float[Array, "P"]
    gate: Linear
    norm_scale: Float[Array, "H"]
    norm_bias: Float[Array, "H"]

    def discretise(self) -> tuple[Complex[Array, "P"], Complex[Array, "P"]]:
        """Λ̄ = exp(ΛΔ) and the factor (Λ̄ − 1)/Λ of B̄ (zero-order hold)."""
        eigenvalue = jax.lax.complex(jnp.minimum(self.eigenvalue[0], -1e-4), self.eigenvalue[1])
        decay = jnp.exp(eigenvalue * jnp.exp(self.log_step))
        return decay, (decay - 1) / eigenvalue

    def drive(self, u: Float[Array, "*batch H"], factor: Complex[Array, "P"]) -> Complex[Array, "*batch P"]:
        """B̄ u, by one real product for both parts of B."""
        real, imag = jnp.split(product(u, self.input_matrix), 2, axis=-1)
        return factor * jax.lax.complex(real, imag)

    def output(self, state: Complex[Array, "*batch P"], u: Float[Array, "*batch H"]) -> Float[Array, "*batch H"]:
        """The layer's output from its state and input."""
        parts = jnp.concatenate([state.real, state.imag], axis=-1)
        y = jax.nn.gelu(2 * product(parts, self.output_matrix) + self.feedthrough * u)
        y = u + y * jax.nn.sigmoid(self.gate(y))
        y = y - y.mean(axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + 1e-6)
        return y * self.norm_scale + self.norm_bias


class S5(eqx.Module):
    """A linear map to width H, then the layers. The carry is a tuple of one complex state per layer."""

    embedding: Linear
    layers: tuple[S5Layer, ...]

    @property
    def size(self) -> int:
        return self.embedding.bias.shape[0]

    def initial_carry(self, num_envs: int) -> tuple[Complex[Array, "N P"], ...]:
        return tuple(
            jnp.zeros((num_envs, layer.log_step.shape[0]), jnp.result_type(layer.log_step, jnp.complex64))
            for layer in self.layers
        )

    def step(
        self, carry: tuple[Complex[Array, "N P"], ...], x: Float[Array, "N F"], first: Bool[Array, "N"]
    ) -> tuple[tuple[Complex[Array, "N P"], ...], Float[Array, "N H"]]:
        """One step; the carry is zeroed where `first`."""
        y = self.embedding(x)
        states = []
        for layer, before in zip(self.layers, carry, strict=True):
            decay, factor = layer.discretise()
            state = jnp.where(first[:, None], 0.0, decay * before) + layer.drive(y, factor)
            y = layer.output(state, y)
            states.append(state)
        return tuple(states), y

    def unroll(
        self, carry: tuple[Complex[Array, "N P"], ...], x: Float[Array, "T N F"], first: Bool[Array, "T N"]
    ) -> tuple[tuple[Complex[Array, "N P"], ...], Float[Array, "T N H"]]:
        """T steps at once; the numbers of T calls of `step` up to rounding."""
        y = self.embedding(x)
        finals = []
        for layer, before in zip(self.layers, carry, strict=True):
            decay, factor = layer.discretise()
            drive = layer.drive(y, factor)
            drive = drive.at[0].add(jnp.where(first[0][:, None], 0.0, decay * before))
            state = diagonal_recurrence(decay, drive, first)
            y = layer.output(state, y)
            finals.append(state[-1])
        return tuple(finals), y


@jax.custom_vjp
def diagonal_recurrence(
    decay: Complex[Array, "P"], drive: Complex[Array, "T N P"], first: Bool[Array, "T N"]
) -> Complex[Array, "T N P"]:
    """xₜ = aₜ ⊙ xₜ₋₁ + bₜ with x₋₁ = 0 and aₜ = 0 where `first`, else `decay`.

    The adjoint is the same recurrence run backwards, λₜ = gₜ + aₜ₊₁ λₜ₊₁, so the backward pass is one more scan rather
    than the transposed tree of the forward one.
    """
    return _scan(jnp.where(first[..., None], 0.0, decay), drive, reverse=False)


def _scan(decay: Array, drive: Array, *, reverse: bool) -> Array:
    # A parallel scan does log T times the work in log T steps: right where there is parallelism to spare, several times
    # slower (and slow to compile) where there is not.
    return jax.lax.platform_dependent(
        decay, drive, cpu=partial(_sequential, reverse=reverse), default=partial(_associative, reverse=reverse)
    )


def _sequential(decay: Array, drive: Array, *, reverse: bool) -> Array:
    def step(state: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        state = inputs[0] * state + inputs[1]
        return state, state

    return jax.lax.scan(step, jnp.zeros_like(drive[0]), (decay, drive), reverse=reverse)[1]


def _associative(decay: Array, drive: Array, *, reverse: bool) -> Array:
    def combine(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        return left[0] * right[0], right[0] * left[1] + right[1]

    return jax.lax.associative_scan(combine, (decay, drive), reverse=reverse)[1]


def _recurrence_forward(decay: Array, drive: Array, first: Array):
    states = diagonal_recurrence(decay, drive, first)
    return states, (decay, first, states)


def _recurrence_backward(residuals, cotangent: Array):
    decay, first, states = residuals
    rows = jnp.where(first[..., None], 0.0, decay)
    following = jnp.concatenate([rows[1:], jnp.zeros_like(rows[:1])])
    d_drive = _scan(following, cotangent, reverse=True)
    continues = jnp.where(first[1:, :, None], 0.0, states[:-1])
    return jnp.sum(d_drive[1:] * continues, axis=(0, 1)), d_drive, None


diagonal_recurrence.defvjp(_recurrence_forward, _recurrence_backward)


def hippo_eigenvalues(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [P] and eigenvectors [2P, P] of the normal part of HiPPO-LegS, one of each conjugate pair.

    The LegS matrix is Aₙₖ = −√(2n+1)√(2k+1) for n > k, −(n+1) for n = k; adding ½√(2n+1)√(2k+1) makes it normal with
    real part −½ throughout.
    """
    n = np.arange(size)
    root = np.sqrt(2 * n + 1)
    legs = -(np.tril(np.outer(root, root)) - np.diag(n))
    normal = legs + np.outer(root, root) / 2
    imag, vectors = np.linalg.eigh(-1j * normal)
    half = size // 2
    return np.mean(np.diag(normal)) + 1j * imag[:half], vectors[:, :half]


def s5(key: Key[Array, ""], size_in: int, hidden: int, num_layers: int, num_blocks: int) -> S5:
    """S5 with `hidden` real states (hidden/2 complex ones) per layer, initialised as `num_blocks` HiPPO blocks.

    Raises:
        BadInput: `hidden` is not a multiple of 2·`num_blocks`.
    """
    if hidden % (2 * num_blocks) != 0:
        raise BadInput(
            f"hidden={hidden} is not a multiple of 2·s5_blocks={2 * num_blocks}: blocks keep conjugate pairs"
        )
    k_embedding, k_layers = jax.random.split(key)
    return S5(
        linear(k_embedding, size_in, hidden, orthogonal()),
        tuple(_layer(k, hidden, num_blocks) for k in jax.random.split(k_layers, num_layers)),
    )


def _layer(key: Key[Array, ""], hidden: int, num_blocks: int) -> S5Layer:
    k_input, k_output, k_feedthrough, k_step, k_gate = jax.random.split(key, 5)
    block, vectors = hippo_eigenvalues(hidden // num_blocks)
    eigenvalue = np.tile(block, num_blocks)
    vectors = np.kron(np.eye(num_blocks), vectors)  # [2P, P]
    fan_in = jax.nn.initializers.lecun_normal()
    input_matrix = jnp.asarray(vectors.conj().T) @ fan_in(k_input, (hidden, hidden))  # [P, H]
    c_real, c_imag = fan_in(k_output, (hidden, 2 * hidden)).reshape(hidden, 2, hidden).swapaxes(0, 1)  # [2P, H] each
    output_matrix = jnp.asarray(vectors.T) @ (c_real + 1j * c_imag)  # [P, H]: the transpose of C V
    return S5Layer(
        eigenvalue=jnp.asarray(np.stack([np.real(eigenvalue), np.imag(eigenvalue)]), jnp.float32),
        input_matrix=jnp.concatenate([input_matrix.real, input_matrix.imag]).T.astype(jnp.float32),
        # Re(C x) = Re C Re x − Im C Im x.
        output_matrix=jnp.concatenate([output_matrix.real, -output_matrix.imag]).astype(jnp.float32),
        feedthrough=jax.random.normal(k_feedthrough, (hidden,)),
        log_step=jax.random.uniform(
            k_step, (eigenvalue.size,), minval=np.log(MIN_STEP).item(), maxval=np.log(MAX_STEP).item()
        ),
        gate=linear(k_gate, hidden, hidden, fan_in),
        norm_scale=jnp.ones((hidden,)),
        norm_bias=jnp.zeros((hidden,)),
    )
