"""Log-probabilities of many completions of the same prompts: every prompt is read once, not once per completion.

The prompts go through the model with a cache of keys and values; the cache is repeated for the completions, which are
read on top of it. Autograd flows through the cache, so loss and gradient are those of the plain path. It holds only
where a layer's memory of a prompt is its keys and values and nothing else: models with sliding windows, recurrent
states or gradient checkpointing take the plain path, and the first use of any model compares both paths.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tutelage.lab.errors import BadInput
from tutelage.lm.training.distributed import without_gradient
from tutelage.lm.training.losses import entropy, length_mask, token_logprobs

Ids = Sequence[int]

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
    use_shared = can_share(model) if shared is None else shared
    logits, hidden = (_shared if use_shared else _plain)(model, prompts, rows, owner, with_hidden)
    mask = length_mask([len(row) for row in rows], logits.shape[1]).to(logits.device)
    targets = _right(rows).to(logits.device)
    logp = token_logprobs(logits, targets, temperature=temperature, chunk=chunk)
    spread = entropy(logits, temperature=temperature).where(mask, 0.0) if with_entropy else None
    return Reading(logp.where(mask, 0.0), mask, spread, hidden)


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
        _, follow = _read_prompts(trunk, base.config, prompts, owner, device)
        return follow(_right(rows).to(device)).last_hidden_state, mask
    ids = _right([[*prompts[place], *row] for row, place in zip(rows, owner, strict=True)]).to(device)
    states = trunk(input_ids=ids, use_cache=False).last_hidden_state
    starts = torch.tensor([len(prompts[place]) for place in owner], device=device)
    at = (starts[:, None] + torch.arange(mask.shape[1], device=device)).clamp(max=ids.shape[1] - 1)
    return states[torch.arange(len(rows), device=device)[:, None], at], mask


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


def full_attention(model: Any) -> bool:
    """Whether every layer attends to all earlier tokens and keeps nothing else (no windows, no recurrent state)."""
    base = unwrapped(model)
    if getattr(base, "_is_stateful", False) or not {"past_key_values", "position_ids"} <= _parameters(base):
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=base.config).layers)


def unwrapped(model: Any) -> Any:
    """The transformers model inside data-parallel and LoRA wrappers."""
    inner = getattr(model, "module", model)
    return inner.get_base_model() if hasattr(inner, "peft_config") and hasattr(inner, "get_base_model") else inner


def context_of(model: Any) -> int:
    """The most tokens that the model's positions reach; 0 if its configuration does not say."""
    config = unwrapped(model).config.get_text_config(decoder=True)
    return int(getattr(config, "max_position_embeddings", 0) or 0)


def _plain(
    model: Any, prompts: Sequence[Ids], rows: Sequence[Ids], owner: Sequence[int], with_hidden: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Prompt and completion as one row, padded on the right, which is right for every causal architecture."""
    device = _device(model)
    ids = _right([[*prompts[place], *row] for row, place in zip(rows, owner, strict=True)]).to(device)
    # Nothing before the shortest prompt's last token predicts a completion: the vocabulary's matrix is spared there.
    skip = min(len(prompts[place]) for place in owner) - 1
    few = {"logits_to_keep": ids.shape[1] - skip} if "logits_to_keep" in _parameters(unwrapped(model)) else {}
    out = model(input_ids=ids, use_cache=False, output_hidden_states=with_hidden, **few)
    starts = torch.tensor([len(prompts[place]) - 1 for place in owner], device=device)
    width = max(map(len, rows))
    before = (starts[:, None] + torch.arange(width, device=device)).clamp(max=ids.shape[1] - 1)
    line = torch.arange(len(rows), device=device)[:, None]
    logits = out.logits[line, before - (ids.shape[1] - out.logits.shape[1])]
    return logits, out.hidden_states[-1][line, before] if with_hidden else None


def _shared(
    model: Any, prompts: Sequence[Ids], rows: Sequence[Ids], owner: Sequence[int], with_hidden: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    device = _device(model)
    keep = {"output_hidden_states": with_hidden}
    config = unwrapped(model).config
    first, follow = _read_prompts(model, config, prompts, owner, device, logits_to_keep=1, **keep)
    which = torch.tensor(owner, device=device)
    tokens = _right(rows).to(device)[:, :-1]  # the last token predicts nothing that is asked for
    logits, hidden = first.logits[which], first.hidden_states[-1][which, -1:] if with_hidden else None
    if tokens.shape[1]:
        then = follow(tokens, **keep)
        logits = torch.cat([logits, then.logits], 1)
        hidden = None if hidden is None else torch.cat([hidden, then.hidden_states[-1]], 1)
    return logits, hidden


def _read_prompts(
    call: Any, config: Any, prompts: Sequence[Ids], owner: Sequence[int], device: torch.device, **options: Any
) -> tuple[Any, Callable[..., Any]]:
    """What `call` gives for the prompts, and the call that reads tokens `[rows, width]` on top of each row's prompt."""
    longest = max(map(len, prompts))
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    # Padded on the left, all prompts end in the same column and the completions follow without a gap.
    ids = _right([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]).to(device)
    real = torch.arange(longest, device=device) >= (longest - lengths)[:, None]
    positions = (torch.arange(longest, device=device) - (longest - lengths)[:, None]).clamp(min=0)
    cache = DynamicCache(config=config)
    keep = {"past_key_values": cache, "use_cache": True}
    first = call(input_ids=ids, attention_mask=real.long(), position_ids=positions, **keep, **options)
    _repeat(cache, owner, len(prompts), device)
    which = torch.tensor(owner, device=device)

    def follow(tokens: torch.Tensor, **more: Any) -> Any:
        ahead = torch.arange(tokens.shape[1], device=device)
        seen = torch.cat([real[which], torch.ones_like(tokens, dtype=torch.bool)], 1).long()
        return call(input_ids=tokens, attention_mask=seen, position_ids=lengths[which, None] + ahead, **keep, **more)

    return first, follow


def _repeat(cache: DynamicCache, owner: Sequence[int], num_prompts: int, device: torch.device) -> None:
    """One copy of a prompt's keys and values for each of its completions; gradients add up over the copies."""
    each = len(owner) // num_prompts
    if list(owner) == [place for place in range(num_prompts) for _ in range(each)]:
        cache.batch_repeat_interleave(each)  # an expansion: its gradient is a sum, not a scatter
        return
    cache.batch_select_indices(torch.tensor(owner, device=device))


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


def _parameters(model: Any) -> set[str]:
    return set(inspect.signature(model.forward).parameters)


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device


def _check(model: Any, prompts: Sequence[Ids], completions: Sequence[Sequence[Ids]], temperature: float) -> None:
    if not len(prompts) or len(prompts) != len(completions):
        raise BadInput(f"completions: {len(completions)} groups for {len(prompts)} prompts; must be one each")
    if not temperature > 0:
        raise BadInput(f"temperature = {temperature}: must be positive; greedy samples have no log-probability")
    context = context_of(model)
    for place, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
        if not len(prompt) or not len(group) or not all(len(completion) for completion in group):
            raise BadInput(f"prompt {place}: prompt and completions must have at least one token each")
        total = len(prompt) + max(map(len, group))
        if context and total > context:
            raise BadInput(
                f"prompt {place}: {total} tokens with its completion exceed the model's context of {context}"
            )
