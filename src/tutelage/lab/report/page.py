"""The page: everything about some runs in one HTML file that needs nothing else, and lets nothing in."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tutelage.lab.errors import BadInput
from tutelage.lab.overrides import flag
from tutelage.lab.report import claims, curves, exhibits, numbers, tables
from tutelage.lab.report.document import document
from tutelage.lab.report.fitting import misfits
from tutelage.lab.report.gather import Material, ShownExhibit, gather
from tutelage.lab.report.markup import Markup, element
from tutelage.lab.storage import atomic, record
from tutelage.lab.study import Exhibit, Study


def write_report(
    paths: Sequence[Path], out: Path | None = None, *, study: Study | None = None, known: Collection[str] = ()
) -> Path:
    """Write the report of run folders and study folders, and return where it is.

    What is missing or torn is named in the page; it does not keep the page from coming.

    The comparisons of a study (`Study.panels`) are drawn too and, of a single study folder, kept in its `figures/`.

    Args:
        out: the HTML file; by default `report.html` in the first folder.
        study: gives the paper, the defaults, the roles of arms, the headline and the published figures. Without it
            (or where the runs are of another study) the page shows what the folders alone say.
        known: names of the studies that there are, so that a run of none of them is said to be one; empty: any may be.

    Raises:
        BadInput: a path is no folder or holds nothing to report, or the page cannot be written.
    """
    folders = [Path(path) for path in paths]
    target = out or folders[0] / "report.html" if folders else Path()
    material = gather(folders)
    if study is not None and any(run.study != study.name for run in material.runs):
        study = None
    material.problems += misfits(material, study, known)
    panels = material.panels
    if study is not None and study.panels:
        drawn = _drawn(material, study)
        panels = [exhibits.shown(panel) for panel in drawn]
        if drawn and material.plans and len(folders) == 1:
            _keep(drawn, folders[0] / "figures", material)
    atomic.write_bytes(target, render(material, study, panels).encode("utf-8"))
    return target


def _drawn(material: Material, study: Study) -> list[Exhibit]:
    """What compares the arms, drawn now."""
    if len(material.runs) < 2:
        return []
    try:
        return study.panels_of([result for arm in material.arms(_order(study)) for result in material.results(arm)])
    except Exception as error:  # a run that lacks what a picture needs costs the pictures, not the report
        material.problems.append(f"The comparisons could not be drawn ({type(error).__name__}: {error}).")
        return []


def _keep(panels: list[Exhibit], folder: Path, material: Material) -> None:
    try:
        folder.mkdir(exist_ok=True)
        record.write_exhibits(folder, panels)
    except (BadInput, OSError) as error:  # a folder that can only be read, whose page goes elsewhere
        material.problems.append(f"The comparisons are not kept: {error}.")


def render(material: Material, study: Study | None = None, panels: Sequence[ShownExhibit] = ()) -> str:
    """The whole page as text; `study` is that of all runs, or None."""
    arms = material.arms(_order(study))
    sections: list[tuple[str, str, Markup | None]] = [
        ("claims", "Claims", claims.section(material, study.published if study else ())),
    ]
    if material.runs:
        sections += [
            ("results", "Results", tables.results(material, arms, study)),
            ("comparisons", "Comparisons", exhibits.comparisons(panels)),
            ("curves", "Learning curves", curves.section(material, arms, study)),
            ("exhibits", "Exhibits", exhibits.section(material, arms, study)),
            ("configuration", "Configuration", tables.settings(material, arms, study)),
            ("cost", "Cost", tables.cost(material, arms)),
            ("versions", "Versions", tables.versions(material)),
        ]
    present = [(anchor, title, section) for anchor, title, section in sections if section is not None]
    links = [element("li", element("a", title, href=f"#{anchor}")) for anchor, title, _ in present]
    title = study.paper.title if study else _study_name(material)
    body = element(
        "body",
        element("header", _heading(material, study), class_="top"),
        element("nav", element("ul", links), aria_label="Sections"),
        element("main", _problems(material), [section for _, _, section in present]),
        element("footer", "Written by tutelage report. This file needs no network and runs no script."),
    )
    return document(f"{title} · Tutelage report", body)


def _order(study: Study | None) -> list[str]:
    if study is None:
        return []
    main = [study.main_arm] if study.main_arm else []
    return main + [arm for arm in study.arms if arm not in main]


def _study_name(material: Material) -> str:
    names = [run.study for run in material.runs] + [str(plan.get("study", "")) for plan in material.plans]
    return ", ".join(dict.fromkeys(word for word in names if word)) or "Report"


def _heading(material: Material, study: Study | None) -> list[Any]:
    if study is None:
        parts: list[Any] = [element("p", "Tutelage", class_="kicker"), element("h1", _study_name(material))]
    else:
        paper = study.paper
        link = element("a", f"arXiv {paper.arxiv}", href=f"https://arxiv.org/abs/{paper.arxiv}", rel="noreferrer")
        parts = [
            element("p", f"Tutelage · {study.name}", class_="kicker"),
            element("h1", paper.title),
            element("p", f"{paper.authors}, {paper.year}. ", link if paper.arxiv else None, class_="soft"),
            element("p", study.summary),
        ]
    parts.append(_tiles(material))
    commands = list(dict.fromkeys(_commands(material, study)))
    if commands:
        parts.append(element("p", "How these runs were made:", class_="small soft"))
        shown = "\n".join(commands[:8]) + (f"\n… and {len(commands) - 8} more" if len(commands) > 8 else "")
        parts.append(element("div", shown, class_="command mono", tabindex="0", role="region", aria_label="Commands"))
    return parts


def _tiles(material: Material) -> Markup:
    arms, runs = material.arms(), material.runs
    seeds = sorted({seed for run in runs for seed in run.seeds})
    wall = math.fsum(w for run in runs if math.isfinite(w := numbers.real(run.about.get("wall_seconds"))))
    rates = [w.get("value") for run in runs if isinstance(w := run.about.get("work_per_second"), dict)]
    units = {str(w.get("unit")) for run in runs if isinstance(w := run.about.get("work_per_second"), dict)}
    known = sorted(rate for value in rates if math.isfinite(rate := numbers.real(value)))
    devices = sorted({str(run.about["device"]) for run in runs if "device" in run.about})
    unfinished = sum(not run.finished for run in runs)
    tiles: list[tuple[str, Any, str]] = []
    if material.verdicts:
        holding = sum(verdict.judgement.verdict == "holds" for verdict in material.verdicts)
        tiles.append(("claims that hold", f"{holding} of {len(material.verdicts)}", claims.tally(material.verdicts)))
    some = "arm" if len(arms) == 1 else "arms"
    label = f"seeds {numbers.seeds(seeds)}" if seeds else ""
    preset = ", ".join(sorted({run.preset for run in runs if run.preset}))
    tiles.append((f"{some} × seeds", f"{len(arms)} × {len(seeds)}", label + (f" · {preset} preset" if preset else "")))
    if wall:
        state = f"{unfinished} not finished" if unfinished else "all runs finished"
        tiles.append(("wall time", numbers.duration(wall), state))
    if known and len(units) == 1:
        tiles.append((f"{next(iter(units))} per second", numbers.rate(known[len(known) // 2]), "median over runs"))
    if devices:
        tiles.append(("device", Markup(element("small", " · ".join(devices))), ""))
    return element(
        "dl",
        [
            element("div", element("dt", term), element("dd", value, element("small", note) if note else None))
            for term, value, note in tiles
        ],
        class_="tiles",
    )


def _commands(material: Material, study: Study | None) -> list[str]:
    """The command lines that make these runs again: one for a study folder, else one for each run."""
    commands = []
    for plan in material.plans:
        words = ["tutelage", "study", str(plan.get("study", ""))]
        arms = plan.get("arms")
        known = None if study is None else set(study.arms)
        if isinstance(arms, list) and arms and set(map(str, arms)) != known:
            words += ["--arms", ",".join(map(str, arms))]
        commands.append(_command(words, plan.get("preset"), plan.get("seeds"), plan.get("overrides")))
    if not material.plans:
        for run in material.runs:
            words = ["tutelage", "run", f"{run.study}/{run.arm}"]
            commands.append(_command(words, run.preset, list(run.seeds), run.overrides))
    return commands


def _command(words: list[str], preset: Any, seeds: Any, overrides: Any) -> str:
    if preset:
        words += ["--preset", str(preset)]
    if isinstance(seeds, list) and seeds and all(isinstance(seed, int) for seed in seeds):
        words += (
            ["--seed", str(seeds[0])] if len(seeds) == 1 and words[1] == "run" else ["--seeds", numbers.seeds(seeds)]
        )
    if isinstance(overrides, dict):
        for path, value in overrides.items():
            written = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else str(value)
            if isinstance(value, list | tuple):
                written = ",".join(str(item) for item in value)
            words += [flag(str(path)), str(written)]
    return shlex.join(words)


def _problems(material: Material) -> Markup | None:
    if not material.problems:
        return None
    items = [element("li", problem) for problem in dict.fromkeys(material.problems)]
    heading = element("h2", "What is missing", id="missing")
    return element("section", heading, element("ul", items), class_="problems", aria_labelledby="missing")
