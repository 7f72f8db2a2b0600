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
from tutelage.posttraining.grading.arithmetic import (
    DECIMAL,
    evaluate,
    in_one_form,
    numbers_in,
    western_digits,
    within_rounding,
)

Level = Literal["exact", "normalised", "equation"]
LEVELS = ("exact", "normalised", "equation")

# No number is given up in part: `= 70 * 2` is not `= 7`.
_NUMBER = rf"(?<![0-9])(?>{DECIMAL})"
_OPERAND = rf"[-(\s]{{0,9}}{_NUMBER}%?[)\s]{{0,9}}"
# What goes on behind a result, so that the number there is not the whole right side.
_GOES_ON = r"""(?: [0-9_^¹²³⁰⁴-⁹¼-¾⅐-⅟(] | [.,:/][0-9] | [eE][-+]?[0-9]
    | \s*+[-+*/^]\s*+(?:[0-9(.]|(?![aI]\b)[A-Za-z]\b)
    | (?![mgshlLWV]\b)[A-Za-z]\b | \s++(?:and\s++)?[0-9]++\s*+/\s*+[0-9] | \s++\(\s*+[-0-9] )"""
# At most 40 operations: `1+1+1+…` without an end takes no time squared.
_PLAIN = re.compile(
    rf"(?P<left>{_OPERAND}(?:[-+*/]{_OPERAND}){{1,40}}+)=\s*(?P<right>-?\s*{_NUMBER}%?+)(?!(?x:{_GOES_ON}))"
)
_ANNOTATED = re.compile(r"<<(?P<left>[^<>=\n]{1,200})=(?P<right>[^<>=\n]{1,60})>>")
# As many characters as before, so that places in the text stay what they are.
_SYMBOLS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "$": " ", "€": " ", "£": " "})
_TIMES = re.compile(r"(?<=[0-9)])(\s*+)x(?=\s*+[0-9(.])")
# What before a left side makes it the end of a longer one: `x12 * 3`, `2(3) * 4`, `a + 3 * 4`, `x 3 * 4`.
_CONTINUED = re.compile(
    r"""(?: [\w.,^)\]}!²³] | (?<!\*)[+/^*]\s* | [\w)]\s*\*\*\s* | (?:^|[^\w'])(?![aAI]\s)[A-Za-z]\s+ )\Z""", re.VERBOSE
)
_SUBTRACTED_FROM = re.compile(r"[\w)%]\s+\Z")


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
    text = _TIMES.sub(r"\1*", western_digits(body.translate(_SYMBOLS)))
    if "<<" in text:
        matches = list(_ANNOTATED.finditer(text))
    else:
        matches = [match for match in _PLAIN.finditer(text) if _begins_there(text, match)]
    found = [Step(*read, match.end()) for match in matches if (read := _equation(_closed(match[1]), match[2]))]
    if found:
        found[-1] = found[-1]._replace(end=len(body.rstrip()))
    return tuple(found)


def _closed(left: str) -> str:
    """A left side without the brackets that open before it and close behind its equation: `in all (3 + 4 = 7)`."""
    while left.count("(") > left.count(")") and left.lstrip().startswith("("):
        left = left.lstrip()[1:]
    return left


def _begins_there(text: str, match: re.Match[str]) -> bool:
    """Whether a plain equation's left side is all of it, rather than the end of what could not be read."""
    left = match["left"]
    start = match.start() + len(left) - len(left.lstrip())
    before = text[max(0, start - 40) : start]
    if text[:start].strip() in ("*", "+"):
        return True  # an item of a list
    return not _CONTINUED.search(before) and not (text[start] == "-" and _SUBTRACTED_FROM.search(before))


@lru_cache(maxsize=1 << 16)
def _equation(left: str, right: str) -> tuple[str, str, Fraction, bool] | None:
    value, truth = evaluate(right), evaluate(left)
    if value is None:
        return None
    # Before zeros are dropped: 33.30 is not 100/3 to two decimals.
    fraction = right.strip().rstrip("%").partition(".")[2]
    decimals = len(fraction) + 2 * ("%" in right) if fraction.isdigit() else 0
    return _compact(left), _compact(right), value, truth is not None and within_rounding(truth, value, decimals)


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
        return " ".join(in_one_form(solution.translate(_SYMBOLS)).split())
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
    return re.sub(r"\s+", "", in_one_form(side))
