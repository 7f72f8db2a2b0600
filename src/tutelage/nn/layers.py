"""Affine maps and their initialisers. Weights are stored [in, out]: a batch of rows multiplies from the left."""

from __future__ import annotations

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tutelage.lab.errors import BadInput, nearest

Initializer = Callable[[Key[Array, ""], tuple[int, int]], Float[Array, "..."]]

TANH_GAIN = math.sqrt(2.0)
"""Gain before tanh and ReLU layers, as in minimax (PyTorch would recommend 5/3 for tanh)."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "gelu": jax.nn.gelu,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The function of that name. Raises `BadInput` for an unknown one."""
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise BadInput(f"activation={name!r} is not one of {known}{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]


def orthogonal(scale: float = 1.0) -> Initializer:
    """Orthonormal rows or columns (whichever are fewer) times `scale`.

    References: Saxe, McClelland & Ganguli (2013), arXiv 1312.6120.
    """
    return jax.nn.initializers.orthogonal(scale)


def constant(value: float) -> Initializer:
    """Every weight the same. As a policy's last layer it makes all initial logits exactly equal."""

    def init(key: Key[Array, ""], shape: tuple[int, int]) -> Float[Array, "..."]:
        del key
        return jnp.full(shape, value, jnp.float32)

    return init


def product(x: Float[Array, "*batch in"], weight: Float[Array, "in out"]) -> Float[Array, "*batch out"]:
    """x W over the last axis, with all leading axes made one.

    So the gradient of W is one plain product as well. Contracting several axes at once, as the gradient of `x @ W`
    does, makes XLA transpose and copy both operands on a CPU.
    """
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], weight.shape[1])


class Linear(eqx.Module):
    """y = x W + b over the last axis; any number of leading axes."""

    weight: Float[Array, "in out"]
    bias: Float[Array, "out"]

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        return product(x, self.weight) + self.bias


def linear(key: Key[Array, ""], size_in: int, size_out: int, init: Initializer) -> Linear:
    """A `Linear` with weights from `init` and a zero bias."""
    return Linear(init(key, (size_in, size_out)), jnp.zeros((size_out,), jnp.float32))


def stacked(key: Key[Array, ""], size_in: int, size_out: int, copies: int, init: Initializer) -> Float[Array, "in out"]:
    """`copies` independently initialised [in, out] blocks side by side, so that one product serves them all."""
    keys = jax.random.split(key, copies)
    return jnp.concatenate([init(k, (size_in, size_out)) for k in keys], axis=1)
