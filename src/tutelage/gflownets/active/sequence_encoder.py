"""A convolutional encoder of sequences, which also fills in letters that were masked out.

Tokens are letters 0 … V−1, then −1. Convolutions see zeros beyond the end of a sequence, norms and means its letters.
A convolution is one product of the neighbourhood with a matrix, which is what CPUs do well.

Reference: Stanton et al. (2022), LaMBO, arXiv 2203.12742 (there `mlm_cnn`); positions are learnt here.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.active.config import EncoderConfig, check_encoder
from tutelage.nn.layers import Linear, linear, product
from tutelage.nn.mlp import fan_in
from tutelage.nn.transformer import LayerNorm


class Convolution(eqx.Module):
    """x [B, L, c] -> [B, L, d] over `width` neighbours, zeros beyond both ends."""

    map: Linear
    width: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "B L c"]) -> Float[Array, "B L d"]:
        reach, length = self.width // 2, x.shape[1]
        padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
        windows = jnp.concatenate([padded[:, shift : shift + length] for shift in range(self.width)], axis=-1)
        return self.map(windows)


class Block(eqx.Module):
    """x + convolution(gelu(norm(convolution(gelu(norm(x)))))), x through a linear map where the widths differ."""

    norms: tuple[LayerNorm, LayerNorm]
    convolutions: tuple[Convolution, Convolution]
    skip: Float[Array, "c d"] | None

    def __call__(self, x: Float[Array, "B L c"], there: Float[Array, "B L 1"]) -> Float[Array, "B L d"]:
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(jax.nn.gelu(norm(y)) * there)
        return y + (x if self.skip is None else product(x, self.skip))


class SequenceEncoder(eqx.Module):
    """Letters to per-token features, those to a latent vector, and back to letters.

    The embedding has V + 2 rows: padding, V letters, the mask.
    """

    letters: Float[Array, "V2 c"]
    places: Float[Array, "L c"]
    encoder: tuple[Block, ...]
    pooled: Convolution
    decoder: tuple[Block, ...]
    head: Linear

    def features(self, tokens: Int[Array, "B L"], masked: Bool[Array, "B L"] | None = None) -> Float[Array, "B L D"]:
        """Per-token features; `masked` letters are not seen."""
        index = tokens + 1
        if masked is not None:
            index = jnp.where(masked, self.letters.shape[0] - 1, index)
        there = _there(tokens)
        x = (self.letters[index] + self.places) * there
        for block in self.encoder:
            x = block(x, there)
        return x * there

    def latent(self, tokens: Int[Array, "B L"], features: Float[Array, "B L D"]) -> Float[Array, "B D"]:
        """The mean over letters of the pooling convolution."""
        there = _there(tokens)
        return jnp.sum(self.pooled(features) * there, axis=1) / jnp.maximum(jnp.sum(there, axis=1), 1.0)

    def logits(self, tokens: Int[Array, "B L"], features: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
        """Of the letter at each place."""
        there, x = _there(tokens), features
        for block in self.decoder:
            x = block(x, there)
        return self.head(x)

    def __call__(self, tokens: Int[Array, "B L"]) -> Float[Array, "B D"]:
        return self.latent(tokens, self.features(tokens))


def _there(tokens: Int[Array, "B L"]) -> Float[Array, "B L 1"]:
    return (tokens >= 0)[..., None].astype(jnp.float32)


def sequence_encoder(key: Key[Array, ""], num_letters: int, max_len: int, config: EncoderConfig) -> SequenceEncoder:
    """An untrained encoder. Raises `BadInput` for an even width of the convolutions."""
    check_encoder(config)
    k_letters, k_places, k_pooled, k_head, k_encoder, k_decoder = jax.random.split(key, 6)
    embed, latent = config.embed, config.latent

    def blocks(key: Key[Array, ""], widths: list[int]) -> tuple[Block, ...]:
        keys = jax.random.split(key, len(widths) - 1)
        return tuple(_block(k, a, b, config.kernel) for k, a, b in zip(keys, widths, widths[1:]))

    return SequenceEncoder(
        letters=jax.random.normal(k_letters, (num_letters + 2, embed), jnp.float32),
        places=0.1 * jax.random.normal(k_places, (max_len, embed), jnp.float32),
        encoder=blocks(k_encoder, [embed] * config.blocks + [latent]),
        pooled=_convolution(k_pooled, latent, latent, config.kernel),
        decoder=blocks(k_decoder, [latent] + [embed] * config.blocks),
        head=linear(k_head, embed, num_letters, fan_in()),
    )


def _convolution(key: Key[Array, ""], size_in: int, size_out: int, width: int) -> Convolution:
    return Convolution(linear(key, size_in * width, size_out, fan_in()), width)


def _block(key: Key[Array, ""], size_in: int, size_out: int, width: int) -> Block:
    k_first, k_second, k_skip = jax.random.split(key, 3)
    norms = tuple(LayerNorm(jnp.ones(size, jnp.float32), jnp.zeros(size, jnp.float32)) for size in (size_in, size_out))
    return Block(
        (norms[0], norms[1]),
        (_convolution(k_first, size_in, size_out, width), _convolution(k_second, size_out, size_out, width)),
        None if size_in == size_out else fan_in()(k_skip, (size_in, size_out)),
    )
