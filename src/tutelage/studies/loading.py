"""Runs of any study, loaded again from their folders: to be gone on with, looked at, or put to use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tutelage.lab import configuration
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Program, State
from tutelage.lab.storage import checkpoint
from tutelage.lab.storage.record import RunFolder
from tutelage.lab.study import Config, Study
from tutelage.studies import load


@dataclass(frozen=True)
class LoadedRun:
    """A run from its folder: what it was, and its newest state, ready to go on or to be looked at.

    Attributes:
        step: updates done when the state was saved.
        notes: one line for each damaged checkpoint that was passed over.
    """

    study: Study
    config: Config
    program: Program
    state: State
    step: int
    notes: list[str]


def load_run(folder: str | Path, *, of: str = "") -> LoadedRun:
    """Load the newest good checkpoint of a run, finished or not.

    Args:
        of: the study that it has to be of; empty: any.

    Raises:
        BadInput: the folder holds no run or no usable checkpoint, or one of another study or of one that is not here.
    """
    files = RunFolder(folder)
    if not files.exists():
        raise BadInput(f"{folder} holds no run (no config.json)")
    recorded = files.config()
    if of and recorded["study"] != of:
        raise BadInput(f"{folder} holds a run of {recorded['study']!r}; must be of {of!r}")
    study = load(recorded["study"])
    config = configuration.from_json(study.config, recorded["config"])
    found, notes = checkpoint.latest_good(files.checkpoints)
    if found is None:
        raise BadInput(f"{folder} holds no checkpoint yet")
    program = study.program(config, recorded["seeds"])
    return LoadedRun(study, config, program, program.load(found.arrays), found.step, notes)
