"""Figures over a pool of n sampled answers per question: pass@k, maj@k, rerank@k for every k ≤ n from one pool.

Each figure is an expectation over the C(n, k) subsets of k samples drawn without replacement, computed in closed form
(not by resampling): the unbiased estimate of what k fresh samples would give. All functions return one value per
question, `[Q, K]`; `over_questions` averages them with an interval.

Samples of a question are exchangeable, so no figure depends on their order. Ties are split evenly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from tutelage.lab.bootstrap import Interval, bootstrap, mean
from tutelage.lab.errors import BadInput

MOST_SAMPLES = 1000
"""The largest pool of `maj_at_k`: C(n, n/2) must be a finite double."""

_BLOCK = 32_768
"""Numbers held at once by the vote's polynomials."""


def answer_ids(answers: Sequence[Sequence[Any]]) -> Int[np.ndarray, "Q n"]:
    """Answers of any hashable kind as integers: equal within a question exactly where the answers are; None is −1."""
    rows = []
    for question in answers:
        seen: dict[Any, int] = {}
        rows.append([-1 if answer is None else seen.setdefault(answer, len(seen)) for answer in question])
    if len({len(row) for row in rows}) != 1:
        raise BadInput(f"answers: {len(rows)} questions with {sorted({len(r) for r in rows})} samples; must be equal")
    return np.asarray(rows, dtype=np.int64)


def pass_at_k(correct: ArrayLike, ks: Sequence[int] | None = None) -> Float[np.ndarray, "Q K"]:
    """The probability that any of k samples is correct: 1 − C(n − c, k) / C(n, k), c = number correct.

    Args:
        correct: `[Q, n]`, whether each sample is correct.
        ks: the subset sizes, each in [1, n]; all of 1..n by default.

    References: Chen et al. (2021), Evaluating Large Language Models Trained on Code, arXiv 2107.03374.
    """
    right = _pool("correct", correct, bool)
    sizes = _sizes(ks, right.shape[1])
    return 1 - _missed(right.sum(axis=1), right.shape[1])[:, sizes]


def maj_at_k(answers: ArrayLike, correct: ArrayLike, ks: Sequence[int] | None = None) -> Float[np.ndarray, "Q K"]:
    """The probability that a correct answer wins the uniform vote of k samples.

    Samples without an answer do not vote; t answers tied for the most votes win with probability 1/t each; a draw
    without any vote is wrong.

    For an answer with c votes the sum goes over its s ≥ 1 drawn votes. Every other answer a contributes the generating
    polynomial Σ_{j<s} C(n_a, j) xʲ + y C(n_a, s) xˢ, where y marks a tie; as 1/(t + 1) = ∫₀¹ yᵗ dy, the even split is
    Gauss-Legendre quadrature in y, which is exact here. All terms are positive: the relative error is about n ulps.

    Args:
        answers: `[Q, n]` integers, equal where the answers are; negative for an unparsed answer (see `answer_ids`).
        correct: `[Q, n]`; all samples with the same answer to a question must agree.
        ks: the subset sizes, each in [1, n]; all of 1..n by default.

    Raises:
        BadInput: pools of one sample (there is nothing to vote on) or of more than 1000; an answer both right and
            wrong; k outside [1, n].
    """
    ids, right = _votable(answers, correct)
    num_samples = ids.shape[1]
    sizes = _sizes(ks, num_samples)
    if num_samples > MOST_SAMPLES:
        raise BadInput(f"answers: {num_samples} samples per question; at most {MOST_SAMPLES}")
    # The probability depends only on the counts: (votes of the answer, the others' votes in decreasing order).
    places: dict[tuple[int, ...], int] = {}
    rows, columns = [], []
    for row in range(len(ids)):
        voted, first, counts = np.unique(ids[row], return_index=True, return_counts=True)
        first, counts = first[voted >= 0], counts[voted >= 0].tolist()
        for winner in np.flatnonzero(right[row, first]).tolist():
            others = sorted(counts[:winner] + counts[winner + 1 :], reverse=True)
            rows.append(row)
            columns.append(places.setdefault((counts[winner], *others), len(places)))
    figure = np.zeros((len(ids), num_samples + 1))
    if places:
        wins = _plurality(list(places), num_samples, max(sizes))
        np.add.at(figure, rows, wins[columns])
    return figure[:, sizes]


