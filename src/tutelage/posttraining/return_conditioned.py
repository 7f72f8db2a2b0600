"""Return-conditioned learning: all samples are learnt, each marked by what it earned, and the good mark is asked for.

    learner = ReturnConditioned(policy, questions, Rollouts(Sampling(), folder="pool"), ReturnConditionedConfig())
    state, figures = learner.update(learner.init())      # draw, label, mark, fine-tune
    learner.policy.sample(...)                           # conditioned on [GOOD]

Marks are control tokens of their own, never text: the tokenizer of `learner.policy` knows them as special tokens, the
model has embeddings for them, and texts of samples come without them.

References: Havrilla et al. (2024), Teaching Large Language Models to Reason with Reinforcement Learning, arXiv
2403.04642. Chen et al. (2021), Decision Transformer, arXiv 2106.01345.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.lm.training.adapters import merge
from tutelage.lm.training.batches import Example
from tutelage.lm.training.sft import sft
from tutelage.posttraining.config import ReturnConditionedConfig
from tutelage.posttraining.control_tokens import CONTROL, Controls, add_control_tokens, conditioned, set_rows
from tutelage.posttraining.learner import State
from tutelage.posttraining.outcome.model import OutcomeModel
from tutelage.posttraining.policy import Policy, spans
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rollouts import Rollouts, correct, flat, truncated_share


@dataclass(frozen=True, eq=False)
class Labelled:
    """One solution to learn: the index of its question, its tokens without marks, whether each segment is good."""

    question: int
    tokens: np.ndarray
    good: tuple[bool, ...]

    @property
    def key(self) -> tuple[int, bytes]:
        """What exact duplicates share."""
        return self.question, self.tokens.tobytes()


class ReturnConditioned:
    """A learner (`tutelage.posttraining.learner`); an update is one round.

    The first round is the published method, which is offline: K samples of the start are drawn, labelled, marked and
    learnt. Further rounds draw from the policy conditioned on `[GOOD]`; all rounds' samples are kept, and every round
    fine-tunes the start (or the base) again.

    A truncated sample is left out: it has no end to learn, and marked as bad it would only teach that bad ones run on.
    A mark at the front is part of the prompt. Marks within a solution are forced when it is sampled, so by default
    they are read and not learnt; log-probabilities of samples are not used at all. They count for `max_new_tokens`.

    Args:
        policy: the start; its model and tokenizer are copied and stay what they are. Adapters are worked into the copy.
        questions: to sample.
        seed: of the fine-tunings and of what is left out; samples follow from that of `rollouts`.
        base: weights by name, or a model that has them, for `refit = "base"`; they are copied.
        demonstrations: pairs of a question and a solution's text, which are good.
        outcome_model: for `labels = "outcome_model"`.

    Attributes:
        policy: the start before the first round; then conditioned on `[GOOD]`, which ends the prompt and, at the level
            of steps, is the only token that may come after a token that ends a line.

    Raises:
        BadInput: no questions, no outcome model or base where the configuration needs it (or one that it does not use),
            a base with other weights, `sft.freeze` above 0 (marks have embeddings to learn), a control token that is
            split or shows in texts, or one that stands in a question's text.
    """

    def __init__(
        self,
        policy: Policy,
        questions: Sequence[Question],
        rollouts: Rollouts,
        config: ReturnConditionedConfig | None = None,
        seed: int = 0,
        *,
        base: Mapping[str, torch.Tensor] | Any = None,
        demonstrations: Sequence[tuple[Question, str]] = (),
        outcome_model: OutcomeModel | None = None,
    ) -> None:
        self.config = config = config or ReturnConditionedConfig()
        validate(config)
        _check(policy, questions, config, base, outcome_model)
        self.rollouts, self.outcome_model, self.seed = rollouts, outcome_model, seed
        model = copy.deepcopy(policy.model)
        model = merge(model) if hasattr(model, "peft_config") else model
        model.requires_grad_(True)
        self._start = self.policy = replace(policy, model=model.eval())
        self._tokenizer = add_control_tokens(policy.tokenizer)
        self._controls = Controls(self._tokenizer)
        self._rows = model.get_input_embeddings().weight.shape[0]
        self._initial = _weights(model if config.refit == "start" else base, model)
        self._sampled = len(questions)
        places = {question.id: place for place, question in reversed(list(enumerate(questions)))}
        self.questions = list(questions)
        for question, _ in demonstrations:
            if places.setdefault(question.id, len(self.questions)) == len(self.questions):
                self.questions.append(question)
        self._shown = [
            self._labelled(places[question.id], policy.example(question, text).response, None)
            for question, text in demonstrations
        ]
        self._live: State | None = None

    def init(self) -> State:
        """The start, nothing drawn.

        Raises:
            BadInput: a round was run, so the policy is no longer the start.
        """
        if self._live is not None:
            raise BadInput("init: this learner has begun and its model is no longer as it was given; make a new one")
        return self._state([], 0, 0)

    def update(self, state: State) -> tuple[State, dict[str, float]]:
        """One round. The old state is used up.

        Figures: of the round's samples the shares `correct`, `truncated` and `duplicates`; `good`, the share of the
        marks of its finished samples that are good; `examples` learnt from (all rounds) and `good_examples`, the
        share of them that is good throughout; `loss` (nats per learnt token) and `grad_norm` over the last pass of the
        fine-tuning; `rollouts` drawn in total.

        Raises:
            BadInput: nothing good is there to learn; the state can still be used.
        """
        self.enter(state)
        config, step = self.config, state["step"]
        asked = self.questions[: self._sampled]
        groups = self.rollouts.draw(self.policy, asked, config.num_samples, round=step)
        known, figures = self._labelled_samples(groups)
        data = _union([*_from_tensors(state["data"]), *known], config.deduplicate)
        figures["duplicates"] = (len(known) + len(state["data"]["lengths"]) - len(data)) / max(len(known), 1)
        chosen = _with_share([*self._shown, *data], config.good_share, np.random.default_rng([self.seed, step]))
        if not any(any(each.good) for each in chosen):
            raise BadInput(_nothing_good(step, figures, config))
        if figures["truncated"] > 0.2:
            cut = f"{figures['truncated']:.0%} of the samples were cut off before their end"
            warnings.warn(f"max_new_tokens = {self.rollouts.sampling.max_new_tokens}: {cut}; raise it", stacklevel=2)
        total = state["rollouts"] + sum(map(len, groups))
        state.clear()
        self._condition(True)
        self._refit()
        seed = int(np.random.SeedSequence([self.seed, step]).generate_state(1)[0])
        tuning, _, fitted = sft(self.policy.model, self.examples(chosen), config.sft, seed)
        self.policy.model.eval()
        last = fitted[-max(1, round(tuning.num_updates / config.sft.num_epochs)) :]
        figures |= {name: float(np.mean([each[name] for each in last])) for name in ("loss", "grad_norm")}
        figures |= {"examples": float(len(chosen)), "rollouts": float(total)}
        figures["good_examples"] = sum(all(each.good) for each in chosen) / len(chosen)
        return self._state(data, step + 1, total), figures

    def enter(self, state: Mapping[str, Any]) -> None:
        """Make `policy` what the state says."""
        if not state:
            raise BadInput("state: was used up by an update; go on with the one that the update gave back")
        if state is self._live:
            return
        try:
            self._condition(state["step"] > 0)
            self.policy.model.load_state_dict(state["model"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BadInput(f"state: is not one of this model: {' '.join(str(error).split())}") from error
        if self._live is not None:
            self._live.clear()  # its tensors were the model's own
        self._live = {}

    def examples(self, data: Sequence[Labelled]) -> list[Example]:
        """What is learnt of labelled solutions: the mark of the first segment ends the prompt, others stand inside."""
        prompts = {place: self._start.prompt(self.questions[place]) for place in {each.question for each in data}}
        found = []
        for each in data:
            starts = self._controls.starts(each.tokens) if self.config.level == "step" else np.zeros(1, np.int64)
            marks = np.array([self._controls.ids[0] if good else self._controls.ids[1] for good in each.good], np.int64)
            response = np.insert(each.tokens, starts[1:], marks[1:])
            learnt = np.insert(np.ones(len(each.tokens), bool), starts[1:], self.config.learn_control)
            found.append(Example(np.append(prompts[each.question], marks[0]), response, learnt))
        return found

    def _labelled_samples(self, groups: Sequence[Sequence[Rollout]]) -> tuple[list[Labelled], dict[str, float]]:
        """The finished samples, and the shares `correct`, `truncated` and `good`."""
        everything = [rollout for group in groups for rollout in group]
        figures = {"correct": float(np.mean([correct(rollout) for rollout in everything]))}
        figures["truncated"] = truncated_share(everything)
        ended = [
            [replace(each, completion=self._controls.without(each.completion)) for each in group if _whole(each)]
            for group in groups
        ]
        asked, rollouts = flat(self.questions[: self._sampled], ended)
        owner = [place for place, group in enumerate(ended) for _ in group]
        known = [
            self._labelled(place, rollout.completion, scores)
            for place, rollout, scores in zip(owner, rollouts, self._scores(asked, rollouts), strict=True)
        ]
        marks = [good for each in known for good in each.good]
        return known, figures | {"good": float(np.mean(marks)) if marks else 0.0}

    def _scores(self, questions: Sequence[Question], rollouts: Sequence[Rollout]) -> list[np.ndarray]:
        """For each finished rollout, without marks, its segments' scores `[S]`, or one `[1]` for all of them."""
        if self.outcome_model is None:
            return [np.array([rollout.scores["correct"]]) for rollout in rollouts]
        if self.config.level == "solution":
            return [np.array([score]) for score in self.outcome_model.scores(questions, rollouts)]
        ends = []
        for rollout in rollouts:
            offsets = spans(self._tokenizer, rollout.completion)
            lines = offsets[self._controls.starts(rollout.completion)[1:] - 1, 1]
            ends.append([*(len(rollout.text[:end].rstrip()) for end in lines.tolist()), len(rollout.text)])
        return self.outcome_model.scores_at(questions, rollouts, ends)

    def _labelled(self, place: int, tokens: np.ndarray, scores: np.ndarray | None) -> Labelled:
        """Good where a score reaches the threshold; without scores, throughout."""
        number = len(self._controls.starts(tokens)) if self.config.level == "step" else 1
        least = self.config.threshold if self.outcome_model is not None else 0.5
        good = np.ones(number, bool) if scores is None else np.broadcast_to(scores >= least, number)
        return Labelled(place, np.asarray(tokens, np.int64), tuple(good.tolist()))

    def _condition(self, marked: bool) -> None:
        """Make `policy` the start, or the start with rows for the marks and conditioned on `[GOOD]`."""
        rows = max(self._rows, len(self._tokenizer)) if marked else self._rows
        if self._start.model.get_input_embeddings().weight.shape[0] != rows:
            with torch.random.fork_rng([]):
                self._start.model.resize_token_embeddings(rows, mean_resizing=False)
        marking = replace(self._start, tokenizer=self._tokenizer)
        self.policy = conditioned(marking, self.config.level) if marked else self._start

    def _refit(self) -> None:
        """The weights that rounds fine-tune, marks that are new as the mean of all other tokens."""
        model = self.policy.model
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                given = self._initial[name]
                tensor[tuple(slice(size) for size in given.shape)] = given.to(tensor.device)
            set_rows(model, self._start.tokenizer, self._controls.ids)

    def _state(self, data: Sequence[Labelled], step: int, rollouts: int) -> State:
        model = self.policy.model.state_dict()
        self._live = {"model": model, "data": _tensors(data), "step": step, "rollouts": rollouts}
        return self._live


