"""Grading final answers: the number after the last marker, compared as an exact rational.

Nothing of the text is evaluated; whatever is not exactly one number is unparsed, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from tutelage.lab.errors import BadInput
from tutelage.posttraining.grading.markers import after_marker
from tutelage.posttraining.grading.notation import Answer, single_number

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")


class Graded(NamedTuple):
    """The samples of one question.

    Attributes:
        votes: what each sample votes for, None where it is unparsed; all correct ones vote alike.
        correct: whether each is correct.
    """

    votes: list[Fraction | None]
    correct: list[bool]


@lru_cache(maxsize=1 << 16)
def parse_answer(text: str) -> Answer | None:
    """The one number in the text, exactly; None if there is none, more than one, or one that is part of something.

    Understood: thousands commas, currency signs, percent, a trailing dot, fractions `3/4`, mixed numbers `1 1/2`, signs
    (Unicode ones too), `1.5e3`, `2 x 10^3`, `1.5 million`, digits of any script, words before and units after it
    (`12 km/h`, `5 m^2`), emphasis, LaTeX spacing and numeric `\\frac`. After an equals sign (`x = 3`) only the last
    side counts. `tutelage.posttraining.grading.notation` says what may stand beside a number; of `x+1`, `3x`, `5!`,
    `|-3|`, `-(3)`, `v1.2`, `3-5` or `4 10/3` no part is read.
    """
    text = text.strip()
    if _WHOLE.fullmatch(text):
        return Answer(Fraction(int(text)))
    return single_number(text)


def read_answer(text: str) -> Answer | None:
    """The number after the last marker of a solution; None if there is no marker or no single number behind it."""
    tail = after_marker(text)
    return None if tail is None else parse_answer(tail)


@lru_cache(maxsize=1 << 16)
def reference_answer(reference: str) -> Answer:
    """The answer of a reference: a solution with a marker, or the bare answer.

    Raises:
        BadInput: it cannot be parsed.
    """
    tail = after_marker(reference)
    answer = parse_answer(reference if tail is None else tail)
    if answer is None:
        raise BadInput(f"reference answer: no single number in {reference[-60:]!r}")
    return answer


def same_answer(ours: Answer, reference: Answer) -> bool:
    """Equal as exact rationals. A percent sign on one side only may be a unit or a factor 1/100: either reading counts.

    So `50%` equals the references 50 and 0.5.
    """
    if ours.value == reference.value:
        return True
    if ours.percent == reference.percent:
        return False
    hundredth = ours.value / 100 if ours.percent else ours.value * 100
    return hundredth == reference.value


def grade(text: str, reference: str) -> bool:
    """Whether the solution's final answer is the reference's; an unparsed answer is wrong.

    Raises:
        BadInput: the reference cannot be parsed.
    """
    ours = read_answer(text)
    return ours is not None and same_answer(ours, reference_answer(reference))


def grade_samples(texts: Sequence[str], reference: str | Answer) -> Graded:
    """The samples of one question, ready for `tutelage.measures.sampled_answers` (`answer_ids` of the votes)."""
    truth = reference if isinstance(reference, Answer) else reference_answer(reference)
    votes: list[Fraction | None] = []
    correct = []
    for text in texts:
        ours = read_answer(text)
        right = ours is not None and same_answer(ours, truth)
        correct.append(right)
        votes.append(truth.value if right else None if ours is None else ours.value)
    return Graded(votes, correct)
