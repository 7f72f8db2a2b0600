"""Flags as overrides: `--ppo.learning-rate 1e-3` is the path `ppo.learning_rate` with the value 0.001.

tyro writes the help text, but does not parse: a run must record exactly which fields the user gave (a parser of whole
configurations returns the merged result only), refuse a mistake in one line with the nearest spelling (tyro draws a box
and leaves the process), and start before anything large is imported. So there is one parser, this one, for the options
of the commands and for the fields of a study alike, since both are dataclasses made by `setting`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tutelage.lab.configuration import Field, fields, no_such_field
from tutelage.lab.errors import BadInput

_WORDS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


class Arguments(NamedTuple):
    """A command line taken apart: the words that are no flags, and the flags with their values as text.

    A flag that lacks its value has None, so that an unknown flag is refused as unknown first.
    """

    words: list[str]
    flags: list[tuple[str, str | None]]


def flag(path: str) -> str:
    """How a path is written on the command line: `--ppo.learning-rate`."""
    return "--" + path.replace("_", "-")


def split_flags(argv: Sequence[str], switches: Collection[str] = ()) -> Arguments:
    """Take a command line apart. A flag is followed by one value (or joined to it by `=`); a switch by none.

    A word is a flag when it begins with two hyphens, so `-0.5` is a value; a value that begins with two hyphens is
    given with `=`. Paths come back with underscores, a switch with the value "true".

    Raises `BadInput` where a flag is given twice.
    """
    words: list[str] = []
    flags: dict[str, str | None] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            words.append(word)
            continue
        name, joined, text = word[2:].partition("=")
        path = name.replace("-", "_")
        if path in flags:
            raise BadInput(f"{flag(path)}: given twice")
        if joined:
            flags[path] = text
        elif path in switches:
            flags[path] = "true"
        else:
            flags[path] = rest.pop(0) if rest and not rest[0].startswith("--") else None
    return Arguments(words, list(flags.items()))


def parse_flags(argv: Sequence[str], config: Any) -> dict[str, Any]:
    """The overrides that a command line gives to a configuration (see `override`), as values of each field's type.

    Raises `BadInput` in one line for an unknown flag (with the nearest spelling), a value that cannot be read, and for
    a word that belongs to no flag.
    """
    words, flags = split_flags(argv)
    if words:
        raise BadInput(f"{words[0]!r}: unexpected; settings are written --name value")
    return parse_values(flags, fields(type(config)))


def parse_values(flags: Iterable[tuple[str, str | None]], known: Mapping[str, Field]) -> dict[str, Any]:
    """Texts to values by path, each checked against its field. Raises `BadInput` like `parse_flags`."""
    values: dict[str, Any] = {}
    for path, text in flags:
        if path not in known:
            raise BadInput(f"{flag(path)}: {no_such_field(path, known, flag)}")
        if text is None:
            raise BadInput(f"{flag(path)}: a value is missing")
        field = known[path]
        value = tuple(_read(field, part) for part in text.split(",") if part) if field.many else _read(field, text)
        if (problem := field.problem(value)) is not None:
            raise BadInput(problem)
        values[path] = value
    return values


def _read(field: Field, text: str) -> Any:
    """One value as written by a person: `1e6` and `1_000_000` are whole numbers, `on` is true."""
    try:
        if field.kind is bool:
            return _WORDS[text.lower()]
        if field.kind is int:
            return _whole(text)
        return field.kind(text)
    except (KeyError, ValueError, OverflowError):
        raise BadInput(f"{field.path} = {text!r}: must be {field.allowed}") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if number != int(number):
            raise
        return int(number)
