"""Dropout and Gumbel noise that draw from an explicit generator; None is PyTorch's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def dropout(x: Tensor, rate: float, training: bool, generator: torch.Generator | None = None) -> Tensor:
    """`x` with a share `rate` of its numbers set to 0 and the others divided by 1 - rate, in training."""
    if not training or rate == 0.0:
        return x
    if generator is None:
        return nn.functional.dropout(x, rate)
    kept = torch.empty_like(x, requires_grad=False).bernoulli_(1 - rate, generator=generator)
    return x * kept.div_(1 - rate)


def gumbel(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise of the shape, type and device of `like`: -log E, with E of the exponential distribution."""
    return -torch.empty_like(like, requires_grad=False).exponential_(generator=generator).log()
