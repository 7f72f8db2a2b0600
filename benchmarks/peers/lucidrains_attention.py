"""Times lucidrains' compositional attention: `python lucidrains_attention.py --work JSON`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from attention_work import Decode, main, without_cache
from compositional_attention_pytorch import CompositionalAttention
from torch import Tensor, nn

NAMES = {
    "to_searches_queries": "query",
    "to_searches_keys": "key",
    "to_retrieval_values": "value",
    "to_retrieval_queries": "value_query",
    "to_retrieval_keys": "value_key",
    "to_out": "output",
}


def make(work: Mapping[str, int], weights: Mapping[str, Tensor], causal: bool) -> tuple[nn.Module, Decode]:
    layer = CompositionalAttention(
        dim=work["width"],
        dim_head=work["width"] // work["searches"],
        num_searches=work["searches"],
        num_retrievals=work["retrievals"],
        causal=causal,
    )
    with torch.no_grad():
        for theirs, name in NAMES.items():
            getattr(layer, theirs).weight.copy_(weights[name])
    return layer, without_cache(layer)


if __name__ == "__main__":
    main("lucidrains", make)
