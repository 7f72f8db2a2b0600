"""Settings of the deep half: policies of games, and how their return mixing times are measured. No framework."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import part, setting
from tutelage.rl.config import PPOConfig


@dataclass(frozen=True)
class GamePPOConfig(PPOConfig):
    """PPO on MinAtar: the usual one, but for the numbers set here."""

    learning_rate: float = setting(2e-3, "Step size of Adam.", interval="(0, inf)", source="ours, on Breakout")
    anneal: bool = setting(True, "Anneal the step size linearly to 0 over all updates.", source="PureJaxRL ppo.py")
    discount: float = setting(0.99, "Discount γ per step.", interval="[0, 1]", source="PureJaxRL ppo.py")
    gae_lambda: float = setting(
        0.95, "λ of generalised advantage estimation.", interval="[0, 1]", source="PureJaxRL ppo.py"
    )
    num_epochs: int = setting(4, "Passes over each rollout.", interval="[1, inf)", source="PureJaxRL ppo.py")
    num_minibatches: int = setting(
        8, "Parts of each pass, split over environments, never over time.", interval="[1, inf)", source="ours"
    )
    entropy_coefficient: float = setting(
        0.01, "Weight of the entropy bonus.", interval="[0, inf)", source="PureJaxRL ppo.py"
    )


@dataclass(frozen=True)
class TrainingConfig:
    """A policy without memory, trained on one game, or on several in turns."""

    num_envs: int = setting(64, "Worlds side by side.", interval="[1, inf)", unit="worlds", source="ours")
    num_steps: int = setting(128, "Steps of a rollout.", interval="[1, inf)", unit="steps", source="PureJaxRL ppo.py")
    num_updates: int = setting(
        120, "Rollouts, each learnt from once.", interval="[1, inf)", unit="updates", source="ours: a million steps"
    )
    updates_per_task: int = setting(
        20,
        "Updates before the next game's turn, where there are several.",
        interval="[1, inf)",
        unit="updates",
        source="ours",
    )
    width: int = setting(
        64, "Width of each hidden layer.", interval="[1, inf)", unit="units", source="PureJaxRL ppo.py"
    )
    ppo: GamePPOConfig = part(GamePPOConfig)


@dataclass(frozen=True)
class SweepConfig:
    """Return mixing times over switching time τ × number of tasks |Z|."""

    switch_every: tuple[int, ...] = setting(
        (100, 200, 400, 800), "Switching times τ.", interval="[1, inf)", unit="steps", source="ours"
    )
    num_tasks: tuple[int, ...] = setting(
        (1, 2, 3, 4), "Numbers of tasks |Z|; every choice of so many tasks is measured.", interval="[1, inf)"
    )
    order: str = setting(
        "cycle", "Which task is next: the tasks in turn, or any of them at random.", choices=("cycle", "random")
    )
    num_rollouts: int = setting(32, "Rollouts N.", interval="[1, inf)", unit="rollouts", source="ours")
    num_steps: int = setting(
        20000, "Steps of each task in each rollout.", interval="[2, inf)", unit="steps", source="ours"
    )
    burn_in: int = setting(
        500, "Steps before, so that rollouts start from states that are spread.", interval="[0, inf)", unit="steps"
    )
    eps: float = setting(0.1, "ε, as a share of the average reward.", interval="(0, 1)", source="ours")
    quantile: float = setting(1.0, "Share of the rollouts that must have settled.", interval="(0, 1]", source="ours")
