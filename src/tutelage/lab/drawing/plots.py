"""Plots as SVG text: curves with bands, intervals, heat maps, planes and small multiples.

Every function returns one complete SVG document that stands alone (as a file, in an `<img>`) and can be put into an
HTML page as it is: nothing in it depends on or reaches the page around it. Text and axes are in `currentColor`, which
follows the page, and a reader's dark or light setting where there is none; the series have colours that are told apart
on both, also by the colour-blind, and by dashes after the sixth. Equal input gives equal bytes.

Matplotlib is used through its objects alone (`Figure`, no pyplot), and its settings are as before afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from tutelage.lab.drawing.svg import INK, plain, render
from tutelage.lab.errors import BadInput

PALETTE = ("#2d6996", "#ff5a00", "#2da587", "#960ff0", "#b43c2d", "#a578e1")
"""At least 3:1 against both page backgrounds, and apart for normal, protan, deutan and tritan sight (OKLab ≥ 0.13)."""
_MARKERS = "os^D"
DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.6)), (0, (1.1, 1.3)), (0, (6, 1.5, 1.2, 1.5)))


@dataclass(frozen=True)
class Curve:
    """A line with its interval. `low` and `high` may be missing or NaN; `series` chooses colour and dash."""

    label: str
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    series: int = 0


@dataclass(frozen=True)
class Bar:
    """An estimate with its interval and the single values behind it."""

    label: str
    estimate: float
    low: float = float("nan")
    high: float = float("nan")
    values: tuple[float, ...] = ()
    series: int = 0


@dataclass(frozen=True)
class Cloud:
    """Points of one kind in a plane, one for each run; `series` chooses colour and marker."""

    label: str
    x: ArrayLike
    y: ArrayLike
    series: int = 0


def colour(series: int) -> str:
    """The colour of a series; they repeat with another dash."""
    return PALETTE[series % len(PALETTE)]


def dash(series: int) -> Any:
    """The dash of a series, as matplotlib names it."""
    return DASHES[series // len(PALETTE) % len(DASHES)]


def curves(
    lines: Sequence[Curve],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    work: tuple[str, float] | None = None,
    scale: Literal["linear", "log2"] = "linear",
    labels: bool = True,
    size: tuple[int, int] = (680, 340),
    name: str = "",
) -> str:
    """Curves with bands of their intervals.

    Args:
        work: (unit, amount in one step of x): a second axis on top counts in it.
        scale: of the horizontal axis; "log2" has its ticks at powers of two, and shows only what is above zero.
        labels: write each curve's label beside its right end; otherwise the caller shows a legend.
        size: in pixels; the drawing scales with its box.
        name: what the ids in the SVG begin with; by default a hash of the content.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _draw_curves(axes, lines)
        axes.set_title(plain(title), pad=8 if work is None else 10)
        axes.set_xlabel(plain(x_label))
        axes.set_ylabel(plain(y_label))
        if work is not None:
            _work_axis(axes, *work)
        if scale == "log2":
            _octaves(axes, lines)
        if labels:
            _end_labels(axes, lines)

    return render(draw, size, title or y_label, _described(lines), name)


