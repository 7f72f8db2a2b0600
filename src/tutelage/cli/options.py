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

SWITCHES = frozenset({"quiet", "json", "chat", "deep", "absolute"})
"""Options that take no value."""


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


@dataclass(frozen=True)
class PlayOptions:
    """Options of `play`."""

    levels: str = setting("", "Text file of tasks (mazes: '#' wall, '.' free, 'G' goal, '>v<^' agent); needed.")
    episodes: int = setting(20, "Episodes on each task.", interval="[1, inf)", unit="episodes")
    seed: int = setting(0, "Seed of the episodes.", interval="[0, 4294967295]")
    out: str = setting("", "Folder for the animated walks (SVG); empty: print the table only.")


@dataclass(frozen=True)
class MixingOptions:
    """Options of `mixing`."""

    figure: str = setting("", "The figure whose series are the rollouts; empty: the reward, or the only one there is.")
    window: int = setting(0, "Steps over which you average; 0: the whole record.", interval="[0, inf)", unit="steps")
    skip: int = setting(0, "Steps at the beginning to leave out, say of learning.", interval="[0, inf)", unit="steps")
    eps: float = setting(0.1, "Allowed deviation of an average, as a share of the long-run one.", interval="(0, inf)")
    absolute: bool = setting(False, "The deviation is in units of reward.")
    quantile: float = setting(1.0, "Share of the rollouts that must have settled.", interval="(0, 1]")
    json: bool = setting(False, "Print JSON, for programs.")


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
    """Read a command line by its options' dataclass.

    Args:
        others: flags that are no option are handed back; otherwise they are refused.

    Raises `BadInput` in one line, as `tutelage.lab.overrides` does.
    """
    words, flags = split_flags(argv, SWITCHES)
    known = fields(kind)
    rest = [(path, text) for path, text in flags if path not in known]
    if rest and not others:
        path = rest[0][0]
        raise BadInput(f"{flag(path)}: {no_such_field(path, known, flag)}")
    values: dict[str, Any] = parse_values([(path, text) for path, text in flags if path in known], known)
    return Parsed(words, override(kind(), values), frozenset(values), rest)


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
