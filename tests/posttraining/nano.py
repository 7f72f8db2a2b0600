"""A policy small enough to enumerate and to train in seconds: six tokens, a Llama of a few thousand parameters."""

from __future__ import annotations

import copy
import dataclasses
from fractions import Fraction

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tutelage.posttraining.grading.answers import Answer
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question

WORDS = ("</s>", "a", "b", "c", "d", "e")
"""The end-of-sequence token pads, too."""


def tokenizer(words: tuple[str, ...] = WORDS) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="a"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="</s>")


def model(vocabulary: int = len(WORDS), seed: int = 0, *, spread: float = 0.3, size: int = 16, kind: str = "llama"):
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=vocabulary,
            n_positions=32,
            n_embd=size,
            n_layer=2,
            n_head=2,
            initializer_range=spread,
            bos_token_id=0,
            eos_token_id=0,
        )
        return GPT2LMHeadModel(config)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=size,
            intermediate_size=2 * size,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=32,
            initializer_range=spread,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
        )
    )


def policy(seed: int = 0, words: tuple[str, ...] = WORDS, **changes) -> Policy:
    return Policy(model(len(words), seed, **changes), tokenizer(words), template="{question}")


def questions(*texts: str) -> list[Question]:
    return [Question(text, "#### 1", Answer(Fraction(1))) for text in texts]


def fresh(old: Policy) -> Policy:
    """The same policy with a model of its own."""
    return dataclasses.replace(old, model=copy.deepcopy(old.model))
