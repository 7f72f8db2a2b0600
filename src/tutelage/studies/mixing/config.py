"""Every number of the study. Defaults: the gridworld family of the first version of the paper, and its agents."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.continual.agents_config import AgentConfig
from tutelage.continual.worlds.config import WorldConfig
from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import part, setting

SCALES = ("rooms", "length", "states")


@dataclass(frozen=True)
class LifeConfig:
    """An agent's one life in the world, without episodes."""

    steps_per_update: int = setting(1000, "Steps of the world in one update.", interval="[1, inf)", unit="steps")
    window: int = setting(5, "Last updates over which the final reward rate is taken.", interval="[1, inf)")


@dataclass(frozen=True)
class SweepConfig:
    """Members of a family, measured exactly one after another."""

    scale: str = setting("rooms", "Which setting of the world grows.", choices=SCALES)
    values: tuple[int, ...] = setting((4, 6, 8, 12), "Its values.", interval="[1, inf)")
    policy: str = setting(
        "optimal",
        "Whose chain is measured: the optimal policy's, or the uniform one's.",
        choices=("optimal", "uniform"),
    )
    eps: float = setting(0.25, "ε of the mixing time.", interval="(0, 1)")


@dataclass(frozen=True)
class Config:
    """Average reward: an agent's life, a family measured, or the myopia of discounting."""

    task: str = setting("life", "What is run.", choices=("life", "sweep", "myopia"))
    world: WorldConfig = part(WorldConfig)
    agent: AgentConfig = part(AgentConfig)
    life: LifeConfig = part(LifeConfig)
    sweep: SweepConfig = part(SweepConfig)
    schedule: Schedule = part(Schedule)
