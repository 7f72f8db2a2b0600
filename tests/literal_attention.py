"""Compositional attention as the paper's page writes it, one tensor after another: what the layer is tested against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tutelage.attention.compositional.layer import CompositionalAttention


def literal(layer: CompositionalAttention, x: Tensor, memory: Tensor | None = None, allowed: Tensor | None = None):
    """Output, A (B, S, N, M) and C (B, N, S, R); `allowed` is bool and broadcasts to (B, S, N, M)."""
    memory = x if memory is None else memory
    config, searches, retrievals = layer.config, layer.searches, layer.retrievals
    batch, queries, _ = x.shape
    q = layer.query(x).view(batch, queries, searches, -1)
    k = layer.key(memory).view(batch, memory.shape[1], searches, -1)
    v = layer.value(memory).view(batch, memory.shape[1], retrievals, -1)
    scores = torch.einsum("bnsd,bmsd->bsnm", q, k) / math.sqrt(layer.d)
    a = torch.zeros_like(scores)
    where = torch.ones_like(scores, dtype=torch.bool) if allowed is None else allowed.expand_as(scores)
    exponential = torch.where(where, (scores - scores.amax(-1, keepdim=True)).exp(), 0.0)
    total = exponential.sum(-1, keepdim=True)
    a = exponential / torch.where(total == 0, 1.0, total)
    found = torch.einsum("bsnm,bmrv->bnsrv", a, v)
    query = layer.value_query(q) if config.compose_query else layer.value_query(x).view(batch, queries, searches, -1)
    logits = literal_logits(layer, query, found)
    c = (logits / config.temperature).softmax(-1)
    taken = torch.einsum("bnsr,bnsrv->bnsv", c, found).flatten(2)
    if layer.join is not None:
        taken = torch.cat((taken, layer.join(x)), -1)
    return layer.output(taken), a, c


def literal_logits(layer: CompositionalAttention, query: Tensor, found: Tensor) -> Tensor:
    """ℓ (B, N, S, R), with every term that the softmax takes away."""
    of, e = layer.competition, layer.config.d_select
    joined = torch.cat((query[..., None, :].expand(*found.shape[:-1], e), found), -1)
    match layer.config.competition:
        case "dot":
            rule = "rev,bnsrv->bnsre" if layer.config.per_retrieval_key else "ev,bnsrv->bnsre"
            key = torch.einsum(rule, of.weight, found) + (0.0 if of.bias is None else of.bias)
            return torch.einsum("bnse,bnsre->bnsr", query, key) / math.sqrt(e)
        case "linear":
            return joined @ of.weight[0] + (0.0 if of.bias is None else of.bias)
        case "mlp":
            hidden = torch.nn.functional.linear(joined, of.weight, of.bias).relu()
            return torch.nn.functional.linear(hidden, of.weight_out, of.bias_out)[..., 0]
    return torch.einsum("bnse,re->bnsr", query, of.weight) / math.sqrt(e)


def shaken(layer: torch.nn.Module) -> torch.nn.Module:
    """Every parameter drawn, biases too, so that none hides behind a zero."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64) * 0.4)
    return layer
