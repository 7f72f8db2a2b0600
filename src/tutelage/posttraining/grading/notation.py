"""Texts that are exactly one number: how it may be written, and what may stand beside it.

A number is read only where nothing around it could make it a part of something else. What may stand beside it are words
of two letters or more, units, currency, brackets around it, punctuation and emphasis. Whatever else there is leaves the
text unparsed: operators, single letters as of variables (units of one letter stand behind a space or `/`: `3 m`, not
`3m`), further digits, `!`, `|`, `~`, `±`, a second equation, and words that calculate (`twice 3`), deny (`not 3`), go
on with the number (`3 dozen`, `5 bn`, `5万`) or name a bound that it does not reach (`more than 3`; `at least 3` and
`about 3` are 3). What is taken away (currency, emphasis, LaTeX's spacing) never joins what stands on its two sides.
Nothing is evaluated and nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

from tutelage.posttraining.grading.arithmetic import decimal

_LATEX = (
    (re.compile(r"(?<=[0-9]),?\\[!,;:](?=[0-9]{3}(?![0-9]))"), ","),
    (re.compile(r"\\(?:left|right|displaystyle|[!,;:])"), " "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"), r" \1 "),
    (
        re.compile(r"\\[dtc]?frac\s*(?:\{\s*([-+]?[0-9.,]+)\s*\}|([0-9]))\s*(?:\{\s*([0-9.,]+)\s*\}|([0-9]))"),
        r" \1\2/\3\4 ",
    ),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?"), " degrees "),
    (re.compile(r"\\(?:times|cdot)"), "*"),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\[()\[\] ]"), " "),
)
_CURRENCY = re.compile(r"[$€£¥₹¢]")
_SPLIT_BY_CURRENCY = re.compile(r"[0-9.,]\s*[$€£¥₹¢]+\s*[-+]?[0-9.]")
_SHORT_SCALE = re.compile(r"[$€£¥₹]\s*[0-9.,]*[0-9]\s*[mtMTK]\b(?!/)")
_EMPHASIS = re.compile(
    r"(?<![\w).*])(?:\*{1,3}|_{1,3}|`{1,3})(?=[^\s*_`])|(?<=[^\s*_`])(?:\*{1,3}|_{1,3}|`{1,3})(?![\w(*])"
)
_POWER_OF_TEN = re.compile(r"(?<=[0-9.])\s*[x*×]\s*10\s*\^\s*\{?\s*([-+]?[0-9]+)\s*\}?")
_DECIMAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+]\s*)?
    (?<![A-Za-z0-9_^.])
    (?: (?P<whole>[0-9]+)\s+(?:and\s+)?(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)
      | (?P<number>{_DECIMAL})(?:[eE](?P<exponent>[-+]?[0-9]+))?(?:\s*/\s*(?P<over>{_DECIMAL}))? )
    (?:\s*(?P<percent>%|per\s?cent\b)|\s*(?P<scale>thousand|million|billion|trillion)s?\b)?""",
    re.VERBOSE | re.IGNORECASE,
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_UNITS = (
    "μg|mg|kg|lbs?|oz|μm|mm|cm|dm|km|ft|yd|mi|mph|kph|kmh|ml|mL|cl|dl|gal|hrs?|mins?|secs?|ms|μs|ns|Hz|kHz|MHz|GHz|kW|kWh|kJ|"
    "px|pts?|USD|EUR|GBP|usd|eur|gbp|dollars?|cents?|degrees?|deg"
)
"""Units that may be glued to a number. A single letter may not: `3x`, `3m` and `3k` may be products or short forms."""
_LETTER_UNITS = "mghslLtKCFNJWVA"
"""Units of one letter, which may stand after a space, `/` or another unit."""
_BESIDE = " \t\r\n\xa0.,;:?!'\"’‘“”[](){}—…°`-"
_OPENING = " \t\xa0([{:\"'‘“`"
_LOOSE = re.compile(r"(?<![^\W\d_])[-!]|-(?![^\W\d_])")
"""A hyphen that joins no two words, an exclamation mark behind no word."""
_LETTER = "A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ӿ"
"""Letters that may be variables: Latin, Greek and Cyrillic ones."""
_SINGLE = re.compile(rf"(?<![{_LETTER}'’])[{_LETTER}](?![{_LETTER}'’])")
_GLUED = re.compile(rf"[{_LETTER}_]")
_GLUED_UNIT = re.compile(rf"(?:{_UNITS})(?![{_LETTER}])")
_UNIT_POWER = re.compile(rf"(?<![A-Za-z])(?:{_UNITS}|[{_LETTER_UNITS}])\s?\^?\s?-?[1-4](?![0-9])")
_PER = re.compile(rf"(?<=[A-Za-z0-9)]) ?/ ?(?=(?:[A-Za-z]{{2,}}|[{_LETTER_UNITS}](?![A-Za-z])))")
_PARTS = (
    "halves|half|thirds?|fourths?|quarters?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|elevenths?|twelfths?|"
    "[a-z]+teenths?|[a-z]+tieths?|hundredths?|thousandths?|[a-z]+llionths?"
)
_COUNTS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|"
    "eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundreds?|thousands?|[mb]illions?|dozens?"
)
_CALCULATES = re.compile(
    r"\b(?:sqrt|cbrt|root|pi|tau|sin|cos|tan|cot|log|ln|exp|mod|modulo|choose|factorial|divided|multiplied|squared|cubed|"
    r"infinity|inf|nan|minus|negative|not|can['’]?t|isn['’]?t|cannot|never|wrong|incorrect|neither|nor|"
    r"twice|thrice|double|triple|quadruple|[a-z]+fold|point|mille)\b|"
    r"\b(?:times|plus|over|by|and|of|or|to|than|from|away|past|base|remainder)\s+(?:(?:an?|the)\s+)?"
    rf"(?:{_COUNTS}|{_PARTS})\b|"
    rf"\b(?:{_COUNTS}|{_PARTS})[\s-]+(?:times|plus|over|of|or|to|and|past)\b|"
    r"\b(?:feet|foot|ft|yards?|pounds?|lbs?|minutes?|hours?|days?|weeks?|months?|years?|dollars?)\s+"
    rf"(?:{_COUNTS})\s+(?:in|inch(?:es)?|ounces?|seconds?|minutes?|hours?|days?|weeks?|months?|cents?)\b|"
    r"\bin (?:binary|octal|hex(?:adecimal)?)\b",
    re.IGNORECASE,
)
"""Words that make another number of the one beside them, wherever they stand."""
_BEFORE = re.compile(
    rf"\b(?:(?:{_COUNTS}|{_PARTS}|and|times|plus|square|cube|no|except|but|over|under|above|below|exceeds)[\s-]*|"
    r"(?:(?<!no )(?:more|less|fewer|greater|higher|lower|larger|smaller|bigger) than|"
    r"(?:square|cube|power|opposite|reciprocal|inverse|complement|absolute value|remainder) of)\s*)$|"
    r"^\W*[aAI]\s+$",
    re.IGNORECASE,
)
"""Words of which the number behind them is an argument, or a bound that it does not reach."""
_MORE = re.compile(
    rf"\s*(?:{_COUNTS}|{_PARTS}|score|gross|lakhs?|crores?|bn|mn|mil|tn|k|power)\b(?!-[A-Za-z])|\s+(?:st|nd|rd|th)\b|"
    r"\s+[aAI]\b\W*$",
    re.IGNORECASE,
)
"""What goes on with the number itself."""


