"""Expert iteration: sample, keep what is right, learn it from the base again, and sample from what was learnt.

    learner = ExpertIteration(policy, base, questions, Rollouts(Sampling(), folder="pool"), demonstrations=pairs)
    state = learner.init()
    for _ in range(5):
        state, figures = learner.update(state)  # one round

Without deduplication and with ever more samples a round is a step of expectation–maximisation: the best fit to what it
keeps is the sampling policy conditioned on success, π(y|R = 1). Deduplication flattens that towards the uniform
distribution over right solutions.

Of one family, by their settings (`tutelage.posttraining.config`): rejection-sampling fine-tuning (`rft`) is one round
from demonstrations; ReST-EM (`rest_em`) learns the newest round's samples only.

References: Havrilla et al. (2024), Teaching Large Language Models to Reason with Reinforcement Learning, arXiv
2403.04642. Anthony, Tian & Barber (2017), Thinking Fast and Slow with Deep Learning and Tree Search. Yuan et al.
(2023), arXiv 2308.01825. Singh et al. (2023), Beyond Human Data, arXiv 2312.06585.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.lm.training.sft import SFT, sft
from tutelage.posttraining.config import ExpertIterationConfig
from tutelage.posttraining.learner import State, restore
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rollouts import Reward, Rollouts, block_size, correct, truncated_share, warn_truncated
from tutelage.posttraining.selection import Dataset, distinct, passing, union, variety


class ExpertIteration:
    """A learner (`tutelage.posttraining.learner`); an update is one round.

    Args:
        policy: the start π₀, fine-tuned or pretrained; its model is trained in place.
        base: the pretrained weights that rounds refit, by name, or a model that has them; they are copied.
        questions: to sample.
        rollouts: with a folder, a round that was killed draws no finished block of questions again.
        seed: of the fine-tunings and of the choice of questions; samples follow from that of `rollouts`.
        demonstrations: D₀, pairs of a question and a solution's text; empty for a start that was pretrained only.
        reward: for a `filter` that asks one.
        sampling_template: how the first round's questions are asked if not as `policy.template` says: with worked
            examples, for a start that was pretrained only. Fine-tuning and later rounds always ask by the policy's own.

    Raises:
        BadInput: no questions, a base with other weights than the policy's model, a missing reward, several samples at
            temperature 0, or demonstrations that the fine-tuning refuses.
    """

    def __init__(
        self,
        policy: Policy,
        base: Mapping[str, torch.Tensor] | Any,
        questions: Sequence[Question],
        rollouts: Rollouts,
        config: ExpertIterationConfig | None = None,
        seed: int = 0,
        *,
        demonstrations: Sequence[tuple[Question, str]] = (),
        reward: Reward | None = None,
        sampling_template: str = "",
    ) -> None:
        self.policy, self.rollouts, self.reward, self.seed = policy, rollouts, reward, seed
        self.config = config = config or ExpertIterationConfig()
        validate(config)
        if not questions:
            raise BadInput("questions: there are none; give at least one")
        if config.questions_per_round > len(questions):
            raise BadInput(f"questions_per_round = {config.questions_per_round}: there are only {len(questions)}")
        if config.filter != "correct" and reward is None:
            raise BadInput(f"filter = {config.filter!r}: needs a reward")
        rollouts.check(config.num_samples)
        self._first = replace(policy, template=sampling_template) if sampling_template else policy
        self._base = _weights(base, policy.model)
        self._num_questions = len(questions)
        places = {question.id: place for place, question in reversed(list(enumerate(questions)))}
        self.questions = list(questions)
        for question, _ in demonstrations:
            if places.setdefault(question.id, len(self.questions)) == len(self.questions):
                self.questions.append(question)
        shown = [(question, policy.example(question, solution)) for question, solution in demonstrations]
        self.demonstrations = Dataset.of([(places[question.id], each.response) for question, each in shown])
        if shown:
            SFT(policy.model, [each for _, each in shown], config.sft)  # refuses what no round could learn
        self._live: State | None = None

    def init(self) -> State:
        """The start: its weights, D₀, no rollouts.

        Raises:
            BadInput: a round was run, so the policy's model is no longer the start.
        """
        if self._live is not None:
            raise BadInput("init: this learner has begun and its model is no longer as it was given; make a new one")
        return self._state(self.demonstrations, 0, 0)

    def update(self, state: State) -> tuple[State, dict[str, float]]:
        """One round: draw, select, D_i, fine-tune.

        Figures: of the samples `correct` and `truncated` shares; `solved_questions`, the share of this round's
        questions with a right sample; `kept` samples pass the filter, `unique` are left of them for a question at the
        configured level (mean), `new` of which join the `dataset`; by level, `unique_…` distinct kept solutions of a
        question (mean) and `duplicates_…` kept samples that are dropped for it; `loss` (nats per learnt token) and
        `grad_norm` over the last pass of the fine-tuning; `rollouts` drawn in total.

        Warns where more than a fifth of the samples were cut off.

        Raises:
            BadInput: no sample may be learnt from; the state can still be used.
        """
        self.enter(state)
        config, step = self.config, state["step"]
        old = Dataset.from_tensors(state["data"])
        selected, figures = self._round(step)
        total = state["rollouts"] + int(figures.pop("samples"))
        data = union(
            old if config.cumulative else Dataset.of([]),
            selected,
            config.deduplicate,
            self.policy.text,
            cap=config.cap,
        )
        new = len(data) - (len(old) if config.cumulative else 0)
        state.clear()
        if config.refit == "base":
            self.policy.model.load_state_dict(self._base)
        seed = int(np.random.SeedSequence([self.seed, step]).generate_state(1)[0])
        tuning, _, fitted = sft(self.policy.model, data.examples(self.policy, self.questions), config.sft, seed)
        self.policy.model.eval()
        last = fitted[-max(1, round(tuning.num_updates / config.sft.num_epochs)) :]
        figures |= {name: float(np.mean([each[name] for each in last])) for name in ("loss", "grad_norm")}
        figures |= {"new": float(new), "dataset": float(len(data)), "rollouts": float(total)}
        return self._state(data, step + 1, total), figures

    def enter(self, state: Mapping[str, Any]) -> None:
        """Make `policy` what the state says."""
        self._live = restore(state, self._live, self.policy.model)

    def asked(self, step: int) -> list[int]:
        """Indices of the questions of a round."""
        number = self._num_questions
        few = self.config.questions_per_round or number
        if few == number:
            return list(range(number))
        return sorted(np.random.default_rng([self.seed, step]).choice(number, few, replace=False).tolist())

    def _round(self, step: int) -> tuple[Dataset, dict[str, float]]:
        """Draw and select, a block of questions at a time: a round's samples may be more than fit into memory."""
        config, asked = self.config, self.asked(step)
        sampler = self.policy if step else self._first
        counts, pairs = Counter[str](), list[tuple[int, np.ndarray]]()
        size = block_size(config.num_samples)
        for start in range(0, len(asked), size):
            places = asked[start : start + size]
            block = [self.questions[place] for place in places]
            groups = self.rollouts.draw(sampler, block, config.num_samples, round=step)
            kept = passing(block, groups, filter=config.filter, threshold=config.threshold, reward=self.reward)
            for place, group, some in zip(places, groups, kept, strict=True):
                counts += _counted(group, some)
                chosen = distinct(some, config.deduplicate)
                counts["unique"] += len(chosen)
                pairs += [(place, each.completion) for each in chosen]
        figures = {"samples": float(counts["samples"]), "kept": float(counts["kept"])}
        figures |= {name: counts[name] / counts["samples"] for name in ("correct", "truncated")}
        figures["solved_questions"] = counts["solved"] / len(asked)
        figures["unique"] = counts["unique"] / len(asked)
        for level in ("exact", "normalised", "equation"):
            figures[f"unique_{level}"] = counts[level] / len(asked)
            figures[f"duplicates_{level}"] = float(counts["kept"] - counts[level])
        if not pairs:
            raise BadInput(_nothing(step, figures, config))
        warn_truncated(figures["truncated"], self.rollouts.sampling)
        return Dataset.of(pairs), figures

    def _state(self, data: Dataset, step: int, rollouts: int) -> State:
        self._live = {
            "model": self.policy.model.state_dict(),
            "data": data.tensors(),
            "step": step,
            "rollouts": rollouts,
        }
        return self._live


