from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.lab.errors import BadInput
from tutelage.measures.sampled_answers import answer_ids, maj_at_k
from tutelage.posttraining.grading.answers import Answer, grade, grade_samples, parse_answer, read_answer
from tutelage.posttraining.grading.markers import after_marker

# Solution text, reference, verdict.
TABLE = [
    ("#### 72", "72", True),
    ("She has 5.\n#### 72", "she had #### 72", True),
    ("#### 71", "72", False),
    # The last marker counts.
    ("#### 5\nNo, wait.\n#### 72", "72", True),
    ("#### 72\n#### 5", "72", False),
    ("#### 5\nAnswer: 72", "72", True),
    ("Answer: 72\n#### 5", "72", False),
    (r"Answer: 5, so \boxed{72}", "72", True),
    (r"\boxed{5} \boxed{72}", "72", True),
    (r"\boxed{72} and then #### 5", "72", False),
    # No marker, nothing behind it, or nothing that is one number.
    ("It is 72.", "72", False),
    ("####", "72", False),
    ("####\n72", "72", False),
    ("", "72", False),
    ("72 ####", "72", False),
    ("#### seventy-two", "72", False),
    ("#### 72 or 73", "72", False),
    ("#### 70-72", "72", False),
    ("#### 8 * 9", "72", False),
    ("#### 3:30", "3", False),
    ("#### 5^2", "5", False),
    ("#### 10²", "102", False),
    ("#### nan", "72", False),
    ("#### 1/0", "1", False),
    ("#### 1e999999999", "1", False),
    # Forms of the same number.
    ("#### 1,234", "1234", True),
    ("#### 1,234,567.50", "1234567.5", True),
    ("#### 1,23", "123", False),
    ("#### 12,3456", "123456", False),
    ("#### 1.234.567", "1.234", False),
    ("#### 1234", "1,234", True),
    ("#### $12.00", "12", True),
    ("#### $ 12", "12", True),
    ("#### 12 €", "12", True),
    ("#### -$12", "-12", True),
    ("#### $-12", "-12", True),
    ("#### 12.", "12", True),
    ("#### 12.5.", "12.5", True),
    ("#### 0012", "12", True),
    ("#### -3", "-3", True),
    ("#### - 3", "-3", True),
    ("#### −3", "-3", True),
    ("#### -3", "3", False),
    ("#### +3", "3", True),
    ("#### .5", "0.5", True),
    ("#### 3/4", "0.75", True),
    ("#### 6 / 8", "3/4", True),
    ("#### -3/4", "-0.75", True),
    ("#### 1 1/2", "1.5", True),
    ("#### -2 1/2", "-2.5", True),
    ("#### 2½", "2.5", True),
    ("#### ½", "0.5", True),
    ("#### 0.333", "1/3", False),
    ("#### 72.0000000000000000001", "72", False),
    ("#### 1e3", "1000", True),
    ("#### 1.5E-2", "0.015", True),
    ("#### 2 x 10^3", "2000", True),
    (r"\boxed{2 \times 10^{3}}", "2000", True),
    ("#### $1.5 million", "1500000", True),
    ("#### 50%", "50", True),
    ("#### 50%", "0.5", True),
    ("#### 0.5", "50%", True),
    ("#### 50 percent", "50%", True),
    ("#### 0.5%", "50%", False),
    # Words and units around it.
    ("#### 12 apples", "12", True),
    ("#### 12kg", "12", True),
    ("#### 12 km/h", "12", True),
    ("#### 5 m^2", "5", True),
    ("#### 5 m2", "5", True),
    ("#### 5 m²", "5", True),
    ("#### x = 12", "12", True),
    ("#### 3 * 4 = 12", "12", True),
    ("Final answer: Tom has 12 apples.", "12", True),
    ("**Final Answer:** 12", "12", True),
    ("ANSWER: 12", "12", True),
    ("The answer is 12. It follows from 3 and 4.", "12", False),
    ("The answer is: 12", "12", True),
    ("The answer is **12**", "12", True),
    ("Answer:\n\n12", "12", True),
    ("Answer: 12\n\nQuestion: has Tom 5?", "12", True),
    # LaTeX without a parser for it.
    (r"\boxed{\frac{3}{4}}", "0.75", True),
    (r"\boxed{-\dfrac{3}{4}}", "-0.75", True),
    (r"\boxed{1\frac12}", "1.5", True),
    (r"\boxed{\$1,234}", "1234", True),
    (r"\boxed{1{,}234}", "1234", True),
    (r"\boxed{12\text{ cm}}", "12", True),
    (r"\boxed{50\%}", "50", True),
    (r"\boxed{90^\circ}", "90", True),
    (r"Answer: $\boxed{12}$.", "12", True),
    (r"\boxed{12", "12", True),
    (r"\boxed{\sqrt{144}}", "144", False),
]


