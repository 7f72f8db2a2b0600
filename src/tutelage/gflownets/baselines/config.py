"""What is each baseline's own: batch, conditions, reward, network and optimiser are those of the GFlowNet.

Every baseline is built from a problem, the `GFlowNetConfig` that it is compared to, and one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import part, setting


@dataclass(frozen=True)
class MOReinforceConfig:
    """REINFORCE on trajectories that are conditioned on a preference."""

    reward: str = setting(
        "linear",
        "What is maximised: R(x | w) ('linear'), or R(x | w)^β ('power').",
        choices=("linear", "power"),
        source="mo_gfn: linear",
    )


@dataclass(frozen=True)
class A2CConfig:
    """Advantage actor–critic, conditioned on a preference."""

    reward: str = setting(
        "linear",
        "What is maximised: R(x | w) ('linear'), or R(x | w)^β ('power').",
        choices=("linear", "power"),
    )
    gamma: float = setting(1.0, "Discount γ of a step.", interval="(0, 1]", source="recursion")
    gae_lambda: float = setting(1.0, "λ of the advantages; 1: the whole return less the value.", interval="[0, 1]")
    value_share: float = setting(0.5, "Weight of the value's squared error.", interval="[0, inf)")
    entropy_bonus: float = setting(0.01, "Weight of the policy's entropy.", interval="[0, inf)", source="recursion")
    normalise: bool = setting(True, "Scale a batch's advantages to mean 0 and standard deviation 1.")


@dataclass(frozen=True)
class SoftQConfig:
    """Soft Q-learning, conditioned on a preference."""

    alpha: float = setting(
        1.0, "Temperature α: actions have probability ∝ exp(Q / α).", interval="(0, inf)", source="mo_gfn"
    )
    backward_reward: bool = setting(
        False,
        "Add α log P_B to the reward of each step, which makes the optimum that of the GFlowNet; without, an object "
        "is sampled in proportion to how many ways lead to it.",
        source="Tiapkin et al. 2024",
    )
    target_period: int = setting(
        100,
        "The network of the targets is copied from the learner every so many updates.",
        interval="[1, inf)",
        unit="updates",
    )


@dataclass(frozen=True)
class EnvelopeQConfig:
    """Envelope Q-learning: a vector of values for each action, one network for all preferences."""

    gamma: float = setting(1.0, "Discount γ of a step.", interval="(0, 1]", source="Yang et al. 2019: 0.99")
    num_weights: int = setting(
        32, "Preferences over which the envelope of an update is taken.", interval="[1, inf)", source="mo_gfn"
    )
    target_period: int = setting(
        100,
        "The network of the targets is copied from the learner every so many updates.",
        interval="[1, inf)",
        unit="updates",
        source="mo_gfn",
    )
    epsilon: float = setting(
        0.5,
        "Share of uniform legal actions while training.",
        interval="[0, 1]",
        source="mo_gfn, Yang et al. 2019",
    )
    homotopy: bool = setting(
        True,
        "Go from the squared error of the vectors to that of their scalars over the run; without, the first alone.",
        source="Yang et al. 2019, equation 8",
    )
    replay_size: int = setting(
        4096, "Trajectories that are remembered.", interval="[1, inf)", unit="trajectories", source="Yang et al. 2019"
    )
    replay_batch: int = setting(
        8,
        "Remembered trajectories of an update, each under all its preferences.",
        interval="[1, inf)",
        unit="trajectories",
        source="Yang et al. 2019: 32 transitions",
    )
    sample_epsilon: float = setting(
        0.0,
        "Share of uniform legal actions in samples; at 0 there is one object for a preference.",
        interval="[0, 1]",
    )


@dataclass(frozen=True)
class MARSConfig:
    """Annealed Metropolis–Hastings chains over finished objects, each under a preference."""

    grid_bins: int = setting(
        10, "Preferences of the chains: a regular grid, so many along each axis.", interval="[2, inf)", source="mo_gfn"
    )
    max_moves: int = setting(2, "Most local changes that a proposal is made of.", interval="[1, inf)")
    hot_share: float = setting(
        0.0, "Share of β at which chains begin.", interval="[0, 1]", source="Xie et al. 2021: annealed"
    )
    anneal_updates: int = setting(500, "Updates until chains are at their full β.", interval="[1, inf)", unit="updates")
    history: int = setting(32, "States of each chain that are kept to answer from.", interval="[1, inf)")
    thin: int = setting(4, "Updates between two states that are kept.", interval="[1, inf)", unit="updates")


@dataclass(frozen=True)
class NSGA2Config:
    """NSGA-II. A generation is a batch, and so is the population."""

    attempts: int = setting(
        10, "Times that a child which is there already is made again.", interval="[1, inf)", source="pymoo: 100"
    )


@dataclass(frozen=True)
class GeneticConfig:
    """A genetic algorithm with truncation selection."""

    fitness: str = setting(
        "pareto",
        "What decides who survives: the front a member is on ('pareto'), or its best place under any preference of a "
        "grid ('scalar').",
        choices=("pareto", "scalar"),
    )
    grid_bins: int = setting(10, "Preferences along each axis of that grid.", interval="[2, inf)", source="mo_gfn")
    parent_share: float = setting(0.5, "Best share of the population, which has children.", interval="(0, 1]")


@dataclass(frozen=True)
class RandomSearchConfig:
    """Uniform legal trajectories, and the best that they found."""

    answer: str = setting(
        "archive",
        "What a sample is: the best objects found so far for its preference ('archive'), or a fresh uniform "
        "trajectory ('uniform').",
        choices=("archive", "uniform"),
    )
    grid_bins: int = setting(10, "Preferences along each axis of the archive's grid.", interval="[2, inf)")
    elites: int = setting(16, "Different objects kept for each of them.", interval="[1, inf)")


@dataclass(frozen=True)
class BaselinesConfig:
    """Every baseline's own numbers."""

    moreinforce: MOReinforceConfig = part(MOReinforceConfig)
    a2c: A2CConfig = part(A2CConfig)
    soft_q: SoftQConfig = part(SoftQConfig)
    envelope_q: EnvelopeQConfig = part(EnvelopeQConfig)
    mars: MARSConfig = part(MARSConfig)
    nsga2: NSGA2Config = part(NSGA2Config)
    genetic: GeneticConfig = part(GeneticConfig)
    random: RandomSearchConfig = part(RandomSearchConfig)
