"""Pictures of all runs together: what accuracy costs in samples, what it costs in coverage, and curves over k."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tutelage.lab import plots
from tutelage.lab.study import Exhibit, RunResult
from tutelage.studies.reason_rl.claims import interim, largest

VOTES = ("pass", "maj", "rerank")
REPORTED = ("maj@1", "correct", "unique_equation", "novel", "step_accuracy", "length")
"""Figures of the table; those of the largest k come before them."""


def panels(results: Sequence[RunResult]) -> list[Exhibit]:
    """The comparisons of a study; what no run has figures for is left out."""
    arms = list(dict.fromkeys(result.arm for result in results))
    found = [
        _against_rollouts(results, arms, "maj@1", lambda result: "maj@1", "Greedy accuracy"),
        _against_rollouts(results, arms, "pass@k", lambda result: interim("pass", result), "Coverage (pass@k)"),
        _plane(results),
        *(_over_k(results, arms, vote) for vote in VOTES),
        _table(results, arms),
    ]
    return [exhibit for exhibit in found if exhibit is not None]


def _against_rollouts(
    results: Sequence[RunResult], arms: Sequence[str], name: str, figure: Callable[[RunResult], str], title: str
) -> Exhibit | None:
    """A figure of the interim evaluations against all rollouts drawn for training so far."""
    lines = []
    for series, arm in enumerate(arms):
        points = [_series(result, figure(result)) for result in results if result.arm == arm and _has(result, figure)]
        points = [(x, y) for x, y in points if len(x) > 1 and x[-1] > 0]
        if not points:
            continue
        length = min(len(x) for x, _ in points)
        x, y = (np.stack([pair[axis][:length] for pair in points]) for axis in (0, 1))
        lines.append(plots.Curve(arm, x.mean(0), y.mean(0), y.min(0), y.max(0), series))
    if not lines:
        return None
    caption = "Mean over seeds; the band goes from the lowest to the highest. Every sample drawn counts, kept or not."
    picture = plots.curves(
        lines, title=title, x_label="samples drawn for training", y_label=name, name=f"samples-{name}"
    )
    return Exhibit(f"samples-{name.replace('@', '-')}", f"{title} against samples drawn", caption, svg=picture)


def _plane(results: Sequence[RunResult]) -> Exhibit | None:
    """Accuracy against coverage at the end, a point for each run, and for their starts."""
    points = []
    for result in results:
        if "maj@1" in result.figures and any(name.startswith("pass@") for name in result.figures):
            points.append((result.figures["maj@1"], result.figures[largest(result, "pass")], result.arm))
            if f"start_{largest(result, 'pass')}" in result.figures and result.arm == "ei":
                begun = (result.figures["start_maj@1"], result.figures[f"start_{largest(result, 'pass')}"])
                points.append((*begun, "supervised start"))
    if not points:
        return None
    x, y, groups = zip(*points, strict=True)
    picture = plots.scatter(
        x,
        y,
        groups=groups,
        title="Accuracy and coverage",
        x_label="maj@1",
        y_label="pass@K",
        size=(520, 420),
        name="plane",
    )
    caption = (
        "Each point is a run at its end. Up: more questions have a right sample at all. Right: the likeliest is right."
    )
    return Exhibit("plane", "Accuracy against coverage", caption, svg=picture)


def _over_k(results: Sequence[RunResult], arms: Sequence[str], vote: str) -> Exhibit | None:
    """A figure for every k, at the end."""
    lines = []
    for series, arm in enumerate(arms):
        rows = []
        for result in results:
            ks = sorted(int(name.rpartition("@")[2]) for name in result.figures if name.startswith(f"{vote}@"))
            ks = [k for k in ks if k > 1]
            if result.arm == arm and ks:
                rows.append((ks, [result.figures["correct"], *(result.figures[f"{vote}@{k}"] for k in ks)]))
        if rows:
            ks = np.log2([1, *rows[0][0]])
            values = np.array([row for found, row in rows if len(found) == len(rows[0][0])])
            lines.append(plots.Curve(arm, ks, values.mean(0), values.min(0), values.max(0), series))
    if not lines:
        return None
    picture = plots.curves(
        lines, title=f"{vote}@k", x_label="log₂ k", y_label=f"{vote}@k", size=(520, 340), name=f"over-k-{vote}"
    )
    caption = "Exact for every k, from one pool of samples of each question; k = 1 is the mean accuracy of a sample."
    return Exhibit(f"over-k-{vote}", f"{vote}@k", caption, svg=picture)


def _table(results: Sequence[RunResult], arms: Sequence[str]) -> Exhibit | None:
    """Means over seeds, in the order of the greedy accuracy: an order that is reported and not judged."""
    rows = []
    for arm in arms:
        of_arm = [result for result in results if result.arm == arm and "maj@1" in result.figures]
        if not of_arm:
            continue
        names = [*(largest(of_arm[0], vote) for vote in VOTES if _any(of_arm[0], vote)), *REPORTED]
        cells = {name: np.mean([result.figures.get(name, np.nan) for result in of_arm]) for name in names}
        drawn = np.mean([result.figures.get("rollouts", 0.0) for result in of_arm])
        seconds = np.mean([result.cost.get("wall_seconds", np.nan) for result in of_arm])
        rows.append((cells["maj@1"], arm, cells, drawn, seconds))
    if not rows:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row[2]))
    head = ("arm", *names, "samples drawn", "wall seconds")
    body = [
        (arm, *(_cell(cells.get(name)) for name in names), f"{drawn:,.0f}", f"{seconds:.0f}")
        for _, arm, cells, drawn, seconds in sorted(rows, key=lambda row: -row[0])
    ]
    caption = (
        "Means over seeds, ordered by maj@1. The order of the algorithms at this scale is reported, not claimed: it "
        "depends on the base, the budget and the step sizes."
    )
    return Exhibit("algorithms", "The algorithms side by side", caption, rows=(head, *body))


def _cell(value: float | None) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _any(result: RunResult, vote: str) -> bool:
    return any(name.startswith(f"{vote}@") for name in result.figures)


def _has(result: RunResult, figure: Callable[[RunResult], str]) -> bool:
    try:
        return ("evaluation", figure(result)) in result.series
    except KeyError:
        return False


def _series(result: RunResult, figure: str) -> tuple[np.ndarray, np.ndarray]:
    """Rollouts drawn and the figure's value, at each evaluation that has both."""
    drawn = dict(zip(*map(np.ndarray.tolist, map(np.asarray, result.series["evaluation", "rollouts"])), strict=True))
    steps, values = result.series["evaluation", figure]
    pairs = [
        (drawn[step], value) for step, value in zip(np.asarray(steps).tolist(), values, strict=True) if step in drawn
    ]
    x, y = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(x), np.array(y)
