"""Mixture-of-heads attention: each token weighs its heads, and uses only some of them.

References: Jin, Zhu, Yuan & Yan (2024), MoH: Multi-Head Attention as Mixture-of-Head Attention, arXiv 2410.11842, with
the scales of the official code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.attention.baselines.multihead import MultiHead, started
from tutelage.attention.config import AttentionConfig
from tutelage.attention.layer import Activations


class MixtureOfHeads(MultiHead):
    """Multi-head attention whose head h is multiplied by a gate g_h of the token before the output projection.

    The first h_s = `shared_heads` are always in use, `top_k` = k of the other h_r are (0: all). With one map without
    bias for each softmax,

        shared: g = α_1 h_s softmax(W_s x)
        routed: g = α_2 k p / Σ_chosen p, of the k largest p = softmax(W_r x), else 0
        α = 2 softmax(W_h x), or 1 where all heads are of one sort

    so gates are 1 on average over the heads in use; with all in use and no preference it is multi-head attention.

    Activations: `search`, and `routing`: g, (B, N, S). The balance of the routed heads is told by `balance_losses`.
    Deviation: all heads are computed, and those not in use multiplied by 0.
    """

    def __init__(self, config: AttentionConfig, width: int) -> None:
        super().__init__(config, width)
        routed = self.heads - config.shared_heads
        self.chosen = config.top_k or routed
        self.shared_router = started(nn.Linear(width, config.shared_heads, False)) if config.shared_heads else None
        self.routed_router = started(nn.Linear(width, routed, False)) if routed else None
        both = self.shared_router is not None and self.routed_router is not None
        self.sort_router = started(nn.Linear(width, 2, False)) if both else None
        self.tell: Callable[[Tensor], None] | None = None

    def gates(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, S)."""
        found = []
        if self.shared_router is not None:
            found.append(self.shared_router(x).softmax(-1) * self.shared_router.out_features)
        if self.routed_router is not None:
            share = self.routed_router(x).softmax(-1)
            used = F.one_hot(share.topk(self.chosen, -1).indices, share.shape[-1]).sum(-2).to(share.dtype)
            if self.tell is not None:
                self.tell(load_balance(share.flatten(0, 1), used.flatten(0, 1)))
            kept = share * used
            found.append(kept / kept.sum(-1, keepdim=True) * self.chosen)
        if self.sort_router is not None:
            weights = self.sort_router(x).softmax(-1) * 2
            found = [gate * weights[..., sort, None] for sort, gate in enumerate(found)]
        return torch.cat(found, -1)

    def merged(self, attended: Tensor, x: Tensor, found: Activations) -> Tensor:
        gates = self.gates(x)
        found["routing"] = gates
        return super().merged(attended * gates.transpose(1, 2)[..., None], x, found)


def load_balance(share: Tensor, used: Tensor) -> Tensor:
    """E Σ_e f_e P_e over E routed heads: P_e the mean share of head e, f_e how often it is used; both come as (T, E).

    It is k, the number in use, with balanced heads, and E where the same k always win by far. Only P has a gradient.
    The publication adds it to the loss with the weight 0.01 (without the factor E, which is the official code's).
    """
    return share.shape[-1] * (share.mean(0) * used.mean(0)).sum()


@contextmanager
def balance_losses(model: nn.Module) -> Iterator[list[Tensor]]:
    """A list that gets the load-balance loss of every call of every mixture of heads in the model, in the block.

    with balance_losses(model) as balance:
        loss = ...
    loss = loss + 0.01 * torch.stack(balance).mean()
    """
    found: list[Tensor] = []
    layers = [part for part in model.modules() if isinstance(part, MixtureOfHeads)]
    for part in layers:
        part.tell = found.append
    try:
        yield found
    finally:
        for part in layers:
            part.tell = None