def rerank_at_k(scores: ArrayLike, correct: ArrayLike, ks: Sequence[int] | None = None) -> Float[np.ndarray, "Q K"]:
    """The probability that the best-scored of k samples is correct: Σᵢ okᵢ C(n − i, k − 1) / C(n, k), i = rank.

    Samples of equal score share their rank: each stands for the mean correctness of all of them.

    Args:
        scores: `[Q, n]`, higher is better, not NaN.
        correct, ks: as in `pass_at_k`.
    """
    score, right = _scored(scores, correct)
    num_samples = right.shape[1]
    sizes = np.asarray(_sizes(ks, num_samples))
    order = np.argsort(-score, axis=1)
    score, ok = np.take_along_axis(score, order, 1), np.take_along_axis(right, order, 1).ravel()
    starts = np.ones(score.shape, bool)
    starts[:, 1:] = score[:, 1:] != score[:, :-1]
    group = np.cumsum(starts.ravel()) - 1
    fair = (np.bincount(group, ok) / np.bincount(group))[group].reshape(score.shape)
    # P(the i-th best is the best drawn): k/n for i = 1, then times (n − i − k + 1) / (n − i); never overflows.
    above = np.arange(1, num_samples)[:, None]
    ratio = np.maximum(num_samples - above - sizes + 1, 0) / (num_samples - above)
    weight = np.cumprod(np.concatenate([sizes[None] / num_samples, ratio]), axis=0)
    return fair @ weight


def weighted_vote_at_k(
    answers: ArrayLike,
    scores: ArrayLike,
    correct: ArrayLike,
    ks: Sequence[int] | None = None,
    *,
    num_draws: int = 1000,
    seed: int = 0,
) -> Float[np.ndarray, "Q K"]:
    """The probability that a correct answer has the largest sum of scores among k samples; ties split evenly.

    Sums of real scores have no closed form. All C(n, k) subsets are enumerated where they are at most `num_draws`
    (always for k = n: the plain weighted vote); otherwise the mean over `num_draws` random subsets is returned, with a
    standard error of at most 0.5/√num_draws per question. `ks` defaults to the powers of two and n.

    Args:
        scores: `[Q, n]` weights ≥ 0, such as probabilities of being correct.
        answers, correct: as in `maj_at_k`.
    """
    ids, right = _votable(answers, correct)
    weight, _ = _scored(scores, right)
    num_samples = ids.shape[1]
    if (weight < 0).any() or np.isinf(weight).any():
        wrong = weight[(weight < 0) | np.isinf(weight)][0]
        raise BadInput(
            f"scores: {wrong:g} is not a weight; must be finite and at least 0 (take exp of log-probabilities)"
        )
    sizes = _sizes([2**i for i in range(num_samples.bit_length())] if ks is None else ks, num_samples)
    if ks is None and num_samples not in sizes:
        sizes = [*sizes, num_samples]
    rng = np.random.default_rng(seed)
    figure = np.empty((len(ids), len(sizes)))
    for column, size in enumerate(sizes):
        drawn = _subsets(rng, num_samples, size, num_draws)
        for row in range(len(ids)):
            figure[row, column] = _weighted_vote(ids[row], weight[row], right[row], drawn)
    return figure


def unique_at_k(keys: ArrayLike, correct: ArrayLike, ks: Sequence[int] | None = None) -> Float[np.ndarray, "Q K"]:
    """The expected number of different correct solutions among k samples; at k = n the plain count.

    Args:
        keys: `[Q, n]` integers, equal where two solutions count as the same (see `answer_ids`); negative ones, of
            solutions without a key, are not counted.
        correct, ks: as in `pass_at_k`.
    """
    ids, right = _pool("keys", keys, np.int64), _pool("correct", correct, bool)
    _same_shape("correct", right, "keys", ids)
    num_samples = ids.shape[1]
    sizes = _sizes(ks, num_samples)
    found = 1 - _missed(np.arange(num_samples + 1), num_samples)[:, sizes]
    figure = np.zeros((len(ids), len(sizes)))
    for row in range(len(ids)):
        _, counts = np.unique(ids[row][right[row] & (ids[row] >= 0)], return_counts=True)
        figure[row] = found[counts].sum(axis=0)
    return figure


def novel_share(
    keys: Sequence[Sequence[Any]], correct: ArrayLike, reference: Sequence[Sequence[Any]], *, distinct: bool = False
) -> Float[np.ndarray, "Q"]:
    """The share of correct solutions whose key is not among the question's keys of the reference pool.

    A question without a correct solution is NaN. `distinct` counts every key once. Only figures against reference
    pools of one size compare: the more the start policy was sampled, the less is new.
    """
    right = _pool("correct", correct, bool)
    if len(keys) != len(right) or len(reference) != len(right):
        raise BadInput(f"reference: {len(reference)} questions against {len(keys)}; must be the same questions")
    shares = np.full(len(right), np.nan)
    for row, known in enumerate(map(set, reference)):
        if len(keys[row]) != right.shape[1]:
            raise BadInput(f"keys: {len(keys[row])} for question {row}; must be {right.shape[1]}, one for each sample")
        ours: Any = [key for key, ok in zip(keys[row], right[row]) if ok]
        ours = set(ours) if distinct else ours
        if ours:
            shares[row] = sum(key not in known for key in ours) / len(ours)
    return shares


