"""From a configuration to the running system: composes, computes little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tutelage.attention.config import AttentionConfig
from tutelage.attention.equal_parameters import equal_parameters
from tutelage.attention.tasks.task import Task
from tutelage.attention.training import Training
from tutelage.backends.torch_program import TorchProgram, torch_program
from tutelage.lab.naming import resolve
from tutelage.studies.compositional_attention.config import Config

TASKS = {
    "contextual_retrieval": "tutelage.attention.tasks.contextual_retrieval:ContextualRetrieval",
    "sort_of_clevr": "tutelage.attention.tasks.pictures.sort_of_clevr:SortOfClevr",
    "triangles": "tutelage.attention.tasks.pictures.triangles:Triangles",
    "image_mix": "tutelage.attention.tasks.pictures.image_mix:ImageMix",
    "relational": "tutelage.attention.tasks.relational:Relational",
    "scan": "tutelage.attention.tasks.words.scan:Scan",
    "associative_recall": "tutelage.attention.tasks.words.associative_recall:AssociativeRecall",
    "byte_language": "tutelage.attention.tasks.words.byte_language:ByteLanguage",
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
    return resolve(TASKS[config.task])(getattr(config, config.task), seed)


def attention(config: Config) -> AttentionConfig:
    """The attention of the model: as configured, or sized to the compositional layer's parameters."""
    if not config.equal_parameters or config.attention.kind == "compositional":
        return config.attention
    compositional = replace(config.attention, kind="compositional")
    return equal_parameters(compositional, config.network.width, kind=config.attention.kind)
