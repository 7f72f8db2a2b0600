"""How our cycle grows with its sizes: `python benchmarks/growth_minimax.py [--save]`.

One size at a time is made smaller or larger than published: the environments N and the steps T of a cycle of domain
randomisation, and the levels K of PLR⊥'s buffer. Every point is a process of its own, with nothing compiled beforehand.
Time is processor seconds of one cycle; memory is the largest resident set of the whole process, compiler included.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import HERE, Contestant, Spread, costs_by_kind, machine, markdown, run
from minimax import WORK


@dataclass(frozen=True)
class Axis:
    """A size that is varied.

    Attributes:
        field: its name in the work.
        arm: the method that is timed.
        kinds: the kinds of cycles that are shown.
    """

    label: str
    field: str
    arm: str
    kinds: tuple[str, ...]


AXES = (
    Axis("environments N", "num_envs", "dr", ("train",)),
    Axis("steps T", "num_steps", "dr", ("train",)),
    Axis("buffer K", "buffer_size", "plr_robust", ("replay", "new")),
)


def work_at(axis: Axis, factor: float) -> dict[str, Any]:
    """The published work with one size `factor` times as large."""
    work = {**WORK, axis.field: round(WORK[axis.field] * factor)}
    return {**work, "min_fill": work["num_envs"] / work["buffer_size"]}


def measure(axis: Axis, factor: float, rounds: int, cycles: int) -> dict[str, Any]:
    """Processor seconds of each kind of cycle, and peak memory, at this size: a point of the figure."""
    ours = Contestant("tutelage", (sys.executable, str(HERE / "ours_cycle.py")), {"TUTELAGE_CACHE": "off"})
    work = work_at(axis, factor)
    seconds: dict[str, list[float]] = {kind: [] for kind in axis.kinds}
    memory = []
    for number in range(rounds):
        arguments = ["--arm", axis.arm, "--seed", str(number), "--cycles", str(cycles), "--evaluations", "0"]
        record = run(ours, [*arguments, "--work", json.dumps(work)], timeout=1800)
        costs = costs_by_kind(record["cycles"], "cpu")
        for kind in axis.kinds:
            seconds[kind].append(costs.get(kind, float("nan")))
        memory.append(record["peak_memory_bytes"])
    point = {"axis": axis.label, "factor": factor, "size": work[axis.field], "seconds": seconds, "memory": memory}
    spreads = ", ".join(f"{kind} {Spread.of(values)} CPU-s" for kind, values in seconds.items())
    print(f"{axis.label} = {point['size']}: {spreads}, {max(memory) / 1e6:.0f} MB", file=sys.stderr, flush=True)
    return point


def table(points: Sequence[Mapping[str, Any]]) -> str:
    """All points as text."""
    rows = [
        [
            f"{point['axis']} = {point['size']}",
            f"{point['factor']:g}",
            "; ".join(f"{kind} {Spread.of(values)}" for kind, values in point["seconds"].items()),
            f"{Spread.of(point['memory']).median / 1e6:.0f}",
        ]
        for point in points
    ]
    return markdown(["size", "times the published", "CPU-s of a cycle", "peak memory, MB"], rows)


def figures(points: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name to SVG: time and memory against size relative to the published one."""
    from tutelage.lab.drawing.plots import Curve, curves

    def curve(label: str, axis: Axis, series: int, values: Sequence[Sequence[float]]) -> Curve:
        factors = [point["factor"] for point in points if point["axis"] == axis.label]
        spreads = [Spread.of(of_point) for of_point in values]
        middle, low, high = ([getattr(s, name) for s in spreads] for name in ("median", "low", "high"))
        return Curve(label, factors, middle, low, high, series)

    time, memory = [], []
    for axis in AXES:
        mine = [point for point in points if point["axis"] == axis.label]
        if not mine:
            continue
        for kind in axis.kinds:
            label = axis.label if kind == "train" else f"{axis.label}, {kind} levels"
            time.append(curve(label, axis, len(time), [point["seconds"][kind] for point in mine]))
        memory.append(curve(axis.label, axis, len(memory), [[m / 1e6 for m in point["memory"]] for point in mine]))
    x_label = "size, times the published (N 32, T 256, K 4000)"
    return {
        "minimax_growth_time": curves(time, title="Time of a cycle", x_label=x_label, y_label="CPU seconds"),
        "minimax_growth_memory": curves(memory, title="Peak memory of the process", x_label=x_label, y_label="MB"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", nargs="+", type=float, default=[0.25, 0.5, 1, 2, 4])
    parser.add_argument("--axes", nargs="+", choices=[axis.field for axis in AXES], help="only these sizes")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cycles", type=int, default=8, help="updates timed in each run, after the warm-up")
    parser.add_argument("--save", action="store_true", help="write docs/results/minimax_growth*.{json,md,svg}")
    given = parser.parse_args()
    about = machine()
    chosen = [axis for axis in AXES if not given.axes or axis.field in given.axes]
    points = [measure(axis, factor, given.rounds, given.cycles) for axis in chosen for factor in given.factors]
    command = shlex.join(["python", *sys.argv])
    text = (
        f"`{command}`\n\n{about['cpu']}, {about['cores']} cores, load {about['load_average'][0]:.1f} at the start. "
        f"Median (least–most) over {given.rounds} run(s) of each size.\n\n{table(points)}\n"
    )
    print(text)
    if given.save:
        folder = HERE.parent / "docs" / "results"
        folder.mkdir(parents=True, exist_ok=True)
        drawn = figures(points)
        for name, svg in drawn.items():
            (folder / f"{name}.svg").write_text(svg)
        pictures = "\n".join(f"![{name.replace('_', ' ')}]({name}.svg)" for name in drawn)
        (folder / "minimax_growth.md").write_text(f"# How a cycle grows\n\n{text}\n{pictures}\n")
        record = {"machine": about, "command": command, "points": points}
        (folder / "minimax_growth.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
