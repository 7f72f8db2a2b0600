"""A baseline of the same number of parameters, so that a comparison is not one of sizes."""

from __future__ import annotations

from dataclasses import replace

import torch

from tutelage.attention.config import AttentionConfig
from tutelage.attention.kinds import attention_layer
from tutelage.lab.errors import BadInput


def num_parameters(config: AttentionConfig, width: int) -> int:
    """Trainable numbers of the layer."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in attention_layer(config, width).parameters())


def equal_parameters(config: AttentionConfig, width: int, *, kind: str = "multihead") -> AttentionConfig:
    """The same attention as another `kind`, with the head sizes that bring it nearest to the parameters of `config`.

    Searches, retrievals and all else stay. d and d_v of a head differ by at most one step (of 1; of 2 with rotary
    positions, whose d must be even), as they are equal in multi-head attention. The count depends on d + d_v, so it is
    met up to half of what a step costs.

    Raises:
        BadInput: the other kind has more parameters even with heads of the smallest size.
    """
    wanted, step = num_parameters(config, width), 2 if config.positions == "rotary" else 1
    parts = config.retrievals if kind in ("grouped_query", "switch_head") else config.searches

    def candidate(d: int, d_v: int) -> AttentionConfig:
        return replace(config, kind=kind, d_search=config.searches * d, d_value=parts * d_v)

    def count(steps: int) -> int:
        return num_parameters(candidate(steps * step, steps * step), width)

    if count(1) > wanted:
        raise BadInput(f"kind = {kind!r}: has {count(1)} parameters with the smallest heads, more than {wanted}")
    low, high = 1, 2
    while count(high) <= wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= wanted else (low, middle)
    sizes = [(low, low), (low + 1, low), (low, low + 1), (low + 1, low + 1)]
    found = [candidate(d * step, d_v * step) for d, d_v in sizes]
    return min(found, key=lambda each: abs(num_parameters(each, width) - wanted))
