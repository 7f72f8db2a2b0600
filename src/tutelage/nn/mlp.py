"""Multi-layer perceptrons over the last axis, with any leading axes."""

from __future__ import annotations

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from tutelage.nn.layers import Initializer, Linear, activation, linear


class MLP(eqx.Module):
    """Affine maps with an activation between them; none after the last."""

    layers: tuple[Linear, ...]
    activation: str = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        apply = activation(self.activation)
        for layer in self.layers[:-1]:
            x = apply(layer(x))
        return self.layers[-1](x)


def fan_in(scale: float = 1.0) -> Initializer:
    """Uniform weights in ±scale/√(size of the input); with scale 1 PyTorch's default.

    What keeps the variance through a ReLU is √6 times that. In balance losses it matters: their targets are the
    network's own outputs, and with larger weights Adam at 1e-3 does not settle.
    """
    return jax.nn.initializers.variance_scaling(scale**2 / 3, "fan_in", "uniform")


def mlp(
    key: Key[Array, ""],
    size_in: int,
    width: int,
    num_hidden: int,
    size_out: int,
    *,
    name: str = "leaky_relu",
    last: Initializer | None = None,
) -> MLP:
    """`num_hidden` layers of `width` (none: one affine map), zero biases, activations by `name` (`nn.layers`)."""
    activation(name)
    sizes = [size_in, *[width] * num_hidden, size_out]
    keys = jax.random.split(key, num_hidden + 1)
    hidden = [linear(k, a, b, fan_in()) for k, a, b in zip(keys[:-1], sizes[:-2], sizes[1:-1], strict=True)]
    return MLP((*hidden, linear(keys[-1], sizes[-2], size_out, last or fan_in())), name)
