"""Ours against jaxued and minimax-lib on the same work: `python benchmarks/minimax.py [--save]`.

13×13 mazes with 60 walls, 32 environments, 256 steps, LSTM of 256, five epochs of one minibatch. Each library runs its
own compiled update, one process at a time, in turns. A *cycle* is one batch of 32 rollouts with its learner pass, if it
has one; cycles are told apart by kind, and weighed as the method mixes them (PLR⊥ replays half of its batches; ACCEL
decides for replay with 0.8 and then evaluates the children too). Buffers hold 4000 levels; replay may begin once one
batch is in, which changes no shape and no cost. Evaluation (8 mazes × 10 episodes) is timed apart.

    python benchmarks/minimax.py --arms dr --rounds 3
    python benchmarks/minimax.py --jaxued PATH          a checkout of jaxued; otherwise it is cloned
    python benchmarks/minimax.py --peers jaxued --save  also writes docs/results/minimax_benchmark.{json,md}
"""

from __future__ import annotations

import argparse
import json
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
    checkout,
    costs_by_kind,
    in_turns,
    machine,
    make_environment,
    markdown,
    mixed,
    run,
)

JAXUED = "https://github.com/DramaCow/jaxued"
JAXUED_COMMIT = "0f8f1284677375b889e4f13a32c9617cd009f8c4"
ARMS = ("dr", "plr_robust", "accel", "paired")
WORK: dict[str, Any] = {
    "num_envs": 32,
    "num_steps": 256,
    "num_epochs": 5,
    "num_minibatches": 1,
    "num_walls": 60,
    "buffer_size": 4000,
    "min_fill": 32 / 4000,
    # While timing, every kind of batch should be met soon; what a kind costs does not depend on how often it comes.
    "replay_probability": 0.5,
    "num_edits": 20,
    "teacher_steps": 62,
    "teacher_noise": 50,
    "eval_episodes": 10,
    # minimax-lib's shortest paths of every level, a dozen 169³ products: an option there, unknown to jaxued.
    "level_metrics": False,
}
MIXES: dict[str, dict[str, float]] = {
    "dr": {"train": 1.0},
    "plr_robust": {"new": 0.5, "replay": 0.5},
    "accel": {"new": 0.2, "replay": 0.8, "mutate": 0.8},
    "paired": {"train": 1.0},
}
"""How often each kind of batch comes per decision of the teacher, in the published settings."""


def contestants(peers: Sequence[str], jaxued: Path | None, folder: Path) -> list[Contestant]:
    """Ours first, then the peers asked for, their environments made where they are missing."""
    # A cache of compiled programs would hide what the first start costs; the peers have none.
    found = [Contestant("tutelage", (sys.executable, str(HERE / "ours_cycle.py")), {"TUTELAGE_CACHE": "off"})]
    stubs = {"PYTHONPATH": str(PEERS / "stubs")}
    if "jaxued" in peers:
        source = jaxued or checkout(JAXUED, JAXUED_COMMIT, folder)
        command = (str(make_environment("jaxued", folder)), str(PEERS / "jaxued_cycle.py"), "--source", str(source))
        found.append(Contestant("jaxued", command, stubs))
    if "minimax" in peers:
        command = (str(make_environment("minimax", folder)), str(PEERS / "minimax_cycle.py"))
        found.append(Contestant("minimax-lib", command, stubs))
    return found


