"""The study of mixing at the smallest sizes that still do everything, long enough to be killed many times."""

from __future__ import annotations

import dataclasses

from tutelage.lab.configuration import override
from tutelage.lab.study import Preset
from tutelage.studies.mixing import study as full
from tutelage.studies.mixing.config import Config

SMALL = {"world.length": 3, "world.rooms": 2, "agent.replay.memory": 500}


def killed(config: Config) -> Config:
    """Short updates, very many of them; a family of many members."""
    if config.task == "life":
        own = {"life.steps_per_update": 20, "schedule.num_updates": 8000, "schedule.evaluate_every": 2000}
        return override(config, SMALL | own)
    members = tuple(range(3, 303))
    return override(config, {"sweep.values": members, "schedule.num_updates": len(members)})


study = dataclasses.replace(
    full, presets={**full.presets, "killed": Preset("Long enough to be killed many times.", killed)}
)
