"""The study of minimax at the smallest sizes that still do everything, for tests and for killing."""

from __future__ import annotations

import dataclasses

from tutelage.lab.configuration import override
from tutelage.lab.study import Preset
from tutelage.studies.minimax import study as full
from tutelage.studies.minimax.config import Config

TINY = {
    "maze.height": 5,
    "maze.width": 5,
    "maze.num_walls": 4,
    "maze.max_steps": 8,
    "maze.num_actions": 3,
    "network.body": "gru",
    "network.hidden": 8,
    "network.num_filters": 2,
    "network.head_hidden": 4,
    "ppo.num_epochs": 2,
    "rollout.num_tasks": 4,
    "rollout.num_steps": 8,
    "teacher.replay.buffer_size": 16,
    "teacher.edit.num_edits": 2,
    "teacher.edit.subsample": 2,
    "teacher.edit.pedigree": 2,
    "teacher.adversary.budget": 3,
    "teacher.adversary.noise": 2,
    "teacher.adversary.ppo.num_epochs": 1,
    "teacher.adversary.net.body": "gru",
    "teacher.adversary.net.hidden": 8,
    "teacher.adversary.net.num_filters": 2,
    "teacher.sfl.every": 3,
    "teacher.sfl.num_batches": 2,
    "teacher.sfl.batch_size": 8,
    "teacher.sfl.rollout_steps": 16,
    "teacher.sfl.keep": 6,
    "evaluation.num_held_out": 6,
    "evaluation.suite": "none",
    "evaluation.num_episodes": 2,
    "evaluation.final_episodes": 3,
    "evaluation.robust_levels": 4,
    "evaluation.robust_episodes": 2,
    "schedule.num_updates": 6,
    "schedule.log_every": 2,
    "schedule.evaluate_every": 2,
}


def tiny(arm: str, **changes: object) -> Config:
    """An arm at the smallest size; `changes` are paths with `__` for the dot."""
    config = override(full.arms[arm].configure(full.config()), TINY)
    return override(config, {path.replace("__", "."): value for path, value in changes.items()})


study = dataclasses.replace(
    full,
    presets={
        **full.presets,
        "tiny": Preset("For tests.", lambda config: override(config, TINY)),
        "killed": Preset(
            "Long enough to be killed many times.",
            lambda config: override(config, TINY | {"schedule.num_updates": 4000, "schedule.evaluate_every": 1000}),
        ),
    },
)
