"""Numbers of tokens to vectors with positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.positions import legacy_sinusoidal, sinusoidal


class Embedding(nn.Module):
    """(B, N) to (B, N, width): √width times a learned vector, plus sines where scores know no positions themselves.

    Args:
        length: positions that are worked out beforehand; more are added when they come.
    """

    positions: Tensor | None

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
