"""Continuous batching for decoder models of transformers: rows come, advance together by one token, and go.

    answers = sample(model, prompts, num_samples=16, sampling=Sampling(max_new_tokens=64), seed=0)
    answers[question][k].tokens, .logprobs, .finish

A prompt is read once however many rows continue it (`shared_attention`); finished rows are dropped at once. Where an
architecture is not covered, `generate()` does the work with the same draws (`fallback`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from tutelage.lab.errors import BadInput
from tutelage.lm.sampling.fallback import Generating, max_context, warn_uncovered
from tutelage.lm.sampling.next_token import Sampling, hashed
from tutelage.lm.sampling.rows import Row, Sample, advance
from tutelage.lm.sampling.shared_attention import installed
from tutelage.lm.sampling.shared_cache import SharedCache, length_class

PREFILL_TOKENS = 8192
"""At most so many prompt tokens, padding included, are read in one forward (a longer prompt comes alone)."""


_PLAIN = Sampling()


class Engine(Protocol):
    """What decodes rows. Rows that are through come back, each once, from `admit` or `step`."""

    @property
    def live(self) -> int: ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, *_: Any) -> None: ...

    def admit(self, rows: Sequence[Row]) -> list[Row]: ...

    def step(self) -> list[Row]: ...


def engine(model: PreTrainedModel, rows: int = 1) -> Engine:
    """`Decoder` where it covers the model, else `Generating`, with one warning for the architecture."""
    return Generating(model) if warn_uncovered(model) else Decoder(model, rows)


class Decoder:
    """Rows of one model, advancing together. A context manager: outside of it the model is as it was.

        with Decoder(model) as decoder:
            done = decoder.admit(rows)
            while decoder.live:
                done += decoder.step()

    More rows may be admitted at any time. A row whose `watch` returns True ends with the token it was shown.
    """

    def __init__(self, model: PreTrainedModel, rows: int = 1) -> None:
        """`rows`: how many are expected, so that storage need not grow on the way."""
        self.model = model
        self._cache = SharedCache(rows)
        self._rows: list[Row] = []
        self._base = np.zeros(0, np.int64)
        self._seeds = np.zeros(0, np.uint64)
        self._knobs = np.zeros((0, 4))
        self._last = np.zeros(0, np.int64)
        self._stack = ExitStack()

    def __enter__(self) -> Decoder:
        self._stack.enter_context(installed(self.model))
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    @property
    def live(self) -> int:
        """Rows that are not through."""
        return len(self._rows)

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Reads the prompts of new rows, each different prompt once, and draws their first tokens."""
        by_prompt: dict[bytes, list[Row]] = {}
        for row in rows:
            by_prompt.setdefault(row.prompt.tobytes(), []).append(row)
        groups = sorted(by_prompt.values(), key=lambda group: len(group[0].prompt))
        through: list[Row] = []
        while groups:
            batch = [groups.pop(0)]
            name = length_class(len(batch[0][0].prompt))
            while groups and length_class(len(groups[0][0].prompt)) == name:
                if (len(batch) + 1) * len(groups[0][0].prompt) > PREFILL_TOKENS:
                    break
                batch.append(groups.pop(0))
            through += self._begin(batch)
        if rows:
            self._cache.plan()
        return through

    def _begin(self, groups: list[list[Row]]) -> list[Row]:
        questions, logits = self._cache.prefill(self.model, [group[0].prompt for group in groups])
        owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        rows = [row for group in groups for row in group]
        seeds = np.array([row.seed for row in rows], np.uint64)
        knobs = np.array([row.sampling.knobs for row in rows], float)
        if len(rows) > len(groups):
            logits = logits[torch.from_numpy(owner).to(logits.device)]
        tokens = advance(rows, logits, seeds, knobs)
        stays = np.array([row.finish is None for row in rows])
        self._cache.add_rows(questions[owner[stays]], max(row.limit for row in rows))
        self._rows += [row for row in rows if row.finish is None]
        self._base = np.concatenate([self._base, np.array([len(row.prompt) for row in rows])[stays]])
        self._seeds = np.concatenate([self._seeds, seeds[stays]])
        self._knobs = np.concatenate([self._knobs, knobs[stays]])
        self._last = np.concatenate([self._last, tokens[stays]])
        return [row for row in rows if row.finish is not None]

    def step(self) -> list[Row]:
        """One more token for every live row."""
        if not self._rows:
            return []
        device = self.model.device
        positions = self._base + np.array([len(row.tokens) for row in self._rows]) - 1
        fed = torch.from_numpy(np.stack([self._last, positions])).to(device)
        logits = self._cache.extend(self.model, fed[0][:, None], fed[1][:, None])[:, -1]
        self._last = advance(self._rows, logits, self._seeds, self._knobs)
        gone = np.array([index for index, row in enumerate(self._rows) if row.finish is not None], np.int64)
        if not len(gone):
            return []
        through = [self._rows[index] for index in gone]
        order = self._cache.drop_rows(gone)
        self._cache.plan()
        self._rows = [self._rows[index] for index in order]
        self._base, self._seeds, self._knobs = self._base[order], self._seeds[order], self._knobs[order]
        self._last = self._last[order]
        return through


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    num_samples: int = 1,
    sampling: Sampling = _PLAIN,
    seed: int | np.ndarray = 0,
    max_rows: int | None = None,
    allowed: Callable[[Row], list[int] | None] | None = None,
) -> list[list[Sample]]:
    """Samples `num_samples` continuations of every prompt (token ids, without padding).

    Args:
        seed: one for all, or `[prompts, num_samples]` row seeds. A row's tokens depend on its seed and prompt alone.
        max_rows: how many rows advance together; None for 1024 on a CPU, 2048 elsewhere. More is faster, up to that;
            less saves memory: each row keeps the keys and values of its own tokens.
        allowed: asked before every token of every row: the only ids that may come, or None for all.

    Returns:
        `[prompts][num_samples]` samples. The model is left as it was (attention, training mode).

    Raises:
        BadInput: no token, or ids outside of the vocabulary, or no room in the context after the prompt; logits that
            are NaN, infinite, or rule every token out.
    """
    if num_samples < 1:
        raise BadInput(f"num_samples is {num_samples}: must be at least 1")
    max_rows = max_rows or (1024 if model.device.type == "cpu" else 2048)
    seeds = np.asarray(seed)
    if seeds.ndim == 0:
        seeds = hashed(int(seed), np.arange(len(prompts))[:, None], np.arange(num_samples)[None])
    if seeds.shape != (len(prompts), num_samples):
        raise BadInput(f"seed has the shape {seeds.shape}: must be one number or {(len(prompts), num_samples)}")
    stops = sampling.stop_ids if sampling.stop_ids is not None else model_stops(model)
    longest, ends = max_context(model), frozenset(stops)
    rows = []
    for number, prompt in enumerate(prompts):
        ids = checked_prompt(model, prompt, number)
        limit = min(sampling.max_new_tokens, longest - len(ids)) if longest else 0
        rows.append([Row(ids, sampling, each, ends, allowed, limit=limit) for each in seeds[number].tolist()])
    # Similar lengths together; popped from the end, so the longest come first and nothing long is left alone.
    waiting = sorted((row for group in rows for row in group), key=lambda row: len(row.prompt))
    with engine(model, min(max_rows, len(waiting))) as decoder:
        while waiting or decoder.live:
            free = max_rows - decoder.live
            through = []
            if waiting and free >= max(1, min(max_rows // 4, len(waiting))):
                through = decoder.admit([waiting.pop() for _ in range(min(free, len(waiting)))])
            for row in (*through, *decoder.step()):
                if row.failure:
                    number = next(number for number, group in enumerate(rows) if row in group)
                    raise BadInput(f"prompt {number}: {row.failure}")
    return [[row.sample() for row in group] for group in rows]


def model_stops(model: PreTrainedModel) -> tuple[int, ...]:
    """The end-of-sequence ids of the model's generation config; empty where there are none."""
    generation = getattr(model, "generation_config", None)
    ids = getattr(generation, "eos_token_id", None)
    return () if ids is None else tuple(ids) if isinstance(ids, list | tuple) else (int(ids),)


def checked_prompt(model: PreTrainedModel, prompt: Sequence[int], number: int) -> np.ndarray:
    """The ids as an array. Raises `BadInput` naming the prompt's number, see `sample`."""
    ids = np.asarray(prompt, np.int64)
    vocabulary, longest = model.config.get_text_config().vocab_size, max_context(model)
    if ids.ndim != 1 or not len(ids):
        raise BadInput(f"prompt {number} is empty: must have at least one token")
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise BadInput(
            f"prompt {number} has the id {ids.min() if ids.min() < 0 else ids.max()}: must be in 0–{vocabulary - 1}"
        )
    if longest and len(ids) >= longest:
        raise BadInput(f"prompt {number} has {len(ids)} tokens: the context of {longest} has no room for a new one")
    return ids
