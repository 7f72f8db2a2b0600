"""The figures of an evaluation, from one pool of n graded samples per question.

`maj@1` is greedy accuracy; pass@k, maj@k, rerank@k and weighted@k are exact expectations over the subsets of k samples
(`tutelage.measures.sampled_answers`); the rest says how many different right solutions there are, how new, and how
right their steps.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from tutelage.lab.bootstrap import Interval
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.measures.sampled_answers import (
    answer_ids,
    maj_at_k,
    novel_share,
    over_questions,
    pass_at_k,
    rerank_at_k,
    unique_at_k,
    weighted_vote_at_k,
)
from tutelage.posttraining.grading.solutions import solution_key, steps
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.wordmath.problems import Problem
from tutelage.posttraining.wordmath.solutions import mark_steps

Table = dict[str, np.ndarray]
"""Figures by name, `[Q]`: one value per question; NaN where a question leaves it undefined."""


def check_evaluation(
    ks: Sequence[int], num_samples: int, *, temperature: float = 1.0, rerank: bool = False, reranker: object = None
) -> None:
    """That these figures can be had from such pools; to be called before anything is sampled.

    Args:
        rerank: whether rerank@k is asked for; then there must be a `reranker`.

    Raises:
        BadInput: k of 1 (nothing to vote on or to choose from) or above the pool's size; temperature 0 with several
            samples; no reranker where one is needed.
    """
    if num_samples < 2:
        raise BadInput(f"num_samples: {num_samples}; a vote or a choice among samples needs at least 2")
    if not ks:
        raise BadInput("ks: empty; must name at least one k")
    for k in ks:
        if not 2 <= k <= num_samples:
            raise BadInput(
                f"ks: k = {k} from pools of {num_samples} samples; must be in [2, {num_samples}]"
                + " (of a single sample there is `correct`, the mean accuracy)" * (k == 1)
            )
    if temperature == 0:
        raise BadInput(
            f"temperature: 0 with {num_samples} samples gives the same one {num_samples} times; must be above 0"
        )
    if rerank and reranker is None:
        raise BadInput("rerank: needs an outcome reward model to score samples with; train one, or leave rerank out")


def question_table(
    questions: Sequence[Question],
    groups: Sequence[Sequence[Rollout]],
    greedy: Sequence[Rollout] | None = None,
    *,
    ks: Sequence[int],
    reranker: ArrayLike | None = None,
    start_keys: Sequence[Sequence[Hashable | None]] | None = None,
) -> Table:
    """Every figure of every question, by name.

    `maj@1`: greedy accuracy. `pass@k`, `maj@k`, and with a reranker `rerank@k` and `weighted@k`: for each k. `correct`:
    share of right samples. `unique_exact`, `unique_normalised`, `unique_equation`: how many different right solutions
    are among the n, by token ids, by text up to white space and number format, by equations; `unique@k` is the last one
    among k of them, so that pools of different sizes compare. `novel`: share of the
    right solutions whose equations are not among those of the start policy. `coverage`: share of all right equation
    lists of a generated problem that were found. `truncated`: share of samples cut off. `length`: mean tokens.
    `step_accuracy`: share of right steps, right for the problem where it is known, otherwise right as equations.

    Solutions without an equation, or with a wrong one, have no equation key: they are neither unique nor novel by it.

    Args:
        groups: `[Q][n]` graded rollouts (`tutelage.posttraining.rollouts.graded`). greedy: `[Q]`.
        reranker: `[Q, n]` probabilities of being right, as scores to choose and weights to vote by.
        start_keys: `[Q][m]` from `equation_keys`; pools of one size m compare.

    Raises:
        BadInput: see `check_evaluation`; groups of different sizes or of other questions; rollouts that are not graded.
    """
    correct = _correct(questions, groups)
    check_evaluation(ks, correct.shape[1])
    votes = answer_ids(
        [
            [_RIGHT if right else each.answer for each, right in zip(group, row)]
            for group, row in zip(groups, correct.tolist())
        ]
    )
    table: Table = {}
    if greedy is not None:
        table["maj@1"] = _correct(questions, [[each] for each in greedy])[:, 0].astype(np.float64)
    at_k = {"pass": pass_at_k(correct, ks), "maj": maj_at_k(votes, correct, ks)}
    if reranker is not None:
        at_k["rerank"] = rerank_at_k(reranker, correct, ks)
        at_k["weighted"] = weighted_vote_at_k(votes, reranker, correct, ks, num_draws=_VOTE_DRAWS)
    table |= {f"{name}@{k}": columns[:, place] for name, columns in at_k.items() for place, k in enumerate(ks)}
    table["correct"] = correct.mean(axis=1)
    keys = [
        [(each.completion.tobytes(), *_keys(each.text)) if right else (None,) * 3 for each, right in zip(group, row)]
        for group, row in zip(groups, correct.tolist())
    ]
    for place, level in enumerate(("exact", "normalised", "equation")):
        ids = answer_ids([[key[place] for key in row] for row in keys])
        table[f"unique_{level}"] = unique_at_k(ids, correct, [correct.shape[1]])[:, 0]
    equations = [[key[2] for key in row] for row in keys]
    unique = unique_at_k(answer_ids(equations), correct, ks)
    table |= {f"unique@{k}": unique[:, place] for place, k in enumerate(ks)}
    if start_keys is not None:
        keyed = np.array([[key is not None for key in row] for row in equations])
        table["novel"] = novel_share(equations, keyed, start_keys)
    table["coverage"] = np.array([_coverage(question, row) for question, row in zip(questions, equations)])
    table["truncated"] = np.array([np.mean([each.finish_reason == "length" for each in group]) for group in groups])
    table["length"] = np.array([np.mean([len(each.completion) for each in group]) for group in groups])
    table["step_accuracy"] = np.array([_step_accuracy(*pair) for pair in zip(questions, groups)])
    return table


def figures(
    questions: Sequence[Question],
    groups: Sequence[Sequence[Rollout]],
    greedy: Sequence[Rollout] | None = None,
    *,
    ks: Sequence[int],
    reranker: ArrayLike | None = None,
    start_keys: Sequence[Sequence[Hashable | None]] | None = None,
) -> dict[str, float]:
    """The means over questions of `question_table`; finite: a figure that no question defines is left out."""
    return means(question_table(questions, groups, greedy, ks=ks, reranker=reranker, start_keys=start_keys))


def means(table: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean of each figure over the questions that define it; a figure that none does is left out."""
    return {name: float(np.nanmean(values)) for name, values in table.items() if not np.isnan(values).all()}


