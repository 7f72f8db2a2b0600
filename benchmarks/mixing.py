"""Agents that plan with the stationary law, mixing times and laws, against their peers: `python benchmarks/mixing.py`.

One process at a time on one thread, in turns, on the same tables; processor seconds are compared. Before anything is
timed the answers are: where they differ by more than 1e-8, the benchmark fails. The parts:

    agents       steps of ρ-learning in NBottleneck (L=5, K=4: 96 states), where ours takes all deviations of a state
                 from one inverse, against the official code of arXiv 2112.07066 as it is, and against
                 `solve_per_candidate`: our own re-implementation of the published algorithms, which solves S equations
                 for every candidate
    mixing_time  the exact mixing time, against multiplying by P until it is over
    stationary   stationary laws against QuantEcon.py, with their errors
    growth       ours alone against S, A, seeds; sparse chains of 20,000 states (`growth_mixing.py`)

    python benchmarks/mixing.py --parts stationary --rounds 5
    python benchmarks/mixing.py --save        also writes docs/results/mixing_benchmark.{json,md} and the figures of
                                              growth; parts that did not run stay there as they were
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import growth_mixing
from chain_law import errors, reference_law
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
from ours_mixing import uniform_chain, world_of

OFFICIAL = "https://github.com/SharathRaparthy/polynomial-mixing-times"
OFFICIAL_COMMIT = "3eda941ec061211fd64c0a60a7ffcc5cacde97c8"
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")},
}
AGREE = 1e-8

WORLD: dict[str, Any] = {"kind": "n_bottleneck", "length": 5, "rooms": 4, "goals": [3, 4, 0, 2, 4, 4, 4, 3]}
AGENTS: dict[str, dict[str, Any]] = {
    "on_policy_rho": {"epsilon": 0.1, "asks": 0, "steps": 1000},
    "off_policy_rho": {"epsilon": 0.1, "asks": 5, "steps": 250},
    "rho_gradient": {"epsilon": 0.15, "asks": 10, "learning_rate": 0.5, "temperature": 0.9, "steps": 200},
}
"""By kind: the paper's settings, and how many steps a peer is timed for."""
OFFICIAL_SHARE = 0.4
"""Of these steps for the official code, which is slower still."""
CALLS = {"steps": 5000, "calls": 4}
"""Ours: compiled calls of so many steps; the first compiles and is counted apart."""

MIXING: dict[str, dict[str, Any]] = {
    "NBottleneck L=5 K=4": {"kind": "n_bottleneck", "length": 5, "rooms": 4},
    "NBottleneck L=4 K=20": {"kind": "n_bottleneck", "length": 4, "rooms": 20},
}
"""Worlds whose canonical optimal policies' chains are timed."""
LAWS: dict[str, dict[str, Any]] = {
    "NBottleneck L=4 K=20, uniform policy": {"kind": "n_bottleneck", "length": 4, "rooms": 20},
    "two halves joined by 1e-6": {"kind": "halves", "states": 300, "leak": 1e-6},
    "NBottleneck L=9 K=25, uniform policy": {"kind": "n_bottleneck", "length": 9, "rooms": 25},
}
SECONDS = 1.5
"""Processor seconds of timing for each figure in a process."""


def ours(part: str) -> Contestant:
    """Our driver for a part. A cache of compiled programs would hide what compiling costs."""
    command = (sys.executable, str(HERE / "ours_mixing.py"), "--part", part)
    return Contestant("tutelage", command, {"TUTELAGE_CACHE": "off", **ONE_THREAD})


def literal(script: str) -> Contestant:
    """A peer of ours by name that needs nothing but NumPy."""
    return Contestant(script.replace("_", " "), (sys.executable, str(PEERS / f"{script}.py")), ONE_THREAD)


# The agents.


