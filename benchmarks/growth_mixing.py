"""How our agents' steps and our chains' figures grow: the part `growth` of `benchmarks/mixing.py`.

    S        states, by rooms of NBottleneck with L = 5, for the three ρ-learning agents
    A        actions of a Garnet of 100 states, on-policy ρ-learning
    seeds    lives side by side in one compiled program, NBottleneck L=5 K=4, on-policy ρ-learning
    chain    states of NBottleneck with L = 5 under the uniform policy: law and mixing time, dense
    sparse   states of a Garnet with 4 actions and 5 successors under the uniform policy: law by iteration with its
             residual, and the mixing time's lower bound from 32 starts

Every point is a process of its own on one thread; time is processor seconds after the first call, which compiles where
anything is compiled; memory is the largest resident set of the process.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import HERE, Contestant, Spread, markdown, run

ROOMS: dict[str, Any] = {"kind": "n_bottleneck", "length": 5, "rooms": 4}
GARNET: dict[str, Any] = {"kind": "garnet", "states": 100, "actions": 4, "branching": 5}
STEP: dict[str, Any] = {"what": "steps", "agent": "on_policy_rho", "seeds": 1, "steps": 1000}


def _points() -> list[tuple[str, int, dict[str, Any]]]:
    found = []
    for agent in ("on_policy_rho", "off_policy_rho", "rho_gradient"):
        for rooms in (2, 4, 8, 16):
            found.append((f"S, {agent}", 24 * rooms, STEP | {"agent": agent, "world": ROOMS | {"rooms": rooms}}))
    found += [("A", actions, STEP | {"world": GARNET | {"actions": actions}}) for actions in (2, 4, 8, 16, 32)]
    found += [("seeds", seeds, STEP | {"world": ROOMS, "seeds": seeds}) for seeds in (1, 4, 16, 64)]
    found += [("chain", 24 * rooms, {"what": "chain", "world": ROOMS | {"rooms": rooms}}) for rooms in (4, 8, 16, 32)]
    found += [("sparse", states, {"what": "sparse", "states": states}) for states in (1250, 5000, 20_000)]
    return found


POINTS: list[tuple[str, int, dict[str, Any]]] = _points()
"""Axis, size, work."""
ONE_THREAD = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1", "TUTELAGE_CACHE": "off"}


def measure(
    given: argparse.Namespace, scratch: Path, points: Sequence[tuple[str, int, dict[str, Any]]] | None = None
) -> dict[str, Any]:
    """All points: `axis`, `size`, `timings` (samples in seconds by what was timed), `facts`, `memory`."""
    driver = Contestant("tutelage", (sys.executable, str(HERE / "growth_mixing.py")), ONE_THREAD)
    known, found = dict[str, dict[str, Any]](), []
    for axis, size, work in points or POINTS:
        asked = json.dumps(work | {"seconds": given.seconds}, sort_keys=True)
        if asked not in known:  # where the axes cross
            known[asked] = run(driver, ["--point", asked], timeout=given.timeout)
        found.append({"axis": axis, "size": size, **known[asked]})
        shown = ", ".join(f"{what} {_milliseconds(values)} CPU-ms" for what, values in found[-1]["timings"].items())
        print(f"{axis} = {size}: {shown}", file=sys.stderr, flush=True)
    return {"points": found}


def table(found: Mapping[str, Any]) -> str:
    """Every point with the exponent from the point before, and the exponent of every axis."""
    rows, slopes = [], []
    for axis, what, points in _series(found):
        sizes = [point["size"] for point in points]
        medians = [Spread.of(point["timings"][what]).median for point in points]
        for place, point in enumerate(points):
            steep = f"{slope(sizes[place - 1 : place + 1], medians[place - 1 : place + 1]):.2f}" if place else ""
            facts = ", ".join(f"{name} {value:.3g}" for name, value in point["facts"].items())
            milliseconds = _milliseconds(point["timings"][what])
            label = f"{axis} = {point['size']:,}"
            rows.append([label, what, milliseconds, steep, f"{point['memory'] / 1e6:.0f}", facts])
        slopes.append(f"{axis}: {what} {slope(sizes, medians):.2f}")
    head = ["size", "", "CPU-ms", "exponent", "peak memory, MB", ""]
    about = (
        "A step is of all seeds together. Exponents: the slope of log time over log size, from the point before; over "
        f"all points (least squares): {'; '.join(slopes)}."
    )
    return f"{markdown(head, rows)}\n\n{about}"


def figures(found: Mapping[str, Any]) -> dict[str, str]:
    """Name to SVG: logarithms of a step's time against size relative to the usual, and of a chain's against S."""
    from tutelage.lab.drawing.plots import Curve, curves

    usual = {"A": 4, "seeds": 1}
    drawn: dict[str, list[Any]] = {"steps": [], "chains": []}
    for axis, what, points in _series(found):
        lines = drawn["steps" if what == "step" else "chains"]
        base = usual.get(axis, 96) if what == "step" else 1
        spreads = [Spread.of(list(np.log10(point["timings"][what]))) for point in points]
        middle, low, high = ([getattr(spread, name) for spread in spreads] for name in ("median", "low", "high"))
        label = axis if what == "step" else f"{axis}: {what}"
        lines.append(Curve(label, [point["size"] / base for point in points], middle, low, high, len(lines)))
    texts = {
        "steps": ("Time of a step", "size, times the usual (S 96, A 4, one seed)"),
        "chains": ("Time of laws and mixing times", "states S"),
    }
    return {
        f"mixing_growth_{name}": curves(lines, title=title, x_label=x_label, y_label="log10 CPU seconds", scale="log2")
        for (name, lines), (title, x_label) in zip(drawn.items(), texts.values(), strict=True)
        if lines
    }


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent p of seconds ∝ size^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]) if len(sizes) > 1 else float("nan")


def _series(found: Mapping[str, Any]) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    """Axis, what was timed, and the points of both."""
    keys = dict.fromkeys((point["axis"], what) for point in found["points"] for what in point["timings"])
    return [(axis, what, [point for point in found["points"] if point["axis"] == axis]) for axis, what in keys]


def _milliseconds(seconds: Sequence[float]) -> str:
    spread = Spread.of([1e3 * each for each in seconds])
    digits = 3 if spread.median < 1 else 2
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"


# In the process of a point.


def steps(work: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of one step of all seeds together."""
    import jax
    from ours_mixing import world_and_agent
    from stopwatch import samples

    from tutelage.continual.agents.agent import begin, live

    world, agent = world_and_agent(work)
    keys = jax.random.split(jax.random.key(0), work["seeds"])
    alone = work["seeds"] == 1  # `vmap` over one seed would run both branches of what one seed branches on.
    many = (lambda function: function) if alone else jax.vmap
    held = [many(functools.partial(begin, world, agent))(keys[0] if alone else keys)]
    run_steps = jax.jit(many(functools.partial(live, world, agent, steps=work["steps"])), donate_argnums=0)

    def call() -> None:
        held[0], _ = jax.block_until_ready(run_steps(held[0]))

    call()
    taken = [each / work["steps"] for each in samples(call, work["seconds"])]
    per_second = work["seeds"] / Spread.of(taken).median
    return {"timings": {"step": taken}, "facts": {"S": len(world.mdp.R), "steps per CPU-s": per_second}}


