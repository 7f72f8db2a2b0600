"""Every number of the algorithms that learn from their own samples. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tutelage.lab.settings import part, setting
from tutelage.lm.config import SFTConfig
from tutelage.posttraining.solutions import LEVELS

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
