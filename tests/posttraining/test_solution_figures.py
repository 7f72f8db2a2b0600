"""The figures of a pool against literal counting over all subsets of its samples."""

import hashlib
import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest

from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.measures.sampled_answers import over_questions
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rollouts import graded
from tutelage.posttraining.solution_figures import (
    check_evaluation,
    equation_keys,
    figures,
    intervals,
    means,
    question_table,
)
from tutelage.posttraining.wordmath.problems import Difficulty, problems
from tutelage.posttraining.wordmath.solutions import solve

N = 6
KS = (2, 3, 6)


def rollout(question, text, *, tokens=None, finish="stop"):
    ids = np.array(tokens or [*text.encode(), 2], np.int64)
    prompt = np.zeros(1, np.int64)
    return graded(
        question, Rollout(question.id, prompt, ids, np.zeros(len(ids), np.float32), text, finish_reason=finish)
    )


def pool(num_questions=8, seed=0, n=N):
    """Generated problems, and two plain questions; samples right, wrong, repeated, cut off and without an answer."""
    rng = random.Random(seed)
    made = problems(Difficulty(min_steps=2, max_steps=4), num_questions, seed=seed)
    questions = [Question.of_problem(each, solve(each, rng).text) for each in made]
    questions += [Question.of("Half?", "1 / 2 = 0.5\n#### 50%"), Question.of("Two and two?", "2 + 2 = 4\n#### 4")]
    groups = []
    for question in questions:
        group = []
        for _ in range(n):
            if question.problem is not None:
                text = solve(question.problem, rng, noise=0.2, wrong_plan=0.1).text
            else:
                result = rng.choice(["50%", "0.5", "1/2", "50", "5"] if "Half" in question.text else ["4", "4.0", "5"])
                text = f"1 / 2 = {rng.choice([1, 0.5])}\nso\n#### {result}"
            kind = rng.random()
            if group and kind < 0.25:
                group.append(group[0])
            elif kind < 0.35:
                group.append(rollout(question, text, finish="length"))
            elif kind < 0.45:
                group.append(rollout(question, text.replace("####", "so")))
            elif kind < 0.55:
                group.append(rollout(question, text.replace(" = ", "  =  ")))
            else:
                group.append(rollout(question, text))
        groups.append(group)
    greedy = [rollout(question, rng.choice(group).text) for question, group in zip(questions, groups)]
    return questions, groups, greedy


def right(each):
    return each.scores["correct"] == 1


def vote(chosen, weights):
    """Share of right answers among those with the most weight; every right sample votes for the same answer."""
    sums = {}
    for each, weight in zip(chosen, weights):
        if right(each) or each.answer is not None:
            name = "right" if right(each) else each.answer
            sums[name] = sums.get(name, 0) + weight
    best = [name for name, weight in sums.items() if weight == max(sums.values())]
    return Fraction("right" in best, len(best) or 1)


def expected(group, k, figure):
    """The mean of a figure over all subsets of k samples."""
    values = [figure(chosen) for chosen in itertools.combinations(range(len(group)), k)]
    return float(sum(values) / len(values))


@pytest.mark.parametrize("seed", range(4))
def test_every_k_is_the_mean_over_all_subsets(seed):
    questions, groups, greedy = pool(seed=seed)
    scores = np.random.default_rng(seed).integers(1, 4, (len(questions), N)) / 4  # ties, and exact sums
    table = question_table(questions, groups, greedy, ks=KS, reranker=scores)
    assert any(0 < sum(map(right, group)) < N for group in groups)
    for place, group in enumerate(groups):
        score = [Fraction(value) for value in scores[place].tolist()]

        def reranked(chosen, group=group, score=score):
            best = [i for i in chosen if score[i] == max(score[j] for j in chosen)]
            return Fraction(sum(right(group[i]) for i in best), len(best))

        for k in KS:
            literal = {
                "pass": lambda chosen, group=group: Fraction(any(right(group[i]) for i in chosen)),
                "maj": lambda chosen, group=group: vote([group[i] for i in chosen], [1] * len(chosen)),
                "rerank": reranked,
                "weighted": lambda chosen, group=group, score=score: vote(
                    [group[i] for i in chosen], [score[i] for i in chosen]
                ),
            }
            for name, figure in literal.items():
                assert table[f"{name}@{k}"][place] == pytest.approx(expected(group, k, figure), abs=1e-12), name
        assert table["correct"][place] == sum(map(right, group)) / N
        assert table["maj@1"][place] == right(greedy[place])


