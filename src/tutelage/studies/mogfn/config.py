"""Every number of the study. Defaults: the published sequence code's bigram task, unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.gflownets.active.config import ActiveLearningConfig
from tutelage.gflownets.baselines.config import BaselinesConfig
from tutelage.gflownets.config import GFlowNetConfig
from tutelage.gflownets.worlds.aptamers_config import AptamerConfig
from tutelage.gflownets.worlds.config import EhrlichConfig, HyperGridConfig, NGramConfig
from tutelage.gflownets.worlds.molecules.config import AtomConfig, FragmentConfig
from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import part, setting

PROBLEMS = ("hypergrid", "ngrams", "ehrlich", "aptamers", "fragments", "atoms")
METHODS = ("gflownet", "moreinforce", "a2c", "soft_q", "envelope_q", "mars", "nsga2", "genetic", "random", "active")


@dataclass(frozen=True)
class EvaluationConfig:
    """What a sampler is asked for when it is looked at."""

    bins: int = setting(
        10, "Weights of an objective in the grid of preferences while training.", interval="[2, inf)", source="mo_gfn"
    )
    final_bins: int = setting(
        50, "The same at the end: 50 preferences of 2 objectives, 1275 of 3.", interval="[2, inf)", source="mo_gfn"
    )
    num_samples: int = setting(128, "Samples for each preference.", interval="[1, inf)", source="mo_gfn")
    top_k: int = setting(10, "k of top-k reward and diversity.", interval="[2, inf)", source="mo_gfn")
    beta: float = setting(
        0.0, "The exponent that is asked for; 0: the largest that training knows.", interval="[0, inf)"
    )
    exact_bins: int = setting(
        11, "Weights of an objective in the grid of the exact laws; 0: none.", interval="[0, inf)", unit="preferences"
    )
    exact_betas: tuple[float, ...] = setting(
        (1.0, 4.0, 16.0), "Exponents at which the learned law is compared with the exact one.", interval="(0, inf)"
    )
    exact_limit: int = setting(
        100_000, "Objects up to which a space is enumerated.", interval="[0, inf)", unit="objects"
    )
    held_out: int = setting(
        0, "Objects on which log P and log R are correlated; 0: none.", interval="[0, inf)", unit="objects"
    )


@dataclass(frozen=True)
class Config:
    """Multi-objective generation: a problem, a sampler that learns to answer every preference, its evaluation."""

    problem: str = setting("ngrams", "What is built.", choices=PROBLEMS)
    method: str = setting("gflownet", "Who builds it.", choices=METHODS)
    hypergrid: HyperGridConfig = part(HyperGridConfig)
    ngrams: NGramConfig = part(NGramConfig)
    ehrlich: EhrlichConfig = part(EhrlichConfig)
    aptamers: AptamerConfig = part(AptamerConfig)
    fragments: FragmentConfig = part(FragmentConfig)
    atoms: AtomConfig = part(AtomConfig)
    gflownet: GFlowNetConfig = part(GFlowNetConfig)
    baselines: BaselinesConfig = part(BaselinesConfig)
    active: ActiveLearningConfig = part(ActiveLearningConfig)
    evaluation: EvaluationConfig = part(EvaluationConfig)
    schedule: Schedule = part(Schedule)


def work(config: Config) -> tuple[str, float]:
    """Objects that are scored in one update."""
    if config.method == "active":
        return "queries", float(config.active.queries)
    return "objects", float(config.gflownet.batch_size)
