"""The table of studies: one module per paper, imported only when asked for; and finished runs, loaded again."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from tutelage.lab import configuration
from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.program import Program, State
from tutelage.lab.storage import checkpoint
from tutelage.lab.storage.record import RunFolder
from tutelage.lab.study import Config, Study

STUDIES: dict[str, str] = {
    "compositional_attention": "tutelage.studies.compositional_attention",
    "minimax": "tutelage.studies.minimax",
    "mixing": "tutelage.studies.mixing",
    "mogfn": "tutelage.studies.mogfn",
    "reason_rl": "tutelage.studies.reason_rl",
}


def load(name: str) -> Study:
    """The study of that name. Raises `BadInput` with the nearest name when there is none."""
    if name not in STUDIES:
        raise BadInput(f"study {name!r} is not one of {', '.join(STUDIES)}{nearest(name, STUDIES)}")
    return importlib.import_module(STUDIES[name]).study


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


def load_run(folder: str | Path) -> LoadedRun:
    """Load the newest good checkpoint of a run, finished or not.

    Raises:
        BadInput: the folder holds no run or no usable checkpoint, or one of a study that is not here.
    """
    files = RunFolder(folder)
    if not files.exists():
        raise BadInput(f"{folder} holds no run (no config.json)")
    recorded = files.config()
    study = load(recorded["study"])
    config = configuration.from_json(study.config, recorded["config"])
    found, notes = checkpoint.latest_good(files.checkpoints)
    if found is None:
        raise BadInput(f"{folder} holds no checkpoint yet")
    program = study.program(config, recorded["seeds"])
    return LoadedRun(study, config, program, program.load(found.arrays), found.step, notes)
