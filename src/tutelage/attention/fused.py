"""The ways to what every pair of a search and a retrieval finds, without all of A in memory.

stacked    one attention per search over all R retrievals side by side: in tiles of our own
           (`tutelage.attention.tiled`), or on an accelerator by PyTorch's fused kernel, where that takes the sizes
expanded   R attentions per search by PyTorch's fused kernel, searches repeated
literal    all of A (`tutelage.attention.compositional`)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from tutelage.attention.config import BACKENDS
from tutelage.attention.masks import Masks
from tutelage.attention.positions import toeplitz
from tutelage.attention.tiled import tiled_attention

__all__ = ["BACKENDS", "chosen", "found"]


def chosen(
    backend: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    masks: Masks,
    dropout: float,
    offsets: Tensor | None,
    need: Sequence[str],
) -> str:
    """stacked, expanded or literal, for these tensors; `need` and a mask with a gradient take the literal one."""
    if "search" in need or (masks.attn is not None and masks.attn.requires_grad):
        return "literal"
    if backend == "literal":
        return "literal"
    if backend == "auto" and q.shape[2] == 1:
        return "literal"  # of one token A is no larger than the keys
    return "stacked" if backend == "auto" or dropout > 0 else backend


def found(
    backend: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    masks: Masks,
    dropout: float,
    offsets: Tensor | None,
    generator: torch.Generator | None,
) -> Tensor:
    """O (B, S, N, R, d_v) from q (B, S, N, d), k (B, S, M, d) and v (B, R, M, d_v)."""
    size = v.shape[-1]
    stacked = v.transpose(1, 2).flatten(2)  # (B, M, R·d_v)
    scale = 1 / math.sqrt(q.shape[-1])
    seed = None
    if dropout > 0:
        device = "cpu" if generator is None else generator.device
        seed = torch.randint(2**62, (), generator=generator, device=device)
    out = tiled_attention(
        q, k, stacked, masks.attn, masks.keys, offsets, seed, scale, masks.causal, masks.exclude_self, dropout
    )
    return out.unflatten(-1, (-1, size))
