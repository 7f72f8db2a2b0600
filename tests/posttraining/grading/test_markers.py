from fractions import Fraction

import pytest

from tutelage.posttraining.grading.answers import Answer, parse_answer, read_answer
from tutelage.posttraining.grading.markers import after_marker


@pytest.mark.parametrize(
    "text, tail",
    [
        ("48/2 = <<48/2=24>>24\n#### 72", " 72"),
        ("nothing", None),
        ("Answer：12", "12"),
        ("aNsWeR: 12", "12"),
        ("The answer is 12, I say\nand 7", "12, I say"),
        ("**Final Answer:** 12", "12"),
        ("**Answer:**\n\n**12** apples", "**12** apples"),
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"x = -\boxed{3}", "-3"),
        (r"x = -$\boxed{3}$", "-3"),
        (r"2\boxed{3}", " * 3"),
        (r"\boxed{3}4", "3 * "),
        (r"$\boxed{50}\%$", r"50\%"),
        (r"\boxed{3}^2", "3^2"),
        (r"**\boxed{3}**!", "3"),
    ],
)
def test_what_stands_behind_a_marker(text, tail):
    assert after_marker(text) == tail


def test_what_stands_at_a_box_is_not_lost():
    assert read_answer(r"-\boxed{3}") == parse_answer("-3")
    assert read_answer(r"x = -$\boxed{3}$") == parse_answer("-3")
    assert read_answer(r"\boxed{50}\%") == Answer(Fraction(50), percent=True)
    assert read_answer(r"\boxed{3}/4") == parse_answer("3/4")
    for text in (r"2\boxed{3}", r"\boxed{3}4", r"\boxed{3}^2", r"1/\boxed{3}", r"±\boxed{3}"):
        assert read_answer(text) is None
