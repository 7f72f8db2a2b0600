"""The ways to what every pair of a search and a retrieval finds, without all of A in memory.

    stacked    one attention for each search, all R retrievals side by side in its value: on the CPU in tiles of our own
               (`tutelage.attention.compositional.tiled`), on an accelerator by PyTorch's fused kernel where that takes
               the sizes
    expanded   R attentions for each search by PyTorch's fused kernel: searches are repeated, and what is smaller of d
               and d_v is filled up with zeros, since kernels want both equal
    literal    all of A (in `tutelage.attention.compositional.layer`)

Dropout is on A: what a search does not see, it sees in no retrieval. Fused kernels cannot say that, as they draw for
every repeated search anew and not from a generator of ours; with dropout all but `literal` compute in tiles.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from tutelage.attention.compositional.tiled import tiled_attention
from tutelage.attention.masks import Masks
from tutelage.attention.positions import toeplitz

FEW = 2
"""Retrievals up to which R calls of PyTorch's kernel were faster on the CPU than one pass in tiles."""
SHORT = 128
"""Tokens of a memory up to which all of A was faster on the CPU than any way without it, in the models of our tasks."""


def chosen(
    backend: str, q: Tensor, k: Tensor, v: Tensor, masks: Masks, dropout: float, positions: bool, need: Sequence[str]
) -> str:
    """stacked, expanded or literal, for q (B, S, N, d), k (B, S, M, d) and v (B, R, M, d_v).

    A that is asked for, a mask that wants a gradient, and no tokens at all, take the literal way. `auto` is what was
    fastest: literal for a single query, whose A is no larger than its keys; on the CPU literal for short memories too,
    then expanded for few retrievals as large as searches under no limit but a causal one (any other would be a mask as
    large as A); stacked for the rest.
    """
    if not all((q.shape[0], q.shape[2], k.shape[2])):
        return "literal"
    if backend == "literal" or "search" in need or (masks.attn is not None and masks.attn.requires_grad):
        return "literal"
    if backend == "auto":
        cpu = q.device.type == "cpu"
        if q.shape[2] == 1 or (cpu and k.shape[2] <= SHORT):
            return "literal"
        few = cpu and v.shape[1] <= FEW and v.shape[3] == q.shape[3]
        backend = "expanded" if few and not positions and _kernels_own(masks, q, k) else "stacked"
    return "stacked" if dropout > 0 else backend


def found(
    backend: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    masks: Masks,
    offsets: Tensor | None,
    dropout: float,
    generator: torch.Generator | None,
) -> Tensor:
    """O (B, S, N, R, d_v) from q (B, S, N, d), k (B, S, M, d) and v (B, R, M, d_v).

    Args:
        backend: stacked or expanded.
        masks: limits of the scores.
        offsets: (S, N + M - 1), see `tutelage.attention.positions.RelativeBias`; None: no positions.
        dropout: of A.
        generator: what dropout draws from; None: PyTorch's own.
    """
    size, scale = v.shape[-1], 1 / math.sqrt(q.shape[-1])
    if backend == "expanded":
        out = _expanded(q, k, v, masks, offsets, scale)
        if out is not None:
            return out
    stacked = v.transpose(1, 2).flatten(2)  # (B, M, R·d_v)
    if q.device.type != "cpu" and dropout == 0:
        out = _kernel(q, k, stacked[:, None].expand(-1, q.shape[1], -1, -1), masks, offsets, scale)
        if out is not None:
            return out.unflatten(-1, (-1, size))
    seed = None
    if dropout > 0:
        device = q.device if generator is None else generator.device
        seed = torch.randint(2**62, (), generator=generator, device=device)
    out = tiled_attention(
        q, k, stacked, masks.attn, masks.keys, offsets, seed, scale, masks.causal, masks.exclude_self, dropout
    )
    return out.unflatten(-1, (-1, size))


def _expanded(q: Tensor, k: Tensor, v: Tensor, masks: Masks, offsets: Tensor | None, scale: float) -> Tensor | None:
    retrievals, size = v.shape[1], v.shape[3]
    lack = size - q.shape[3]
    if lack > 0:
        q, k = pad(q, (0, lack)), pad(k, (0, lack))
    values = pad(v, (0, max(-lack, 0)))
    searches = q.shape[1]
    each = [_kernel(q, k, one[:, None].expand(-1, searches, -1, -1), masks, offsets, scale) for one in values.unbind(1)]
    outs = [out[..., :size] for out in each if out is not None]
    return torch.stack(outs, 3) if len(outs) == retrievals else None


def _kernel(q: Tensor, k: Tensor, v: Tensor, masks: Masks, offsets: Tensor | None, scale: float) -> Tensor | None:
    """PyTorch's attention with values (B, S, M, C); None, and a warning once, where it would build all of A."""
    queries, keys = q.shape[2], k.shape[2]
    square = masks.causal and offsets is None and _kernels_own(masks, q, k)
    mask = None if square else masks.combined(queries, keys, q.device)
    empty = None
    if mask is not None:
        # A row that allows nothing may look at everything, and is then set to zeros: kernels differ in what they make
        # of it, and their gradients with it.
        allowed = mask if mask.dtype == torch.bool else mask > -math.inf
        empty = ~allowed.any(-1, keepdim=True)
        mask = mask | empty if mask.dtype == torch.bool else mask.masked_fill(empty, 0.0)
    if offsets is not None:
        bias = toeplitz(offsets, queries, keys)[None].to(q.dtype)
        mask = bias if mask is None else torch.where(mask, bias, -math.inf) if mask.dtype == torch.bool else mask + bias
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    if not _takes(q, k, v, mask, square):
        _warn_once(q.shape[3], v.shape[3], q.device.type)
        return None
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=square, scale=scale)
    return out if empty is None else out.masked_fill(empty, 0.0)


def _kernels_own(masks: Masks, q: Tensor, k: Tensor) -> bool:
    """Kernels know these limits without a mask: none, or causal with as many queries as keys."""
    if masks.attn is not None or masks.keys is not None or masks.exclude_self:
        return False
    return not masks.causal or q.shape[2] == k.shape[2]


def _takes(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> bool:
    """Whether a kernel of PyTorch's that never builds A takes these tensors."""
    if torch.compiler.is_compiling():
        return True
    if q.device.type != "cuda":
        return q.device.type != "cpu" or q.shape[3] == v.shape[3]
    cuda = torch.backends.cuda
    params = cuda.SDPAParams(q, k, v, mask, 0.0, causal, False)
    return cuda.can_use_flash_attention(params) or cuda.can_use_efficient_attention(params)


@functools.cache
def _warn_once(search: int, value: int, device: str) -> None:
    warnings.warn(
        f"no fused kernel of PyTorch's on {device} takes searches of size {search} with values of size {value} here; "
        "computing in tiles instead",
        stacklevel=2,
    )
