"""Settings of the agents, free of any framework. Defaults: the official code of arXiv 2112.07066, as named."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import part, setting

OFFICIAL = "official code, NBottleneck L=5 K=4"

KINDS = (
    "on_policy_rho",
    "off_policy_rho",
    "rho_gradient",
    "iterative_rho",
    "q_learning",
    "replay",
    "dyna",
    "n_step",
    "policy_gradient",
    "differential_q",
    "rvi_q",
    "reward_centred_q",
    "ucrl2",
    "psrl",
)
"""Names of the agents, as `agents.make_agent` takes them."""


def _epsilon(default: float, source: str | None = OFFICIAL):
    return setting(default, "Probability of a uniform action.", interval="[0, 1]", source=source)


def _rate(default: float, source: str | None = OFFICIAL):
    return setting(default, "Step size of the action values.", interval="(0, 1]", source=source)


def _discount():
    return setting(0.99, "γ.", interval="[0, 1)", source=OFFICIAL)


@dataclass(frozen=True)
class ModelConfig:
    """The tabular model of those agents that plan."""

    prior: float = setting(
        1e-4, "Count of each successor, and of the rewards 0 and 1, before any step.", interval="(0, inf)",
        source="official code",
    )  # fmt: skip


@dataclass(frozen=True)
class InverseConfig:
    """When the inverse of the policy's chain is corrected as a whole; between, single rows are exchanged."""

    period: int = setting(300, "Steps after which it is corrected at the latest.", interval="[1, inf)", unit="steps")
    tolerance: float = setting(
        1e-2, "Residual at the visited state beyond which it is corrected at once.", interval="(0, inf)"
    )


@dataclass(frozen=True)
class OnPolicyRhoConfig:
    """At each state visited: the action whose adoption there has the largest gain."""

    epsilon: float = _epsilon(0.1)
    inverse: InverseConfig = part(InverseConfig)


@dataclass(frozen=True)
class OffPolicyRhoConfig:
    """After each step: such an improvement at some drawn states."""

    epsilon: float = _epsilon(0.1)
    steps: int = setting(5, "k: states improved after each step.", interval="[1, inf)", source=OFFICIAL)
    priority: bool = setting(False, "Draw them from the policy's stationary law instead of uniformly.")
    inverse: InverseConfig = part(InverseConfig)


@dataclass(frozen=True)
class RhoGradientConfig:
    """Policy gradient on the gain of the model's chain."""

    epsilon: float = _epsilon(0.15)
    learning_rate: float = setting(0.5, "Step size of the logits.", interval="(0, inf)", source=OFFICIAL)
    steps: int = setting(
        10, "n: states drawn from the stationary law for a step.", interval="[1, inf)", source=OFFICIAL
    )
    temperature: float = setting(0.9, "Of the softmax.", interval="(0, inf)", source="official code")
    baseline: bool = setting(True, "Score by the difference of gains.", source="official code: optional, not used")
    inverse: InverseConfig = part(InverseConfig)


@dataclass(frozen=True)
class IterativeRhoConfig:
    """On-policy ρ-learning with a law that is kept and refined by sweeps instead of solved for."""

    epsilon: float = _epsilon(0.1)
    sweeps: int = setting(10, "k: sweeps μ ← μP for each action.", interval="[1, inf)", source="official code")


@dataclass(frozen=True)
class QLearningConfig:
    """Q-learning (Watkins 1989)."""

    epsilon: float = _epsilon(0.35)
    learning_rate: float = _rate(0.5)
    discount: float = _discount()


@dataclass(frozen=True)
class ReplayConfig:
    """Q-learning that also learns from some past steps after each step."""

    epsilon: float = _epsilon(0.2)
    learning_rate: float = _rate(0.3)
    discount: float = _discount()
    steps: int = setting(5, "k: past steps replayed after each step.", interval="[1, inf)", source=OFFICIAL)
    memory: int = setting(100_000, "Past steps kept; the oldest go.", interval="[1, inf)", source="official code: all")


@dataclass(frozen=True)
class DynaConfig:
    """Dyna-Q (Sutton 1990): also learns from steps that the model makes up."""

    epsilon: float = _epsilon(0.25)
    learning_rate: float = _rate(0.35)
    discount: float = _discount()
    steps: int = setting(5, "k: imagined steps after each step.", interval="[1, inf)", source=OFFICIAL)


