"""The sections of tables: final figures by arm, configuration, cost and versions."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tutelage.lab import configuration
from tutelage.lab.report import numbers, summary
from tutelage.lab.report.gather import Material, Run
from tutelage.lab.report.markup import Markup, element, name
from tutelage.lab.report.strips import value_strip
from tutelage.lab.study import Study

_FIRST_FIGURES = 4
"""Figures in the first table beside the headline; all of them are in the table below it."""


_MANY_COLUMNS = 9


def table(
    head: Sequence[Any],
    rows: Sequence[Markup],
    *,
    label: str,
    caption: Any = None,
    numeric: int = 1,
    sticky: bool = True,
) -> Markup:
    """A table that scrolls inside its own box; the first `numeric` columns are words, the others numbers."""
    cells = [
        element("th", cell, scope="col", class_="n" if column >= numeric else None) for column, cell in enumerate(head)
    ]
    kind = "sticky many" if len(head) > _MANY_COLUMNS else "sticky"  # many are squeezed into the paper when printed
    body = element("table", element("thead", element("tr", cells)), element("tbody", rows), class_=kind)
    box = element("div", body, class_="scroll", tabindex="0", role="region", aria_label=label)
    # Not a <caption>: it would be as wide as the table, and cut off where the table scrolls.
    return Markup(element("p", caption, class_="soft small") + box) if caption else box


def results(material: Material, arms: list[str], study: Study | None) -> Markup:
    """Arm × figure: the headline with a drawing of its interval, a few figures, and all of them on request."""
    headline = study.headline if study else ""
    names = summary.figures(material, "evaluation", headline)
    heading = element("h2", "Results", id="results")
    if not names:
        nothing = element("p", "No run has been evaluated yet.")
        return element("section", heading, nothing, aria_labelledby="results")
    first, others = names[0], names[1 : 1 + _FIRST_FIGURES]
    found = {arm: {figure: summary.final(material.results(arm), figure) for figure in names} for arm in arms}
    shown = [entry for arm in arms if (entry := found[arm][first]) is not None]
    points = [p for entry in shown for p in (*entry.values, entry.low, entry.high) if math.isfinite(p)]
    least, most = (min(points), max(points)) if points else (0.0, 1.0)

    counts = {arm: len(material.results(arm)) for arm in arms}

    def row(arm: str) -> Markup:
        entry = found[arm][first]
        strip = None if entry is None else value_strip(*entry, least, most)
        role = study.arms[arm].role if study and arm in study.arms else ""
        about = [role] if role else []
        if len(set(counts.values())) > 1:
            about.append("1 seed, so no interval" if counts[arm] == 1 else f"{counts[arm]} seeds")
        return element(
            "tr",
            element("th", name(arm), element("small", " · ".join(about)), scope="row"),
            _figure_cell(entry),
            element("td", strip, class_="drawn"),
            [_figure_cell(found[arm][figure]) for figure in others],
            class_="main" if study and arm == study.main_arm else None,
        )

    scale = element("small", f"{numbers.number(least)} to {numbers.number(most)}")
    head = [
        "Arm",
        element("span", name(first)),
        element("span", "each seed, mean and interval", scale, class_="drawn"),
        *(name(figure) for figure in others),
    ]
    if set(counts.values()) == {1}:
        caption = "Final evaluation. One seed has no interval: run more (--seeds 0:5) to see how sure a figure is."
    else:
        many = f"{min(counts.values())} to {max(counts.values())}" if len(set(counts.values())) > 1 else counts[arms[0]]
        caption = f"Final evaluation: the mean over {many} seeds, below it the 95 % bootstrap interval."
    parts = [table(head, [row(arm) for arm in arms], label="Final figures by arm", caption=caption)]
    if len(names) > 1 + _FIRST_FIGURES:
        rows = [
            element("tr", element("th", name(figure), scope="row"), [_figure_cell(found[arm][figure]) for arm in arms])
            for figure in names
        ]
        whole = table(["Figure", *(name(arm) for arm in arms)], rows, label="All final figures")
        parts.append(element("details", element("summary", f"All {len(names)} figures of every arm"), whole))
    return element("section", heading, parts, aria_labelledby="results")


def _figure_cell(entry: summary.Summary | None) -> Markup:
    if entry is None:
        return element("td", "–", class_="n soft")
    estimate, low, high = numbers.alike([entry.estimate, entry.low, entry.high])
    interval = element("small", f"[{low}, {high}]") if len(entry.values) > 1 else None
    return element("td", element("b", estimate), interval, class_="n")


def settings(material: Material, arms: list[str], study: Study | None) -> Markup:
    """What differs: from the defaults where the study is known, between the arms otherwise; then everything."""
    by_arm = {arm: _flatten(next(run.config for run in material.runs if run.arm == arm)) for arm in arms}
    defaults, described = _defaults(study)
    paths = list(dict.fromkeys(path for flat in by_arm.values() for path in flat))
    base = defaults or next(iter(by_arm.values()), {})
    changed = [path for path in paths if any(flat.get(path) != base.get(path) for flat in by_arm.values())]

    def row(path: str) -> Markup:
        cells = [
            element("td", _value(flat.get(path)), class_="n same" if flat.get(path) == base.get(path) else "n")
            for flat in by_arm.values()
        ]
        lead = [element("td", _value(defaults.get(path)), class_="n same")] if defaults else []
        return element(
            "tr",
            element("th", name(path), element("small", described.get(path, "")) or None, scope="row", class_="long"),
            lead,
            cells,
        )

    parts: list[Any] = [element("h2", "Configuration", id="configuration")]
    overrides = {path: value for run in material.runs for path, value in run.overrides.items()}
    if overrides:
        given = ", ".join(f"{path} = {_value(value)}" for path, value in overrides.items())
        parts.append(element("p", "Given on the command line: ", element("code", given), "."))
    head = ["Setting", *(["default"] if defaults else []), *(name(arm) for arm in by_arm)]
    if changed:
        said = "What differs from the defaults." if defaults else "What differs between the arms."
        parts.append(table(head, [row(path) for path in changed], label="Changed settings", caption=said))
    else:
        parts.append(element("p", "Every setting has its default." if defaults else "All arms have the same settings."))
    whole = table(head, [row(path) for path in paths], label="All settings")
    parts.append(element("details", element("summary", f"All {len(paths)} settings"), whole))
    return element("section", parts, aria_labelledby="configuration")


def _defaults(study: Study | None) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """The default and the sentence of every setting, by path; empty without the study."""
    if study is None:
        return {}, {}
    known = configuration.fields(study.config)
    flat = _flatten(configuration.to_json(study.config()))
    return flat, {path: field.help for path, field in known.items()}


def cost(material: Material, arms: list[str]) -> Markup:
    """What each run took; with many runs first each arm in sum."""
    runs = material.runs
    shown = [column for column in _COSTS if any(math.isfinite(column.read(run)) for run in runs)]
    rows = [
        element(
            "tr",
            element(
                "th", name(run.label), element("small", f"{run.arm}, seeds {numbers.seeds(run.seeds)}"), scope="row"
            ),
            element("td", "finished" if run.finished else "not finished"),
            element("td", str(run.about.get("device", "–")), class_="long"),
            [element("td", column.write(column.read(run)), class_="n") for column in shown],
        )
        for run in runs
    ]
    head = ["Run", "state", "device", *(column.title for column in shown)]
    each = table(head, rows, label="Cost of every run", numeric=3)
    total = math.fsum(wall for run in runs if math.isfinite(wall := _wall(run)))
    units = sorted(
        {str(work.get("unit", "")) for run in runs if isinstance(work := run.about.get("work_per_second"), dict)}
    )
    words = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}, {numbers.duration(total)} of wall time in all."
    if units:
        words += f" Work is counted in {' or '.join(units)}."
    parts: list[Any] = [element("h2", "Cost", id="cost"), element("p", words)]
    if len(runs) > _MANY_RUNS:
        parts.append(_cost_by_arm(material, arms, shown))
        parts.append(element("details", element("summary", f"Each of the {len(runs)} runs"), each))
    else:
        parts.append(each)
    return element("section", parts, aria_labelledby="cost")


class _Cost(NamedTuple):
    """A column of the cost table: how to read it from a run, to write it, and to put the runs of an arm together."""

    title: str
    read: Callable[[Run], float]
    write: Callable[[float], str]
    together: Callable[[list[float]], float]
    how: str


def _recorded(key: str) -> Callable[[Run], float]:
    return lambda run: numbers.real(run.about.get(key))


def _work(run: Run) -> float:
    work = run.about.get("work_per_second")
    return numbers.real(work.get("value")) if isinstance(work, dict) else math.nan


_wall = _recorded("wall_seconds")
_MANY_RUNS = 8
_COSTS = (
    _Cost("wall time", _wall, numbers.duration, math.fsum, "sum"),
    _Cost("of it compiling", _recorded("compile_seconds"), numbers.duration, math.fsum, "sum"),
    _Cost("updates/s", _recorded("updates_per_second"), numbers.rate, statistics.median, "median"),
    _Cost("work/s", _work, numbers.rate, statistics.median, "median"),
    _Cost("peak memory", _recorded("peak_memory_bytes"), numbers.size, max, "largest"),
    _Cost("on the device", _recorded("peak_device_memory_bytes"), numbers.size, max, "largest"),
)


def _cost_by_arm(material: Material, arms: list[str], columns: list[_Cost]) -> Markup:
    rows = []
    for arm in arms:
        runs = [run for run in material.runs if run.arm == arm]
        devices = sorted({str(run.about["device"]) for run in runs if "device" in run.about})
        cells = []
        for column in columns:
            known = [value for run in runs if math.isfinite(value := column.read(run))]
            cells.append(element("td", column.write(column.together(known)) if known else "–", class_="n"))
        count = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}"
        unfinished = sum(not run.finished for run in runs)
        state = f"{count}, {unfinished} not finished" if unfinished else count
        words = [element("td", state), element("td", " · ".join(devices) or "–", class_="long")]
        rows.append(element("tr", element("th", name(arm), scope="row"), words, cells))
    titles = [Markup(element("span", column.title) + element("small", column.how)) for column in columns]
    return table(["Arm", "runs", "device", *titles], rows, label="Cost of every arm", numeric=3)


def versions(material: Material) -> Markup:
    """What the runs were made with: once, where all agree."""
    groups: dict[str, list[str]] = {}
    for run in material.runs:
        groups.setdefault(json.dumps(run.versions, sort_keys=True), []).append(run.label)
    parts: list[Any] = [element("h2", "Versions", id="versions")]
    for record, labels in groups.items():
        if len(groups) > 1:
            parts.append(element("h3", ", ".join(labels)))
        items = [
            element("li", element("span", package), element("span", str(version)))
            for package, version in json.loads(record).items()
        ]
        parts.append(element("ul", items, class_="set") if items else element("p", "Not recorded."))
    return element("section", parts, aria_labelledby="versions")


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _flatten(value, path + ".")
        else:
            flat[path] = value
    return flat


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value or "“”"
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value) or "none"
    return str(value)