def figures(arm: str, record: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one run, by name; seconds unless the name says otherwise."""
    cpu, wall = costs_by_kind(record["cycles"], "cpu"), costs_by_kind(record["cycles"], "wall")
    per_cycle = mixed(cpu, MIXES[arm])
    steps = WORK["num_envs"] * WORK["num_steps"] * (2 if arm == "paired" else 1)
    later = record["evaluation"]["later"]
    found = {
        "cycle cpu": per_cycle,
        "cycle wall": mixed(wall, MIXES[arm]),
        "steps per cpu second": steps / per_cycle,
        "first update cpu": record["marks"]["first_update"]["cpu"],
        "first update wall": record["marks"]["first_update"]["wall"],
        "second call cpu": record["second_call"]["cpu"],
        "evaluation cpu": min(cost["cpu"] for cost in later) if later else float("nan"),
        "evaluation first cpu": record["evaluation"]["first"]["cpu"],
        "peak memory MB": record["peak_memory_bytes"] / 1e6,
    }
    if arm == "plr_robust":
        found |= {"new cpu": cpu.get("new", float("nan")), "replay cpu": cpu.get("replay", float("nan"))}
    if arm == "accel":
        both = cpu.get("replay", float("nan")) + cpu.get("mutate", float("nan"))
        found |= {"new cpu": cpu.get("new", float("nan")), "replay and mutate cpu": both}
    return found


def table(arm: str, results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """One arm: figure by library as median (least–most) over rounds, and peers over ours."""
    names = list(results)
    spreads = {
        figure: {name: Spread.of([round_[figure] for round_ in results[name]]) for name in names}
        for figure in results[names[0]][0]
    }
    rows = []
    for figure, by_library in spreads.items():
        ours = by_library[names[0]].median
        ratios = [f"{by_library[name].median / ours:.2f}" for name in names[1:]]
        rows.append([figure, *[str(spread) for spread in by_library.values()], *ratios])
    return f"### {arm}\n\n" + markdown(["", *names, *[f"{name} / ours" for name in names[1:]]], rows)


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """All rounds of all arms; the raw records, and the figures of each run."""
    entrants = contestants(given.peers, given.jaxued, given.environments)
    arguments = ["--cycles", str(given.cycles), "--evaluations", str(given.evaluations), "--work", json.dumps(WORK)]
    result: dict[str, Any] = {"machine": machine(), "command": shlex.join(["python", *sys.argv]), "work": WORK}
    result["records"], result["figures"], result["failed"] = [], {}, []
    for arm in given.arms:
        by_library: dict[str, list[dict[str, float]]] = {}
        for number, entrant in in_turns(entrants, given.rounds):
            load = machine()["load_average"][0]
            try:
                record = run(entrant, ["--arm", arm, "--seed", str(number), *arguments], timeout=given.timeout)
            except BenchmarkFailed as error:
                print(f"{arm} round {number + 1}: {error}", file=sys.stderr, flush=True)
                result["failed"].append({"arm": arm, "library": entrant.name, "round": number, "error": str(error)})
                continue
            found = figures(arm, record)
            result["records"].append({"round": number, "load": load, **record})
            by_library.setdefault(entrant.name, []).append(found)
            line = f"{arm} round {number + 1} {entrant.name}: {found['cycle cpu']:.2f} CPU-s a cycle, first update "
            line += f"{found['first update cpu']:.1f} CPU-s, load was {load:.1f}"
            print(line, file=sys.stderr, flush=True)
        if by_library:
            result["figures"][arm] = by_library
    return result


def page(result: Mapping[str, Any]) -> str:
    """The tables, with what must be known to read them."""
    about, versions = result["machine"], {}
    for record in result["records"]:
        versions.setdefault(record["library"], ", ".join(f"{name} {v}" for name, v in record["versions"].items()))
    lines = [
        f"`{result['command']}`",
        "",
        f"{about['cpu']}, {about['cores']} cores, load {about['load_average'][0]:.1f} at the start. "
        "Processor seconds as median (least–most) over rounds.",
        "",
        *[f"- {name}: {text}" for name, text in versions.items()],
    ]
    tables = [table(arm, by_library) for arm, by_library in result["figures"].items()]
    return "\n\n".join(["\n".join(lines), *tables]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--peers", nargs="*", choices=("jaxued", "minimax"), default=["jaxued", "minimax"])
    parser.add_argument("--jaxued", type=Path, help="a checkout of jaxued, instead of cloning it")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where peers' environments live")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each library and arm, in turns")
    parser.add_argument("--cycles", type=int, default=12, help="updates timed in each run, after the warm-up")
    parser.add_argument("--evaluations", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds of wall time for one run")
    parser.add_argument("--save", action="store_true", help="write docs/results/minimax_benchmark.json and .md")
    given = parser.parse_args()
    result = compare(given)
    text = page(result)
    print(text)
    if given.save:
        folder = HERE.parent / "docs" / "results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "minimax_benchmark.json").write_text(json.dumps(result, indent=1) + "\n")
        (folder / "minimax_benchmark.md").write_text(f"# Ours against its peers\n\n{text}")


if __name__ == "__main__":
    main()
