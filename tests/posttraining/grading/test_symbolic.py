import operator
import os
import re

import pytest

from tutelage.lab.errors import BadInput
from tutelage.posttraining.grading import symbolic
from tutelage.posttraining.grading.symbolic import SymbolicGrader


def test_judges_in_another_process_and_survives_hanging_raising_and_dying_judges():
    with SymbolicGrader(timeout=20, judge=re.fullmatch) as grader:
        assert grader("a+", "aaa") is True
        assert grader("a+", "b") is False
        assert grader("(", "b") is None  # raises
        grader._timeout = 0.3
        assert grader("(a+)+b", "a" * 60) is None  # would take years
        grader._timeout = 20
        assert grader("a+", "aa") is True
    with SymbolicGrader(timeout=20, judge=operator.call) as grader:
        assert grader(os._exit, 3) is None
        assert grader(bool, 1) is True


def test_says_what_to_install(monkeypatch):
    monkeypatch.setattr(symbolic.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="needs math-verify: pip install"):
        SymbolicGrader()
    with pytest.raises(BadInput, match="timeout: 0"):
        SymbolicGrader(timeout=0, judge=operator.eq)


def test_math_verify_compares_expressions():

    with SymbolicGrader(timeout=60) as grader:
        assert grader(r"\sqrt{144}", "12") is True
        assert grader(r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}") is True
        assert grader(r"\sqrt{3}", r"\sqrt{2}") is False
