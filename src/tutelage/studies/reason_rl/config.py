"""Every number of the study. Defaults are the publication's where it says them; presets shrink them."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import part, setting
from tutelage.lm.training.config import FromScratchConfig, SFTConfig
from tutelage.posttraining.config import (
    ExpertIterationConfig,
    OnlineConfig,
    OutcomeModelConfig,
    PreferenceConfig,
    ReturnConditionedConfig,
)
from tutelage.posttraining.questions.tasks import TaskConfig
from tutelage.posttraining.wordmath.corpus import CorpusConfig

ALGORITHMS = ("none", "sft", "expert_iteration", "online", "return_conditioned", "preferences")
REWARDS = ("sparse", "dense", "dense_potential", "orm", "orm_dense", "sorm_dense")
PAPER = "arXiv 2403.04642"


@dataclass(frozen=True)
class BaseConfig:
    """The pretrained model that everything starts from."""

    name: str = setting("", "Folder or hub id of a causal language model; empty: a small one, made here and cached.")
    template: str = setting("{question}\n", "How a question is asked; \\n is a new line. Has {question} in it.")
    few_shot: int = setting(
        0, "Solved training questions in front of a question, where a pretrained start is sampled.", interval="[0, inf)"
    )
    dtype: str = setting("float32", "Type of the weights.", choices=("float32", "bfloat16"))
    device: str = setting("auto", "Where models run; auto: a GPU if there is one.", choices=("auto", "cpu", "cuda"))
    seed: int = setting(0, "Seed of the small model.", interval="[0, 4294967295]")
    pretrain: FromScratchConfig = part(FromScratchConfig)
    corpus: CorpusConfig = part(CorpusConfig)


@dataclass(frozen=True)
class SamplingConfig:
    """How training samples are drawn."""

    temperature: float = setting(1.0, "Of training samples.", interval="[1e-6, 1e6]", source=f"{PAPER}, from memory")
    max_new_tokens: int = setting(256, "Longest solution.", interval="[1, inf)", unit="tokens")


@dataclass(frozen=True)
class RewardConfig:
    """What a solution earns."""

    kind: str = setting(
        "sparse",
        "sparse: right or not; dense: and credit for intermediate results; dense_potential: the same as a potential; "
        "orm: the outcome model's score at the end; orm_dense: its differences at the steps' ends; sorm_dense: those "
        "of one trained on continuations of prefixes.",
        choices=REWARDS,
        source=PAPER,
    )
    alpha: float = setting(0.5, "What all intermediate results pay together.", interval="[0, inf)")
    continuations: int = setting(4, "Continuations of a prefix that label it.", interval="[1, inf)", source="GLoRe")


@dataclass(frozen=True)
class EvaluationConfig:
    """Test questions, and the pool that every figure is computed from."""

    num_samples: int = setting(96, "K: samples of each test question.", interval="[2, inf)", source=PAPER)
    temperature: float = setting(0.7, "Of those samples.", interval="[1e-6, 1e6]", source=f"{PAPER}, from memory")
    interim_samples: int = setting(16, "Samples of each test question while training.", interval="[2, inf)")
    rerank: bool = setting(True, "Score the last pool by an outcome model, for rerank@K and the weighted vote.")


@dataclass(frozen=True)
class Config:
    """Learning to reason from feedback: a policy, its algorithm, its reward."""

    algorithm: str = setting(
        "expert_iteration",
        "none: the start as it is; sft: epochs over demonstrations; expert_iteration: refit on own right solutions; "
        "online: PPO, GRPO, RLOO; return_conditioned: condition on good and bad; preferences: DPO.",
        choices=ALGORITHMS,
    )
    start: str = setting("sft", "What the algorithm starts from.", choices=("sft", "pretrained"), source=PAPER)
    task: TaskConfig = part(TaskConfig)
    base: BaseConfig = part(BaseConfig)
    demonstration: SFTConfig = part(SFTConfig)
    sampling: SamplingConfig = part(SamplingConfig)
    reward: RewardConfig = part(RewardConfig)
    supervised: SFTConfig = part(SFTConfig)
    iteration: ExpertIterationConfig = part(ExpertIterationConfig)
    online: OnlineConfig = part(OnlineConfig)
    conditioned: ReturnConditionedConfig = part(ReturnConditionedConfig)
    preference: PreferenceConfig = part(PreferenceConfig)
    outcome: OutcomeModelConfig = part(OutcomeModelConfig)
    evaluation: EvaluationConfig = part(EvaluationConfig)
    schedule: Schedule = part(Schedule)


def work(config: Config) -> tuple[str, float]:
    """Rollouts drawn in one update; of the arms that draw none, demonstrations read."""
    train = config.task.num_train
    match config.algorithm:
        case "online":
            return "rollouts", float(config.online.num_questions * config.online.num_samples)
        case "expert_iteration":
            return "rollouts", float((config.iteration.questions_per_round or train) * config.iteration.num_samples)
        case "preferences":
            return "rollouts", float((config.preference.questions_per_round or train) * config.preference.num_samples)
        case "return_conditioned":
            return "rollouts", float(train * config.conditioned.num_samples)
    return "demonstrations", float(config.task.num_demonstrations)
