"""Whether run folders are what they say: runs of arms that the study has, with settings that it has."""

from __future__ import annotations

from collections.abc import Collection

from tutelage.lab.configuration import configure, differences, flatten, from_json
from tutelage.lab.errors import BadInput
from tutelage.lab.report.gather import Material, Run
from tutelage.lab.study import Study


def misfits(material: Material, study: Study | None, known: Collection[str] = ()) -> list[str]:
    """A sentence for every run that does not fit its study: changed by hand, or of another version. All are shown.

    Args:
        study: that of all runs, or None.
        known: names of the studies that there are; empty: any may be.
    """
    found = []
    for run in material.runs:
        if known and run.study not in known:
            found.append(f"{run.label}: there is no study {run.study!r} here; it is shown as its files say.")
        elif study is not None and run.study == study.name and (reason := _reason(run, study)):
            found.append(f"{run.label} does not fit its study: {reason}; it is shown as its files say.")
    return found


def _reason(run: Run, study: Study) -> str:
    if run.arm not in study.arms:
        return f"{study.name} has no arm {run.arm!r}"
    if run.preset not in study.presets:
        return f"{study.name} has no preset {run.preset!r}"
    try:
        settings = flatten(from_json(study.config, dict(run.config)))
        expected = flatten(configure(study, run.arm, run.preset, dict(run.overrides))[0])
    except BadInput as error:
        return str(error)
    for path, (ours, theirs) in differences(expected, settings).items():
        return f"{path} is {theirs!r}, and {ours!r} for the arm {run.arm!r} at the preset {run.preset!r}"
    return ""
