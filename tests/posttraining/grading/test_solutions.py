import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.lab.errors import BadInput
from tutelage.posttraining.grading.solutions import deduplicate, edit_distance, solution_key, steps

GSM8K = """Natalia sold 48/2 = <<48/2=24>>24 clips in May.
Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.
#### 72"""


def test_annotated_steps_of_gsm8k():
    first, second = steps(GSM8K)
    assert (first.equation, first.value, first.correct) == ("48/2=24", 24, True)
    assert (second.equation, second.correct) == ("48+24=72", True)
    assert GSM8K[: first.end].endswith("clips in May.")
    assert GSM8K[: second.end].endswith("April and May.")


def test_plain_steps():
    text = (
        "Tom: 12 * 3 = 36\nSo he pays $36 − $1,000.50 = $-964.5, and 2 x (3 + 1) = 9 in all.\nWait 5.\n#### 7 + 1 = 8"
    )
    found = steps(text)
    assert [s.equation for s in found] == ["12*3=36", "36-1000.5=-964.5", "2*(3+1)=9"]
    assert [s.correct for s in found] == [True, True, False]
    assert [text[: s.end].rsplit("\n")[-1] for s in found] == [
        "Tom: 12 * 3 = 36",
        "So he pays $36 − $1,000.50 = $-964.5",
        "So he pays $36 − $1,000.50 = $-964.5, and 2 x (3 + 1) = 9 in all.",
    ]


@pytest.mark.parametrize(
    "line",
    [
        # The left side is the end of a longer one.
        *("x12 * 3 = 36", "2x + 3 * 4 = 12", "x - 3 * 4 = 12", "total - 3 * 4 = 12", "x 3 * 4 = 12", "x**3 * 4 = 12"),
        *("2(3) * 4 = 12", "sqrt(9) * 2 = 18", "5^2 * 3 = 6", "1.2.3 + 4 = 6.3", "1,23 + 4 = 27", "x² + 3 * 4 = 12"),
        "1234,567 + 1 = 568",
        # The right side goes on.
        *(
            "3 + 4 = 70 * 2",
            "3 + 4 = 7x",
            "3 + 4 = 7 - x",
            "3 + 4 = 7²",
            "3 + 4 = 7½",
            "12 / 6 = 2 2/5",
            "3 + 4 = 7:30",
        ),
        *("3 + 4 = 7(2)", "3 + 4 = 7 (2)", "3 + 4 = 7^2", "7 / 7 = 1 and 1/2", "3 + 4 = 7_000", "3 + 4 = 7/2/1"),
    ],
)
def test_no_part_of_an_equation_is_a_step(line):
    assert steps(line) == []
    assert steps(f"So {line}") == []


@pytest.mark.parametrize(
    "line, equation",
    [
        ("3 * 4 = 12!", "3*4=12"),
        ("**3 * 4 = 12**", "3*4=12"),
        ("1. 3 * 4 = 12", "3*4=12"),
        ("Total = 3 * 4 = 12 (apples)", "3*4=12"),
        ("Plan B: 3*4=12kg", "3*4=12"),
        ("I add (3 + 4) * 2 = 14 a day", "(3+4)*2=14"),
        ("-3 + 4 = 1", "-3+4=1"),
        ("١٢ + ٣ = ١٥", "12+3=15"),
        ("1 / 3 = 33.33%", "1/3=33.33%"),
    ],
)
def test_plain_steps_are_read_among_words(line, equation):
    assert [(step.equation, step.correct) for step in steps(line)] == [(equation, True)]


@pytest.mark.parametrize("line", ["1+" * 20_000, "3" * 20_000, "3 *" + " " * 20_000, "(" * 20_000, "x 3 " * 5000])
def test_hostile_lines_have_no_steps(line):
    assert steps(line) == steps("1 + " + line) == []


@pytest.mark.parametrize(
    "equation, correct",
    [
        ("100/3=33.33", True),
        ("100/3=33.3", True),
        ("100/3=33.30", False),
        ("100/3=33.34", False),
        ("100/3=33", False),
        ("1/2=50%", True),
    ],
)
def test_rounded_results_are_right_only_to_the_decimals_given(equation, correct):
    assert [s.correct for s in steps(f"<<{equation}>>")] == [correct]


@pytest.mark.parametrize(
    "text",
    [
        *("1) 3 + 4 = 7", "(a) 3 + 4 = 7", "* 3 + 4 = 7", "**3 + 4 = 7**", "**Total:** 3 + 4 = 7", "x = 3 + 4 = 7"),
        *("Total (3 + 4 = 7)", "Total:3 + 4 = 7", "3 + 4 = 7kg", "3 + 4 = 7 (apples)", "3 + 4 = 7, so", "3 + 4 = 7."),
        *("Step 2. 3 + 4 = 7", "3 + 4 = 7 - I think", "3 + 4 = $7", "$3 + $4 = $7.00", "2 + 5 = 3 + 4 = 7"),
    ],
)
def test_an_equation_in_what_may_stand_beside_it_is_a_step(text):
    assert [(step.equation, step.correct) for step in steps(text)] == [("3+4=7", True)]
    assert steps(text.replace("7", "7e5")) == []


def test_keys_at_three_levels():
    one, two = "A: 3 * 4 = 12\nB: 12 + 1,000 = 1012\n#### 1012", "A:  3 * 4 = 12.0\nB: 12 + 1000 = 1,012\n#### 1012"
    other = "First 3 * 4 = 12.\nThen 12 + 1000 = 1012.\n#### 1012"
    assert solution_key(one, "exact") != solution_key(two, "exact")
    assert solution_key(one, "normalised") == solution_key(two, "normalised") != solution_key(other, "normalised")
    assert solution_key(one, "equation") == solution_key(other, "equation") == ("3*4=12", "12+1000=1012")
    assert solution_key("A: 4 * 3 = 12\n" + one[14:], "equation") != solution_key(one, "equation")
    assert solution_key("3 * 4 = 13\n#### 13", "equation") is None
    assert solution_key("#### 13", "equation") is None
    with pytest.raises(BadInput, match=r"level: 'normalized'; must be one of .*; did you mean 'normalised'"):
        solution_key(one, "normalized")  # type: ignore[arg-type]


@given(st.text("ab1", max_size=12), st.text("ab1", max_size=12))
def test_edit_distance_is_the_recurrence(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
    assert edit_distance(a, b) == row[-1]
    assert edit_distance(tuple(a), list(b)) == row[-1]


def test_dedup_keeps_the_most_different_of_a_key_and_drops_the_rejected():
    texts = ["aaaa", "aaab", "bbbb", "aaaa", "cccc"]
    keys = ["k", "l", "k", "k", None]
    # For key k: aaaa is 1 from aaab, bbbb is 3: bbbb stays. For l there is one.
    assert deduplicate(texts, keys) == [1, 2]
    assert deduplicate(texts, ["k"] * 5) == [0]
    assert deduplicate([], []) == []
    with pytest.raises(BadInput, match="keys: 1 for 2 solutions"):
        deduplicate(["a", "b"], ["k"])
