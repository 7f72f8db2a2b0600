"""Pictures of all runs together: for each task, errors against parameters, curves over training, and a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutelage.lab.drawing import comparisons, plots
from tutelage.lab.study import Exhibit, RunResult
from tutelage.studies.compositional_attention.arms import TASKS
from tutelage.studies.compositional_attention.claims import HEADLINES

SHOWN = {"retrieval": ("l1_iid", "l1_ood", "cue_accuracy"), **{task: (of[0],) for task, of in HEADLINES.items()}}


def panels(results: Sequence[RunResult]) -> list[Exhibit]:
    """The comparisons of a study, task by task, of the runs that have an evaluation."""
    shown: list[Exhibit] = []
    for task, figures in SHOWN.items():
        words = TASKS[task][0]
        runs = [run for run in results if run.arm.split("_")[0] == task and figures[0] in run.figures]
        if not runs:
            continue
        first = figures[0]
        picture = plots.scatter(
            [run.figures["parameters"] for run in runs],
            [run.figures[first] for run in runs],
            groups=[run.arm for run in runs],
            title=words.capitalize(),
            x_label="parameters",
            y_label=first,
        )
        caption = f"{first} at the end against the trainable numbers of the whole model, a point for each seed."
        shown.append(Exhibit(f"{task}-parameters", f"{words.capitalize()} against parameters", caption, svg=picture))
        for figure in figures:
            if followed := [run for run in runs if ("evaluation", figure) in run.series]:
                picture = comparisons.against(
                    _with_steps(followed, figure), figure, "step", title=f"{words}: {figure}", x_label="updates"
                )
                caption = "Over training; means over seeds with their 95 % intervals."
                shown.append(
                    Exhibit(
                        f"{task}-{figure.replace('_', '-')}", f"{words.capitalize()}: {figure}", caption, svg=picture
                    )
                )
        names = [name for name in runs[0].figures if all(name in run.figures for run in runs)]
        title = f"{words.capitalize()}, all figures"
        rows = comparisons.table(runs, names)
        shown.append(Exhibit(f"{task}-table", title, "Means over seeds.", rows=rows))
    return shown


def _with_steps(runs: Sequence[RunResult], figure: str) -> list[RunResult]:
    """The runs with the step itself as a figure to plot against."""
    made = []
    for run in runs:
        steps, _ = run.series["evaluation", figure]
        series = {**run.series, ("evaluation", "step"): (steps, np.asarray(steps, np.float64))}
        made.append(RunResult(run.arm, run.seed, run.figures, series, run.cost))
    return made
