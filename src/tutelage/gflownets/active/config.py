"""Every number of active learning with a GFlowNet (MOGFN-AL), free of any framework.

Defaults: the published code (mogfn-al: `mogfn_seq.yaml`, `mlm_cnn.yaml`, `multi_task_exact_gp.yaml`, `nehvi.yaml`),
but for its mistakes: an exponent that falls below zero, two samples of the acquisition.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tutelage.gflownets.config import (
    BetaConfig,
    ExplorationConfig,
    GFlowNetConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    PreferenceConfig,
    check_sampler,
)
from tutelage.gflownets.learning.batch import check_batch
from tutelage.lab.errors import BadInput, under
from tutelage.lab.settings import part, setting

PROPOSERS = ("mogfn", "lambo", "mutation", "genetic", "nsga2")
MODELLED = ("mogfn", "lambo")
"""Proposers that ask the surrogate."""


@dataclass(frozen=True)
class EncoderConfig:
    """The masked-language-model CNN that the Gaussian process sits on."""

    embed: int = setting(
        64, "Channels of the embedding and of the convolutions.", interval="[1, inf)", source="mogfn-al"
    )
    latent: int = setting(16, "Latent inputs of the Gaussian process.", interval="[1, inf)", source="mogfn-al")
    kernel: int = setting(5, "Width of the convolutions, odd.", interval="[1, inf)", unit="tokens", source="mogfn-al")
    blocks: int = setting(
        3, "Residual blocks of the encoder, and of the decoder.", interval="[1, inf)", source="mogfn-al"
    )
    mask_ratio: float = setting(0.125, "Share of tokens masked, at least one.", interval="(0, 1)", source="mogfn-al")


@dataclass(frozen=True)
class SurrogateConfig:
    """Deep kernel learning: the encoder and a multi-task Gaussian process on its latent, fitted together."""

    encoder: EncoderConfig = part(EncoderConfig)
    learning_rate: float = setting(5e-3, "Adam, of encoder and process.", interval="(0, inf)", source="mogfn-al")
    weight_decay: float = setting(1e-4, "Of the encoder.", interval="[0, inf)", source="mogfn-al")
    steps: int = setting(256, "Full-batch steps at most.", interval="[1, inf)", source="mogfn-al")
    patience: int = setting(
        32,
        "Steps without a better held-out likelihood after which fitting stops.",
        interval="[1, inf)",
        source="mogfn-al",
    )
    period: int = setting(2, "Steps between looks at the held-out likelihood.", interval="[1, inf)", source="mogfn-al")
    holdout: float = setting(
        0.1,
        "Share of the evaluated objects held out.",
        interval="(0, 1)",
        source="mogfn-al: 0.2, half of it for a test",
    )
    lengthscale: float = setting(0.7, "Prior mean of the length scales.", interval="(0, inf)", source="mogfn-al")
    lengthscale_sd: float = setting(0.01, "Prior sd of the length scales.", interval="(0, inf)", source="mogfn-al")
    lkj_eta: float = setting(2.0, "η of the LKJ prior on task correlations.", interval="(0, inf)", source="mogfn-al")
    noise: float = setting(0.25, "Initial noise variance, of z-scored rewards.", interval="(0, inf)", source="mogfn-al")
    noise_floor: float = setting(1e-4, "Least noise variance.", interval="[1e-6, inf)", source="mogfn-al")
    warm: bool = setting(True, "Go on from the last round's fit instead of a fresh one.", source="mogfn-al")


@dataclass(frozen=True)
class AcquisitionConfig:
    """How much an object is expected to add to the hypervolume."""

    kind: str = setting(
        "nehvi",
        "'ehvi' in closed form for independent rewards (log-EHVI); 'qehvi' and 'nehvi' over samples of the tasks "
        "jointly, the second with the observed front itself uncertain.",
        choices=("ehvi", "qehvi", "nehvi"),
        source="mogfn-al: nehvi",
    )
    num_samples: int = setting(
        32, "Samples of qehvi, nehvi and of the choice of a batch.", interval="[1, inf)", source="mogfn-al: 2"
    )
    smoothing: float = setting(
        1e-2,
        "τ of the smoothed improvement of qehvi and nehvi, in standard deviations of the rewards.",
        interval="(0, inf)",
        source="Ament et al. 2023: 1e-2 to 1e-6",
    )
    front: int = setting(
        32, "Points of the front that the acquisition knows; of more, some are left out evenly.", interval="[2, inf)"
    )
    reference: str = setting(
        "first_front",
        "The reference point: a tenth of the first front's range below its worst values, or 0 ('zero').",
        choices=("first_front", "zero"),
        source="mogfn-al",
    )


def edit_sampler() -> GFlowNetConfig:
    """The GFlowNet of the inner loop, as published; `beta.value` is the exponent of the first round."""
    return GFlowNetConfig(
        batch_size=16,
        preference=PreferenceConfig(use=False),
        beta=BetaConfig(kind="constant", value=32.0),
        network=NetworkConfig(kind="set_transformer", width=128, layers=3, heads=8),
        loss=LossConfig(kind="tb"),
        optimizer=OptimizerConfig(learning_rate=1e-4, z_learning_rate=1e-3, weight_decay=1e-4, max_grad_norm=10.0),
        exploration=ExplorationConfig(epsilon=0.05),
    )


@dataclass(frozen=True)
class ActiveLearningConfig:
    """The loop: evaluate, fit, propose."""

    proposer: str = setting(
        "mogfn",
        "What proposes queries: a GFlowNet of edits, mutation of the front guided by the acquisition (LaMBO-like), "
        "mutation of the front at random, a genetic algorithm without a model, or NSGA-II, whose population is `pool` "
        "of all that was evaluated (extra 'mo').",
        choices=PROPOSERS,
    )
    rounds: int = setting(64, "Rounds after the initial design.", interval="[1, inf)", source="mogfn-al")
    queries: int = setting(16, "q: new objects evaluated in a round.", interval="[1, inf)", source="mogfn-al")
    initial: int = setting(512, "Objects of the initial design.", interval="[4, inf)", source="mogfn-al")
    pool: int = setting(
        16, "Evaluated objects that edits start from.", interval="[1, inf)", source="mogfn-al: at least so many"
    )
    resampling: float = setting(
        1.0,
        "k of the weights 1/(k·n + rank) with which dominated objects are drawn into the pool, and parents by "
        "'genetic'; less is greedier.",
        interval="[0, inf)",
        source="mogfn-al",
    )
    max_edits: int = setting(0, "Edits of an object at most; 0: its length.", interval="[0, inf)", source="mogfn-al")
    min_edits: int = setting(1, "Edits of an object at least.", interval="[0, inf)", source="mogfn-al: 3")
    surrogate: SurrogateConfig = part(SurrogateConfig)
    acquisition: AcquisitionConfig = part(AcquisitionConfig)
    gflownet: GFlowNetConfig = field(default_factory=edit_sampler, metadata={})
    warm: bool = setting(True, "Go on from the last round's GFlowNet instead of a fresh one.", source="mogfn-al")
    opt_steps: int = setting(1500, "Updates of the GFlowNet in a round.", interval="[1, inf)", source="mogfn-al")
    elites: int = setting(
        0,
        "Best edits of each start that the GFlowNet also learns from within a round, as many as it draws itself; 0: "
        "none, as published.",
        interval="[0, inf)",
    )
    eval_samples: int = setting(
        50, "Candidates sampled (or mutants made) for each start of the pool.", interval="[1, inf)", source="mogfn-al"
    )
    beta_decay: float = setting(2.0, "What a round takes from the exponent.", interval="[0, inf)", source="mogfn-al")
    beta_floor: float = setting(
        4.0,
        "Where the exponent stays: the published one goes on falling, through 0 in round 16.",
        interval="(0, inf)",
    )
    generations: int = setting(
        16, "Generations of mutants that 'lambo' climbs in a round.", interval="[1, inf)", source="lambo"
    )


def check_active(config: ActiveLearningConfig, objectives: int, length: int) -> None:
    """Refuse what no single field shows.

    Args:
        objectives: M of the problem.
        length: letters of its longest sequence.

    Raises:
        BadInput: one line naming the field, its value and what is allowed.
    """
    if objectives not in (2, 3) and config.proposer in MODELLED:
        raise BadInput(
            f"proposer = {config.proposer!r} with {objectives} objectives: the expected hypervolume improvement "
            "has two or three"
        )
    if config.pool > config.initial:
        raise BadInput(f"pool = {config.pool}: must be at most initial = {config.initial}")
    most = min(config.max_edits or length, length)
    if config.min_edits > most:
        raise BadInput(f"min_edits = {config.min_edits}: must be at most {most}, the edits of an object")
    check_encoder(config.surrogate.encoder, "surrogate.encoder.")
    sampler = config.gflownet
    with under("gflownet"):
        if sampler.beta.kind != "constant":
            raise BadInput(f"beta.kind = {sampler.beta.kind!r}: must be 'constant', which rounds lower")
        if sampler.network.kind != "set_transformer":
            raise BadInput(f"network.kind = {sampler.network.kind!r}: must be 'set_transformer', which reads edits")
        check_sampler(sampler)
        check_batch(sampler, given_starts=True)


def check_encoder(config: EncoderConfig, where: str = "encoder.") -> None:
    """Raises `BadInput` for convolutions of even width."""
    if config.kernel % 2 == 0:
        raise BadInput(f"{where}kernel = {config.kernel}: must be odd, for a token to stand in its middle")
