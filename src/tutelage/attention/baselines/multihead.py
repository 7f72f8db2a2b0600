"""Multi-head attention, and the frame of the other baselines: they differ in values and in what is made of heads.

References: Vaswani et al. (2017), arXiv 1706.03762.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.attention.config import AttentionConfig, head_sizes
from tutelage.attention.layer import Activations
from tutelage.lab.errors import BadInput, nearest

if TYPE_CHECKING:
    from tutelage.attention.cache import LayerCache


class MultiHead(nn.Module):
    """S heads, each a search with a value of its own (an `AttentionLayer`).

    `d_value` of the configuration is S·d_v here: all heads together. Four projections with biases: at width D and
    d = d_v = D / S they have 4 (D² + D) parameters.

    Attributes:
        query, key, value, output: the projections; head h has the h-th block of the first three's outputs.
        join: of the input (d_v), with `join_input`; its result comes after the heads in what `output` reads.
    """

    needs = ("search",)

    def __init__(self, config: AttentionConfig, width: int, *, groups: int | None = None) -> None:
        """`groups`: how many keys and values there are, each for S / groups heads; None: one for each head."""
        super().__init__()
        self.config, self.width, self.heads = config, width, config.searches
        self.groups = config.searches if groups is None else groups
        self.d, self.d_v = self.sizes(config, width)
        self.query = nn.Linear(width, self.heads * self.d, config.bias)
        self.key = nn.Linear(width, self.groups * self.d, config.bias)
        self.join = nn.Linear(width, self.d_v, config.bias) if config.join_input else None
        self.make_values()
        for part in (self.query, self.key, self.join):
            if part is not None:
                started(part)

    def sizes(self, config: AttentionConfig, width: int) -> tuple[int, int]:
        """(d, d_v)."""
        d, d_v = head_sizes(replace(config, d_value=0), width)
        if config.d_value % self.heads:
            low = config.d_value // self.heads * self.heads
            near = f"{low} or {low + self.heads}" if low else f"{self.heads}"
            raise BadInput(f"d_value = {config.d_value}: must be a multiple of searches = {self.heads}, such as {near}")
        return d, config.d_value // self.heads or d_v

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
    ) -> Tensor | tuple[Tensor, Activations]:
        """(B, N, D) to (B, N, D), as `AttentionLayer` says."""
        unknown(need, self.needs)
        memory = x if memory is None else memory
        query, key = split(self.query(x), self.heads), split(self.key(memory), self.groups)
        value = self.values(memory)
        if cache is not None:
            key, value = cache.append(key, value)
        if self.groups < self.heads:
            key, value = (each.repeat_interleave(self.heads // self.groups, 1) for each in (key, value))
        mask, dead = self._mask(query, key, attn_mask, key_padding_mask, is_causal)
        dropout = self.config.dropout if self.training else 0.0
        found: Activations = {}
        if "search" in need or (dropout and generator is not None):
            scores = query @ key.transpose(-1, -2) / math.sqrt(self.d)
            search = (scores if mask is None else scores + mask).softmax(-1)
            search = search if dead is None else search.masked_fill(dead, 0.0)
            found["search"] = search
            if dropout:
                keep = torch.rand(search.shape, generator=generator, device=search.device) >= dropout
                search = search * keep / (1 - dropout)
            attended = search @ value
        else:
            attended = F.scaled_dot_product_attention(query, key, value, mask, dropout)
            attended = attended if dead is None else attended.masked_fill(dead, 0.0)
        out = self.merged(attended, x, found)
        return (out, {name: found[name] for name in need}) if need else out

    def _mask(
        self, query: Tensor, key: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None, is_causal: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """What is added to the scores, and which rows, (B, S, N, 1), may attend to nothing; None: nothing, none."""
        (n, m), device = (query.shape[2], key.shape[2]), query.device
        position = torch.arange(m - n, m, device=device)[:, None]
        allowed = torch.ones((1, 1, n, m), dtype=torch.bool, device=device)
        if is_causal:
            allowed = allowed & (torch.arange(m, device=device) <= position)
        if self.config.exclude_self:
            allowed = allowed & (torch.arange(m, device=device) != position)
        if key_padding_mask is not None:
            allowed = allowed & key_padding_mask[:, None, None]
        added = query.new_zeros(())
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:
                allowed = allowed & attn_mask
            else:
                allowed, added = allowed & (attn_mask > -math.inf), attn_mask
        if bool(allowed.all()) and attn_mask is None:
            return None, None
        dead = ~allowed.any(-1, keepdim=True)
        return torch.where(allowed | dead, added.clamp(min=torch.finfo(query.dtype).min), -math.inf), dead


def split(flat: Tensor, parts: int) -> Tensor:
    """(B, N, parts·d) to (B, parts, N, d)."""
    return flat.unflatten(-1, (parts, -1)).transpose(1, 2)


def started(linear: nn.Linear) -> nn.Linear:
    """The same map, with Xavier's uniform weights and a bias of 0."""
    nn.init.xavier_uniform_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


def unknown(need: Sequence[str], known: Sequence[str]) -> None:
    """Raises `BadInput` for an activation that the layer does not have."""
    for name in need:
        if name not in known:
            raise BadInput(f"need = {name!r}: must be one of {', '.join(known)}{nearest(name, known)}")
