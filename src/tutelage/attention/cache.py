"""Keys and values of the tokens that were seen, for decoding one token after another.

A token costs S·d + R·d_v numbers; multi-head attention with H heads is the case S = R = H.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """What one attention layer keeps: k (B, S, N, d) and v (B, R, N, d_v).

    The same class serves self-attention, which appends the keys and values of every call, and cross-attention, whose
    memory is projected once: `fixed` says that what is there is all there will be.

    Room is doubled when it is used up, so that n appended tokens are copied O(n) times together. Where gradients are
    wanted nothing is written in place.
    """

    def __init__(self, *, fixed: bool = False) -> None:
        self.fixed = fixed
        self.length = 0
        self._k: Tensor | None = None
        self._v: Tensor | None = None
        self._memory: LayerCache | None = None

    @property
    def k(self) -> Tensor | None:
        """(B, S, N, d) of the N tokens so far; None of none."""
        return None if self._k is None else self._k[:, :, : self.length]

    @property
    def v(self) -> Tensor | None:
        """(B, R, N, d_v) of the N tokens so far; None of none."""
        return None if self._v is None else self._v[:, :, : self.length]

    @property
    def memory(self) -> LayerCache:
        """The cache of the cross-attention in the same block, made when it is first asked for."""
        if self._memory is None:
            self._memory = LayerCache(fixed=True)
        return self._memory

    @property
    def filled(self) -> bool:
        """A fixed cache which has its memory: nothing needs to be projected again."""
        return self.fixed and self.length > 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add n tokens, k (B, S, n, d) and v (B, R, n, d_v); all of them, (B, S, N, d) and (B, R, N, d_v)."""
        self._k = self._extended(self._k, k)
        self._v = self._extended(self._v, v)
        self.length += k.shape[2]
        return self._k[:, :, : self.length], self._v[:, :, : self.length]

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order and as often as they are named: (B',) whole numbers."""
        if self._k is not None and self._v is not None:
            self._k, self._v = self._k.index_select(0, rows), self._v.index_select(0, rows)
        if self._memory is not None:
            self._memory.select(rows)

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens (the memory of a cross-attention stays)."""
        if not self.fixed:
            self.length = min(self.length, length)

    def _extended(self, held: Tensor | None, new: Tensor) -> Tensor:
        end = self.length + new.shape[2]
        if held is None:
            return new
        if torch.is_grad_enabled() and (new.requires_grad or held.requires_grad):
            return torch.cat((held[:, :, : self.length], new), 2)
        if end > held.shape[2] or held.requires_grad:
            room = held.new_empty(*held.shape[:2], max(end, 2 * self.length), held.shape[3])
            room[:, :, : self.length] = held[:, :, : self.length]
            held = room
        held[:, :, self.length : end] = new
        return held
