"""What a report is about: runs, claims and plans read from folders that may be unfinished, torn or foreign.

Nothing here trusts a file. What cannot be read becomes a sentence in `Material.problems`, and the report still comes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.lab.errors import BadInput
from tutelage.lab.report.numbers import real
from tutelage.lab.storage.record import LABELS, RunFolder, costs
from tutelage.lab.study import RunResult
from tutelage.lab.verdicts import Verdict, read_claims

_LARGEST_EXHIBIT = 3_000_000
"""Bytes; one SVG beyond this would make the page too heavy for a phone."""


@dataclass(frozen=True)
class ShownExhibit:
    """An exhibit: the bytes of an SVG (untrusted), the rows of a table, or a drawing of `tutelage.lab.drawing.plots`.

    Attributes:
        inline: such a drawing, made just now and not read from anywhere, which the page can hold as it is.
    """

    name: str
    title: str
    caption: str
    svg: bytes = b""
    rows: tuple[tuple[str, ...], ...] = ()
    inline: str = ""


@dataclass(frozen=True)
class Run:
    """One run folder, as far as it could be read.

    Attributes:
        about: its result.json, empty where there is none that can be believed.
        finished: whether that and all that lies behind it is there (`RunFolder.standing`).
    """

    label: str
    study: str
    arm: str
    preset: str
    seeds: tuple[int, ...]
    overrides: Mapping[str, Any]
    config: Mapping[str, Any]
    versions: Mapping[str, Any]
    about: Mapping[str, Any]
    results: tuple[RunResult, ...]
    exhibits: tuple[ShownExhibit, ...]
    finished: bool


@dataclass
class Material:
    """All that a report shows.

    Attributes:
        plans: the `study.json` of each study folder.
        panels: the comparisons that a study folder holds in its own `figures/`.
        judged: whether there was a claims.json, even an empty one.
        problems: what is missing or could not be read, a sentence each.
    """

    runs: list[Run] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    plans: list[Mapping[str, Any]] = field(default_factory=list)
    panels: list[ShownExhibit] = field(default_factory=list)
    judged: bool = False
    problems: list[str] = field(default_factory=list)

    def arms(self, order: Iterable[str] = ()) -> list[str]:
        """The arms that have runs: first those of `order`, then the others as they came."""
        present = list(dict.fromkeys(run.arm for run in self.runs))
        first = [arm for arm in order if arm in present]
        return first + [arm for arm in present if arm not in first]

    def results(self, arm: str) -> list[RunResult]:
        """One result per seed of an arm, in the order of the seeds; a seed that came twice counts once."""
        found: dict[int, RunResult] = {}
        for run in self.runs:
            if run.arm == arm:
                for result in run.results:
                    found.setdefault(result.seed, result)
        return [found[seed] for seed in sorted(found)]


def gather(paths: Sequence[Path]) -> Material:
    """Read run folders and study folders.

    Raises:
        BadInput: no path, or one that is no folder or holds neither a run nor a study.
    """
    if not paths:
        raise BadInput("report: no folder given; allowed are run folders and study folders")
    material = Material()
    for path in paths:
        if not path.is_dir():
            raise BadInput(f"report: {path} is not a folder")
        if RunFolder(path).exists():
            _add_run(material, path, path.name)
        else:
            _add_study(material, path)
    _note_repeats(material)
    return material


def _add_study(material: Material, folder: Path) -> None:
    configs = sorted(
        [*folder.glob("*/config.json"), *folder.glob("*/*/config.json")], key=lambda path: _natural(path.parent)
    )
    plan = folder / "study.json"
    if not configs and not plan.is_file():
        raise BadInput(f"report: {folder} holds no run (config.json) and no study (study.json)")
    for config in configs:
        _add_run(material, config.parent, config.parent.relative_to(folder).as_posix())
    if plan.is_file():
        record = _object(plan, "study.json", material.problems)
        if record is not None:
            material.plans.append(record)
            _note_unstarted(material, record)
    material.panels += _exhibits(folder / "figures", "the study", material.problems)
    claims = folder / "claims.json"
    if claims.is_file():
        try:
            material.verdicts += read_claims(claims)
            material.judged = True
        except BadInput as error:
            again = RunFolder(folder).mending
            material.problems.append(f"The claims could not be read: {error}. To judge them again: {again}")
    elif plan.is_file():
        material.problems.append("claims.json is missing: the claims have not been judged yet.")


def _add_run(material: Material, folder: Path, label: str) -> None:
    problems = material.problems
    config = _object(folder / "config.json", f"{label}/config.json", problems)
    if config is None:
        return
    seeds = config.get("seeds")
    if not isinstance(seeds, list) or not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds):
        problems.append(f"{label}/config.json names no seeds; the run is left out.")
        return
    run = RunFolder(folder)
    standing = run.standing()
    about: dict[str, Any] = {}
    if standing.word == "unfinished":
        problems.append(f"{label} is not finished; its last evaluation is shown. To go on: {run.mending}")
    elif standing.word == "damaged":
        problems.append(f"{label} is damaged: {standing.problem}. To mend it: {run.mending}")
    if run.result_file.is_file():
        with contextlib.suppress(BadInput):  # a damaged one, which was said
            about = run.result()
    series, latest = _series(run, label, problems)
    final = about.get("figures")
    final = final if isinstance(final, dict) else {}
    cost = {name: real(value) for name, value in costs(about).items()}
    results = []
    for seed in seeds:
        of_seed = final.get(str(seed))
        figures = of_seed if isinstance(of_seed, dict) else latest.get(seed, {})
        own = {(kind, name): curve for (owner, kind, name), curve in series.items() if owner == seed}
        numbers = {str(name): real(value) for name, value in figures.items()}
        results.append(RunResult(str(config.get("arm", "")), seed, numbers, own, cost))
    material.runs.append(
        Run(
            label=label,
            study=str(config.get("study", "")),
            arm=str(config.get("arm", "")),
            preset=str(config.get("preset", "")),
            seeds=tuple(seeds),
            overrides=_mapping(config.get("overrides")),
            config=_mapping(config.get("config")),
            versions=_mapping(config.get("versions")),
            about=about,
            results=tuple(results),
            exhibits=_exhibits(folder / "figures", label, problems),
            finished=standing.word == "finished",
        )
    )


Curves = dict[tuple[int, str, str], tuple[np.ndarray, np.ndarray]]


def _series(run: RunFolder, label: str, problems: list[str]) -> tuple[Curves, dict[int, dict[str, Any]]]:
    """Every figure over the steps by (seed, kind, figure), and each seed's last evaluation."""
    points: dict[tuple[int, str, str], list[tuple[int, float]]] = {}
    latest: dict[int, dict[str, Any]] = {}
    if not run.metrics_file.is_file():
        problems.append(f"{label}/metrics.jsonl is missing: no curves of this run.")
    try:
        for record in run.metrics():
            kind, seed, step = (record[name] for name in LABELS)
            figures = {name: value for name, value in record.items() if name not in LABELS}
            for name, value in figures.items():
                points.setdefault((seed, kind, name), []).append((step, real(value)))
            if kind == "evaluation":
                latest[seed] = figures
    except (BadInput, OSError) as error:
        problems.append(f"{label}/metrics.jsonl is damaged; the part before the damage is shown ({error}).")
    curves = {
        key: (np.array([step for step, _ in pairs]), np.array([value for _, value in pairs]))
        for key, pairs in points.items()
    }
    return curves, latest