def _counted(group: Sequence[Rollout], kept: Sequence[Rollout]) -> Counter[str]:
    right = sum(map(correct, group))
    cut = round(truncated_share(group) * len(group))
    counts = {"samples": len(group), "correct": right, "solved": right > 0, "truncated": cut, "kept": len(kept)}
    return Counter(counts | variety(kept))


def _nothing(step: int, figures: Mapping[str, float], config: ExpertIterationConfig) -> str:
    rates = (
        f"{figures['correct']:.2%} of {figures['samples']:.0f} samples are right, {figures['truncated']:.0%} cut off"
    )
    if not figures["correct"]:
        advice = "give easier questions, a larger num_samples, or a sampling_template with worked examples"
    elif not figures["kept"]:
        advice = f"none passes filter = {config.filter!r} with threshold = {config.threshold:g}; lower it"
    else:
        advice = f"none is left by deduplicate = {config.deduplicate!r}; choose another level"
    return f"round {step + 1}: nothing to learn: {rates}; {advice}"


def _weights(base: Mapping[str, torch.Tensor] | Any, model: Any) -> dict[str, torch.Tensor]:
    """A copy of the base's weights on the host, which fits the model."""
    given = base if isinstance(base, Mapping) else base.state_dict()
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name in [*wanted, *given]:
        if name not in wanted or name not in given or given[name].shape != wanted[name]:
            raise BadInput(f"base: its {name!r} is not that of the policy's model; give the weights it was made from")
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in given.items()}
