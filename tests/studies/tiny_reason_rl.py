"""The study of reason_rl at the smallest sizes that still do everything, for tests and for killing.

Problems of one small step and a model of some thousand parameters, trained for a second or two: bad, but right often
enough that every arm finds something to learn from.
"""

from __future__ import annotations

import dataclasses

from tutelage.lab.configuration import override
from tutelage.lab.study import Preset
from tutelage.studies.reason_rl import study as full
from tutelage.studies.reason_rl.config import Config

FIT = {"num_epochs": 1.0, "batch_size": 8, "learning_rate": 1e-3}
PARTS = ("demonstration", "iteration.sft", "conditioned.sft")
TINY = {
    "base.few_shot": 0,
    "task.num_train": 12,
    "task.num_test": 6,
    "task.num_demonstrations": 6,
    "task.difficulty.max_steps": 1,
    "task.difficulty.max_given": 4,
    "task.difficulty.max_value": 8,
    "task.difficulty.max_factor": 2,
    "task.difficulty.operations": "+-",
    "task.difficulty.templates": 1,
    "base.pretrain.size": "nano",
    "base.pretrain.num_epochs": 12.0,
    "base.pretrain.batch_tokens": 512,
    "base.pretrain.learning_rate": 8e-3,
    "base.corpus.documents": 500,
    "base.corpus.fact_sheets": 50,
    **{f"{part}.{name}": value for part in PARTS for name, value in FIT.items()},
    "supervised.num_epochs": 3.0,
    "supervised.batch_size": 8,
    "sampling.max_new_tokens": 20,
    "iteration.num_samples": 4,
    "iteration.threshold": 0.1,  # an outcome model of so little data is sure of nothing
    "online.num_questions": 4,
    "online.num_samples": 4,
    "online.num_minibatches": 2,
    "conditioned.num_samples": 4,
    "preference.num_samples": 4,
    "outcome.num_samples": 8,
    "outcome.held_out": 0.5,
    "reward.continuations": 2,
    "evaluation.num_samples": 4,
    "evaluation.interim_samples": 2,
    "schedule.num_updates": 2,
    "schedule.log_every": 1,
    "schedule.evaluate_every": 1,
}


def tiny(arm: str, **changes: object) -> Config:
    """An arm at the smallest size; `changes` are paths with `__` for the dot."""
    config = override(full.arms[arm].configure(full.config()), TINY)
    return override(config, {path.replace("__", "."): value for path, value in changes.items()})


study = dataclasses.replace(
    full,
    presets={
        **full.presets,
        "tiny": Preset("Seconds.", lambda config: override(config, TINY), seeds=1),
        "killed": Preset(
            "Long enough to be killed in.",
            lambda config: override(config, TINY | {"schedule.num_updates": 12, "supervised.num_epochs": 12.0}),
            seeds=1,
        ),
    },
)
