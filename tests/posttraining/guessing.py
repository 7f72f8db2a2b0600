"""A very small policy that writes well-formed solutions and guesses the answer, trained on the spot in a second."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tutelage.lm.training.config import SFTConfig, TokenizerConfig
from tutelage.lm.training.pretraining import train_tokenizer
from tutelage.lm.training.sft import sft
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question

TEMPLATE = "{question}?\n"
QUESTIONS = [Question.of(f"{a}+{b}", f"{a}+{b}={a + b}\n#### {a + b}") for a, b in [(1, 1), (1, 2), (2, 2), (2, 1)]]
"""Answers 2, 3, 4, 3."""


def solution(guess: int, form: int = 0) -> str:
    """A solution with a guessed answer in one of two forms."""
    return (f"{guess}\n#### {guess}", f"so {guess}\n#### {guess}")[form]


@functools.cache
def tokenizer(kind: str = "character") -> Any:
    texts = [TEMPLATE.replace("{question}", each.text) + each.solution for each in QUESTIONS]
    texts += [solution(guess, form) for guess in (2, 3, 4) for form in (0, 1)] + ["example: "]
    return train_tokenizer(texts, TokenizerConfig(kind=kind, vocabulary=400))


def untrained(**changes: Any) -> LlamaForCausalLM:
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "vocab_size": len(tokenizer()), "max_position_embeddings": 64}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes | changes))


@functools.cache
def _trained(epochs: int) -> LlamaForCausalLM:
    model = untrained()
    policy = Policy(model, tokenizer(), TEMPLATE)
    examples = [policy.example(each, solution(g, form)) for each in QUESTIONS for g in (2, 3, 4) for form in (0, 1)]
    sft(model, examples, SFTConfig(num_epochs=epochs, batch_size=24, learning_rate=1e-2))
    return model.eval()


def guessing() -> Policy:
    """Right about one time in three, in either form."""
    return Policy(copy.deepcopy(_trained(60)), tokenizer(), TEMPLATE)


def pretrained() -> LlamaForCausalLM:
    """Other weights than `guessing`'s, which know the form of a solution too."""
    return copy.deepcopy(_trained(45))


def weights(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