def _whole(rollout: Rollout) -> bool:
    return rollout.finish_reason == "stop"


def _union(data: Sequence[Labelled], deduplicate: bool) -> list[Labelled]:
    if not deduplicate:
        return list(data)
    first: dict[tuple[int, bytes], Labelled] = {}
    for each in data:
        first.setdefault(each.key, each)
    return list(first.values())


def _with_share(data: Sequence[Labelled], share: float, draw: np.random.Generator) -> list[Labelled]:
    """As many as can be of which `share` is good throughout, in order; 0: all. What is left out is drawn."""
    good = np.array([all(each.good) for each in data], bool)
    if not share or good.all() or not good.any():
        return list(data)
    number = good.sum(), len(good) - good.sum()
    keep = (
        min(number[0], round(number[1] * share / (1 - share))),
        min(number[1], round(number[0] * (1 - share) / share)),
    )
    kept = [
        draw.choice(np.flatnonzero(kind), few, replace=False) for kind, few in zip((good, ~good), keep, strict=True)
    ]
    return [data[place] for place in sorted(np.concatenate(kept).tolist())]


def _tensors(data: Sequence[Labelled]) -> dict[str, torch.Tensor]:
    """As a part of a state: `questions`, `lengths`, `segments` `[N]`; all `tokens` and all `good` in a row."""
    arrays = {
        "questions": np.array([each.question for each in data], np.int64),
        "lengths": np.array([len(each.tokens) for each in data], np.int64),
        "segments": np.array([len(each.good) for each in data], np.int64),
        "tokens": np.concatenate([np.zeros(0, np.int64), *(each.tokens for each in data)]),
        "good": np.array([good for each in data for good in each.good], bool),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _from_tensors(tensors: Mapping[str, torch.Tensor]) -> list[Labelled]:
    arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    tokens = np.split(arrays["tokens"], np.cumsum(arrays["lengths"])[:-1])
    good = np.split(arrays["good"], np.cumsum(arrays["segments"])[:-1])
    rows = zip(arrays["questions"].tolist(), tokens, good)  # of nothing one empty piece is split
    return [Labelled(question, ids, tuple(marks.tolist())) for question, ids, marks in rows]


def _weights(given: Mapping[str, torch.Tensor] | Any, model: Any) -> dict[str, torch.Tensor]:
    """A copy of weights, on the host, which fit the model."""
    found = given if isinstance(given, Mapping) else given.state_dict()
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name in [*wanted, *found]:
        if name not in wanted or name not in found or found[name].shape != wanted[name]:
            raise BadInput(f"base: its {name!r} is not that of the policy's model; give the weights it was made from")
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in found.items()}


