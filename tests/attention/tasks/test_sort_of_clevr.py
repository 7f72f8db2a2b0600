"""Sort-of-CLEVR: every answer equals a slow oracle, and the official generator's bugs are not here."""

import math
from fractions import Fraction

import numpy as np
import pytest

from tutelage.attention.tasks.pictures.sort_of_clevr_scenes import (
    ANSWERS,
    COLOURS,
    RGB,
    Questions,
    Scenes,
    answer,
    describe,
    draw_questions,
    draw_scenes,
    encode,
    render,
)
from tutelage.lab.errors import BadInput


def oracle(centres, square, kind, subtype, first, second, band=12):
    """The answer's word, one object after another, in exact fractions or with angles in degrees."""
    shape = ["rectangle" if of else "circle" for of in square]
    own = centres[first]
    others = [other for other in range(6) if other != first]
    if kind == 0:
        below_half = own[subtype - 1] < Fraction(75, 2)
        return shape[first] if subtype == 0 else "yes" if below_half else "no"
    if kind == 1:
        if subtype == 0:
            return shape[min(others, key=lambda other: math.dist(own, centres[other]))]
        if subtype == 1:
            return shape[max(others, key=lambda other: math.dist(own, centres[other]))]
        return str(sum(of == shape[first] for of in shape))
    a, b = own, centres[second]
    rest = [centres[other] for other in others if other != second]
    if subtype == 0:
        (left, right), (top, bottom) = sorted((a[0], b[0])), sorted((a[1], b[1]))
        return str(1 + sum(left <= x <= right and top <= y <= bottom for x, y in rest))
    if subtype == 1:
        return "yes" if any(on_band(a, b, p, band) for p in rest) else "no"
    return str(1 + sum(largest_angle_is_obtuse(a, b, p) for p in rest))


def on_band(a, b, p, band):
    if a[0] == b[0]:
        return p[0] == a[0]
    slope = Fraction(b[1] - a[1], b[0] - a[0])
    return abs(a[1] + slope * (p[0] - a[0]) - p[1]) <= band


def largest_angle_is_obtuse(a, b, c):
    if (b[0] - a[0]) * (c[1] - a[1]) == (b[1] - a[1]) * (c[0] - a[0]):
        return False
    # The law of cosines at the longest side, whose squares are whole numbers.
    short, middle, long = sorted((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 for p, q in ((a, b), (b, c), (c, a)))
    return long >= short + middle


def test_all_answers_equal_the_oracle_on_500_pictures():
    rng = np.random.default_rng(11)
    scenes, questions = draw_scenes(rng, 500), draw_questions(rng, 500, 10)
    found = answer(scenes, questions)
    for picture in range(500):
        centres, square = scenes.centres[picture].tolist(), scenes.square[picture].tolist()
        fields = [of[picture].tolist() for of in vars(questions).values()]
        for asked, answered in zip(zip(*fields, strict=True), found[picture].tolist(), strict=True):
            assert ANSWERS[answered] == oracle(centres, square, *asked), (centres, square, asked)


def scene(*centres, square=(True, False, False, False, False, False)):
    return Scenes(np.array([centres]), np.array([square]))


def ask(scenes, kind, subtype, first, second=-1):
    return ANSWERS[answer(scenes, Questions(*(np.array([[of]]) for of in (kind, subtype, first, second)))).item()]


FAR = scene((5, 5), (69, 5), (69, 15), (69, 25), (69, 35), (69, 45))


def test_an_object_far_from_all_others_is_not_its_own_nearest():
    assert ask(FAR, 1, 0, 0) == "circle"


def test_ternary_questions_ask_of_every_pair_of_colours():
    questions = draw_questions(np.random.default_rng(0), 200, 10)
    of = questions.kind == 2
    pairs = {(a, b) for a, b in zip(questions.first[of].tolist(), questions.second[of].tolist(), strict=True)}
    assert pairs == {(a, b) for a in range(6) for b in range(6) if a != b}


def test_three_on_a_line_are_no_triangle_and_a_right_angle_counts():
    on_a_line = scene((10, 10), (20, 20), (30, 30), (40, 40), (50, 50), (60, 60))
    assert ask(on_a_line, 2, 2, 0, 1) == "1"
    right = scene((10, 10), (10, 40), (40, 10), (25, 25), (36, 25), (37, 25))
    # (40, 10) and (25, 25) have exactly a right angle, the others beyond the half circle over AB are acute.
    assert ask(right, 2, 2, 0, 1) == "3"


def test_on_an_upright_line_are_its_own_points_only():
    upright = scene((30, 10), (30, 60), (31, 30), (20, 20), (50, 50), (60, 10))
    assert ask(upright, 2, 1, 0, 1) == "no"
    through = scene((30, 10), (30, 60), (30, 30), (20, 20), (50, 50), (60, 10))
    assert ask(through, 2, 1, 0, 1) == "yes"


def test_the_band_ends_at_exactly_twelve_pixels():
    level = (30, 30), (50, 30), (60, 42), (10, 60), (20, 65), (40, 69)
    assert ask(scene(*level), 2, 1, 0, 1) == "yes"
    assert ask(scene(*level[:2], (60, 43), *level[3:]), 2, 1, 0, 1) == "no"


def test_objects_keep_their_distance_and_stay_inside():
    centres = draw_scenes(np.random.default_rng(5), 300).centres
    distance = np.linalg.norm(centres[:, :, None] - centres[:, None], axis=-1) + 1e3 * np.eye(6)
    assert distance.min() >= 10 and centres.min() >= 5 and centres.max() <= 69


def test_questions_are_one_hot_in_18():
    questions = draw_questions(np.random.default_rng(0), 30, 4)
    code = encode(questions)
    assert code.shape == (30, 12, 18)
    for part, field in ((code[..., :6], questions.first), (code[..., 12:15], questions.kind)):
        assert np.array_equal(part.argmax(-1), field) and np.all(part.sum(-1) == 1)
    assert np.array_equal(code[..., 15:].argmax(-1), questions.subtype)
    assert np.array_equal(code[..., 6:12].sum(-1), (questions.kind == 2).astype(float))


def test_pictures_show_each_object_in_its_colour_and_shape():
    scenes = scene((10, 20), (30, 20), (50, 20), (10, 50), (30, 50), (50, 50), square=(True, False) * 3)
    image = render(scenes)[0]
    for (x, y), square, rgb in zip(scenes.centres[0], scenes.square[0], RGB, strict=True):
        assert np.array_equal(image[:, y, x], rgb)
        corner = rgb if square else [255, 255, 255]
        assert np.array_equal(image[:, y + 5, x - 5], corner)
        assert np.array_equal(image[:, y, x + 5], rgb) and np.array_equal(image[:, y, x + 6], [255, 255, 255])
    assert (image != 255).any(0).sum() == 3 * 121 + 3 * 81


def test_descriptions_name_the_colours():
    questions = draw_questions(np.random.default_rng(2), 1, 3)[0]
    lines = describe(questions)
    assert len(lines) == 9
    for line, first, second in zip(lines, questions.first, questions.second, strict=True):
        assert COLOURS[first] in line and (second < 0 or COLOURS[second] in line)


def test_questions_about_another_number_of_pictures_are_refused():
    with pytest.raises(BadInput, match="questions of 2 pictures: must be of 1"):
        answer(FAR, draw_questions(np.random.default_rng(0), 2, 1))
