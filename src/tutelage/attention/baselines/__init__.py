"""What compositional attention is compared with: attentions whose heads tie where to look to what to take."""

from __future__ import annotations

from collections.abc import Callable

from tutelage.attention.baselines.grouped_query import GroupedQuery
from tutelage.attention.baselines.mixture_of_heads import MixtureOfHeads
from tutelage.attention.baselines.multihead import MultiHead
from tutelage.attention.baselines.switch_head import SwitchHead
from tutelage.attention.config import AttentionConfig
from tutelage.lab.errors import BadInput, nearest

KINDS: dict[str, Callable[[AttentionConfig, int], MultiHead]] = {
    "multihead": MultiHead,
    "grouped_query": GroupedQuery,
    "mixture_of_heads": MixtureOfHeads,
    "switch_head": SwitchHead,
}


def layer(config: AttentionConfig, width: int) -> MultiHead:
    """The baseline that the configuration names, untrained (an `AttentionLayer`).

    Raises:
        BadInput: no such baseline, sizes that do not divide, or settings that contradict each other.
    """
    if config.kind not in KINDS:
        raise BadInput(f"kind = {config.kind!r}: must be one of {', '.join(KINDS)}{nearest(config.kind, KINDS)}")
    return KINDS[config.kind](config, width)
