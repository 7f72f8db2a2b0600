"""Random models of a few thousand parameters, one per architecture that the tests name."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

VOCABULARY = 50
_LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def tiny(name: str, seed: int = 0, **changes: Any) -> Any:
    """A model in eval mode with weights from the seed; larger ones than usual, so that tokens differ in probability."""
    torch.manual_seed(seed)
    if name == "gpt2":
        sizes = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
        model: Any = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, **changes))
    elif name == "mamba":
        sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}
        model = MambaForCausalLM(MambaConfig(**sizes, **changes))
    elif name == "mistral":
        model = MistralForCausalLM(MistralConfig(**_LLAMA, sliding_window=4, **changes))
    elif name == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**_LLAMA, **changes))
    else:
        model = LlamaForCausalLM(LlamaConfig(**_LLAMA | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model.eval()