@pytest.mark.parametrize("text, reference, verdict", TABLE)
def test_table(text, reference, verdict):
    assert grade(text, reference) is verdict


PARTS = [
    # A number that is a part of something else is not read; what is read is the whole.
    "-(3/4)", "-(3)", "x+1", "pi/2", "14 - i", "3x", "3 x", r"\frac{2}{x}", "sqrt(4)", r"\sqrt{4}", "5!", "|−3|", "|3|",
    "0x10", "0b1", "1_000", "v1.2.3", "4 10/3", "1 3/3", "1/2/3", "±3", "3±1", "3-5", "3–5", "3:45", "2024-01-02",
    "1.2.3.4", "555-1234", "3:4", "1st", "2nd", "5th", "~3", "≈3", "≥ 3", "x > 3", "x >= 3", "x < 3", "x ≠ 3", "x != 3",
    "[1, 2]", "(1, 2)", "1, 2", "x_2", "x^2", "x2", "2^x", "1e5e2", "1,23", "1.234,5", "--3", "+-3", "3-", "3 -", "3+",
    "3*x", "2π", "π3", "√4", "3∞", "3 × x", "3÷x", "3/x", "3 / (x+1)", "(x+1)/3", "f(3)", "f (3)", "2(x)", "3i", "3k",
    "12k", "3m", "3M", "3²", "2**3", "3 mod x", "3 squared", "log 3", "log2", "sin(3)", "3 choose x", "twice 3",
    "half of 12", "2 and a half", "3 dozen", "3 hundred", "three and 3 quarters", "minus 3", "negative 3", "not 42",
    "3 times four", "3 over two", "two of 3", "n=7, 42", "42 with n = 7", "42 (with n = 7)", "42 (where n=7).",
    "3 = x = y", "#5", "No. #5", "3&4", "a3", "3e", "3.x", "@3", "C3PO",
    # Nothing that is taken away joins two numerals, nor turns a product into a mixed number.
    "3$5", "3€50", "3 $ 1/2", "3* 1/2", "3 *1/2", "2 *1/2*", "1**2**", r"3\,5", r"3\left.5\right.", r"\frac{1 2}{3}",
    r"\frac{1/2}{3}", r"1\,00", "5₂", "₂5", "1=₂1", "①", "..5", "…5", "5%%", "%5", "ten % 5",
    # Two equations are not one.
    "x = 5, y = 6", "a = 5; b = 6", "a=5. b=6", "x = 12 y = 6", "2x = 10, x = 5",
    # Words that go on with the number, or make another of it.
    "$5 m", "$5 K", "5 bn", "5 lakh", "5 crore", "3 K", "5 ten", "3 ninety", "3 twelfths", "3 twentieths",
    "3 thousandths", "3 millionths", "3 rd", "4 th", "3 a", "3 I", "3 power", "5 per mille", "3 modulo five",
    "3 remainder one", "101 base two", "101 in binary", "5 less than twelve", "5 take away three", "5 past three",
    "5 feet six inches", "5 hours thirty minutes", "twenty 5", "two hundred 5", "five million 5", "half 3", "three 5",
    "half past 5", "quarter to 5", "an hour and 5 minutes", "square 3", "the square of 4", "opposite of 3",
    "reciprocal of -3", "thrice 3", "threefold 3", "less than 5", "more than 5", "over 5", "ten -5",
    "times 5", "3 to the fourth",
    "a 3", "Total.5", "can't be 5", "cannot be 5", "never 5", "no 5", "anything but 5", "5 is wrong", "incorrect: 5",
    # Letters of other scripts.
    "5万", "3千", "5 億", "五 5", "5х", "5 ж", "5λ", "5Ω", "5é",
]  # fmt: skip


@pytest.mark.parametrize("text", PARTS)
def test_a_part_of_something_is_never_read(text):
    assert read_answer(f"#### {text}") is None
    with pytest.raises(BadInput, match="no single number"):
        grade("#### 1", f"#### {text}")


