"""The options of the commands: frozen dataclasses with a sentence per field, read like the settings of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from tutelage.lab.configuration import fields, no_such_field, override
from tutelage.lab.errors import BadInput
from tutelage.lab.overrides import flag, parse_values, split_flags
from tutelage.lab.settings import setting

O = TypeVar("O")  # noqa: E741


@dataclass(frozen=True)
class NoOptions:
    """No options."""


@dataclass(frozen=True)
class ListOptions:
    """Options of `list`."""

    json: bool = setting(False, "Print JSON, for programs.")


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `doctor`."""

    deep: bool = setting(False, "Check the mathematics too: policy gradients against exact ones.")


@dataclass(frozen=True)
class RunOptions:
    """Options of the run itself."""

    preset: str = setting("quick", "Scale: one of the study's presets.")
    seed: int = setting(0, "The seed.", interval="[0, 4294967295]")
    seeds: str = setting("", "Several seeds in the place of one: 0:8 (0 up to 7) or 0,3,5.")
    out: str = setting("", "Folder of the run; empty: runs/STUDY-PRESET/ARM/seed-N.")
    quiet: bool = setting(False, "No progress, only the last line.")


@dataclass(frozen=True)
class StudyOptions:
    """Options of the study itself."""

    preset: str = setting("quick", "Scale: one of the study's presets.")
    seeds: str = setting("", "Seeds of every arm: 0:5 (0 up to 4) or 0,3,5; empty: as many as the preset says.")
    arms: tuple[str, ...] = setting((), "Arms, with commas between them; empty: those of the preset.")
    out: str = setting("", "Folder of the study; empty: runs/STUDY-PRESET.")
    jobs: int = setting(
        -1, "Runs at a time, each a process of its own; 0: one per core; -1: as the study says.", interval="[-1, 1024]"
    )
    quiet: bool = setting(False, "No progress, only one line per run.")


@dataclass(frozen=True)
class ResumeOptions:
    """Options of `resume`."""

    jobs: int = setting(
        -1, "Of a study folder: runs at a time; 0: one per core; -1: as the study says.", interval="[-1, 1024]"
    )
    quiet: bool = setting(False, "No progress, only the last line.")


@dataclass(frozen=True)
class ReportOptions:
    """Options of `report`."""

    out: str = setting("", "The HTML file; empty: report.html in the first folder.")


class Parsed(NamedTuple, Generic[O]):
    """A command line read: its words, its options, and the flags that were neither (settings of the study)."""

    words: list[str]
    options: O
    given: frozenset[str]
    rest: list[tuple[str, str | None]]


def wants_help(argv: Sequence[str]) -> bool:
    """Whether help was asked for anywhere on the line."""
    return "--help" in argv or "-h" in argv


def read(kind: type[O], argv: Sequence[str], *, others: bool = False) -> Parsed[O]:
    """Read a command line by its options' dataclass. Its yes-or-no options are switches: they take no value.

    Args:
        others: flags that are no option are handed back; otherwise they are refused.

    Raises `BadInput` in one line, as `tutelage.lab.overrides` does.
    """
    known = {path: field for path, field in fields(kind).items() if not field.word}
    words, flags = split_flags(argv, [path for path, field in known.items() if field.kind is bool])
    rest = [(path, text) for path, text in flags if path not in known]
    if rest and not others:
        path = rest[0][0]
        raise BadInput(f"{flag(path)}: {no_such_field(path, known, flag)}")
    values: dict[str, Any] = parse_values([(path, text) for path, text in flags if path in known], known)
    return Parsed(words, override(kind(), values), frozenset(values), rest)


def read_all(kind: type[O], argv: Sequence[str]) -> O:
    """Read a whole command line, words included, by a dataclass that says which of its fields are words and needed.

    Raises `BadInput` in one line, for what is missing and for a word too many as well.
    """
    parsed = read(kind, argv)
    left, values = list(parsed.words), dict[str, Any]()
    for path, field in fields(kind).items():
        if field.word:
            taken, left = (left, []) if field.many else (left[:1], left[1:])
            if not taken and field.needed:
                raise BadInput(f"{path.upper()} is missing: {field.help}")
            if taken:
                values[path] = tuple(taken) if field.many else taken[0]
        elif field.needed and path not in parsed.given:
            raise BadInput(f"{flag(path)} is missing: {field.help}")
    if left:
        raise BadInput(f"{left[0]!r}: a word too many; usage: {usage(kind)}")
    return override(parsed.options, values)


def usage(kind: type) -> str:
    """The words and the needed flags of a command, as its usage shows them: `RUN --levels TEXT`."""
    shown = []
    for path, field in fields(kind).items():
        if field.word:
            word = path.upper() + ("…" if field.many else "")
            shown.append(word if field.needed else f"[{word}]")
        elif field.needed:
            kinds = {int: "INT", float: "FLOAT", str: "TEXT", bool: "BOOL"}
            shown.append(f"{flag(path)} {kinds[field.kind]}{',…' if field.many else ''}")
    return " ".join(shown)


def one_word(words: Sequence[str], what: str) -> str:
    """The single word that a command needs. Raises `BadInput` when there are none or more."""
    if len(words) != 1:
        raise BadInput(f"{' '.join(words) or 'nothing'}: give exactly one {what}")
    return words[0]


def existing(path: str) -> Path:
    """A folder that exists. Raises `BadInput`."""
    folder = Path(path)
    if not folder.is_dir():
        raise BadInput(f"{path}: no such folder")
    return folder


def parse_seeds(text: str) -> list[int]:
    """`0:8` is 0 … 7, `0,3,5` are these three, `4` is that one; combined with commas.

    Raises `BadInput` for anything else, for negative and repeated seeds and for an empty range.
    """
    seeds: list[int] = []
    for piece in text.split(","):
        low, colon, high = piece.partition(":")
        try:
            first = int(low)
            seeds += range(first, int(high)) if colon else [first]
        except ValueError:
            raise BadInput(f"seeds = {text!r}: must be like 0:8 (0 up to 7), 0,3,5 or 4") from None
    if not seeds or min(seeds) < 0 or max(seeds) > 2**32 - 1 or len(set(seeds)) < len(seeds):
        raise BadInput(f"seeds = {text!r}: must be distinct whole numbers in [0, 4294967295], at least one")
    return seeds
