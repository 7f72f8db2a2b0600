"""Pre-norm residual blocks around attention, iterated (one shared block: a universal transformer) or stacked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.attention.cache import LayerCache
from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.kinds import attention_layer
from tutelage.attention.layer import Activations
from tutelage.attention.masks import finite_padding
from tutelage.attention.noise import dropout
from tutelage.lab.errors import BadInput


class Block(nn.Module):
    """x + attention, then x + cross-attention to a memory (with `cross`), then x + feed-forward; each of a norm of x.

    The feed-forward part is Linear, ReLU, Linear with hidden size `d_feedforward`. Dropout of the network's rate is on
    every part's output and inside the feed-forward part.
    """

    def __init__(self, attention: AttentionConfig, network: NetworkConfig, *, cross: bool = False) -> None:
        super().__init__()
        width, hidden = network.width, network.d_feedforward or 2 * network.width
        self.rate = network.dropout
        self.attention_norm = nn.LayerNorm(width)
        self.attention = attention_layer(attention, width)
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.cross = None
        if cross:
            # A memory's tokens are elsewhere: neither oneself nor distances from oneself are among them.
            self.cross = attention_layer(dataclasses.replace(attention, exclude_self=False, positions="none"), width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.into, self.out_of = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        memory_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        cache: LayerCache | None = None,
        need: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> Any:
        """(B, N, D) to (B, N, D); with `need` also the activations, those of cross-attention as `cross_…`."""
        activations: Activations = {}

        def kept(out: Any, prefix: str = "") -> Tensor:
            if need:
                out, found = out
                activations.update({prefix + name: value for name, value in found.items()})
            return dropout(out, self.rate, self.training, generator)

        x = x + kept(
            self.attention(
                self.attention_norm(x),
                attn_mask=attn_mask,
                key_padding_mask=key_padding_mask,
                is_causal=is_causal,
                cache=cache,
                need=need,
                generator=generator,
            )
        )
        if self.cross is not None and self.cross_norm is not None:
            x = x + kept(
                self.cross(
                    self.cross_norm(x),
                    memory,
                    key_padding_mask=memory_padding_mask,
                    cache=None if cache is None else cache.memory,
                    need=need,
                    generator=generator,
                ),
                "cross_",
            )
        hidden = dropout(torch.relu(self.into(self.feedforward_norm(x))), self.rate, self.training, generator)
        x = x + dropout(self.out_of(hidden), self.rate, self.training, generator)
        return (x, activations) if need else x


class Encoder(nn.Module):
    """`iterations` blocks, shared (one and the same) or stacked, and a norm.

    The published "layers" of vision, CLEVR, SCAN and language models are iterations of one shared block; stacked blocks
    are another model. With `cross` it is a decoder.

    Args:
        attention: the attention of every block.
        network: width, number of blocks, sharing, feed-forward size and dropout.
        cross: blocks also attend to a memory.
    """

    def __init__(self, attention: AttentionConfig, network: NetworkConfig, *, cross: bool = False) -> None:
        super().__init__()
        self.iterations, self.shared, self.crosses = network.iterations, network.shared, cross
        number = 1 if network.shared else network.iterations
        self.blocks = nn.ModuleList(Block(attention, network, cross=cross) for _ in range(number))
        self.norm = nn.LayerNorm(network.width)

    def caches(self) -> list[LayerCache]:
        """Empty caches for `forward`, one for each iteration."""
        return [LayerCache() for _ in range(self.iterations)]

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        memory_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        caches: Sequence[LayerCache] | None = None,
        need: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> Any:
        """(B, N, D) to (B, N, D), masks as in `tutelage.attention.layer.AttentionLayer`.

        Args:
            x: tokens, with positions where the model has them in its input.
            memory: (B, M, D), for `cross`; with caches only the first call's is looked at.
            memory_padding_mask: bool (B, M), True = a real token.
            caches: one for each iteration, changed in place; `caches()` makes empty ones.
            need: activations to return, and those of the cross-attention with `cross_` before their names.
            generator: for every dropout and all Gumbel noise.

        Returns the output, or with `need` a pair of it and the activations of each iteration.

        Raises:
            BadInput: a memory without `cross`, `cross` without a memory, or another number of caches.
        """
        if self.crosses != (memory is not None):
            raise BadInput(
                "memory is missing: blocks with cross-attention need it"
                if self.crosses
                else "memory is given: only blocks made with cross = True attend to one"
            )
        if caches is not None and len(caches) != self.iterations:
            raise BadInput(f"caches are {len(caches)}: must be one for each of the {self.iterations} iterations")
        x = finite_padding(
            x, key_padding_mask
        )  # norms and feed-forward parts have weights whose gradients it would reach
        record: list[Activations] = []
        for number in range(self.iterations):
            block = self.blocks[0 if self.shared else number]
            out: Any = block(
                x,
                memory,
                attn_mask=attn_mask,
                key_padding_mask=key_padding_mask,
                memory_padding_mask=memory_padding_mask,
                is_causal=is_causal,
                cache=None if caches is None else caches[number],
                need=need,
                generator=generator,
            )
            x = out
            if need:
                x, activations = out
                record.append(activations)
        x = self.norm(x)
        return (x, record) if need else x
