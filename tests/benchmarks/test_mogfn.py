"""The benchmark of GFlowNets: its tables, our side at a very small size, and the count of its products."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from tutelage.cli.bench import find_script

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL = {"dims": 2, "side": 3, "objectives": 2, "batch": 4, "width": 8, "layers": 2}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    """Import a script of `benchmarks/` as a module, as scripts there import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")][2:]


def test_the_command_finds_the_script():
    assert find_script("mogfn") == BENCHMARKS / "mogfn.py"


def test_the_page_has_a_table_for_each_grid_and_the_growth(module):
    bench, growth = module("mogfn"), module("growth_mogfn")
    record = {"calls": [{"cpu": 9.0, "wall": 9.0}, {"cpu": 1.0, "wall": 2.0}], "l1": [2.0, 1.0, 0.5]}
    record |= {"marks": {"first_call": {"cpu": 12.0}}, "peak_memory_bytes": 3_000_000}
    found = bench.figures(record, {"iterations": 250})
    assert found["iteration, CPU ms"] == 4.0 and found["L1 at the end"] == 0.5
    rows = cells(bench.table("2-D, side 8", {"tutelage": [found], "gfnx": [found | {"iteration, CPU ms": 8.0}]}))
    assert rows[0] == ["iteration, CPU ms", "4.00 (4.00–4.00)", "8.00 (8.00–8.00)", "0.50"]
    law = {"records": [{"library": "tutelage", "versions": {"jax": "1"}}], "figures": {"2-D, side 8": {"a": [found]}}}
    about = {"cpu": "c", "cores": 2, "load_average": [0.5]}
    text = bench.page({"machine": about, "command": "x", "law": law, "growth": made_up(growth)})
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "### 2-D, side 8",
        "### Growth",
        "### Floor",
    ]


def made_up(growth: ModuleType) -> dict:
    """Times that grow as the square of every size."""
    points = [
        {"axis": axis, "size": size, "steps": size, "seconds": [size**2 / 1e3], "memory": 10**6}
        for axis, (_, sizes) in growth.AXES.items()
        for size in sizes
    ]
    floors = [{"work": growth.GRID, "operations": 4e6, "bytes": 8e6, "floor": 1e-3, "seconds": [2e-3, 4e-3, 3e-3]}]
    return {"points": points, "floor": floors}


def test_growth_gives_the_exponents_of_every_axis(module):
    growth = module("growth_mogfn")
    text = growth.table(made_up(growth))
    rows = cells(text)
    assert rows[0] == ["dimensions D = 2", "2", "4.00 (4.00–4.00)", "", "1"]
    assert [row[3] for row in rows[1:4]] == ["2.00"] * 3
    assert all(f"{name} 2.00" in text for name in growth.NAMES.values())
    last = text.splitlines()[-3]
    assert [cell.strip() for cell in last.split("|")[1:-1]] == [
        "2-D, side 8, batch 16", "4", "8", "4", "1.00", "3.00 (2.00–4.00)", "3.0",
    ]  # fmt: skip


def test_points_where_axes_cross_are_timed_once(module, monkeypatch):
    growth = module("growth_mogfn")
    asked = []

    def process(arguments):
        asked.append(arguments)
        return {"steps": 1, "seconds": [1.0], "memory": 1, "operations": 1.0, "bytes": 1.0, "floor": 1.0}

    monkeypatch.setattr(growth, "_process", process)
    found = growth.measure()
    sizes = sum(len(values) for _, values in growth.AXES.values())
    assert len(found["points"]) == sizes == 20
    assert len(asked) == sizes - 3 + len(growth.FLOORS)


def test_operations_of_the_floor_are_two_for_each_weight_and_row(module):
    """Forward twice (rollout and loss), for the weights' gradient, and for that of the inputs of all but the first."""
    growth = module("growth_mogfn")
    rows, observed, condition = 4 * 5, 2 * 3, 2 * 50
    first, rest = observed * 8, 8 * 8 + 8 * 3
    assert growth.steps_of(SMALL) == 5
    counted = sum(product.operations for product in growth.products(SMALL))
    assert counted == 2 * (rows * (3 * first + 4 * rest) + 4 * 3 * condition * 8)


@pytest.mark.slow
def test_our_side_runs_all_steps_and_its_products_are_timed(module, monkeypatch):
    """Only the farthest cell is an object, so every trajectory is as long as they come."""
    import jax

    from tutelage.gflownets.condition import condition
    from tutelage.gflownets.config import GFlowNetConfig, NetworkConfig
    from tutelage.gflownets.learning.gflownet import gflownet

    growth = module("growth_mogfn")
    problem = growth._grid(SMALL)
    method = gflownet(problem, GFlowNetConfig(batch_size=4, network=NetworkConfig(width=8, z_layers=0)), 1)
    asked = condition([[0.5, 0.5]] * 4, 16.0, 2)
    assert (jax.jit(method.sample)(method.init(jax.random.key(0)), jax.random.key(1), asked) == 2).all()
    monkeypatch.setattr(module("floor"), "BATCH", 0.001)
    found = growth.floor(SMALL, 0.001)
    assert found["steps"] == 5 and len(found["seconds"]) == growth.SAMPLES
    assert all(seconds > 0 for seconds in (*found["seconds"], found["floor"]))
    assert found["bytes"] == sum(growth.moved(product) for product in growth.products(SMALL))
