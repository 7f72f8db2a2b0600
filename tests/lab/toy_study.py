"""A study small enough to think through: an ε-greedy bandit in NumPy, several seeds side by side.

It uses every seam of the lab (arms, presets, claims, exhibits, a state of named arrays) and no framework, so the tests
of the driver and of the command line take milliseconds. Randomness is a function of (seed, step): a resumed run must
end bit for bit where an undisturbed one does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tutelage.lab.errors import BadInput
from tutelage.lab.program import Figures
from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import part, setting
from tutelage.lab.study import (
    Arm,
    Claim,
    Exhibit,
    Judgement,
    Paper,
    Preset,
    Published,
    RunResult,
    Study,
)

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class LearnerConfig:
    """The ε-greedy learner."""

    exploration: float = setting(
        0.1, "Probability ε of a uniformly random lever.", interval="[0, 1]", source="Sutton & Barto 2018, §2.2"
    )
    optimism: float = setting(4.0, "Value that every lever is believed to have at first.", unit="reward")
    tie_break: str = setting("first", "Which of equally good levers is pulled.", choices=("first", "last"))


@dataclass(frozen=True)
class BanditConfig:
    """A bandit and its learner."""

    num_levers: int = setting(4, "Levers; lever i pays i on average.", interval="[2, 100]", unit="levers")
    noise: float = setting(0.5, "Standard deviation of a payment.", interval="[0, inf)", unit="reward")
    inverted: bool = setting(False, "Lever i pays −i instead.")
    poison_at: int = setting(
        0, "Update from which the reward is NaN (to test that runs stop); 0: never.", interval="[0, inf)"
    )
    learner: LearnerConfig = part(LearnerConfig)
    schedule: Schedule = part(Schedule)


class Bandit:
    """A `tutelage.lab.program.Program`: S seeds, every array of the state has a leading axis S."""

    def __init__(self, config: BanditConfig, seeds: Sequence[int]) -> None:
        self.config = config
        self.seeds = list(seeds)
        self.compiles = False
        self.compile_seconds = 0.0
        self.payment = np.arange(config.num_levers) * (-1.0 if config.inverted else 1.0)

    def attach(self, folder: Path) -> None:
        """All that it knows is in its state."""

    def init(self) -> State:
        shape = (len(self.seeds), self.config.num_levers)
        return {
            "estimate": np.full(shape, self.config.learner.optimism),
            "pulls": np.zeros(shape, np.int64),
            "step": np.zeros(len(self.seeds), np.int64),
        }

    def update(self, state: State, num_updates: int) -> tuple[State, Callable[[], list[Figures]]]:
        state = {name: array.copy() for name, array in state.items()}
        rewards = np.zeros((len(self.seeds), num_updates))
        for row, seed in enumerate(self.seeds):
            for turn in range(num_updates):
                rewards[row, turn] = self._pull(state, row, seed)
        return state, lambda: [{"reward": float(reward)} for reward in rewards.mean(axis=1)]

    def _pull(self, state: State, row: int, seed: int) -> float:
        state["step"][row] += 1
        step = int(state["step"][row])
        random = np.random.default_rng([seed, step])
        explores, lever, noise = random.random(), random.integers(self.config.num_levers), random.normal()
        if explores >= self.config.learner.exploration:
            lever = self.best(state)[row]
        reward = self.payment[lever] + self.config.noise * noise
        if self.config.poison_at and step >= self.config.poison_at:
            reward = float("nan")
        state["pulls"][row, lever] += 1
        state["estimate"][row, lever] += (reward - state["estimate"][row, lever]) / state["pulls"][row, lever]
        return float(reward)

    def best(self, state: State) -> np.ndarray:
        """The lever believed best, one per seed."""
        if self.config.learner.tie_break == "first":
            return state["estimate"].argmax(axis=1)
        return self.config.num_levers - 1 - state["estimate"][:, ::-1].argmax(axis=1)

    def evaluate(self, state: State, step: int, *, final: bool = False) -> list[Figures]:
        best = self.best(state)
        regret = self.payment.max() - self.payment[best]
        noise = [np.random.default_rng([seed, step, 1]).normal() for seed in self.seeds]
        share = state["pulls"][:, self.payment.argmax()] / np.maximum(state["step"], 1)
        return [
            {
                "regret": float(regret[row]),
                "return": float(self.payment[best[row]] + self.config.noise * noise[row]),
                "best_share": float(share[row]),
            }
            for row in range(len(self.seeds))
        ]

    def save(self, state: State) -> dict[str, np.ndarray]:
        return dict(state)

    def load(self, arrays: Mapping[str, np.ndarray]) -> State:
        expected = self.init()
        for name in [*expected, *arrays]:
            if name not in arrays or name not in expected:
                raise BadInput(f"{name}: {'missing' if name not in arrays else 'not part of this state'}")
            if arrays[name].shape != expected[name].shape or arrays[name].dtype != expected[name].dtype:
                raise BadInput(f"{name}: shape {arrays[name].shape}, must be {expected[name].shape}")
        return {name: np.array(array) for name, array in arrays.items()}

    def device(self) -> str:
        return "NumPy"

    def peak_device_bytes(self) -> int:
        return 0


def judge(results: Sequence[RunResult]) -> Judgement:
    """Greedy pulls the best lever in more than half of its turns on every seed; undecided with fewer than two seeds."""
    shares = [result.figures["best_share"] for result in results if result.arm == "greedy"]
    if len(shares) < 2:
        nan = float("nan")
        return Judgement("undecided", "smallest share of the best lever", nan, nan, nan, 0.5, f"{len(shares)} seeds")
    worst = min(shares)
    verdict = "holds" if worst > 0.5 else "fails"
    return Judgement(
        verdict, "smallest share of the best lever", worst, worst, max(shares), 0.5, f"{len(shares)} seeds"
    )


def check(config: BanditConfig) -> list[str]:
    if config.poison_at > config.schedule.num_updates:
        raise BadInput(f"poison_at = {config.poison_at}: must be at most schedule.num_updates")
    return ["noise = 0: every seed sees the same payments"] if config.noise == 0 else []


def exhibits(config: BanditConfig, program: Bandit, state: State) -> list[Exhibit]:
    rows = [("lever", "estimate")] + [(str(i), f"{value:.2f}") for i, value in enumerate(state["estimate"][0])]
    return [Exhibit("estimates", "Estimates", "What the learner believes of each lever.", rows=tuple(rows))]


def _learner(**changes: object) -> Callable[[BanditConfig], BanditConfig]:
    return lambda config: dataclasses.replace(config, learner=dataclasses.replace(config.learner, **changes))


def _scale(**changes: object) -> Callable[[BanditConfig], BanditConfig]:
    return lambda config: dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, **changes))


study = Study(
    name="bandit",
    paper=Paper("Reinforcement Learning: An Introduction", "R. Sutton, A. Barto", 2018, ""),
    question="Which lever is best?",
    summary="An ε-greedy learner finds the best lever.",
    config=BanditConfig,
    arms={
        "greedy": Arm("Mostly the lever believed best.", lambda config: config),
        "uniform": Arm("Any lever, always.", _learner(exploration=1.0), role="baseline"),
        "poisoned": Arm(
            "Breaks in the middle.", lambda config: dataclasses.replace(config, poison_at=15), role="ablation"
        ),
    },
    presets={
        "quick": Preset(
            "Forty pulls.",
            _scale(num_updates=40, log_every=10, evaluate_every=20, checkpoint_every=10),
            arms=("greedy", "uniform"),
            seeds=3,
        ),
        "paper": Preset("A thousand pulls.", _scale(num_updates=1000)),
    },
    claims=(Claim("finds-the-best", "The greedy learner comes to prefer the best lever.", "§2.3", judge),),
    published=(Published("average reward after 1000 steps", "≈ 1.55", "Figure 2.2", arm="greedy", figure="return"),),
    map={"§2.4 incremental mean": "lab.toy_study:Bandit.update", "§2.2 greedy choice": "lab.toy_study:Bandit.best"},
    check=check,
    build=Bandit,
    work=lambda config: ("pulls", 1.0),
    headline="best_share",
    exhibits=exhibits,
    main_arm="greedy",
)