def agents(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Answers compared, then all agents in turns: `agreement` and `records`."""
    table = scratch / "table.npz"
    num_states = save_table(WORLD, table)
    single = ours("agents")
    double = Contestant("tutelage, float64", single.command, single.variables)
    entrants = [single, double, literal("solve_per_candidate")]
    if "official" in given.peers:
        source = given.official or checkout(OFFICIAL, OFFICIAL_COMMIT, given.environments)
        python = make_environment("polynomial_mixing", given.environments)
        command = (str(python), str(PEERS / "official_rho.py"), "--source", str(source))
        entrants.append(Contestant("official code", command, ONE_THREAD))
    agreement, records = [], []
    for agent, settings in AGENTS.items():
        work = {"learning_rate": 0.0, "prior": 1e-4, **settings, "agent": agent, "table": str(table), "world": WORLD}
        agreement += replayed(work, given, scratch)
        for number, entrant in in_turns(entrants, given.rounds):
            asked, extra = dict(work), []
            if entrant.name.startswith("tutelage"):
                asked |= CALLS | {"precision": "float64" if entrant is double else "float32"}
            elif entrant.name == "official code":
                asked |= {"steps": max(1, round(OFFICIAL_SHARE * work["steps"]))}
                extra = ["--law", str(scratch / "official.npz")]
            record = _record(entrant, asked, given, ["--seed", str(number), *extra])
            if extra:
                with np.load(extra[1]) as found:
                    check_laws(agent, {"official code": found["law"]}, found["P"])
            records.append({"agent": agent, "name": entrant.name, **record})
            print(f"{agent}, {entrant.name}: {rate(record):.0f} steps per CPU-s", file=sys.stderr, flush=True)
    return {"states": num_states, "world": WORLD, "agreement": agreement, "records": records}


def replayed(work: dict[str, Any], given: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """Our answers to all that the peer asked its model in as many steps as it will be timed for.

    Raises:
        BenchmarkFailed: if a gain in float64, or the gain of a decision by it, is farther than `AGREE` from the peer's.
    """
    log, found = scratch / "log.npz", []
    _record(literal("solve_per_candidate"), work, given, ["--log", str(log)])
    for precision in ("float64", "float32"):
        record = _record(ours("replay"), work | {"log": str(log), "precision": precision}, given)
        kept = {name: record[name] for name in ("questions", "error", "given_up") if name in record}
        found.append({"agent": work["agent"], "precision": precision, **kept})
    worst = max(found[0]["error"], found[0].get("given_up", 0.0))
    if not worst <= AGREE:
        raise BenchmarkFailed(f"{work['agent']}: gains or decisions differ from the peer's by {worst:.2g}")
    print(f"{work['agent']}: {found[0]['questions']} gains agree to {worst:.1g}", file=sys.stderr, flush=True)
    return found


def rate(record: Mapping[str, Any]) -> float:
    """Steps per processor second, without the call that compiled."""
    later = record["calls"][1:] or record["calls"]
    return record["steps"] / Spread.of([call["cpu"] for call in later]).median


def agents_table(found: Mapping[str, Any]) -> str:
    """Steps per processor second by agent and contestant, with the ratio and what compiling took."""
    rows = []
    for agent in dict.fromkeys(record["agent"] for record in found["records"]):
        records = [record for record in found["records"] if record["agent"] == agent]
        first = Spread.of([rate(record) for record in records if record["name"] == "tutelage"]).median
        for name in dict.fromkeys(record["name"] for record in records):
            mine = [record for record in records if record["name"] == name]
            speed = Spread.of([rate(record) for record in mine])
            compiling = [
                each["calls"][0]["cpu"] - each["steps"] / rate(each) for each in mine if len(each["calls"]) > 1
            ]
            memory = f"{max(record['peak_memory_bytes'] for record in mine) / 1e6:.0f}"
            rows.append([agent, name, str(speed), f"{first / speed.median:.1f}", str(Spread.of(compiling)), memory])
    head = ["", "", "steps per CPU-s", "speed: tutelage / this", "compiling, CPU-s", "MB"]
    answers = [
        [each["agent"], each["precision"], f"{each['questions']:,}", f"{each['error']:.0e}", _small(each)]
        for each in found["agreement"]
    ]
    about = (
        f"{found['states']} states, 4 actions. `solve per candidate` is our own re-implementation of the published "
        "algorithms in NumPy, leaner than the official code: S equations are solved for every candidate, and nothing "
        "else is done twice. The gains that it found in a life, beside ours of the same questions from an inverse kept "
        "from the first step on:"
    )
    asked = ["", "ours in", "gains compared", "largest difference", "largest gain given up by a decision"]
    return f"{markdown(head, rows)}\n\n{about}\n\n{markdown(asked, answers)}"


def _small(each: Mapping[str, Any]) -> str:
    return f"{each['given_up']:.0e}" if "given_up" in each else ""


# Chains.


def mixing_times(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The mixing times of `MIXING`, all alike, and every record."""
    records = []
    for name, world in MIXING.items():
        file = scratch / "chain.npy"
        num_states = save_chain(world, file, optimal=True)
        work = {"chain": str(file), "eps": 0.25, "seconds": given.seconds}
        for _, entrant in in_turns([ours("mixing_time"), literal("matrix_powers")], given.rounds):
            record = _record(entrant, work, given)
            records.append({"chain": name, "states": num_states, "name": entrant.name, **record})
        steps = {record["steps"] for record in records if record["chain"] == name}
        if len(steps) > 1:
            raise BenchmarkFailed(f"{name}: the mixing time is said to be {sorted(steps)}")
        print(f"{name}: t_mix(1/4) = {steps.pop()} for all", file=sys.stderr, flush=True)
    return {"eps": 0.25, "records": records}


def stationary_laws(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The laws of `LAWS`, which agree to `AGREE`, and every record with the errors of its law."""
    entrants, records = [ours("stationary")], []
    if "quantecon" in given.peers:
        command = (str(make_environment("quantecon", given.environments)), str(PEERS / "quantecon_laws.py"))
        entrants.append(Contestant("quantecon", command, ONE_THREAD))
    for name, world in LAWS.items():
        file, law = scratch / "chain.npy", scratch / "law.npy"
        num_states = save_chain(world, file)
        P = np.load(file)
        reference = reference_law(P)
        for _, entrant in in_turns(entrants, given.rounds):
            work = {"chain": str(file), "seconds": given.seconds}
            record = _record(entrant, work, given, ["--law", str(law)])
            found = check_laws(name, {entrant.name: np.load(law)}, P, reference)
            records.append({"chain": name, "states": num_states, "name": entrant.name, **record, **found})
        print(f"{name}: laws agree", file=sys.stderr, flush=True)
    return {"records": records}


def check_laws(
    name: str, laws: Mapping[str, np.ndarray], P: np.ndarray, reference: np.ndarray | None = None
) -> dict[str, float]:
    """The errors of the last law. Raises `BenchmarkFailed` if one is farther than `AGREE` from the reference."""
    exact, found = reference_law(P) if reference is None else reference, dict[str, float]()
    for library, law in laws.items():
        found = errors(law, exact, P)
        if not found["error"] <= AGREE:
            raise BenchmarkFailed(f"{name}: the law of {library} is wrong by {found['error']:.2g}")
    return found


def chains_table(found: Mapping[str, Any]) -> str:
    """Milliseconds of every way to one answer, our first over them, and how good the answers are."""
    rows = []
    for chain in dict.fromkeys(record["chain"] for record in found["records"]):
        records = [record for record in found["records"] if record["chain"] == chain]
        names, base = dict.fromkeys(record["name"] for record in records), None
        for name in names:
            mine = [record for record in records if record["name"] == name]
            for way in mine[0]["seconds"]:
                spread = Spread.of([1e3 * each for record in mine for each in record["seconds"][way]])
                base = base or spread.median
                # What is done once, compiling above all, belongs to the way that came first.
                once = [record for record in mine if "first" in record and way == next(iter(record["seconds"]))]
                first = Spread.of([1e3 * record["first"]["cpu"] for record in once])
                imports = Spread.of([record["marks"]["imported"]["cpu"] for record in mine])
                row = [chain, f"{mine[0]['states']:,}", f"{name}: {way}", str(spread), f"{base / spread.median:.3g}"]
                rows.append([*row, str(first), str(imports), *_answer(mine[0])])
    head = ["chain", "S", "", "CPU-ms", "time: tutelage / this", "first call, CPU-ms", "imports, CPU-s"]
    if "steps" in found["records"][0]:
        return markdown([*head, "t_mix(¼)"], rows)
    about = (
        "Errors against a solution refined in extended precision: Σ|μP − μ|, Σ|μ − reference|, and the largest "
        "relative error of an entry."
    )
    return markdown([*head, "residual", "error", "relative"], rows) + f"\n\n{about}"


def _answer(record: Mapping[str, Any]) -> list[str]:
    if "steps" in record:
        return [f"{record['steps']:,}"]
    return [f"{record[name]:.0e}" for name in ("residual", "error", "relative")]


# Tables and chains, from the same code that anyone has.


def save_table(world: Mapping[str, Any], file: Path) -> int:
    """P [S, A, S] and the reward of arriving [S, S], 1 where the room changes; the number of states."""
    mdp = world_of(world).mdp
    rooms = np.array([name.split(" (")[0] for name in mdp.states])
    reward = (rooms[:, None] != rooms[None]).astype(float)
    if not np.allclose((np.asarray(mdp.P) * reward[:, None]).sum(axis=-1), mdp.R):
        raise BenchmarkFailed("the table's rewards are not those of arriving in another room")
    np.savez(file, P=np.asarray(mdp.P), reward=reward)
    return len(reward)


def save_chain(world: Mapping[str, Any], file: Path, *, optimal: bool = False) -> int:
    """P [S, S] of the canonical optimal policy or else of the uniform one; the number of states."""
    from tutelage.continual.planning import solve_gain
    from tutelage.continual.tabular import induced

    if world["kind"] == "halves":
        P = halves(world["states"], world["leak"])
    elif optimal:
        mdp = world_of(world).mdp
        P = induced(mdp, solve_gain(mdp).policy).P
    else:
        P = uniform_chain(world).P
    np.save(file, np.asarray(P))
    return len(P)


def halves(states: int, leak: float, seed: int = 0) -> np.ndarray:
    """A random chain whose two halves are left with probability `leak`."""
    P = np.random.default_rng(seed).dirichlet(np.ones(states), size=states)
    first = np.arange(states) < states // 2
    same = first[:, None] == first
    within, across = P * same, P * ~same
    P = (1 - leak) * within / within.sum(axis=1, keepdims=True) + leak * across / across.sum(axis=1, keepdims=True)
    return P / P.sum(axis=1, keepdims=True)


def _record(
    entrant: Contestant, work: dict[str, Any], given: argparse.Namespace, more: Sequence[str] = ()
) -> dict[str, Any]:
    load = machine()["load_average"][0]
    return {"load": load, **run(entrant, ["--work", json.dumps(work), *more], timeout=given.timeout)}


PARTS: dict[str, tuple[str, Callable[..., dict[str, Any]], Callable[[Mapping[str, Any]], str]]] = {
    "agents": ("Steps of agents", agents, agents_table),
    "mixing_time": ("Exact mixing times", mixing_times, chains_table),
    "stationary": ("Stationary laws", stationary_laws, chains_table),
    "growth": ("Growth", growth_mixing.measure, growth_mixing.table),
}


def page(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """The tables of all parts in their order, each with its command, machine and versions."""
    text = []
    for name, (title, _, table) in PARTS.items():
        if name not in parts:
            continue
        found, versions = parts[name], dict[str, str]()
        for record in found.get("records", ()):
            versions[record["library"]] = ", ".join(f"{what} {v}" for what, v in record["versions"].items())
        about = found["machine"]
        head = f"`{found['command']}`: {about['cpu']}, {about['cores']} cores, load {about['load_average'][0]:.1f} at "
        head += "the start. Processor seconds on one thread, as median (least–most)."
        lines = "\n".join(f"- {library}: {text}" for library, text in versions.items())
        text.append("\n\n".join(filter(None, [f"## {title}", head, lines, table(found)])))
    return "\n\n".join(text) + "\n"


def save(parts: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write what was measured; parts of the record that were not measured now stay."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "mixing_benchmark.json"
    known = json.loads(record.read_text())["parts"] if record.exists() else {}
    merged = {name: (known | dict(parts))[name] for name in PARTS if name in known or name in parts}
    record.write_text(json.dumps({"parts": merged}, indent=1) + "\n")
    figures = growth_mixing.figures(merged["growth"]) if "growth" in merged else {}
    for name, svg in figures.items():
        (folder / f"{name}.svg").write_text(svg)
    pictures = "".join(f"\n![{name.replace('_', ' ')}]({name}.svg)\n" for name in figures)
    (folder / "mixing_benchmark.md").write_text(f"# Mixing against its peers\n\n{page(merged)}{pictures}")


def command_of(given: argparse.Namespace) -> str:
    """The command, without the paths of this machine."""
    words = ["python", "benchmarks/mixing.py", "--parts", *given.parts, "--peers", *given.peers]
    words += ["--rounds", str(given.rounds), "--seconds", f"{given.seconds:g}"]
    return shlex.join(words + ["--save"] * given.save)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--peers", nargs="*", choices=("official", "quantecon"), default=["official", "quantecon"])
    parser.add_argument("--official", type=Path, help="a checkout of the official code, instead of cloning it")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where peers' environments live")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant, in turns")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="processor seconds of timing for each figure")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds of wall time for one run")
    parser.add_argument("--save", action="store_true", help="write docs/results/mixing_benchmark.json and .md")
    given = parser.parse_args(argv)
    parts: dict[str, dict[str, Any]] = {}
    for name in given.parts:
        head = {"command": command_of(given), "machine": machine()}
        with tempfile.TemporaryDirectory() as scratch:
            parts[name] = head | PARTS[name][1](given, Path(scratch))
        if given.save:
            save(parts, HERE.parent / "docs" / "results")
    print(page(parts))


if __name__ == "__main__":
    main()
