"""How our step grows with samples, questions and model size: the part `growth` of `benchmarks/reason_rl.py`.

One size at a time differs from 8 questions × 16 samples of the mini model. Models have random weights, so that hardly a
completion ends before its 44 tokens and the work is the same in every step. Every point is a process of its own; time
is processor seconds of a step, memory the largest resident set of the process.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ours_reason_rl
from harness import HERE, Contestant, Spread, markdown, run

WORK: dict[str, Any] = {"questions": 8, "samples": 16, "new_tokens": 44, "learning_rate": 1e-4, "kl": 0.0}
SIZES = ("nano", "micro", "mini", "small")
AXES: dict[str, tuple[int, ...]] = {"samples": (4, 16, 64), "questions": (2, 8, 32)}


def measure(given: argparse.Namespace, model: Path | None = None) -> dict[str, Any]:
    """All points: `axis`, `size` (parameters for the model's), `label`, seconds of every step, memory."""
    points = []
    with tempfile.TemporaryDirectory() as scratch:
        sizes = {name: Path(scratch, name) for name in SIZES}
        for name, folder in sizes.items():
            ours_reason_rl.prepare(folder, size=name, documents=0)
        for axis, values in AXES.items():
            points += [_point(given, axis, value, str(value), sizes["mini"], {axis: value}) for value in values]
        for name, folder in sizes.items():
            points.append(_point(given, "parameters", _parameters(folder), name, folder, {}))
    return {"work": WORK, "points": points}


def table(found: Mapping[str, Any]) -> str:
    """Every point, and the exponent of its growth from the point before."""
    rows, before = [], None
    for point in found["points"]:
        spread = Spread.of(point["seconds"])
        steep = ""
        if before is not None and before["axis"] == point["axis"]:
            last = Spread.of(before["seconds"]).median
            steep = f"{math.log(spread.median / last) / math.log(point['size'] / before['size']):.2f}"
        share = Spread.of(point["generation"]).median / spread.median
        label = point["axis"] if point["label"] == str(point["size"]) else f"{point['axis']} ({point['label']})"
        cells = [f"{label} = {point['size']}", str(spread), f"{share:.0%}", steep, f"{point['memory'] / 1e6:.0f}"]
        rows.append(cells)
        before = point
    return markdown(["size", "CPU-s of a step", "drawing", "exponent", "peak memory, MB"], rows)


def figures(found: Mapping[str, Any] | None) -> dict[str, str]:
    """Name to SVG: time against size relative to the middle of its axis; nothing without points."""
    from tutelage.lab.drawing.plots import Curve, curves

    if found is None:
        return {}
    lines: list[Any] = []
    for axis in dict.fromkeys(point["axis"] for point in found["points"]):
        points = [point for point in found["points"] if point["axis"] == axis]
        base = next(point["size"] for point in points if point["size"] == WORK.get(axis) or point["label"] == "mini")
        spreads = [Spread.of(point["seconds"]) for point in points]
        middle, low, high = ([getattr(spread, name) for spread in spreads] for name in ("median", "low", "high"))
        lines.append(Curve(axis, [point["size"] / base for point in points], middle, low, high, len(lines)))
    x_label = "size, times the usual (8 questions, 16 samples, mini)"
    return {"reason_rl_growth": curves(lines, title="Time of a step", x_label=x_label, y_label="CPU seconds")}


def _point(
    given: argparse.Namespace, axis: str, size: int, label: str, model: Path, change: dict[str, int]
) -> dict[str, Any]:
    driver = Contestant("tutelage", (sys.executable, str(HERE / "ours_reason_rl.py"), "--part", "step"))
    work = WORK | change | {"steps": 3, "model": str(model)}
    records = [
        run(driver, ["--work", json.dumps(work | {"seed": number})], timeout=given.timeout)
        for number in range(given.rounds)
    ]
    parts: Sequence[Mapping[str, float]] = [part for record in records for part in record["parts"]]
    point = {"axis": axis, "size": size, "label": label, "memory": max(r["peak_memory_bytes"] for r in records)}
    point |= {"seconds": [part["step"] for part in parts], "generation": [part["generation"] for part in parts]}
    print(f"{axis} {label}: {Spread.of(point['seconds'])} CPU-s", file=sys.stderr, flush=True)
    return point


def _parameters(folder: Path) -> int:
    from tutelage.lm import folders

    return sum(parameter.numel() for parameter in folders.load(folder)[0].parameters())