def intervals(
    table: Mapping[str, np.ndarray], *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """The figures of `means`, each with a bootstrap interval over questions (`over_questions`)."""
    found: dict[str, Interval] = {}
    defined = {name: values for name, values in table.items() if not np.isnan(values).all()}
    whole = [name for name, values in defined.items() if not np.isnan(values).any()]
    options = {"confidence": confidence, "num_resamples": num_resamples, "seed": seed}
    if whole:
        together = over_questions(np.stack([defined[name] for name in whole], axis=1), **options)
        found = {name: Interval(*(bound[place] for bound in together)) for place, name in enumerate(whole)}
    found |= {name: over_questions(values, **options) for name, values in defined.items() if name not in found}
    return {name: found[name] for name in defined}


def equation_keys(groups: Sequence[Sequence[Rollout]]) -> list[list[Hashable | None]]:
    """The equation key of every sample, right or wrong; of the start policy's pool it is what `novel` is judged by."""
    return [[_keys(each.text)[1] for each in group] for group in groups]


_RIGHT = object()
_VOTE_DRAWS = 200
"""Subsets of which the weighted vote is the mean: a standard error of at most 0.035 a question, 0.0025 over 200."""


def _correct(questions: Sequence[Question], groups: Sequence[Sequence[Rollout]]) -> np.ndarray:
    """`[Q, n]`, whether each sample is right."""
    if len(groups) != len(questions) or not questions:
        raise BadInput(f"groups: {len(groups)} for {len(questions)} questions; must be one for each, at least one")
    for place, (question, group) in enumerate(zip(questions, groups)):
        if len(group) != len(groups[0]):
            raise BadInput(
                f"groups: {len(group)} samples of question {place}, {len(groups[0])} of question 0; must be equal"
            )
        for each in group:
            if each.question != question.id:
                raise BadInput(
                    f"groups: a sample of question {each.question} among those of question {place}, {question.id}"
                )
            if "correct" not in each.scores:
                raise BadInput(f"groups: a sample of question {place} is not graded; see rollouts.graded")
    return np.array([[each.scores["correct"] == 1.0 for each in group] for group in groups])


@lru_cache(maxsize=1 << 16)
def _keys(text: str) -> tuple[Hashable, Hashable | None]:
    """The normalised and the equation key of a solution."""
    return solution_key(text, "normalised"), solution_key(text, "equation")


@lru_cache(maxsize=1 << 12)
def _right_keys(problem: Problem) -> frozenset[tuple[str, ...]]:
    return frozenset(problem.equation_keys())


def _coverage(question: Question, keys: Sequence[Hashable | None]) -> float:
    if question.problem is None:
        return float("nan")
    known = _right_keys(question.problem)
    return len(known.intersection(keys)) / len(known)  # type: ignore[arg-type]


def _step_accuracy(question: Question, group: Sequence[Rollout]) -> float:
    marks = [mark for each in group for mark in _marks(question.problem, each.text)]
    return sum(marks) / len(marks) if marks else float("nan")


@lru_cache(maxsize=1 << 16)
def _marks(problem: Problem | None, text: str) -> tuple[bool, ...]:
    return tuple(step.correct for step in steps(text)) if problem is None else tuple(mark_steps(problem, text))
