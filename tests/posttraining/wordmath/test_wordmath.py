"""The generator against a solver that reads nothing but the text."""

import hashlib
import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.lab.errors import BadInput
from tutelage.posttraining.grading.answers import grade
from tutelage.posttraining.grading.solutions import solution_key, steps
from tutelage.posttraining.wordmath.problems import (
    PERTURBATIONS,
    Difficulty,
    Problem,
    Quantity,
    perturb,
    problem,
    problems,
    split_of,
)
from tutelage.posttraining.wordmath.solutions import mark_steps, solve
from tutelage.posttraining.wordmath.templates import pieces, vocabulary

N = r"([A-Z][a-z]+)"
K = r"(\d+)"
T = r"[a-z]+"
# Sentence -> (who follows, what it follows from). Written from the sentences, not from the generator's templates.
FACTS = [
    (rf"{N} has {K} {T}\.", lambda c, k: (c, lambda v: k)),
    (rf"There are {K} {T} in the bag of {N}\.", lambda k, c: (c, lambda v: k)),
    (rf"We count {K} {T} that belong to {N}\.", lambda k, c: (c, lambda v: k)),
    (rf"{N} has {K} more {T} than {N}\.", None),
    (rf"{N} has as many {T} as {N} and {K} on top\.", lambda c, a, k: (c, lambda v: v[a] + k)),
    (rf"{N} has {K} fewer {T} than {N}\.", None),
    (rf"{N} would need {K} more {T} to have as many as {N}\.", lambda c, k, a: (c, lambda v: v[a] - k)),
    (rf"{N} has {K} times as many {T} as {N}\.", lambda c, k, a: (c, lambda v: v[a] * k)),
    (rf"For each of the {T} of {N} there are {K} that {N} has\.", lambda a, k, c: (c, lambda v: v[a] * k)),
    (
        rf"If {N} splits all {T} into {K} equal parts, one part is as much as {N} has\.",
        lambda c, k, a: (c, lambda v: v[a] * k),
    ),
    (rf"The {T} of {N} are {K} times those of {N}\.", lambda a, k, c: (c, lambda v: v[a] / k)),
    (
        rf"{N} has as many {T} as one of {K} equal parts of what {N} has\.",
        lambda c, k, a: (c, lambda v: v[a] / k),
    ),
    (rf"It takes {K} times the {T} of {N} to have as many as {N}\.", lambda k, c, a: (c, lambda v: v[a] / k)),
    (rf"{N} has as many {T} as {N} and {N} together\.", lambda c, a, b: (c, lambda v: v[a] + v[b])),
    (
        rf"Put together, the {T} of {N} and {N} are as many as those of {N}\.",
        lambda a, b, c: (c, lambda v: v[a] + v[b]),
    ),
    (rf"Without what {N} has, {N} would have as many {T} as {N}\.", lambda a, c, b: (c, lambda v: v[a] + v[b])),
    (rf"{N} has as many {T} as {N} has more than {N}\.", lambda c, a, b: (c, lambda v: v[a] - v[b])),
    (
        rf"Taking the {T} of {N} away from those of {N} leaves as many as {N} has\.",
        lambda b, a, c: (c, lambda v: v[a] - v[b]),
    ),
    (rf"{N} and {N} together have as many {T} as {N}\.", lambda b, c, a: (c, lambda v: v[a] - v[b])),
]
ASKED = [
    rf"How many {T} does {N} have\?",
    rf"What is the number of {T} that {N} has\?",
    rf"Find out how many {T} belong to {N}\.",
    rf"How many {T} do {N} and {N} have together\?",
    rf"What is the number of {T} that {N} and {N} have in all\?",
    rf"Find out how many {T} belong to {N} or {N}\.",
]


def read(question):
    """The answer from the text alone: facts are used as soon as what they need is known, until nothing is left.

    "x has k more than y" tells x from y or y from x, whichever is known.
    """
    *facts, asked = re.findall(r"[^.?]+[.?]", question)
    rules = []
    for fact in map(str.strip, facts):
        matches = [(m, make) for pattern, make in FACTS if (m := re.fullmatch(pattern, fact))]
        assert len(matches) == 1, fact
        match, make = matches[0]
        parts = [int(part) if part.isdigit() else part for part in match.groups()]
        if make is not None:
            rules.append(make(*parts))
        else:
            x, k, y = parts
            k = k if "more" in fact else -k
            rules += [(x, lambda v, y=y, k=k: v[y] + k), (y, lambda v, x=x, k=k: v[x] - k)]
    values = {}
    while True:
        new = {}
        for who, rule in rules:
            try:
                new[who] = rule(values)
            except KeyError:
                continue
            assert values.get(who, new[who]) == new[who], "the facts contradict each other"
        if new.keys() <= values.keys():
            break
        values |= new
    names = [m.groups() for pattern in ASKED if (m := re.fullmatch(pattern, asked.strip()))]
    assert len(names) == 1, asked
    return sum(values[name] for name in names[0])


