"""How our iteration grows, and how fast it could be: the part `growth` of `benchmarks/mogfn.py`.

One size at a time differs from a grid of two axes of eight cells with two objectives and 16 trajectories, or from
sequences of eight letters. An *iteration* is one rollout of the batch with its gradient step, the same work every time:
on the grid only the farthest cell may be declared the object, so that each trajectory has all its D(H − 1) + 1 steps,
and sequences have one length. Every point is a process of its own on one thread; time is processor seconds after the
first call, which compiles, memory the largest resident set of the process.

The floor: whatever else an implementation does, it multiplies these matrices. Those of two grids are counted, and timed
one shape at a time (`floor.py`).

    python benchmarks/growth_mogfn.py                     everything, some minutes
    python benchmarks/growth_mogfn.py --seconds 0.2       a quick look
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from floor import Product, product_seconds
from harness import HERE, Contestant, Spread, markdown, run

GRID: dict[str, Any] = {"dims": 2, "side": 8, "objectives": 2, "batch": 16, "width": 256, "layers": 2}
SEQUENCE: dict[str, Any] = {"length": 8, "letters": 4, "batch": 16, "width": 32, "layers": 2, "heads": 4}
AXES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "dims": (GRID, (2, 3, 4, 6)),
    "side": (GRID, (8, 16, 32, 64)),
    "objectives": (GRID, (2, 3, 4, 5)),
    "batch": (GRID, (16, 64, 256, 1024)),
    "length": (SEQUENCE, (8, 16, 32, 64)),
}
"""What is varied, of which work, to which values."""
NAMES = {
    "dims": "dimensions D",
    "side": "side H",
    "objectives": "objectives M",
    "batch": "batch B",
    "length": "sequence length L",
}
FLOORS: tuple[dict[str, Any], ...] = (GRID, GRID | {"dims": 4, "side": 16}, GRID | {"batch": 1024})
ITERATIONS = 10
"""Of one compiled call."""
SAMPLES = 5
SECONDS = 1.5
"""Processor seconds of all samples of a point together."""
TIMEOUT = 1800.0
"""Seconds of wall time for one point: on a busy machine compiling alone takes minutes."""
ONE_THREAD = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1", "TUTELAGE_CACHE": "off"}


def measure(seconds: float = SECONDS, axes: Mapping[str, tuple[dict[str, Any], Sequence[int]]] = AXES) -> dict:
    """All points (`axis`, `size`, `steps` of a trajectory, CPU `seconds` of an iteration, `memory`), and the floors."""
    known: dict[str, dict[str, Any]] = {}
    points = []
    for axis, (base, values) in axes.items():
        for value in values:
            work = json.dumps(base | {axis: value}, sort_keys=True)
            if work not in known:  # where the axes cross
                known[work] = _process(["--point", work, "--seconds", str(seconds)])
                shown = Spread.of([1e3 * each for each in known[work]["seconds"]])
                print(f"{NAMES[axis]} = {value}: {shown} CPU-ms", file=sys.stderr, flush=True)
            points.append({"axis": axis, "size": value, **known[work]})
    floors = []
    for work in FLOORS:
        counted = _process(["--floor", json.dumps(work), "--seconds", str(seconds)])
        floors.append({"work": work, **counted})
        print(f"floor of {work}: {1e3 * counted['floor']:.2f} CPU-ms", file=sys.stderr, flush=True)
    return {"points": points, "floor": floors}


def table(found: Mapping[str, Any]) -> str:
    """Every point with the exponent from the point before, the exponent of every axis, and the floors."""
    rows, slopes = [], []
    for axis in dict.fromkeys(point["axis"] for point in found["points"]):
        points = [point for point in found["points"] if point["axis"] == axis]
        medians = [Spread.of(point["seconds"]).median for point in points]
        sizes = [point["size"] for point in points]
        for place, point in enumerate(points):
            steep = f"{slope(sizes[place - 1 : place + 1], medians[place - 1 : place + 1]):.2f}" if place else ""
            milliseconds = Spread.of([1e3 * each for each in point["seconds"]])
            label = f"{NAMES[axis]} = {point['size']}"
            rows.append([label, str(point["steps"]), str(milliseconds), steep, f"{point['memory'] / 1e6:.0f}"])
        slopes.append(f"{NAMES[axis]} {slope(sizes, medians):.2f}")
    head = ["size", "steps of a trajectory", "CPU-ms of an iteration", "exponent", "peak memory, MB"]
    about = (
        "Exponents: the slope of log time over log size, from the point before; over all points of an axis (least "
        f"squares): {', '.join(slopes)}."
    )
    return f"### Growth\n\n{markdown(head, rows)}\n\n{about}\n\n### Floor\n\n{floor_table(found['floor'])}"


def floor_table(floors: Sequence[Mapping[str, Any]]) -> str:
    """Operations, bytes and seconds of the matrix products alone, beside what our iteration took."""
    rows = []
    for each in floors:
        work, floor, taken = each["work"], each["floor"], Spread.of([1e3 * second for second in each["seconds"]])
        rows.append(
            [
                f"{work['dims']}-D, side {work['side']}, batch {work['batch']}",
                f"{each['operations'] / 1e6:.0f}",
                f"{each['bytes'] / 1e6:.0f}",
                f"{each['operations'] / floor / 1e9:.0f}",
                f"{1e3 * floor:.2f}",
                str(taken),
                f"{taken.median / (1e3 * floor):.1f}",
            ]
        )
    head = ["", "Mop", "MB", "Gop/s", "products alone, CPU-ms", "ours, CPU-ms", "ours / products"]
    about = (
        "MB: every operand read and every result written once for each product. Gop/s: what these shapes reach here, "
        "one shape at a time, on one thread."
    )
    return f"{markdown(head, rows)}\n\n{about}"


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent p of seconds ∝ size^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def products(work: Mapping[str, Any]) -> list[Product]:
    """Every matrix product of one iteration on the grid, its trajectories at full length.

    The observation is read by every step, the condition once for a trajectory, and neither needs a gradient.
    """
    batch, width, actions = work["batch"], work["width"], work["dims"] + 1
    steps, seen = steps_of(work), work["dims"] * work["side"]
    condition = work["objectives"] * BINS
    rows = batch * steps
    layers = [("hidden", width, width)] * (work["layers"] - 1) + [("actions", width, actions)]
    found = [
        Product("rollout", "condition", batch, condition, width, 1),
        Product("rollout", "observation", batch, seen, width, steps),
        *(Product("rollout", name, batch, k, n, steps) for name, k, n in layers),
        Product("forward", "condition", batch, condition, width, 1),
        Product("forward", "observation", rows, seen, width, 1),
        *(Product("forward", name, rows, k, n, 1) for name, k, n in layers),
        Product("backward", "condition: gradient of weights", condition, batch, width, 1),
        Product("backward", "observation: gradient of weights", seen, rows, width, 1),
    ]
    for name, k, n in layers:
        found.append(Product("backward", f"{name}: gradient of inputs", rows, n, k, 1))
        found.append(Product("backward", f"{name}: gradient of weights", k, rows, n, 1))
    return found


BINS = 50
"""Entries of a weight's thermometer."""


