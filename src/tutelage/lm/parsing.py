"""What a model's text says: a value, or `Unparsed` with the reason. Nothing is evaluated, nothing raises.

Systems decide what an unparsed answer means (abstain, ask once more with the reason, count it); the share of unparsed
answers is a figure of its own, and `Tally` stops a run in which it passes a threshold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tutelage.lab.errors import BadInput

Value = TypeVar("Value")

_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w)")
_FENCE = re.compile(r"```[\w-]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


@dataclass(frozen=True, slots=True)
class Unparsed:
    """The text did not have the wanted form; `reason` is one line that may be shown to the model."""

    reason: str


def tagged(text: str, tag: str, *, last: bool = True) -> str | Unparsed:
    """The content of `<tag>…</tag>`, stripped; the last one by default. Case of the tag does not matter.

    A missing close tag is tolerated: the content then ends at the next opening of the same tag or at the end of the
    text. A span whose content is empty does not count.
    """
    spans = [content for content in all_tagged(text, tag) if content]
    if not spans:
        return Unparsed(f"there is no <{tag}>…</{tag}> with text in it")
    return spans[-1 if last else 0]


def all_tagged(text: str, tag: str) -> list[str]:
    """The contents of every `<tag>…</tag>` in order, stripped, under the rules of `tagged` (empty ones included)."""
    name = re.escape(tag)
    pattern = rf"<{name}\s*>(.*?)(?:</{name}\s*>|(?=<{name}\s*>)|\Z)"
    return [match.group(1).strip() for match in re.finditer(pattern, text, re.DOTALL | re.IGNORECASE)]


def letter(text: str, options: str | Sequence[str] = "AB", *, cue: str = "Answer") -> str | Unparsed:
    """The option after the last `Answer:` (brackets, markdown and case do not matter), or the whole text if it is one.

    `options` are single letters or short words. Two different options after one cue ("A or B") are not an answer.
    """
    names = {option.casefold(): option for option in options}
    one = "|".join(re.escape(option) for option in sorted(names, key=len, reverse=True))
    alone = re.fullmatch(rf"[\s\W_]*({one})[\s\W_]*", text.casefold())
    if alone:
        return names[alone.group(1)]
    after = text.casefold().rpartition(f"{cue.casefold()}")
    if not after[1]:
        return Unparsed(f"there is no line '{cue}: ' followed by one of {', '.join(options)}")
    line = after[2].lstrip(" \t\r\n:*_=").partition("\n")[0]
    found = re.findall(rf"(?<![^\W_])({one})(?![^\W_])", line)
    start = re.match(rf"(?:is\s*:?|:|=)?[\s\W_]*({one})(?![^\W_])(?!['’])", line)
    if start and len(set(found)) == 1:
        return names[start.group(1)]
    if len(set(found)) > 1:
        return Unparsed(f"after '{cue}:' stand several of {', '.join(options)}: give exactly one")
    return Unparsed(f"after the last '{cue}:' stands none of {', '.join(options)}")


def numbers(text: str) -> list[float]:
    """Every finite number in the text, in order; `1,234`, `-3`, `.5`, `1e3` and a Unicode minus are understood."""
    found = []
    for match in _NUMBER.finditer(text):
        digits = match.group().replace(",", "").replace("−", "-")
        if any(character.isdigit() for character in digits):
            value = _finite(digits)
            if value is not None:
                found.append(value)
    return found


def number(
    text: str, low: float = -math.inf, high: float = math.inf, *, cue: str | None = None, whole: bool = False
) -> float | Unparsed:
    """The last number of the text within `[low, high]`; after the last `cue` if there is one to look for.

    A number outside the range is refused, not clipped. `7/10` and `7 out of 10` read as 7. `whole` refuses fractions.
    """
    if cue is not None:
        _, found, rest = text.casefold().rpartition(cue.casefold())
        if not found:
            return Unparsed(f"there is no '{cue}'")
        text = rest
    text = re.sub(r"(?<=\d)\s*(?:/|out of)\s*\d+(?:\.\d+)?", " ", text)
    every = numbers(text)
    if not every:
        return Unparsed("there is no number")
    value = every[0] if cue is not None else every[-1]
    if not low <= value <= high:
        return Unparsed(f"{value:g} is not in the range {low:g} to {high:g}")
    if whole and value != int(value):
        return Unparsed(f"{value:g} is not a whole number")
    return value


def json_value(text: str, schema: dict[str, Any] | None = None) -> Any | Unparsed:
    """The JSON value in the text (alone, fenced, or amid prose), mended where models usually slip.

    Trailing commas, single quotes, missing closers and comments are mended by `json_repair`. `schema` is checked for
    `type`, `properties`, `required`, `items`, `enum`, `minimum`, `maximum`; raises `BadInput` for other keywords, which
    would otherwise be believed to hold.
    """
    for candidate in _json_candidates(text):
        value = _loads(candidate)
        if value is not None:
            wrong = None if schema is None else violation(value, schema)
            return value if wrong is None else Unparsed(wrong)
    return Unparsed("there is no JSON value")


def violation(value: Any, schema: dict[str, Any], place: str = "the value") -> str | None:
    """What of a JSON schema (the keywords named in `json_value`) does not hold, in one line; None if all holds."""
    known = {"type", "properties", "required", "items", "enum", "minimum", "maximum", "description", "title"}
    known |= {"additionalProperties", "$schema"}
    if extra := set(schema) - known:
        raise BadInput(f"schema keyword {sorted(extra)[0]!r} is not checked; allowed: {', '.join(sorted(known))}")
    wanted = schema.get("type")
    kinds = [wanted] if isinstance(wanted, str) else (wanted or [])
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"{place} is not of type {' or '.join(kinds)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{place} is not one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        if not low <= value <= high:
            return f"{place} is {value}: must be in [{low}, {high}]"
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                return f"{place} has no field {name!r}"
        if schema.get("additionalProperties") is False and (extra := set(value) - set(properties)):
            return f"{place} has the field {sorted(extra)[0]!r}, which is not allowed"
        parts: Iterable[tuple[Any, Any, str]] = (
            (value[name], part, f"field {name!r}") for name, part in properties.items() if name in value
        )
    elif isinstance(value, list):
        parts = ((item, schema.get("items", {}), f"item {index}") for index, item in enumerate(value))
    else:
        return None
    return next((wrong for item, part, where in parts if (wrong := violation(item, part, where))), None)


@dataclass
class Tally:
    """Counts parsed and unparsed answers; `abort_above` of them unparsed (after `least` answers) is an error.

    Raises `BadInput` from `add` when the threshold is passed, naming the share and the commonest reason.
    """

    abort_above: float = 0.2
    least: int = 20
    total: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def unparsed(self) -> float:
        """The share of unparsed answers, 0 when there are none yet."""
        return sum(self.reasons.values()) / self.total if self.total else 0.0

    def add(self, value: Value | Unparsed) -> Value | Unparsed:
        """Count one answer and give it back."""
        self.total += 1
        if isinstance(value, Unparsed):
            self.reasons[value.reason] = self.reasons.get(value.reason, 0) + 1
            if self.total >= self.least and self.unparsed > self.abort_above:
                commonest = max(self.reasons, key=lambda reason: self.reasons[reason])
                raise BadInput(
                    f"{self.unparsed:.0%} of {self.total} answers could not be read (most often: {commonest}); "
                    f"allowed: {self.abort_above:.0%}"
                )
        return value


Parser = Callable[[str], Any]


def _is(value: Any, kind: str) -> bool:
    if kind not in _TYPES:
        raise BadInput(f"schema type {kind!r} is unknown; allowed: {', '.join(_TYPES)}")
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _finite(digits: str) -> float | None:
    try:
        value = float(digits)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _json_candidates(text: str) -> Iterable[str]:
    yield text.strip()
    yield from (match.group(1).strip() for match in reversed(list(_FENCE.finditer(text))))
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if starts:
        yield text[min(starts) :].strip()


def _loads(candidate: str) -> Any | None:
    if not candidate:
        return None
    try:
        return json.loads(candidate, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        pass
    if candidate[0] not in "{[":
        return None
    import json_repair

    try:
        value = json_repair.loads(candidate)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) and value else None