@st.composite
def difficulties(draw):
    low = draw(st.integers(1, 6))
    given = draw(st.integers(8, 40))
    return Difficulty(
        min_steps=low,
        max_steps=draw(st.integers(low, 6)),
        max_given=given,
        max_value=draw(st.integers(max(60, given), 300)),
        operations="".join(draw(st.permutations("+-*/"))[: draw(st.integers(2, 4))]) if draw(st.booleans()) else "+-*/",
        reuse=draw(st.sampled_from([0.0, 0.3, 1.0])),
        templates=draw(st.integers(1, 3)),
        distractors=draw(st.integers(0, 3)),
        shuffled=draw(st.booleans()),
    )


def drawn(difficulty, seed, perturbations=()):
    rng = random.Random(seed)
    try:
        made = problem(difficulty, rng)
    except BadInput:
        return None
    for name in perturbations:
        made = perturb(made, name, rng, difficulty)
    return made


kinds = st.lists(st.sampled_from(PERTURBATIONS), max_size=2)


@given(difficulties(), st.integers(0, 10**6), kinds)
@settings(max_examples=300, deadline=None)
def test_answer_is_what_the_text_says(difficulty, seed, perturbations):
    made = drawn(difficulty, seed, perturbations)
    if made is None:
        return
    assert made.answer == read(made.question)
    assert made.intermediate[-1] == made.answer
    assert all(1 <= q.value <= difficulty.max_value for q in made.quantities)
    assert sorted(made.numbers) == sorted(map(int, re.findall(r"\d+", made.question)))
    if "question" not in perturbations:
        assert difficulty.min_steps <= len(made.steps) <= difficulty.max_steps


