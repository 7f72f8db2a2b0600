"""Help text by tyro: every option and every setting with its sentence, unit, range, source and present default."""

from __future__ import annotations

import dataclasses
import sys
import typing
from typing import Annotated, Any

import tyro

from tutelage.lab.configuration import Field, fields

_METAVARS = {int: "INT", float: "FLOAT", bool: "{True,False}", str: "TEXT"}


def show(prog: str, description: str, options: Any, config: Any = None) -> None:
    """Print the help of a command: its options, then the settings of a study's configuration with their defaults.

    Both are instances; what they hold is printed as the default, so the chosen arm and preset show.
    """
    parts = [("options", options)] + ([] if config is None else [("settings", config)])
    # An empty name: the fields of the two stand at the top, without a prefix.
    top = tyro.conf.arg(name="")
    mirrors = [(name, _mirror(part, fields(type(part)), "", switches=part is options)) for name, part in parts]
    entries = [(name, Annotated[type(mirror), top], dataclasses.field(default=mirror)) for name, mirror in mirrors]
    form = dataclasses.make_dataclass("Form", entries, frozen=True)
    form.__doc__ = ""
    try:
        tyro.cli(form, prog=prog, description=description, args=["--help"])
    except SystemExit:
        sys.stdout.flush()


def _mirror(config: Any, known: dict[str, Field], prefix: str, *, switches: bool = False) -> Any:
    """The same dataclass again, every field annotated for tyro with its sentence and what it may be."""
    entries = []
    hints = typing.get_type_hints(type(config))
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if dataclasses.is_dataclass(value):
            inner = _mirror(value, known, f"{prefix}{entry.name}.")
            entries.append((entry.name, type(inner), dataclasses.field(default=inner)))
            continue
        field = known[prefix + entry.name]
        if field.word:
            continue
        if switches and field.kind is bool:
            kind = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=field.help)]
        else:
            argument = tyro.conf.arg(help=_sentences(field), metavar=_metavar(field))
            kind = Annotated[hints[entry.name], tyro.conf.FlagConversionOff, argument]
        entries.append((entry.name, kind, dataclasses.field(default=value)))
    mirror = dataclasses.make_dataclass(type(config).__name__, entries, frozen=True)
    mirror.__doc__ = type(config).__doc__
    return mirror()


def _metavar(field: Field) -> str:
    words = _METAVARS[field.kind] if field.choices is None else "{" + ",".join(field.choices) + "}"
    if field.length is not None:
        return ",".join([words] * field.length)
    return words + ",…" if field.many else words


def _sentences(field: Field) -> str:
    """The field's sentence, then range, unit and source where they are known."""
    facts = [
        f"Range {field.interval.text}." if field.interval else "",
        f"Unit: {field.unit}." if field.unit else "",
        f"Source: {field.source}." if field.source else "",
    ]
    return " ".join([field.help, *(fact for fact in facts if fact)])