def _exhibits(folder: Path, label: str, problems: list[str]) -> tuple[ShownExhibit, ...]:
    index = folder / "index.json"
    if not index.is_file():
        return ()
    try:
        entries = json.loads(index.read_bytes())
    except (OSError, ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        problems.append(f"{label}/figures/index.json cannot be read: no exhibits of this run.")
        return ()
    shown = []
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        # A name is a file name here: nothing that could lead out of the folder.
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
            problems.append(f"{label}/figures/index.json: an exhibit without a proper name is left out.")
            continue
        exhibit = _exhibit(folder, name, str(entry.get("title", name)), str(entry.get("caption", "")))
        if isinstance(exhibit, str):
            problems.append(f"{label}/figures/{name}: {exhibit}")
        else:
            shown.append(exhibit)
    return tuple(shown)


def _exhibit(folder: Path, name: str, title: str, caption: str) -> ShownExhibit | str:
    picture, table = folder / f"{name}.svg", folder / f"{name}.json"
    try:
        if picture.is_file():
            if picture.stat().st_size > _LARGEST_EXHIBIT:
                return "the picture is larger than 3 MB and left out."
            data = picture.read_bytes()
            if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<svg", b"<?xml", b"<!--")):
                return "not an SVG file; left out."
            return ShownExhibit(name, title, caption, svg=data)
        if table.is_file():
            rows = json.loads(table.read_bytes())
            if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows) or not rows:
                return "not a table; left out."
            return ShownExhibit(name, title, caption, rows=tuple(tuple(str(cell) for cell in row) for row in rows))
    except (OSError, ValueError, RecursionError):
        return "cannot be read; left out."
    return "the file is missing."


def _note_unstarted(material: Material, plan: Mapping[str, Any]) -> None:
    arms, seeds = plan.get("arms"), plan.get("seeds")
    if not isinstance(arms, list) or not isinstance(seeds, list):
        material.problems.append("study.json names no arms or no seeds.")
        return
    there = {(run.arm, seed) for run in material.runs for seed in run.seeds}
    for arm in arms:
        missing = [seed for seed in seeds if (arm, seed) not in there]
        if missing and len(missing) == len(seeds):
            material.problems.append(f"{arm} has not been run.")
        elif missing:
            material.problems.append(f"{arm} has not been run for {_count(missing)}.")


def _note_repeats(material: Material) -> None:
    seen: dict[tuple[str, str, int], str] = {}
    for run in material.runs:
        for seed in run.seeds:
            first = seen.setdefault((run.study, run.arm, seed), run.label)
            if first != run.label:
                material.problems.append(f"{run.arm} seed {seed} is in {first} and in {run.label}; the first counts.")
    studies = sorted({run.study for run in material.runs})
    if len(studies) > 1:
        material.problems.append(f"The runs are of several studies ({', '.join(studies)}); compare with care.")


def _count(missing: list[Any]) -> str:
    return f"seed {missing[0]}" if len(missing) == 1 else f"seeds {', '.join(str(seed) for seed in missing)}"


def _object(path: Path, label: str, problems: list[str]) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        problems.append(f"{label} cannot be read: {error.strerror or error}.")
    except (ValueError, RecursionError):
        problems.append(f"{label} is torn: it is not JSON.")
    else:
        if isinstance(value, dict):
            return value
        problems.append(f"{label} is not a JSON object.")
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _natural(path: Path) -> list[Any]:
    """Sort key by which seed-10 comes after seed-9."""
    parts = []
    for part in path.parts:
        head, _, tail = part.rpartition("-")
        parts.append((head, int(tail), part) if tail.isdigit() else (part, -1, part))
    return parts
