"""Settings of the curricula, free of any framework so that command lines can read them at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lab.settings import part, setting
from tutelage.nn.config import NetworkConfig
from tutelage.rl.config import PPOConfig

SCORES = (
    "return",
    "neg_return",
    "l1_value_loss",
    "positive_value_loss",
    "max_mc",
    "value_disagreement",
    "learnability",
    "true_regret",
)
"""Scores of a level for one student; `tutelage.curricula.scores.SCORES` holds the function of each name."""

SIGNED_SCORES = ("return", "neg_return", "max_mc")
"""Scores that can be negative, and therefore have no proportional weights."""

KINDS = ("dr", "plr", "accel", "sfl", "paired", "population_paired", "minimax")


@dataclass(frozen=True)
class ReplayConfig:
    """Prioritized Level Replay (Jiang et al. 2021, arXiv 2010.03934 and 2110.02439)."""

    buffer_size: int = setting(
        4000, "Levels that the buffer holds, K.", interval="[1, inf)", unit="levels", source="minimax plr.json"
    )
    probability: float = setting(
        0.5,
        "Probability that a batch is replayed from the buffer; the parallel variant always replays and ignores it.",
        interval="[0, 1]",
        source="minimax plr.json",
    )
    min_fill: float = setting(
        0.5, "Share of the buffer that must be filled before any replay.", interval="[0, 1]", source="minimax plr.json"
    )
    staleness: float = setting(
        0.3, "Weight ρ of staleness in the replay distribution.", interval="[0, 1]", source="minimax plr.json"
    )
    temperature: float = setting(
        0.3, "Temperature β: weights are raised to 1/β.", interval="(0, inf)", source="minimax plr.json"
    )
    prioritisation: str = setting(
        "rank",
        "What a level's weight comes from: the rank of its score, the score itself, or nothing at all (uniform: random "
        "replay; neither score nor staleness is read and the oldest level makes room).",
        choices=("rank", "proportional", "uniform"),
        source="minimax plr.json",
    )
    score: str = setting(
        "max_mc", "Score of a level for one student.", choices=SCORES, source="minimax plr.json; arXiv 2110.02439"
    )
    robust: bool = setting(
        True, "Learn from replayed batches only (robust PLR, PLR⊥).", source="arXiv 2110.02439; minimax plr.json"
    )
    parallel: bool = setting(
        False,
        "Roll out new, replayed and edited levels side by side in one batch (parallel PLR and ACCEL).",
        source="arXiv 2311.12716",
    )
    dedupe: bool = setting(
        True,
        "A level equal to one in the buffer updates that one instead of taking a slot.",
        source="minimax plr.json (plr_force_unique)",
    )


@dataclass(frozen=True)
class EditConfig:
    """The editor of ACCEL (Parker-Holder et al. 2022, arXiv 2203.01302)."""

    num_edits: int = setting(
        20, "Edits that make a child of its parent.", interval="[1, inf)", unit="edits", source="minimax accel.json"
    )
    criterion: str = setting(
        "batch",
        "Which replayed levels have children: all, or those with the largest (easy) or smallest (hard) return − score.",
        choices=("batch", "easy", "hard"),
        source="minimax accel.json; arXiv 2203.01302",
    )
    subsample: int = setting(
        4,
        "Parents that share a batch of children, unless the criterion is batch.",
        interval="[1, inf)",
        unit="levels",
        source="minimax accel.json",
    )
    pedigree: int = setting(
        8,
        "Ancestors kept with each level, the first random one and the most recent ones, for the gallery; 0: none.",
        interval="[0, inf)",
        unit="levels",
    )


@dataclass(frozen=True)
class AdversaryPPOConfig(PPOConfig):
    """PPO of the adversary: the student's, but for the numbers set here."""

    learning_rate: float = setting(1e-4, "Step size of Adam.", interval="(0, inf)", source="minimax paired.json")
    discount: float = setting(0.995, "Discount γ per edit.", interval="[0, 1]", source="minimax paired.json")
    gae_lambda: float = setting(
        0.98, "λ of generalised advantage estimation.", interval="[0, 1]", source="minimax paired.json"
    )
    entropy_coefficient: float = setting(
        0.05, "Weight of the entropy bonus.", interval="[0, inf)", source="minimax paired.json"
    )


@dataclass(frozen=True)
class AdversaryNetworkConfig(NetworkConfig):
    """The adversary's network: the student's, but for the numbers set here."""

    num_filters: int = setting(
        128, "3×3 filters of the encoder's convolution.", interval="[1, inf)", source="minimax paired.json"
    )
    direction_embedding: int = setting(
        10, "Width of the embedding of the time step.", interval="[1, inf)", source="minimax paired.json"
    )


@dataclass(frozen=True)
class AdversaryConfig:
    """The level-building teacher of PAIRED and of the minimax adversary (Dennis et al. 2020, arXiv 2012.02096)."""

    budget: int = setting(
        60, "Walls that the adversary may place.", interval="[0, inf)", unit="steps", source="minimax paired.json"
    )
    noise: int = setting(
        50,
        "Uniform numbers that it sees, so that it can make different levels.",
        interval="[0, inf)",
        source="minimax paired.json",
    )
    ppo: AdversaryPPOConfig = part(AdversaryPPOConfig)
    net: AdversaryNetworkConfig = part(AdversaryNetworkConfig)


