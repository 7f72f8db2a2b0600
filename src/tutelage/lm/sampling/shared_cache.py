"""Keys and values of prompts that many rows share, and of the rows' own continuations.

A prompt's keys and values are kept once per question, a row keeps those of its own suffix:

    prefix   scores of all rows of a question (× grouped heads) to its prompt: one matrix product per question and head
    suffix   batched products over rows and key heads
    joint    both softmaxes are merged by their maxima and sums

Suffixes are aligned at their end: every row writes its new token into the same column, and sees the columns since its
start. So rows of different age live together, and a write is one copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from tutelage.lm.sampling.shared_attention import MASKED, NotCovered, Part, attending, merged, part

_MARGIN = 16
"""Columns before the first token. So many are read at least: torch's product of very small matrices is slow."""


@dataclass
class Block:
    """Questions of similar prompt length: keys `[layer][Q, kv heads, d, P]`, values `[layer][Q, kv heads, P, d]`."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    lengths: np.ndarray
    questions: np.ndarray


@dataclass
class _Plan:
    """Which rows attend to a block: `members`, and their `place` in the `table` `[Q × widest]` of row numbers.

    With `everyone` in it, `place` is in order of rows; if it is `regular`, rows lie as in the table already.
    """

    block: Block
    bias: torch.Tensor | None
    members: torch.Tensor
    place: torch.Tensor
    table: torch.Tensor
    everyone: bool
    regular: bool


@dataclass
class _Suffix:
    keys: torch.Tensor  # [rows, kv heads, d, columns]
    values: torch.Tensor  # [rows, kv heads, columns, d]


@dataclass
class _Prefilled:
    keys: list[torch.Tensor] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)


class SharedCache(Cache):
    """Keys and values of questions and of the rows that continue them; rows are numbered without gaps."""

    def __init__(self, rows: int = 1) -> None:
        """`rows`: storage for so many is made at once; it grows where there are more."""
        super().__init__(layers=[])
        self._capacity = rows
        self.blocks: dict[int, Block] = {}
        self.owner = np.zeros(0, np.int64)
        self.start = np.zeros(0, np.int64)
        self._plans: list[_Plan] = []
        self._suffixes: list[_Suffix] = []
        self._prefilled: _Prefilled | None = None
        self._now = _MARGIN
        self._incoming = 1
        self._span = 0
        self._layer = -1
        self._bias: torch.Tensor | None = None
        self._next_question = 0

    @property
    def rows(self) -> int:
        return len(self.owner)

    def update(  # type: ignore[override]
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by the model's attention just before ours, which stores what is new."""
        self._layer = layer_idx
        return key_states, value_states

    def prefill(self, model: PreTrainedModel, prompts: list[np.ndarray]) -> tuple[np.ndarray, torch.Tensor]:
        """Reads prompts (right-padded: causality hides the padding). Question numbers, and last logits `[Q, V]`.

        The padding is a token of the prompt's own: what is masked is still multiplied by 0, so another one, at which
        the model gives NaN, would spoil a prompt that has it not.
        """
        lengths = np.array([len(prompt) for prompt in prompts])
        ids = np.empty((len(prompts), lengths.max()), np.int64)
        for row, prompt in zip(ids, prompts):
            row[: len(prompt)], row[len(prompt) :] = prompt, prompt[-1]
        device = model.device
        ends, inverse = np.unique(lengths - 1, return_inverse=True)
        positions = torch.arange(ids.shape[1], device=device).expand(len(ids), -1)
        self._prefilled = _Prefilled()
        self._layer = -1
        with attending(self):
            logits = model(
                input_ids=torch.from_numpy(ids).to(device),
                position_ids=positions,
                past_key_values=self,
                use_cache=True,
                logits_to_keep=torch.from_numpy(ends).to(device),
            ).logits
        read, self._prefilled = self._prefilled, None
        questions = np.arange(self._next_question, self._next_question + len(prompts))
        self._next_question += len(prompts)
        self._store(read, lengths, questions)
        picks = torch.from_numpy(inverse).to(device)
        return questions, logits[torch.arange(len(prompts), device=device), picks]

    def extend(self, model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """All rows go on by `ids` `[rows, T]` at `positions`; logits `[rows, T, V]`.

        Several tokens at a time (T > 1) are for rows that all begin now: they are right-padded.
        """
        self._incoming = ids.shape[1]
        self._make_room()
        new = torch.from_numpy(np.flatnonzero(self.start == self._now)).to(ids.device)
        reach = slice(int(self.start.min()) - _MARGIN, self._now)
        if reach.stop - reach.start > _MARGIN and len(new):
            # What is masked is still multiplied by 0: it must not be what happened to lie in memory.
            for suffix in self._suffixes:
                suffix.values[new, :, reach] = 0
        self._layer = -1
        with attending(self):
            logits = model(input_ids=ids, position_ids=positions, past_key_values=self, use_cache=True).logits
        self._now += self._incoming
        return logits

    def add_rows(self, questions: np.ndarray, span: int = 0) -> None:
        """Rows that begin now, one for each entry: the question that it continues. `plan` must follow.

        `span`: how many tokens the longest of them may take, as a hint for the storage.
        """
        self._span = max(self._span, span)
        self.owner = np.concatenate([self.owner, questions])
        self.start = np.concatenate([self.start, np.full(len(questions), self._now)])

    def drop_rows(self, gone: np.ndarray) -> np.ndarray:
        """Takes rows out; the last rows move into their places. Returns the old number of each row that is left.

        `plan` must follow.
        """
        left = self.rows - len(gone)
        holes, movers = gone[gone < left], np.setdiff1d(np.arange(left, self.rows), gone)
        order = np.arange(left)
        order[holes] = movers
        if len(holes):
            for suffix in self._suffixes:
                into, source = (torch.from_numpy(part).to(suffix.keys.device) for part in (holes, movers))
                inside = source < len(suffix.keys)
                into, source = into[inside], source[inside]
                span = slice(int(self.start.min()), self._now)
                suffix.keys[into, :, :, span] = suffix.keys[source, :, :, span]
                suffix.values[into, :, span] = suffix.values[source, :, span]
        self.owner, self.start = self.owner[order], self.start[order]
        if not left:
            self._now, self._span = _MARGIN, 0
            self.blocks.clear()
        return order

    def plan(self) -> None:
        """After rows came or went: who attends to which block, and from which column on."""
        self._plans = []
        if not self.rows:
            return
        for name, block in list(self.blocks.items()):
            alive = np.isin(block.questions, self.owner)
            if not alive.any():
                del self.blocks[name]
                continue
            if alive.mean() < 0.75:
                self._keep(block, alive)
            self._plans.append(self._arrange(block))
        self._bias = None
        oldest = self.start.min()
        if np.any(self.start != oldest):
            device = next(iter(self.blocks.values())).keys[0].device
            self._bias = torch.from_numpy(self.start).to(device)

    def _keep(self, block: Block, alive: np.ndarray) -> None:
        index = torch.from_numpy(np.flatnonzero(alive)).to(block.keys[0].device)
        block.lengths, block.questions = block.lengths[alive], block.questions[alive]
        longest = int(block.lengths.max())
        block.keys = [part.index_select(0, index)[..., :longest] for part in block.keys]
        block.values = [part.index_select(0, index)[:, :, :longest] for part in block.values]

    def _arrange(self, block: Block) -> _Plan:
        device = block.keys[0].device
        local = np.searchsorted(block.questions, self.owner).clip(max=len(block.questions) - 1)
        members = np.flatnonzero(block.questions[local] == self.owner)
        members = members[np.argsort(local[members], kind="stable")]
        count = np.bincount(local[members], minlength=len(block.questions))
        widest = int(count.max())
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        place = local[members] * widest + np.arange(len(members)) - first[local[members]]
        table = np.zeros(len(count) * widest, np.int64)
        table[place] = members
        everyone = len(members) == self.rows
        if everyone:
            # In order of rows, so that the result is a plain selection.
            by_row = np.empty_like(place)
            by_row[members] = place
            place = by_row
        longest, bias = block.keys[0].shape[-1], None
        if np.any(block.lengths != longest):
            outside = np.arange(longest) >= block.lengths[:, None]
            bias = torch.from_numpy(np.where(outside, MASKED, 0.0).astype(np.float32))[:, None, None].to(device)
        regular = everyone and np.array_equal(table, np.arange(self.rows))
        who, where, what = (torch.from_numpy(each).to(device) for each in (members, place, table))
        return _Plan(block, bias, who, where, what, everyone, regular)

    def _store(self, read: _Prefilled, lengths: np.ndarray, questions: np.ndarray) -> None:
        keys = [part.transpose(2, 3).contiguous() for part in read.keys]
        new = Block(keys, read.values, lengths, questions)
        name = length_class(int(lengths.max()))
        old = self.blocks.get(name)
        if old is not None:
            longest = max(old.keys[0].shape[-1], keys[0].shape[-1])
            new.keys = [torch.cat([_widen(part, longest, 3) for part in pair]) for pair in zip(old.keys, new.keys)]
            new.values = [
                torch.cat([_widen(part, longest, 2) for part in pair]) for pair in zip(old.values, new.values)
            ]
            new.lengths = np.concatenate([old.lengths, lengths])
            new.questions = np.concatenate([old.questions, questions])
        self.blocks[name] = new

    def _make_room(self) -> None:
        """Columns for what comes in: by moving all to the left where old rows have gone, by growing otherwise."""
        first, end = int(self.start.min()), self._now + self._incoming
        have_rows, columns = self._suffixes[0].values.shape[:3:2] if self._suffixes else (0, 0)
        if not self._suffixes or (end <= columns and self.rows <= have_rows):
            return
        shift, kept = first - _MARGIN, min(have_rows, self.rows)
        old, new = slice(first, self._now), slice(_MARGIN, self._now - shift)
        grows = self.rows > have_rows or (end - first) * 3 > (columns - _MARGIN) * 2
        if grows:
            self._capacity = max(self.rows, have_rows if self.rows <= have_rows else have_rows + have_rows // 2)
            columns = max(columns, self._columns(end - first))
        for suffix in self._suffixes:
            keys, values = suffix.keys, suffix.values
            if grows:
                suffix.keys, suffix.values = _room(keys, values, self._capacity, columns)
            suffix.keys[:kept, :, :, new] = keys[:kept, :, :, old].clone()
            suffix.values[:kept, :, new] = values[:kept, :, old].clone()
        self.start = self.start - shift
        self._now -= shift
        if self._bias is not None:
            self._bias = self._bias - shift

    def _columns(self, need: int) -> int:
        """Room for the span hinted at where it is short, and half as much again, so that moving stays rare."""
        return _MARGIN + max(need, min(self._span, 64)) * 3 // 2

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
        """New tokens' query `[rows, heads, T, d]`, key and value `[rows, kv heads, T, d]` -> `[rows, T, heads, d]`."""
        if self._layer < 0:
            raise NotCovered("attention without a call of the cache before it")
        layer, self._layer = self._layer, -1
        groups = query.shape[1] // key.shape[1]
        if self._prefilled is not None:
            if layer != len(self._prefilled.keys):
                raise NotCovered("layers do not come one after another")
            self._prefilled.keys.append(key)
            self._prefilled.values.append(value)
            out = scaled_dot_product_attention(
                query, key, value, is_causal=query.shape[2] > 1, scale=scaling, enable_gqa=groups > 1
            )
            return out.transpose(1, 2)
        rows, kv_heads, steps, width = key.shape
        if layer == len(self._suffixes):
            keys, values = _room(
                key.transpose(2, 3), value, max(rows, self._capacity), self._columns(steps), plain=groups == 1
            )
            self._suffixes.append(_Suffix(keys, values))
        suffix, now = self._suffixes[layer], self._now
        suffix.keys[:rows, :, :, now : now + steps] = key.transpose(2, 3)
        suffix.values[:rows, :, now : now + steps] = value
        # [rows, kv heads, groups × T, d]
        folded = (query * scaling).reshape(rows, kv_heads, groups * steps, width)
        own = self._own(suffix, folded, steps)
        shared = self._shared(layer, folded)
        return merged(own, shared).view(rows, kv_heads * groups, steps, -1).transpose(1, 2).to(query.dtype)

    def _own(self, suffix: _Suffix, folded: torch.Tensor, steps: int) -> Part:
        rows, kv_heads, many, _ = folded.shape
        oldest, end = int(self.start.min()), self._now + steps
        first = min(oldest, max(end - _MARGIN, 0))
        keys, values = suffix.keys[:rows, :, :, first:end], suffix.values[:rows, :, first:end]
        scores = torch.bmm(folded.flatten(0, 1), keys.flatten(0, 1)).float().view(rows, kv_heads, many, -1)
        if self._bias is not None:
            column = torch.arange(first, end, device=scores.device)
            scores = scores.masked_fill(column < self._bias[:, None, None, None], MASKED)
        elif first < oldest:
            scores[..., : oldest - first] = MASKED
        if steps > 1:
            time = torch.arange(steps, device=scores.device)
            later = (time > time[:, None]).repeat(many // steps, 1)
            scores[..., -steps:] = scores[..., -steps:].masked_fill(later, MASKED)
        return part(scores.flatten(0, 1), values.flatten(0, 1), (rows, kv_heads, many))

    def _shared(self, layer: int, folded: torch.Tensor) -> Part:
        rows, kv_heads, many, width = folded.shape
        found: list[Part] = []
        for plan in self._plans:
            block, count = plan.block, len(plan.block.questions)
            table = folded if plan.regular else folded.index_select(0, plan.table)
            per_question = table.view(count, -1, kv_heads, many, width).transpose(1, 2).flatten(2, 3).flatten(0, 1)
            scores = torch.bmm(per_question, block.keys[layer].flatten(0, 1)).float()
            if plan.bias is not None:
                scores.view(count, kv_heads, -1, scores.shape[-1]).add_(plan.bias)
            whole = part(scores, block.values[layer].flatten(0, 1), (count, kv_heads, scores.shape[1]))
            back = [
                each.view(count, kv_heads, -1, many, each.shape[-1]).transpose(1, 2).flatten(0, 1) for each in whole
            ]
            if plan.regular:
                return Part(*back)
            found.append(Part(*(each.index_select(0, plan.place) for each in back)))
        if self._plans[0].everyone:
            return found[0]
        joined = [each.new_empty(rows, *each.shape[1:]) for each in found[0]]
        for plan, some in zip(self._plans, found):
            for into, each in zip(joined, some):
                into.index_copy_(0, plan.members, each)
        return Part(*joined)


def _room(
    keys: torch.Tensor, values: torch.Tensor, rows: int, columns: int, plain: bool | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Empty storage. With grouped heads keys lie with columns innermost, which makes their product several times
    faster on CPUs; without, the write is cheaper the other way round."""
    _, heads, width, _ = keys.shape
    plain = keys.stride(2) == 1 if plain is None else plain
    if plain:
        new = keys.new_empty(rows, heads, columns, width).transpose(2, 3)
    else:
        new = keys.new_empty(rows, heads, width, columns)
    there = values.new_empty(rows, values.shape[1], columns, values.shape[3])
    there[:, :, :_MARGIN] = 0
    return new, there


def _widen(part: torch.Tensor, longest: int, dim: int) -> torch.Tensor:
    missing = longest - part.shape[dim]
    if not missing:
        return part
    return pad(part, (0, missing) if dim == 3 else (0, 0, 0, missing))


def length_class(length: int) -> int:
    """Prompts of one class are kept together: 1–64, –96, –128, –192, …: more calls for few, or more padding for all."""
    octave = 1 << max(6, (length - 1).bit_length())
    return octave * 3 // 4 if length <= octave * 3 // 4 and octave > 64 else octave
