"""What a command asks the driver to do: one job is one run folder."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage import studies
from tutelage.lab.configuration import arm_of, configure, from_json
from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic
from tutelage.lab.storage.record import RunFolder
from tutelage.lab.study import Study


@dataclass(frozen=True)
class Job:
    """One program to run: a configuration, the seeds that share it, and where its record goes."""

    study: Study
    arm: str
    preset: str
    overrides: Mapping[str, Any]
    config: Any
    seeds: tuple[int, ...]
    folder: Path

    @property
    def name(self) -> str:
        """The run in words: `accel seed 3`."""
        return f"{self.arm} {seeds_name(self.seeds).replace('-', ' ', 1)}"

    def finished(self) -> bool:
        """Whether this very run is complete on disk.

        Raises `BadInput` when the folder holds another run or something else, naming the first thing that differs.
        """
        from tutelage.lab import driver

        done = driver.finished(self.study, self.arm, self.config, self.seeds, self.folder)
        if not (self.folder / "config.json").exists() and self.folder.exists():
            if not self.folder.is_dir():
                raise BadInput(f"{self.folder}: is a file; give a folder with --out")
            # A run that was killed before its first write has left hidden files at most.
            if any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
                raise BadInput(f"{self.folder}: is not empty and holds no run; choose another --out")
        return done


def seeds_name(seeds: Sequence[int]) -> str:
    """`seed-3`, `seeds-0-7` for 0 … 7, `seeds-0,3,5`."""
    if len(seeds) == 1:
        return f"seed-{seeds[0]}"
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds-{seeds[0]}-{seeds[-1]}"
    return "seeds-" + ",".join(map(str, seeds))


def home(study: Study, preset: str, overrides: Mapping[str, Any]) -> Path:
    """Where runs go when no folder is given: `runs/STUDY-PRESET`, with a mark of the overrides where there are any.

    `run` and `study` agree on it, so runs made one by one count when the study is run.
    """
    name = f"{study.name}-{preset}"
    if overrides:
        text = json.dumps(dict(sorted(overrides.items())))
        name += "-" + hashlib.sha256(text.encode()).hexdigest()[:8]
    return Path("runs") / name


def plan(
    study: Study, arm: str, preset: str, overrides: Mapping[str, Any], seeds: Sequence[int], folder: Path
) -> tuple[list[Job], list[str]]:
    """The jobs of one arm, each in a folder of its own under `folder`, and the study's warnings.

    Seeds that share a program (`study.seeds == "vmap"`) share a folder. Raises `BadInput` before any work.
    """
    config, warnings = configure(study, arm, preset, overrides)
    groups = [tuple(seeds)] if study.seeds == "vmap" else [(seed,) for seed in seeds]
    jobs = [Job(study, arm, preset, overrides, config, group, folder / seeds_name(group)) for group in groups]
    return jobs, warnings


def recorded(folder: Path) -> Job:
    """The job of a run folder, from its `config.json` alone.

    Raises `BadInput` when that cannot be understood, naming the file and the field.
    """
    record = RunFolder(folder)
    found = record.config()
    where = record.config_file
    study = studies.load(found["study"])
    try:
        arm_of(study, found["arm"])
        config = from_json(study.config, found["config"])
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    return Job(study, found["arm"], found["preset"], found["overrides"], config, tuple(found["seeds"]), folder)


class Unreadable(BadInput):
    """A `study.json` that is torn."""


@dataclass(frozen=True)
class StudyPlan:
    """What `study.json` holds: enough to go on with a whole study."""

    study: str
    preset: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    overrides: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write or widen `study.json`. Raises `BadInput` where the folder holds another study, preset or overrides."""
        if (folder / "study.json").is_file():
            try:
                self._refuse_other(folder, read_plan(folder))
            except Unreadable:  # what the runs in it are, their own files say
                print(f"tutelage: {folder / 'study.json'}: was torn; written again", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_json(folder / "study.json", {"format": 1, **vars(self)})

    def _refuse_other(self, folder: Path, found: StudyPlan) -> None:
        for name in ("study", "preset", "overrides"):
            theirs, ours = getattr(found, name), atomic.plain(getattr(self, name))
            if theirs != ours:
                raise BadInput(f"{folder}: holds another study: {name} is {theirs!r} there, {ours!r} here")


def read_plan(folder: Path) -> StudyPlan:
    """Read `study.json`. Raises `BadInput` naming what is missing or of another kind."""
    file = folder / "study.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise Unreadable(f"{file}: is not JSON; the same `tutelage study …` command writes it again") from None
    kinds = {"study": str, "preset": str, "arms": list, "seeds": list, "overrides": dict}
    for name, kind in kinds.items():
        if not isinstance(found, dict) or not isinstance(found.get(name), kind):
            raise BadInput(f"{file}: {name}: missing or not what a study folder holds")
    if not all(type(seed) is int for seed in found["seeds"]):
        raise BadInput(f"{file}: seeds = {found['seeds']!r}: must be whole numbers")
    return StudyPlan(found["study"], found["preset"], tuple(found["arms"]), tuple(found["seeds"]), found["overrides"])
