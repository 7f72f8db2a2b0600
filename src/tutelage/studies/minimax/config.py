"""Every number of the study. Defaults are the published DR settings at 13×13 (minimax 0.2.0, configs/maze/dr.json)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tutelage.curricula.config import TeacherConfig
from tutelage.envs.classic.config import AcrobotConfig, CartPoleConfig, PendulumConfig
from tutelage.envs.config import MazeConfig
from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import part, setting
from tutelage.nn.config import NetworkConfig
from tutelage.rl.config import PPOConfig

DOMAINS = ("maze", "cartpole", "pendulum", "acrobot")


@dataclass(frozen=True)
class RolloutConfig:
    """How much experience one cycle gathers."""

    num_tasks: int = setting(
        32,
        "N: levels proposed, and environments run, in parallel for each student.",
        interval="[1, inf)",
        source="minimax",
    )
    num_copies: int = setting(
        1, "E: independent rollouts of each level, merged in its score.", interval="[1, inf)", source="minimax"
    )
    num_steps: int = setting(256, "T: steps of one rollout.", interval="[1, inf)", unit="steps", source="minimax")
    num_students: int = setting(
        1, "A: students trained side by side (PAIRED needs 2).", interval="[1, inf)", source="minimax"
    )
    num_devices: int = setting(
        1,
        "D: devices over which levels and teacher are spread; each rolls out N/D levels and keeps a buffer of its own.",
        interval="[1, inf)",
        unit="devices",
        source="minimax",
    )


@dataclass(frozen=True)
class EvaluationConfig:
    """Zero-shot evaluation on levels that nobody trained on."""

    num_held_out: int = setting(
        256, "Held-out random levels of the training distribution.", interval="[1, inf)", unit="levels"
    )
    suite: str = setting(
        "standard",
        "Mazes of the out-of-distribution suite: 'fixed' (text maps), 'standard' (and procedural ones up to 19×19), "
        "'all' (and the 101×101 one), 'none'.",
        choices=("fixed", "standard", "all", "none"),
    )
    num_episodes: int = setting(
        10, "Episodes on each maze of the suite while training.", interval="[1, inf)", unit="episodes", source="minimax"
    )
    final_episodes: int = setting(
        100, "Episodes on each maze of the suite at the end.", interval="[1, inf)", unit="episodes", source="minimax"
    )
    robust_levels: int = setting(
        1024,
        "Fresh random solvable levels behind the robustness curve; 0: none.",
        interval="[0, inf)",
        unit="levels",
        source="SFL: 10 000",
    )
    robust_alpha: float = setting(0.1, "Share of worst levels in CVaR.", interval="(0, 1]", source="SFL")
    robust_episodes: int = setting(
        4,
        "Episodes on each level, once to choose the worst levels and once more to measure.",
        interval="[1, inf)",
        unit="episodes",
    )


@dataclass(frozen=True)
class Config:
    """Unsupervised environment design: a teacher, its students, their world."""

    domain: str = setting("maze", "The world.", choices=DOMAINS)
    maze: MazeConfig = part(MazeConfig)
    cartpole: CartPoleConfig = part(CartPoleConfig)
    pendulum: PendulumConfig = part(PendulumConfig)
    acrobot: AcrobotConfig = part(AcrobotConfig)
    num_training_walls: int = setting(
        -1,
        "Walls of the random mazes that the teacher draws; -1: as many as maze.num_walls (ACCEL starts from 0).",
        interval="[-1, inf)",
        unit="cells",
        source="minimax accel.json",
    )
    network: NetworkConfig = part(NetworkConfig)
    ppo: PPOConfig = part(PPOConfig)
    teacher: TeacherConfig = part(TeacherConfig)
    rollout: RolloutConfig = part(RolloutConfig)
    evaluation: EvaluationConfig = part(EvaluationConfig)
    schedule: Schedule = part(Schedule)


def of_one_device(config: Config) -> Config:
    """The share of each of D = rollout.num_devices devices: what adds up over devices is divided by D.

    That is N levels of a rollout, K slots of the buffer, and of SFL's search the levels in a batch and those kept.
    Everything else is the same on every device: edits and parents in a batch (`teacher.edit.subsample`), the
    adversary, the shares and thresholds. Sizes must be divisible (`studies.minimax.check`).
    """
    number, teacher = config.rollout.num_devices, config.teacher
    replay, sfl = teacher.replay, teacher.sfl
    if teacher.kind in ("plr", "accel"):
        replay = dataclasses.replace(replay, buffer_size=replay.buffer_size // number)
    if teacher.kind == "sfl":
        sfl = dataclasses.replace(sfl, batch_size=sfl.batch_size // number, keep=sfl.keep // number)
    return dataclasses.replace(
        config,
        rollout=dataclasses.replace(config.rollout, num_tasks=config.rollout.num_tasks // number),
        teacher=dataclasses.replace(teacher, replay=replay, sfl=sfl),
    )


def work(config: Config) -> tuple[str, float]:
    """Steps that the students learn from in one update; cycles without a gradient are not counted."""
    rollout = config.rollout
    return "learning steps", float(rollout.num_tasks * rollout.num_copies * rollout.num_steps * rollout.num_students)
