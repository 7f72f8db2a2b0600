"""Pictures of all runs together: hypervolume against evaluations, quality against diversity, and a table."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.lab.drawing import comparisons
from tutelage.lab.study import Exhibit, RunResult

REPORTED = (
    "hypervolume", "hypervolume_share", "igd_plus", "gd_plus", "r2", "topk_reward", "topk_diversity", "pc_ent",
    "conditioning", "shuffle_loss", "evaluations",
)  # fmt: skip
ACTIVE = ("relative_hypervolume", "hypervolume", "hypervolume_share", "diversity", "front", "new", "evaluations")
LAWS = ("l1", "l1_max", "kl", "log_z_error")


def panels(results: Sequence[RunResult]) -> list[Exhibit]:
    """The comparisons of a study, of the runs that have an evaluation."""
    samplers = [result for result in results if "topk_diversity" in result.figures and not _laws(result)]
    shown = []
    if samplers:
        shown += [
            *_curves(samplers, "hypervolume", "samplers"),
            *_planes(samplers),
            _table(samplers, REPORTED, "samplers", "The samplers side by side"),
        ]
    if grids := [result for result in results if _laws(result)]:
        shown.append(_table(grids, (*_laws(grids[0]), "hypervolume_share"), "laws", "Distances to the exact law"))
    if active := [result for result in results if "relative_hypervolume" in result.figures]:
        names = tuple(name for name in ACTIVE if name in active[0].figures)
        shown += [
            *_curves(active, "relative_hypervolume", "active"),
            _table(active, names, "active", "Active learning"),
        ]
    return shown


def _laws(result: RunResult) -> tuple[str, ...]:
    return tuple(name for law in LAWS for name in result.figures if name.startswith(f"{law}@"))


def _curves(results: Sequence[RunResult], figure: str, name: str) -> list[Exhibit]:
    picture = comparisons.against(
        results, figure, "evaluations", title=f"{figure} against evaluations", x_label="objects scored"
    )
    caption = "Every object that was scored counts once for each time that it was asked for. Means over seeds."
    return [Exhibit(f"evaluations-{name}", f"{figure} and evaluations", caption, svg=picture)]


def _planes(results: Sequence[RunResult]) -> list[Exhibit]:
    picture = comparisons.plane(results, "topk_diversity", "hypervolume", title="Quality and diversity")
    caption = "Runs at their end. Up: more of the space of rewards is dominated. Right: the best samples differ more."
    return [Exhibit("plane", "Quality against diversity", caption, svg=picture)]


def _table(results: Sequence[RunResult], names: Sequence[str], what: str, title: str) -> Exhibit:
    return Exhibit(f"table-{what}", title, "Means over seeds.", rows=comparisons.table(results, names))
