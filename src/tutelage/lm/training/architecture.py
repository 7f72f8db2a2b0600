"""What training asks of a model, whatever wraps it: its layers, its context, whether every token sees all before it."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tutelage.lab.errors import BadInput


def full_attention(model: Any) -> bool:
    """Whether every layer attends to all earlier tokens and keeps nothing else (no windows, no recurrent state)."""
    base = unwrapped(model)
    if getattr(base, "_is_stateful", False) or not {"past_key_values", "position_ids"} <= parameters(base):
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


def decoder_layers(model: Any) -> torch.nn.ModuleList:
    """The stack of a decoder's layers: its longest list of modules."""
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    if not stacks:
        raise BadInput(f"{type(model).__name__} has no list of layers")
    return max(stacks, key=len)


def parameters(model: Any) -> set[str]:
    return set(inspect.signature(model.forward).parameters)
