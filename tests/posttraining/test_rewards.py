import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tutelage.lab.errors import BadInput
from tutelage.posttraining.grading.answers import Answer
from tutelage.posttraining.grading.solutions import steps
from tutelage.posttraining.rewards import check_rewards, dense, differences, place, sparse, step_credits
from tutelage.posttraining.wordmath.problems import Difficulty, problems
from tutelage.posttraining.wordmath.solutions import solve

# Tom has 12, three times as many is 36, seven more 43, both together 79.
REFERENCE = [Fraction(36), Fraction(43), Fraction(79)]
GIVEN = [Fraction(12), Fraction(3), Fraction(7)]


def credits(text, **options):
    return step_credits(steps(text), REFERENCE, answer=Fraction(79), given=GIVEN, alpha=0.9, **options)


def test_each_intermediate_result_pays_once_and_the_final_answer_never():
    assert_allclose(credits("A: 12 * 3 = 36\nB: 36 + 7 = 43\nC: 36 + 43 = 79\n#### 79"), [0.3, 0.3, 0])
    assert_allclose(credits("B: 36 + 7 = 43\nA: 3 * 12 = 36"), [0.3, 0.3])  # in any order
    assert_allclose(credits("A: 12 * 3 = 36\nA: 12 * 3 = 36\nA: 30 + 6 = 36"), [0.3, 0, 0])
    assert_allclose(credits("C: 36 + 43 = 79\nC: 36 + 43 = 79"), [0, 0])


def test_a_result_that_the_reference_has_twice_pays_twice():
    text = "A: 2 * 3 = 6\nB: 4 + 2 = 6\nC: 5 + 1 = 6"
    assert step_credits(steps(text), [Fraction(6), Fraction(6), Fraction(9)], answer=Fraction(9), alpha=3.0) == [
        1,
        1,
        0,
    ]


def test_copied_numbers_and_empty_equations_pay_nothing():
    assert sum(credits("12 and 36 and 43\n12 + 0 = 12\n36 + 0 = 36\n43 * 1 = 43\n3 + 4 = 7")) == 0
    assert sum(credits("A: 1 + 1 = 36\nB: 2 * 2 = 43")) == 0  # the equation is wrong
    # The reference passes through 12 again, which the question names: it can be copied, so it is not paid for.
    found = steps("A: 3 + 9 = 12")
    assert step_credits(found, [Fraction(12), Fraction(79)], answer=Fraction(79), given=GIVEN) == [0]


@given(
    st.lists(st.sampled_from(["12 * 3 = 36", "36 + 7 = 43", "36 + 43 = 79", "35 + 1 = 36", "12 + 0 = 12", "1 + 1 = 3"]))
)
def test_no_solution_earns_more_than_alpha(lines):
    total = sum(credits("\n".join(lines)))
    assert total <= 0.9 * 2 / 3 + 1e-12
    assert total <= 0.3 * len(lines) + 1e-12


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_potential_form_telescopes_to_the_sparse_reward(seed, finished):
    rng = random.Random(seed)
    [made] = problems(Difficulty(min_steps=2, max_steps=6), 1, seed=seed)
    text = solve(made, rng, noise=0.3).text
    arguments = (text, Answer(Fraction(made.answer)), [Fraction(v) for v in made.intermediate])
    options = {"given": [Fraction(n) for n in made.numbers], "alpha": 0.7, "finished": finished}
    plain, shaped = dense(*arguments, **options), dense(*arguments, **options, potential=True)
    [(_, right)] = sparse(text, Answer(Fraction(made.answer)), finished=finished)
    assert sum(amount for _, amount in shaped) == pytest.approx(right, abs=1e-12)
    assert shaped[:-1] == plain[:-1]  # the same credit at the same places
    assert right <= sum(amount for _, amount in plain) <= right + 0.7


def test_sparse_is_the_verdict_and_truncation_gets_nothing():
    assert sparse("#### 79", Answer(Fraction(79))) == [(7, 1.0)]
    assert sparse("#### 78", Answer(Fraction(79))) == [(7, 0.0)]
    assert sparse("#### 79", Answer(Fraction(79)), finished=False) == [(7, 0.0)]


def test_rewards_stand_on_the_tokens_that_earned_them():
    text = "A: 2 * 3 = 6\nB: 6 + 1 = 7\nC: 7 + 6 = 13\n#### 13"
    # Tokens of up to two characters, then end of sequence (no text) and padding that repeats its offsets.
    offsets = [(i, min(i + 2, len(text))) for i in range(0, len(text), 2)]
    offsets += [(len(text), len(text))] * 3
    mask = np.arange(len(offsets)) < len(offsets) - 2
    earned = dense(text, Answer(Fraction(13)), [Fraction(6), Fraction(7), Fraction(13)], given=[], alpha=0.3)
    rewards = place(earned, offsets, mask)
    assert rewards.sum() == pytest.approx(sum(amount for _, amount in earned))
    where = np.flatnonzero(rewards).tolist()
    assert where == [(text.index("\n") - 1) // 2, (text.index("\nC") - 1) // 2, len(offsets) - 3]
    assert_allclose(rewards[where], [0.1, 0.1, 1.0])


def test_left_padding_and_special_tokens_without_text_get_nothing():
    offsets = [(0, 0), (0, 0), (0, 3), (3, 5), (0, 0)]
    mask = [False, True, True, True, True]
    assert place([(3, 0.5), (5, 1.0)], offsets, mask).tolist() == [0, 0, 0.5, 0, 1.0]
    # Truncated: no end-of-sequence token; the last token with text is the last real one.
    assert place([(3, 0.5), (5, 0.0)], offsets[:4], mask[:4]).tolist() == [0, 0, 0.5, 0]
    assert place([], [(0, 0)], [False]).tolist() == [0]


def test_score_differences_sum_to_the_last_score():
    assert_allclose(differences([0.5, 0.7, 0.2], start=0.4), [0.1, 0.2, -0.5])
    assert differences([]).size == 0


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: check_rewards([1.0, np.nan], 2), "reward: nan for sample 1; must be finite"),
        (lambda: check_rewards([1.0], 2), "reward: got shape (1,); must be (2,)"),
        (lambda: place([(1, np.inf)], [(0, 1)]), "reward: inf"),
        (lambda: place([(1, 1.0)], [(0, 1)], [False]), "mask: no real token"),
        (lambda: place([(1, 1.0)], [(0, 1)], [True, True]), "mask: got shape (2,)"),
        (lambda: place([(1, 1.0)], [0, 1]), "offsets: got shape (2,)"),
        (lambda: step_credits([], REFERENCE, answer=Fraction(79), alpha=-1), "alpha: -1"),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(BadInput) as raised:
        call()
    assert says in str(raised.value)
