"""Random models and a byte-level tokenizer, made on the spot; weights large enough that logits differ clearly."""

from __future__ import annotations

import functools
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 97
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
_GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_positions": 128,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def tiny(name: str, **changes: Any) -> PreTrainedModel:
    """A new model of an architecture, the same weights every time; in training mode, as models come from a config."""
    torch.manual_seed(1)
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**{**_GPT2, **changes}))
    if name == "mamba":
        sizes = {key: _SIZES[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "initializer_range")}
        return MambaForCausalLM(MambaConfig(**{**sizes, "state_size": 4, **changes}))
    kinds: dict[str, tuple[Any, Any]] = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
    }
    config, kind = kinds[name]
    return kind(config(**{**_SIZES, **changes}))


CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "yes no maybe; the answer is 42, or 7 out of 10 — naïve café ☕ 東京",
    "Q: what is two and two? A: four. Q: and three? A: five.",
] * 3


@functools.cache
def tokenizer(bos: bool = True, template: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level BPE with merges; `<s>` goes in front (if `bos`), `</s>` ends and pads."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>"]
    core.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    if bos:
        core.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)]),
            ]
        )
    found = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>" if bos else None, eos_token="</s>", pad_token="</s>"
    )
    if template:
        found.chat_template = (
            "{{ '<s>' }}{% for message in messages %}"
            "{% if message.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
            "{{ '<|' + message.role + '|>' + message.content }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
        )
    return found


def speaking(name: str = "llama", **changes: Any) -> PreTrainedModel:
    """A model for `tokenizer`."""
    return tiny(name, **{"vocab_size": len(tokenizer()), "max_position_embeddings": 256, **changes})
