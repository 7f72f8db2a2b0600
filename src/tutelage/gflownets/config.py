"""Every number of a GFlowNet and its baselines, free of any framework. Defaults: the published code, as named."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.errors import BadInput
from tutelage.lab.settings import part, setting


@dataclass(frozen=True)
class PreferenceConfig:
    """How preferences are drawn, and how a network reads them."""

    alpha: float = setting(
        1.0, "α of the Dirichlet law that preferences come from.", interval="(0, inf)", source="mo_gfn; recursion: 1.5"
    )
    encoding: str = setting(
        "thermometer", "How each weight is encoded.", choices=("thermometer", "raw"), source="mo_gfn"
    )
    bins: int = setting(50, "Entries of a weight's thermometer.", interval="[2, inf)", source="mo_gfn")
    prefs_per_batch: int = setting(
        0,
        "Different preferences in a batch; 0: one for each trajectory, 1: as the published sequence code.",
        interval="[0, inf)",
        source="mo_gfn: 1",
    )
    use: bool = setting(True, "Condition the sampler on preferences; without, every network sees the uniform one.")


@dataclass(frozen=True)
class BetaConfig:
    """The exponent β of the reward: constant, or drawn for each trajectory and part of the condition."""

    kind: str = setting(
        "constant",
        "Law of β: 'constant' (value), 'uniform' and 'loguniform' (low, high), 'gamma' (shape, scale), 'beta' "
        "(shape, shape_b, times scale).",
        choices=("constant", "uniform", "loguniform", "gamma", "beta"),
    )
    value: float = setting(16.0, "The constant β.", interval="(0, inf)", source="mo_gfn: 96 for bigrams, 80 for DNA")
    low: float = setting(1.0, "Lowest β of a uniform law.", interval="(0, inf)")
    high: float = setting(16.0, "Highest β of a uniform law.", interval="(0, inf)")
    shape: float = setting(2.0, "First shape of the gamma or beta law.", interval="(0, inf)", source="recursion")
    shape_b: float = setting(1.0, "Second shape of the beta law.", interval="(0, inf)")
    scale: float = setting(1.0, "Scale of the gamma or beta law.", interval="(0, inf)", source="recursion")
    bins: int = setting(50, "Entries of β's thermometer.", interval="[2, inf)", source="recursion: 32")


def beta_range(beta: BetaConfig) -> tuple[float, float]:
    """The range that the encoding of β covers: of a uniform law its own, of others where all but 0.1 % of it lies."""
    match beta.kind:
        case "constant":
            return beta.value, beta.value
        case "uniform" | "loguniform":
            return beta.low, beta.high
        case "gamma":
            from scipy.stats import gamma

            return 0.0, float(gamma.ppf(0.999, beta.shape, scale=beta.scale))
        case _:
            return 0.0, beta.scale


def read_exponents(beta: BetaConfig) -> tuple[float, float] | None:
    """The range of the β that a network reads whose reward is not tempered; None where it reads none."""
    return None if beta.kind == "constant" else beta_range(beta)


@dataclass(frozen=True)
class RewardConfig:
    """From objectives to the reward of a trajectory."""

    scalarisation: str = setting(
        "weighted_sum",
        "How objectives become one reward.",
        choices=("weighted_sum", "weighted_log_sum", "tchebycheff"),
        source="mo_gfn",
    )
    floor: float = setting(
        -75.0, "ℓ_min: the least β·log R, clamped after tempering.", interval="(-inf, 0]", source="recursion"
    )


@dataclass(frozen=True)
class NetworkConfig:
    """The forward policy and its log Z."""

    kind: str = setting(
        "mlp",
        "The network: 'mlp' reads a state at a time, 'transformer' a sequence of tokens causally, 'set_transformer' a "
        "whole object at each step (edits).",
        choices=("mlp", "transformer", "set_transformer"),
    )
    width: int = setting(128, "Width of hidden layers, or of a token.", interval="[1, inf)", source="mo_gfn: 64")
    layers: int = setting(2, "Hidden layers, or blocks.", interval="[1, inf)", source="mo_gfn: 3")
    heads: int = setting(8, "Heads of attention.", interval="[1, inf)", source="mo_gfn")
    z_width: int = setting(32, "Width of the hidden layers of log Z.", interval="[1, inf)", source="recursion")
    z_layers: int = setting(
        2, "Hidden layers of log Z; 0: a sum over one linear map of the condition.", interval="[0, inf)"
    )


@dataclass(frozen=True)
class LossConfig:
    """What makes a sampler's flows agree with the reward."""

    kind: str = setting(
        "tb",
        "Trajectory balance, sub-trajectory balance, detailed balance, flow matching, or trajectory balance with the "
        "batch's own estimate of log Z (VarGrad).",
        choices=("tb", "subtb", "db", "fm", "vargrad"),
    )
    subtb_lambda: float = setting(0.9, "λ of sub-trajectory balance.", interval="(0, inf)")
    num_copies: int = setting(
        8,
        "Trajectories that share a condition (and a start) in VarGrad: the groups over which log Z is averaged.",
        interval="[2, inf)",
    )


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam for the policy, and one of its own for log Z."""

    learning_rate: float = setting(1e-3, "Of the policy.", interval="(0, inf)", source="mo_gfn: 1e-4")
    final_learning_rate: float = setting(
        0.0, "Where the policy's rate ends on a cosine; 0: it stays where it is.", interval="[0, inf)"
    )
    z_learning_rate: float = setting(1e-2, "Of log Z.", interval="(0, inf)", source="mo_gfn: 1e-3")
    weight_decay: float = setting(
        0.0, "Decoupled weight decay of the policy.", interval="[0, inf)", source="mo_gfn: 1e-4"
    )
    max_grad_norm: float = setting(
        0.0, "Gradients longer than this are scaled down; 0: never.", interval="[0, inf)", source="mo_gfn: 10"
    )


@dataclass(frozen=True)
class ExplorationConfig:
    """Where trajectories come from."""

    epsilon: float = setting(
        0.01, "Share of actions replaced by a uniform legal one.", interval="[0, 1]", source="mo_gfn"
    )
    sampling_tau: float = setting(
        0.0,
        "How slowly the network that samples follows the one that learns: the share of itself that it keeps in an "
        "update; 0: they are the same.",
        interval="[0, 1)",
        source="recursion: 0.9 to 0.95",
    )
    replay_size: int = setting(0, "Objects kept for replay; 0: none.", interval="[0, inf)", unit="objects")
    replay_share: float = setting(0.5, "Share of a batch that comes from the replay buffer.", interval="[0, 1]")
    hindsight_share: float = setting(
        0.0,
        "Share of the replayed objects whose preference is replaced by the direction of their own rewards.",
        interval="[0, 1]",
        source="recursion",
    )


@dataclass(frozen=True)
class GFlowNetConfig:
    """One preference-conditional GFlowNet."""

    batch_size: int = setting(128, "B: trajectories of an update.", interval="[1, inf)", source="mo_gfn")
    preference: PreferenceConfig = part(PreferenceConfig)
    beta: BetaConfig = part(BetaConfig)
    reward: RewardConfig = part(RewardConfig)
    network: NetworkConfig = part(NetworkConfig)
    loss: LossConfig = part(LossConfig)
    optimizer: OptimizerConfig = part(OptimizerConfig)
    exploration: ExplorationConfig = part(ExplorationConfig)


def check_sampler(config: GFlowNetConfig) -> None:
    """Refuse what no single field of the law of β and of the network shows.

    Raises:
        BadInput: bounds of β the wrong way round, or heads that do not divide the width.
    """
    beta, network = config.beta, config.network
    if beta.kind in ("uniform", "loguniform") and not beta.low < beta.high:
        raise BadInput(f"beta.low = {beta.low:g}: must be less than beta.high = {beta.high:g}")
    if network.kind != "mlp" and network.width % network.heads != 0:
        raise BadInput(f"network.heads = {network.heads}: must divide network.width = {network.width}")
