"""Encoders: from an observation (any leading axes) to a feature vector.

Grid observations arrive as small integer codes and stay so until here; a table turns them into MiniGrid's channel
values. A 3×3 convolution over a small view is cheapest as one product with its Toeplitz matrix; over a large map, as
one product with its patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8

from tutelage.nn.config import NetworkConfig
from tutelage.nn.layers import TANH_GAIN, Linear, activation, linear, orthogonal, product

KERNEL = 3
TOEPLITZ_LIMIT = 64
"""Grids of at most so many cells are convolved by a Toeplitz product: it does H·W/9 times the arithmetic of a
convolution, but as one dense product without patches."""


@runtime_checkable
class GridObservation(Protocol):
    """A small egocentric view and the direction faced (`tutelage.envs.maze.MazeObs`)."""

    @property
    def view(self) -> UInt8[Array, "*batch H W"]: ...
    @property
    def direction(self) -> Int[Array, "*batch"]: ...


class GridConvolution(eqx.Module):
    """3×3 VALID convolution of a grid of codes, ReLU, flattened in (row, column, filter) order.

    `kernel` is [3·3·3, filters] over (row, column, channel). Channels that are 0 for every code (MiniGrid's `state`)
    are left out of the product: their weights would be multiplied by 0.
    """

    kernel: Float[Array, "27 filters"]
    bias: Float[Array, "filters"]
    height: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    table: tuple[tuple[float, ...], ...] = eqx.field(static=True)

    @property
    def size(self) -> int:
        return (self.height - KERNEL + 1) * (self.width - KERNEL + 1) * self.bias.shape[0]

    def __call__(self, grid: UInt8[Array, "*batch H W"]) -> Float[Array, "*batch size"]:
        table = np.array(self.table, np.float32)
        used = np.any(table != 0, axis=0)
        batch = grid.shape[:-2]
        values = jnp.asarray(table[:, used], self.kernel.dtype)
        kernel = self.kernel.reshape(KERNEL, KERNEL, table.shape[1], -1)[:, :, used]
        if self.height * self.width <= TOEPLITZ_LIMIT:
            y = product(values[grid].reshape(*batch, -1), self._toeplitz(kernel))
        else:
            # Patches are gathered as codes, and nothing is differentiated by them: one product forward, one backward.
            # XLA's convolution is several times slower on a CPU, where the training loop keeps it from its fast path.
            patches = values[grid.reshape(*batch, -1)[..., self._windows()]]  # [*batch, positions, 9, channels]
            y = product(patches.reshape(*patches.shape[:-2], -1), kernel.reshape(-1, kernel.shape[-1]))
        y = y.reshape(*batch, -1, self.bias.shape[0]) + self.bias
        return jax.nn.relu(y).reshape(*batch, -1)

    def _windows(self) -> Int[np.ndarray, "positions 9"]:
        """The nine cells of each output position, as places in the flattened grid."""
        offset = np.add.outer(np.arange(KERNEL) * self.width, np.arange(KERNEL)).reshape(-1)
        corner = np.add.outer(
            np.arange(self.height - KERNEL + 1) * self.width, np.arange(self.width - KERNEL + 1)
        ).reshape(-1)
        return corner[:, None] + offset

    def _toeplitz(self, kernel: Float[Array, "3 3 C filters"]) -> Float[Array, "HWC size"]:
        """The matrix of the convolution: entry (cell, output position) is the kernel's where the window covers it."""
        rows, columns = self.height - KERNEL + 1, self.width - KERNEL + 1
        row = (np.arange(self.height)[:, None, None] == np.arange(rows)[:, None] + np.arange(KERNEL)).astype(np.float32)
        column = np.arange(self.width)[:, None, None] == np.arange(columns)[:, None] + np.arange(KERNEL)
        matrix = jnp.einsum("hra,wsb,abcf->hwcrsf", row, column.astype(np.float32), kernel)
        return matrix.reshape(self.height * self.width * kernel.shape[2], -1)


def grid_convolution(
    key: Key[Array, ""], height: int, width: int, num_filters: int, table: Float[np.ndarray, "codes C"]
) -> GridConvolution:
    """Orthogonal kernel with gain √2, zero bias. `table` holds the channel values of each code that can occur."""
    kernel = orthogonal(math.sqrt(2.0))(key, (KERNEL * KERNEL * table.shape[1], num_filters))
    rows = tuple(tuple(float(value) for value in row) for row in table)
    return GridConvolution(kernel, jnp.zeros((num_filters,), jnp.float32), height, width, rows)


class MazeEncoder(eqx.Module):
    """The student's encoder: convolved view and embedded direction side by side."""

    convolution: GridConvolution
    direction: Float[Array, "4 D"]

    @property
    def size(self) -> int:
        return self.convolution.size + self.direction.shape[1]

    def __call__(self, obs: GridObservation) -> Float[Array, "*batch size"]:
        return jnp.concatenate([self.convolution(obs.view), _embed(self.direction, obs.direction)], axis=-1)


def maze_encoder(
    key: Key[Array, ""], config: NetworkConfig, view: int, table: Float[np.ndarray, "codes C"]
) -> MazeEncoder:
    """The encoder of a `view`×`view` egocentric window: `config.num_filters` filters, ReLU, direction embedding.

    `table` is `tutelage.envs.maze.channels(config)`, cut to the codes that occur (without the agent's unless it is
    seen): a channel that is 0 for all of them costs nothing.
    """
    k_view, k_direction = jax.random.split(key)
    return MazeEncoder(
        grid_convolution(k_view, view, view, config.num_filters, table),
        orthogonal()(k_direction, (4, config.direction_embedding)),
    )


@runtime_checkable
class EditorObservation(Protocol):
    """What a level's designer sees (`tutelage.envs.maze.EditorObs`)."""

    @property
    def map(self) -> UInt8[Array, "*batch H W"]: ...
    @property
    def time(self) -> Int[Array, "*batch"]: ...
    @property
    def noise(self) -> Float[Array, "*batch Z"]: ...


class EditorEncoder(eqx.Module):
    """The designer's encoder: convolved map, embedded time step and noise side by side."""

    convolution: GridConvolution
    time: Float[Array, "steps D"]
    noise: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        return self.convolution.size + self.time.shape[1] + self.noise

    def __call__(self, obs: EditorObservation) -> Float[Array, "*batch size"]:
        return jnp.concatenate([self.convolution(obs.map), _embed(self.time, obs.time), obs.noise], axis=-1)


def editor_encoder(
    key: Key[Array, ""],
    *,
    height: int,
    width: int,
    num_filters: int,
    num_steps: int,
    noise: int,
    table: Float[np.ndarray, "codes C"],
    time_embedding: int = 10,
) -> EditorEncoder:
    """For maps of height×width cells (border included), times 0 … num_steps and `noise` uniform numbers."""
    k_map, k_time = jax.random.split(key)
    return EditorEncoder(
        grid_convolution(k_map, height, width, num_filters, table),
        orthogonal()(k_time, (num_steps + 1, time_embedding)),
        noise,
    )


class VectorEncoder(eqx.Module):
    """A multilayer perceptron over the leaves of the observation, flattened side by side.

    `event_ndims` says how many trailing axes of each leaf belong to one observation.
    """

    layers: tuple[Linear, ...]
    event_ndims: tuple[int, ...] = eqx.field(static=True)
    activation: str = eqx.field(static=True)

    @property
    def size(self) -> int:
        return self.layers[-1].bias.shape[0]

    def __call__(self, obs: PyTree) -> Float[Array, "*batch size"]:
        dtype = self.layers[0].bias.dtype
        leaves = zip(jax.tree.leaves(obs), self.event_ndims, strict=True)
        x = jnp.concatenate(
            [leaf.astype(dtype).reshape(*leaf.shape[: leaf.ndim - ndim], -1) for leaf, ndim in leaves], axis=-1
        )
        for layer in self.layers:
            x = activation(self.activation)(layer(x))
        return x


def vector_encoder(
    key: Key[Array, ""], config: NetworkConfig, example: PyTree, widths: Sequence[int] = (64,)
) -> VectorEncoder:
    """For observations shaped as `example` (one observation, arrays or `jax.ShapeDtypeStruct`s)."""
    leaves = jax.tree.leaves(example)
    sizes = [sum(math.prod(leaf.shape) for leaf in leaves), *widths]
    keys = jax.random.split(key, len(widths))
    layers = [
        linear(k, before, after, orthogonal(TANH_GAIN))
        for k, before, after in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    return VectorEncoder(tuple(layers), tuple(leaf.ndim for leaf in leaves), config.activation)


def _embed(table: Float[Array, "codes D"], code: Int[Array, "*batch"]) -> Float[Array, "*batch D"]:
    """Row `code` of the table by a one-hot product, whose gradient is a product too and not a scatter."""
    return product(jax.nn.one_hot(code, table.shape[0], dtype=table.dtype), table)
