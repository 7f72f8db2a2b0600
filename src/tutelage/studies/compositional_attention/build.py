"""From a configuration to the running system: composes, computes little."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tutelage.attention.baselines.equal_parameters import equal_parameters
from tutelage.attention.config import AttentionConfig
from tutelage.attention.tasks.task import Task
from tutelage.attention.training import Training
from tutelage.backends.torch_program import TorchProgram, torch_program
from tutelage.studies.compositional_attention.config import Config

CLASSES = {
    "contextual_retrieval": "ContextualRetrieval",
    "sort_of_clevr": "SortOfClevr",
    "triangles": "Triangles",
    "image_mix": "ImageMix",
    "relational": "Relational",
    "scan": "Scan",
    "associative_recall": "AssociativeRecall",
    "byte_language": "ByteLanguage",
}


def build(config: Config, seeds: Sequence[int]) -> TorchProgram:
    """The system for these seeds, one after another."""
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"

    def make(seed: int, folder: Path | None) -> Training:
        del folder
        return Training(
            task(config, seed),
            attention(config),
            config.network,
            config.optimizer,
            seed=seed,
            num_updates=config.schedule.num_updates,
            device=device,
        )

    return torch_program(make, seeds=seeds, device=device)


def task(config: Config, seed: int) -> Task:
    """The task that the configuration names, with its data."""
    module = importlib.import_module(f"tutelage.attention.tasks.{config.task}")
    return getattr(module, CLASSES[config.task])(getattr(config, config.task), seed)


def attention(config: Config) -> AttentionConfig:
    """The attention of the model: as configured, or sized to the compositional layer's parameters."""
    if not config.equal_parameters or config.attention.kind == "compositional":
        return config.attention
    compositional = replace(config.attention, kind="compositional")
    return equal_parameters(compositional, config.network.width, kind=config.attention.kind)