def small_multiples(
    panels: Mapping[str, Sequence[Curve]],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    columns: int = 3,
    panel_size: tuple[int, int] = (230, 170),
    name: str = "",
) -> str:
    """One small plot of curves for each entry, all on the same axes."""
    if not panels:
        raise BadInput("panels: none; small multiples need at least one")
    rows, columns = -(-len(panels) // columns), min(columns, len(panels))

    def draw(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, (panel, lines) in zip(grid.flat, panels.items(), strict=False):
            _draw_curves(axes, lines)
            axes.set_title(plain(panel, 30), fontsize=11)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        figure.supxlabel(plain(x_label), fontsize=11)
        figure.supylabel(plain(y_label), fontsize=11)
        if title:
            figure.suptitle(plain(title), fontsize=12, x=0.02, ha="left")

    size = (columns * panel_size[0], rows * panel_size[1] + (30 if title else 0))
    return render(draw, size, title or y_label, "Panels: " + ", ".join(panels), name)


def bars(
    entries: Sequence[Bar],
    *,
    title: str = "",
    x_label: str = "",
    size: tuple[int, int] | None = None,
    name: str = "",
) -> str:
    """Horizontal intervals, one row for each entry: a dot at the estimate, a bar from low to high, and the values."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, entry in enumerate(entries):
            shade = colour(entry.series)
            if np.isfinite([entry.low, entry.high]).all():
                axes.plot([entry.low, entry.high], [row, row], color=shade, lw=7, alpha=0.35, solid_capstyle="butt")
            axes.plot(entry.values, [row] * len(entry.values), "o", color=INK, ms=3, alpha=0.45, mew=0)
            axes.plot([entry.estimate], [row], "o", color=shade, ms=7, mew=0)
        axes.set_yticks(range(len(entries)), [plain(entry.label, 30) for entry in entries])
        axes.set_ylim(len(entries) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.set_title(plain(title))
        axes.set_xlabel(plain(x_label))

    described = "; ".join(f"{e.label}: {e.estimate:.3g} [{e.low:.3g}, {e.high:.3g}]" for e in entries)
    return render(draw, size or (520, 70 + 26 * max(len(entries), 1)), title or x_label, described, name)


def heat_map(
    values: ArrayLike,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    digits: int = 2,
    size: tuple[int, int] | None = None,
    name: str = "",
) -> str:
    """A table of numbers [R, C] as shades, each cell with its number; NaN is left empty."""
    table = np.asarray(values, dtype=np.float64)
    if table.shape != (len(rows), len(columns)) or table.size == 0:
        raise BadInput(
            f"values: got shape {table.shape}; allowed is {len(rows)} rows × {len(columns)} columns, not empty"
        )
    finite = table[np.isfinite(table)]
    least, most = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    # The shade is one colour over the page's own background, so that it reads alike in the dark and in the light.
    strength = 0.08 + 0.62 * (table - least) / (most - least if most > least else 1.0)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (row, column), value in np.ndenumerate(table):
            if np.isfinite(value):
                corner, alpha = (column - 0.5, row - 0.5), float(strength[row, column])
                axes.add_patch(_rectangle(corner, colour(0), alpha))
                axes.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=10)
        axes.set_xticks(range(len(columns)), [plain(word, 20) for word in columns])
        axes.set_yticks(range(len(rows)), [plain(word, 30) for word in rows])
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title(plain(title))
        axes.set_xlabel(plain(x_label))
        axes.set_ylabel(plain(y_label))

    default = (110 + 62 * len(columns), 80 + 30 * len(rows))
    return render(draw, size or default, title, f"{len(rows)} rows, {len(columns)} columns", name)


def scatter(
    x: ArrayLike,
    y: ArrayLike,
    *,
    groups: Sequence[str] = (),
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    size: tuple[int, int] = (420, 340),
    name: str = "",
) -> str:
    """Points in a plane; with `groups` (one word per point) each group has its colour, its marker and a legend."""
    across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if across.ndim != 1 or across.shape != up.shape or (len(groups) and len(groups) != across.size):
        raise BadInput(
            f"x, y, groups: got {across.shape}, {up.shape} and {len(groups)}; allowed is one of each per point"
        )
    kinds = list(dict.fromkeys(groups)) or [""]
    member = np.array(groups) if len(groups) else np.full(across.size, "")

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        handles: list[Any] = []
        for series, kind in enumerate(kinds):
            chosen = member == kind
            marker = "os^DvP"[series % 6]
            handles += axes.plot(across[chosen], up[chosen], marker, color=colour(series), ms=5, mew=0, alpha=0.75)
        if groups:
            labels = [plain(kind, 24) for kind in kinds]
            figure.legend(
                handles, labels, loc="outside lower left", ncols=3, frameon=False, fontsize=10, handletextpad=0.1
            )
        axes.set_title(plain(title))
        axes.set_xlabel(plain(x_label))
        axes.set_ylabel(plain(y_label))

    return render(draw, size, title or f"{y_label} against {x_label}", f"{across.size} points", name)


def plane(
    clouds: Sequence[Cloud],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    size: tuple[int, int] = (460, 340),
    name: str = "",
) -> str:
    """A plane with a small point for each run and a large one, with its label, for the mean of each cloud.

    Points that are not finite are left out.
    """
    known: list[tuple[Cloud, np.ndarray, np.ndarray]] = []
    for cloud in clouds:
        across, up = np.asarray(cloud.x, dtype=np.float64), np.asarray(cloud.y, dtype=np.float64)
        if across.ndim != 1 or across.shape != up.shape:
            raise BadInput(f"cloud {cloud.label!r}: got x {across.shape} and y {up.shape}; allowed is one y for each x")
        finite = np.isfinite(across) & np.isfinite(up)
        if finite.any():
            known.append((cloud, across[finite], up[finite]))
    means = [_Place(float(x.mean()), float(y.mean()), cloud.label, cloud.series) for cloud, x, y in known]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (cloud, x, y), point in zip(known, means, strict=True):
            look = {"color": colour(cloud.series), "mew": 0, "clip_on": False}
            marker = _MARKERS[cloud.series // len(PALETTE) % len(_MARKERS)]
            if x.size > 1:
                axes.plot(x, y, marker, ms=4, alpha=0.55, **look)
            axes.plot([point.x], [point.y], marker, ms=9, **look)
        axes.margins(0.06)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(plain(title))
        axes.set_xlabel(plain(x_label))
        axes.set_ylabel(plain(y_label))
        _side_labels(axes, means, widths=[0.7] * len(means))

    described = "; ".join(f"{point.label}: {point.x:.3g}, {point.y:.3g}" for point in means) or "no points"
    return render(draw, size, title or f"{y_label} against {x_label}", described, name)


def short(number: float) -> str:
    """A count in three or four characters: 950, 1.2k, 30k, 4.1M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _draw_curves(axes: Axes, lines: Sequence[Curve]) -> None:
    for line in reversed(lines):  # the first is the most important and is drawn last, on top
        x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
        if x.shape != y.shape or x.ndim != 1:
            raise BadInput(f"curve {line.label!r}: got x {x.shape} and y {y.shape}; allowed is one y for each x")
        shade = colour(line.series)
        if line.low is not None and line.high is not None:
            low, high = (np.asarray(bound, dtype=np.float64) for bound in (line.low, line.high))
            axes.fill_between(x, low, high, color=shade, alpha=0.16, lw=0)
        marker = "o" if x.size == 1 else ""
        axes.plot(x, y, color=shade, ls=dash(line.series), marker=marker, ms=5, mew=0)
    whole = all(np.all(np.asarray(line.x, dtype=np.float64) % 1 == 0) for line in lines)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.01, y=0.06)


def _work_axis(axes: Axes, unit: str, amount: float) -> None:
    top = axes.secondary_xaxis("top", functions=(lambda x: np.asarray(x) * amount, lambda w: np.asarray(w) / amount))
    top.xaxis.set_major_locator(MaxNLocator(5))
    top.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    top.set_xlabel(plain(unit), fontsize=10, labelpad=7)
    top.tick_params(labelsize=10)


class _Place(NamedTuple):
    """A point that gets a label: where it is, in words, and in which colour."""

    x: float
    y: float
    label: str
    series: int


def _end(line: Curve) -> _Place | None:
    """The last point of a curve that has a value."""
    x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(y))
    return _Place(float(x[known[-1]]), float(y[known[-1]]), line.label, line.series) if known.size else None


