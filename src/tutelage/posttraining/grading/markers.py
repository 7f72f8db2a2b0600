r"""Where a solution states its answer: after `####`, `Answer:` or in `\boxed{…}`."""

from __future__ import annotations

import re

_CUE = re.compile(r"\banswer\b[\s*_]*+(?:is\b\s*[:：]?|[:=：])", re.IGNORECASE)
_BOX = "\\boxed"
# What stands directly at a box changes its number: `-\boxed{3}`, `2\boxed{3}`, `\boxed{50}\%`, `\boxed{3}^2`.
_BEFORE_BOX = re.compile(r"([-+−±/^])\$?|[0-9]\$?")
_AFTER_BOX = re.compile(r"\$?(?:(\\?%|[\^/+-][^\s$]*)|[0-9])")
_PRODUCT = " * "


def after_marker(text: str) -> str | None:
    r"""What stands after the last of `####`, `Answer:` ("answer is", any case) and `\boxed{…}`; None without a marker.

    The rest of that line (for `Answer:` the next line with text when it is empty), however long; the braces' content
    for `\boxed`, with the sign, digit, operator or percent sign that stands directly at it.
    """
    place = text.rfind("####")
    tail = text[place + 4 :]
    if "answer" in text.lower():
        cues = list(_CUE.finditer(text, max(place, 0)))
        if cues:
            place, tail = cues[-1].start(), _behind_cue(text[cues[-1].end() :])
    boxed = text.rfind(_BOX)
    if boxed > place:
        before = _BEFORE_BOX.fullmatch(text, max(0, boxed - 2), boxed) or _BEFORE_BOX.fullmatch(text, boxed - 1, boxed)
        return _neighbour(before) + _braced(text[boxed + len(_BOX) :])
    return None if place < 0 else tail.partition("\n")[0]


def _behind_cue(text: str) -> str:
    """From the first text behind the cue on, without marks of emphasis that end there: `**Answer:** 12`."""
    text = text.lstrip(" \t\r\n:：")
    emphasis = re.match(r"[*_]+(?=\s|$)", text)
    return text[emphasis.end() :].lstrip(" \t\r\n:：") if emphasis else text


def _braced(text: str) -> str:
    """The content of the first braces, nested ones included; without braces (or their end) the rest of the line."""
    text = text.lstrip()
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            if not place:
                return text.partition("\n")[0]
            return text[1:place] + _neighbour(_AFTER_BOX.match(text, place + 1))
    return text[1:].partition("\n")[0]


def _neighbour(beside: re.Match[str] | None) -> str:
    """What stands directly at a box; a digit is a factor, and joins no number."""
    return "" if beside is None else beside[1] or _PRODUCT
