"""Exact log-probabilities of given continuations: a context is read once, all of its options go on from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from tutelage.lm.sampling.fallback import max_context, warn_uncovered
from tutelage.lm.sampling.shared_attention import installed, own_mode
from tutelage.lm.sampling.shared_cache import SharedCache, length_class

_CELLS = 1 << 25
"""At most so many logits at a time."""


@dataclass(frozen=True)
class Reading:
    """A context and what may follow: `prefix` `[P]` ids, P ≥ 1, and `suffixes`, each `[T]` ids, T ≥ 1."""

    prefix: Sequence[int]
    suffixes: Sequence[Sequence[int]]


def read(model: PreTrainedModel, readings: Sequence[Reading]) -> list[list[np.ndarray]]:
    """For each reading and suffix `[T]` float32: log p of each of its tokens given all before it.

    NaN where the model's logits are no distribution: NaN or +inf among them, or nothing above −inf.
    How readings are batched changes nothing but rounding. The model is left as it was.
    """
    width = model.config.get_text_config().vocab_size
    results = [[np.empty(0, np.float32)] * len(reading.suffixes) for reading in readings]
    tasks = [(number, option) for number, reading in enumerate(readings) for option in range(len(reading.suffixes))]
    plain = warn_uncovered(model)

    def order(task: tuple[int, int]) -> tuple[int, int, int]:
        prefix, suffixes = readings[task[0]].prefix, readings[task[0]].suffixes
        return (
            (0 if plain else length_class(len(prefix))),
            len(prefix) + len(suffixes[task[1]]) if plain else 0,
            task[0],
        )

    tasks.sort(key=order)
    with ExitStack() as stack:
        stack.enter_context(own_mode(model) if plain else installed(model))
        while tasks:
            batch = [tasks.pop(0)]
            longest = 0
            while tasks and (plain or order(tasks[0])[0] == order(batch[0])[0]):
                number, option = tasks[0]
                size = len(readings[number].suffixes[option]) + (len(readings[number].prefix) if plain else 0)
                longest = max(longest, size)
                if (len(batch) + 1) * longest * width > _CELLS:
                    break
                batch.append(tasks.pop(0))
            some = _read_whole if plain else _read_shared
            for (number, option), logprobs in zip(batch, some(model, readings, batch)):
                if np.isnan(logprobs).any():
                    prefix, suffix = readings[number].prefix, readings[number].suffixes[option]
                    parts = (Reading(prefix, [suffix[: end + 1]]) for end in range(len(suffix)))
                    logprobs = _until_nan(len(suffix), (some(model, [part], [(0, 0)])[0][-1] for part in parts))
                results[number][option] = logprobs
    return results


def _read_shared(model: PreTrainedModel, readings: Sequence[Reading], batch: list[tuple[int, int]]) -> list[np.ndarray]:
    cache, device = SharedCache(len(batch)), model.device
    numbers = sorted({number for number, _ in batch})
    questions, logits = cache.prefill(model, [np.asarray(readings[number].prefix, np.int64) for number in numbers])
    owner = np.searchsorted(numbers, [number for number, _ in batch])
    suffixes = [torch.tensor(readings[number].suffixes[option]) for number, option in batch]
    first = torch.log_softmax(logits.float(), -1)[torch.from_numpy(owner).to(device)]
    targets = _padded(suffixes).to(device)
    logprobs = [first.gather(1, targets[:, :1])]
    steps = targets.shape[1] - 1
    if steps:
        cache.add_rows(questions[owner], steps)
        cache.plan()
        lengths = np.array([len(readings[number].prefix) for number, _ in batch])
        # Padding may reach beyond the last position there is; what it computes is not looked at.
        positions = np.minimum(lengths[:, None] + np.arange(steps), (max_context(model) or 1 << 40) - 1)
        later = cache.extend(model, targets[:, :-1], torch.from_numpy(positions).to(device))
        logprobs.append(torch.log_softmax(later.float(), -1).gather(2, targets[:, 1:, None])[..., 0])
    whole = torch.cat(logprobs, 1).cpu().numpy()
    return [row[: len(suffix)] for row, suffix in zip(whole, suffixes)]


def _read_whole(model: PreTrainedModel, readings: Sequence[Reading], batch: list[tuple[int, int]]) -> list[np.ndarray]:
    """Every text from its beginning, right-padded: in a causal model nothing looks at the padding."""
    texts = [torch.tensor([*readings[n].prefix, *readings[n].suffixes[option]]) for n, option in batch]
    ids = _padded(texts).to(model.device)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    logprobs = torch.log_softmax(logits, -1).gather(2, ids[:, 1:, None])[..., 0].cpu().numpy()
    starts = [len(readings[number].prefix) - 1 for number, _ in batch]
    return [row[start : len(text) - 1] for row, start, text in zip(logprobs, starts, texts)]


def _padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Rows of ids, filled up on the right with an id of their own: see `SharedCache.prefill`."""
    width = max(map(len, rows))
    return torch.stack([torch.cat([row, row[:1].expand(width - len(row))]) for row in rows])


def _until_nan(size: int, values: Iterator[np.floating]) -> np.ndarray:
    """`[size]`, NaN from the first NaN on. Read at once, a token spoils those before it: 0 times NaN is NaN."""
    found = np.full(size, np.nan, np.float32)
    for place, value in enumerate(values):
        if np.isnan(value):
            break
        found[place] = value
    return found


def pooled(model: PreTrainedModel, texts: Sequence[Sequence[int]]) -> np.ndarray:
    """`[texts, hidden]` float32: mean over each text's tokens of the last hidden state."""
    found = np.empty((len(texts), model.config.get_text_config().hidden_size), np.float32)
    order = np.argsort([len(text) for text in texts], kind="stable")
    with own_mode(model):
        for batch in np.array_split(order, max(1, -(-len(order) // 32))):
            rows = [torch.tensor(texts[index]) for index in batch]
            if not rows:
                continue
            ids = _padded(rows).to(model.device)
            lengths = torch.tensor([len(row) for row in rows], device=model.device)
            mask = torch.arange(ids.shape[1], device=model.device) < lengths[:, None]
            hidden = model.base_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
            mean = (hidden * mask[..., None]).sum(1) / lengths[:, None]
            found[batch] = mean.cpu().numpy()
    return found