@dataclass(frozen=True)
class NStepConfig:
    """Q-learning, and a second target: the return of a greedy path through the model."""

    epsilon: float = _epsilon(0.2)
    learning_rate: float = _rate(0.2)
    discount: float = _discount()
    steps: int = setting(5, "Imagined steps after the real one.", interval="[1, inf)", source=OFFICIAL)


@dataclass(frozen=True)
class PolicyGradientConfig:
    """Tabular policy gradient with a Q-learning critic."""

    epsilon: float = _epsilon(0.1)
    learning_rate: float = _rate(0.01)
    policy_learning_rate: float = setting(0.01, "Step size of the logits.", interval="(0, inf)", source=OFFICIAL)
    discount: float = _discount()
    steps: int = setting(5, "Policy steps after each step.", interval="[1, inf)", source=OFFICIAL)


@dataclass(frozen=True)
class DifferentialQConfig:
    """Differential Q-learning (Wan, Naik & Sutton 2021, arXiv 2006.16318)."""

    epsilon: float = _epsilon(0.1, "arXiv 2006.16318")
    learning_rate: float = _rate(0.1, None)
    gain_rate: float = setting(
        0.1, "η: step size of the gain estimate, as a share of learning_rate.", interval="(0, inf)",
        source="arXiv 2006.16318: 1/8 to 2",
    )  # fmt: skip


@dataclass(frozen=True)
class RVIQConfig:
    """RVI Q-learning (Abounadi, Bertsekas & Borkar 2001); the reference is the mean of all action values."""

    epsilon: float = _epsilon(0.1, None)
    learning_rate: float = _rate(0.1, None)


@dataclass(frozen=True)
class RewardCentredQConfig:
    """Q-learning of rewards less their mean, which the errors estimate (Naik et al. 2024, arXiv 2405.09999)."""

    epsilon: float = _epsilon(0.1, "arXiv 2405.09999")
    learning_rate: float = _rate(0.1, None)
    discount: float = _discount()
    gain_rate: float = setting(
        0.1, "η: step size of the mean, as a share of learning_rate.", interval="(0, inf)", source="arXiv 2405.09999"
    )


@dataclass(frozen=True)
class UCRL2Config:
    """UCRL2 (Jaksch, Ortner & Auer 2010, JMLR 11)."""

    confidence: float = setting(
        0.05, "δ: probability that the true process is outside the confidence set.", interval="(0, 1)"
    )
    scale: float = setting(
        1.0, "Factor on the widths of the confidence set; 1 is the theorem's.", interval="(0, inf)", source="JMLR 11"
    )
    max_sweeps: int = setting(2000, "Sweeps of value iteration at most, for a plan.", interval="[1, inf)")


@dataclass(frozen=True)
class PSRLConfig:
    """Posterior sampling with the episodes of TSDE (Ouyang et al. 2017, arXiv 1709.04570)."""

    prior: float = setting(1.0, "Dirichlet count of all successors together.", interval="(0, inf)")
    span: float = setting(1e-3, "Span at which value iteration of the sampled process ends.", interval="(0, inf)")
    max_sweeps: int = setting(2000, "Sweeps of value iteration at most, for a plan.", interval="[1, inf)")


@dataclass(frozen=True)
class AgentConfig:
    """One agent; the parts of the others are not read."""

    kind: str = setting("on_policy_rho", "The agent.", choices=KINDS)
    model: ModelConfig = part(ModelConfig)
    on_policy_rho: OnPolicyRhoConfig = part(OnPolicyRhoConfig)
    off_policy_rho: OffPolicyRhoConfig = part(OffPolicyRhoConfig)
    rho_gradient: RhoGradientConfig = part(RhoGradientConfig)
    iterative_rho: IterativeRhoConfig = part(IterativeRhoConfig)
    q_learning: QLearningConfig = part(QLearningConfig)
    replay: ReplayConfig = part(ReplayConfig)
    dyna: DynaConfig = part(DynaConfig)
    n_step: NStepConfig = part(NStepConfig)
    policy_gradient: PolicyGradientConfig = part(PolicyGradientConfig)
    differential_q: DifferentialQConfig = part(DifferentialQConfig)
    rvi_q: RVIQConfig = part(RVIQConfig)
    reward_centred_q: RewardCentredQConfig = part(RewardCentredQConfig)
    ucrl2: UCRL2Config = part(UCRL2Config)
    psrl: PSRLConfig = part(PSRLConfig)
