"""From a configuration to the running system: composes, computes little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.backends.torch_program import TorchProgram, torch_program
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Last
from tutelage.lm.sampling.next_token import Sampling
from tutelage.posttraining import rewards
from tutelage.posttraining.expert_iteration import ExpertIteration
from tutelage.posttraining.learner import Learner, State, restore
from tutelage.posttraining.outcome.model import outcome_reward, stepwise_outcome_reward
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.policy_gradient.online import Online
from tutelage.posttraining.preferences import Preferences
from tutelage.posttraining.return_conditioned import ReturnConditioned
from tutelage.posttraining.rollouts import Reward, Rollouts, flat, rule
from tutelage.posttraining.solution_figures import figures
from tutelage.posttraining.supervised import SupervisedEpochs
from tutelage.studies.reason_rl.config import Config
from tutelage.studies.reason_rl.start import Start, powers, test

GAINS = ("maj@1", "correct", "unique_equation")
"""Figures whose change from the start is reported too, besides those at the largest k."""
OF_THE_POOL = ("unique_exact", "unique_normalised", "unique_equation", "coverage")
"""Figures that grow with the pool: of the last, larger one only, or curves would jump where nothing was learnt."""


def build(config: Config, seeds: Sequence[int]) -> TorchProgram:
    """The system for these seeds, one after another."""
    return torch_program(lambda seed, folder: System(config, seed, folder), seeds=seeds, device=Start(config, 0).device)


class System:
    """One seed of one arm: its algorithm, and the test of what it learnt."""

    def __init__(self, config: Config, seed: int, folder: Path | None) -> None:
        self.config = config
        self.start = Start(config, seed)
        self.folder = None if folder is None else folder / "rollouts"
        chosen = config.sampling
        sampling = Sampling(max_new_tokens=chosen.max_new_tokens, temperature=chosen.temperature)
        self.rollouts = Rollouts(sampling, seed, None if self.folder is None else self.folder / "train")
        self.learner = learner(self.start, self.rollouts)

    def init(self) -> State:
        return self.learner.init()

    def update(self, state: State) -> tuple[State, Mapping[str, Any]]:
        state, found = self.learner.update(state)
        return state, {**found, "rollouts": Last(float(state["rollouts"]))}

    def evaluate(self, state: State, step: int, final: bool) -> dict[str, float]:
        """The figures of the test questions; at the end from a larger pool, reranked, and compared with the start."""
        self.learner.enter(state)
        chosen, questions = self.config.evaluation, self.start.tasks.test
        number = chosen.num_samples if final else chosen.interim_samples
        policy = self.tested_policy(step)
        greedy, pool = test(self.start, policy, step, number, self.folder)
        ks = powers(number)
        start, scores, judged = None, None, {}
        if final:
            self.rollouts.close()
            start = self.start.tested()
            if chosen.rerank:
                judge = self.start.outcome_model()
                judged = {f"outcome_model_{name}": value for name, value in judge.figures.items()}
                judge.check_unseen(questions)
                scores = judge.scores(*flat(questions, pool)).reshape(len(questions), number)
        keys = None if start is None else [[tuple(key.split("|")) for key in row] for row in start["keys"]]
        found = figures(questions, pool, greedy, ks=ks, reranker=scores, start_keys=keys)
        if number != chosen.num_samples:
            found = {name: value for name, value in found.items() if name not in OF_THE_POOL}
        found |= {"rollouts": float(state["rollouts"])} | judged
        if start is not None:
            compared = (*GAINS, f"pass@{number}", f"maj@{number}")
            found |= {f"gain_{name}": found[name] - start["figures"][name] for name in compared}
            found |= {f"start_{name}": start["figures"][name] for name in compared}
        return found

    def tested_policy(self, step: int) -> Policy:
        """What is asked in a test; a pretrained start that has learnt nothing yet is asked few-shot."""
        policy = self.learner.policy
        untouched = step == 0 or self.config.algorithm == "none"
        return replace(policy, template=self.start.starting_template or policy.template) if untouched else policy


def learner(start: Start, rollouts: Rollouts) -> Learner:
    """The algorithm, ready to be stepped."""
    config, seed, tasks = start.config, start.seed, start.tasks
    policy = start.load(start.folder)
    shown = tasks.demonstrations if config.start == "sft" else []
    match config.algorithm:
        case "none":
            return Untrained(policy)
        case "sft":
            return SupervisedEpochs(policy, tasks.demonstrations, config.supervised, seed)
        case "expert_iteration":
            earned = None if config.iteration.filter == "correct" else outcome_reward(start.outcome_model())
            base = policy.model if config.start == "pretrained" else start.load(start.base).model
            return ExpertIteration(
                policy,
                base,
                tasks.train,
                rollouts,
                config.iteration,
                seed,
                demonstrations=shown,
                reward=earned,
                sampling_template=start.starting_template,
            )
        case "online":
            return Online(policy, tasks.train, rollouts, reward(start), config.online, seed)
        case "return_conditioned":
            judge = start.outcome_model() if config.conditioned.labels == "outcome_model" else None
            return ReturnConditioned(
                policy,
                tasks.train,
                rollouts,
                config.conditioned,
                seed,
                base=start.load(start.base).model if config.conditioned.refit == "base" else None,
                demonstrations=shown,
                outcome_model=judge,
            )
        case "preferences":
            return Preferences(policy, tasks.train, rollouts, config.preference, seed)
    raise BadInput(f"algorithm = {config.algorithm!r}: is not known")


def reward(start: Start) -> Reward:
    """What `reward.kind` says."""
    kind, alpha = start.config.reward.kind, start.config.reward.alpha
    match kind:
        case "sparse":
            return rule(lambda question, text, finished: rewards.sparse(text, question.answer, finished=finished))
        case "dense" | "dense_potential":
            return rule(
                lambda question, text, finished: rewards.dense(
                    text,
                    question.answer,
                    question.results,
                    given=question.numbers,
                    alpha=alpha,
                    potential=kind == "dense_potential",
                    finished=finished,
                )
            )
        case "orm":
            return outcome_reward(start.outcome_model())
        case "orm_dense":
            return stepwise_outcome_reward(start.outcome_model())
    return stepwise_outcome_reward(start.outcome_model(stepwise=True))


class Untrained:
    """A learner that learns nothing: the start as it is."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._live: State | None = None

    def init(self) -> State:
        self._live = {"model": self.policy.model.state_dict(), "step": 0, "rollouts": 0}
        return self._live

    def update(self, state: State) -> tuple[State, dict[str, float]]:
        self.enter(state)
        self._live = {**state, "step": state["step"] + 1}
        return self._live, {}

    def enter(self, state: Mapping[str, Any]) -> None:
        self._live = restore(state, self._live, self.policy.model)