def moved(product: Product) -> int:
    """Bytes of its operands and its result, float32."""
    return 4 * (product.m * product.k + product.k * product.n + product.m * product.n) * product.count


def steps_of(work: Mapping[str, Any]) -> int:
    """Steps of a trajectory."""
    return work["length"] if "length" in work else work["dims"] * (work["side"] - 1) + 1


def _process(arguments: Sequence[str]) -> dict[str, Any]:
    driver = Contestant("tutelage", (sys.executable, str(HERE / "growth_mogfn.py")), ONE_THREAD)
    return run(driver, arguments, timeout=TIMEOUT)


# In the process of a point.


def point(work: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Processor seconds of an iteration, as often as there are samples, and the memory of this process."""
    sys.path.insert(0, str(HERE / "peers"))
    from stopwatch import peak_memory

    iterate = _iterations(work)
    iterate()
    start = time.process_time()
    iterate()
    once = max(time.process_time() - start, 1e-5)
    calls = max(1, math.ceil(seconds / SAMPLES / once))
    taken = []
    for _ in range(SAMPLES):
        start = time.process_time()
        for _ in range(calls):
            iterate()
        taken.append((time.process_time() - start) / (calls * ITERATIONS))
    return {"steps": steps_of(work), "seconds": taken, "memory": peak_memory()}


def floor(work: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The same with the operations, bytes and processor seconds of the matrix products alone."""
    counted = products(work)
    share = seconds / len(counted)
    return {
        **point(work, seconds),
        "operations": sum(product.operations for product in counted),
        "bytes": sum(moved(product) for product in counted),
        "floor": sum(product_seconds(product, share) for product in counted),
    }


def _iterations(work: Mapping[str, Any]) -> Any:
    """A function that does `ITERATIONS` iterations, compiled at its first call."""
    from tutelage.backends.jax_program import jax_program
    from tutelage.gflownets.config import BetaConfig, GFlowNetConfig, NetworkConfig, PreferenceConfig
    from tutelage.gflownets.learning.gflownet import gflownet
    from tutelage.gflownets.method import compiled_update

    sequence = "length" in work
    network = NetworkConfig(
        kind="transformer" if sequence else "mlp",
        width=work["width"],
        layers=work["layers"],
        heads=work.get("heads", 8),
        z_layers=0,
    )
    config = GFlowNetConfig(
        batch_size=work["batch"],
        preference=PreferenceConfig(bins=BINS),
        beta=BetaConfig(kind="constant", value=1.0),
        network=network,
    )
    problem = _words(work) if sequence else _grid(work)
    method = gflownet(problem, config, num_updates=1)
    update = compiled_update(method, problem.objectives)
    program = jax_program(method.init, update, lambda state, key: {}, seeds=[0])
    held = [program.init()]

    def iterate() -> None:
        held[0], read = program.update(held[0], ITERATIONS)
        read()

    return iterate


def _words(work: Mapping[str, Any]) -> Any:
    from tutelage.gflownets.worlds.config import NGramConfig
    from tutelage.gflownets.worlds.ngrams import ngrams

    length, alphabet = work["length"], "AVCX"[: work["letters"]]
    return ngrams(NGramConfig(alphabet, ("AV", "VC"), min_len=length, max_len=length, scale=float(length)))


def _grid(work: Mapping[str, Any]) -> Any:
    import jax.numpy as jnp

    from tutelage.gflownets.worlds.config import PAIRWISE, HyperGridConfig
    from tutelage.gflownets.worlds.hypergrid import hypergrid

    edge = work["side"] - 1
    problem = hypergrid(HyperGridConfig(work["dims"], work["side"], PAIRWISE[: work["objectives"]]))

    def mask(state: Any) -> Any:
        return jnp.append(state.position < edge, (state.position == edge).all())

    return problem._replace(environment=problem.environment._replace(mask=mask))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", type=json.loads, help="time this work in this process")
    parser.add_argument("--floor", type=json.loads, help="the same beside its matrix products")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="processor seconds of timing for each point")
    given = parser.parse_args()
    if given.point or given.floor:
        print(json.dumps(floor(given.floor, given.seconds) if given.floor else point(given.point, given.seconds)))
    else:
        print(table(measure(given.seconds)))


if __name__ == "__main__":
    main()
