"""Arms and presets: names for changes of the configuration, as data."""

from __future__ import annotations

import math
from typing import Any

from tutelage.continual.agents.config import KINDS
from tutelage.lab.configuration import arm, override
from tutelage.lab.study import Arm, Preset
from tutelage.studies.mixing.config import GAMES, Config

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


def _sweep(summary: str, scale: str, values: str, **world: Any) -> Arm:
    changes = {f"world.{name}": value for name, value in world.items()}
    numbers = tuple(int(value) for value in values.split(","))
    return arm(summary, {"task": "sweep", "sweep.scale": scale, "sweep.values": numbers, **changes})


ARMS = {
    **{kind: arm(SUMMARIES[kind], {"agent.kind": kind}, "system" if kind in SYSTEMS else "baseline") for kind in KINDS},
    "off_policy_priority": arm(
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
    "myopia": arm(
        "Two loops: the discount below which the worse one is preferred, as the better one grows.",
        {"task": "myopia", "sweep.scale": "states", "sweep.values": (5, 10, 20, 40, 80)},
    ),
    "minatar_sweep": arm(
        "A policy trained for each MinAtar game: return mixing times as |Z| of them take turns of τ steps.",
        {"task": "game_sweep"},
    ),
    "minatar_switching": arm(
        "One policy that learns MinAtar games in turns: its returns, and what it forgets.",
        {"task": "game_turns", "games.training.ppo.anneal": False},
    ),
}


def _games(config: Config, scale: str) -> Config:
    """Sizes of the arms with games."""
    turns = config.task == "game_turns"
    # The median rollout within a fifth of ρ̂, and turns longer than the games' own fluctuations take to settle:
    # with shorter ones these alone decide, and the switching does not show.
    measured = {"games.sweep.eps": 0.2, "games.sweep.quantile": 0.5}
    match scale:
        case "quick":
            updates, per_turn = (150, 25) if turns else (60, 60)
            sizes = {"games.training.num_envs": 32, "games.training.width": 64, "games.episodes": 32}
            sweep: dict[str, Any] = {
                "games.sweep.switch_every": (400, 800, 1600, 3200),
                "games.sweep.num_tasks": (1, 2, 3),
                "games.sweep.num_steps": 25_600,
                "games.sweep.num_rollouts": 16,
            }
        case "standard":
            updates, per_turn = (2400, 100) if turns else (1000, 1000)
            sizes = {"games.training.num_envs": 128, "games.training.width": 128, "games.names": GAMES[:3] + GAMES[4:]}
            sweep = {
                "games.sweep.switch_every": (400, 800, 1600, 3200, 6400),
                "games.sweep.num_tasks": (1, 2, 3, 4),
                "games.sweep.num_steps": 51_200,
            }
        case _:
            updates, per_turn = (10_000, 500) if turns else (2000, 2000)
            sizes = {"games.training.num_envs": 256, "games.training.width": 256, "games.names": GAMES}
            sweep = {
                "games.sweep.switch_every": (400, 800, 1600, 3200, 6400, 12_800),
                "games.sweep.num_tasks": (1, 2, 3, 4, 5),
                "games.sweep.num_steps": 102_400,
                "games.sweep.num_rollouts": 64,
            }
    scheduled = {
        "games.training.num_updates": updates,
        "games.training.updates_per_task": per_turn,
        "schedule.num_updates": updates,
        "schedule.log_every": math.gcd(20, per_turn),
        "schedule.evaluate_every": per_turn if turns else 0,
    }
    return override(config, {**sizes, **measured, **sweep, **scheduled})


def _sized(config: Config, scale: str, changes: dict[str, Any], updates: int) -> Config:
    if config.task in ("game_sweep", "game_turns"):
        return _games(config, scale)
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
        "Four rooms of 5×5, 20 000 steps, all seeds abreast; three games: minutes on two CPU cores.",
        lambda config: _sized(config, "quick", {}, 20),
        seeds=8,
    ),
    "standard": Preset(
        "The same rooms, 200 000 steps; four games.",
        lambda config: _sized(config, "standard", {"life.steps_per_update": 10_000}, 20),
        seeds=20,
    ),
    "paper": Preset(
        "The publication's settings: a million steps. Five games instead of its Atari.",
        lambda config: _sized(config, "paper", {"life.steps_per_update": 10_000}, 100),
        seeds=20,
    ),
}