def question_auc(scores: ArrayLike, correct: ArrayLike) -> Float[np.ndarray, "Q"]:
    """How well the scores rank within each question: P(a correct sample scores above a wrong one), ties one half.

    NaN for questions whose samples are all right or all wrong. Unlike one AUC over all samples it cannot be won by
    telling easy questions from hard ones.
    """
    score, right = _scored(scores, correct)
    ranked = np.sort(score, axis=1)
    # The mean rank of equal scores is the middle of the places that they take.
    rank = np.stack([np.searchsorted(r, s, "left") + np.searchsorted(r, s, "right") + 1 for r, s in zip(ranked, score)])
    positives = right.sum(axis=1)
    pairs = positives * (right.shape[1] - positives)
    u = np.where(right, rank / 2, 0).sum(axis=1) - positives * (positives + 1) / 2
    return np.where(pairs > 0, u / np.maximum(pairs, 1), np.nan)


def over_questions(
    figures: ArrayLike, *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean over questions, `[Q, ...] -> [...]`, with a bootstrap interval over the questions.

    Questions where a figure is undefined (NaN) are left out of it. The interval is about other questions like these;
    it does not hold the spread between training runs.
    """
    values = np.asarray(figures, dtype=np.float64)
    if values.ndim == 0:
        raise BadInput("figures: a single number; must have one row per question")
    defined = values[~np.isnan(values).reshape(len(values), -1).any(axis=1)]
    if len(values) and not len(defined):
        nothing = np.full(values.shape[1:], np.nan)
        return Interval(nothing, nothing, nothing)
    return bootstrap(mean, defined, confidence=confidence, num_resamples=num_resamples, seed=seed)


def _missed(counts: np.ndarray, num_samples: int) -> np.ndarray:
    """C(n − c, k) / C(n, k), the running product of (n − c − i) / (n − i), for every c and k: `[counts, n + 1]`."""
    drawn = np.arange(num_samples)
    ratio = np.maximum(num_samples - counts[:, None] - drawn, 0) / (num_samples - drawn)
    return np.cumprod(np.concatenate([np.ones((len(counts), 1)), ratio], axis=1), axis=1)


def _plurality(profiles: list[tuple[int, ...]], num_samples: int, most: int) -> np.ndarray:
    """P(the first of the counts wins the vote of k samples) for k = 0..n, `[profiles, n + 1]`, for k ≤ `most`."""
    width = max(map(len, profiles))
    counts = np.array([(*profile, *[0] * (width - len(profile))) for profile in profiles])
    own, others = counts[:, 0], counts[:, 1:]
    choose = _pascal(num_samples)
    wins = np.zeros((len(counts), num_samples + 1))
    for votes in range(1, min(int(own.max()), most) + 1):
        rivals = (others >= votes).sum(axis=1)
        active = np.flatnonzero(own >= votes)
        active = active[np.argsort(-rivals[active], kind="stable")]
        degree = most - votes
        while len(active):
            # Blocks that stay in the cache, of profiles with about as many rivals: these set the number of nodes.
            ties = min(int(rivals[active[0]]), degree // votes)
            block, active = np.split(active, [max(1, _BLOCK // ((ties // 2 + 1) * (degree + 1)))])
            draws = _below_or_tied(others[block], rivals[block], own[block], votes, degree, ties, choose)
            wins[block, votes : most + 1] += choose[own[block], votes, None] * draws
    return wins / choose[num_samples]


def _below_or_tied(
    others: np.ndarray, rivals: np.ndarray, own: np.ndarray, votes: int, degree: int, ties: int, choose: np.ndarray
) -> np.ndarray:
    """Draws of 0..degree samples not of the own answer in which none has more than `votes`, each over 1 + its ties.

    Answers with fewer than `votes` samples can be drawn at will, as the unparsed can: they are one binomial.
    """
    node, mass = np.polynomial.legendre.leggauss(ties // 2 + 1)
    node, mass = (node + 1) / 2, mass / 2
    free = len(choose) - 1 - own - np.where(others >= votes, others, 0).sum(axis=1)
    poly = np.repeat(choose[free, None, : degree + 1], len(node), axis=1)  # [block, nodes, degree + 1]
    for rank in range(int(rivals[0])):
        reach = int((rivals > rank).sum())
        before, held = poly[:reach], others[:reach, rank]
        after = before.copy()
        for drawn in range(1, min(votes, degree + 1)):
            after[..., drawn:] += choose[held, drawn, None, None] * before[..., : degree + 1 - drawn]
        if votes <= degree:
            after[..., votes:] += choose[held, votes, None, None] * node[:, None] * before[..., : degree + 1 - votes]
        poly[:reach] = after
    return mass @ poly


@lru_cache(maxsize=8)
def _pascal(size: int) -> np.ndarray:
    """C(i, j) for 0 ≤ i, j ≤ size."""
    table = np.zeros((size + 1, size + 1))
    table[:, 0] = 1
    for row in range(1, size + 1):
        table[row, 1:] = table[row - 1, 1:] + table[row - 1, :-1]
    return table


def _weighted_vote(ids: np.ndarray, weight: np.ndarray, right: np.ndarray, drawn: np.ndarray) -> float:
    """The mean over the subsets `drawn [B, n]` of the share of correct answers among those with the largest sum."""
    voted, first, answer = np.unique(ids, return_index=True, return_inverse=True)
    member = (answer[:, None] == np.flatnonzero(voted >= 0)).astype(np.float64)  # [n, answers]
    present = drawn @ member > 0
    total = np.where(present, drawn @ (weight[:, None] * member), -np.inf)
    best = total.max(axis=1, keepdims=True, initial=-np.inf)
    # Sums of the same scores in another order differ by rounding.
    won = present & (total >= best - 1e-12 * np.abs(best, where=np.isfinite(best), out=np.zeros_like(best)))
    fair = (won @ right[first[voted >= 0]].astype(np.float64)) / np.maximum(won.sum(axis=1), 1)
    return float(fair.mean())


def _subsets(rng: np.random.Generator, num_samples: int, size: int, num_draws: int) -> np.ndarray:
    """Every subset of that size if they are few, else random ones: `[B, n]` of zeros and ones."""
    if math.comb(num_samples, size) <= num_draws:
        chosen = np.array(list(combinations(range(num_samples), size)))
    else:
        chosen = np.argsort(rng.random((num_draws, num_samples)), axis=1)[:, :size]
    drawn = np.zeros((len(chosen), num_samples))
    np.put_along_axis(drawn, chosen, 1, axis=1)
    return drawn


def _pool(name: str, values: ArrayLike, kind: type) -> np.ndarray:
    """`[Q, n]` of that kind."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise BadInput(f"{name}: rows of different lengths; must be [questions, samples]") from None
    if array.ndim != 2 or array.shape[1] == 0:
        raise BadInput(f"{name}: got shape {array.shape}; must be [questions, samples], at least one sample")
    if kind is bool and array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise BadInput(f"{name}: must be true or false (1 or 0) for every sample")
    if kind is np.int64 and not np.issubdtype(array.dtype, np.integer):
        raise BadInput(f"{name}: got {array.dtype}; must be integers (answer_ids makes them)")
    return array.astype(kind)


def _same_shape(name: str, array: np.ndarray, other: str, than: np.ndarray) -> None:
    if array.shape != than.shape:
        raise BadInput(f"{name}: got shape {array.shape}; must be that of {other}, {than.shape}")


def _votable(answers: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    ids, right = _pool("answers", answers, np.int64), _pool("correct", correct, bool)
    _same_shape("correct", right, "answers", ids)
    _several("answers", ids)
    if (right & (ids < 0)).any():
        raise BadInput("correct: a sample without an answer is marked correct; unparsed samples are wrong")
    order = np.argsort(ids, axis=1, kind="stable")
    ranked, ok = np.take_along_axis(ids, order, 1), np.take_along_axis(right, order, 1)
    mixed = ((ranked[:, 1:] == ranked[:, :-1]) & (ok[:, 1:] != ok[:, :-1])).any(axis=1)
    if mixed.any():
        raise BadInput(f"correct: question {mixed.argmax()} has an answer marked both right and wrong")
    return ids, right


def _scored(scores: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    score, right = _pool("scores", scores, np.float64), _pool("correct", correct, bool)
    _same_shape("scores", score, "correct", right)
    _several("scores", score)
    if np.isnan(score).any():
        question, sample = np.argwhere(np.isnan(score))[0]
        raise BadInput(f"scores: no score for sample {sample} of question {question}; every sample needs one")
    return score, right


def _several(name: str, pool: np.ndarray) -> None:
    if pool.shape[1] < 2:
        raise BadInput(f"{name}: pools of 1 sample; a vote or a choice needs at least 2")


def _sizes(ks: Sequence[int] | None, num_samples: int) -> list[int]:
    sizes = list(range(1, num_samples + 1)) if ks is None else [int(k) for k in ks]
    for k in sizes:
        if not 1 <= k <= num_samples:
            raise BadInput(f"ks: k = {k} from pools of {num_samples} samples; must be in [1, {num_samples}]")
    if not sizes:
        raise BadInput("ks: empty; must name at least one k")
    return sizes
