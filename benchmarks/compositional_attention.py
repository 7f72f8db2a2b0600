"""Compositional attention, ours and others: `python benchmarks/compositional_attention.py [--save]`.

Forward and backward of one layer at three sizes, and decoding one token after another: ours, lucidrains' package
(0.0.1, in an environment of its own), naive code that writes the formulas down, and PyTorch's fused multi-head
attention with as many heads, which does less: one retrieval for each head and no competition. The same weights and
tokens for all; the compositional layers must find the same output and the same gradient, else the benchmark stops. One
process at a time on one thread, in turns. What counts is processor seconds, the median over a process's steps; memory is the process's peak
above what it held before the first step.

    python benchmarks/compositional_attention.py --rounds 1 --sizes "N = 256"
    python benchmarks/compositional_attention.py --save    also docs/results/compositional_attention_benchmark.{json,md}
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import (
    ENVIRONMENTS,
    HERE,
    PEERS,
    BenchmarkFailed,
    Contestant,
    Spread,
    in_turns,
    machine,
    make_environment,
    markdown,
    run,
)

SIZES: dict[str, dict[str, Any]] = {
    "N = 256": {"batch": 8, "tokens": 256, "searches": 8, "retrievals": 8, "width": 256, "repeats": 10},
    "N = 512": {"batch": 4, "tokens": 512, "searches": 8, "retrievals": 4, "width": 512, "repeats": 6},
    "N = 4096": {"batch": 1, "tokens": 4096, "searches": 8, "retrievals": 8, "width": 256, "repeats": 2},
    "decoding": {"batch": 1, "tokens": 256, "searches": 8, "retrievals": 8, "width": 256, "repeats": 2},
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
OTHERS = ("lucidrains", "naive", "multi-head")
BESIDE = "multi-head"
"""Does other work: its figures are printed, its outputs are not compared."""


class Disagreement(RuntimeError):
    """Layers that should compute the same do not."""


def contestants(others: Sequence[str], folder: Path) -> list[Contestant]:
    """Ours first, then the others asked for; lucidrains' environment is made where it is missing."""
    script = str(HERE / "ours_compositional_attention.py")
    found = []
    for name in ("tutelage", *others):
        if name == "lucidrains":
            python = str(make_environment("lucidrains_compositional", folder))
            command = (python, str(PEERS / "lucidrains_attention.py"))
        else:
            command = (sys.executable, script, name)
        found.append(Contestant(name, command, ONE_THREAD))
    return found


def figures(record: Mapping[str, Any], work: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one run, in milliseconds and megabytes."""
    if work["decode"]:
        tokens = work["tokens"]
        return {
            f"a token, {clock} ms": 1e3 * Spread.of([one[part] for one in record["decodes"]]).median / tokens
            for clock, part in (("CPU", "cpu"), ("wall", "wall"))
        }

    def median(*parts: str, clock: str = "cpu") -> float:
        return 1e3 * Spread.of([sum(step[part][clock] for part in parts) for step in record["steps"]]).median

    return {
        "forward, CPU ms": median("forward"),
        "backward, CPU ms": median("backward"),
        "step, CPU ms": median("forward", "backward"),
        "step, wall ms": median("forward", "backward", clock="wall"),
        "memory of a step, MB": record["memory"] / 1e6,
    }


def agree(name: str, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `Disagreement` unless all compositional layers found the same output and gradient."""
    ours = records["tutelage"]["fingerprint"]
    for library, record in records.items():
        if library != BESIDE:
            for one, other in zip(ours, record["fingerprint"], strict=True):
                if not math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-4):
                    raise Disagreement(f"{name}: {library} found {record['fingerprint']}, ours {ours}")


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """All rounds of the sizes asked for."""
    entrants, result = contestants(given.others, given.environments), {"records": [], "figures": {}}
    for name in given.sizes:
        work = SIZES[name] | {"decode": name == "decoding"}
        by_library: dict[str, list[dict[str, float]]] = {}
        first: dict[str, Mapping[str, Any]] = {}
        for number, entrant in in_turns(entrants, given.rounds):
            load = machine()["load_average"][0]
            try:
                record = run(entrant, ["--seed", str(given.seed), "--work", json.dumps(work)], timeout=given.timeout)
            except BenchmarkFailed as error:
                print(f"{name} round {number + 1}: {error}", file=sys.stderr, flush=True)
                continue
            found = figures(record, work)
            first.setdefault(entrant.name, record)
            result["records"].append({"size": name, "round": number, "load": load, **record})
            by_library.setdefault(entrant.name, []).append(found)
            line = ", ".join(f"{figure} {value:.2f}" for figure, value in found.items())
            print(f"{name} round {number + 1} {entrant.name}: {line}; load {load:.1f}", file=sys.stderr, flush=True)
        agree(name, first)
        result["figures"][name] = by_library
    return result


def table(name: str, results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """One size: figure by library as median (least–most) over rounds, and the others over ours."""
    names, rows = list(results), []
    for figure in results[names[0]][0]:
        spreads = [Spread.of([round_[figure] for round_ in results[library]]) for library in names]
        ratios = [f"{spread.median / spreads[0].median:.2f}" for spread in spreads[1:]]
        rows.append([figure, *map(str, spreads), *ratios])
    work = SIZES[name]
    said = f"B = {work['batch']}, N = {work['tokens']}, S = {work['searches']}, R = {work['retrievals']}, "
    said += f"D = {work['width']}."
    head = ["", *names, *[f"{library} / ours" for library in names[1:]]]
    return f"### {name}\n\n{said}\n\n" + markdown(head, rows)


def page(result: Mapping[str, Any]) -> str:
    """The tables, with what must be known to read them."""
    about, versions = result["machine"], {}
    for record in result["records"]:
        versions.setdefault(record["library"], ", ".join(f"{name} {v}" for name, v in record["versions"].items()))
    lines = [
        f"`{result['command']}`",
        "",
        f"{about['cpu']}, {about['cores']} cores, load {about['load_average'][0]:.1f} at the start; one thread. "
        "Median (least–most) over rounds. Outputs and gradients of the compositional layers agree. Multi-head "
        "attention does less: one retrieval for each head, no competition. Without a cache (lucidrains, naive) a "
        "decoded token costs its whole prefix.",
        "",
        *[f"- {name}: {text}" for name, text in versions.items()],
    ]
    parts = ["\n".join(lines), *(table(name, by_library) for name, by_library in result["figures"].items())]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=list(SIZES))
    parser.add_argument("--others", nargs="*", choices=OTHERS, default=list(OTHERS))
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where peers' environments live")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each library, in turns")
    parser.add_argument("--seed", type=int, default=0, help="of weights and tokens, the same for all")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds of wall time for one run")
    parser.add_argument("--save", action="store_true", help="write docs/results/…_benchmark.json and .md")
    given = parser.parse_args()
    result = {"machine": machine(), "command": shlex.join(["python", *sys.argv]), "sizes": SIZES, **measured(given)}
    text = page(result)
    print(text)
    if given.save:
        folder = HERE.parent / "docs" / "results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "compositional_attention_benchmark.json").write_text(json.dumps(result, indent=1) + "\n")
        (folder / "compositional_attention_benchmark.md").write_text(f"# Compositional attention and others\n\n{text}")


if __name__ == "__main__":
    main()
