"""Numbers and arithmetic as they are written, exactly: what graders of answers and readers of steps share."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

DECIMAL = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
"""Digits with a point, and commas only before thousands: `1,234.5`; of `1,23` or `1234,567` not the whole."""

_NUMBERS = re.compile(DECIMAL)
_TOKEN = re.compile(rf"{DECIMAL}|[-+*/()%]")
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "negative": 3}


def decimal(digits: str) -> Fraction:
    """`1,234.50`, `12.` or `.5`, exactly."""
    return Fraction(digits.replace(",", "").rstrip(".") or "0")


def western_digits(text: str) -> str:
    """The text with the decimal digits of every script as 0-9 (`١٢` as `12`), as many characters as before."""
    return text if text.isascii() else "".join(str(unicodedata.decimal(each, each)) for each in text)


def numbers_in(text: str) -> tuple[Fraction, ...]:
    """Every number that is written in digits, in order, without signs."""
    return tuple(map(decimal, _NUMBERS.findall(western_digits(text))))


def in_one_form(text: str) -> str:
    """The text with each number without commas and needless zeros: `1,234.50` and `01234.5` as `1234.5`."""
    return _NUMBERS.sub(lambda match: _one_form(match[0]), text)


def _one_form(digits: str) -> str:
    whole, _, rest = digits.replace(",", "").partition(".")
    rest = rest.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{rest}" if rest else "")


def within_rounding(truth: Fraction, value: Fraction, decimals: int) -> bool:
    """Whether the value is the truth, or the truth rounded to that many decimals; whole numbers are not rounded.

    100/3 is 33.33 to two decimals, and 33.3 to one.
    """
    return abs(truth - value) <= (Fraction(1, 2 * 10**decimals) if decimals else 0)


def evaluate(expression: str) -> Fraction | None:
    """The exact value of numbers, + − * / %, and brackets; None for anything else, a division by zero among it."""
    tokens = _TOKEN.findall(expression) if len(expression) <= 300 else []
    compact = "".join(expression.split())
    if "".join(tokens) != compact or "%%" in compact:
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
