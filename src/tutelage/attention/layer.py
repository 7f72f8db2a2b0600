"""The one interface of all attention layers, so that models and tasks never ask which they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tutelage.attention.cache import LayerCache

Activations = dict[str, Tensor]
"""`search`: A, (B, S, N, M), rows sum to 1 (or are 0, where nothing may be attended to); `competition`: C,
(B, N, S, R), summing to 1 over R, of layers that have one; `empty`: bool (B, S, N), True where nothing may be attended
to, of compositional attention."""


@runtime_checkable
class AttentionLayer(Protocol):
    """(B, N, D) and a memory (B, M, D) to (B, N, D). An `nn.Module`.

    Args of the call:
        x: queries are made of it.
        memory: keys and values are made of it; None: of `x`.
        attn_mask: bool, True = may attend, or additive and floating; broadcastable to (B, S, N, M).
        key_padding_mask: bool (B, M), True = a real token, which may be attended to.
        is_causal: token n may attend to the first n + 1 + (M - N) tokens of the memory.
        cache: what earlier calls left; the new tokens' keys and values are added to it.
        need: names of activations to return beside the output; `search` needs the literal computation.
        generator: what dropout and Gumbel noise draw from; None: PyTorch's own.

    Returns the output, or with `need` a pair of it and the `Activations`.

    A row in which nothing may be attended to gives zeros before the output projection, never NaN.
    """

    def __call__(
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
    ) -> Any: ...
