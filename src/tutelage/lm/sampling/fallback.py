"""Which models our decoding loop covers, and `generate()` with the same draws for those that it does not."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel, StoppingCriteria
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from tutelage.lm.sampling.rows import Row, advance
from tutelage.lm.sampling.shared_attention import NotCovered, installed, own_mode
from tutelage.lm.sampling.shared_cache import SharedCache

_verdicts: weakref.WeakKeyDictionary[PreTrainedModel, str] = weakref.WeakKeyDictionary()
_warned: set[str] = set()


def max_context(model: PreTrainedModel) -> int:
    """Tokens of prompt and continuation together; 0 where the model states no limit."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 0)


def warn_uncovered(model: PreTrainedModel) -> bool:
    """Whether `uncovered` has a reason; warns once for each architecture."""
    reason = uncovered(model)
    if reason and type(model).__name__ not in _warned:
        _warned.add(type(model).__name__)
        text = f"{type(model).__name__} is decoded by generate(), which is slower, because it {reason}"
        warnings.warn(text, stacklevel=3)
    return bool(reason)


def uncovered(model: PreTrainedModel) -> str:
    """Why the shared-prefix loop cannot run this model; empty if it can. Found by looking and by trying, once."""
    if model not in _verdicts:
        _verdicts[model] = _by_looking(model) or _by_trying(model)
    return _verdicts[model]


def _by_looking(model: PreTrainedModel) -> str:
    config = model.config.get_text_config(decoder=True)
    if model.config.is_encoder_decoder:
        return "is an encoder-decoder model"
    try:
        layers = DynamicCache(config=model.config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return "keeps its state in a cache of its own"
    for layer in layers:
        if isinstance(layer, DynamicSlidingWindowLayer):
            if not 0 < max_context(model) <= int(layer.sliding_window):
                return "has a sliding window shorter than its context"
        elif type(layer) is not DynamicLayer:
            return f"keeps its state in {type(layer).__name__}"
    if not model._can_set_attn_implementation():
        return "does not use transformers' attention interface"
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {part.get("rope_type") for part in (rope, *rope.values()) if isinstance(part, dict)}
    if kinds & {"dynamic", "longrope"}:
        return "has rotary embeddings that depend on the longest row of a batch"
    return ""


def _by_trying(model: PreTrainedModel) -> str:
    """A few tokens of ragged prompts through both loops: the logits must agree."""
    vocabulary = model.config.get_text_config().vocab_size
    prompts = [np.arange(3, 3 + 5) * 7 % vocabulary, np.arange(2) * 5 % vocabulary]
    owner, more = np.array([0, 0, 1]), np.arange(6).reshape(3, 2) * 11 % vocabulary
    try:
        with own_mode(model):
            wholes = [torch.from_numpy(np.concatenate([prompts[q], new]))[None] for q, new in zip(owner, more)]
            expected = [model(input_ids=whole.to(model.device)).logits[0, -3:].float() for whole in wholes]
        with installed(model):
            cache = SharedCache()
            questions, logits = cache.prefill(model, prompts)
            cache.add_rows(questions[owner])
            cache.plan()
            found = [logits[torch.from_numpy(owner).to(logits.device)]]
            for age in range(2):
                ids = torch.from_numpy(more[:, age : age + 1]).to(model.device)
                at = torch.tensor([[len(prompts[q]) + age] for q in owner], device=model.device)
                found.append(cache.extend(model, ids, at)[:, -1])
    except (
        NotCovered,
        AttributeError,
        IndexError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as e:
        return f"does not run with our attention ({type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''})"
    truth, ours = torch.stack(expected), torch.stack(found, 1).float()
    allowed = 1e-3 if model.dtype == torch.float32 else 0.1
    if (truth - ours).abs().max() > allowed * truth.std().clamp(min=1e-6):
        return "gives other logits with our attention"
    return ""


class Generating:
    """`decoding.Engine` over `generate()`: one group of equally long prompts at a time, to its end."""

    live = 0

    def __init__(self, model: PreTrainedModel, max_rows: int = 64) -> None:
        self.model, self.max_rows = model, max_rows
        self._waiting: list[Row] = []

    def __enter__(self) -> Generating:
        return self

    def __exit__(self, *_: Any) -> None: ...

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        self._waiting += rows
        self.live = len(self._waiting)
        return []

    def step(self) -> list[Row]:
        """Finishes the rows whose prompts are as long as the oldest row's."""
        if not self._waiting:
            return []
        length = len(self._waiting[0].prompt)
        group = [row for row in self._waiting if len(row.prompt) == length][: self.max_rows]
        chosen = set(map(id, group))
        self._waiting = [row for row in self._waiting if id(row) not in chosen]
        self.live = len(self._waiting)
        ids = torch.from_numpy(np.stack([row.prompt for row in group])).to(self.model.device)
        with own_mode(self.model), _neutral(self.model):
            self.model.generate(  # type: ignore[operator]
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max(row.limit for row in group),
                logits_processor=[_Drawing(group)],
                stopping_criteria=[_Through(group)],
            )
        return group


class _Drawing(LogitsProcessor):
    """Draws for all rows and leaves `generate` one token to take."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.seeds = np.array([row.seed for row in rows], np.uint64)
        self.knobs = np.array([row.sampling.knobs for row in rows], float)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> Any:
        on = np.array([index for index, row in enumerate(self.rows) if row.finish is None], np.int64)
        picks = torch.from_numpy(on).to(scores.device)
        rows = [self.rows[index] for index in on]
        tokens = advance(rows, scores[picks], self.seeds[on], self.knobs[on])
        one = torch.full_like(scores, -torch.inf)
        one[:, 0] = 0
        one[picks, 0] = -torch.inf
        one[picks, torch.from_numpy(tokens).to(scores.device)] = 0
        return one


class _Through(StoppingCriteria):
    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        return torch.tensor([row.finish is not None for row in self.rows], device=input_ids.device)


@contextmanager
def _neutral(model: PreTrainedModel) -> Iterator[None]:
    """Without the model's own generation defaults (penalties, forced tokens)."""
    defaults = model.generation_config
    model.generation_config = GenerationConfig(pad_token_id=0)
    try:
        yield
    finally:
        model.generation_config = defaults
