"""Learning from feedback, ours against TRL and against stock transformers: `python benchmarks/reason_rl.py [--save]`.

Everything runs on one thread, on a Llama-architecture model of 0.8M parameters that was shown generated word problems
for a minute, with questions of 24–40 tokens and at most 44 new ones; contestants take turns in processes of their own,
and processor seconds are compared. The parts:

    step     one GRPO update, 8 questions × 16 samples, drawing included: ours and TRL's `GRPOTrainer`, without and with
             the KL divergence; the same model folder, reward, learning rate and lengths
    update   the update alone on completions of 44 tokens: prompts read once, plain, stock transformers, TRL
    round    one round of expert iteration, 256 questions × 8: sampling, grading, fine-tuning. No library has a trainer
             for it (TRL declined one, its issue 3323), so the peer is `generate()` and a plain training loop
    growth   our step against samples, questions and model size (`growth_reason_rl.py`)
    floor    what the step's matrix products alone would take (`floor_reason_rl.py`)

    python benchmarks/reason_rl.py --parts step --rounds 5
    python benchmarks/reason_rl.py --save             also writes docs/results/reason_rl_benchmark.{json,md}
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import floor_reason_rl
import growth_reason_rl
import lm_update
import ours_reason_rl
from harness import ENVIRONMENTS, HERE, PEERS, Contestant, Spread, in_turns, machine, make_environment, markdown, run

STEP: dict[str, Any] = {"questions": 8, "samples": 16, "new_tokens": 44, "steps": 6, "learning_rate": 1e-4}
ROUND: dict[str, Any] = {"questions": 256, "samples": 8, "new_tokens": 44}
TUNING: dict[str, Any] = {"epochs": 2, "batch": 32, "learning_rate": 5e-4}
KL = (0.0, 0.05)
PROMPTS = (32, 128)
"""Prompt tokens of the update alone: the longer they are, the more is saved by reading them once."""


def our(part: str) -> Contestant:
    """Our driver for a part."""
    return Contestant("tutelage", (sys.executable, str(HERE / "ours_reason_rl.py"), "--part", part))


def step(given: argparse.Namespace, model: Path) -> dict[str, Any]:
    """Whole steps in turns; every record."""
    entrants = [our("step")]
    if given.peers:
        peer = (str(make_environment("trl", given.environments)), str(PEERS / "trl_step.py"))
        entrants.append(Contestant("trl", peer))
    records = []
    for kl in KL:
        for number, entrant in in_turns(entrants, given.rounds):
            work = STEP | {"kl": kl, "seed": number, "model": str(model)}
            records.append(_record(entrant, work, given, {"kl": kl}))
    return {"work": STEP, "records": records}


def step_table(found: Mapping[str, Any]) -> str:
    """By weight of the KL divergence and contestant: seconds of a step, of its drawing, tokens, and the ratio."""
    rows = []
    for kl in KL:
        records = [record for record in found["records"] if record["kl"] == kl]
        ours = Spread.of(_values(records, "tutelage", "step")).median
        for name in dict.fromkeys(record["name"] for record in records):
            steps, drawing, tokens = (
                Spread.of(_values(records, name, part)) for part in ("step", "generation", "tokens")
            )
            memory = max(record["peak_memory_bytes"] for record in records if record["name"] == name) / 1e6
            cells = [str(steps), str(drawing), f"{tokens.median:.0f}", f"{memory:.0f}", f"{steps.median / ours:.2f}"]
            rows.append([f"{kl:g}", name, *cells])
    return markdown(["KL weight", "", "CPU-s of a step", "of it before the loss", "tokens", "MB", "/ ours"], rows)


def update(given: argparse.Namespace, model: Path) -> dict[str, Any]:
    """The update alone, with prompts of several lengths; TRL's at the first of them only."""
    seconds = {}
    for length in PROMPTS:
        work = lm_update.WORK | {"prompt_tokens": length}
        peer = given.environments if given.peers and length == PROMPTS[0] else None
        seconds[str(length)] = lm_update.measure(work, given.rounds, peer, timeout=given.timeout)
    return {"work": lm_update.WORK, "seconds": seconds}


def update_table(found: Mapping[str, Any]) -> str:
    """Seconds by prompt length and contestant, and how much less the reading of tokens could be at most."""
    work, rows = found["work"], []
    for length, seconds in found["seconds"].items():
        ours = Spread.of(seconds["tutelage: update"]).median
        tokens = int(length) + work["new_tokens"]
        bound = tokens / (work["new_tokens"] + int(length) / work["samples"])
        for name, values in seconds.items():
            spread = Spread.of(values)
            rows.append([length, name, str(spread), f"{spread.median / ours:.2f}", f"{bound:.2f}"])
    return markdown(["prompt tokens", "", "CPU-s", "/ ours", "tokens of plain / of shared"], rows)


