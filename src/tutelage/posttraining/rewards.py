"""Verifiable rewards and where they stand: at the end of a step, or at the last token.

A reward is any function of texts and references; these are the plain ones. Rewards of one solution are pairs
(characters of the text up to where it is earned, amount), which `place` puts on tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from tutelage.lab.errors import BadInput
from tutelage.posttraining.grading.answers import Answer, read_answer, same_answer
from tutelage.posttraining.grading.solutions import Step, steps

Earned = list[tuple[int, float]]
"""(Characters of the text up to where it is earned, amount), in order."""


def sparse(text: str, answer: Answer, *, finished: bool = True) -> Earned:
    """1 at the end of the text if the final answer is right, else 0. A truncated solution (`finished` false) gets 0."""
    ours = read_answer(text) if finished else None
    return [(len(text), float(ours is not None and same_answer(ours, answer)))]


def step_credits(
    found: Sequence[Step],
    reference: Sequence[Fraction],
    *,
    answer: Fraction,
    given: Sequence[Fraction] = (),
    alpha: float = 0.5,
) -> list[float]:
    """What each step of a solution earns for reaching an intermediate result of the reference solution.

    Results are matched as multisets, in any order: each of the L results of the reference pays alpha/L once, to the
    first step that reaches it. Nothing is paid for the final answer (that is the sparse reward's), for wrong equations,
    for a result that is one of the step's own operands (`12 + 0 = 12`), nor for numbers of the question, which can be
    copied: `given`.

    Args:
        reference: results of all steps of the reference solution, the answer's among them.
        alpha: what all L results would pay together, ≥ 0.
    """
    if not alpha >= 0 or alpha == float("inf"):
        raise BadInput(f"alpha: {alpha}; must be a finite number of at least 0")
    left = Counter(value for value in reference if value != answer and value not in given)
    credits = []
    for step in found:
        earned = step.correct and left[step.value] > 0 and step.value not in step.operands
        left[step.value] -= earned
        credits.append(alpha / len(reference) if earned else 0.0)
    return credits


def dense(
    text: str,
    answer: Answer,
    reference: Sequence[Fraction],
    *,
    given: Sequence[Fraction] = (),
    alpha: float = 0.5,
    potential: bool = False,
    finished: bool = True,
) -> Earned:
    """The sparse reward, and credit at the end of each step that reaches an intermediate result (`step_credits`).

    With `potential` the credit is a potential that is paid back at the end, Φ(end) = 0: the shaping telescopes to
    exactly zero for every solution, so the ranking of solutions, hence the optimum, is that of the sparse reward.

    References: Ng, Harada & Russell (1999), Policy invariance under reward transformations.
    """
    found = steps(text)
    credits = step_credits(found, reference, answer=answer.value, given=given, alpha=alpha)
    earned = [(step.end, credit) for step, credit in zip(found, credits) if credit]
    [(end, right)] = sparse(text, answer, finished=finished)
    return [*earned, (end, right - sum(credits) if potential else right)]


def differences(values: ArrayLike, start: float = 0.0) -> np.ndarray:
    """p_i − p_{i−1} with p_0 = `start`: step scores `[L]` as rewards that sum to p_L − `start`, however long it is."""
    return np.diff(np.asarray(values, dtype=np.float64), prepend=start)


def place(earned: Earned, offsets: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
    """Rewards `[T]` per token of a completion.

    A reward earned by the end of the text stands on the last real token (the end-of-sequence token, if there is one);
    one that is earned before on the token that holds the last character of what earned it. Rewards of one token add
    up.

    Args:
        earned: of a text whose characters the offsets count.
        offsets: `[T, 2]` first character and one past the last of each token; equal for tokens without text.
        mask: `[T]`, true for real tokens, false for padding. All are real by default.

    Raises:
        BadInput: rewards without any real token, a reward that is not finite, or shapes that do not fit.
    """
    spans = np.asarray(offsets, dtype=np.int64)
    if spans.ndim != 2 or spans.shape[1] != 2:
        raise BadInput(f"offsets: got shape {spans.shape}; must be [tokens, 2]")
    real = np.ones(len(spans), bool) if mask is None else np.asarray(mask, dtype=bool)
    if real.shape != spans.shape[:1]:
        raise BadInput(f"mask: got shape {real.shape}; must be {spans.shape[:1]}, one for each token")
    tokens = np.flatnonzero(real)
    if earned and not len(tokens):
        raise BadInput("mask: no real token to place a reward on")
    rewards = np.zeros(len(spans))
    check_rewards([amount for _, amount in earned], len(earned))
    if earned:
        ends, amounts = zip(*earned)
        np.add.at(rewards, tokens[tokens_at(spans[tokens], ends)], amounts)
    return rewards


def tokens_at(offsets: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """For each end (characters of the text) the token that stands for the text up to there: `place`'s rule.

    Args:
        offsets: `[T, 2]` of a completion's tokens, T ≥ 1.
    """
    written = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    total = int(offsets[written, 1].max(initial=0))
    before = np.searchsorted(offsets[written, 0], ends) - 1
    last = (np.asarray(ends) >= total) | (before < 0)
    return np.where(last, len(offsets) - 1, written[before] if len(written) else 0)


def check_rewards(rewards: ArrayLike, count: int) -> np.ndarray:
    """The rewards of `count` samples as float64 `[count]`, whoever's function computed them.

    Raises:
        BadInput: another number of them, or one that is not finite (its index is given).
    """
    array = np.asarray(rewards, dtype=np.float64)
    if array.shape != (count,):
        raise BadInput(f"reward: got shape {array.shape}; must be {(count,)}, one number for each sample")
    if not np.isfinite(array).all():
        wrong = int(np.flatnonzero(~np.isfinite(array))[0])
        raise BadInput(f"reward: {array[wrong]} for sample {wrong}; must be finite")
    return array
