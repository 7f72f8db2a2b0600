"""Every kind of attention by its name: compositional, and the baselines that tie where to look to what to take."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from tutelage.attention.baselines.grouped_query import GroupedQuery
from tutelage.attention.baselines.mixture_of_heads import MixtureOfHeads
from tutelage.attention.baselines.multihead import MultiHead
from tutelage.attention.baselines.switch_head import SwitchHead
from tutelage.attention.compositional.competition import Competition
from tutelage.attention.compositional.layer import CompositionalAttention
from tutelage.attention.config import AttentionConfig
from tutelage.lab.errors import BadInput, nearest

KINDS: dict[str, Callable[[AttentionConfig, int], nn.Module]] = {
    "compositional": CompositionalAttention.of,
    "multihead": MultiHead,
    "grouped_query": GroupedQuery,
    "mixture_of_heads": MixtureOfHeads,
    "switch_head": SwitchHead,
}


def attention_layer(config: AttentionConfig, width: int) -> nn.Module:
    """The layer that the configuration names, untrained (an `AttentionLayer`).

    Raises:
        BadInput: no such kind, sizes that do not divide, or settings that contradict each other.
    """
    if config.kind not in KINDS:
        raise BadInput(f"kind = {config.kind!r}: must be one of {', '.join(KINDS)}{nearest(config.kind, KINDS)}")
    layer = KINDS[config.kind](config, width)
    if config.initialisation == "pytorch":
        for part in layer.modules():
            if isinstance(part, nn.Linear):
                part.reset_parameters()
            elif isinstance(part, Competition):
                part.begin_as_linear_maps()
    return layer
