"""Grading final answers: the number after the last marker, compared as an exact rational.

Nothing of the text is evaluated; whatever is not exactly one number is unparsed, never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from tutelage.lab.errors import BadInput

_CUE = re.compile(r"\banswer\b[\s*_]*(?:is\b\s*:?|[:=])", re.IGNORECASE)
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_LONGEST = 300
"""Characters of a line that is still read for an answer."""

_LATEX = (
    (re.compile(r"\\(?:left|right|displaystyle|[!,;:])"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[dtc]?frac\s*\{\s*([^{}]*?)\s*\}\s*\{\s*([^{}]*?)\s*\}"), r" \1/\2 "),
    (re.compile(r"\\[dtc]?frac\s*([0-9])\s*([0-9])"), r" \1/\2 "),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?"), " degrees "),
    (re.compile(r"\\(?:times|cdot)"), "*"),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\[()\[\] ]"), " "),
)
_CURRENCY = re.compile(r"[$€£¥₹]")
_POWER_OF_TEN = re.compile(r"(?<=[0-9.])\s*[x*×]\s*10\s*\^\s*\{?\s*([-+]?[0-9]+)\s*\}?")
_POWER = re.compile(r"[0-9)}]\s*\^")
_DECIMAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"""(?P<sign>(?:^\s*[-+]\s*)|(?<![\w.)\]}}])[-+])?
    (?<![A-Za-z0-9_^])
    (?: (?P<whole>[0-9]+)\s+(?:and\s+)?(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)
      | (?P<number>{_DECIMAL})(?:[eE](?P<exponent>[-+]?[0-9]+))?(?:\s*/\s*(?P<over>{_DECIMAL}))? )
    (?:\s*(?P<percent>%|per\s?cent\b)|\s*(?P<scale>thousand|million|billion|trillion)\b)?""",
    re.VERBOSE | re.IGNORECASE,
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


class Answer(NamedTuple):
    """An exact number, and whether it was given in percent (then `value` is the number before the sign)."""

    value: Fraction
    percent: bool = False


class Graded(NamedTuple):
    """The samples of one question.

    Attributes:
        votes: what each sample votes for, None where it is unparsed; all correct ones vote alike.
        correct: whether each is correct.
    """

    votes: list[Fraction | None]
    correct: list[bool]


def after_marker(text: str) -> str | None:
    r"""What stands after the last of `####`, `Answer:` ("answer is", any case) and `\boxed{…}`; None without a marker.

    The rest of that line (for `Answer:` the next line with text when it is empty); the braces' content for `\boxed`.
    """
    place = text.rfind("####")
    tail = text[place + 4 :]
    if "nswer" in text or "NSWER" in text:
        for cue in _CUE.finditer(text, max(place, 0)):
            place, tail = cue.start(), text[cue.end() :].lstrip(" \t\r\n*_:")
    boxed = text.rfind("\\boxed")
    if boxed > place:
        return _braced(text[boxed + len("\\boxed") :])
    return None if place < 0 else tail.partition("\n")[0]


@lru_cache(maxsize=1 << 16)
def parse_answer(text: str) -> Answer | None:
    """The one number in the text, exactly; None if there is none, or more than one.

    Understood: thousands commas, currency signs, percent, a trailing dot, fractions `3/4`, mixed numbers `1 1/2`, signs
    (Unicode ones too), `1.5e3`, `2 x 10^3`, `1.5 million`, words before and units after it (`12 km/h`, `5 m^2`),
    LaTeX spacing and numeric `\\frac`. After an equals sign (`x = 3`) only the last side counts.
    """
    text = text.strip()
    if _WHOLE.fullmatch(text):
        return Answer(Fraction(int(text)))
    if len(text) > _LONGEST:
        return None
    if not text.isascii():
        text = "".join(map(_ascii, text))
    if "\\" in text or "{" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    text = _CURRENCY.sub("", text).rpartition("=")[2]
    text = _POWER_OF_TEN.sub(r"e\1", text)
    if "\\" in text or _POWER.search(text):
        return None
    found = list(_NUMBER.finditer(text))
    return _value(found[0]) if len(found) == 1 else None


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


def _braced(text: str) -> str:
    """The content of the first braces, nested ones included; without braces (or their end) the rest of the line."""
    text = text.lstrip()
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[1:place] if place else text.partition("\n")[0]
    return text[1:].partition("\n")[0]


def _ascii(character: str) -> str:
    """Compatibility forms of a character, spelt so that `2½` does not become 21/2, nor `10²` 102."""
    if character.isascii():
        return character
    plain = unicodedata.normalize("NFKC", character)
    if "\u2044" in plain:
        return " " + plain.replace("\u2044", "/") + " "
    if unicodedata.decomposition(character).startswith("<super>"):
        return "^" + plain
    return "-" if plain == "\u2212" else plain


def _value(match: re.Match[str]) -> Answer | None:
    # Untrusted text: no number of thousands of digits, neither written out nor by its exponent.
    exponent = match["exponent"] or "0"
    if len(match[0]) > 100 or abs(int(exponent)) > 100:
        return None
    try:
        if match["whole"]:
            value = Fraction(match["whole"]) + Fraction(int(match["top"]), int(match["bottom"]))
        else:
            value = decimal(match["number"]) * Fraction(10) ** int(exponent)
            if match["over"]:
                value /= decimal(match["over"])
    except ZeroDivisionError:
        return None
    if match["sign"] and "-" in match["sign"]:
        value = -value
    if match["scale"]:
        value *= _SCALES[match["scale"].lower()]
    return Answer(value, percent=bool(match["percent"]))


def decimal(digits: str) -> Fraction:
    """`1,234.50`, `12.` or `.5`, exactly."""
    return Fraction(digits.replace(",", "").rstrip(".") or "0")