WHOLE = [
    (r"\boxed{\frac1{2}}", "1/2"),
    (r"\boxed{\frac{1}2}", "1/2"),
    (r"\boxed{\frac{12}5}", "12/5"),
    (r"\boxed{-\frac12}", "-1/2"),
    ("Answer：12", "12"),
    ("#### ١٢", "12"),
    ("#### १२.५", "12.5"),
    ("#### （12）", "12"),
    ("The answer is 42. " + "So it goes, as was to be shown. " * 40, "42"),
    ("#### (12)", "12"),
    ("#### [12]", "12"),
    ("#### `12`", "12"),
    ("#### *12*", "12"),
    ("#### __12__ apples", "12"),
    ("#### 12 apples!", "12"),
    ("#### 12 — that is all.", "12"),
    ("#### $3/hour", "3"),
    ("#### 12 m/s", "12"),
    ("#### 12 kg/m^3", "12"),
    ("#### 5 s^-1", "5"),
    ("#### 12 twenty-cent coins", "12"),
    ("#### 3 times", "3"),
    ("#### She drinks 3 a day", "3"),
    ("#### total = 3 * 4 = 12 apples", "12"),
    ("#### f(x) = 12", "12"),
    ("#### 12 (apples)", "12"),
    ("#### 3°", "3"),
    ("#### Tom's 12", "12"),
    ("#### it’s 12", "12"),
    ("#### 12 o'clock", "12"),
    ("#### at least 12", "12"),
    ("#### about 12 apples", "12"),
    ("#### 12 apples every two days", "12"),
    ("#### 12 more", "12"),
    ("#### 12 more than Tom", "12"),
    ("#### no more than 12", "12"),
    ("#### a total of 12", "12"),
    ("#### No, 12", "12"),
    ("#### 12¢", "12"),
    ("#### 12个", "12"),
    ("#### 12 яблок", "12"),
    ("#### 12 μm", "12"),
    ("#### 12µm", "12"),
    ("#### Cet été: 12 €", "12"),
    ("#### 1.5 millions", "1500000"),
    ("#### f(1, 2) = 12", "12"),
    ("#### 1,000 + 2 = 1,002", "1002"),
    (r"\boxed{1\,234\,567}", "1234567"),
    (r"\boxed{10,\!000}", "10000"),
    (r"\boxed{3\,\frac{1}{2}}", "7/2"),
    (r"\boxed{\frac{ 1 }{ 2 }}", "1/2"),
]


@pytest.mark.parametrize("text, value", WHOLE)
def test_a_whole_is_read(text, value):
    assert read_answer(text) == Answer(Fraction(value))


def test_length_does_not_decide():
    for count in (1, 10, 1000, 20_000):
        assert read_answer("The answer is 42" + " indeed" * count) == Answer(Fraction(42))
        assert read_answer("The answer is 42" + " indeed" * count + " 7") is None


NUMERALS = st.integers(0, 999).map(str) | st.decimals(0, 99, places=2).map(str)
OPERATORS = ("+", "-", "*", "/", "^", "×", "÷", "±", "~", "<", ">", "≤", "|", "√", "**", "_", "\\", "&", "#", "@")
VARIABLES = ("x", "y", "n", "π", "(x)", "pi", "sqrt(x)", "e", "k", r"\alpha")


@given(NUMERALS, st.sampled_from(OPERATORS), st.sampled_from(VARIABLES), st.sampled_from(["", " "]), st.booleans())
def test_an_expression_around_a_numeral_is_unparsed(numeral, operator, variable, gap, first):
    parts = (numeral, operator, variable) if first else (variable, operator, numeral)
    assert read_answer("#### " + gap.join(parts)) is None


@given(
    NUMERALS, NUMERALS, st.sampled_from(["+", "-", "*", "^", ":", ", ", " to ", " or ", " and ", "..", "_", "x", ") ("])
)
def test_two_numerals_are_not_one(left, right, between):
    assert read_answer(f"#### {left}{between}{right}") is None


JOINTS = st.text("$€*_` \\,{}\u2009\u200b'’.:;/=&₂²①", min_size=1, max_size=4)


