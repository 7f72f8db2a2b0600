"""The machinery of the benchmarks: what it computes from timings, and how it treats a contestant that fails."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    """Import a script of `benchmarks/` as a module, as scripts there import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.fixture
def harness(module):
    return module("harness")


def call(seconds: float, **kinds: int) -> dict:
    return {"kinds": kinds, "cpu": seconds, "wall": 2 * seconds}


def test_a_kind_by_itself_costs_its_median(harness):
    cycles = [call(1.0, new=1), call(1.2, new=1), call(9.0, new=1), call(3.0, replay=1), call(8.0, replay=2)]
    assert harness.costs_by_kind(cycles, "cpu") == {"new": 1.2, "replay": 3.5}
    assert harness.costs_by_kind(cycles, "wall") == {"new": 2.4, "replay": 7.0}


def test_kinds_that_come_together_are_taken_apart(harness):
    """Planted costs 3 (replay) and 0.5 (new); one call in five is disturbed by +20."""
    cycles = [call(3.0 + 0.5 * number, replay=1, new=number) for number in (0, 1, 2, 3, 1, 2, 4, 0)]
    cycles += [call(23.5, replay=1, new=1), call(24.0, replay=1, new=2)]
    costs = harness.costs_by_kind(cycles, "cpu")
    assert costs == pytest.approx({"new": 0.5, "replay": 3.0}, abs=1e-4)


def test_inseparable_kinds_share_their_sum(harness):
    """Replay and mutation always together, 5 in all, beside new batches of 1."""
    cycles = [call(5.0 + number, replay=1, mutate=1, new=number) for number in (0, 1, 2, 1, 0, 3)]
    costs = harness.costs_by_kind(cycles, "cpu")
    assert costs == pytest.approx({"new": 1.0, "replay": 2.5, "mutate": 2.5}, abs=1e-6)


def test_a_mix_by_hand(harness):
    costs = {"new": 1.0, "replay": 3.0, "mutate": 1.5}
    assert harness.mixed(costs, {"new": 0.2, "replay": 0.8, "mutate": 0.8}) == pytest.approx((0.2 + 2.4 + 1.2) / 1.8)
    assert math.isnan(harness.mixed({"new": 1.0}, {"new": 0.5, "replay": 0.5}))


def test_spread_leaves_out_what_was_not_measured(harness):
    spread = harness.Spread.of([3.0, math.nan, 1.0, 2.0])
    assert (spread.median, spread.low, spread.high, spread.number) == (2.0, 1.0, 3.0, 3)
    assert str(spread) == "2.00 (1.00–3.00)"
    assert str(harness.Spread.of([])) == "–"


def test_contestants_take_turns(harness):
    a, b = harness.Contestant("a", ()), harness.Contestant("b", ())
    assert [(number, c.name) for number, c in harness.in_turns([a, b], 2)] == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_markdown_aligns(harness):
    assert harness.markdown(["", "x"], [["long", "1"]]) == "|      | x |\n|------|---|\n| long | 1 |"


class TestRun:
    def contestant(self, harness, program: str):
        return harness.Contestant("it", (sys.executable, "-c", program), {"EXTRA": "yes"})

    def test_the_last_line_is_the_record(self, harness):
        program = """
import json, os, sys
print("chatter")
started = float(os.environ["BENCHMARK_STARTED"])
print(json.dumps({"extra": os.environ["EXTRA"], "started": started, "argv": sys.argv[1:]}))
"""
        record = harness.run(self.contestant(harness, program), ["--arm", "dr"], timeout=60)
        assert record["extra"] == "yes"
        assert record["argv"] == ["--arm", "dr"]
        assert record["started"] > 1e9

    @pytest.mark.parametrize(
        ("program", "message"),
        [
            ("import sys; sys.exit('no such option')", "no such option"),
            ("print('half a rec')", "printed no record"),
            ("print(3)", "printed no record"),
            ("pass", "printed no record"),
            ("import time; time.sleep(60)", "longer than 0.5 s"),
        ],
    )
    def test_failures_say_what_happened(self, harness, program: str, message: str):
        with pytest.raises(harness.BenchmarkFailed, match=message):
            harness.run(self.contestant(harness, program), [], timeout=0.5 if "sleep" in program else 60)


