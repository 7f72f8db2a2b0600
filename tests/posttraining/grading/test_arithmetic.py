import ast
import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.posttraining.grading.arithmetic import decimal, evaluate, in_one_form, numbers_in, western_digits

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def by_python(node):
    """The same value by Python's own grammar, in fractions; None for a division by zero."""
    if isinstance(node, ast.Expression):
        return by_python(node.body)
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp):
        inner = by_python(node.operand)
        return None if inner is None else -inner
    left, right = by_python(node.left), by_python(node.right)
    if left is None or right is None or (isinstance(node.op, ast.Div) and right == 0):
        return None
    return OPERATIONS[type(node.op)](left, right)


numbers = st.one_of(st.integers(0, 99).map(str), st.sampled_from(["0.5", "12.25", "100"]))
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=8,
)


@given(expressions)
def test_arithmetic_is_pythons(expression):
    assert evaluate(expression) == by_python(ast.parse(expression, mode="eval"))


@pytest.mark.parametrize(
    "text", ["", "1 +", "* 2", "(1", "1)", "1 2", "()", "2 ** 3", "1 // 2", "a", "import os", "1/0"]
)
def test_nothing_else_is_arithmetic(text):
    assert evaluate(text) is None


def test_percent_and_commas():
    assert evaluate("1,200 * 5%") == 60
    assert evaluate(".2*(10+5)") == 3
    assert evaluate("5%%") is None
    assert evaluate("1234,567 + 1") is None


def test_numbers_of_a_text():
    assert numbers_in("1,200 of 3.50, packs of 1,2 and 1234,567; ١٢") == (1200, Fraction(7, 2), 1, 2, 1234, 567, 12)
    assert decimal("1,234.50") == Fraction(2469, 2)
    assert in_one_form("1,234.50 and 01234.5 and 1,23") == "1234.5 and 1234.5 and 1,23"


@given(st.text(max_size=20))
def test_western_digits_are_as_many_characters_and_change_only_digits(text):
    western = western_digits(text)
    assert len(western) == len(text)
    assert all(a == b or (a.isdecimal() and int(a) == int(b) and b.isascii()) for a, b in zip(text, western))
