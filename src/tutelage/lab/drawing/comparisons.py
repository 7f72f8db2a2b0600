"""Pictures that compare the arms of a study, from the results of its runs: what `Study.panels` is made of.

    def panels(results):
        drawn = against(results, "maj@1", "rollouts", x_kind="metrics", x_label="rollouts drawn")
        return [Exhibit("rollouts", "Accuracy against rollouts", "Mean over seeds.", svg=drawn)]

Every function returns an SVG document (`tutelage.lab.drawing.plots`). An arm has the same colour in all of them, and
in the curves of the report: that of its place among the arms of `results`. Arms and runs that lack a figure are left
out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from tutelage.lab.bootstrap import bootstrap, mean
from tutelage.lab.drawing import plots
from tutelage.lab.study import RunResult

Band = Literal["interval", "range"]
"""Around a mean over seeds: its 95 % bootstrap interval, or from the least to the largest seed."""
Kind = Literal["evaluation", "metrics"]


WALL = {"wall_seconds": "wall seconds"}


def against(
    results: Sequence[RunResult],
    y: str,
    x: str,
    *,
    arms: Sequence[str] = (),
    kind: Kind = "evaluation",
    x_kind: Kind | None = None,
    band: Band = "interval",
    scale: Literal["linear", "log2"] = "linear",
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    size: tuple[int, int] = (460, 340),
) -> str:
    """One recorded figure against another, a curve for each arm: both are means over the seeds at each step.

    Args:
        y, x: figures of the record. A step counts if all seeds of the arm have both there.
        arms: which to show; all if empty.
        kind, x_kind: which record `y` and `x` are in; `x_kind` is `kind` when not given.
        band: of `y`, where an arm has several seeds.
    """
    lines = []
    for series, arm, runs in _chosen(results, arms):
        courses = [_joined(run, (kind, y), (x_kind or kind, x)) for run in runs]
        courses = [course for course in courses if course]
        steps = sorted(set.intersection(*map(set, courses))) if courses else []
        if steps:
            table = np.array([[course[step] for step in steps] for course in courses])  # [seeds, steps, (x, y)]
            lines.append(_curve(arm, table[..., 0].mean(axis=0), table[..., 1], band, series))
    return plots.curves(lines, title=title or y, x_label=x_label or x, y_label=y_label, scale=scale, size=size)


def plane(
    results: Sequence[RunResult],
    x: str,
    y: str,
    *,
    arms: Sequence[str] = (),
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    size: tuple[int, int] = (460, 340),
) -> str:
    """Two final figures of every run as a point, with the mean of each arm."""
    clouds = []
    for series, arm, runs in _chosen(results, arms):
        points = [(run.figures[x], run.figures[y]) for run in runs if x in run.figures and y in run.figures]
        if points:
            clouds.append(plots.Cloud(arm, *np.array(points).T, series=series))
    return plots.plane(clouds, title=title or f"{y} against {x}", x_label=x_label or x, y_label=y_label or y, size=size)


def over_k(
    results: Sequence[RunResult],
    figure: str,
    *,
    arms: Sequence[str] = (),
    band: Band = "interval",
    title: str = "",
    x_label: str = "k",
    y_label: str = "",
    size: tuple[int, int] = (460, 340),
) -> str:
    """The final figures `figure@1`, `figure@2`, … over k on an axis of powers of two, a curve for each arm.

    A k counts if all seeds of the arm have it.
    """
    name = re.compile(re.escape(figure) + r"@([1-9]\d*)")
    lines = []
    for series, arm, runs in _chosen(results, arms):
        found = [{int(m[1]): value for key, value in run.figures.items() if (m := name.fullmatch(key))} for run in runs]
        found = [values for values in found if values]
        ks = sorted(set.intersection(*map(set, found))) if found else []
        if ks:
            lines.append(_curve(arm, np.array(ks), np.array([[run[k] for k in ks] for run in found]), band, series))
    return plots.curves(lines, title=title or f"{figure}@k", x_label=x_label, y_label=y_label, scale="log2", size=size)


def table(
    results: Sequence[RunResult],
    figures: Sequence[str],
    *,
    costs: Mapping[str, str] = WALL,
    order: str = "",
    descending: bool = False,
) -> tuple[tuple[str, ...], ...]:
    """Rows of an exhibit: each arm with its number of seeds and the means over them, empty where there is none.

    Args:
        figures: final figures, a column each.
        costs: of the run (`RunResult.cost`), by name, with the head of its column.
        order: the figure by which the arms are ordered; empty: as they come.
    """
    rows = []
    for _, arm, runs in _chosen(results, ()):
        of_figures = [_mean([run.figures.get(name) for run in runs]) for name in figures]
        of_costs = [_mean([run.cost.get(name) for run in runs]) for name in costs]
        place = _mean([run.figures.get(order) for run in runs])
        key = (np.isnan(place), -place if descending else place)
        cells = [*map(_cell, of_figures), *("" if np.isnan(cost) else f"{cost:,.0f}" for cost in of_costs)]
        rows.append((key, (arm, str(len(runs)), *cells)))
    body = [row for _, row in (sorted(rows, key=lambda row: row[0]) if order else rows)]
    return (("arm", "seeds", *figures, *costs.values()), *body)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _cell(value: float) -> str:
    if not np.isfinite(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _chosen(results: Sequence[RunResult], arms: Sequence[str]) -> Iterator[tuple[int, str, list[RunResult]]]:
    """Place among all arms, name and runs of each arm that is to be shown."""
    by_arm: dict[str, list[RunResult]] = {}
    for result in results:
        by_arm.setdefault(result.arm, []).append(result)
    for series, (arm, runs) in enumerate(by_arm.items()):
        if not arms or arm in arms:
            yield series, arm, runs


def _joined(run: RunResult, y: tuple[str, str], x: tuple[str, str]) -> dict[int, tuple[float, float]]:
    """`step -> (x, y)` where both were recorded and are finite."""
    if x not in run.series or y not in run.series:
        return {}
    across, up = (dict(zip(steps.tolist(), values.tolist())) for steps, values in (run.series[x], run.series[y]))
    both = {step: (across[step], up[step]) for step in up if step in across}
    return {step: pair for step, pair in both.items() if np.isfinite(pair).all()}


def _curve(arm: str, x: np.ndarray, values: np.ndarray, band: Band, series: int) -> plots.Curve:
    """The mean of `values [seeds, points]` with its band."""
    if len(values) == 1:
        return plots.Curve(arm, x, values[0], series=series)
    if band == "range":
        return plots.Curve(arm, x, values.mean(axis=0), values.min(axis=0), values.max(axis=0), series)
    return plots.Curve(arm, x, *bootstrap(mean, values, num_resamples=1000), series=series)
