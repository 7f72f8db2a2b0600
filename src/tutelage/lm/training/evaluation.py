"""How well a model predicts text, and how often it answers right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tutelage.lab.errors import BadInput
from tutelage.lm.model import LM
from tutelage.lm.request import Request
from tutelage.lm.training.architecture import context_of
from tutelage.lm.training.batches import Example, encode, micro_batches, pad
from tutelage.lm.training.corpus import Problem
from tutelage.lm.training.distributed import without_gradient
from tutelage.lm.training.losses import cross_entropy


def prediction(
    model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]], *, micro_tokens: int = 8192
) -> dict[str, float]:
    """How well the second text of each pair, and its end, is predicted after the first (which may be empty).

    Figures: `loss` in nats per token, `perplexity`, `bits_per_byte` of UTF-8, `tokens`, `bytes`. Raises `BadInput`
    naming the first pair that is longer than the model's context, and for a loss that is NaN.
    """
    examples: list[Example] = [encode(tokenizer, *pair) for pair in pairs]
    context = context_of(model)
    for place, example in enumerate(examples):
        if context and len(example) > context:
            raise BadInput(f"text {place}: {len(example)} tokens exceed the model's context of {context}; split it")
    tokens, size = sum(each.num_targets for each in examples), sum(len(text.encode()) for _, text in pairs)
    if not tokens or not size:
        raise BadInput("data: there is no text in it")
    total, device = 0.0, next(model.parameters()).device
    model.eval()
    with without_gradient(model):
        for group in micro_batches(examples, micro_tokens):
            batch = pad(group).to(device)
            logits = model(**batch.inputs()).logits[:, :-1]
            if batch.num_targets:
                total += float(cross_entropy(logits, batch.ids[:, 1:], batch.learnt[:, 1:], 1.0))
    loss = total / tokens
    if math.isnan(loss):
        raise BadInput("loss is nan: the model gives NaN or infinite logits for these texts")
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "bits_per_byte": total / math.log(2) / size,
        "tokens": float(tokens),
        "bytes": float(size),
    }


def final_answer(text: str) -> str:
    """What follows the last `####` on its line, or the whole text; white space made single."""
    _, mark, after = text.rpartition("####")
    return " ".join((after.strip().partition("\n")[0] if mark else text).split())


async def exact_match(model: LM, problems: Sequence[Problem], *, max_tokens: int = 128) -> dict[str, float]:
    """Shares of greedy answers: `exact_match` with the reference (both by `final_answer`), `cut_off`, `failed`."""
    requests = [Request(prompt=each.prompt, max_tokens=max_tokens, temperature=0.0) for each in problems]
    completions = await model.generate(requests)
    right = [
        found.error is None and final_answer(found.text) == final_answer(each.answer)
        for found, each in zip(completions, problems, strict=True)
    ]
    number = len(problems)
    return {
        "exact_match": sum(right) / number,
        "cut_off": sum(found.finish_reason == "length" for found in completions) / number,
        "failed": sum(found.error is not None for found in completions) / number,
    }
