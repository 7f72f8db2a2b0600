"""The reward of `benchmarks/reason_rl.py` for whoever runs: standard library only, as peers lack our package."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\s*(-?\d+)")


def right_answer(text: str, answer: int) -> float:
    """1 if the number after the last `####` is the answer, else 0."""
    _, marker, tail = text.rpartition("####")
    found = _NUMBER.match(tail) if marker else None
    return float(found is not None and int(found[1]) == answer)