@dataclass(frozen=True)
class SFLConfig:
    """Sampling For Learnability (Rutherford et al. 2024, "No Regrets", arXiv 2408.15099)."""

    every: int = setting(
        100, "Cycles between two searches for learnable levels.", interval="[1, inf)", unit="cycles", source="SFL"
    )
    num_batches: int = setting(5, "Batches of random levels in one search.", interval="[1, inf)", source="SFL")
    batch_size: int = setting(5000, "Levels in each of them.", interval="[1, inf)", unit="levels", source="SFL")
    rollout_steps: int = setting(
        2000, "Steps of the student on each level of a search.", interval="[1, inf)", unit="steps", source="SFL"
    )
    keep: int = setting(
        1000, "Levels of greatest learnability that are kept.", interval="[1, inf)", unit="levels", source="SFL"
    )
    share: float = setting(
        0.5, "Share of a batch drawn from the kept levels; the rest is random.", interval="[0, 1]", source="SFL"
    )


@dataclass(frozen=True)
class TeacherConfig:
    """Who chooses the levels, and the numbers of each kind of teacher."""

    kind: str = setting("dr", "Who chooses the next levels.", choices=KINDS, source="arXiv 2311.12716; 2408.15099")
    replay: ReplayConfig = part(ReplayConfig)
    edit: EditConfig = part(EditConfig)
    adversary: AdversaryConfig = part(AdversaryConfig)
    sfl: SFLConfig = part(SFLConfig)


def check(
    config: TeacherConfig,
    *,
    num_tasks: int,
    num_students: int = 1,
    num_value_heads: int | None = None,
    can_mutate: bool = True,
    can_compare: bool = True,
    can_solve: bool = True,
) -> None:
    """Refuse what cannot be taught with, before anything is compiled.

    Args:
        num_tasks: N, levels in the part of a batch that students learn from.
        num_value_heads: of the student's network; None where it is not known.
        can_mutate, can_compare, can_solve: whether the environment has `mutate`, `equal` and `solve`.

    Raises:
        BadInput: one line naming the field, its value and what is allowed.
    """
    validate(config)
    if config.kind in ("plr", "accel"):
        check_replay(
            config.replay,
            num_tasks=num_tasks,
            num_value_heads=num_value_heads,
            can_compare=can_compare,
            can_solve=can_solve,
        )
    if config.kind == "accel":
        check_edit(config.edit, config.replay, num_tasks=num_tasks, can_mutate=can_mutate)
    if config.kind == "sfl":
        check_sfl(config.sfl, num_tasks=num_tasks)
    if config.kind == "paired" and num_students != 2:
        raise BadInput(
            f"teacher.kind = 'paired' has {num_students} students: relative regret needs exactly 2 "
            "(protagonist and antagonist); for more use 'population_paired'"
        )
    if config.kind == "population_paired" and num_students < 2:
        raise BadInput(f"teacher.kind = 'population_paired' has {num_students} students: it needs at least 2")
    if config.kind == "minimax" and num_students != 1:
        raise BadInput(f"teacher.kind = 'minimax' has {num_students} students: the minimax adversary needs exactly 1")


def check_replay(
    config: ReplayConfig,
    *,
    num_tasks: int,
    num_value_heads: int | None = None,
    can_compare: bool = True,
    can_solve: bool = True,
) -> None:
    """The rows of `check` that concern the replay buffer and its score."""
    validate(config)
    where = "teacher.replay"
    if config.buffer_size < num_tasks:
        raise BadInput(f"{where}.buffer_size = {config.buffer_size} is less than the batch of {num_tasks} levels")
    if (config.parallel or config.probability > 0) and config.buffer_size * config.min_fill < num_tasks:
        raise BadInput(
            f"{where}.min_fill = {config.min_fill} lets replay begin with fewer than {num_tasks} levels (one batch) "
            f"in a buffer of {config.buffer_size}: at least {num_tasks / config.buffer_size:g} is needed"
        )
    if config.prioritisation == "proportional" and config.score in SIGNED_SCORES:
        raise BadInput(
            f"{where}.prioritisation = 'proportional' with {where}.score = {config.score!r}, which can be negative: "
            "use 'rank'"
        )
    if config.score == "value_disagreement" and num_value_heads is not None and num_value_heads < 2:
        raise BadInput(
            f"{where}.score = 'value_disagreement' needs at least 2 value heads, the network has {num_value_heads}"
        )
    if config.score == "true_regret" and not can_solve:
        raise BadInput(f"{where}.score = 'true_regret' needs an environment with an exact solver (`solve`)")
    if config.dedupe and not can_compare:
        raise BadInput(f"{where}.dedupe = True needs an environment that can compare levels (`equal`)")


def check_edit(config: EditConfig, replay: ReplayConfig, *, num_tasks: int, can_mutate: bool = True) -> None:
    """The rows of `check` that concern the editor."""
    validate(config)
    if not can_mutate:
        raise BadInput("teacher.kind = 'accel' needs an environment that can edit levels (`mutate`)")
    if config.criterion != "batch" and num_tasks % config.subsample != 0:
        raise BadInput(f"teacher.edit.subsample = {config.subsample} does not divide the batch of {num_tasks} levels")
    if config.criterion != "batch" and replay.parallel:
        raise BadInput(
            f"teacher.edit.criterion = {config.criterion!r} needs the scores of the replayed batch, which parallel "
            "ACCEL edits before it is rolled out: use 'batch'"
        )


def check_sfl(config: SFLConfig, *, num_tasks: int) -> None:
    """The rows of `check` that concern Sampling For Learnability."""
    validate(config)
    if config.keep > config.num_batches * config.batch_size:
        pool = config.num_batches * config.batch_size
        raise BadInput(f"teacher.sfl.keep = {config.keep} is more than the {pool} levels of a search")
    if not math.isclose(config.share * num_tasks, round(config.share * num_tasks)):
        raise BadInput(
            f"teacher.sfl.share = {config.share} of a batch of {num_tasks} levels is not a whole number of levels"
        )
