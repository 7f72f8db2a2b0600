"""Every number of the algorithms that learn from their own samples. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tutelage.lab.settings import part, setting
from tutelage.lm.training.config import SFTConfig
from tutelage.posttraining.grading.solutions import LEVELS

FILTERS = ("correct", "reward", "both")
DEDUPLICATION = (*LEVELS, "none")


@dataclass(frozen=True)
class ExpertIterationConfig:
    """What a round draws, what of it is learnt, and from where."""

    num_samples: int = setting(96, "Solutions drawn of each question.", interval="[1, inf)", source="K of the paper")
    questions_per_round: int = setting(0, "Questions drawn by chance for a round; 0: all.", interval="[0, inf)")
    filter: str = setting(
        "correct", "What is kept: right answers, a reward's total above the threshold, or both.", choices=FILTERS
    )
    threshold: float = setting(0.5, "Least total reward of a solution that is kept.", interval="(-inf, inf)")
    deduplicate: str = setting(
        "exact", "Which solutions of a question are the same: token ids, text, equations.", choices=DEDUPLICATION
    )
    cap: int = setting(0, "Most solutions of a question that a round adds; 0: all.", interval="[0, inf)")
    cumulative: bool = setting(True, "Learn all rounds' solutions and the demonstrations; false: this round's alone.")
    refit: str = setting(
        "base",
        "Where a round's fine-tuning starts: the base weights, or the policy that sampled (which overfits).",
        choices=("base", "continue"),
        source="the paper refits the pretrained model",
    )
    sft: SFTConfig = part(SFTConfig)


def rft(config: ExpertIterationConfig) -> ExpertIterationConfig:
    """Rejection-sampling fine-tuning: run one round, from a fine-tuned start with its demonstrations.

    References: Yuan et al. (2023), arXiv 2308.01825, section 3.3: distinct lists of equations join the demonstrations.
    """
    return replace(config, filter="correct", deduplicate="equation", cumulative=True, refit="base")


def rest_em(config: ExpertIterationConfig) -> ExpertIterationConfig:
    """ReST-EM: every round learns its own right samples alone, at most ten of a question, from the base.

    References: Singh et al. (2023), arXiv 2312.06585, section 3.
    """
    return replace(config, filter="correct", deduplicate="none", cap=10, cumulative=False, refit="base")


@dataclass(frozen=True)
class PreferenceConfig:
    """What a round draws, how it is paired, and how the pairs are learnt."""

    num_samples: int = setting(16, "Solutions drawn of each question.", interval="[2, inf)")
    questions_per_round: int = setting(0, "Questions drawn by chance for a round; 0: all.", interval="[0, inf)")
    on_policy: bool = setting(True, "Draw from the policy as it is; false: from the start.")
    pairs: int = setting(4, "Most pairs of one question; 0: until every sample is in one.", interval="[0, inf)")
    loss: str = setting("dpo", "Logistic (dpo), or squared distance to a margin (ipo).", choices=("dpo", "ipo"))
    beta: float = setting(0.1, "How dear it is to leave the reference.", interval="(0, inf)", source="arXiv 2305.18290")
    label_smoothing: float = setting(0.0, "Chance that a pair is the wrong way round (dpo).", interval="[0, 0.5)")
    length_normalised: bool = setting(False, "Compare log-probabilities per token, not per solution.")
    reference: str = setting(
        "start", "The policy that a round's ratios are against: the start's, or its own.", choices=("start", "round")
    )
    num_epochs: int = setting(1, "Passes over a round's pairs.", interval="[1, inf)", unit="epochs")
    batch_size: int = setting(32, "Pairs in one step of the optimiser.", interval="[1, inf)")
    micro_tokens: int = setting(8192, "Most tokens, padding included, in one forward pass.", interval="[1, inf)")
    learning_rate: float = setting(1e-5, "AdamW's step size.", interval="(0, inf)")
    max_grad_norm: float = setting(1.0, "Longest gradient; 0: any.", interval="[0, inf)")


NORMALISERS = {"ppo": "tokens", "rloo": "tokens", "grpo": "sequences", "dr_grpo": "constant"}
"""What each algorithm divides its loss by (`policy_loss.row_weights`)."""


@dataclass(frozen=True)
class OnlineConfig:
    """How a policy learns from its own samples. What concerns values and whitening is PPO's alone."""

    algorithm: str = setting(
        "ppo", "Where advantages come from: a value function (ppo) or groups.", choices=tuple(NORMALISERS)
    )
    num_questions: int = setting(64, "Questions of an update.", interval="[1, inf)")
    num_samples: int = setting(8, "Completions of each question.", interval="[1, inf)")
    num_epochs: int = setting(2, "Passes over the completions.", interval="[1, inf)", source="trlX has 4")
    num_minibatches: int = setting(4, "Steps of the optimiser in a pass, split by questions.", interval="[1, inf)")
    learning_rate: float = setting(1e-4, "Adam's step size.", interval="(0, inf)")
    beta1: float = setting(0.9, "Adam's decay of the mean gradient.", interval="[0, 1)")
    beta2: float = setting(0.95, "Adam's decay of the mean squared gradient.", interval="[0, 1)", source="trlX")
    max_grad_norm: float = setting(1.0, "Longest gradient; 0: any.", interval="[0, inf)")
    kl: float = setting(
        0.02, "Weight of the KL divergence from the start; 0: none.", interval="[0, inf)", source="paper: 0.05"
    )
    kl_in: str = setting(
        "reward", "Where it goes: off each token's reward, or into the loss (GRPO).", choices=("reward", "loss")
    )
    kl_estimator: str = setting(
        "k3", "Its estimator in the loss.", choices=("k1", "k2", "k3"), source="GRPO, arXiv 2402.03300"
    )
    discount: float = setting(1.0, "Discount between tokens.", interval="[0, 1]")
    trace: float = setting(0.95, "λ of generalised advantage estimation.", interval="[0, 1]", source="trlX")
    clip: float = setting(0.2, "How far from 1 the ratio to the old policy counts.", interval="(0, 1)", source="trlX")
    value_clip: float = setting(
        0.2, "How far a value may move on one draw; 0: any.", interval="[0, inf)", source="trlX"
    )
    value_coefficient: float = setting(0.5, "Weight of the values' loss.", interval="[0, inf)")
    value_learning_rate: float = setting(
        1e-3, "Adam's step size for parameters that only values depend on.", interval="(0, inf)"
    )
    value_network: str = setting(
        "trunk", "A linear head on the policy's trunk, or on a copy of the start.", choices=("trunk", "separate")
    )
    whiten: bool = setting(True, "Advantages of an update get mean 0 and deviation 1.", source="trlX")
    importance_cap: float = setting(
        0.0, "Largest weight against sampler and trainer disagreeing on a token; 0: no weights.", interval="[0, inf)"
    )
    lora_rank: int = setting(0, "Rank of an adapter that alone is trained; 0: train everything.", interval="[0, inf)")
    micro_tokens: int = setting(16384, "Most tokens, padding included, in one forward pass.", interval="[1, inf)")

    @property
    def penalises(self) -> bool:
        """Whether the KL divergence is taken off the reward."""
        return self.kl > 0 and self.kl_in == "reward"


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
