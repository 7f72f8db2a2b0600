"""Times ρ-learning as it was published: `python solve_per_candidate.py --work JSON [--log FILE]`.

Our re-implementation in NumPy of the algorithms of arXiv 2112.07066, version 1. For every candidate action it makes the
candidate's transition matrix and solves S equations for its stationary law, as the official code does. Nothing else is
wasteful: unlike there, only the model's row that a step has changed is normalised again. Like ours and unlike there,
candidates are not written into the live policy, and an exploring step improves the policy too.

The log has every question that the agent put to its model, with the answer, so that another may answer it as well:
transitions (`before`, `action`, `reward`, `after`), and for each of the k states improved after each step (`asked`,
[T, k]) the candidates' gains (`gains` [T, k, A], NaN where it did not ask) and the law over actions that it took on
(`rows` [T, k, A]).
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from stopwatch import Stopwatch, peak_memory, report


class Model:
    """p̂ and r̂ of each state and action, from counts which begin at a small prior."""

    def __init__(self, num_states: int, num_actions: int, prior: float) -> None:
        self.counts = np.full((num_states, num_actions, num_states), prior)
        self.reward_counts = np.full((num_states, num_actions, 2), prior)
        self.p = np.full_like(self.counts, 1 / num_states)
        self.r = np.full((num_states, num_actions), 0.5)

    def count(self, s: int, a: int, reward: int, successor: int) -> None:
        self.counts[s, a, successor] += 1
        self.reward_counts[s, a, reward] += 1
        self.p[s, a] = self.counts[s, a] / self.counts[s, a].sum()
        self.r[s, a] = self.reward_counts[s, a, 1] / self.reward_counts[s, a].sum()


def stationary(P: np.ndarray) -> np.ndarray:
    """μ P = μ with the first equation replaced by Σ μ = 1."""
    equations = (P - np.eye(len(P))).T
    equations[0] = 1
    right = np.zeros(len(P))
    right[0] = 1
    return np.linalg.solve(equations, right)


class RhoLearning:
    """On-policy where `asks` is 0: the state it is in is improved; else so many uniform ones after each step."""

    def __init__(self, model: Model, work: dict[str, Any], rng: np.random.Generator) -> None:
        self.model, self.epsilon, self.asks, self.rng = model, work["epsilon"], work["asks"], rng
        num_states, self.num_actions = model.r.shape
        self.states = np.arange(num_states)
        self.policy = rng.integers(self.num_actions, size=num_states)
        self.start = np.eye(self.num_actions)[self.policy]

    def act(self, s: int) -> int:
        if self.rng.random() < self.epsilon:
            return int(self.rng.integers(self.num_actions))
        return int(self.policy[s])

    def improve(self, now: int) -> tuple[list[int], list[np.ndarray], list[np.ndarray]]:
        asked = [int(s) for s in self.rng.integers(len(self.states), size=self.asks)] if self.asks else [now]
        answers, rows = [], []
        for s in asked:
            gains = np.empty(self.num_actions)
            for a in range(self.num_actions):
                candidate = self.policy.copy()
                candidate[s] = a
                mu = stationary(self.model.p[self.states, candidate])
                gains[a] = mu @ self.model.r[self.states, candidate]
            self.policy[s] = gains.argmax()
            answers.append(gains)
            rows.append(np.eye(self.num_actions)[self.policy[s]])
        return asked, answers, rows


class RhoGradient:
    """REINFORCE on the gains of deviations in states drawn from the policy's law, less the policy's own gain."""

    def __init__(self, model: Model, work: dict[str, Any], rng: np.random.Generator) -> None:
        self.model, self.work, self.rng = model, work, rng
        self.logits = rng.normal(size=model.r.shape)
        self.start = self.policy()

    def policy(self) -> np.ndarray:
        raised = np.exp((self.logits - self.logits.max(axis=1, keepdims=True)) / self.work["temperature"])
        return raised / raised.sum(axis=1, keepdims=True)

    def act(self, s: int) -> int:
        num_actions = self.logits.shape[1]
        if self.rng.random() < self.work["epsilon"]:
            return int(self.rng.integers(num_actions))
        return int(self.rng.choice(num_actions, p=self.policy()[s]))

    def improve(self, now: int) -> tuple[list[int], list[np.ndarray], list[np.ndarray]]:
        policy, model = self.policy(), self.model
        num_states, num_actions = policy.shape
        P, r = (policy[:, None] @ model.p)[:, 0], (policy * model.r).sum(axis=1)
        mu = stationary(P)
        law = np.maximum(mu, 0)
        asked = [int(s) for s in self.rng.choice(num_states, size=self.work["asks"], p=law / law.sum())]
        climb, answers = np.zeros_like(policy), []
        for s in asked:
            a = self.rng.choice(num_actions, p=policy[s])
            candidate, paid = P.copy(), r.copy()
            candidate[s], paid[s] = model.p[s, a], model.r[s, a]
            gains = np.full(num_actions, np.nan)
            gains[a] = stationary(candidate) @ paid
            answers.append(gains)
            climb[s] += (gains[a] - mu @ r) * (np.eye(num_actions)[a] - policy[s]) / self.work["temperature"]
        self.logits += self.work["learning_rate"] * climb
        policy = self.policy()
        return asked, answers, [policy[s] for s in asked]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=json.loads, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", help="where the log goes, .npz")
    given = parser.parse_args()
    watch, work = Stopwatch(), given.work
    with np.load(work["table"]) as table:
        P, reward = table["P"], table["reward"]
    rng = np.random.default_rng(given.seed)
    model = Model(*P.shape[:2], work["prior"])
    agent = (RhoGradient if work["agent"] == "rho_gradient" else RhoLearning)(model, work, rng)
    cumulative = P.cumsum(axis=-1)
    log: dict[str, list[Any]] = {name: [] for name in ("before", "action", "reward", "after", "asked", "gains", "rows")}
    watch.mark("imported")

    def life() -> float:
        s, total = int(rng.integers(len(P))), 0.0
        for _ in range(work["steps"]):
            a = agent.act(s)
            successor = int((rng.random() * cumulative[s, a, -1] >= cumulative[s, a]).sum())
            paid = int(reward[s, successor])
            model.count(s, a, paid, successor)
            improved = agent.improve(successor)
            if given.log:
                for values, value in zip(log.values(), (s, a, paid, successor, *improved), strict=True):
                    values.append(value)
            s, total = successor, total + paid
        return total

    total, cost = watch.time(life)
    if given.log:
        np.savez(given.log, start=agent.start, **{name: np.array(values) for name, values in log.items()})
    report(
        library="solve per candidate",
        versions={"numpy": np.__version__},
        marks=watch.marks,
        steps=work["steps"],
        calls=[cost],
        reward_rate=total / work["steps"],
        peak_memory_bytes=peak_memory(),
    )


if __name__ == "__main__":
    main()
