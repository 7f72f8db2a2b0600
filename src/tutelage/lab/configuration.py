"""Any configuration as a flat list of fields: read, checked, changed, written and read back.

A configuration is a tree of frozen dataclasses whose fields come from `tutelage.lab.settings`. Here it is seen as a
mapping from dotted paths (`ppo.learning_rate`) to values, the form in which the command line changes it and in which
two configurations are compared. Nothing unknown is ever dropped in silence: whatever does not belong is refused by
name, with the nearest spelling.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.settings import Interval
from tutelage.lab.study import Arm, Preset, Study

C = TypeVar("C")

_ALLOWED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Field:
    """One number (or word) of a configuration: where it is, what it may be, and what `setting` says about it.

    Attributes:
        path: dotted, with underscores: `ppo.learning_rate`.
        kind: int, float, bool or str; of each element where `many`.
        many: the field is a tuple of `kind`.
        length: how many it must hold; None where any number will do.
        default: the value of a configuration made without arguments.
        word, needed: of a command's arguments, as `setting` says.
    """

    path: str
    kind: type
    many: bool
    length: int | None
    default: Any
    help: str
    interval: Interval | None
    choices: tuple[str, ...] | None
    unit: str | None
    source: str | None
    word: bool
    needed: bool

    @property
    def allowed(self) -> str:
        """What a value must be, in words that finish the sentence "must be"."""
        if self.choices is not None:
            words = ("some of " if self.many else "one of ") + ", ".join(repr(choice) for choice in self.choices)
        else:
            words = _ALLOWED[self.kind]
            if self.interval is not None:
                words += f" in {self.interval.text}"
            if self.many:
                words = f"{'a list' if self.length is None else f'{self.length} values'}, each {words}"
        return words

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, as one line, or None."""
        if self.many and (not isinstance(value, tuple) or self.length not in (None, len(value))):
            return self._refusal(value)
        elements: tuple[Any, ...] = value if self.many else (value,)
        for element in elements:
            if not isinstance(element, _accepted(self.kind)) or (isinstance(element, bool) and self.kind is not bool):
                return self._refusal(value)
            if isinstance(element, float) and not math.isfinite(element):
                return f"{self.path} = {value!r}: must be finite"
            if self.interval is not None and element not in self.interval:
                each = "each " if self.many else ""
                return f"{self.path} = {value!r}: {each}must be in {self.interval.text}"
            if self.choices is not None and element not in self.choices:
                return self._refusal(value) + nearest(str(element), self.choices)
        return None

    def coerce(self, value: Any) -> Any:
        """The value in this field's type: an int where a float is wanted becomes one, a JSON list becomes a tuple."""
        if self.many and isinstance(value, list | tuple):
            return tuple(dataclasses.replace(self, many=False).coerce(element) for element in value)
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return value

    def _refusal(self, value: Any) -> str:
        return f"{self.path} = {value!r}: must be {self.allowed}"


def _accepted(kind: type) -> tuple[type, ...]:
    return (int, float) if kind is float else (kind,)


def fields(config_type: type, prefix: str = "") -> dict[str, Field]:
    """All fields of a configuration type by path, in order of definition.

    Raises `TypeError` where the type itself is no configuration: a field made by neither `setting` nor `part`, or of a
    type that a flag cannot give (allowed: int, float, bool, str and tuples of one of these).
    """
    hints = typing.get_type_hints(config_type)
    found: dict[str, Field] = {}
    for entry in dataclasses.fields(config_type):
        path, hint = prefix + entry.name, hints[entry.name]
        if dataclasses.is_dataclass(hint):
            found |= fields(typing.cast(type, hint), path + ".")
            continue
        if "help" not in entry.metadata:
            raise TypeError(f"{config_type.__name__}.{entry.name} is made by neither setting nor part")
        many = typing.get_origin(hint) is tuple
        elements = typing.get_args(hint) if many else (hint,)
        length = None if not many or elements[-1] is Ellipsis else len(elements)
        kind = elements[0] if len({*elements} - {Ellipsis}) == 1 else hint
        if kind not in _ALLOWED:
            raise TypeError(f"{config_type.__name__}.{entry.name} is of type {hint}, which no flag can give")
        found[path] = Field(path, kind, many, length, entry.default, **entry.metadata)
    return found


