"""Log-probabilities of many completions of the same prompts: every prompt is read once, not once per completion.

The prompts go through the model with a cache of keys and values; the cache is repeated for the completions, which are
read on top of it. Autograd flows through the cache, so loss and gradient are those of the plain path. It holds only
where a layer's memory of a prompt is its keys and values and nothing else: models with sliding windows, recurrent
states or gradient checkpointing take the plain path, and the first use of any model compares both paths.

On either path completions of similar lengths are read together, so a few long ones do not make padding of the rest.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import distributed
from torch.nn import functional
from transformers import DynamicCache

from tutelage.lab.errors import BadInput
from tutelage.lm.request import LEAST_TEMPERATURE, MOST_TEMPERATURE, usable_temperature
from tutelage.lm.training.architecture import context_of, full_attention, parameters, unwrapped
from tutelage.lm.training.distributed import without_gradient
from tutelage.lm.training.losses import entropy, length_mask, token_logprobs

Ids = Sequence[int]

WORTH_A_PASS = {"cpu": 256}
"""Tokens of padding, by the kind of device, for which a further pass through the model pays; elsewhere 2048."""

_AGREES: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a model says about completions; rows go prompt by prompt, completion by completion.

    Attributes:
        logprobs: `[rows, width]` float32 log p of every completion token; 0 where `mask` is false.
        mask: `[rows, width]` bool: real tokens, the end-of-sequence token included.
        entropy: `[rows, width]` of the distribution each token was drawn from, if asked for.
        hidden: `[rows, width, d]` last hidden state *before* each token (a value head's input), if asked for.
    """

    logprobs: torch.Tensor
    mask: torch.Tensor
    entropy: torch.Tensor | None = None
    hidden: torch.Tensor | None = None


def read_completions(
    model: Any,
    prompts: Sequence[Ids],
    completions: Sequence[Sequence[Ids]],
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
    with_hidden: bool = False,
    shared: bool | None = None,
    chunk: int = 0,
) -> Reading:
    """Log-probabilities, with gradient, of `completions[i]` (one or more) after `prompts[i]`.

    Args:
        temperature: the sampler's; logits are divided by it.
        shared: whether prompts are read once; None: where `can_share(model)` says that it is right.
        chunk: see `token_logprobs`.

    Raises `BadInput` for an empty prompt or completion, and for sequences longer than the model's context.
    """
    _check(model, prompts, completions, temperature)
    rows = [completion for group in completions for completion in group]
    owner = [place for place, group in enumerate(completions) for _ in group]
    device = _device(model)
    if can_share(model) if shared is None else shared:
        options = {"logits_to_keep": 1, "output_hidden_states": with_hidden}
        known = _Prompts.read(model, unwrapped(model).config, prompts, device, **options)
        groups = _groups([len(row) for row in rows], device)
    else:
        known = None
        groups = _groups([len(prompts[place]) + len(row) for row, place in zip(rows, owner)], device)
    parts: list[tuple[torch.Tensor | None, ...]] = []
    for group in groups:
        some, whose = [rows[row] for row in group], [owner[row] for row in group]
        if known is None:
            logits, hidden = _plain(model, prompts, some, whose, with_hidden)
        else:
            logits, hidden = _shared(known, some, whose, with_hidden)
        logp = token_logprobs(logits, _right(some).to(device), temperature=temperature, chunk=chunk)
        parts.append((logp, entropy(logits, temperature=temperature) if with_entropy else None, hidden))
    mask = length_mask([len(row) for row in rows], max(map(len, rows))).to(device)
    logp, spread, hidden = (_joined(each, groups, mask.shape[1]) for each in zip(*parts, strict=True))
    assert logp is not None
    return Reading(logp.where(mask, 0.0), mask, None if spread is None else spread.where(mask, 0.0), hidden)


