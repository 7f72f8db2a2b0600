"""Who may attend to whom: one polarity, True = may attend, checked before any work.

A row in which nothing may be attended to is a row of zeros in A, never NaN. Only `-inf` in an additive mask forbids.
What padding holds, NaN and infinity too, reaches no output and no gradient of other tokens: `without_padding` and
`finite_padding` keep it out of the projections, since 0 · NaN would not. Other masks promise this of finite numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.lab.errors import BadInput


@dataclass(frozen=True)
class Masks:
    """What limits the scores of S searches from N queries to M keys.

    Attributes:
        attn: bool (True = may attend) or additive, four axes which broadcast to (B, S, N, M); None: no limit.
        keys: bool (B, M), True = a real token; None: all are.
        causal: query n may attend to the first n + 1 + (M - N) keys.
        exclude_self: query n may not attend to key n + (M - N).
    """

    attn: Tensor | None
    keys: Tensor | None
    causal: bool
    exclude_self: bool

    @classmethod
    def of(
        cls,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        shape: tuple[int, int, int, int],
        *,
        is_causal: bool = False,
        exclude_self: bool = False,
    ) -> Masks:
        """Masks for scores of that shape (B, S, N, M).

        Polarity is looked at on the CPU and outside compilation, where a look costs little: a boolean `attn_mask` that
        allows exactly the future, and a `key_padding_mask` without any real token, are the other convention's.

        Raises:
            BadInput: wrong type, shape or polarity.
        """
        batch, _, _, keys = shape
        if attn_mask is not None:
            attn_mask = _attn(attn_mask, shape)
        if key_padding_mask is not None:
            if key_padding_mask.dtype != torch.bool or tuple(key_padding_mask.shape) != (batch, keys):
                raise BadInput(
                    f"key_padding_mask is {_what(key_padding_mask)}: must be bool of shape (B, M) = {(batch, keys)}, "
                    "True = a real token, which may be attended to"
                )
            if key_padding_mask.numel() and _cheap(key_padding_mask) and not bool(key_padding_mask.any()):
                raise BadInput(
                    "key_padding_mask has no True at all, so no token could attend to anything: "
                    "True = a real token, which may be attended to; did you mean ~key_padding_mask?"
                )
        return cls(attn_mask, key_padding_mask, is_causal, exclude_self)

    @property
    def limited(self) -> bool:
        """Anything at all is forbidden or weighted."""
        return self.attn is not None or self.keys is not None or self.causal or self.exclude_self

    def combined(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """All of it in one mask, bool or additive, which broadcasts to (B, S, N, M); None when nothing is limited."""
        allowed = self._structure(queries, keys, device)
        if self.keys is not None:
            real = self.keys[:, None, None, :]
            allowed = real if allowed is None else allowed & real
        if self.attn is None:
            return allowed
        if self.attn.dtype == torch.bool:
            return self.attn if allowed is None else self.attn & allowed
        return self.attn if allowed is None else self.attn.masked_fill(~allowed, -math.inf)

    def _structure(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        if not self.exclude_self and (not self.causal or queries == 1):
            return None
        own = torch.arange(keys - queries, keys, device=device)[:, None]
        key = torch.arange(keys, device=device)[None, :]
        if self.causal and self.exclude_self:
            return key < own
        return key <= own if self.causal else key != own


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last axis under a mask of `Masks.combined`; a row that allows nothing is zeros."""
    if mask is None or scores.shape[-1] == 0:
        return scores.softmax(-1)
    scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    empty = scores.detach().amax(-1, keepdim=True) == -math.inf
    return scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)


def without_padding(memory: Tensor, real: Tensor | None) -> Tensor:
    """Memory (B, M, D) with zeros for the tokens that a `key_padding_mask` calls no real ones.

    The mask may begin with tokens of a cache. One that does not fit is left to `Masks.of`, which refuses it.
    """
    new = _of_these(memory, real)
    return memory if new is None else memory.masked_fill(~new, 0.0)


def finite_padding(x: Tensor, real: Tensor | None) -> Tensor:
    """Tokens (B, N, D) that attend to themselves: zeros for those that are not real and whose sum is not finite.

    Other padding stays as it is, for it has an output of its own.
    """
    new = _of_these(x, real)
    if new is None:
        return x
    sums = x.detach().sum(-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
    spoilt = ~(new | sums.isfinite())
    return x if _cheap(spoilt) and not bool(spoilt.any()) else x.masked_fill(spoilt, 0.0)


def _of_these(tokens: Tensor, real: Tensor | None) -> Tensor | None:
    """Which of the last tokens are real, bool (B, n, 1); None where no mask or one that does not fit is given."""
    number = tokens.shape[1]
    if real is None or real.dtype != torch.bool or real.dim() != 2:
        return None
    if real.shape[0] != tokens.shape[0] or real.shape[1] < number:
        return None
    return real[:, real.shape[1] - number :, None]


def empty_rows(mask: Tensor | None, shape: tuple[int, int, int, int]) -> Tensor:
    """Bool (B, S, N): True where a mask of `Masks.combined` lets the query attend to nothing."""
    if mask is None:
        return torch.full(shape[:3], shape[3] == 0, dtype=torch.bool)
    allowed = mask if mask.dtype == torch.bool else mask > -math.inf
    return (~allowed.any(-1)).expand(shape[:3])


def _attn(mask: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise BadInput(f"attn_mask is {_what(mask)}: must be bool, True = may attend, or floating, added to the scores")
    sizes = [1] * (4 - mask.dim()) + list(mask.shape)
    if len(sizes) > 4 or any(size not in (1, wanted) for size, wanted in zip(sizes, shape, strict=True)):
        raise BadInput(
            f"attn_mask is {_what(mask)}: must broadcast to (B, S, N, M) = {shape}; "
            "True = may attend (bool), or added to the scores (floating)"
        )
    queries, keys = sizes[-2], sizes[-1]
    if mask.dtype == torch.bool and queries == keys > 1 and _cheap(mask):
        future = torch.ones(queries, keys, dtype=torch.bool).triu(1)
        if bool((mask == future).all()):
            raise BadInput("attn_mask allows exactly the future: True = may attend; did you mean ~attn_mask?")
    return mask.reshape(sizes)


def _cheap(mask: Tensor) -> bool:
    return mask.device.type == "cpu" and not torch.compiler.is_compiling()


def _what(mask: Tensor) -> str:
    return f"{str(mask.dtype).removeprefix('torch.')} of shape {tuple(mask.shape)}"