class Answer(NamedTuple):
    """An exact number, and whether it was given in percent (then `value` is the number before the sign)."""

    value: Fraction
    percent: bool = False


def single_number(text: str) -> Answer | None:
    """The one number that a text is, exactly; None where it is none, more than one, or may be a part of something."""
    if not text.isascii():
        text = "".join(map(_ascii, text))
    if "\\" in text or "{" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    if _SPLIT_BY_CURRENCY.search(text) or _SHORT_SCALE.search(text):
        return None
    # What goes leaves something behind: no two numerals may become one.
    text = _EMPHASIS.sub("`", _CURRENCY.sub(" ", text))
    side = _last_side(_POWER_OF_TEN.sub(r"e\1", text))
    if side is None:
        return None
    found = list(islice(_NUMBER.finditer(side), 9))  # a unit has few exponents
    if len(found) > 1:
        powers = [power.span() for power in islice(_UNIT_POWER.finditer(side), 9)]
        found = [match for match in found if not any(a < match.start() < b for a, b in powers)]
    if len(found) != 1 or not _may_stand(side[: found[0].start()], found[0], side[found[0].end() :]):
        return None
    return _value(found[0])


_MARKED = {"<super>": "^", "<sub>": "#", "<circle>": "#"}
"""Before characters that are digits by their compatibility form, but are no digits of a number."""


