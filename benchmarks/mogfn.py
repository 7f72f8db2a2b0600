"""Trajectory balance on HyperGrids, ours against gfnx and torchgfn: `python benchmarks/mogfn.py [--save]`.

The same work for all: the classic reward (R0 = 0.1), an MLP of two hidden layers of 256, 16 trajectories an update,
uniform P_B, Adam at 1e-3 (log Z: 0.1), ε = 0.01; one process at a time on one thread, in turns. An *iteration* is one
rollout of the batch with its gradient step. What counts is processor seconds of an iteration, the median over the calls
after the first, which compiles (gfnx compiles again in its second and third, as its state's types change), and
the exact L1 distance to the target law after equally many samples, worked out by the same NumPy code for everybody.

    law      the two grids: 2-D of side 8, 4-D of side 16
    growth   ours alone against dimensions, side, objectives, and the length of sequences (`growth_mogfn.py`)

    python benchmarks/mogfn.py --parts law --rounds 3 --gfnx CHECKOUT
    python benchmarks/mogfn.py --save                 also writes docs/results/mogfn_benchmark.{json,md}
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import growth_mogfn
from harness import (
    ENVIRONMENTS,
    HERE,
    PEERS,
    BenchmarkFailed,
    Contestant,
    Spread,
    checkout,
    in_turns,
    machine,
    make_environment,
    markdown,
    run,
)

GFNX = "https://github.com/d-tiapkin/gfnx"
GFNX_COMMIT = "068316d394d432fed7a4d349b1a106b64c3c5771"
WORK: dict[str, Any] = {
    "width": 256,
    "layers": 2,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "z_learning_rate": 0.1,
    "epsilon": 0.01,
    "base": 0.1,
}
GRIDS: dict[str, dict[str, int]] = {
    "2-D, side 8": {"dims": 2, "side": 8, "iterations": 250, "calls": 9},
    "4-D, side 16": {"dims": 4, "side": 16, "iterations": 100, "calls": 6},
}
ONE_THREAD = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1"}


def contestants(peers: Sequence[str], gfnx: Path | None, folder: Path) -> list[Contestant]:
    """Ours first, then the peers asked for, their environments made where they are missing."""
    # A cache of compiled programs would hide what the first start costs; the peers have none.
    ours = (sys.executable, str(HERE / "ours_mogfn.py"))
    found = [Contestant("tutelage", ours, {"TUTELAGE_CACHE": "off", **ONE_THREAD})]
    if "gfnx" in peers:
        source = gfnx or checkout(GFNX, GFNX_COMMIT, folder)
        command = (str(make_environment("gfnx", folder)), str(PEERS / "gfnx_hypergrid.py"), "--source", str(source))
        found.append(Contestant("gfnx", command, {"PYTHONPATH": str(PEERS / "stubs"), **ONE_THREAD}))
    if "torchgfn" in peers:
        command = (str(make_environment("torchgfn", folder)), str(PEERS / "torchgfn_hypergrid.py"))
        found.append(Contestant("torchgfn", command, ONE_THREAD))
    return found


def figures(record: Mapping[str, Any], grid: Mapping[str, int]) -> dict[str, float]:
    """The figures of one run: milliseconds of an iteration, seconds to the end of the first call, L1."""
    later = record["calls"][1:]
    return {
        "iteration, CPU ms": 1e3 * Spread.of([call["cpu"] for call in later]).median / grid["iterations"],
        "iteration, wall ms": 1e3 * Spread.of([call["wall"] for call in later]).median / grid["iterations"],
        "to the end of the first call, CPU s": record["marks"]["first_call"]["cpu"],
        "L1 after a third": record["l1"][len(record["calls"]) // 3],
        "L1 at the end": record["l1"][-1],
        "peak memory, MB": record["peak_memory_bytes"] / 1e6,
    }


def laws(given: argparse.Namespace) -> dict[str, Any]:
    """All rounds of both grids."""
    entrants, result = contestants(given.peers, given.gfnx, given.environments), {"records": [], "figures": {}}
    for name, grid in GRIDS.items():
        by_library: dict[str, list[dict[str, float]]] = {}
        for number, entrant in in_turns(entrants, given.rounds):
            load = machine()["load_average"][0]
            work = json.dumps(WORK | grid)
            try:
                record = run(entrant, ["--seed", str(number), "--work", work], timeout=given.timeout)
            except BenchmarkFailed as error:
                print(f"{name} round {number + 1}: {error}", file=sys.stderr, flush=True)
                continue
            found = figures(record, grid)
            result["records"].append({"grid": name, "round": number, "load": load, **record})
            by_library.setdefault(entrant.name, []).append(found)
            line = f"{name} round {number + 1} {entrant.name}: {found['iteration, CPU ms']:.2f} CPU-ms an iteration, "
            print(line + f"L1 {found['L1 at the end']:.3f}, load was {load:.1f}", file=sys.stderr, flush=True)
        result["figures"][name] = by_library
    return result


def table(name: str, results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """One grid: figure by library as median (least–most) over rounds, and ours over the peers'."""
    names, rows = list(results), []
    for figure in results[names[0]][0]:
        spreads = [Spread.of([round_[figure] for round_ in results[library]]) for library in names]
        ratios = [f"{spreads[0].median / spread.median:.2f}" for spread in spreads[1:]]
        rows.append([figure, *map(str, spreads), *ratios])
    samples = WORK["batch_size"] * GRIDS[name]["iterations"] * GRIDS[name]["calls"]
    head = ["", *names, *[f"ours / {library}" for library in names[1:]]]
    return f"### {name}\n\n{samples:,} samples at the end.\n\n" + markdown(head, rows)


def page(result: Mapping[str, Any]) -> str:
    """The tables, with what must be known to read them."""
    about, versions = result["machine"], {}
    for record in result.get("law", {}).get("records", []):
        versions.setdefault(record["library"], ", ".join(f"{name} {v}" for name, v in record["versions"].items()))
    lines = [
        f"`{result['command']}`",
        "",
        f"{about['cpu']}, {about['cores']} cores, load {about['load_average'][0]:.1f} at the start. "
        "Median (least–most) over rounds.",
        "",
        *[f"- {name}: {text}" for name, text in versions.items()],
    ]
    parts = ["\n".join(lines)]
    parts += [table(name, by_library) for name, by_library in result.get("law", {}).get("figures", {}).items()]
    if "growth" in result:
        parts.append(growth_mogfn.table(result["growth"]))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("law", "growth"), default=["law", "growth"])
    parser.add_argument("--peers", nargs="*", choices=("gfnx", "torchgfn"), default=["gfnx", "torchgfn"])
    parser.add_argument("--gfnx", type=Path, help="a checkout of gfnx, instead of cloning it")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where peers' environments live")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each library, in turns")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds of wall time for one run")
    parser.add_argument("--save", action="store_true", help="write docs/results/mogfn_benchmark.json and .md")
    given = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "command": shlex.join(["python", *sys.argv]), "work": WORK}
    if "law" in given.parts:
        result["law"] = laws(given)
    if "growth" in given.parts:
        result["growth"] = growth_mogfn.measure()
    text = page(result)
    print(text)
    if given.save:
        folder = HERE.parent / "docs" / "results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mogfn_benchmark.json").write_text(json.dumps(result, indent=1) + "\n")
        (folder / "mogfn_benchmark.md").write_text(f"# GFlowNets against their peers\n\n{text}")


if __name__ == "__main__":
    main()
