"""Arms and presets: names for changes of the configuration, as data."""

from __future__ import annotations

from typing import Any

from tutelage.continual.agents_config import KINDS
from tutelage.lab.configuration import override
from tutelage.lab.study import Arm, Preset
from tutelage.studies.mixing.config import Config

SUMMARIES = {
    "on_policy_rho": "On-policy ρ-learning: at each state the action whose adoption there has the largest gain.",
    "off_policy_rho": "Off-policy ρ-learning: after each step some drawn states are improved.",
    "rho_gradient": "Policy gradient on the gain of the model's chain.",
    "iterative_rho": "ρ-learning with a stationary law that is refined by sweeps.",
    "q_learning": "Q-learning.",
    "replay": "Q-learning with replay.",
    "dyna": "Dyna-Q.",
    "n_step": "Q-learning with n-step returns through a model.",
    "policy_gradient": "Tabular policy gradient with a Q critic.",
    "differential_q": "Differential Q-learning, for the average reward.",
    "rvi_q": "RVI Q-learning, for the average reward.",
    "reward_centred_q": "Q-learning of centred rewards.",
    "ucrl2": "UCRL2: optimism within confidence sets.",
    "psrl": "Posterior sampling.",
}
SYSTEMS = ("on_policy_rho", "off_policy_rho", "rho_gradient", "iterative_rho")


def _arm(summary: str, changes: dict[str, Any], role: str = "system") -> Arm:
    return Arm(summary, lambda config: override(config, changes), role)  # type: ignore[arg-type]


def _sweep(summary: str, scale: str, values: str, **world: Any) -> Arm:
    changes = {f"world.{name}": value for name, value in world.items()}
    numbers = tuple(int(value) for value in values.split(","))
    return _arm(summary, {"task": "sweep", "sweep.scale": scale, "sweep.values": numbers, **changes})


ARMS = {
    **{
        kind: _arm(SUMMARIES[kind], {"agent.kind": kind}, "system" if kind in SYSTEMS else "baseline") for kind in KINDS
    },
    "off_policy_priority": _arm(
        "Off-policy ρ-learning of states drawn from the stationary law.",
        {"agent.kind": "off_policy_rho", "agent.off_policy_rho.priority": True},
        "ablation",
    ),
    "bottlenecks": _sweep("Rooms in sequence: how mixing slows down with their number.", "rooms", "4,6,8,12"),
    "bottlenecks_random": _sweep("The same with rooms in random order.", "rooms", "4,6,8,12", evolution="random"),
    "rooms": _sweep("Two rooms: how mixing slows down with their size.", "length", "5,6,8,10,12", rooms=2),
    "one_room": _sweep(
        "One room with a goal: the same for a family without bottleneck.", "length", "4,8,12", kind="scale_class"
    ),
    "myopia": _arm(
        "Two loops: the discount below which the worse one is preferred, as the better one grows.",
        {"task": "myopia", "sweep.scale": "states", "sweep.values": (5, 10, 20, 40, 80)},
    ),
}


def _sized(config: Config, changes: dict[str, Any], updates: int) -> Config:
    if config.task != "life":
        number = len(config.sweep.values)
        every = {"schedule.num_updates": number, "schedule.log_every": 1, "schedule.evaluate_every": 0}
        return override(config, every)
    return override(
        config,
        {
            "world.goals": (3, 4, 0, 2, 4, 4, 4, 3),
            **changes,
            "schedule.num_updates": updates,
            "schedule.log_every": 1,
            "schedule.evaluate_every": max(updates // 10, 1),
        },
    )


PRESETS = {
    "quick": Preset(
        "Four rooms of 5×5, 20 000 steps, all seeds abreast: minutes on two CPU cores.",
        lambda config: _sized(config, {}, 20),
        seeds=8,
    ),
    "standard": Preset(
        "The same rooms, 200 000 steps.",
        lambda config: _sized(config, {"life.steps_per_update": 10_000}, 20),
        seeds=20,
    ),
    "paper": Preset(
        "The publication's settings: a million steps.",
        lambda config: _sized(config, {"life.steps_per_update": 10_000}, 100),
        seeds=20,
    ),
}
