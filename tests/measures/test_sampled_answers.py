"""The estimators against literal enumeration of all k-subsets, in exact fractions."""

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tutelage.lab.errors import BadInput
from tutelage.measures.sampled_answers import (
    answer_ids,
    maj_at_k,
    novel_share,
    over_questions,
    pass_at_k,
    question_auc,
    rerank_at_k,
    unique_at_k,
    weighted_vote_at_k,
)


def vote(answers, weights, right):
    """The chance that a correct answer wins, ties split evenly."""
    totals = Counter()
    for answer, weight in zip(answers, weights):
        if answer >= 0:
            totals[answer] += weight
    best = [answer for answer in totals if totals[answer] == max(totals.values())]
    return Fraction(sum(answer in right for answer in best), len(best)) if best else Fraction(0)


def best_scored(scores, ok):
    top = [o for s, o in zip(scores, ok) if s == max(scores)]
    return Fraction(sum(top), len(top))


def mean_over_subsets(figure, n, k):
    return sum((Fraction(figure(list(c))) for c in combinations(range(n), k)), Fraction(0)) / math.comb(n, k)


def random_pools(seed, count):
    """Pools of 2..10 samples: few or many answers, unparsed samples, equal scores, sometimes two right answers."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n = int(rng.integers(2, 11))
        answers = rng.integers(-1 if rng.random() < 0.7 else 0, rng.integers(1, n + 1), size=n)
        right = {0, 1} if rng.random() < 0.2 else {0}
        scores = rng.integers(0, rng.integers(2, 12), size=n)
        yield answers, np.isin(answers, list(right)), scores, right


@pytest.mark.parametrize("seed", range(4))
def test_estimators_equal_enumeration_of_all_subsets(seed):
    for answers, ok, scores, right in random_pools(seed, 50):
        enumerated(answers, ok, scores.tolist(), right)


def enumerated(answers, ok, scores, right):
    ks = range(1, len(answers) + 1)

    def mean(figure):
        return [float(mean_over_subsets(figure, len(answers), k)) for k in ks]

    def equal(ours, figure):
        assert_allclose(ours[0], mean(figure), atol=1e-12, rtol=0)

    equal(maj_at_k([answers], [ok]), lambda c: vote(answers[c], [1] * len(c), right))
    equal(pass_at_k([ok]), lambda c: int(ok[c].any()))
    equal(rerank_at_k([scores], [ok]), lambda c: best_scored([scores[i] for i in c], ok[c].tolist()))
    equal(unique_at_k([answers], [ok]), lambda c: len(set(answers[c][ok[c]])))
    weighted = weighted_vote_at_k([answers], [scores], [ok], ks)
    equal(weighted, lambda c: vote(answers[c], [scores[i] for i in c], right))


@pytest.mark.parametrize("n", [40, 96, 200])
def test_ends_of_the_curves_are_the_plain_figures(n):
    rng = np.random.default_rng(n)
    answers = rng.geometric(0.2, size=(30, n)) - 2
    ok = answers == rng.integers(0, 4, size=(30, 1))
    scores = rng.integers(0, 50, size=(30, n)).astype(float)
    for figure in (pass_at_k(ok), maj_at_k(answers, ok), rerank_at_k(scores, ok)):
        assert_allclose(figure[:, 0], ok.mean(axis=1), atol=1e-12)
    assert_allclose(pass_at_k(ok, [n])[:, 0], ok.any(axis=1), atol=1e-12)
    plain = [float(vote(a, [1] * n, set(a[o]))) for a, o in zip(answers, ok)]
    assert_allclose(maj_at_k(answers, ok, [n])[:, 0], plain, atol=1e-12)
    plain = [float(best_scored(s, o.tolist())) for s, o in zip(scores, ok)]
    assert_allclose(rerank_at_k(scores, ok, [n])[:, 0], plain, atol=1e-12)
    weighted = [float(vote(a, s.astype(int).tolist(), set(a[o]))) for a, s, o in zip(answers, scores, ok)]
    assert_allclose(weighted_vote_at_k(answers, scores, ok, [n])[:, 0], weighted, atol=1e-12)


def exact_majority(own, others, invalid, k):
    """P(own wins) by dynamic programming over answers in exact integers: state (drawn, ties) for each own vote."""
    n = own + sum(others) + invalid
    total = Fraction(0)
    for s in range(1, min(own, k) + 1):
        state = {(0, 0): 1}
        for count in others:
            new = Counter()
            for (drawn, ties), ways in state.items():
                for j in range(min(count, s) + 1):
                    if drawn + j <= k - s:
                        new[drawn + j, ties + (j == s)] += ways * math.comb(count, j)
            state = new
        for (drawn, ties), ways in state.items():
            total += Fraction(math.comb(own, s) * ways * math.comb(invalid, k - s - drawn), 1 + ties)
    return total / math.comb(n, k)


@pytest.mark.parametrize(
    "own, others, invalid",
    [(1, [1] * 60, 3), (40, [40, 40, 40], 40), (70, [65, 20, 20, 5, 5] + [1] * 10, 5), (2, [2] * 45, 0), (9, [90], 1)],
)
def test_majority_of_large_pools_is_exact(own, others, invalid):
    answers = [0] * own + [a for a, count in enumerate(others, 1) for _ in range(count)] + [-1] * invalid
    n = len(answers)
    ours = maj_at_k([answers], [np.equal(answers, 0)])[0]
    ks = [1, 2, 3, 7, n // 3, n // 2, n - 1, n]
    assert_allclose(ours[np.array(ks) - 1], [float(exact_majority(own, others, invalid, k)) for k in ks], rtol=1e-11)


def test_pass_at_k_by_hand():
    assert_allclose(pass_at_k([[1, 0, 0, 0]], [1, 2, 4]), [[0.25, 0.5, 1.0]])
    assert_allclose(pass_at_k([[0, 0, 0]]), [[0, 0, 0]])


@given(st.integers(2, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_order_of_samples_never_counts_and_curves_are_probabilities(n, data):
    answers = np.array(data.draw(st.lists(st.integers(-1, 6), min_size=n, max_size=n)))
    scores = np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)))
    order = data.draw(st.permutations(range(n)))
    ok = answers == 0
    figures = [pass_at_k([ok])[0], maj_at_k([answers], [ok])[0], rerank_at_k([scores], [ok])[0]]
    shuffled = [pass_at_k([ok[order]])[0], maj_at_k([answers[order]], [ok[order]])[0]]
    shuffled.append(rerank_at_k([scores[order]], [ok[order]])[0])
    for ours, theirs in zip(figures, shuffled):
        assert_allclose(ours, theirs, atol=1e-12)
        assert ((ours >= -1e-12) & (ours <= figures[0] + 1e-12)).all()  # nothing passes pass@k
    assert (np.diff(figures[0]) >= -1e-12).all()


def test_every_answer_wins_some_share_and_the_shares_sum_to_one():
    rng = np.random.default_rng(3)
    answers = rng.integers(0, 12, size=96)
    shares = sum(maj_at_k([answers], [answers == a])[0] for a in range(12))
    assert_allclose(shares, 1, atol=1e-12)


def test_many_questions_agree_with_one_at_a_time_and_chosen_ks_with_all():
    rng = np.random.default_rng(4)
    answers = rng.integers(-1, 20, size=(50, 32))
    ok = answers == rng.integers(0, 20, size=(50, 1))
    together = maj_at_k(answers, ok)
    assert_allclose(together, np.concatenate([maj_at_k(a[None], o[None]) for a, o in zip(answers, ok)]), atol=1e-13)
    assert_allclose(maj_at_k(answers, ok, [5, 2, 9]), together[:, [4, 1, 8]], atol=1e-13)


def test_random_subsets_estimate_the_weighted_vote():
    rng = np.random.default_rng(5)
    answers, scores = rng.integers(0, 3, size=(1, 14)), rng.random((1, 14))
    ok = answers == 0
    exact = weighted_vote_at_k(answers, scores, ok, [7], num_draws=math.comb(14, 7))
    drawn = weighted_vote_at_k(answers, scores, ok, [7], num_draws=3000)
    assert abs(exact - drawn)[0, 0] < 5 * 0.5 / math.sqrt(3000)
    assert (drawn == weighted_vote_at_k(answers, scores, ok, [7], num_draws=3000)).all()
    assert weighted_vote_at_k(answers, scores, ok).shape == (1, 5)  # 1, 2, 4, 8, 14


def test_scores_of_zero_still_vote():
    # Both answers have weight 0 when the first two samples are drawn: a tie, not a loss.
    assert_allclose(weighted_vote_at_k([[0, 1, 1]], [[0.0, 0.0, 1.0]], [[1, 0, 0]], [2, 3]), [[(0.5 + 0 + 0) / 3, 0]])


def test_auc_is_the_mann_whitney_u_with_ties():
    rng = np.random.default_rng(6)
    scores, ok = rng.integers(0, 6, size=(40, 12)), rng.random((40, 12)) < 0.4
    ok[0], ok[1] = True, False
    ours = question_auc(scores, ok)
    assert np.isnan(ours[:2]).all()
    for s, o, auc in zip(scores[2:], ok[2:], ours[2:]):
        if o.any() and not o.all():
            assert auc == pytest.approx(scipy.stats.mannwhitneyu(s[o], s[~o]).statistic / (o.sum() * (~o).sum()))


def test_novel_share_by_hand():
    keys = [["a", "a", "b", "c"], ["a", "x", "y", "z"], ["a", "b", "c", "d"]]
    correct = [[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    reference = [["b", "q"], ["a", "x"], []]
    assert_allclose(novel_share(keys, correct, reference), [2 / 3, 0, np.nan])
    assert_allclose(novel_share(keys, correct, reference, distinct=True), [1 / 2, 0, np.nan])


def test_answer_ids_keep_equality_and_nothing_else():
    assert answer_ids([["3", None, "4", "3"], [7, 7, "7", None]]).tolist() == [[0, -1, 1, 0], [0, 0, 1, -1]]


def test_interval_is_over_questions_and_leaves_the_undefined_out():
    rng = np.random.default_rng(7)
    ok = rng.random((300, 8)) < rng.beta(1, 2, size=(300, 1))
    interval = over_questions(pass_at_k(ok))
    assert_allclose(interval.estimate, pass_at_k(ok).mean(axis=0))
    width = 2 * 1.96 * pass_at_k(ok).std(axis=0) / math.sqrt(300)
    assert_allclose(interval.high - interval.low, width, rtol=0.15)
    assert over_questions([0.5, np.nan, 1.0]).estimate == 0.75
    assert np.isnan(over_questions([np.nan, np.nan])).all()


GOOD = [[1, 0, 2]], [[True, False, False]]


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: pass_at_k([[1, 0]], [3]), "ks: k = 3 from pools of 2 samples; must be in [1, 2]"),
        (lambda: pass_at_k([[1, 0]], [0]), "ks: k = 0"),
        (lambda: pass_at_k([[1, 0]], []), "ks: empty"),
        (lambda: pass_at_k([[1, 0], [1]]), "correct: rows of different lengths"),
        (lambda: pass_at_k([1, 0]), "correct: got shape (2,)"),
        (lambda: pass_at_k([[2, 0]]), "correct: must be true or false"),
        (lambda: maj_at_k([[1]], [[True]]), "answers: pools of 1 sample"),
        (lambda: rerank_at_k([[1.0]], [[True]]), "scores: pools of 1 sample"),
        (lambda: maj_at_k([["a", "b"]], [[1, 0]]), "answers: got <U1; must be integers"),
        (lambda: maj_at_k([[0, 0]], [[1, 0]]), "question 0 has an answer marked both right and wrong"),
        (lambda: maj_at_k([[-1, 0]], [[1, 0]]), "a sample without an answer is marked correct"),
        (lambda: maj_at_k([[0, 0]], [[1, 1, 0]]), "correct: got shape (1, 3); must be that of answers, (1, 2)"),
        (lambda: maj_at_k(np.zeros((1, 1001), int), np.ones((1, 1001))), "answers: 1001 samples"),
        (lambda: rerank_at_k([[0.1, np.nan, 0]], GOOD[1]), "scores: no score for sample 1 of question 0"),
        (lambda: question_auc([[None, 1.0, 2.0]], GOOD[1]), "scores: no score for sample 0"),
        (lambda: weighted_vote_at_k(GOOD[0], [[0.1, -2, 1]], GOOD[1]), "scores: -2 is not a weight"),
        (lambda: novel_share([["a"]], [[1]], []), "reference: 0 questions against 1"),
        (lambda: novel_share([["a"]], [[1, 1]], [[]]), "keys: 1 for question 0; must be 2"),
        (lambda: answer_ids([["1"], ["1", "2"]]), "answers: 2 questions with [1, 2] samples"),
        (lambda: over_questions(0.5), "figures: a single number"),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(BadInput) as raised:
        call()
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
