"""Our attention under transformers' own model code, for as long as it is `installed`.

Only attention and the storage of keys and values are ours (`shared_cache`); projections, rotary embeddings, norms and
MLPs are the model's. Attention is computed in parts, one for each stretch of keys, merged by their maxima and sums.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "tutelage_shared_prefix"
MASKED = -1e30
_FAINTEST = -80.0
"""exp(−80) is nothing beside 1; −inf and subnormal results make exp 10–200 × slower on CPUs."""
_HARMLESS = {"is_causal", "position_ids", "cache_position", "use_cache", "sliding_window", "return_dict"}


class NotCovered(RuntimeError):
    """This model asks attention for something that is not done here."""


class Attending(Protocol):
    """What stores keys and values and knows who attends to which."""

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor: ...


_active = threading.local()


@contextmanager
def attending(cache: Attending) -> Iterator[None]:
    """Attention in this thread goes to `cache`."""
    _active.cache = cache
    try:
        yield
    finally:
        _active.cache = None


@dataclass
class Part:
    """One stretch of keys: Σ exp(score − top) · value, its normaliser, and top, each `[rows, kv heads, queries, …]`."""

    out: torch.Tensor
    total: torch.Tensor
    top: torch.Tensor

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.out, self.total, self.top))


def part(scores: torch.Tensor, values: torch.Tensor, shape: tuple[int, int, int]) -> Part:
    """Of `scores` `[B, queries, keys]` (overwritten) and `values` `[B, keys, d]`, B × queries in the shape given."""
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).clamp_(min=_FAINTEST).exp_()
    out = torch.bmm(weights.to(values.dtype), values)
    return Part(*(each.view(*shape, -1) for each in (out, weights.sum(-1, keepdim=True), top)))


def merged(own: Part, shared: Part) -> torch.Tensor:
    """Attention over both stretches of keys."""
    top = torch.maximum(own.top, shared.top)
    ours, theirs = ((each.top - top).clamp_(min=_FAINTEST).exp_() for each in (own, shared))
    norm = own.total * ours + shared.total * theirs
    return torch.addcmul(own.out * (ours / norm), shared.out, theirs / norm)


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    cache: Attending | None = getattr(_active, "cache", None)
    unknown = [name for name, it in others.items() if it is not None and it is not False and name not in _HARMLESS]
    if cache is None or attention_mask is not None or unknown or dropout:
        raise NotCovered(f"attention with {', '.join(unknown) or 'a mask, dropout or no cache of ours'}")
    return cache.attend(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling), None


ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)


_turns: weakref.WeakKeyDictionary[PreTrainedModel, threading.RLock] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


@contextmanager
def own_mode(model: PreTrainedModel) -> Iterator[None]:
    """The model in evaluation mode, without gradients; afterwards as it was.

    Other threads that want it in a mode of their own wait meanwhile: a model has one mode and one attention.
    """
    with _guard:
        turn = _turns.setdefault(model, threading.RLock())
    with turn:
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            for module in training:
                module.training = True


@contextmanager
def installed(model: PreTrainedModel) -> Iterator[None]:
    """As `own_mode`, and with our attention."""
    with own_mode(model):
        before = model.config._attn_implementation
        model.set_attn_implementation(NAME)
        try:
            yield
        finally:
            model.set_attn_implementation(before or "eager")
