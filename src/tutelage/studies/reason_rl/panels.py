"""Pictures of all runs together: what accuracy costs in samples, what it costs in coverage, and curves over k."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.lab.drawing import comparisons
from tutelage.lab.study import Exhibit, RunResult
from tutelage.studies.reason_rl.claims import interim, largest

VOTES = ("pass", "maj", "rerank", "unique")
REPORTED = ("maj@1", "correct", "novel", "coverage", "step_accuracy", "length")
"""Figures of the table; those of the largest k come before them."""


def panels(results: Sequence[RunResult]) -> list[Exhibit]:
    """The comparisons of a study, of the runs that have an evaluation."""
    tested = [result for result in results if "maj@1" in result.figures]
    if not tested:
        return []
    drawing = [result for result in tested if result.figures.get("rollouts", 0.0) > 0]
    best, shown = largest(tested[0], "pass"), []
    for name in ("maj@1", _interim(tested[0])):
        if drawing and name:
            picture = comparisons.against(
                drawing, name, "rollouts", title=f"{name} against samples", x_label="samples drawn for training"
            )
            caption = "From the start on. Every sample that was drawn for training counts, kept or not."
            shown.append(Exhibit(f"samples-{name.replace('@', '-')}", f"{name} and samples", caption, svg=picture))
    picture = comparisons.plane(tested, "maj@1", best, title="Accuracy and coverage")
    caption = "Runs at their end. Up: more questions have a right sample at all. Right: the likeliest answer is right."
    shown.append(Exhibit("plane", "Accuracy against coverage", caption, svg=picture))
    for vote in VOTES:
        if any(name.startswith(f"{vote}@") for name in tested[0].figures):
            picture = comparisons.over_k(tested, vote)
            caption = "Exact for every k, from one pool of samples of each question."
            caption += " At k = 1 it is the greedy answer." if vote == "maj" else ""
            shown.append(Exhibit(f"over-k-{vote}", f"{vote}@k", caption, svg=picture))
    return [*shown, _table(tested)]


def _interim(result: RunResult) -> str:
    try:
        return interim("pass", result)
    except KeyError:
        return ""


def _table(results: Sequence[RunResult]) -> Exhibit:
    votes = [largest(results[0], vote) for vote in VOTES if any(n.startswith(f"{vote}@") for n in results[0].figures)]
    caption = (
        "Means over seeds, ordered by maj@1. The order of the algorithms at this scale is reported, not claimed: it "
        "depends on the base, the budget and the step sizes."
    )
    rows = comparisons.table(results, (*votes, *REPORTED, "rollouts"), order="maj@1", descending=True)
    return Exhibit("algorithms", "The algorithms side by side", caption, rows=rows)
