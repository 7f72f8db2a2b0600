"""Glyphs and the problems made of them, against an oracle that reads a problem as a person would."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tutelage.attention.tasks.pictures.glyphs import codes, glyphs
from tutelage.attention.tasks.relational_config import NEEDED, RELATIONS, RelationalConfig, check
from tutelage.attention.tasks.relational_problems import ANSWERS, LENGTHS, draw, draw_split, held_out
from tutelage.lab.errors import BadInput


def oracle(relation: str, row: list[int]) -> int:
    """The only answer, from the objects alone."""
    if relation == "same_different":
        return len(set(row)) - 1
    if relation == "match_to_sample":
        source, *targets = [row[2 * i] == row[2 * i + 1] for i in range(3)]
        assert targets[0] != targets[1]
        return targets.index(source)
    first, second, choices = row[:3], row[3:5], row[5:]
    assert len(set(choices)) == 4
    if relation == "distribution_of_three":
        (missing,) = set(first) - set(second)
        return choices.index(missing)

    def pattern(three: list[int]) -> list[int]:
        return [three.index(one) for one in three]

    (fits,) = [n for n, choice in enumerate(choices) if pattern([*second, choice]) == pattern(first)]
    return fits


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("count", [5, 100])
def test_every_answer_is_the_oracles(relation: str, count: int):
    objects = np.random.default_rng(1).permutation(200)[:count]
    problems = draw(relation, objects, 600, np.random.default_rng(0))
    assert problems.objects.shape == (600, LENGTHS[relation]) and set(problems.objects.flat) <= set(objects)
    assert [oracle(relation, list(row)) for row in problems.objects] == list(problems.answers)
    assert len(set(problems.answers)) == ANSWERS[relation]


def test_kinds_are_equally_frequent():
    rng = np.random.default_rng(0)
    assert draw("same_different", np.arange(9), 600, rng).answers.sum() == 300
    source = draw("match_to_sample", np.arange(9), 600, rng).objects
    assert (source[:, 0] == source[:, 1]).sum() == 300
    rules = draw("identity_rules", np.arange(9), 600, rng).objects
    same01, same02, same12 = rules[:, 0] == rules[:, 1], rules[:, 0] == rules[:, 2], rules[:, 1] == rules[:, 2]
    assert [(same01 & same02).sum(), (same02 & ~same01).sum(), (same12 & ~same01).sum()] == [200, 200, 200]


def test_wrong_answers_cannot_be_told_without_the_first_row():
    """A choice is as likely at each place, and in match-to-sample the right pair is as often same as different."""
    problems = draw("match_to_sample", np.arange(20), 4000, np.random.default_rng(0))
    right = problems.objects.reshape(-1, 3, 2)[np.arange(4000), 1 + problems.answers]
    assert (right[:, 0] == right[:, 1]).sum() == 2000
    for relation in ("distribution_of_three", "identity_rules"):
        places = np.bincount(draw(relation, np.arange(20), 4000, np.random.default_rng(0)).answers)
        assert abs(places - 1000).max() < 150


def test_objects_of_a_problem_are_any_with_equal_chance():
    rows = draw("match_to_sample", np.arange(5), 24_000, np.random.default_rng(0)).objects
    different = rows[rows[:, 0] != rows[:, 1]]
    orders = np.unique([[*dict.fromkeys(row)] for row in different], axis=0, return_counts=True)[1]
    assert len(orders) == 120 and abs(orders - 100).max() < 50


@pytest.mark.parametrize("relation", RELATIONS)
def test_held_out_problems_are_never_trained_on(relation: str):
    rank = np.random.default_rng(3).permutation(100)
    train, test = (draw_split(relation, rank, held, 500, np.random.default_rng(5)) for held in (False, True))
    assert len(train.objects) == len(test.objects) == 500
    assert held_out(test, rank).all() and not held_out(train, rank).any()
    assert not {tuple(row) for row in train.objects} & {tuple(row) for row in test.objects}


def test_glyphs_are_distinct_and_differ_in_four_strokes():
    images = glyphs()
    assert images.shape == (100, 32, 32) and images.min() == 0 and images.max() == 1 and len(codes()) == 127
    flat = images.reshape(100, -1)
    apart = min(np.abs(a - b).sum() for a, b in itertools.combinations(flat, 2))
    assert apart > 20  # the smallest stroke has more than twenty pixels of its own
    assert min((a ^ b).bit_count() for a, b in itertools.combinations(codes()[:100], 2)) == 4
    assert np.array_equal(images, glyphs())
    with pytest.raises(BadInput, match=r"count = 128: must be in \[1, 127\]"):
        glyphs(128)


@pytest.mark.parametrize("relation", RELATIONS)
def test_too_few_glyphs_are_refused(relation: str):
    need = NEEDED[relation]
    for withheld in (0, 50, 85, 95, need, 100 - need):
        check(RelationalConfig(relation=relation, withheld=withheld))
    for withheld in (1, need - 1, 101 - need):
        with pytest.raises(BadInput, match=rf"withheld = {withheld}: .* 0 or in \[{need}, {100 - need}\]"):
            check(RelationalConfig(relation=relation, withheld=withheld))
