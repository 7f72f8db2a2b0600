"""Every number of the study. Defaults: the gridworld family of the first version of the paper, and its agents."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.continual.agents.config import AgentConfig
from tutelage.continual.deep import config as deep_config
from tutelage.continual.worlds.config import WorldConfig
from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import part, setting

GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
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
class GamesConfig:
    """MinAtar games with a policy for each, or with one that learns them in turns."""

    names: tuple[str, ...] = setting(
        ("Asterix", "Breakout", "SpaceInvaders"),
        "The games, in the order of their turns.",
        choices=GAMES,
        source="ours",
    )
    episodes: int = setting(
        16, "Episodes of each game over which a return is averaged.", interval="[1, inf)", unit="episodes"
    )
    training: deep_config.TrainingConfig = part(deep_config.TrainingConfig)
    sweep: deep_config.SweepConfig = part(deep_config.SweepConfig)

    @property
    def steps_per_update(self) -> int:
        """Steps of a game in one update of its policy."""
        return self.training.num_envs * self.training.num_steps


@dataclass(frozen=True)
class Config:
    """Average reward: an agent's life, a family measured, the myopia of discounting, or games with trained policies."""

    task: str = setting("life", "What is run.", choices=("life", "sweep", "myopia", "game_sweep", "game_turns"))
    world: WorldConfig = part(WorldConfig)
    agent: AgentConfig = part(AgentConfig)
    life: LifeConfig = part(LifeConfig)
    sweep: SweepConfig = part(SweepConfig)
    games: GamesConfig = part(GamesConfig)
    schedule: Schedule = part(Schedule)


def work(config: Config) -> tuple[str, float]:
    """Steps of the world or games in one update; members of a family otherwise."""
    if config.task == "life":
        return "steps", float(config.life.steps_per_update)
    if config.task in ("game_sweep", "game_turns"):
        policies = len(config.games.names) if config.task == "game_sweep" else 1
        return "steps", float(config.games.steps_per_update * policies)
    return "worlds", 1.0
