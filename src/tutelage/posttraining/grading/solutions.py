"""Worked solutions as lists of equations: their steps, whether each is right, and which solutions are the same.

A step is `<<a*b=c>>` (GSM8K's calculator annotation) or, on lines without one, a plain `a * b = c`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

from tutelage.lab.errors import BadInput, nearest
from tutelage.posttraining.grading.notation import decimal

Level = Literal["exact", "normalised", "equation"]
LEVELS = ("exact", "normalised", "equation")

_NUMBER = r"(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)"
_NUMBERS = re.compile(_NUMBER)
_OPERAND = rf"[-(\s]{{0,9}}{_NUMBER}%?[)\s]{{0,9}}"
_PLAIN = re.compile(rf"(?P<left>{_OPERAND}(?:[-+*/]{_OPERAND})+)=\s*(?P<right>-?\s*{_NUMBER}%?)(?!\s*[-+*/]\s*[0-9(.])")
_ANNOTATED = re.compile(r"<<(?P<left>[^<>=\n]{1,200})=(?P<right>[^<>=\n]{1,60})>>")
_TOKEN = re.compile(rf"{_NUMBER}|[-+*/()%]")
# As many characters as before, so that places in the text stay what they are.
_SYMBOLS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "$": " ", "€": " ", "£": " "})
_TIMES = re.compile(r"(?<=[0-9)])(\s*)x(?=\s*[0-9(.])")
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "negative": 3}


class Step(NamedTuple):
    """One equation of a solution.

    Attributes:
        left, right: both sides without spaces, numbers in one form.
        value: the claimed result.
        correct: whether the left side has that value, exactly or rounded to the decimals that are given.
        end: characters of the solution up to the end of the step: of its line, or of the equation where another
            step follows on the line.
    """

    left: str
    right: str
    value: Fraction
    correct: bool
    end: int

    @property
    def equation(self) -> str:
        """`left=right`."""
        return f"{self.left}={self.right}"

    @property
    def operands(self) -> tuple[Fraction, ...]:
        """The numbers of the left side, without signs."""
        return numbers_in(self.left)


def steps(solution: str) -> list[Step]:
    """The steps of a solution, in order; what stands on a line from `####` on is not read."""
    found: list[Step] = []
    start = 0
    for line in solution.split("\n"):
        found += [Step(left, right, value, ok, start + end) for left, right, value, ok, end in _line_steps(line)]
        start += len(line) + 1
    return found


@lru_cache(maxsize=1 << 14)
def _line_steps(line: str) -> tuple[Step, ...]:
    """The steps of one line. Samples of a question share most of their lines."""
    body = line.partition("####")[0]
    text = _TIMES.sub(r"\1*", body.translate(_SYMBOLS))
    pattern = _ANNOTATED if "<<" in text else _PLAIN
    found = [Step(*read, match.end()) for match in pattern.finditer(text) if (read := _equation(*match.group(1, 2)))]
    if found:
        found[-1] = found[-1]._replace(end=len(body.rstrip()))
    return tuple(found)


@lru_cache(maxsize=1 << 16)
def _equation(left: str, right: str) -> tuple[str, str, Fraction, bool] | None:
    value, truth = evaluate(right), evaluate(left)
    if value is None:
        return None
    left, right = _compact(left), _compact(right)
    return left, right, value, truth is not None and _equal(truth, right, value)


def _equal(truth: Fraction, right: str, value: Fraction) -> bool:
    decimals = len(right.partition(".")[2].rstrip("%"))
    rounding = Fraction(1, 2 * 10 ** (decimals + 2 * right.endswith("%"))) if decimals else 0
    return abs(truth - value) <= rounding


def numbers_in(text: str) -> tuple[Fraction, ...]:
    """Every number that is written in digits, in order, without signs."""
    return tuple(map(decimal, _NUMBERS.findall(text)))


def evaluate(expression: str) -> Fraction | None:
    """The exact value of numbers, + − * / %, and brackets; None for anything else, a division by zero among it."""
    tokens = _TOKEN.findall(expression)
    if len(expression) > 300 or "".join(tokens) != "".join(expression.split()):
        return None
    values: list[Fraction] = []
    pending: list[str] = []
    operand = True  # whether one is expected next
    try:
        for token in tokens:
            if operand and token in "-(":
                pending.append("negative" if token == "-" else token)
            elif operand:
                values.append(decimal(token))
                operand = False
            elif token == "%":
                values[-1] /= 100
            elif token == ")":
                while pending[-1] != "(":
                    _apply(pending.pop(), values)
                pending.pop()
            else:
                while pending and pending[-1] != "(" and _BINDING[pending[-1]] >= _BINDING[token]:
                    _apply(pending.pop(), values)
                pending.append(token)
                operand = True
        while pending:
            _apply(pending.pop(), values)
    except (ValueError, KeyError, IndexError, ZeroDivisionError):
        return None
    return values[0] if len(values) == 1 and not operand else None


def _apply(operator: str, values: list[Fraction]) -> None:
    last = values.pop()
    if operator == "negative":
        values.append(-last)
    elif operator == "+":
        values[-1] += last
    elif operator == "-":
        values[-1] -= last
    elif operator == "*":
        values[-1] *= last
    elif operator == "/":
        values[-1] /= last
    else:
        raise ValueError(operator)


def solution_key(solution: str, level: Level) -> Hashable | None:
    """What two solutions must share to count as the same.

    `exact`: the text (compare token ids yourself where you have them); `normalised`: the text up to white space and
    the form of numbers; `equation`: the list of its equations in order, None (rejected) if one of them is wrong or
    there is none.

    References: Yuan et al. (2023), Scaling Relationship on Learning Mathematical Reasoning with LLMs, arXiv 2308.01825.
    """
    if level == "exact":
        return solution
    if level == "normalised":
        return " ".join(_numbers_in_one_form(solution.translate(_SYMBOLS)).split())
    if level != "equation":
        raise BadInput(f"level: {level!r}; must be one of {', '.join(LEVELS)}{nearest(level, LEVELS)}")
    equations = steps(solution)
    return tuple(step.equation for step in equations) if equations and all(s.correct for s in equations) else None


def deduplicate(solutions: Sequence[Sequence[Hashable]], keys: Sequence[Hashable | None]) -> list[int]:
    """Indices of one solution per key, in order; those whose key is None are dropped.

    The first of each key is kept at the start; then, key by key, it gives way to the one with the largest summed edit
    distance to the solutions kept for the other keys (the earlier one when equal), RFT's rule for variety.

    Args:
        solutions: texts, or what the edit distance is over: `text.split()` or token ids are several times as fast.
        keys: one for each (`solution_key`).
    """
    if len(keys) != len(solutions):
        raise BadInput(f"keys: {len(keys)} for {len(solutions)} solutions; must be one for each")
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        if key is not None:
            groups.setdefault(key, []).append(index)
    kept = {key: members[0] for key, members in groups.items()}
    for key, members in groups.items():
        members = sorted({tuple(solutions[index]): index for index in reversed(members)}.values())
        others = [solutions[index] for other, index in kept.items() if other != key]
        if len(members) > 1 and others:
            kept[key] = max(members, key=lambda index: sum(edit_distance(solutions[index], other) for other in others))
    return sorted(kept.values())


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Levenshtein's distance, by bit vectors: O(len(b)) operations on integers of len(a) bits.

    References: Hyyrö (2003), A bit-vector algorithm for computing Levenshtein and Damerau edit distances.
    """
    if not a:
        return len(b)
    places: dict[Hashable, int] = {}
    for index, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << index
    every, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    rises, falls, distance = every, 0, len(a)
    for item in b:
        match = places.get(item, 0)
        zero = (((match & rises) + rises) ^ rises) | match | falls
        across_rises, across_falls = falls | ~(zero | rises) & every, rises & zero
        distance += bool(across_rises & last) - bool(across_falls & last)
        across_rises, across_falls = across_rises << 1 | 1, across_falls << 1
        rises, falls = (across_falls | ~(zero | across_rises)) & every, across_rises & zero & every
    return distance


def _compact(side: str) -> str:
    return re.sub(r"\s+", "", _numbers_in_one_form(side))


def _numbers_in_one_form(text: str) -> str:
    return _NUMBERS.sub(lambda match: _one_form(match[0]), text)


def _one_form(digits: str) -> str:
    """`1,234.50`, `01234.5` -> `1234.5`."""
    whole, _, rest = digits.replace(",", "").partition(".")
    rest = rest.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{rest}" if rest else "")
