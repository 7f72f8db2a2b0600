"""Figures and curves of an arm over its seeds: the mean and its bootstrap interval, as tables and plots show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tutelage.lab.bootstrap import Interval, bootstrap, mean
from tutelage.lab.report.gather import Material
from tutelage.lab.study import RunResult

_MOST_POINTS = 160
"""Points of one curve; more would not be seen, and make the page heavy."""


class Summary(NamedTuple):
    """One figure of one arm: values of the seeds that have it, and their mean with interval (NaN for one seed)."""

    values: tuple[float, ...]
    estimate: float
    low: float
    high: float


class Course(NamedTuple):
    """A figure over the steps that all seeds share; `binned` steps were averaged into one point."""

    steps: np.ndarray
    interval: Interval
    num_seeds: int
    binned: int


def final(results: Sequence[RunResult], figure: str) -> Summary | None:
    """The final evaluation of a figure over seeds, or None where no seed has it."""
    values = [result.figures[figure] for result in results if np.isfinite(result.figures.get(figure, np.nan))]
    if not values:
        return None
    estimate, low, high = (float(part) for part in bootstrap(mean, values))
    return Summary(tuple(values), estimate, low, high)


def course(results: Sequence[RunResult], kind: str, figure: str) -> Course | None:
    """A recorded series over seeds. A seed that stopped early ends the curve for all: no mean over other seeds."""
    curves = []
    for result in results:
        if (kind, figure) in result.series:
            steps, values = result.series[kind, figure]
            finite = np.isfinite(values)
            # A step that was recorded twice (a resumed run) counts once, as it was recorded last.
            curves.append(dict(zip(steps[finite].tolist(), values[finite].tolist(), strict=True)))
    curves = [curve for curve in curves if curve]
    if not curves:
        return None
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not shared:
        return None
    table = np.array([[curve[step] for step in shared] for curve in curves])
    steps, binned = np.array(shared, dtype=np.float64), -(-len(shared) // _MOST_POINTS)
    if binned > 1:
        starts = np.arange(0, len(shared), binned)
        sizes = np.diff(np.append(starts, len(shared)))
        table = np.add.reduceat(table, starts, axis=1) / sizes
        steps = np.add.reduceat(steps, starts) / sizes
    return Course(steps, bootstrap(mean, table, num_resamples=1000), len(curves), binned)


def figures(material: Material, kind: str, headline: str = "") -> list[str]:
    """The names of all figures: the headline first, the others in the order in which they were recorded."""
    names: dict[str, None] = {headline: None} if headline else {}
    present: dict[str, None] = {}
    for run in material.runs:
        for result in run.results:
            found = [name for series_kind, name in result.series if series_kind == kind]
            present |= dict.fromkeys(found)
            if kind == "evaluation":
                present |= dict.fromkeys(result.figures)
    return [name for name in names | present if name in present]


def work_per_update(material: Material) -> tuple[str, float] | None:
    """(unit, amount in one update of one seed) if every finished run has the same, else None."""
    found = set()
    for run in material.runs:
        work = run.about.get("work_per_second")
        updates = run.about.get("updates_per_second")
        if isinstance(work, dict) and isinstance(updates, int | float) and updates > 0 and run.seeds:
            value = work.get("value")
            if isinstance(value, int | float) and value > 0:
                amount = value / updates / len(run.seeds)
                found.add((str(work.get("unit", "")), float(f"{amount:.6g}")))
    return found.pop() if len(found) == 1 else None