@given(st.integers(1, 999), JOINTS, st.integers(1, 999))
def test_no_signs_between_two_numerals_join_them(left, joint, right):
    """Only a grouping comma, a decimal point, a fraction bar, or an equals sign gives two numerals one value."""
    known = {Fraction(right), Fraction(f".{right}")} if "=" in joint else set()
    known |= {Fraction(left, right), left / Fraction(f".{right}")} if joint.count("/") == 1 else set()
    known |= {Fraction(f"{left}.{right}")} if "." in joint and joint.strip(" `*_{}\\") == "." else set()
    known |= {Fraction(f"{left}{right}")} if "," in joint and len(str(right)) == 3 else set()
    known |= {Fraction(f"{left}{right}")} if "\\" in joint and len(str(right)) == 3 else set()
    answer = parse_answer(f"{left}{joint}{right}")
    assert answer is None or answer.value in known


SURROUNDINGS = [
    "{}",
    "{}.",
    "x = {}",
    "({})",
    "**{}**",
    "{} apples",
    "it is {}",
    "**{}** apples.",
    "{} km/h",
    "$ {}",
    "“{}”",
]


@given(st.integers(-(10**12), 10**12), st.integers(0, 99), st.sampled_from(SURROUNDINGS), st.sampled_from([",", ""]))
def test_a_number_in_what_may_stand_beside_it_is_read_exactly(whole, cents, surroundings, commas):
    number = f"{whole:{commas}}.{cents:02d}"
    assert read_answer("#### " + surroundings.format(number)) == Answer(Fraction(f"{whole}.{cents:02d}"))


def rendered(number, style, numerator, denominator):
    """A number in one of the forms that must all read as the same rational."""
    return {
        "plain": f"{number}",
        "commas": f"{number:,}",
        "currency": f"${number:,}.00",
        "dot": f"{number}.",
        "units": f"{number} red apples",
        "unicode": f"{number}".replace("-", "−"),
        "latex": rf"\boxed{{{number}}}",
        "fraction": f"{numerator}/{denominator}",
        "frac": rf"\boxed{{\frac{{{numerator}}}{{{denominator}}}}}",
    }[style]


STYLES = ["plain", "commas", "currency", "dot", "units", "unicode", "latex", "fraction", "frac"]


@given(st.integers(-(10**12), 10**12), st.sampled_from(STYLES), st.integers(-999, 999), st.integers(1, 999))
def test_every_form_of_a_number_is_that_number(number, style, numerator, denominator):
    truth = Fraction(numerator, denominator) if style in ("fraction", "frac") else Fraction(number)
    assert read_answer("so ####\t" + rendered(number, style, numerator, denominator)) == Answer(truth)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_raises_or_hangs(before, after):
    for marker in ("####", "Answer:", "\\boxed{"):
        answer = read_answer(before + marker + after)
        assert answer is None or isinstance(answer.value, Fraction)


@pytest.mark.parametrize(
    "tail",
    [
        "9" * 10_000,
        "1e" + "9" * 200,
        "1" + ",111" * 2000,
        "{" * 5000,
        "- " * 5000,
        "1/" * 100,
        "`" * 20_000 + " x 5",
        "$1 " * 5000,
        "$" * 20_000 + "x",
        "of" + " " * 20_000 + "x 5",
        "1" * 20_000 + "=x",
        "1 " * 9000 + "= 1 2",
        r"\frac{1}" * 3000,
        "(" * 20_000 + "x 1",
    ],
)
def test_hostile_answers_are_unparsed(tail):
    assert parse_answer(tail) is None
    assert read_answer("\\boxed{" + tail) is None


def test_marker_of_the_reference_solution_is_found():
    assert after_marker("48/2 = <<48/2=24>>24\n#### 72") == " 72"
    assert after_marker("nothing") is None


def test_samples_vote_for_answers_and_right_forms_vote_together():
    texts = ["#### 50%", "#### 0.5", "#### 1/2", "#### 7", "#### 7.0", "none", "#### 8"]
    graded = grade_samples(texts, "0.5")
    assert graded.correct == [True, True, True, False, False, False, False]
    ids = answer_ids([graded.votes])
    assert ids.tolist() == [[0, 0, 0, 1, 1, -1, 2]]
    assert maj_at_k(ids, [graded.correct], [7]) == 1


@pytest.mark.parametrize("reference", ["no number", "#### 1 or 2", "", "#### "])
def test_reference_without_a_number_is_bad_input(reference):
    with pytest.raises(BadInput, match="reference answer: no single number in"):
        grade("#### 1", reference)
