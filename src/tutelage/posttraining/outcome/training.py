"""Training an outcome model: three verbs over a state of named tensors, as `tutelage.lm.training.sft`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.lm.training.sft import SFTConfig, learning_rate_factor
from tutelage.measures.sampled_answers import question_auc
from tutelage.posttraining.config import OutcomeModelConfig
from tutelage.posttraining.grading.solutions import steps
from tutelage.posttraining.learner import State
from tutelage.posttraining.policy import spans
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rewards import tokens_at
from tutelage.posttraining.rollouts import correct


class Item(NamedTuple):
    """One solution to learn from: tokens `[m]` of it at which something is predicted, `labels` 0 or 1, `weights`."""

    question: Question
    rollout: Rollout
    tokens: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


class OutcomeTraining:
    """Trains an `OutcomeModel` by binary cross-entropy. The model's own parameters are the live state.

    Each solution weighs 1, spread evenly over where it is predicted. With `balance` the heavier of right and wrong is
    weighed down to the lighter, question by question: what subsampling does on average, without its noise.

    Args:
        model: an `OutcomeModel`, see there; it is changed.
        groups: graded rollouts of each question. Truncated ones count as wrong.
        labels: for each rollout the labels `[L]` of its `prefixes`, 0 or 1 (`continuation_labels`), in place of
            whether it is correct.

    Attributes:
        items: what it learns from. `held_out`: indices of the questions (rows of `groups`) that it does not.

    Raises:
        BadInput: rollouts that are not graded, lists that do not fit, or nothing left to learn from.
    """

    def __init__(
        self,
        model: Any,
        questions: Sequence[Question],
        groups: Sequence[Sequence[Rollout]],
        seed: int = 0,
        *,
        labels: Sequence[Sequence[ArrayLike]] | None = None,
    ) -> None:
        self.model, self.seed = model, seed
        self.config: OutcomeModelConfig = model.config
        validate(self.config)
        _check(questions, groups, labels, self.config)
        self.questions, self.groups = questions, groups
        self.held_out = _held_out(questions, self.config.held_out, seed)
        self.items: list[list[Item]] = []
        rows = duplicates = positives = 0
        for place in sorted(set(range(len(questions))) - set(self.held_out)):
            chosen = range(min(len(groups[place]), self.config.num_samples))
            kept = _distinct(groups[place], chosen) if self.config.deduplicate else list(chosen)
            rows, duplicates = rows + len(chosen), duplicates + len(chosen) - len(kept)
            positives += sum(correct(groups[place][number]) for number in chosen)
            items = self._items(place, kept, labels)
            items = balanced(items) if self.config.balance else items
            if items:
                self.items.append(items)
        if not self.items:
            advice = "no question has both right and wrong ones; draw more, or set balance = False"
            raise BadInput(
                f"solutions: nothing to learn from {rows}: {advice if self.config.balance else 'none given'}"
            )
        model.seen = model.seen | {items[0].question.id for items in self.items}
        self.about = {"positives": positives / rows, "duplicates": duplicates / rows}
        self.about |= {"questions": float(len(self.items)), "examples": float(sum(map(len, self.items)))}
        self._weight = sum(float(item.weights.sum()) for items in self.items for item in items) / self.about["examples"]
        sizes = [math.ceil(len(items) / self.config.group_size) for items in self.items]
        self._chunks = [(row, part) for row, size in enumerate(sizes) for part in range(size)]
        self._per_update = max(1, self.config.batch_size // self.config.group_size)
        self.num_updates = math.ceil(self.config.num_epochs * len(self._chunks) / self._per_update)
        self._trained = [*model.policy.model.base_model.parameters(), *model.head.parameters()]
        decay = [{"params": [p for p in self._trained if p.dim() > 1], "weight_decay": self.config.weight_decay}]
        decay += [{"params": [p for p in self._trained if p.dim() <= 1], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(decay, self.config.learning_rate, fused=True)
        self._live: State | None = None

    def init(self) -> State:
        """The state before the first update: the model as it was given."""
        if self._live is not None:
            raise BadInput("init: this training has begun and its model is no longer as it was given; make a new one")
        return self._state(0)

    def update(self, state: State) -> tuple[State, dict[str, float]]:
        """One step of AdamW. The old state is used up.

        Figures: `loss` (nats, weighted mean before the step), `grad_norm`, `learning_rate`; and of the data `examples`
        and `questions` learnt from, `positives` and `duplicates` as shares of the solutions given.
        """
        self._enter(state)
        config, step, model = self.config, state["step"], self.model.policy.model
        chosen = self.batch(step)
        prompts, rows = self.model.inputs([item.question for item in chosen], [item.rollout for item in chosen])
        model.train()
        self.optimizer.zero_grad()
        normaliser = self._weight * len(chosen)
        total = 0.0
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(np.random.SeedSequence([self.seed, step]).generate_state(1)[0]))
            for places, logits in self.model.logits(prompts, rows):
                loss = weighted_loss(logits, [chosen[place] for place in places])
                (loss / normaliser).backward()
                total += float(loss.detach())
        model.eval()
        norm = float(torch.nn.utils.clip_grad_norm_(self._trained, config.max_grad_norm or math.inf))
        plan = SFTConfig(schedule=config.schedule, warmup=config.warmup)
        rate = config.learning_rate * learning_rate_factor(plan, step, self.num_updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        state.clear()  # its tensors have changed under it: whoever asks it again is told
        weight = sum(float(item.weights.sum()) for item in chosen)
        figures = {"loss": total / weight, "grad_norm": norm, "learning_rate": rate, **self.about}
        return self._state(step + 1), figures

    def evaluate(self, state: State) -> dict[str, float]:
        """Figures on the held-out questions, every sample of them; empty if there are none.

        `auc`: mean over the questions with right and wrong samples of P(a right one scores above a wrong one), left out
        if there is no such question; `accuracy` at 0.5 beside `majority`, that of always saying the commoner thing;
        `held_out_loss` in nats per solution.
        """
        self._enter(state)
        if not self.held_out:
            return {}
        flat = [(self.questions[place], rollout) for place in self.held_out for rollout in self.groups[place]]
        scores = self.model.scores([question for question, _ in flat], [rollout for _, rollout in flat])
        right = np.array([correct(rollout) for _, rollout in flat])
        said = np.clip(np.where(right, scores, 1 - scores), 1e-12, 1)
        cuts = np.cumsum([len(self.groups[place]) for place in self.held_out])[:-1]
        pairs = zip(np.split(scores, cuts), np.split(right, cuts), strict=True)
        aucs = np.concatenate([question_auc(ours[None], truth[None]) for ours, truth in pairs if len(ours)])
        figures = {"held_out_questions": float(len(self.held_out)), "held_out_loss": float(-np.log(said).mean())}
        figures |= {
            "accuracy": float(((scores > 0.5) == right).mean()),
            "majority": float(max(right.mean(), 1 - right.mean())),
        }
        return figures | ({} if np.isnan(aucs).all() else {"auc": float(np.nanmean(aucs))})

    def batch(self, step: int) -> list[Item]:
        """The solutions of an update: some of each of several questions, in an order of the seed and the step alone."""
        number, size = len(self._chunks), self.config.group_size
        chosen: list[Item] = []
        places = range(step * self._per_update, (step + 1) * self._per_update)
        epochs = {place // number for place in places}
        orders = {epoch: np.random.default_rng([self.seed, epoch]).permutation(number) for epoch in epochs}
        for place in places:
            epoch = place // number
            row, part = self._chunks[orders[epoch][place % number]]
            order = np.random.default_rng([self.seed, epoch, row]).permutation(len(self.items[row]))
            chosen += [self.items[row][index] for index in order[part * size : (part + 1) * size]]
        return chosen

    def _items(self, place: int, kept: Sequence[int], labels: Sequence[Sequence[ArrayLike]] | None) -> list[Item]:
        question, found = self.questions[place], []
        rollouts = [self.groups[place][number] for number in kept]
        _, rows = self.model.inputs([question] * len(kept), rollouts)
        for number, rollout, row in zip(kept, rollouts, rows, strict=True):
            if self.config.tokens == "every":
                tokens = np.arange(len(row))
            else:
                tokens = tokens_at(spans(self.model.policy.tokenizer, row), prefixes(rollout.text))
            given = float(correct(rollout)) if labels is None else np.asarray(labels[place][number], float)
            shares = np.full(len(tokens), 1 / len(tokens))
            found.append(Item(question, rollout, tokens, np.broadcast_to(given, tokens.shape), shares))
        return found

    def _state(self, step: int) -> State:
        model, head = self.model.policy.model.state_dict(), self.model.head.state_dict()
        self._live = {"model": model, "head": head, "optimizer": self.optimizer.state_dict(), "step": step}
        return self._live

    def _enter(self, state: Mapping[str, Any]) -> None:
        if state is self._live and state:
            return
        if not state:
            raise BadInput("state: was used up by an update; go on with the one that the update gave back")
        try:
            self.model.policy.model.load_state_dict(state["model"])
            self.model.head.load_state_dict(state["head"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise BadInput(f"state: is not one of this model: {' '.join(str(error).split())}") from error
        if self._live is not None:
            self._live.clear()  # its tensors were the model's own
        self._live = {}


def prefixes(text: str) -> list[int]:
    """Characters of a solution up to the end of each of its steps, and of the whole, last; each once."""
    return sorted({*(step.end for step in steps(text)), len(text)})


def weighted_loss(logits: torch.Tensor, items: Sequence[Item]) -> torch.Tensor:
    """Σ weight × binary cross-entropy (nats) of `logits` `[rows, width]` at the tokens of the rows' items."""
    rows = np.repeat(np.arange(len(items)), [len(item.tokens) for item in items])
    tokens, labels, weights = (
        torch.from_numpy(np.concatenate([np.asarray(item[field]) for item in items])).to(logits.device)
        for field in (2, 3, 4)
    )
    said = logits[torch.from_numpy(rows).to(logits.device), tokens].float()
    return (weights.float() * F.binary_cross_entropy_with_logits(said, labels.float(), reduction="none")).sum()


def balanced(items: Sequence[Item]) -> list[Item]:
    """The items of one question with equal total weight of right and wrong; those without weight are dropped."""
    right = sum(float(item.weights @ item.labels) for item in items)
    wrong = sum(float(item.weights @ (1 - item.labels)) for item in items)
    if min(right, wrong) <= 0:
        return []
    lighter = min(right, wrong)
    factors = [item.labels * lighter / right + (1 - item.labels) * lighter / wrong for item in items]
    return [item._replace(weights=item.weights * factor) for item, factor in zip(items, factors, strict=True)]


def _held_out(questions: Sequence[Question], share: float, seed: int) -> list[int]:
    """Rows of the questions kept back; rows with the same question stay together."""
    names = list(dict.fromkeys(question.id for question in questions))
    number = min(len(names) - 1, max(1, round(share * len(names)))) if share else 0
    order = np.random.default_rng([seed, len(names)]).permutation(len(names))
    kept = {names[place] for place in order[:number]}
    return [row for row, question in enumerate(questions) if question.id in kept]


def _distinct(group: Sequence[Rollout], chosen: Sequence[int]) -> list[int]:
    first = {group[number].completion.tobytes(): number for number in reversed(chosen)}
    return sorted(first.values())


def _check(
    questions: Sequence[Question],
    groups: Sequence[Sequence[Rollout]],
    labels: Sequence[Sequence[ArrayLike]] | None,
    config: OutcomeModelConfig,
) -> None:
    if len(questions) != len(groups):
        raise BadInput(f"groups: {len(groups)} for {len(questions)} questions; must be one for each")
    for place, group in enumerate(groups):
        if any("correct" not in rollout.scores for rollout in group):
            raise BadInput(f"groups: a rollout of question {place} is not graded; its scores must have 'correct'")
    if config.group_size > config.batch_size:
        raise BadInput(f"group_size = {config.group_size}: must be at most batch_size = {config.batch_size}")
    if labels is None:
        return
    if config.tokens != "step_ends":
        raise BadInput(f"tokens = {config.tokens!r}: must be 'step_ends' with labels of the steps")
    if [len(row) for row in labels] != [len(group) for group in groups]:
        raise BadInput("labels: must be one list for each question, one array for each of its rollouts")
    for place, (row, group) in enumerate(zip(labels, groups, strict=True)):
        for number, (each, rollout) in enumerate(zip(row, group, strict=True)):
            values, count = np.asarray(each, float), len(prefixes(rollout.text))
            if values.shape != (count,) or not np.isin(values, (0, 1)).all():
                where = f"labels: question {place}, rollout {number}"
                raise BadInput(f"{where}: must be {count} numbers 0 or 1, one for each prefix")