def read_states(
    model: Any, prompts: Sequence[Ids], completions: Sequence[Sequence[Ids]], *, shared: bool | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Last hidden states `[rows, width, d]` *at* every token of `completions[i]`, with gradient, and their mask.

    What a head reads that judges a text up to a token, that token included. Only the trunk is run, no logits are made.
    States where the mask `[rows, width]` is false mean nothing. `shared` and errors as in `read_completions`.
    """
    _check(model, prompts, completions, 1.0)
    rows = [completion for group in completions for completion in group]
    owner = [place for place, group in enumerate(completions) for _ in group]
    base, device = unwrapped(model), _device(model)
    trunk = base.base_model
    mask = length_mask([len(row) for row in rows], max(map(len, rows))).to(device)
    if can_share(model) if shared is None else shared:
        known = _Prompts.read(trunk, base.config, prompts, device)
        groups = _groups([len(row) for row in rows], device)
        parts = []
        for group in groups:
            tokens = _right([rows[row] for row in group]).to(device)
            parts.append(known.follow(tokens, [owner[row] for row in group]).last_hidden_state)
        return _joined(parts, groups, mask.shape[1]), mask
    ids = _right([[*prompts[place], *row] for row, place in zip(rows, owner, strict=True)]).to(device)
    states = trunk(input_ids=ids, use_cache=False).last_hidden_state
    starts = torch.tensor([len(prompts[place]) for place in owner], device=device)
    at = (starts[:, None] + torch.arange(mask.shape[1], device=device)).clamp(max=ids.shape[1] - 1)
    return states[torch.arange(len(rows), device=device)[:, None], at], mask


def by_length(lengths: Sequence[int], worth: int) -> list[list[int]]:
    """Rows in groups of similar lengths, each padded to its longest: cut where that saves `worth` tokens or more."""
    order = np.argsort(lengths, kind="stable")
    ordered = np.asarray(lengths)[order]

    def cut(start: int, end: int) -> list[list[int]]:
        # Ending the first part before row c, its c − start rows need not be as long as the last one.
        saved = np.arange(1, end - start) * (ordered[end - 1] - ordered[start : end - 1])
        if not len(saved) or saved.max() < worth:
            return [sorted(order[start:end].tolist())]
        middle = start + 1 + int(saved.argmax())
        return cut(start, middle) + cut(middle, end)

    return cut(0, len(ordered))


def can_share(model: Any) -> bool:
    """Whether reading prompts once is right for this model as it is now: by its cache, and by trial on two prompts."""
    base = unwrapped(model)
    if any(module.training and getattr(module, "gradient_checkpointing", False) for module in base.modules()):
        return False  # transformers then gives no cache
    if base not in _AGREES:
        _AGREES[base] = full_attention(base) and _agree(model)
        if not _AGREES[base]:
            warnings.warn(
                f"{type(base).__name__} keeps more than keys and values: prompts are read once per completion",
                stacklevel=3,
            )
    return _AGREES[base]


def _plain(
    model: Any, prompts: Sequence[Ids], rows: Sequence[Ids], owner: Sequence[int], with_hidden: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Prompt and completion as one row, padded on the right, which is right for every causal architecture."""
    device = _device(model)
    ids = _right([[*prompts[place], *row] for row, place in zip(rows, owner, strict=True)]).to(device)
    # Nothing before the shortest prompt's last token predicts a completion: the vocabulary's matrix is spared there.
    skip = min(len(prompts[place]) for place in owner) - 1
    few = {"logits_to_keep": ids.shape[1] - skip} if "logits_to_keep" in parameters(unwrapped(model)) else {}
    out = model(input_ids=ids, use_cache=False, output_hidden_states=with_hidden, **few)
    starts = torch.tensor([len(prompts[place]) - 1 for place in owner], device=device)
    width = max(map(len, rows))
    before = (starts[:, None] + torch.arange(width, device=device)).clamp(max=ids.shape[1] - 1)
    line = torch.arange(len(rows), device=device)[:, None]
    logits = out.logits[line, before - (ids.shape[1] - out.logits.shape[1])]
    return logits, out.hidden_states[-1][line, before] if with_hidden else None


def _shared(
    known: _Prompts, rows: Sequence[Ids], owner: Sequence[int], with_hidden: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    first, device = known.first, known.real.device
    which = torch.tensor(owner, device=device)
    tokens = _right(rows).to(device)[:, :-1]  # the last token predicts nothing that is asked for
    logits, hidden = first.logits[which], first.hidden_states[-1][which, -1:] if with_hidden else None
    if tokens.shape[1]:
        then = known.follow(tokens, owner, output_hidden_states=with_hidden)
        logits = torch.cat([logits, then.logits], 1)
        hidden = None if hidden is None else torch.cat([hidden, then.hidden_states[-1]], 1)
    return logits, hidden


@dataclass(frozen=True, eq=False)
class _Prompts:
    """Prompts that were read, to read completions on top of.

    Attributes:
        call: the model. first: what it gave. cache: keys and values.
        real: `[prompts, width]` bool, false where the left is padded. lengths: `[prompts]`.
    """

    call: Any
    first: Any
    cache: DynamicCache
    real: torch.Tensor
    lengths: torch.Tensor

    @classmethod
    def read(cls, call: Any, config: Any, prompts: Sequence[Ids], device: torch.device, **options: Any) -> _Prompts:
        longest = max(map(len, prompts))
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        # Padded on the left, all prompts end in the same column and the completions follow without a gap.
        ids = _right([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]).to(device)
        real = torch.arange(longest, device=device) >= (longest - lengths)[:, None]
        positions = (torch.arange(longest, device=device) - (longest - lengths)[:, None]).clamp(min=0)
        cache = DynamicCache(config=config)
        keep = {"past_key_values": cache, "use_cache": True}
        first = call(input_ids=ids, attention_mask=real.long(), position_ids=positions, **keep, **options)
        return cls(call, first, cache, real, lengths)

    def follow(self, tokens: torch.Tensor, owner: Sequence[int], **options: Any) -> Any:
        """What the model gives for tokens `[rows, width]`, each row after the prompt that it belongs to."""
        which = torch.tensor(owner, device=tokens.device)
        seen = torch.cat([self.real[which], torch.ones_like(tokens, dtype=torch.bool)], 1).long()
        positions = self.lengths[which, None] + torch.arange(tokens.shape[1], device=tokens.device)
        keep = {"past_key_values": self._repeated(owner), "use_cache": True}
        return self.call(input_ids=tokens, attention_mask=seen, position_ids=positions, **keep, **options)

    def _repeated(self, owner: Sequence[int]) -> DynamicCache:
        """One copy of a prompt's keys and values for each of its completions; gradients add up over the copies."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        number = len(self.lengths)
        each = len(owner) // number
        if list(owner) == [place for place in range(number) for _ in range(each)]:
            cache.batch_repeat_interleave(each)  # an expansion: its gradient is a sum, not a scatter
        else:
            cache.batch_select_indices(torch.tensor(owner, device=self.lengths.device))
        return cache


def _groups(lengths: Sequence[int], device: torch.device) -> list[list[int]]:
    """`by_length`; all rows at once where processes train together, for sharded layers meet in every pass."""
    together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return [list(range(len(lengths)))] if together else by_length(lengths, WORTH_A_PASS.get(device.type, 2048))


def _joined(parts: Sequence[Any], groups: Sequence[Sequence[int]], width: int) -> Any:
    """`[rows, width, …]` of all groups, their rows in place and padded with zeros; None if there is nothing."""
    if parts[0] is None or len(parts) == 1:
        return parts[0]
    filled = [functional.pad(part, (0, 0) * (part.dim() - 2) + (0, width - part.shape[1])) for part in parts]
    rows = torch.tensor([row for group in groups for row in group], device=parts[0].device)
    return torch.cat(filled)[torch.argsort(rows)]


def _agree(model: Any) -> bool:
    """Both paths give the same log-probabilities on two short prompts with ragged completions."""
    base = unwrapped(model)
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        ids = [1 % base.config.get_text_config().vocab_size, 2 % base.config.get_text_config().vocab_size]
        arguments = ([ids * 2, ids[:1]], [[ids, ids * 2], [ids[1:], ids * 2, ids[:1]]])
        with without_gradient(model):
            one, other = (read_completions(model, *arguments, shared=shared).logprobs for shared in (True, False))
        near = 1e-4 if one.dtype == next(base.parameters()).dtype == torch.float32 else 0.1
        return bool((one - other).abs().max() < near)
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError):
        return False  # the model cannot be called in this way at all
    finally:
        for module, mode in training:
            module.training = mode


def _right(rows: Sequence[Ids]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device


def _check(model: Any, prompts: Sequence[Ids], completions: Sequence[Sequence[Ids]], temperature: float) -> None:
    if not len(prompts) or len(prompts) != len(completions):
        raise BadInput(f"completions: {len(completions)} groups for {len(prompts)} prompts; must be one each")
    if not (temperature > 0 and usable_temperature(temperature)):
        allowed = f"in [{LEAST_TEMPERATURE:g}, {MOST_TEMPERATURE:g}]"
        raise BadInput(f"temperature = {temperature}: must be {allowed}; greedy samples have no log-probability")
    context = context_of(model)
    for place, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
        if not len(prompt) or not len(group) or not all(len(completion) for completion in group):
            raise BadInput(f"prompt {place}: prompt and completions must have at least one token each")
        total = len(prompt) + max(map(len, group))
        if context and total > context:
            raise BadInput(
                f"prompt {place}: {total} tokens with its completion exceed the model's context of {context}"
            )
