"""From graded rollouts to training data: which samples pass, which of them count as the same, and what is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tutelage.lab.errors import BadInput, nearest
from tutelage.lm.pools import Rollout
from tutelage.lm.training.batches import Example
from tutelage.posttraining.config import DEDUPLICATION, FILTERS
from tutelage.posttraining.grading.solutions import deduplicate, solution_key
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rewards import check_rewards
from tutelage.posttraining.rollouts import Reward, correct, flat


@dataclass(frozen=True, eq=False)
class Dataset:
    """Solutions to learn, the oldest first.

    Attributes:
        questions: `[N]` int64 index of the question that each answers.
        solutions: N arrays of token ids, the token that ended them included.
    """

    questions: np.ndarray
    solutions: list[np.ndarray]

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, np.ndarray]]) -> Dataset:
        """From pairs of a question's index and token ids."""
        return cls(np.array([index for index, _ in pairs], np.int64), [np.asarray(ids, np.int64) for _, ids in pairs])

    def __len__(self) -> int:
        return len(self.solutions)

    def pairs(self) -> list[tuple[int, np.ndarray]]:
        """The inverse of `of`."""
        return list(zip(self.questions.tolist(), self.solutions, strict=True))

    def examples(self, policy: Policy, questions: Sequence[Question]) -> list[Example]:
        """What the policy learns from it: its own prompt of each question, then the solution."""
        prompts = {index: policy.prompt(questions[index]) for index in set(self.questions.tolist())}
        return [Example(prompts[index], solution) for index, solution in self.pairs()]

    def tensors(self) -> dict[str, torch.Tensor]:
        """As a part of a learner's state: `questions` `[N]`, `lengths` `[N]`, `tokens` of all solutions in a row."""
        lengths = np.array([len(solution) for solution in self.solutions], np.int64)
        tokens = np.concatenate([np.zeros(0, np.int64), *self.solutions])
        arrays = {"questions": self.questions, "lengths": lengths, "tokens": tokens}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Any]) -> Dataset:
        """The inverse of `tensors`."""
        questions, lengths, tokens = (tensors[name].cpu().numpy() for name in ("questions", "lengths", "tokens"))
        return cls(questions, np.split(tokens, np.cumsum(lengths)[:-1]) if len(lengths) else [])


def passing(
    questions: Sequence[Question],
    groups: Sequence[Sequence[Rollout]],
    *,
    filter: str = "correct",
    threshold: float = 0.5,
    reward: Reward | None = None,
) -> list[list[Rollout]]:
    """The rollouts, `[questions][…]`, that may be learnt from; never one that was cut off before it ended.

    Args:
        filter: `correct` (by the reference answer), `reward` (whose rewards sum to `threshold` or more) or `both`.
        reward: asked about finished rollouts only, and with `both` about correct ones only.

    Raises:
        BadInput: an unknown filter, one that needs a reward that is not given, or a reward that is not finite.
    """
    if filter not in FILTERS:
        raise BadInput(f"filter = {filter!r}: must be one of {', '.join(FILTERS)}{nearest(filter, FILTERS)}")
    kept = [
        [each for each in group if each.finish_reason == "stop" and (filter == "reward" or correct(each))]
        for group in groups
    ]
    if filter == "correct":
        return kept
    if reward is None:
        raise BadInput(f"filter = {filter!r}: needs a reward")
    asked, candidates = flat(questions, kept)
    earned = reward(asked, candidates) if candidates else []
    totals = check_rewards([sum(amount for _, amount in each) for each in earned], len(candidates))
    good = iter((totals >= threshold).tolist())
    return [[each for each in group if next(good)] for group in kept]


def distinct(group: Sequence[Rollout], level: str) -> list[Rollout]:
    """Rollouts of one question without those that count as the same, in order.

    Args:
        level: `exact` (token ids), `normalised` or `equation` (`tutelage.posttraining.grading.solutions.solution_key`;
            a wrong equation rejects a solution), or `none` for all of them. Of several with one key that stays which
            has the largest summed edit distance, over token ids, to those that stay for the other keys.

    References: Yuan et al. (2023), Scaling Relationship on Learning Mathematical Reasoning with LLMs, arXiv 2308.01825.
    """
    if level not in DEDUPLICATION:
        raise BadInput(f"level = {level!r}: must be one of {', '.join(DEDUPLICATION)}{nearest(level, DEDUPLICATION)}")
    if level == "none":
        return list(group)
    keys = [key(each.completion, each.text, level) for each in group]
    return [group[place] for place in deduplicate([each.completion.tolist() for each in group], keys)]


def union(
    old: Dataset, new: Dataset, level: str, text: Callable[[np.ndarray], str] = lambda tokens: "", *, cap: int = 0
) -> Dataset:
    """All of `old`, then what of `new` is not the same as an older solution of the same question, in order.

    Args:
        level: as in `distinct`; with `none` nothing is the same. Nothing of `old` is dropped, whatever its key.
        text: of token ids, for the levels that compare texts.
        cap: most solutions of one question that are taken from `new`; 0: all.
    """

    def keyed(index: int, tokens: np.ndarray) -> tuple[int, Hashable]:
        return index, key(tokens, "" if level == "exact" else text(tokens), level)

    pairs, taken = old.pairs(), Counter[int]()
    seen = set() if level == "none" else {keyed(*pair) for pair in pairs}
    for index, tokens in new.pairs():
        if cap and taken[index] == cap:
            continue
        if level != "none":
            mark = keyed(index, tokens)
            if mark in seen or mark[1] is None:
                continue
            seen.add(mark)
        pairs.append((index, tokens))
        taken[index] += 1
    return Dataset.of(pairs)


def key(tokens: np.ndarray, text: str, level: str) -> Hashable | None:
    """What solutions share that count as the same at a level; None for one that is rejected."""
    return np.asarray(tokens, np.int64).tobytes() if level == "exact" else solution_key(text, level)  # type: ignore[arg-type]


def variety(group: Sequence[Rollout]) -> dict[str, int]:
    """How many distinct solutions one question's rollouts hold, by level; at `equation` only those without error."""
    texts = {key(each.completion, "", "exact"): each.text for each in group}
    keys = {level: {solution_key(text, level) for text in texts.values()} for level in ("normalised", "equation")}
    return {"exact": len(texts)} | {level: len(found - {None}) for level, found in keys.items()}
