"""Every number of outcome models and of return-conditioned learning. Imports no framework of its own."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import part, setting
from tutelage.lm.training.sft import SFTConfig


@dataclass(frozen=True)
class OutcomeModelConfig:
    """How an outcome model is trained, and how much it reads at once."""

    num_samples: int = setting(32, "Solutions of each question that are used; more are left.", interval="[1, inf)")
    held_out: float = setting(0.1, "Share of the questions kept for its figures.", interval="[0, 1)")
    tokens: str = setting(
        "step_ends",
        "Where it learns to predict: at the ends of steps and of the solution, or at every token.",
        choices=("step_ends", "every"),
        source="Cobbe et al. (2021): every token",
    )
    balance: bool = setting(True, "Weigh right and wrong equally within each question; those with one kind drop out.")
    deduplicate: bool = setting(True, "Use solutions of a question with the same tokens once.")
    num_epochs: float = setting(2.0, "Passes over the solutions.", interval="(0, inf)", unit="epochs")
    batch_size: int = setting(64, "Solutions in one update, at most.", interval="[1, inf)")
    group_size: int = setting(8, "Of these, solutions of one question, which share its reading.", interval="[1, inf)")
    micro_tokens: int = setting(8192, "Most tokens, padding included, in one forward pass.", interval="[1, inf)")
    learning_rate: float = setting(5e-4, "AdamW's step size at its peak.", interval="(0, inf)")
    schedule: str = setting("cosine", "How it falls to 0.", choices=("cosine", "linear", "constant"))
    warmup: float = setting(0.05, "Share of the updates over which it rises.", interval="[0, 1]")
    weight_decay: float = setting(0.0, "AdamW's decay of matrices; vectors have none.", interval="[0, inf)")
    max_grad_norm: float = setting(1.0, "Longest gradient; 0: any.", interval="[0, inf)")


@dataclass(frozen=True)
class ReturnConditionedConfig:
    """How solutions are labelled, marked and learnt."""

    level: str = setting(
        "solution",
        "Where control tokens stand: before a solution, or before each of its lines.",
        choices=("solution", "step"),
    )
    labels: str = setting(
        "answer",
        "What tells good from bad: the final answer, or an outcome model's prediction at the end.",
        choices=("answer", "outcome_model"),
    )
    threshold: float = setting(0.5, "The outcome model's least prediction for good.", interval="[0, 1]")
    num_samples: int = setting(32, "Solutions drawn for each question in a round (K).", interval="[1, inf)")
    good_share: float = setting(
        0.0,
        "Share of solutions that are good throughout, reached by leaving some out; 0: as they come.",
        interval="[0, 1)",
    )
    deduplicate: bool = setting(True, "Learn solutions of a question with the same tokens once.")
    learn_control: bool = setting(False, "Whether control tokens within a solution are predicted too, not only read.")
    refit: str = setting(
        "start", "What each round fine-tunes: the start policy, or the base.", choices=("start", "base")
    )
    sft: SFTConfig = part(SFTConfig)