@pytest.mark.parametrize("seed", range(4))
def test_solutions_are_counted_as_different_by_what_they_share(seed):
    questions, groups, _ = pool(seed=seed)
    _, start, _ = pool(seed=seed + 100)
    start = [[rollout(question, each.text) for each in group] for question, group in zip(questions, start)]
    # The start policy found a few of the right solutions.
    for question, found, group in zip(questions, start, groups):
        found[0] = rollout(question, group[1].text)
    table = question_table(questions, groups, ks=KS, start_keys=equation_keys(start))
    defined = 0
    for place, (question, group) in enumerate(zip(questions, groups)):
        good = [each for each in group if right(each)]
        keys = [literal_key(each.text) for each in good]
        assert table["unique_exact"][place] == len({tuple(each.completion.tolist()) for each in good})
        assert table["unique_normalised"][place] == len({literal_form(each.text) for each in good})
        assert table["unique_equation"][place] == len(set(keys) - {None})
        known = {literal_key(each.text) for each in start[place]}
        keyed = [key for key in keys if key is not None]
        if keyed:
            defined += 1
            assert table["novel"][place] == sum(key not in known for key in keyed) / len(keyed)
        else:
            assert math.isnan(table["novel"][place])
        if question.problem is not None:
            every = question.problem.equation_keys()
            assert table["coverage"][place] == len(every & set(keyed)) / len(every)
        else:
            assert math.isnan(table["coverage"][place])
    assert defined > 4
    assert 0 < means(table)["novel"] < 1


def literal_key(text):
    """The equations line by line, None if one is wrong or there is none; for texts made here only."""
    found = []
    for line in text.split("\n"):
        words = [word.strip(":.") if word.strip(":.").isalpha() else word for word in line.split()]
        if "=" not in words or "####" in line:
            continue
        at = words.index("=")
        a, op, b, result = words[at - 3], words[at - 2], words[at - 1], words[at + 1].rstrip(".")
        value = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b), "/": Fraction(int(a), int(b))}[op]
        if value != Fraction(result):
            return None
        found.append(f"{a}{op}{b}={result}")
    return tuple(found) or None


def literal_form(text):
    return " ".join(text.replace("4.0", "4").split())


def test_steps_are_judged_by_the_problem_where_it_is_known():
    [made] = problems(Difficulty(min_steps=3, max_steps=3), 1)
    lines = solve(made, random.Random(0)).text.split("\n")
    known = Question.of_problem(made, "\n".join(lines))
    plain = Question.of(made.question, known.solution)
    texts = ["\n".join(lines), "\n".join([*lines[:3], "So 1 + 1 = 2.", "So 1 + 1 = 3.", lines[3]]), "no step"]
    for question, share in [(known, 6 / 8), (plain, 7 / 8)]:
        table = question_table([question], [[rollout(question, text) for text in texts]], ks=[2])
        assert table["step_accuracy"].tolist() == [share]
    table = question_table([known], [[rollout(known, "no step")] * 2], ks=[2])
    assert np.isnan(table["step_accuracy"]).all()


def test_lengths_and_cuts_are_plain_means():
    question = Question.of("Two and two?", "2 + 2 = 4\n#### 4")
    group = [rollout(question, "#### 4", tokens=[5] * n, finish=end) for n, end in [(3, "stop"), (9, "length")]]
    table = question_table([question], [group], ks=[2])
    assert (table["length"][0], table["truncated"][0], table["correct"][0]) == (6, 0.5, 0.5)


def test_right_answers_in_other_forms_vote_together_and_wrong_ones_of_the_same_digits_apart():
    half = Question.of("Half?", "1 / 2 = 0.5\n#### 0.5")
    group = [rollout(half, f"#### {answer}") for answer in ("0.5", "50%", "1/2", "50", "50", "50")]
    assert [right(each) for each in group] == [True] * 3 + [False] * 3
    assert question_table([half], [group], ks=[6])["maj@6"].tolist() == [0.5]


def test_figures_are_means_over_the_questions_that_define_them_and_always_finite():
    questions, groups, greedy = pool()
    table = question_table(questions, groups, greedy, ks=KS, start_keys=equation_keys(groups))
    found = figures(questions, groups, greedy, ks=KS, start_keys=equation_keys(groups))
    assert found == means(table)
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert found["novel"] == 0
    assert found["coverage"] == pytest.approx(table["coverage"][:8].mean(), abs=1e-15)
    # Nothing right, nothing generated, no step: what is undefined everywhere is left out, without a warning.
    question = Question.of("Two and two?", "#### 4")
    nothing = figures([question], [[rollout(question, "?")] * 2], ks=[2], start_keys=[[None]])
    assert {"novel", "coverage", "step_accuracy", "maj@1", "rerank@2"}.isdisjoint(nothing)
    assert nothing["pass@2"] == nothing["maj@2"] == nothing["unique_exact"] == 0