def _ascii(character: str) -> str:
    """Compatibility forms of a character, so that `2½` does not become 21/2, nor `10²` 102; any script's digits."""
    if character.isascii():
        return character
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", character)
    if "\u2044" in plain:
        return " " + plain.replace("\u2044", "/") + " "
    kind = unicodedata.decomposition(character).partition(" ")[0]
    if kind in _MARKED:
        return _MARKED[kind] + plain
    return "-" if plain in "\u2212\u2010\u2011\u2013" and plain else plain


_IN_BRACKETS = re.compile(r"\([^()]*\)")
_SEPARATOR = re.compile(r"[,.]\s|[;:]|,(?![0-9]{3})|\s[A-Za-z]\s*$")


def _last_side(text: str) -> str | None:
    """What stands behind the last equals sign (`x = 3`, `3 * 4 = 12`), if no side before it tells another number."""
    *before, last = text.split("=")
    for side in before:
        end = len(side)
        while end and (not side[end - 1].isalpha() or _stands_alone(side, end - 1)):
            end -= 1  # an expression at the end of the side, of which the sign says what it is
        rest = side[:end]
        if (
            any(map(str.isdigit, rest))
            or _two_equations(side[end:])
            or side.rstrip()[-1:] in ("<", ">", "!", "~", "≈", "≠")
        ):
            return None
    return last


def _two_equations(side: str) -> bool:
    """Whether a side ends an equation that has a value and begins another: `5, y` of `x = 5, y = 6`."""
    side = _IN_BRACKETS.sub(" ", side).rstrip()
    digit = re.search("[0-9]", side)
    separator = digit and _SEPARATOR.search(side, digit.end())
    return bool(separator and side[separator.start() - 1] not in "+-*/^×·÷")


def _stands_alone(text: str, place: int) -> bool:
    around = (text[place - 1 : place] if place else "", text[place + 1 : place + 2])
    return not any(map(str.isalpha, around))


def _may_stand(before: str, match: re.Match[str], after: str) -> bool:
    """Whether what stands beside the number leaves it a number of its own."""
    if match["sign"] and not _is_sign(before, match["sign"]):
        return False
    if _GLUED.match(after) and (match["percent"] or match["scale"] or not _GLUED_UNIT.match(after)):
        return False
    if after[:1] in ("!", "(", "[", "{", ":", "'") and after[:2] not in (":", ": "):
        return False
    if re.search(r"[A-Za-z0-9)\]}][(\[{]\s*$", before):
        return False  # a function's argument
    after = _UNIT_POWER.sub(" unit ", after)
    after = _PER.sub(" per ", "0" + after)[1:] if after[:1] == "/" or "/" in after else after
    whole = f"{before} {after}"
    if not all(character in _BESIDE or _is_letter(character) for character in whole) or _LOOSE.search(whole):
        return False
    if not all(single[0] in "aAI" for single in _SINGLE.finditer(before)):
        return False
    if not all(single[0] in "aI" + _LETTER_UNITS for single in _SINGLE.finditer(after)):
        return False
    return not (_CALCULATES.search(whole) or _BEFORE.search(before) or _MORE.match(after))


def _is_letter(character: str) -> bool:
    """A letter that is no numeral of its script, as those of `五` and `5万` are."""
    return character.isalpha() and (character.isascii() or unicodedata.numeric(character, None) is None)


def _is_sign(before: str, sign: str) -> bool:
    """A sign belongs to the number where nothing is before it that it could join to it."""
    return not before.strip(_OPENING) or (len(sign) == 1 and before[-1] in _OPENING)


def _value(match: re.Match[str]) -> Answer | None:
    # Untrusted text: no number of thousands of digits, neither written out nor by its exponent.
    exponent = match["exponent"] or "0"
    if len(match[0]) > 100 or abs(int(exponent)) > 100:
        return None
    try:
        if match["whole"]:
            top, bottom = int(match["top"]), int(match["bottom"])
            if top >= bottom:
                return None  # the fraction of a mixed number is proper
            value = Fraction(match["whole"]) + Fraction(top, bottom)
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
