"""What a model with attention is trained and tested on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tutelage.attention.config import AttentionConfig, NetworkConfig

Batch = Mapping[str, Tensor]
"""Tensors by name, on the CPU; the training moves them to its device."""


@runtime_checkable
class Task(Protocol):
    """Data of one seed, the model for it, its loss and its figures.

    The data of an update follow from the seed and the update's number alone, so that a run which was killed goes on to
    the same bits.
    """

    def model(self, attention: AttentionConfig, network: NetworkConfig) -> nn.Module:
        """An untrained model with that attention, drawn from PyTorch's own generator."""
        ...

    def batch(self, step: int, size: int) -> Batch:
        """The training examples of update `step`, counted from 0."""
        ...

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The scalar to descend, and what is worth recording beside it. The model is in training mode."""
        ...

    def figures(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Held-out figures by name, on examples that depend on the seed alone. The model is in evaluation mode."""
        ...

    def show(self, model: nn.Module, device: torch.device) -> Mapping[str, Any]:
        """Arrays for pictures of what was learnt (searches, retrievals, examples), by name; may be empty."""
        ...
