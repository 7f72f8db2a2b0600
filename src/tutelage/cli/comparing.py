"""`compare`: how two sets of runs differ, in what was asked for and in what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.cli import DONE, options
from tutelage.lab.bootstrap import Interval, bootstrap, mean
from tutelage.lab.configuration import differences
from tutelage.lab.errors import BadInput
from tutelage.lab.storage.record import RunFolder, read_results
from tutelage.lab.study import RunResult
from tutelage.measures.intervals import stratified_interval
from tutelage.measures.performance import probability_of_improvement

FEW = 3
"""With fewer seeds on either side no interval is worth printing."""


@dataclass(frozen=True)
class Side:
    """The finished runs of one arm under one folder, and their configuration as flat values."""

    arm: str
    config: Mapping[str, Any]
    results: Sequence[RunResult]


def compare(argv: list[str]) -> int:
    """Print the settings in which two folders differ and, for every figure, both means with bootstrap intervals."""
    if options.wants_help(argv):
        print(
            "usage: tutelage compare DIR DIR\n\nEach DIR is a run folder or holds run folders (a study, an arm).\n"
            "Arms that both have are compared by name; folders with one arm each are compared whatever its name."
        )
        return DONE
    parsed = options.read(options.NoOptions, argv)
    if len(parsed.words) != 2:
        raise BadInput(f"compare needs two folders; {len(parsed.words)} were given")
    first, second = (options.existing(word) for word in parsed.words)
    ours, theirs = sides(first), sides(second)
    if len(ours) == len(theirs) == 1:
        pairs = [(next(iter(ours.values())), next(iter(theirs.values())))]
    else:
        pairs = [(ours[arm], theirs[arm]) for arm in ours if arm in theirs]
    if not pairs:
        raise BadInput(f"{first} has {', '.join(ours)} and {second} has {', '.join(theirs)}: no arm is in both")
    for left, right in pairs:
        print(f"A = {first} ({left.arm}, {_seeds(left)})")
        print(f"B = {second} ({right.arm}, {_seeds(right)})")
        _print_settings(left, right)
        _print_figures(left, right)
    return DONE


def sides(folder: Path) -> dict[str, Side]:
    """The finished runs at or below a folder by arm. Raises `BadInput` when there are none or they do not match."""
    found: dict[str, Side] = {}
    unfinished = 0
    for file in sorted([folder / "config.json", *folder.glob("*/config.json"), *folder.glob("*/*/config.json")]):
        record = RunFolder(file.parent)
        if not record.exists():
            continue
        standing = record.standing()
        if standing.word == "damaged":
            print(f"{file.parent} is damaged and left out: {standing.problem}; to mend it: {record.mending}")
        if standing.word != "finished":
            unfinished += standing.word == "unfinished"
            continue
        config = record.config()
        arm = str(config["arm"])
        flat = {"study": config["study"], **_flat(config["config"])}
        before = found.get(arm, Side(arm, flat, ()))
        results = read_results(file.parent)
        if twice := {result.seed for result in before.results} & {result.seed for result in results}:
            raise BadInput(f"{folder}: seed {min(twice)} of {arm} is there twice; name a folder further down")
        if changed := differences(before.config, flat):
            raise BadInput(f"{folder}: the runs of {arm} differ in {next(iter(changed))}; name a folder further down")
        found[arm] = Side(arm, flat, (*before.results, *results))
    if not found:
        raise BadInput(f"{folder}: holds no finished run")
    if unfinished:
        print(f"{folder}: {unfinished} unfinished {'run is' if unfinished == 1 else 'runs are'} left out")
    return found


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _seeds(side: Side) -> str:
    return "1 seed" if len(side.results) == 1 else f"{len(side.results)} seeds"


def _print_settings(left: Side, right: Side) -> None:
    changed = differences(left.config, right.config)
    print("settings: the same" if not changed else "settings that differ:")
    for path, (ours, theirs) in changed.items():
        print(f"  {path}: {ours} → {theirs}")


def _print_figures(left: Side, right: Side) -> None:
    """A table of the figures that all runs of both sides have."""
    names = [
        name for name in left.results[0].figures if all(name in r.figures for r in (*left.results, *right.results))
    ]
    missing = {name for result in (*left.results, *right.results) for name in result.figures} - set(names)
    few = min(len(left.results), len(right.results)) < FEW
    rows = [("figure", "A", "B", "B − A", "P(B > A)")]
    for name in names:
        a, b = (np.array([result.figures[name] for result in side.results]) for side in (left, right))
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            missing.add(name)
            continue
        if few:
            rows.append((name, f"{a.mean():.4g}", f"{b.mean():.4g}", f"{b.mean() - a.mean():+.4g}", ""))
            continue
        difference = bootstrap(lambda x, y: mean(y) - mean(x), a, b)
        better = stratified_interval(probability_of_improvement, b[:, None], a[:, None])
        rows.append((name, _shown(bootstrap(mean, a)), _shown(bootstrap(mean, b)), _shown(difference), _shown(better)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip())
    if missing:
        print(f"  left out, not finite or not in every run: {', '.join(sorted(missing))}")
    if few:
        print(
            f"  too few seeds for intervals: {FEW} on each side are needed; nothing can be concluded from these means"
        )


def _shown(interval: Interval) -> str:
    return f"{float(interval.estimate):.4g} [{float(interval.low):.4g}, {float(interval.high):.4g}]"
