"""The benchmark of mixing: answers compared before times, its tables, both sides at a very small size."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tutelage.cli.bench import find_script

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL: dict[str, Any] = {"kind": "n_bottleneck", "length": 2, "rooms": 2}
GIVEN = argparse.Namespace(timeout=120.0, seconds=0.001, rounds=1, peers=[], environments=None, official=None)
ABOUT = {"command": "x", "machine": {"cpu": "c", "cores": 2, "load_average": [0.5]}}


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
    assert find_script("mixing") == BENCHMARKS / "mixing.py"


def test_the_reference_law_is_right_for_slow_chains(module):
    """Two states in closed form; two equal halves that are hardly ever left, a half each."""
    law = module("chain_law")
    p, q = 1e-9, 3e-9
    found = law.reference_law(np.array([[1 - p, p], [q, 1 - q]]))
    assert_allclose(found.astype(float), [0.75, 0.25], rtol=1e-14)
    half = np.kron(np.array([[1 - 1e-6, 1e-6], [1e-6, 1 - 1e-6]]), np.full((3, 3), 1 / 3))
    assert_allclose(law.reference_law(half).astype(float), np.full(6, 1 / 6), rtol=1e-9)
    chain = module("mixing").halves(20, 1e-3)
    assert_allclose(chain.sum(axis=1), 1) and assert_allclose(chain[:10, 10:].sum(axis=1), 1e-3)
    assert law.errors(law.reference_law(chain), law.reference_law(chain), chain)["residual"] < 1e-15


def test_a_wrong_law_is_refused(module):
    bench = module("mixing")
    P = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert bench.check_laws("it", {"a": np.array([2 / 3, 1 / 3])}, P)["relative"] < 1e-15
    with pytest.raises(module("harness").BenchmarkFailed, match=r"it: the law of b is wrong by 2e-08"):
        bench.check_laws("it", {"b": np.array([2 / 3 + 1e-8, 1 / 3 - 1e-8])}, P)


@pytest.mark.parametrize("agent", ["on_policy_rho", "off_policy_rho", "rho_gradient"])
def test_a_kept_inverse_answers_as_solving_for_every_candidate(module, agent: str, tmp_path: Path, monkeypatch):
    bench, ours, peer = module("mixing"), module("ours_mixing"), module("solve_per_candidate")
    assert bench.save_table(SMALL, tmp_path / "table.npz") == 6
    work = {"learning_rate": 0.0, "prior": 1e-4} | bench.AGENTS[agent] | {"agent": agent, "steps": 50}
    arguments = [
        "--work",
        json.dumps(work | {"table": str(tmp_path / "table.npz")}),
        "--log",
        str(tmp_path / "log.npz"),
    ]
    monkeypatch.setattr(sys, "argv", ["solve_per_candidate.py", *arguments])
    peer.main()
    given = argparse.Namespace(work=work | {"log": str(tmp_path / "log.npz"), "precision": "float64"})
    found = ours.replay(module("stopwatch").Stopwatch(), given)
    assert found["error"] < 1e-11 and found.get("given_up", 0) < 1e-11
    assert found["questions"] == {"on_policy_rho": 200, "off_policy_rho": 1000, "rho_gradient": 500}[agent]
    assert not jax.config.jax_enable_x64


def test_answers_that_differ_stop_the_benchmark(module, monkeypatch, tmp_path: Path):
    bench = module("mixing")
    monkeypatch.setattr(bench, "_record", lambda *_: {"questions": 1, "error": 0.0, "given_up": 1e-7})
    with pytest.raises(module("harness").BenchmarkFailed, match=r"a: gains or decisions differ .* by 1e-07"):
        bench.replayed({"agent": "a"}, GIVEN, tmp_path)


def test_mixing_times_of_both_are_those_of_the_page(module, monkeypatch, tmp_path: Path):
    bench = module("mixing")
    monkeypatch.setattr(bench, "MIXING", {"small": {"kind": "n_bottleneck", "length": 3, "rooms": 2}})
    found = bench.mixing_times(GIVEN, tmp_path)
    assert {(record["name"], record["steps"]) for record in found["records"]} == {
        ("tutelage", 61),
        ("matrix powers", 61),
    }
    rows = cells(bench.chains_table(found))
    assert [row[2] for row in rows] == [
        "tutelage: mixing time", "tutelage: with the relaxation time", "matrix powers: mixing time",
    ]  # fmt: skip
    assert [row[-1] for row in rows] == ["61"] * 3 and rows[0][4] == "1"


def test_tables_of_agents_and_laws(module):
    bench = module("mixing")

    def record(name: str, seconds: float) -> dict[str, Any]:
        calls = [{"cpu": 9.0}, {"cpu": seconds}] if name == "tutelage" else [{"cpu": seconds}]
        return {"agent": "a", "name": name, "steps": 100, "calls": calls, "peak_memory_bytes": 10**6}

    agreement = [{"agent": "a", "precision": "float64", "questions": 4000, "error": 2e-14, "given_up": 1e-15}]
    records = [record("tutelage", 0.1), record("solve per candidate", 2.0)]
    text = bench.agents_table({"states": 96, "agreement": agreement, "records": records})
    assert cells(text)[:2] == [
        ["a", "tutelage", "1000 (1000–1000)", "1.0", "8.90 (8.90–8.90)", "1"],
        ["a", "solve per candidate", "50.00 (50.00–50.00)", "20.0", "–", "1"],
    ]
    assert cells(text)[-1] == ["a", "float64", "4,000", "2e-14", "1e-15"]
    law = {"chain": "c", "states": 300, "name": "t", "library": "t", "versions": {"numpy": "2"}, "residual": 1e-16}
    law |= {"error": 2e-14, "relative": 3e-14, "marks": {"imported": {"cpu": 1.0}}, "first": {"cpu": 1.0}}
    text = bench.page({"stationary": ABOUT | {"records": [law | {"seconds": {"x": [0.001], "y": [0.004]}}]}})
    assert [row[3:6] for row in cells(text)] == [
        ["1.00 (1.00–1.00)", "1", "1000 (1000–1000)"],
        ["4.00 (4.00–4.00)", "0.25", "–"],
    ]
    assert "- t: numpy 2" in text and text.startswith("## Stationary laws\n")


def made_up(growth: ModuleType) -> dict[str, Any]:
    """Times that grow as the square of every size."""
    what = {"steps": ["step"], "chain": ["law", "mixing time"], "sparse": ["law"]}
    points = [
        {"axis": axis, "size": size, "timings": {each: [size**2 / 1e6] for each in what[work["what"]]}}
        | {"facts": {"S": 7}, "memory": 10**6}
        for axis, size, work in growth.POINTS
    ]
    return {**ABOUT, "points": points}


def test_growth_gives_exponents_and_figures(module):
    growth = module("growth_mixing")
    found = made_up(growth)
    text = growth.table(found)
    rows = cells(text)
    assert rows[0] == ["S, on_policy_rho = 48", "step", "2.30 (2.30–2.30)", "", "1", "S 7"]
    assert {row[3] for row in rows} == {"", "2.00"} and "chain: mixing time 2.00" in text
    drawn = growth.figures(found)
    assert list(drawn) == ["mixing_growth_steps", "mixing_growth_chains"]
    assert all(svg.startswith("<svg") for svg in drawn.values())


def test_parts_that_did_not_run_stay_in_the_record(module, tmp_path: Path):
    bench, growth = module("mixing"), module("growth_mixing")
    bench.save({"growth": made_up(growth)}, tmp_path)
    records = [{"chain": "c", "states": 3, "name": "t", "library": "t", "versions": {}, "steps": 5}]
    records[0] |= {"seconds": {"x": [1.0]}, "marks": {"imported": {"cpu": 1.0}}}
    bench.save({"mixing_time": ABOUT | {"records": records}}, tmp_path)
    assert list(json.loads((tmp_path / "mixing_benchmark.json").read_text())["parts"]) == ["mixing_time", "growth"]
    text = (tmp_path / "mixing_benchmark.md").read_text()
    assert "## Exact mixing times" in text and "## Growth" in text
    assert "](mixing_growth_steps.svg)" in text and (tmp_path / "mixing_growth_steps.svg").exists()


def test_the_recorded_command_has_no_paths(module):
    given = argparse.Namespace(**vars(GIVEN) | {"parts": ["agents"], "save": True, "official": Path("/elsewhere")})
    assert module("mixing").command_of(given) == (
        "python benchmarks/mixing.py --parts agents --peers --rounds 1 --seconds 0.001 --save"
    )


def test_points_of_growth_are_timed(module):
    growth = module("growth_mixing")
    step = growth.STEP | {"world": SMALL, "seeds": 2, "steps": 20, "seconds": 0.001}
    found = growth.point(step)
    assert found["facts"]["S"] == 6 and found["facts"]["steps per CPU-s"] > 0 and found["memory"] > 0
    chain = growth.point({"what": "chain", "world": SMALL | {"length": 5}, "seconds": 0.001})
    assert chain["facts"] == {"t_mix": 49} and set(chain["timings"]) == {"law", "mixing time"}
    sparse = growth.point({"what": "sparse", "states": 60, "seconds": 0.001})
    assert sparse["facts"]["residual"] < 1e-12 and min(sparse["timings"]["law"]) > 0
