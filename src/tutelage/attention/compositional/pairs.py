"""The two products around O (…, R, d_v), what each pair of a search and a retrieval found, with fast gradients.

Both are products of very small matrices, one for each token and search, and O is the largest tensor of the layer.
Batched matrix multiplication and its gradients take several times as long on the CPU as one pass over O.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_BLOCK = 1 << 16
"""Numbers of one retrieval that are summed at a time, so that the sum stays in the second-level cache."""


def dots(found: Tensor, query: Tensor) -> Tensor:
    """(…, R): O_j · u of O (…, R, d_v) and u (…, d_v)."""
    if _plain(found):
        return (found * query[..., None, :]).sum(-1)
    return _Dots.apply(found, query)


def mixture(weights: Tensor, found: Tensor) -> Tensor:
    """(…, d_v): Σ_j C_j O_j of C (…, R) and O (…, R, d_v)."""
    if _plain(found):
        return (found * weights[..., None]).sum(-2)
    return _Mixture.apply(weights, found)


def _plain(found: Tensor) -> bool:
    """A compiler makes one pass of the formula by itself, and of few numbers the passes cost less than the calls."""
    return torch.compiler.is_compiling() or found.numel() < _BLOCK // 4


class _Dots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, found: Tensor, query: Tensor) -> Tensor:
        ctx.save_for_backward(found, query)
        return (found @ query[..., None])[..., 0]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        [grad] = grad_outputs
        found, query = ctx.saved_tensors
        return grad[..., None] * query[..., None, :], mixture(grad, found)


class _Mixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, found: Tensor) -> Tensor:
        ctx.save_for_backward(weights, found)
        *batch, retrievals, size = found.shape
        weights, found = weights.reshape(-1, retrievals, 1), found.reshape(-1, retrievals, size)
        out = torch.empty_like(found[:, 0])
        rows = max(_BLOCK // size, 1)
        for block, weight, values in zip(out.split(rows), weights.split(rows), found.split(rows), strict=True):
            torch.mul(values[:, 0], weight[:, 0], out=block)
            for j in range(1, retrievals):
                block.addcmul_(values[:, j], weight[:, j])
        return out.view(*batch, size)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        [grad] = grad_outputs
        weights, found = ctx.saved_tensors
        return dots(found, grad), weights[..., None] * grad[..., None, :]
