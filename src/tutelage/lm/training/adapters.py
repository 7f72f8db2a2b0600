"""LoRA by peft: a policy of few parameters whose reference model is itself with the adapter switched off."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from tutelage.lab.errors import BadInput


def add_lora(
    model: Any, *, rank: int = 8, alpha: int = 16, dropout: float = 0.0, targets: str | Sequence[str] = "all-linear"
) -> Any:
    """The model with an adapter on the matrices named by `targets`; only the adapter is trained. It starts as identity.

    Raises `BadInput` for a rank below 1 and for targets that the model has not.
    """
    from peft import LoraConfig, get_peft_model

    if rank < 1:
        raise BadInput(f"rank = {rank}: must be at least 1")
    names = targets if isinstance(targets, str) else list(targets)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names, task_type="CAUSAL_LM")
    try:
        with warnings.catch_warnings():
            # peft sets GPT-2's matrices right by itself, and asks transformers by a name that is going out of use.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to|`is_gradient_checkpointing`")
            return get_peft_model(model, config)
    except ValueError as error:
        raise BadInput(f"targets = {targets!r}: {' '.join(str(error).split())}") from error


@contextlib.contextmanager
def reference(model: Any) -> Iterator[Any]:
    """The model before its adapter was trained: adapter off, no dropout, no gradient. Modes are put back afterwards."""
    if not hasattr(model, "disable_adapter"):
        raise BadInput("model has no adapter: its reference must be a frozen copy of it")
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), model.disable_adapter():
            yield model
    finally:
        for module, mode in training:
            module.training = mode


def merge(model: Any) -> Any:
    """The adapter worked into the weights: an ordinary transformers model. `model` is used up."""
    return model.merge_and_unload()
