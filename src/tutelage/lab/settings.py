"""One number of a method: its default, a sentence, what is allowed, its unit and its source.

Every configuration is a frozen dataclass whose fields are made by `setting`; `--help`, range checks and the
configuration table of the report all read this metadata.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_INTERVAL = re.compile(r"^(\[|\()\s*(-?[\d.e+-]+|-inf)\s*,\s*(-?[\d.e+-]+|inf)\s*(\]|\))$")


@dataclass(frozen=True)
class Interval:
    """A range of numbers in the usual notation: `[0, 1]`, `(0, inf)`."""

    text: str
    low: float
    high: float
    closed_low: bool
    closed_high: bool

    @classmethod
    def parse(cls, text: str) -> Interval:
        match = _INTERVAL.match(text)
        if match is None:
            raise ValueError(f"interval {text!r} is not of the form '[a, b)'")
        left, low, high, right = match.groups()
        return cls(text, float(low), float(high), left == "[", right == "]")

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.closed_low else value > self.low
        below = value <= self.high if self.closed_high else value < self.high
        return above and below


def setting(
    default: Any,
    help: str,
    *,
    interval: str | None = None,
    choices: Sequence[str] | None = None,
    unit: str | None = None,
    source: str | None = None,
    word: bool = False,
    needed: bool = False,
) -> Any:
    """A dataclass field with a sentence (`help`), what is allowed, the unit, and where the number comes from.

    Args:
        word: of a command's arguments: not a flag but a word, in order; a tuple takes all words that are left.
        needed: of a command's arguments: it must be given; the default stands only for its type.
    """
    metadata = {
        "help": help,
        "interval": None if interval is None else Interval.parse(interval),
        "choices": None if choices is None else tuple(choices),
        "unit": unit,
        "source": source,
        "word": word,
        "needed": needed,
    }
    return dataclasses.field(default=default, metadata=metadata)


def part(kind: type) -> Any:
    """A nested part of a configuration, with its own defaults."""
    return dataclasses.field(default_factory=kind)