def round_(given: argparse.Namespace, model: Path) -> dict[str, Any]:
    """One round of expert iteration, ours and stock in turns."""
    entrants = [our("round"), Contestant("stock", our("stock_round").command)]
    records = []
    for number, entrant in in_turns(entrants, given.rounds):
        work = ROUND | TUNING | {"seed": number, "model": str(model)}
        records.append(_record(entrant, work, given, {}))
    return {"work": ROUND | TUNING, "records": records}


def round_table(found: Mapping[str, Any]) -> str:
    """Seconds of the parts of a round, and rollouts for a second of it."""
    records, rows = found["records"], []
    rollouts = found["work"]["questions"] * found["work"]["samples"]
    names = list(dict.fromkeys(record["name"] for record in records))
    for part in ("sampling", "grading and selection", "fine-tuning", "round"):
        spreads = [Spread.of(_values(records, name, part)) for name in names]
        rows.append([f"{part}, CPU-s", *map(str, spreads), f"{spreads[1].median / spreads[0].median:.2f}"])
    rates = [Spread.of([rollouts / value for value in _values(records, name, "round")]) for name in names]
    rows.append(["rollouts per CPU-s", *map(str, rates), f"{rates[1].median / rates[0].median:.2f}"])
    for part in ("correct", "learnt"):
        rows.append([part, *[str(Spread.of(_values(records, name, part))) for name in names], ""])
    return markdown(["", *names, "/ ours"], rows)


def _record(entrant: Contestant, work: dict[str, Any], given: argparse.Namespace, extra: dict[str, Any]) -> dict:
    load = machine()["load_average"][0]
    record = run(entrant, ["--work", json.dumps(work)], timeout=given.timeout)
    total = [part.get("step", part.get("round")) for part in record["parts"]]
    case = "".join(f"{name} {value:g}, " for name, value in extra.items())
    print(f"{entrant.name}: {case}{Spread.of(total)} CPU-s, load was {load:.1f}", file=sys.stderr, flush=True)
    return {"name": entrant.name, "load": load, **extra, **record}


def _values(records: Sequence[Mapping[str, Any]], name: str, part: str) -> list[float]:
    return [each[part] for record in records if record["name"] == name for each in record["parts"]]


PARTS: dict[str, tuple[str, Callable[..., dict[str, Any]], Callable[[Mapping[str, Any]], str]]] = {
    "step": ("One GRPO step", step, step_table),
    "update": ("The update alone", update, update_table),
    "round": ("One round of expert iteration", round_, round_table),
    "growth": ("How a step grows", growth_reason_rl.measure, growth_reason_rl.table),
    "floor": ("The floor of a step", floor_reason_rl.measure, floor_reason_rl.table),
}


def page(result: Mapping[str, Any]) -> str:
    """The tables, with what must be known to read them."""
    about = result["machine"]
    versions = dict[str, str]()
    for found in result["parts"].values():
        for record in found.get("records", ()):
            versions[record["name"]] = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    head = f"{about['cpu']}, {about['cores']} cores, load {about['load_average'][0]:.1f} at the start. Processor "
    head += "seconds on one thread as median (least–most)."
    lines = [f"`{result['command']}`", "", head, "", *[f"- {name}: {text}" for name, text in versions.items()]]
    tables = [f"## {PARTS[name][0]}\n\n{PARTS[name][2](found)}" for name, found in result["parts"].items()]
    return "\n\n".join(["\n".join(lines).strip(), *tables]) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--peers", nargs="*", choices=("trl",), default=["trl"], help="none: ours and stock alone")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where peers' environments live")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant, in turns")
    parser.add_argument("--documents", type=int, default=3000, help="what the model is shown; 0: random weights")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds of wall time for one run")
    parser.add_argument("--save", action="store_true", help="write docs/results/reason_rl_benchmark.json and .md")
    given = parser.parse_args(argv)
    result: dict[str, Any] = {"machine": machine(), "command": shlex.join(["python", *sys.argv]), "parts": {}}
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch, "model")
        if {"step", "round", "floor"} & set(given.parts):
            ours_reason_rl.prepare(model, documents=given.documents)
        for name in given.parts:
            result["parts"][name] = PARTS[name][1](given, model)
    text = page(result)
    print(text)
    if given.save:
        folder = HERE.parent / "docs" / "results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "reason_rl_benchmark.json").write_text(json.dumps(result, indent=1) + "\n")
        (folder / "reason_rl_benchmark.md").write_text(f"# Learning from feedback, measured\n\n{text}")
        for name, svg in growth_reason_rl.figures(result["parts"].get("growth")).items():
            (folder / f"{name}.svg").write_text(svg)


if __name__ == "__main__":
    main()
