"""Multi-head attention, and the frame of the other baselines: they differ in values and in what is made of heads.

References: Vaswani et al. (2017), arXiv 1706.03762.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.attention.cache import LayerCache
from tutelage.attention.config import AttentionConfig, check_attention, head_sizes
from tutelage.attention.layer import Activations
from tutelage.attention.masks import Masks, empty_rows, finite_padding, masked_softmax, without_padding
from tutelage.attention.noise import dropout as dropped
from tutelage.attention.positions import RelativeBias, rotate, toeplitz
from tutelage.lab.errors import BadInput, nearest

NEEDS = ("search", "competition", "empty", "routing")
"""What may be asked of any layer: A (B, S, N, M); C, of which baselines have none; bool (B, S, N), True where nothing
may be attended to; the gates of layers that have them."""


class MultiHead(nn.Module):
    """S heads, each a search with a value of its own (an `AttentionLayer`).

    `d_value` of the configuration is S·d_v here: all heads together. Four projections with biases: at width D and
    d = d_v = D / S they have 4 (D² + D) parameters.

    Attributes:
        query, key, value, output: the projections; head h has the h-th block of the first three's outputs.
        join: of the input (d_v), with `join_input`; its result comes after the heads in what `output` reads.
    """

    def __init__(self, config: AttentionConfig, width: int, *, groups: int | None = None) -> None:
        """`groups`: how many keys and values there are, each for S / groups heads; None: one for each head."""
        super().__init__()
        check_attention(config, width)
        self.config, self.width, self.heads = config, width, config.searches
        self.groups = config.searches if groups is None else groups
        self.d, self.d_v = head_sizes(config, width)
        self.query = nn.Linear(width, self.heads * self.d, config.bias)
        self.key = nn.Linear(width, self.groups * self.d, config.bias)
        self.join = nn.Linear(width, self.d_v, config.bias) if config.join_input else None
        self.relative = RelativeBias(self.heads) if config.positions == "relative" else None
        self.make_values()
        for part in (self.query, self.key, self.join):
            if part is not None:
                started(part)

    def make_values(self) -> None:
        """Add what makes values of the memory, and the output of the heads."""
        self.value = started(nn.Linear(self.width, self.groups * self.d_v, self.config.bias))
        size = self.heads * self.d_v + (self.d_v if self.config.join_input else 0)
        self.output = started(nn.Linear(size, self.width, self.config.bias))

    def values(self, memory: Tensor) -> Tensor:
        """(B, M, D) to (B, groups, M, d_v)."""
        return split(self.value(memory), self.groups)

    def merged(self, attended: Tensor, x: Tensor, found: Activations) -> Tensor:
        """What the heads brought, (B, S, N, d_v), and the input to (B, N, D). Adds activations to `found`."""
        return self.joined(attended.transpose(1, 2).flatten(2), x)

    def joined(self, flat: Tensor, x: Tensor) -> Tensor:
        """The output of all heads side by side, with what `join` makes of the input."""
        return self.output(flat if self.join is None else torch.cat((flat, self.join(x)), -1))

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        cache: LayerCache | None = None,
        need: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> Any:
        """(B, N, D) to (B, N, D), as `AttentionLayer` says. Of `need` it returns what this attention has.

        Raises:
            BadInput: shapes, masks or names that do not fit; `exclude_self` with another memory than `x`.
        """
        self._check_call(x, memory, need)
        if memory is None:
            x = finite_padding(x, key_padding_mask)
        elif cache is None or not cache.filled:
            memory = without_padding(memory, key_padding_mask)
        q, k, v = self._searched(x, x if memory is None else memory, cache)
        if self.groups < self.heads:
            k, v = (each.repeat_interleave(self.heads // self.groups, 1) for each in (k, v))
        (batch, heads, queries, _), keys = q.shape, k.shape[2]
        shape = (batch, heads, queries, keys)
        masks = Masks.of(attn_mask, key_padding_mask, shape, is_causal=is_causal, exclude_self=self.config.exclude_self)
        rate = self.config.dropout if self.training else 0.0
        found: Activations = {}
        if "search" in need or (rate and generator is not None) or not (batch and queries and keys):
            scores, mask = q @ k.transpose(-1, -2) / math.sqrt(self.d), masks.combined(queries, keys, q.device)
            if self.relative is not None:
                scores = scores + toeplitz(self.relative(queries, keys), queries, keys)
            found["search"] = masked_softmax(scores, mask)
            attended = dropped(found["search"], rate, True, generator) @ v
        else:
            attended = self._fused(q, k, v, masks, rate)
        out = self.merged(attended, x, found)
        if not need:
            return out
        if "empty" in need:
            found["empty"] = empty_rows(masks.combined(queries, keys, q.device), shape).to(x.device)
        return out, {name: value for name, value in found.items() if name in need}

    def _searched(self, x: Tensor, memory: Tensor, cache: LayerCache | None) -> tuple[Tensor, Tensor, Tensor]:
        q = split(self.query(x), self.heads)
        if cache is not None and cache.filled:
            assert cache.k is not None and cache.v is not None
            return q, cache.k, cache.v
        k = split(self.key(memory), self.groups)
        if self.config.positions == "rotary":
            past = 0 if cache is None else cache.length
            q, k = rotate(q, past + k.shape[2] - q.shape[2]), rotate(k, past)
        v = self.values(memory)
        return (q, k, v) if cache is None else (q, *cache.append(k, v))

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, masks: Masks, rate: float) -> Tensor:
        """(B, S, N, d_v), in one fused call."""
        (batch, heads, queries, _), keys = q.shape, k.shape[2]
        plain = masks.attn is None and masks.keys is None and not masks.exclude_self and self.relative is None
        if plain and (not masks.causal or queries == keys):
            return F.scaled_dot_product_attention(q, k, v, None, rate, is_causal=masks.causal)
        mask = masks.combined(queries, keys, q.device)
        empty = None
        if mask is not None:  # whatever a kernel makes of a row that allows nothing, it is to be zeros
            empty = empty_rows(mask, (batch, heads, queries, keys)).to(q.device)[..., None]
            mask = mask | empty if mask.dtype == torch.bool else mask.masked_fill(empty, 0.0)
        if self.relative is not None:
            bias = toeplitz(self.relative(queries, keys), queries, keys)[None]
            if mask is None:
                mask = bias
            else:
                mask = bias.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else bias + mask
        out = F.scaled_dot_product_attention(q, k, v, mask, rate)
        return out if empty is None else out.masked_fill(empty, 0.0)

    def _check_call(self, x: Tensor, memory: Tensor | None, need: Sequence[str]) -> None:
        for name, given in (("x", x), ("memory", memory)):
            if given is not None and (given.dim() != 3 or given.shape[2] != self.width):
                raise BadInput(f"{name} has shape {tuple(given.shape)}: must be (B, N, D) with D = {self.width}")
        if memory is not None and memory.shape[0] != x.shape[0]:
            raise BadInput(f"memory has {memory.shape[0]} rows in its batch: must have {x.shape[0]}, as x has")
        if memory is not None and self.config.exclude_self:
            raise BadInput("exclude_self = True with a memory: a token is itself only in self-attention")
        for name in need:
            if name not in NEEDS:
                raise BadInput(f"need has {name!r}: must be of {', '.join(NEEDS)}{nearest(name, NEEDS)}")


def split(flat: Tensor, parts: int) -> Tensor:
    """(B, N, parts·d) to (B, parts, N, d)."""
    return flat.unflatten(-1, (parts, -1)).transpose(1, 2)


def started(linear: nn.Linear) -> nn.Linear:
    """The same map, with Xavier's uniform weights and a bias of 0."""
    nn.init.xavier_uniform_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear
