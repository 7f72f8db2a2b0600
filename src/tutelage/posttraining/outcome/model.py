"""Outcome reward models: the probability that a solution, or the beginning of one, ends in the right answer.

    groups = Rollouts(sampling, seed).draw(start, questions, 32, stage="outcome")   # of the *start* policy
    orm = OutcomeModel.train(start, questions, groups, OutcomeModelConfig(), seed=0)
    orm.figures["auc"]                                   # on questions that were held out
    orm.scores(questions, rollouts), orm.step_scores(questions, rollouts)
    reward = stepwise_outcome_reward(orm)                # for any learner that takes a reward

It is trained on samples of the start policy, not of the policy that it later judges, and judges best on questions that
it was not trained on (`check_unseen`): most samples are easy, so accuracy flatters it; look at the AUC per question.

References: Cobbe et al. (2021), Training Verifiers to Solve Math Word Problems, arXiv 2110.14168.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from tutelage.lab.configuration import from_json, to_json
from tutelage.lab.errors import BadInput
from tutelage.lm import folders
from tutelage.lm.pools import Rollout
from tutelage.lm.training.adapters import merge
from tutelage.lm.training.distributed import without_gradient
from tutelage.lm.training.shared_prefix import read_states
from tutelage.posttraining.config import OutcomeModelConfig
from tutelage.posttraining.outcome.training import OutcomeTraining, prefixes
from tutelage.posttraining.policy import Policy, spans
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rewards import Earned, differences, tokens_at
from tutelage.posttraining.rollouts import Reward

_HEAD, _RECORD = "head.safetensors", "outcome_model.json"


class OutcomeModel:
    """A causal language model whose last hidden state is read by a scalar head: p(correct | question, solution so far).

    Attributes:
        policy: the model, its tokenizer and how a question is put before it. The rollouts that it scores must have been
            drawn with the same tokenizer (control tokens added to that since are passed over).
        head: linear, from the width of the model to one logit.
        figures: of its training, see `OutcomeTraining`; empty before.
        seen: ids of the questions that it was trained on.
    """

    def __init__(
        self,
        policy: Policy,
        head: torch.nn.Linear,
        config: OutcomeModelConfig | None = None,
        figures: Mapping[str, float] | None = None,
        seen: frozenset[str] = frozenset(),
    ) -> None:
        self.policy, self.head, self.config = policy, head, config or OutcomeModelConfig()
        self.figures, self.seen = dict(figures or {}), seen
        self._vocabulary = len(policy.tokenizer)

    @classmethod
    def of(cls, start: Policy, config: OutcomeModelConfig | None = None) -> OutcomeModel:
        """Untrained, from a copy of a policy's model, an adapter worked into it; it says 0.5 of everything."""
        model = copy.deepcopy(start.model)
        model = merge(model) if hasattr(model, "peft_config") else model
        model.requires_grad_(True)
        width = model.get_output_embeddings().weight.shape[1]
        head = torch.nn.Linear(width, 1, device=model.device)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        return cls(replace(start, model=model.eval(), suffix=(), allowed=None), head, config)

    @classmethod
    def train(
        cls,
        start: Policy,
        questions: Sequence[Question],
        groups: Sequence[Sequence[Rollout]],
        config: OutcomeModelConfig | None = None,
        seed: int = 0,
        *,
        labels: Sequence[Sequence[ArrayLike]] | None = None,
    ) -> OutcomeModel:
        """From a start (the model that sampled, or the base) to the end of the training; see `OutcomeTraining`."""
        training = OutcomeTraining(cls.of(start, config), questions, groups, seed, labels=labels)
        state, figures = training.init(), {}
        while state["step"] < training.num_updates:
            state, figures = training.update(state)
        model: OutcomeModel = training.model
        model.figures = {**figures, **training.evaluate(state)}
        return model

    def logits(
        self, prompts: Sequence[np.ndarray], rows: Sequence[np.ndarray]
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """In batches of at most `micro_tokens`: which rows, and the logit `[rows, width]` at each of their tokens.

        With gradient. Rows with equal prompts share its reading; what stands beyond a row's end means nothing.
        """
        for batch in batches(prompts, rows, self.config.micro_tokens):
            heads = [prompts[group[0]].tolist() for group in batch]
            states, _ = read_states(
                self.policy.model, heads, [[rows[row].tolist() for row in group] for group in batch]
            )
            yield [row for group in batch for row in group], self.head(states.to(self.head.weight.dtype))[..., 0]

    def token_scores(self, questions: Sequence[Question], rollouts: Sequence[Rollout]) -> list[np.ndarray]:
        """For each rollout `[T]` the prediction at every token of it (control tokens passed over), in [0, 1]."""
        prompts, rows = self.inputs(questions, rollouts)
        keys = [(prompt.tobytes(), row.tobytes()) for prompt, row in zip(prompts, rows, strict=True)]
        first = {key: place for place, key in reversed(list(enumerate(keys)))}  # equal ones are read once
        read = sorted(first.values())
        found: dict[int, np.ndarray] = {}
        self.policy.model.eval()
        with without_gradient(self.policy.model):
            for places, logits in self.logits([prompts[place] for place in read], [rows[place] for place in read]):
                for place, row in zip(places, logits.sigmoid().double().cpu().numpy(), strict=True):
                    found[read[place]] = row[: len(rows[read[place]])]
        return [found[first[key]] for key in keys]

    def scores(self, questions: Sequence[Question], rollouts: Sequence[Rollout]) -> np.ndarray:
        """`[n]` predictions at the last token of each rollout of the question beside it."""
        return np.array([row[-1] for row in self.token_scores(questions, rollouts)])

    def scores_at(
        self, questions: Sequence[Question], rollouts: Sequence[Rollout], ends: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """For each rollout the predictions at the tokens where its text has so many characters (`rewards.place`)."""
        found = self.token_scores(questions, rollouts)
        _, rows = self.inputs(questions, rollouts)
        written = {row.tobytes(): row for row in rows}
        offsets = {key: spans(self.policy.tokenizer, row) for key, row in written.items()}
        return [
            values[tokens_at(offsets[row.tobytes()], places)]
            for values, row, places in zip(found, rows, ends, strict=True)
        ]

    def step_scores(self, questions: Sequence[Question], rollouts: Sequence[Rollout]) -> list[np.ndarray]:
        """For each rollout `[L]` predictions at its `prefixes`: the ends of its steps, and its own end, last."""
        return self.scores_at(questions, rollouts, [prefixes(rollout.text) for rollout in rollouts])

    def inputs(
        self, questions: Sequence[Question], rollouts: Sequence[Rollout]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """What is read of each rollout: the prompt as this model asks it, and the completion without control tokens."""
        if len(questions) != len(rollouts):
            raise BadInput(f"questions: {len(questions)} for {len(rollouts)} rollouts; must be one for each")
        asked = {question.id: question for question in questions}
        prompts = {name: self.policy.prompt(question) for name, question in asked.items()}
        rows = []
        for rollout in rollouts:
            known = rollout.completion[rollout.completion < self._vocabulary]
            rows.append(known if len(known) else np.array([self.policy.tokenizer.eos_token_id], np.int64))
        return [prompts[question.id] for question in questions], rows

    def check_unseen(self, questions: Sequence[Question]) -> None:
        """That none of the questions was trained on; for whoever ranks test samples.

        Raises:
            BadInput: one was.
        """
        known = [index for index, question in enumerate(questions) if question.id in self.seen]
        if known:
            raise BadInput(
                f"questions: the outcome model was trained on {len(known)} of them; the first is row {known[0]}: "
                f"{questions[known[0]].text[:60]!r}"
            )

    def save(self, folder: str | Path) -> Path:
        """Write it as a Hugging Face folder with the head beside the model, all or nothing (`lm.folders.save`)."""
        head = {name: tensor.detach().cpu().contiguous() for name, tensor in self.head.state_dict().items()}
        record = {"template": self.policy.template, "config": to_json(self.config), "figures": self.figures}
        record["seen"] = sorted(self.seen)
        extra = {_HEAD: save_tensors(head), _RECORD: record}
        return folders.save(self.policy.model, self.policy.tokenizer, folder, extra=extra)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> OutcomeModel:
        """What `save` wrote.

        Raises:
            BadInput: the folder is not there, or not an outcome model.
        """
        path = Path(folder)
        try:
            record = json.loads((path / _RECORD).read_bytes())
            tensors = load_tensors((path / _HEAD).read_bytes())
            head = torch.nn.Linear(tensors["weight"].shape[1], 1, device=device, dtype=tensors["weight"].dtype)
            head.load_state_dict(tensors)
            template, config = str(record["template"]), from_json(OutcomeModelConfig, record["config"])
            figures, seen = {str(k): float(v) for k, v in record["figures"].items()}, frozenset(record["seen"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise BadInput(f"{folder}: not an outcome model: {reason[:200]}") from error
        model, tokenizer = folders.load(path, device=device, dtype=dtype)
        return cls(Policy(model, tokenizer, template), head, config, figures, seen)


def batches(prompts: Sequence[np.ndarray], rows: Sequence[np.ndarray], max_tokens: int) -> Iterator[list[list[int]]]:
    """Places of rows, in groups of equal prompts, so that prompts and rows, padded, have at most `max_tokens` tokens.

    A prompt is counted once for each batch that it is in; a single row with its prompt may be longer. Long ones come
    first: what does not fit fails at once.
    """
    groups: dict[bytes, list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault(prompt.tobytes(), []).append(place)
    batch: list[list[int]] = []
    widest = longest = count = 0
    for group in sorted(groups.values(), key=lambda group: -len(prompts[group[0]])):
        inside = False  # whether the batch in the making has this prompt
        for place in sorted(group, key=lambda place: -len(rows[place])):
            long, wide = max(longest, len(prompts[place])), max(widest, len(rows[place]))
            if batch and (len(batch) + (not inside)) * long + (count + 1) * wide > max_tokens:
                yield batch
                batch, inside, count, long, wide = [], False, 0, len(prompts[place]), len(rows[place])
            if not inside:
                batch.append([])
            batch[-1].append(place)
            inside, count, longest, widest = True, count + 1, long, wide
    if batch:
        yield batch


def outcome_reward(model: OutcomeModel) -> Reward:
    """Sparse: the probability of being correct, at the last token; 0 for a truncated solution."""

    def reward(questions: Sequence[Question], rollouts: Sequence[Rollout]) -> list[Earned]:
        scores = model.scores(questions, rollouts)
        return [
            [(len(rollout.text), 0.0 if rollout.finish_reason == "length" else float(score))]
            for rollout, score in zip(rollouts, scores, strict=True)
        ]

    return reward


def stepwise_outcome_reward(model: OutcomeModel, *, potential: bool = True) -> Reward:
    """Dense: the probability of being correct at the end of each step and of the solution.

    Args:
        potential: pay differences p_i − p_{i−1}, p_0 = 0: whatever the number of steps they sum to p_L, which is what
            `outcome_reward` pays. False pays each p_i, whose sum grows with every further step: solutions get longer.

    The last p of a truncated solution is 0.
    """

    def reward(questions: Sequence[Question], rollouts: Sequence[Rollout]) -> list[Earned]:
        earned: list[Earned] = []
        for rollout, scores in zip(rollouts, model.step_scores(questions, rollouts), strict=True):
            if rollout.finish_reason == "length":
                scores = np.append(scores[:-1], 0.0)
            amounts = differences(scores) if potential else scores
            earned.append(list(zip(prefixes(rollout.text), amounts.tolist(), strict=True)))
        return earned

    return reward
