"""Compositional attention: where to look (searches) and what to take (retrievals) are two pools (arXiv 2110.09419).

S searches make A_i = softmax(Q_i K_iᵀ / √d); R retrievals make values V_j; every pair finds O_ij = A_i V_j; a
competition C over the R retrievals, for each token and search, says what search i takes: Σ_j C_ij O_ij. Multi-head
attention is the case in which head i always takes retrieval i (`tutelage.attention.conversion`).

Deviations from the official code: competitions with dot product are the default (there `linear` is SCAN's default,
whose output does not depend on the value query); a row in which nothing may be attended to is zeros instead of NaN;
dropout is in one place, on A, for every backend.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.attention.cache import LayerCache
from tutelage.attention.compositional import fused
from tutelage.attention.compositional.competition import Competition
from tutelage.attention.compositional.pairs import mixture
from tutelage.attention.config import AttentionConfig, check_attention, head_sizes
from tutelage.attention.masks import Masks, empty_rows, finite_padding, masked_softmax, without_padding
from tutelage.attention.noise import dropout as dropped
from tutelage.attention.positions import RelativeBias, rotate, toeplitz
from tutelage.lab.errors import BadInput, nearest

NEEDS = ("search", "competition", "empty")
"""What `need` may name: A (B, S, N, M); C (B, N, S, R); bool (B, S, N), True where nothing may be attended to."""


class CompositionalAttention(nn.Module):
    """A drop-in `AttentionLayer` for multi-head attention: (B, N, D) to (B, N, D).

    Args:
        d_model: D, size of a token.
        searches: S.
        retrievals: R.
        d_search: S·d, all searches together; None: D.
        d_value: R·d_v, all retrievals together; None: R·D/S, so that a retrieval is as large as a head.
        d_select: e, size of value queries and value keys.
        competition: dot, linear, mlp or static (`tutelage.attention.compositional.competition`).
        bias: of all projections.
        dropout: of A, in training.
        backend: stacked, expanded, literal or auto (`tutelage.attention.compositional.fused`).
        per_retrieval_key: with dot, each retrieval has a value-key map of its own.
        compose_query: value queries are made of the search queries, one map for all, instead of the input.
        gumbel: Gumbel-softmax over retrievals in training; evaluation is deterministic.
        temperature: of the softmax over retrievals.
        top_k: only so many retrievals may win; 0: all.
        exclude_self: no token may attend to itself.
        join_input: a projection of the input, of size d_v, is joined before the output projection.
        positions: none, rotary (d must be even) or relative (a learned number for each search and distance).

    A row in which nothing may be attended to finds zeros in every retrieval, so its output is the output projection's
    bias; `need=("empty",)` says which rows those are.

    Raises:
        BadInput: sizes that do not divide, or settings that contradict each other.
    """

    def __init__(
        self,
        d_model: int,
        searches: int,
        retrievals: int,
        d_search: int | None = None,
        d_value: int | None = None,
        d_select: int = 32,
        competition: str = "dot",
        bias: bool = True,
        dropout: float = 0.0,
        backend: str = "auto",
        *,
        per_retrieval_key: bool = False,
        compose_query: bool = False,
        gumbel: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        exclude_self: bool = False,
        join_input: bool = False,
        positions: str = "none",
    ) -> None:
        super().__init__()
        self.config = AttentionConfig(
            "compositional",
            searches,
            retrievals,
            d_search or 0,
            d_value or 0,
            d_select,
            competition,
            per_retrieval_key,
            compose_query,
            gumbel,
            temperature,
            top_k,
            bias,
            dropout,
            exclude_self,
            join_input,
            positions,
            backend,
        )
        check_attention(self.config, d_model)
        self.d_model, self.searches, self.retrievals = d_model, searches, retrievals
        self.d, self.d_v = head_sizes(self.config, d_model)
        self.dropout, self.backend = dropout, backend
        self.query = nn.Linear(d_model, searches * self.d, bias)
        self.key = nn.Linear(d_model, searches * self.d, bias)
        self.value = nn.Linear(d_model, retrievals * self.d_v, bias)
        self.value_query = (
            nn.Linear(self.d, d_select, bias) if compose_query else nn.Linear(d_model, searches * d_select, bias)
        )
        self.competition = Competition(
            competition,
            retrievals,
            self.d_v,
            d_select,
            per_retrieval_key=per_retrieval_key,
            bias=bias,
            gumbel=gumbel,
            temperature=temperature,
            top_k=top_k,
        )
        self.join = nn.Linear(d_model, self.d_v, bias) if join_input else None
        self.output = nn.Linear((searches + join_input) * self.d_v, d_model, bias)
        self.relative = RelativeBias(searches) if positions == "relative" else None
        self.reset_parameters()
        self.register_load_state_dict_pre_hook(_refuse_multihead)
        if competition == "linear":
            warnings.warn(
                "competition 'linear': the value query is the same for all retrievals and the softmax takes it away, "
                "so it has no effect and no gradient (content-only competition); 'dot' is what the paper describes",
                stacklevel=2,
            )

    @classmethod
    def of(cls, config: AttentionConfig, width: int) -> CompositionalAttention:
        """The layer that the configuration says, for tokens of size `width`. Raises `BadInput`."""
        return cls(
            width,
            config.searches,
            config.retrievals,
            config.d_search or None,
            config.d_value or None,
            config.d_select,
            config.competition,
            config.bias,
            config.dropout,
            config.backend,
            per_retrieval_key=config.per_retrieval_key,
            compose_query=config.compose_query,
            gumbel=config.gumbel,
            temperature=config.temperature,
            top_k=config.top_k,
            exclude_self=config.exclude_self,
            join_input=config.join_input,
            positions=config.positions,
        )

    def reset_parameters(self) -> None:
        """Xavier's uniform for projections, gain 1/√2 for the competition, biases 0: it starts near uniform in C."""
        for linear in (self.query, self.key, self.value, self.value_query, self.join, self.output):
            if linear is not None:
                nn.init.xavier_uniform_(linear.weight, gain=1 / math.sqrt(2) if linear is self.value_query else 1.0)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)
        self.competition.reset_parameters()

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        cache: LayerCache | None = None,
        need: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> Any:
        """See `tutelage.attention.layer.AttentionLayer`; with a cache, masks are over all tokens that it then holds.

        Args:
            x: (B, N, D).
            memory: (B, M, D).
            need: of `NEEDS`; `search` computes all of A.

        Raises:
            BadInput: shapes, masks or names that do not fit; `exclude_self` with another memory than `x`.
        """
        self._check_call(x, memory, need)
        if memory is None:
            x = finite_padding(x, key_padding_mask)
        elif cache is None or not cache.filled:
            memory = without_padding(memory, key_padding_mask)
        q = self._heads(self.query(x), self.searches)
        composed = q if self.config.compose_query else None
        q, k, v = self._searched(q, x if memory is None else memory, cache)
        batch, searches, queries, _ = q.shape
        shape = (batch, searches, queries, k.shape[2])
        masks = Masks.of(attn_mask, key_padding_mask, shape, is_causal=is_causal, exclude_self=self.config.exclude_self)
        offsets = None if self.relative is None else self.relative(queries, k.shape[2])
        activations: dict[str, Tensor] = {}
        rate = self.dropout if self.training else 0.0
        backend = fused.chosen(self.backend, q, k, v, masks, rate, offsets is not None, need)
        if backend == "literal":
            a = self._literal(q, k, masks, offsets)
            if "search" in need:
                activations["search"] = a
            a = dropped(a, rate, True, generator)
            found = _all_pairs(a, v)
        else:
            found = fused.found(backend, q, k, v, masks, offsets, rate, generator)
        value_query = self._heads(self.value_query(x), searches) if composed is None else self.value_query(composed)
        c = self.competition(value_query, found, generator)
        taken = mixture(c, found).transpose(1, 2).flatten(2)
        out = self.output(taken if self.join is None else torch.cat((taken, self.join(x)), -1))
        if not need:
            return out
        if "competition" in need:
            activations["competition"] = c.transpose(1, 2)
        if "empty" in need:
            activations["empty"] = empty_rows(masks.combined(queries, k.shape[2], x.device), shape).to(x.device)
        return out, activations

    def _searched(self, q: Tensor, memory: Tensor, cache: LayerCache | None) -> tuple[Tensor, Tensor, Tensor]:
        if cache is not None and cache.filled:
            assert cache.k is not None and cache.v is not None
            return q, cache.k, cache.v
        k = self._heads(self.key(memory), self.searches)
        v = self._heads(self.value(memory), self.retrievals)
        if self.config.positions == "rotary":
            past = 0 if cache is None else cache.length
            k = rotate(k, past)
            q = rotate(q, past + k.shape[2] - q.shape[2])
        return (q, k, v) if cache is None else (q, *cache.append(k, v))

    def _literal(self, q: Tensor, k: Tensor, masks: Masks, offsets: Tensor | None) -> Tensor:
        """A (B, S, N, M)."""
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.d)
        if offsets is not None:
            scores = scores + toeplitz(offsets, q.shape[2], k.shape[2])
        return masked_softmax(scores, masks.combined(q.shape[2], k.shape[2], q.device))

    def _heads(self, x: Tensor, number: int) -> Tensor:
        return x.unflatten(-1, (number, -1)).transpose(1, 2)

    def _check_call(self, x: Tensor, memory: Tensor | None, need: Sequence[str]) -> None:
        for name, given in (("x", x), ("memory", memory)):
            if given is not None and (given.dim() != 3 or given.shape[2] != self.d_model):
                raise BadInput(f"{name} has shape {tuple(given.shape)}: must be (B, N, D) with D = {self.d_model}")
        if memory is not None and memory.shape[0] != x.shape[0]:
            raise BadInput(f"memory has {memory.shape[0]} rows in its batch: must have {x.shape[0]}, as x has")
        if memory is not None and self.config.exclude_self:
            raise BadInput("exclude_self = True with a memory: a token is itself only in self-attention")
        for name in need:
            if name not in NEEDS:
                raise BadInput(f"need has {name!r}: must be of {', '.join(NEEDS)}{nearest(name, NEEDS)}")

    def extra_repr(self) -> str:
        return (
            f"{self.d_model}, searches={self.searches}, retrievals={self.retrievals}, d={self.d}, d_v={self.d_v}, "
            f"competition={self.config.competition!r}, backend={self.backend!r}"
        )


def _all_pairs(a: Tensor, v: Tensor) -> Tensor:
    """O (B, S, N, R, d_v) of A (B, S, N, M) and v (B, R, M, d_v), by copying the smaller of both."""
    _, searches, queries, _ = a.shape
    if searches * queries > v.shape[-1]:
        return torch.einsum("bsnm,brmv->bsnrv", a, v)
    return (a.flatten(1, 2).unsqueeze(1) @ v).transpose(1, 2).unflatten(1, (searches, queries))


def _refuse_multihead(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(module, CompositionalAttention)
    if prefix + "in_proj_weight" in state:
        raise BadInput(
            f"{prefix}in_proj_weight is of multi-head attention, and this layer has searches = {module.searches} and "
            f"retrievals = {module.retrievals}: tutelage.attention.conversion.from_multihead(mha) makes an equal layer"
        )