def _end_labels(axes: Axes, lines: Sequence[Curve]) -> None:
    """A label for each curve; where it ends before the others a dot says so, and the thread is no part of it."""
    ends = [end for line in lines if (end := _end(line)) is not None]
    known = [np.asarray(line.x, np.float64)[np.isfinite(np.asarray(line.y, np.float64))] for line in lines]
    right = max((float(x.max()) for x in known if x.size), default=0.0)
    for end in ends:
        if end.x < right:
            axes.plot([end.x], [end.y], "o", color=colour(end.series), ms=4, mew=0)
    _side_labels(axes, ends, widths=[1.6 if end.x == right else 0.7 for end in ends])
    if ends:
        axes.set_xlim(right=right)


def _side_labels(axes: Axes, points: Sequence[_Place], widths: Sequence[float]) -> None:
    """Labels in a column on the right, pushed apart where they would overlap, each with a thread to its point."""
    if not points:
        return
    low, high = axes.get_ylim()
    gap = 14 / max(axes.get_window_extent().height, 1)  # a line of text, as a share of the height
    wanted = np.array([(point.y - low) / (high - low) for point in points])
    order = np.argsort(wanted, kind="stable")
    places = _apart(wanted[order], gap)
    steps = gap * np.arange(places.size)
    places = np.maximum(np.minimum(places, 0.97 - steps[::-1]), 0.03 + steps)
    for place, index in zip(places, order, strict=True):
        point = points[index]
        threads = {"arrowstyle": "-", "relpos": (0, 0.5), "color": colour(point.series), "lw": widths[index]}
        axes.annotate(
            plain(point.label, 24),
            xy=(point.x, point.y),
            xycoords="data",
            xytext=(1.035, place),
            textcoords="axes fraction",
            va="center",
            fontsize=11,
            annotation_clip=False,
            arrowprops=threads | {"shrinkA": 1, "shrinkB": 1},
        )


def _octaves(axes: Axes, lines: Sequence[Curve]) -> None:
    """A horizontal axis in powers of two."""
    all_x = np.concatenate([np.asarray(line.x, dtype=np.float64) for line in lines] or [np.ones(1)])
    above = all_x[all_x > 0]
    least, most = (above.min(), above.max()) if above.size else (1.0, 2.0)
    exponents = np.arange(np.floor(np.log2(least)), np.ceil(np.log2(most)) + 1)
    exponents = exponents[:: -(-exponents.size // 9)]
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator((2.0**exponents).tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.set_xlim(least / 1.02, most if most > least else 2 * most)


def _apart(places: np.ndarray, gap: float) -> np.ndarray:
    """Increasing places moved as little as needed to be at least `gap` apart (least squares: pool what collides)."""
    offsets = places - gap * np.arange(places.size)
    blocks: list[tuple[float, int]] = []
    for offset in offsets:
        total, count = float(offset), 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before = blocks.pop()
            total, count = total + before[0], count + before[1]
        blocks.append((total, count))
    return np.concatenate([np.full(count, total / count) for total, count in blocks]) + gap * np.arange(places.size)


def _rectangle(corner: tuple[float, float], shade: str, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1, 1, facecolor=shade, alpha=alpha, lw=0)


def _described(lines: Sequence[Curve]) -> str:
    """The curves in words, for those who do not see them: where each ends."""
    ends = []
    for line in lines:
        y = np.asarray(line.y, dtype=np.float64)
        known = y[np.isfinite(y)]
        ends.append(f"{line.label} ends at {known[-1]:.3g}" if known.size else f"{line.label} has no values")
    return "; ".join(ends)
