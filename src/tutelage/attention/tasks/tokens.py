"""Numbers of tokens to vectors with positions, and the causal model of sequences of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.attention.blocks import Encoder
from tutelage.attention.cache import LayerCache
from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.positions import legacy_sinusoidal, sinusoidal


class Embedding(nn.Module):
    """(B, N) to (B, N, width): √width times a learned vector, plus sines where scores know no positions themselves.

    Args:
        length: positions that are worked out beforehand; more are added when they come.
    """

    def __init__(self, vocabulary: int, attention: AttentionConfig, network: NetworkConfig, length: int = 64) -> None:
        super().__init__()
        self.width = network.width
        self.weight = nn.Parameter(torch.randn(vocabulary, self.width) * self.width**-0.5)
        self._sines = legacy_sinusoidal if network.legacy_positions else sinusoidal
        table = self._sines(length, self.width) if attention.positions == "none" else None
        self.register_buffer("positions", table, persistent=False)

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        """The first token has position `start`."""
        x = nn.functional.embedding(tokens, self.weight) * self.width**0.5
        if self.positions is None:
            return x
        end = start + tokens.shape[1]
        if end > len(self.positions):
            self.positions = self._sines(2 * end, self.width).to(self.weight)
        return x + self.positions[start:end]


class CausalModel(nn.Module):
    """Token numbers (B, N) to logits of the next (B, N, vocabulary), which are products with the same embedding."""

    def __init__(
        self, vocabulary: int, attention: AttentionConfig, network: NetworkConfig, *, length: int = 64
    ) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, attention, network, length)
        self.encoder = Encoder(attention, network)

    def forward(
        self,
        tokens: Tensor,
        *,
        caches: Sequence[LayerCache] | None = None,
        need: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> Any:
        """Logits, or with `need` a pair of them and the activations of each iteration.

        Args:
            caches: of `encoder.caches()`; `tokens` follow those that they have seen.
        """
        x = self.embedding(tokens, caches[0].length if caches else 0)
        out = self.encoder(x, is_causal=True, caches=caches, need=need, generator=generator)
        x, found = out if need else (out, None)
        logits = nn.functional.linear(x, self.embedding.weight)
        return (logits, found) if need else logits
