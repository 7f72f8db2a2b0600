"""Which retrieval a search takes: logits over R retrievals for each token and search, and their softmax.

With O (…, R, d_v), what every pair of a search and a retrieval found, and value queries q̂ (…, e):

    dot      ℓ_ij = q̂_i · (W_vk O_ij + b) / √e    (arXiv 2110.09419)
    linear   ℓ_ij = w · [q̂_i; O_ij] + b           (the official code of SCAN)
    mlp      ℓ_ij = w₂ · relu(W₁ [q̂_i; O_ij] + b₁) + b₂, hidden size e
    static   ℓ_ij = q̂_i · k̂_j / √e               with free keys k̂_j

What adds the same to all j leaves the softmax: the bias of a value key that all retrievals share, b, b₂, and in linear
w·q̂_i, so that its output does not depend on the value query at all. Those terms are left out. Hence for dot no value
key is formed: u_i = W_vkᵀ q̂_i / √e and ℓ_ij = u_i · O_ij.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tutelage.attention import noise
from tutelage.attention.compositional.pairs import dots


class Competition(nn.Module):
    """Logits and weights C of R retrievals.

    Args:
        kind: dot, linear, mlp or static.
        retrievals: R.
        d_value: d_v, size of one retrieval.
        d_select: e, size of a value query.
        per_retrieval_key: with dot, W_vk and b of each retrieval's own.
        bias: dot's value keys, linear and mlp have biases.
        gumbel: noise in training; evaluation has none and is deterministic.
        temperature: what logits are divided by.
        top_k: the softmax is over so many of the largest logits; 0: over all.
    """

    def __init__(
        self,
        kind: str,
        retrievals: int,
        d_value: int,
        d_select: int,
        *,
        per_retrieval_key: bool = False,
        bias: bool = True,
        gumbel: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
    ) -> None:
        super().__init__()
        self.kind, self.d_select, self.per_retrieval_key = kind, d_select, per_retrieval_key
        self.gumbel, self.temperature = gumbel, temperature
        self.top_k = top_k if 0 < top_k < retrievals else 0
        self.weight, self.bias, self.weight_out, self.bias_out = None, None, None, None
        match kind:
            case "dot":
                own = (retrievals,) if per_retrieval_key else ()
                self.weight = nn.Parameter(torch.empty(*own, d_select, d_value))
                self.bias = nn.Parameter(torch.empty(*own, d_select)) if bias else None
            case "linear":
                self.weight = nn.Parameter(torch.empty(1, d_select + d_value))
                self.bias = nn.Parameter(torch.empty(1)) if bias else None
            case "mlp":
                self.weight = nn.Parameter(torch.empty(d_select, d_select + d_value))
                self.bias = nn.Parameter(torch.empty(d_select)) if bias else None
                self.weight_out = nn.Parameter(torch.empty(1, d_select))
                self.bias_out = nn.Parameter(torch.empty(1)) if bias else None
            case "static":
                self.weight = nn.Parameter(torch.empty(retrievals, d_select))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier's uniform with gain 1/√2, biases 0: the competition starts near uniform."""
        for weight in (self.weight, self.weight_out):
            if weight is not None:
                for each in weight if weight.dim() == 3 else (weight,):
                    nn.init.xavier_uniform_(each, gain=1 / math.sqrt(2))
        for bias in (self.bias, self.bias_out):
            if bias is not None:
                nn.init.zeros_(bias)

    def begin_as_linear_maps(self) -> None:
        """As PyTorch's linear maps begin: weights and biases uniform in ±1/√(size of the input)."""
        for weight, bias in ((self.weight, self.bias), (self.weight_out, self.bias_out)):
            for each in (weight, bias):
                if weight is not None and each is not None:
                    nn.init.uniform_(each, -(weight.shape[-1] ** -0.5), weight.shape[-1] ** -0.5)

    def forward(self, query: Tensor, found: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """C (…, R), rows summing to 1, from q̂ (…, e) and O (…, R, d_v), whose axes before are the same."""
        return self.weights(self.logits(query, found), generator)

    def logits(self, query: Tensor, found: Tensor) -> Tensor:
        """ℓ (…, R), but for what is the same for all retrievals."""
        assert self.weight is not None
        e = self.d_select
        match self.kind:
            case "dot":
                query = query / math.sqrt(e)
                if not self.per_retrieval_key:
                    return dots(found, query @ self.weight) + _without_effect(self.bias)
                logits = (torch.einsum("...e,rev->...rv", query, self.weight) * found).sum(-1)
                return logits if self.bias is None else logits + query @ self.bias.T
            case "linear":
                return (found @ self.weight[0, e:]) + _without_effect(self.weight, query, self.bias)
            case "mlp":
                assert self.weight_out is not None
                from_query = nn.functional.linear(query, self.weight[:, :e], self.bias)
                hidden = torch.relu(from_query[..., None, :] + nn.functional.linear(found, self.weight[:, e:]))
                return (hidden @ self.weight_out[0]) + _without_effect(self.bias_out)
        return query @ self.weight.T / math.sqrt(e)

    def weights(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """C of logits (…, R)."""
        if self.gumbel and self.training:
            logits = logits + noise.gumbel(logits, generator)
        if self.top_k:
            winners = logits.topk(self.top_k, -1).indices
            logits = logits.masked_fill(
                torch.ones_like(logits, dtype=torch.bool).scatter(-1, winners, False), -math.inf
            )
        return (logits / self.temperature).softmax(-1)


def _without_effect(*tensors: Tensor | None) -> Tensor | float:
    """Zero, with gradients of zero for parameters whose effect the softmax takes away.

    They would otherwise have no gradient at all, at which data-parallel training stops.
    """
    return sum((0.0 * tensor.sum() for tensor in tensors if tensor is not None), 0.0)
