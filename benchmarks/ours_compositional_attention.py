"""Times our layer, a naive one and multi-head attention: `python ours_compositional_attention.py LAYER --work JSON`."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from attention_work import Decode, main, without_cache

from tutelage.attention.cache import LayerCache
from tutelage.attention.compositional.layer import CompositionalAttention


def ours(work: Mapping[str, int], weights: Mapping[str, Tensor], causal: bool) -> tuple[nn.Module, Decode]:
    """Our layer, and decoding with its cache."""
    width, searches, retrievals = work["width"], work["searches"], work["retrievals"]
    layer = CompositionalAttention(width, searches, retrievals, d_select=width // searches, bias=False)
    with torch.no_grad():
        for name in ("query", "key", "value", "value_query", "output"):
            getattr(layer, name).weight.copy_(weights[name])
        assert layer.competition.weight is not None
        layer.competition.weight.copy_(weights["value_key"])

    def decode(x: Tensor) -> Tensor:
        cache = LayerCache()
        return torch.cat([layer(token, is_causal=True, cache=cache) for token in x.split(1, 1)], 1)

    return layer, decode


class Naive(nn.Module):
    """The formulas, one tensor after another: A, every pair, value keys, competition."""

    def __init__(self, work: Mapping[str, int], weights: Mapping[str, Tensor], causal: bool) -> None:
        super().__init__()
        self.searches, self.retrievals, self.causal = work["searches"], work["retrievals"], causal
        self.weights = nn.ParameterDict({name: nn.Parameter(weight) for name, weight in weights.items()})

    def forward(self, x: Tensor) -> Tensor:
        w, heads = self.weights, (self.searches, -1)
        q, k, choice = ((x @ w[name].T).unflatten(-1, heads) for name in ("query", "key", "value_query"))
        v = (x @ w["value"].T).unflatten(-1, (self.retrievals, -1))
        scores = torch.einsum("bnsd,bmsd->bsnm", q, k) / math.sqrt(q.shape[-1])
        if self.causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
        found = torch.einsum("bsnm,bmrv->bnsrv", scores.softmax(-1), v)
        key = found @ w["value_key"].T
        c = (torch.einsum("bnse,bnsre->bnsr", choice, key) / math.sqrt(choice.shape[-1])).softmax(-1)
        return torch.einsum("bnsr,bnsrv->bnsv", c, found).flatten(2) @ w["output"].T


class MultiHead(nn.Module):
    """Multi-head attention by PyTorch's fused kernel, as many heads as searches: what the competition costs."""

    def __init__(self, work: Mapping[str, int], weights: Mapping[str, Tensor], causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = work["searches"], causal
        value = weights["value"].repeat(work["searches"] // work["retrievals"], 1)
        self.inward = nn.Parameter(torch.cat((weights["query"], weights["key"], value)))
        self.outward = nn.Parameter(weights["output"])

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        parts = (x @ self.inward.T).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        if cache is not None:
            k, v = cache.append(k, v)
        out = scaled_dot_product_attention(q, k, v, is_causal=self.causal and cache is None)
        return out.transpose(1, 2).flatten(2) @ self.outward.T


def naive(work: Mapping[str, int], weights: Mapping[str, Tensor], causal: bool) -> tuple[nn.Module, Decode]:
    layer = Naive(work, weights, causal)
    return layer, without_cache(layer)


def multihead(work: Mapping[str, int], weights: Mapping[str, Tensor], causal: bool) -> tuple[nn.Module, Decode]:
    layer = MultiHead(work, weights, causal)

    def decode(x: Tensor) -> Tensor:
        cache = LayerCache()
        return torch.cat([layer(token, cache) for token in x.split(1, 1)], 1)

    return layer, decode


LAYERS = {"tutelage": ours, "naive": naive, "multi-head": multihead}

if __name__ == "__main__":
    main(sys.argv[1], LAYERS[sys.argv[1]])