def test_stopwatch_counts_from_the_start_of_the_process(harness):
    """A driver that burns 0.2 s before its first mark, and half of that in a timed call."""
    program = f"""
import sys, time
sys.path.insert(0, {str(BENCHMARKS / "peers")!r})
from stopwatch import Stopwatch, peak_memory, report
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
    return seconds
clock = Stopwatch()
burn(0.2)
clock.mark("burnt")
result, cost = clock.time(lambda: burn(0.1))
report(marks=clock.marks, result=result, cost=cost, memory=peak_memory())
"""
    record = harness.run(harness.Contestant("it", (sys.executable, "-c", program)), [], timeout=60)
    assert record["marks"]["burnt"]["cpu"] >= 0.2
    assert record["marks"]["burnt"]["wall"] >= 0.2
    assert record["result"] == 0.1
    assert record["cost"]["cpu"] >= 0.1
    assert 10**6 < record["memory"] < 10**9


def test_figures_of_a_run_by_hand(module):
    benchmark = module("minimax")
    record = {
        "cycles": [call(1.0, new=1), call(4.0, replay=1, mutate=1), call(5.0, replay=1, mutate=1, new=1)],
        "marks": {"first_update": {"cpu": 20.0, "wall": 15.0}},
        "second_call": {"cpu": 7.0, "wall": 7.0},
        "evaluation": {"first": {"cpu": 3.0, "wall": 3.0}, "later": [{"cpu": 0.5, "wall": 1}, {"cpu": 0.4, "wall": 1}]},
        "peak_memory_bytes": 2_000_000,
    }
    found = benchmark.figures("accel", record)
    assert found["cycle cpu"] == pytest.approx((0.2 * 1 + 0.8 * 4) / 1.8, abs=1e-6)
    assert found["steps per cpu second"] == pytest.approx(8192 / found["cycle cpu"])
    assert found["new cpu"] == pytest.approx(1.0, abs=1e-6)
    assert found["replay and mutate cpu"] == pytest.approx(4.0, abs=1e-6)
    assert found["evaluation cpu"] == 0.4
    assert found["peak memory MB"] == 2.0
    text = benchmark.table("accel", {"tutelage": [found], "other": [{**found, "cycle cpu": 2 * found["cycle cpu"]}]})
    line = next(line for line in text.splitlines() if "cycle cpu" in line)
    assert line.split("|")[-2].strip() == "2.00"


def test_minimax_updates_are_counted_in_batches(module):
    kinds = module("minimax_cycle").kinds_of
    assert kinds("dr", 3, 4) == {"train": 1}
    assert kinds("plr_robust", 3, 3) == {"new": 1}
    assert kinds("plr_robust", 3, 4) == {"replay": 1}
    assert kinds("accel", 3, 4) == {"replay": 1, "mutate": 1}


def test_our_updates_are_counted_in_batches(module):
    kinds = module("ours_cycle").kinds_of
    assert kinds("paired", 1) == {"train": 1}
    assert kinds("plr_robust", 1) == {"replay": 1}
    assert kinds("plr_robust", 4) == {"replay": 1, "new": 3}
    assert kinds("accel", 2) == {"replay": 1, "mutate": 1}
    assert kinds("accel", 4) == {"replay": 1, "mutate": 1, "new": 2}


EXAMPLE = """
import argparse
import jax
import jax.numpy as jnp
import wandb

def main(config, project):
    wandb.init(config=config, project=project, group="g", tags=[])
    config = wandb.config
    wandb.define_metric("num_updates")

    @jax.jit
    def create_train_state(key):
        return jnp.float32(config["num_train_envs"])

    def train_step(carry, _):
        key, state = carry
        return (key, state + 1), None

    def eval(key, state):
        return -state

    @jax.jit
    def train_and_eval_step(carry, _):
        carry, _ = jax.lax.scan(train_step, carry, None, 2)
        return carry, eval(*carry)

    raise AssertionError("went on")

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("num_updates", "num_train_envs", "num_steps", "num_minibatches", "epoch_ppo", "n_walls",
                 "checkpoint_save_interval", "eval_num_attempts"):
        parser.add_argument(f"--{name}", type=int)
    main(vars(parser.parse_args()), project="p")
"""