def flatten(config: Any) -> dict[str, Any]:
    """The values by dotted path: `{"ppo.clip": 0.2, …}`, in order of definition."""
    values: dict[str, Any] = {}
    for path in fields(type(config)):
        value = config
        for name in path.split("."):
            value = getattr(value, name)
        values[path] = value
    return values


def override(config: C, overrides: Mapping[str, Any]) -> C:
    """The configuration with other values at some paths, each of the field's type.

    Raises `BadInput` for a path that is no field (with the nearest one) and for a value of another type or outside
    what the field allows.
    """
    known = fields(type(config))
    for path, value in overrides.items():
        if path not in known:
            raise BadInput(f"{path}: {no_such_field(path, known)}")
        value = known[path].coerce(value)
        if (problem := known[path].problem(value)) is not None:
            raise BadInput(problem)
        config = _replace(config, path.split("."), value)
    return config


def changing(changes: Mapping[str, Any]) -> Callable[[Any], Any]:
    """What arms and presets are made of: a function that gives a configuration these values at these paths."""
    return functools.partial(override, overrides=changes)


def arm(summary: str, changes: Mapping[str, Any], role: Literal["system", "baseline", "ablation"] = "system") -> Arm:
    """An arm that differs from the study's defaults at some paths."""
    return Arm(summary, changing(changes), role)


def _replace(config: Any, names: list[str], value: Any) -> Any:
    head, *rest = names
    return dataclasses.replace(config, **{head: _replace(getattr(config, head), rest, value) if rest else value})


def no_such_field(path: str, known: Iterable[str], shown: Callable[[str], str] = str) -> str:
    """Why a path is no field: a part that has fields, or an unknown name with the nearest spelling.

    Args:
        shown: how a suggested path is written, e.g. as a flag.
    """
    known = list(known)
    if inside := [name for name in known if name.startswith(path + ".")]:
        return f"a part of the configuration, not a setting; it has {', '.join(shown(name) for name in inside)}"
    suggestion = nearest_field(path, known)
    return "no such setting" + (f"; did you mean {shown(suggestion)!r}?" if suggestion else "")


def nearest_field(path: str, known: Iterable[str]) -> str | None:
    """The field that was probably meant: same last word, then its initials (`lr`), then the closest spelling."""
    known = list(known)
    last = {name: name.rpartition(".")[2] for name in known}
    word = path.rpartition(".")[2]
    same = [name for name in known if last[name] == word]
    initials = [name for name in known if "".join(part[:1] for part in last[name].split("_")) == word]
    if candidates := same or initials:
        return max(candidates, key=lambda name: difflib.SequenceMatcher(None, path, name).ratio())
    if close := difflib.get_close_matches(path, known, n=1, cutoff=0.6):
        return close[0]
    if close := difflib.get_close_matches(word, list(last.values()), n=1, cutoff=0.6):
        return next(name for name in known if last[name] == close[0])
    return None


def validate(config: Any) -> None:
    """Check every field: type, finite, inside its interval, among its choices.

    Raises `BadInput` with all problems in one line, such as `ppo.clip = 1.7: must be in (0, 1]`.
    """
    values = flatten(config)
    problems = (field.problem(values[path]) for path, field in fields(type(config)).items())
    if found := [problem for problem in problems if problem is not None]:
        raise BadInput("; ".join(found))


def to_json(config: Any) -> dict[str, Any]:
    """The configuration as nested dictionaries of plain JSON values."""
    return {
        entry.name: to_json(value)
        if dataclasses.is_dataclass(value)
        else list(value)
        if type(value) is tuple
        else value
        for entry in dataclasses.fields(config)
        for value in [getattr(config, entry.name)]
    }


