"""A transformer: causal with a cache of keys and values, or bidirectional. Pre-norm, no dropout, GELU, 4·d wide MLPs.

It reads and writes vectors of width d; tokens, positions and heads are the caller's (`sinusoidal` gives positions).

References: Vaswani et al. (2017), arXiv 1706.03762; the norm before each part is that of Xiong et al. (2020), arXiv
2002.04745.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.lab.errors import BadInput
from tutelage.nn.layers import Linear, linear
from tutelage.nn.mlp import MLP, fan_in, mlp

EPSILON = 1e-5
"""Added to the variance in a layer norm (PyTorch's)."""


class LayerNorm(eqx.Module):
    """(x − mean) / √(variance + ε) · scale + shift over the last axis."""

    scale: Float[Array, "d"]
    shift: Float[Array, "d"]

    def __call__(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + EPSILON) * self.scale + self.shift


class Cache(NamedTuple):
    """Keys and values of the positions read so far; the rest is not looked at.

    Attributes:
        key, value: of each layer, [B, T, heads, d / heads].
        length: how many positions were read.
    """

    key: tuple[Float[Array, "B T heads D"], ...]
    value: tuple[Float[Array, "B T heads D"], ...]
    length: Int[Array, ""]


class Block(eqx.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)). Queries, keys and values are one product."""

    before_attention: LayerNorm
    query_key_value: Linear
    merge: Linear
    before_mlp: LayerNorm
    mlp: MLP
    num_heads: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "B T d"], visible: Bool[Array, "*#B #T T"] | None) -> Float[Array, "B T d"]:
        """All positions at once; position t sees position s where `visible[…, t, s]`, or everything."""
        query, key, value = self._split(x)
        return self._rest(x, attend(query, key, value, visible))

    def step(
        self, key: Array, value: Array, at: Int[Array, ""], x: Float[Array, "B d"]
    ) -> tuple[Array, Array, Float[Array, "B d"]]:
        """One more position `at`; keys and values [B, T, heads, D] with it written in."""
        query, new_key, new_value = self._split(x[:, None])
        key = jax.lax.dynamic_update_slice_in_dim(key, new_key, at, axis=1)
        value = jax.lax.dynamic_update_slice_in_dim(value, new_value, at, axis=1)
        visible = (jnp.arange(key.shape[1]) <= at)[None]
        return key, value, self._rest(x[:, None], attend(query, key, value, visible))[:, 0]

    def _split(self, x: Float[Array, "B T d"]) -> tuple[Array, Array, Array]:
        packed = self.query_key_value(self.before_attention(x))
        packed = packed.reshape(*x.shape[:2], 3, self.num_heads, -1)
        return packed[:, :, 0], packed[:, :, 1], packed[:, :, 2]

    def _rest(self, x: Float[Array, "B T d"], attended: Array) -> Float[Array, "B T d"]:
        x = x + self.merge(attended.reshape(x.shape))
        return x + self.mlp(self.before_mlp(x))


def attend(
    query: Float[Array, "B T heads D"],
    key: Float[Array, "B S heads D"],
    value: Float[Array, "B S heads D"],
    visible: Bool[Array, "*#B #T S"] | None,
) -> Float[Array, "B T heads D"]:
    """softmax(q kᵀ / √D) v for each head, over the visible positions (at least one of each)."""
    scores = jnp.einsum("bthd,bshd->bhts", query, key) / math.sqrt(query.shape[-1])
    if visible is not None:
        shared = visible[:, None] if visible.ndim == 3 else visible
        scores = jnp.where(shared, scores, -jnp.inf)
    return jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, axis=-1), value)


class Transformer(eqx.Module):
    """Blocks and a last norm."""

    blocks: tuple[Block, ...]
    last: LayerNorm

    def causal(self, x: Float[Array, "B T d"]) -> Float[Array, "B T d"]:
        """Position t sees positions 0 … t. The same as T calls of `step`, up to rounding."""
        return self._whole(x, jnp.tri(x.shape[1], dtype=jnp.bool_))

    def bidirectional(self, x: Float[Array, "B T d"], exist: Bool[Array, "B T"] | None = None) -> Float[Array, "B T d"]:
        """Every position sees all that exist (all, unless it is given)."""
        return self._whole(x, None if exist is None else exist[:, None, :])

    def cache(self, batch: int, length: int) -> Cache:
        """An empty cache for sequences of at most `length`."""
        width, heads = self.last.scale.shape[0], self.blocks[0].num_heads
        empty = tuple(jnp.zeros((batch, length, heads, width // heads), self.last.scale.dtype) for _ in self.blocks)
        return Cache(empty, empty, jnp.zeros((), jnp.int32))

    def step(self, cache: Cache, x: Float[Array, "B d"]) -> tuple[Cache, Float[Array, "B d"]]:
        """The next position of every sequence of the batch."""
        keys, values = [], []
        for block, key, value in zip(self.blocks, cache.key, cache.value, strict=True):
            key, value, x = block.step(key, value, cache.length, x)
            keys.append(key)
            values.append(value)
        return Cache(tuple(keys), tuple(values), cache.length + 1), self.last(x)

    def _whole(self, x: Array, visible: Array | None) -> Array:
        for block in self.blocks:
            x = block(x, visible)
        return self.last(x)


def transformer(key: Key[Array, ""], width: int, num_layers: int, num_heads: int) -> Transformer:
    """An untrained transformer; what each block adds is scaled down by √(2·layers), as in GPT-2.

    Raises:
        BadInput: `width` is no multiple of `num_heads`.
    """
    if width % num_heads != 0:
        raise BadInput(f"width = {width} is no multiple of heads = {num_heads}")
    added = fan_in(1 / math.sqrt(2 * num_layers))

    def norm() -> LayerNorm:
        return LayerNorm(jnp.ones((width,), jnp.float32), jnp.zeros((width,), jnp.float32))

    def block(k: Key[Array, ""]) -> Block:
        k_attention, k_merge, k_mlp = jax.random.split(k, 3)
        return Block(
            norm(),
            linear(k_attention, width, 3 * width, fan_in()),
            linear(k_merge, width, width, added),
            norm(),
            mlp(k_mlp, width, 4 * width, 1, width, name="gelu", last=added),
            num_heads,
        )

    return Transformer(tuple(block(k) for k in jax.random.split(key, num_layers)), norm())


def sinusoidal(position: Int[Array, "*batch"], width: int) -> Float[Array, "*batch width"]:
    """The sines, then the cosines, of a position at wavelengths from 2π to 10000·2π."""
    half = (width + 1) // 2
    frequency = jnp.exp(-math.log(10_000.0) * jnp.arange(half, dtype=jnp.float32) / max(half, 1))
    angle = position[..., None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)[..., :width]
