"""The value of a prefix: a linear head on hidden states, the policy's own or those of a network apart."""

from __future__ import annotations

import copy
from typing import Any

import torch

from tutelage.lm.training.architecture import unwrapped


class ValueFunction(torch.nn.Module):
    """What is still to be earned, before each token. It begins at 0 everywhere.

    Attributes:
        head: linear, from the hidden state to one number, in float32.
        network: the model whose hidden states are read; None for the policy's own.
    """

    def __init__(self, model: Any, network: Any = None) -> None:
        super().__init__()
        size = unwrapped(model).config.get_text_config(decoder=True).hidden_size
        self.head = torch.nn.Linear(size, 1, device=next(model.parameters()).device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self.network = network

    @classmethod
    def separate(cls, model: Any) -> ValueFunction:
        """On a copy of the model as it is now."""
        return cls(model, copy.deepcopy(model).eval())

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[rows, width]` values of hidden states `[rows, width, d]`."""
        return self.head(hidden.float())[..., 0]