def from_json(config_type: type[C], data: Any, prefix: str = "") -> C:
    """The inverse of `to_json`, strict: data from a file is a claim, not a configuration.

    Raises `BadInput` naming the first field that is unknown (with the nearest spelling), missing, of another type or
    outside what is allowed.
    """
    where = prefix.rstrip(".") or "the configuration"
    if not isinstance(data, dict):
        raise BadInput(f"{where} = {json.dumps(data, default=str)}: must be an object of fields")
    known = fields(config_type)
    names = [entry.name for entry in dataclasses.fields(typing.cast(Any, config_type))]
    for name in data:
        if name not in names:
            meant = nearest_field(name, [*names, *known])
            raise BadInput(
                f"{prefix}{name}: no such setting" + (f"; did you mean {prefix + meant!r}?" if meant else "")
            )
    hints = typing.get_type_hints(config_type)
    values: dict[str, Any] = {}
    for name in names:
        if name not in data:
            raise BadInput(f"{prefix}{name}: missing")
        if dataclasses.is_dataclass(hints[name]):
            values[name] = from_json(typing.cast(type, hints[name]), data[name], f"{prefix}{name}.")
        else:
            field = dataclasses.replace(known[name], path=prefix + name)
            values[name] = field.coerce(data[name])
            if (problem := field.problem(values[name])) is not None:
                raise BadInput(problem)
    return config_type(**values)


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where two flat mappings differ: path to both values, None for a path that one of them lacks."""
    paths = [*first, *(path for path in second if path not in first)]
    return {path: (first.get(path), second.get(path)) for path in paths if first.get(path) != second.get(path)}


def configure(study: Study, arm: str, preset: str, overrides: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The configuration of a run: the study's defaults, changed by the arm, the preset and the user, in that order.

    Returns it with the study's warnings. Raises `BadInput` for an unknown arm, preset or field, for a value that is
    not allowed and for a combination that the study refuses.
    """
    config = preset_of(study, preset).configure(arm_of(study, arm).configure(study.config()))
    config = override(config, overrides)
    validate(config)
    return config, study.check(config)


def arm_of(study: Study, name: str) -> Arm:
    """The arm of that name. Raises `BadInput` with the nearest name when there is none."""
    if name not in study.arms:
        known = ", ".join(study.arms)
        raise BadInput(f"arm {name!r} of {study.name} is not one of {known}{nearest(name, study.arms)}")
    return study.arms[name]


def preset_of(study: Study, name: str) -> Preset:
    """The preset of that name. Raises `BadInput` with the nearest name when there is none."""
    if name not in study.presets:
        known = ", ".join(study.presets)
        raise BadInput(f"preset {name!r} of {study.name} is not one of {known}{nearest(name, study.presets)}")
    return study.presets[name]


def perturbations(
    config: C, check: Callable[[C], object] = lambda config: None, paths: Iterable[str] | None = None
) -> Iterator[tuple[str, C]]:
    """For every field, the configuration with another legal value there: what a test needs to find unread fields.

    Args:
        check: refuses combinations by raising `BadInput` (a study's `check`); then the next candidate is tried.
        paths: these fields only.

    Raises `ValueError` naming the first field for which no candidate is legal.
    """
    values, known = flatten(config), fields(type(config))
    for path in known if paths is None else paths:
        field = known[path]
        for candidate in _candidates(field, values[path]):
            if candidate == values[path] or field.problem(candidate) is not None:
                continue
            changed = _replace(config, path.split("."), candidate)
            try:
                check(changed)
            except BadInput:
                continue
            yield path, changed
            break
        else:
            raise ValueError(f"{path} = {values[path]!r}: no other legal value found")


def _candidates(field: Field, value: Any) -> Iterator[Any]:
    """Other values to try, the least drastic that stay divisible by what the old one was divisible by first."""
    if field.many:
        single = dataclasses.replace(field, many=False)
        for position, element in enumerate(value):
            before, after = value[:position], value[position + 1 :]
            yield from ((*before, other, *after) for other in _candidates(single, element))
        if field.length is None:
            yield from (value[:-1], (*value, *value[-1:]))
    elif field.choices is not None:
        yield from field.choices
    elif field.kind is bool:
        yield not value
    elif field.kind is str:
        yield value + "x"
    else:
        if field.kind is int:
            yield from (2 * value, value // 2, value + 1, value - 1)
        else:
            yield from (2 * value, value / 2, value + 0.5, value - 0.5)
        if field.interval is not None:
            yield from (
                field.kind(bound) for bound in (field.interval.low, field.interval.high) if math.isfinite(bound)
            )