def test_the_train_step_is_taken_out_of_an_example_script(module, monkeypatch, tmp_path):
    """A script of jaxued's shape: we get its closures, and its own jit is as before afterwards."""
    import jax

    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers" / "stubs"))
    script = tmp_path / "maze_dr.py"
    script.write_text(EXAMPLE)
    driver, work, jit = module("jaxued_cycle"), module("minimax").WORK, jax.jit
    captured = driver.capture(script, driver.command_line("dr", work))
    assert jax.jit is jit
    state = captured["create_train_state"](jax.random.key(0))
    assert state == work["num_envs"]
    assert captured["train_step"]((None, state), None)[0][1] == work["num_envs"] + 1
    assert captured["eval"](None, state) == -work["num_envs"]


def test_a_script_of_another_shape_is_refused(module, tmp_path):
    script = tmp_path / "maze_dr.py"
    script.write_text("pass")
    with pytest.raises(SystemExit, match=r"maze_dr\.py ended before"):
        module("jaxued_cycle").capture(script, [])


def test_every_number_of_the_work_is_read(module):
    """By each driver for the arm that needs most of it; a number nobody reads would lie in the tables."""

    class Watched(dict):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            self.read: set[str] = set()

        def __getitem__(self, name: str):
            self.read.add(name)
            return super().__getitem__(name)

    work = Watched(module("minimax").WORK)
    for arm in ("dr", "accel", "paired"):
        module("jaxued_cycle").command_line(arm, work)
    assert set(work) - work.read == {"level_metrics"}
    ours = Watched(work)
    for arm in ("dr", "accel", "paired"):
        module("ours_cycle").overrides(arm, ours)
    assert set(ours) - ours.read == {"level_metrics"}


def test_operations_of_the_floor_by_hand(module):
    """Forward 149·1024 + 256·1024 + 256·64 multiplications a step; each pass does them three times, a rollout once."""
    rows = module("floor").products(32, 256, 5)
    per_step = 149 * 1024 + 256 * 1024 + 256 * 64
    assert sum(row.operations for row in rows) == 2 * 32 * 256 * per_step * (1 + 3 * 5)


def test_the_work_survives_the_command_line(module):
    work = module("minimax").WORK
    assert json.loads(json.dumps(work)) == work


@pytest.mark.parametrize("arm", ["dr", "plr_robust", "accel", "paired"])
def test_our_study_accepts_the_work(module, arm: str):
    """The sizes land in the configuration that is built, and pass the study's own checks."""
    from tutelage import studies
    from tutelage.lab.configuration import configure

    work = module("minimax").WORK
    study = studies.load("minimax")
    config, _ = configure(study, arm, "paper", module("ours_cycle").overrides(arm, work))
    assert study.check(config) == []
    assert (config.maze.height, config.maze.width, config.network.hidden) == (13, 13, 256)
    assert (config.rollout.num_tasks, config.rollout.num_steps, config.ppo.num_epochs) == (32, 256, 5)


def test_a_size_that_grows_leaves_the_others(module):
    growth, work = module("growth_minimax"), module("minimax").WORK
    larger = {axis.field: growth.work_at(axis, 4) for axis in growth.AXES}
    assert larger["buffer_size"] == {**work, "buffer_size": 16000, "min_fill": 0.002}
    assert larger["num_steps"] == {**work, "num_steps": 1024}
    assert larger["num_envs"] == {**work, "num_envs": 128, "min_fill": 0.032}


def test_growth_draws_every_kind_of_cycle(module):
    growth = module("growth_minimax")
    points = [
        {
            "axis": axis.label,
            "factor": factor,
            "size": 1,
            "seconds": {kind: [factor] for kind in axis.kinds},
            "memory": [1e9],
        }
        for axis in growth.AXES
        for factor in (0.5, 1.0, 2.0)
    ]
    drawn = growth.figures(points)
    assert set(drawn) == {"minimax_growth_time", "minimax_growth_memory"}
    for label in ("environments N", "steps T", "buffer K, replay levels", "buffer K, new levels"):
        assert label in drawn["minimax_growth_time"]
    cells = [cell.strip() for cell in growth.table(points).splitlines()[-1].split("|")]
    assert cells[1:-1] == ["buffer K = 1", "2", "replay 2.00 (2.00–2.00); new 2.00 (2.00–2.00)", "1000"]