def test_intervals_are_those_over_questions_around_the_same_means():
    questions, groups, greedy = pool(num_questions=30)
    table = question_table(questions, groups, greedy, ks=KS, start_keys=equation_keys(groups[:1] * len(groups)))
    found = intervals(table, num_resamples=500, seed=3)
    assert list(found) == [name for name in table if name in means(table)]
    for name, value in means(table).items():
        assert found[name].estimate == pytest.approx(value, abs=1e-12)
        assert found[name].low <= value <= found[name].high
        assert found[name] == pytest.approx(over_questions(table[name], num_resamples=500, seed=3), abs=1e-12)


def test_the_same_pool_has_the_same_figures_in_every_process():
    questions, groups, greedy = pool(n=16)
    scores = np.random.default_rng(0).random((len(questions), 16))
    found = figures(questions, groups, greedy, ks=(4, 16), reranker=scores, start_keys=equation_keys(groups[:1] * 10))
    text = " ".join(f"{name} {value:.9f}" for name, value in found.items())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "72c2df6faff9a694", text


def test_the_order_of_samples_does_not_matter():
    questions, groups, greedy = pool(n=5)
    scores = np.random.default_rng(0).random((len(questions), 5))
    order = [3, 0, 4, 2, 1]
    one = figures(questions, groups, greedy, ks=(2, 5), reranker=scores)
    other = figures(questions, [[g[i] for i in order] for g in groups], greedy, ks=(2, 5), reranker=scores[:, order])
    assert one == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ks": (1, 4)}, "ks: k = 1 from pools of 8 samples; must be in [2, 8] (of a single sample there is `correct`"),
        ({"ks": (9,)}, "ks: k = 9 from pools of 8 samples; must be in [2, 8]"),
        ({"ks": ()}, "ks: empty"),
        ({"num_samples": 1, "ks": (1,)}, "num_samples: 1; a vote or a choice among samples needs at least 2"),
        ({"temperature": 0.0}, "temperature: 0 with 8 samples gives the same one 8 times; must be above 0"),
        ({"rerank": True}, "rerank: needs an outcome reward model"),
    ],
)
def test_what_cannot_be_had_is_refused_before_sampling(arguments, says):
    with pytest.raises(BadInput) as raised:
        check_evaluation(**{"ks": (2, 4), "num_samples": 8} | arguments)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_can_be_had_is_not_refused():
    check_evaluation((2, 8), 8)
    check_evaluation((2, 8), 8, rerank=True, reranker=lambda: None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda q, g: {"ks": (1,)}, "ks: k = 1"),
        (lambda q, g: {"ks": (7,)}, "ks: k = 7 from pools of 6"),
        (lambda q, g: {"groups": [each[:1] for each in g], "ks": (1,)}, "num_samples: 1;"),
        (lambda q, g: {"groups": g[1:]}, "groups: 9 for 10 questions; must be one for each"),
        (
            lambda q, g: {"groups": [g[0][:5], *g[1:]]},
            "groups: 6 samples of question 1, 5 of question 0; must be equal",
        ),
        (lambda q, g: {"groups": [g[1], g[0], *g[2:]]}, "among those of question 0"),
        (lambda q, g: {"greedy": [g[1][0]] * len(q)}, "among those of question 0"),
        (lambda q, g: {"groups": [[ungraded(each) for each in row] for row in g]}, "question 0 is not graded"),
        (
            lambda q, g: {"reranker": np.zeros((len(q), 5))},
            "scores: got shape (10, 5); must be that of correct, (10, 6)",
        ),
        (lambda q, g: {"reranker": np.full((len(q), N), np.nan)}, "scores: no score for sample 0 of question 0"),
        (lambda q, g: {"start_keys": [[]]}, "reference: 1 questions against 10; must be the same questions"),
    ],
)
def test_pools_that_do_not_fit_are_bad_input(change, says):
    questions, groups, _ = pool()
    arguments = {"questions": questions, "groups": groups, "ks": KS} | change(questions, groups)
    with pytest.raises(BadInput) as raised:
        question_table(**arguments)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def ungraded(each):
    return Rollout(each.question, each.prompt, each.completion, each.logprobs, each.text)