def chain(work: Mapping[str, Any]) -> dict[str, Any]:
    """Law and mixing time of a dense chain."""
    from ours_mixing import uniform_chain
    from stopwatch import samples

    from tutelage.continual.mixing_time import mixing_time
    from tutelage.continual.stationary import stationary

    made = uniform_chain(work["world"])
    found = mixing_time(made, relaxation=False)
    timings = {
        "law": samples(lambda: stationary(made), work["seconds"]),
        "mixing time": samples(lambda: mixing_time(made, relaxation=False), work["seconds"]),
    }
    return {"timings": timings, "facts": {"t_mix": found.steps}}


def sparse(work: Mapping[str, Any]) -> dict[str, Any]:
    """Law and the bound of the mixing time of a sparse chain."""
    from stopwatch import samples

    from tutelage.continual.sparse import induced_sparse, sparse_garnet
    from tutelage.continual.sparse_mixing import sparse_mixing_time, sparse_stationary

    mdp = sparse_garnet(work["states"], 4, 5)
    made = induced_sparse(mdp, np.full(mdp.R.shape, 1 / 4))
    law, bound = sparse_stationary(made), sparse_mixing_time(made)
    timings = {
        "law": samples(lambda: sparse_stationary(made), work["seconds"]),
        "mixing time, lower bound": samples(lambda: sparse_mixing_time(made), work["seconds"]),
    }
    return {"timings": timings, "facts": {"residual": law.residual, "sweeps": law.sweeps, "t_mix ≥": bound.steps}}


def point(work: Mapping[str, Any]) -> dict[str, Any]:
    """Timings and facts of one point, and the memory of this process."""
    sys.path.insert(0, str(HERE / "peers"))
    from stopwatch import peak_memory

    found = {"steps": steps, "chain": chain, "sparse": sparse}[work["what"]](work)
    return {**found, "memory": peak_memory()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", type=json.loads, required=True, help="time this work in this process")
    given = parser.parse_args()
    print(json.dumps(point(given.point)))


if __name__ == "__main__":
    main()