def _nothing_good(step: int, figures: Mapping[str, float], config: ReturnConditionedConfig) -> str:
    rates = f"{figures['correct']:.2%} of the samples are right, {figures['truncated']:.0%} cut off"
    advice = "give easier questions, a larger num_samples, or demonstrations"
    if config.labels == "outcome_model" and figures["correct"]:
        advice = f"none reaches threshold = {config.threshold:g}; lower it"
    return f"round {step + 1}: nothing good to learn: {rates}; {advice}"


def _check(
    policy: Policy,
    questions: Sequence[Question],
    config: ReturnConditionedConfig,
    base: Any,
    outcome_model: OutcomeModel | None,
) -> None:
    if not questions:
        raise BadInput("questions: there are none; give at least one")
    if (config.labels == "outcome_model") != (outcome_model is not None):
        need = "needs an outcome_model" if outcome_model is None else "does not use the outcome_model that was given"
        raise BadInput(f"labels = {config.labels!r}: {need}")
    if config.refit == "base" and base is None:
        raise BadInput("refit = 'base': needs the weights of a base")
    if config.sft.freeze:
        raise BadInput(f"sft.freeze = {config.sft.freeze:g}: must be 0; the control tokens' embeddings are learnt")
    for name in CONTROL:
        if name in policy.template:
            raise BadInput(f"template: must not contain the control token {name!r}")
        for place, question in enumerate(questions):
            if name in question.text:
                raise BadInput(f"questions: the text of row {place} contains the control token {name!r}")
