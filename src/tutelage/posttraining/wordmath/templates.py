"""The words of `wordmath`: how quantities, their relations, questions and solution steps are said.

Every number stands after a space and every line starts with a word, so that a number is always the same token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NAMES = (
    *("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "June"),
    *("Kofi", "Lena", "Max", "Nina", "Omar", "Pia", "Quinn", "Rosa", "Sam", "Tara"),
)
THINGS = ("apples", "books", "coins", "shells", "stamps", "cards", "pens", "beads", "stones", "eggs")
TOGETHER = "Together"
"""What stands for the person where the question asks for a sum."""

# {c} is the quantity that is told, {a} and {b} are those it is computed from, {k} is a number. Later templates are
# harder: they tell the relation from the other side.
FACTS = {
    "given": (
        "{c} has {k} {things}.",
        "There are {k} {things} in the bag of {c}.",
        "We count {k} {things} that belong to {c}.",
    ),
    "+k": (
        "{c} has {k} more {things} than {a}.",
        "{c} has as many {things} as {a} and {k} on top.",
        "{a} has {k} fewer {things} than {c}.",
    ),
    "-k": (
        "{c} has {k} fewer {things} than {a}.",
        "{c} would need {k} more {things} to have as many as {a}.",
        "{a} has {k} more {things} than {c}.",
    ),
    "*k": (
        "{c} has {k} times as many {things} as {a}.",
        "For each of the {things} of {a} there are {k} that {c} has.",
        "If {c} splits all {things} into {k} equal parts, one part is as much as {a} has.",
    ),
    "/k": (
        "The {things} of {a} are {k} times those of {c}.",
        "{c} has as many {things} as one of {k} equal parts of what {a} has.",
        "It takes {k} times the {things} of {c} to have as many as {a}.",
    ),
    "+": (
        "{c} has as many {things} as {a} and {b} together.",
        "Put together, the {things} of {a} and {b} are as many as those of {c}.",
        "Without what {a} has, {c} would have as many {things} as {b}.",
    ),
    "-": (
        "{c} has as many {things} as {a} has more than {b}.",
        "Taking the {things} of {b} away from those of {a} leaves as many as {c} has.",
        "{b} and {c} together have as many {things} as {a}.",
    ),
}
QUESTIONS = (
    "How many {things} does {c} have?",
    "What is the number of {things} that {c} has?",
    "Find out how many {things} belong to {c}.",
)
SUM_QUESTIONS = (
    "How many {things} do {a} and {b} have together?",
    "What is the number of {things} that {a} and {b} have in all?",
    "Find out how many {things} belong to {a} or {b}.",
)
STEPS = ("{c}: {equation}", "So for {c} we get {equation}.", "Next is {c} with {equation} {things}.")
ANNOTATED = "{c}: << {equation} >> {value} {things}"
NUM_TEMPLATES = len(QUESTIONS)

_WORDS = r" ?[^\W\d_]+| ?[^\w\s]+|[\s\S]"


def cuts(*, digits: bool = False) -> str:
    """The regular expression whose successive matches are `pieces`, in Python and, for letters and digits of any
    language, in `tokenizers` (the two disagree on what else is part of a word, such as superscripts)."""
    return (r"[0-9]| (?=[0-9])|" if digits else r" ?[0-9]+|") + _WORDS


_PIECES, _DIGIT_PIECES = re.compile(cuts()), re.compile(cuts(digits=True))


def pieces(text: str, *, digits: bool = False) -> list[str]:
    """The text cut into tokens, which joined are the text again: words and numbers with the space before them.

    With `digits` every digit is one piece, and the space before a number another, as in Llama's tokenizer.
    """
    return (_DIGIT_PIECES if digits else _PIECES).findall(text)


def vocabulary(max_value: int, *, digits: bool = False) -> list[str]:
    """Every piece that a problem or a solution with numbers in 0..max_value can have, in a fixed order."""
    texts: list[str] = ["\n", " ", "#### 1"]
    texts += [template for group in FACTS.values() for template in group]
    texts += [*QUESTIONS, *SUM_QUESTIONS, *STEPS, ANNOTATED]
    names = [*NAMES, TOGETHER]
    found: dict[str, None] = {}
    for template in texts:
        for person in names:
            blanks = {"c": person, "a": person, "b": person, "k": 1, "things": THINGS[0], "value": 1}
            line = template.format(**blanks, equation="1 + 1 - 1 * 1 / 1 = 1")
            # A sentence stands first or after another.
            found.update(dict.fromkeys((*pieces(line, digits=True), *pieces(f" {line}", digits=True))))
    found.update(dict.fromkeys(f" {thing}" for thing in THINGS))
    if digits:
        numbers: Iterable[str] = "0123456789"
    else:
        numbers = [f" {value}" for value in range(max_value + 1)]
    words = [piece for piece in found if not piece.strip().isdigit()]
    return sorted(words) + list(numbers)
