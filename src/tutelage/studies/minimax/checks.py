"""What the settings of this study may not be together, refused before any work."""

from __future__ import annotations

import dataclasses
from typing import Any

from tutelage.curricula import config as curricula_config
from tutelage.envs import config as envs_config
from tutelage.lab.errors import BadInput
from tutelage.studies.minimax.config import Config, of_one_device

ADVERSARIES = ("paired", "population_paired", "minimax")
"""Kinds of teachers that build levels."""


def check(config: Config) -> list[str]:
    """Refuse what no single field shows; return warnings, one line each.

    Raises:
        BadInput: one line naming the field, its value and what is allowed.
    """
    in_maze = config.domain == "maze"
    rollout, teacher, ppo = config.rollout, config.teacher, config.ppo
    if in_maze:
        adversary = teacher.adversary
        editor = envs_config.EditorConfig(num_walls=adversary.budget, noise=adversary.noise)
        envs_config.check(config.maze, editor if teacher.kind in ADVERSARIES else None)
        if config.num_training_walls >= 0:
            room = config.maze.height * config.maze.width - 2
            if config.num_training_walls >= room:
                raise BadInput(
                    f"num_training_walls = {config.num_training_walls} leaves no room for agent and goal in "
                    f"{config.maze.height}×{config.maze.width} cells; allowed is less than {room}"
                )
    else:
        _check_ranges(config.domain, getattr(config, config.domain))
    _check_teacher(config)
    if not in_maze and teacher.kind in ADVERSARIES:
        raise BadInput(f"teacher.kind = {teacher.kind!r} needs a world with an editor: domain = 'maze'")
    if not in_maze and (teacher.kind == "sfl" or teacher.replay.score == "learnability"):
        raise BadInput(f"domain = {config.domain!r} has no notion of solving a level, which learnability needs: 'maze'")
    if rollout.num_devices > 1:
        _check_devices(config)
    rows = rollout.num_tasks * rollout.num_copies // rollout.num_devices
    if rows % ppo.num_minibatches != 0:
        raise BadInput(
            f"ppo.num_minibatches = {ppo.num_minibatches} does not divide the {rows} environments of a rollout"
            + (" on each device" if rollout.num_devices > 1 else "")
        )
    horizon = config.maze.max_steps if in_maze else getattr(config, config.domain).horizon
    if rollout.num_steps < horizon and teacher.kind != "dr":
        return [
            f"rollout.num_steps = {rollout.num_steps} is shorter than an episode may last ({horizon}): levels that are "
            "never completed have no score and never enter a buffer"
        ]
    return []


def _check_teacher(config: Config) -> None:
    curricula_config.check(
        config.teacher,
        num_tasks=config.rollout.num_tasks,
        num_students=config.rollout.num_students,
        num_value_heads=config.network.num_value_heads,
        can_solve=config.domain == "maze",
    )


def _check_devices(config: Config) -> None:
    number, teacher = config.rollout.num_devices, config.teacher
    shared = [(config.rollout.num_tasks, "levels of a rollout", "rollout.num_tasks")]
    if teacher.kind in ("plr", "accel"):
        shared.append((teacher.replay.buffer_size, "slots of the buffer", "teacher.replay.buffer_size"))
    if teacher.kind == "sfl":
        shared.append((teacher.sfl.batch_size, "levels in a batch of a search", "teacher.sfl.batch_size"))
        shared.append((teacher.sfl.keep, "levels that a search keeps", "teacher.sfl.keep"))
    for amount, what, path in shared:
        if amount % number != 0:
            raise BadInput(f"rollout.num_devices = {number} does not divide the {amount} {what} ({path})")
    try:
        _check_teacher(of_one_device(config))
    except BadInput as problem:
        raise BadInput(f"on each of rollout.num_devices = {number} devices: {problem}") from None


def _check_ranges(domain: str, physics: Any) -> None:
    for field in dataclasses.fields(physics):
        value = getattr(physics, field.name)
        if isinstance(value, tuple) and not 0 < value[0] <= value[1]:
            raise BadInput(f"{domain}.{field.name} = {value}: must be two numbers, 0 < lowest <= highest")