@given(difficulties(), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_orders_are_exactly_the_permutations_in_which_operands_come_first(difficulty, seed):
    made = drawn(difficulty, seed)
    if made is None:
        return
    needed = made.steps

    def valid(order):
        return all(
            operand not in needed or order.index(operand) < place
            for place, index in enumerate(order)
            for operand in made.quantities[index].operands
        )

    orders = list(made.orders())
    assert len(set(orders)) == len(orders)
    assert set(orders) == {order for order in itertools.permutations(needed) if valid(order)}


@given(difficulties(), st.integers(0, 10**6), kinds, st.booleans())
@settings(max_examples=200, deadline=None)
def test_right_solutions_are_graded_right_and_are_among_those_enumerated(difficulty, seed, perturbations, annotated):
    made = drawn(difficulty, seed, perturbations)
    if made is None:
        return
    solution = solve(made, random.Random(seed), annotated=annotated)
    assert grade(solution.text, str(made.answer))
    assert solution.wrong == ()
    assert [step.value for step in steps(solution.text)] == [made.quantities[i].value for i in solution.order]
    assert solution_key(solution.text, "equation") in made.equation_keys()
    assert mark_steps(made, solution.text) == [True] * len(made.steps)


@given(difficulties(), st.integers(0, 10**6), st.sampled_from([0.2, 0.6, 1.0]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_noisy_solutions_are_wrong_exactly_where_noise_was_put(difficulty, seed, noise, annotated):
    made = drawn(difficulty, seed)
    if made is None:
        return
    solution = solve(made, random.Random(seed), noise=noise, max_value=difficulty.max_value, annotated=annotated)
    found = steps(solution.text)
    assert [place for place, step in enumerate(found) if not step.correct] == list(solution.wrong)
    assert all(1 <= step.value <= difficulty.max_value for step in found)
    assert grade(solution.text, str(found[-1].value))  # the last step's result is what is answered
    if len(solution.wrong) == 1:
        place = solution.wrong[0]
        assert mark_steps(made, solution.text)[: place + 1] == [True] * place + [False]


def test_noise_has_the_share_that_was_asked_for():
    rng = random.Random(0)
    made = problems(Difficulty(max_steps=6), 600)
    solutions = [solve(p, rng, noise=0.15) for p in made]
    share = sum(len(s.wrong) for s in solutions) / sum(len(s.order) for s in solutions)
    assert 0.13 < share < 0.16


def test_all_right_solutions_are_found_by_sampling():
    made = next(p for p in problems(Difficulty(min_steps=4, max_steps=4), 50) if len(list(p.orders())) > 2)
    rng = random.Random(1)
    found = {solution_key(solve(made, rng).text, "equation") for _ in range(2000)}
    assert found == made.equation_keys()
    assert len(found) > 4


def test_steps_out_of_order_repeated_or_foreign_are_marked_wrong():
    made = next(p for p in problems(Difficulty(min_steps=3, max_steps=3), 50) if len(list(p.orders())) == 1)
    lines = solve(made, random.Random(0)).text.split("\n")
    assert mark_steps(made, "\n".join([lines[1], lines[0], *lines[2:]]))[0] is False
    assert mark_steps(made, "\n".join([lines[0], lines[0], *lines[1:]])) == [True, False, True, True]
    assert mark_steps(made, "\n".join(["Ada: 1 + 1 = 2", *lines])) == [False, True, True, True]


def test_steps_with_equal_equations_are_told_apart_by_what_follows():
    # Two people follow from 9 - 3 = 6; only one of them leads on to 6 + 5 = 11.
    told = [Quantity(name, value, literal=value) for name, value in [("Ada", 9), ("Ben", 3), ("Dan", 5)]]
    twins = [Quantity("Eva", 6, "-", (0, 1)), Quantity("Finn", 6, "-", (0, 1))]
    made = Problem((*told, *twins, Quantity("Gus", 11, "+", (4, 2)), Quantity("Max", 17, "+", (3, 5))), 6, (), "eggs")
    for order in made.orders():
        assert mark_steps(made, "\n".join(f"So {made.equations(index)[0]}." for index in order)) == [True] * 4
    assert mark_steps(made, "So 9 - 3 = 6.\nSo 9 - 3 = 6.\nSo 9 - 3 = 6.") == [True, True, False]


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_perturbations_change_what_they_say(kind):
    difficulty = Difficulty(min_steps=2)
    rng = random.Random(0)
    for made in problems(difficulty, 100):
        other = perturb(made, kind, rng, difficulty)
        assert other.question != made.question
        if kind == "question":
            assert other.target != made.target
            assert other.told == made.told
        else:
            assert (other.answer, other.computation) == (made.answer, made.computation)
            assert len(other.told) == len(made.told) + (kind == "distractor")


def test_splits_never_share_a_computation():
    easy, hard = Difficulty(max_steps=2), Difficulty(max_steps=4, shuffled=True, distractors=1)
    test = problems(easy, 400, split="test", seed=1) + problems(hard, 400, split="test", seed=2)
    train = problems(easy, 1500, seed=1) + problems(hard, 1500, seed=3, perturbations=("order", "question"))
    assert not {p.computation for p in test} & {p.computation for p in train}
    assert all(split_of(p, easy.test_share) == "test" for p in test)
    assert len({p.question for p in train[:1500]}) == 1500


def test_same_seed_gives_the_same_problems_on_every_platform():
    made = problems(Difficulty(max_steps=5, distractors=1), 200, seed=7)
    rng = random.Random(7)
    text = "\n".join(p.question + solve(p, rng, noise=0.3).text for p in made)
    assert made == problems(Difficulty(max_steps=5, distractors=1), 200, seed=7)
    assert made[:50] == problems(Difficulty(max_steps=5, distractors=1), 50, seed=7)
    assert made != problems(Difficulty(max_steps=5, distractors=1), 200, seed=8)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "2f574545d4dc6129"


@pytest.mark.parametrize("digits", [False, True])
def test_vocabulary_covers_every_text_and_pieces_join_to_it(digits):
    difficulty = Difficulty(max_steps=6, distractors=2, max_value=120)
    words = vocabulary(120, digits=digits)
    assert len(set(words)) == len(words)
    rng = random.Random(0)
    for made in problems(difficulty, 500, perturbations=("question",)):
        solution = solve(made, rng, noise=0.2, max_value=120, annotated=rng.random() < 0.5)
        text = made.question + "\n" + solution.text
        parts = pieces(text, digits=digits)
        assert "".join(parts) == text
        assert set(parts) <= set(words)
        numbers = [part for part in parts if part.strip().isdigit()]
        assert all(len(part) == 1 for part in numbers) if digits else all(part[0] == " " for part in numbers)


@given(st.text(max_size=40), st.booleans())
def test_pieces_of_any_text_join_to_it(text, digits):
    assert "".join(pieces(text, digits=digits)) == text


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: Difficulty(min_steps=3, max_steps=2), "min_steps: 3 is above max_steps = 2"),
        (lambda: Difficulty(max_steps=7), "max_steps: 7 is outside [1, 6]"),
        (lambda: Difficulty(max_given=200), "max_given: 200 is above max_value = 99"),
        (lambda: Difficulty(operations="+^"), "operations: '+^'; must be some of"),
        (lambda: problem(Difficulty(6, 6, operations="/"), random.Random(0)), "operations: '/' allow hardly any"),
        (lambda: problems(Difficulty(), 3, split="tset"), "did you mean 'test'"),  # type: ignore[arg-type]
        (lambda: problems(Difficulty(), 3, perturbations=("ordre",)), "did you mean 'order'"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(BadInput) as raised:
        call()
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_too_few_problems_is_bad_input():
    tiny = Difficulty(1, 1, max_given=4, max_value=4, operations="/", templates=1, test_share=0.001)
    with pytest.raises(BadInput, match="count: 1 problems of this difficulty; found 0"):
        problems(tiny, 1, split="test")
