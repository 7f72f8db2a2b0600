"""The driver, on a bandit in NumPy: whatever happens to a run, its files end as those of an undisturbed one."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from killing import assert_same_run, command, environment, run_to_end, run_with_kills
from lab.toy_study import Bandit, study
from rich.console import Console

from tutelage.lab import configuration, driver
from tutelage.lab.errors import BadInput
from tutelage.lab.schedule import Schedule
from tutelage.lab.storage import atomic, checkpoint
from tutelage.lab.storage.lines import read_lines
from tutelage.lab.storage.record import RunFolder
from tutelage.lab.study import RunResult, Study

SCHEDULE = {
    "schedule.num_updates": 40,
    "schedule.log_every": 4,
    "schedule.evaluate_every": 10,
    "schedule.checkpoint_every": 8,
}


def go(folder: Path, *, of: Study = study, arm: str = "greedy", seeds: tuple[int, ...] = (3, 5), **changes: Any):
    """Run the bandit for 40 updates in chunks of 4; `a__b` changes the field a.b."""
    overrides = SCHEDULE | {name.replace("__", "."): value for name, value in changes.items()}
    config, _ = configuration.configure(study, arm, "quick", overrides)
    return driver.run(of, arm, "quick", config, seeds, folder, overrides=overrides, quiet=True)


def with_program(make: Callable[..., Bandit]) -> Study:
    return dataclasses.replace(study, build=make)


class Crash(BaseException):
    """The process is gone: nothing after it runs but `finally` blocks."""


class CrashAfter(Bandit):
    """A bandit whose `verb` ends the process at its `count`-th call."""

    verb, count = "update", 1

    def update(self, state, num_updates):
        self._count("update")
        return super().update(state, num_updates)

    def evaluate(self, state, step, *, final=False):
        self._count("evaluate")
        return super().evaluate(state, step, final=final)

    def save(self, state):
        self._count("save")
        return super().save(state)

    def _count(self, verb: str) -> None:
        if verb == self.verb:
            self.count -= 1
            if self.count < 0:
                raise Crash


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    go(folder)
    return folder


# What a run leaves.


def test_records_of_a_run(undisturbed: Path) -> None:
    run = RunFolder(undisturbed)
    records = list(run.metrics())
    steps = {
        kind: [record["step"] for record in records if record["kind"] == kind and record["seed"] == 5]
        for kind in ("metrics", "evaluation")
    }
    assert steps == {"metrics": list(range(4, 41, 4)), "evaluation": [12, 20, 32, 40]}
    config = run.config()
    assert (config["study"], config["arm"], config["preset"], config["seeds"]) == ("bandit", "greedy", "quick", [3, 5])
    assert config["overrides"] == SCHEDULE
    result = run.result()
    assert result["finished"] is True
    assert result["step"] == 40
    last = {name: value for name, value in records[-2].items() if name not in ("kind", "seed", "step")}
    assert records[-2]["seed"] == 3
    assert result["figures"]["3"] == last
    assert result["work_per_second"]["unit"] == "pulls"
    assert result["work_per_second"]["value"] == pytest.approx(2 * result["updates_per_second"])
    assert result["peak_memory_bytes"] > 2**20
    assert [step for step, _ in checkpoint.steps(run.checkpoints)] == [32, 40]


def test_metrics_are_those_of_the_program_alone(undisturbed: Path) -> None:
    """The same chunks by hand, without a driver."""
    config, _ = configuration.configure(study, "greedy", "quick", SCHEDULE)
    program = Bandit(config, (3, 5))
    state, rewards = program.init(), []
    for _ in range(10):
        state, fetch = program.update(state, 4)
        rewards += [figures["reward"] for figures in fetch()]
    records = [record for record in RunFolder(undisturbed).metrics() if record["kind"] == "metrics"]
    assert [record["reward"] for record in records] == rewards
    last = checkpoint.load(checkpoint.steps(undisturbed / "checkpoints")[-1][1])
    assert {name: array.tolist() for name, array in last.arrays.items()} == {
        name: array.tolist() for name, array in state.items()
    }


def test_a_run_can_be_repeated_from_its_configuration_alone(undisturbed: Path, tmp_path: Path) -> None:
    asked = RunFolder(undisturbed).config()
    config = configuration.from_json(study.config, asked["config"])
    driver.run(study, asked["arm"], asked["preset"], config, asked["seeds"], tmp_path / "again", quiet=True)
    assert_same_run(tmp_path / "again", undisturbed)


def test_a_finished_run_returns_its_results_and_writes_nothing(tmp_path: Path) -> None:
    first = go(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = go(tmp_path / "run", of=with_program(lambda config, seeds: pytest.fail("built")))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    assert [result.figures for result in again] == [result.figures for result in first]
    assert [result.seed for result in again] == [3, 5]
    assert isinstance(again[0], RunResult)


def test_evaluation_off_or_doubled_leaves_training_alone(undisturbed: Path, tmp_path: Path) -> None:
    def training(folder: Path) -> tuple[list[dict], dict[str, list]]:
        metrics = [record for record in RunFolder(folder).metrics() if record["kind"] == "metrics"]
        arrays = checkpoint.load(folder / "checkpoints" / checkpoint.file_name(40)).arrays
        return metrics, {name: array.tolist() for name, array in arrays.items()}

    for every in (0, 5):
        go(tmp_path / str(every), schedule__evaluate_every=every)
        assert training(tmp_path / str(every)) == training(undisturbed)
        final = [RunFolder(folder).result()["figures"] for folder in (tmp_path / str(every), undisturbed)]
        assert final[0] == final[1]


def test_the_best_checkpoint_is_the_one_with_the_largest_figure(tmp_path: Path) -> None:
    go(tmp_path / "run", seeds=(0, 1), schedule__best_figure="return", schedule__evaluate_every=4)
    values: dict[int, float] = {}
    for record in RunFolder(tmp_path / "run").metrics():
        if record["kind"] == "evaluation":
            values[record["step"]] = values.get(record["step"], 0.0) + record["return"]
    best = checkpoint.load(tmp_path / "run" / "checkpoints" / checkpoint.BEST)
    assert best.step == max(values, key=lambda step: values[step])
    assert best.step < 40  # otherwise this test would say little


def test_memory_does_not_grow_with_the_number_of_updates(tmp_path: Path) -> None:
    held: list[int] = []

    class Watched(Bandit):
        def evaluate(self, state, step, *, final=False):
            held.append(tracemalloc.get_traced_memory()[0])
            return super().evaluate(state, step, final=final)

    tracemalloc.start()
    try:
        go(tmp_path / "run", of=with_program(Watched), schedule__num_updates=800, schedule__evaluate_every=40)
    finally:
        tracemalloc.stop()
    assert len(held) == 20
    assert held[-1] - held[4] < 15_000  # two records of metrics kept for each of 160 chunks would be 80 kB


def test_a_program_is_given_the_runs_folder_before_its_state_and_keeps_records_there(tmp_path: Path) -> None:
    """Two processes' worth: the first stops at its first save; what it noted down is left as it was."""
    calls: list[str] = []

    class Noting(CrashAfter):
        verb, count = "save", 1

        def attach(self, folder: Path) -> None:
            assert (folder / "config.json").is_file()
            calls.append("attach")
            self.notes = folder / "notes"
            self.notes.mkdir(exist_ok=True)

        def init(self):
            calls.append("init")
            (self.notes / ".partial-mine").write_text("torn")
            return super().init()

        def load(self, arrays):
            calls.append("load")
            return super().load(arrays)

    with pytest.raises(Crash):
        go(tmp_path / "run", of=with_program(Noting))
    go(tmp_path / "run", of=with_program(type("Whole", (Noting,), {"count": 100})))
    init_again = [call for call in calls if call != "init"]
    assert calls[:2] == ["attach", "init"]
    assert init_again == ["attach", "attach", "load"]
    assert (tmp_path / "run" / "notes" / ".partial-mine").read_text() == "torn"


# Killed at any moment.


@pytest.mark.parametrize(("verb", "calls"), [("update", 10), ("evaluate", 4), ("save", 5)])
def test_a_crash_in_any_call_of_the_program(undisturbed: Path, tmp_path: Path, verb: str, calls: int) -> None:
    for count in range(calls):
        folder = tmp_path / f"{verb}-{count}"
        crashing = type("Crashing", (CrashAfter,), {"verb": verb, "count": count})
        with pytest.raises(Crash):
            go(folder, of=with_program(crashing))
        go(folder)
        assert_same_run(folder, undisturbed)


def test_a_crash_at_any_write(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops before the n-th fsync, rename or half-way through the n-th append, for every n there is."""
    left = 0

    def tick() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash

    fsync, replace, write = os.fsync, Path.replace, driver.Lines.write

    def torn(self: Any, records: Any) -> None:
        try:
            tick()
        except Crash:
            text = json.dumps(records[-1])
            self._file.write(text[: len(text) // 2].encode())
            raise
        write(self, records)

    moment, crashes = 0, True
    while crashes:
        folder = tmp_path / str(moment)
        left = moment
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda descriptor: (tick(), fsync(descriptor))[1])
            patch.setattr(Path, "replace", lambda self, target: (tick(), replace(self, target))[1])
            patch.setattr(driver.Lines, "write", torn)
            try:
                go(folder, schedule__num_updates=8, schedule__checkpoint_every=4)
                crashes = False
            except Crash:
                pass
        go(folder, schedule__num_updates=8, schedule__checkpoint_every=4)
        assert_same_run(folder, tmp_path / "0")
        assert not list(folder.rglob(".partial-*"))
        shutil.rmtree(folder) if moment else None
        moment += 1
    assert moment > 25


def test_killed_and_resumed_is_identical(tmp_path: Path) -> None:
    kill(tmp_path, kills=3, seed=0)


@pytest.mark.slow
def test_killed_twenty_times_and_resumed_is_identical(tmp_path: Path) -> None:
    kill(tmp_path, kills=20, seed=1)


def kill(tmp_path: Path, *, kills: int, seed: int) -> None:
    changes = {name: value for name, value in SCHEDULE.items() if name != "schedule.num_updates"}
    changes |= {"schedule.num_updates": 800 * kills, "schedule.evaluate_every": 100}
    words = [command("lab.toy_study", "greedy", "quick", [3, 5], tmp_path / name, changes) for name in "ab"]
    run_to_end(words[0])
    run_with_kills(words[1], tmp_path / "b", kills=kills, seed=seed, longest=0.2)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert len({line["session"] for line in read_lines(tmp_path / "b" / "timing.jsonl")}) >= kills // 2


# Asked to stop.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["update", "evaluate"])
def test_stops_when_asked_saves_and_goes_on(
    undisturbed: Path, tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    asked: list[str] = []

    def ask(now: str) -> None:
        if now == moment and now not in asked:
            asked.append(now)
            os.kill(os.getpid(), number)

    class Signalling(Bandit):
        def update(self, state, num_updates):
            ask("update")
            return super().update(state, num_updates)

        def evaluate(self, state, step, *, final=False):
            ask("evaluate")
            return super().evaluate(state, step, final=final)

    folder = tmp_path / "a run"
    with pytest.raises(driver.Interrupted) as stopped:
        go(folder, of=with_program(Signalling))
    assert stopped.value.command == f"tutelage resume '{folder}'"
    assert stopped.value.folder == folder
    assert [step for step, _ in checkpoint.steps(folder / "checkpoints")][-1] == {"update": 4, "evaluate": 12}[moment]
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
    go(folder)
    assert_same_run(folder, undisturbed)


def test_an_evaluation_that_was_due_when_stopped_is_made_up_for(undisturbed: Path, tmp_path: Path) -> None:
    class Signalling(Bandit):
        def update(self, state, num_updates):
            if state["step"][0] == 8:  # the chunk after which the first evaluation falls due
                os.kill(os.getpid(), signal.SIGINT)
            return super().update(state, num_updates)

    for _ in range(2):  # the second request comes before the evaluation was made up for
        with pytest.raises(driver.Interrupted):
            go(tmp_path / "run", of=with_program(Signalling))
        newest = checkpoint.load(checkpoint.steps(tmp_path / "run" / "checkpoints")[-1][1])
        assert (newest.step, newest.extra["evaluated"]) == (12, False)
        shutil.rmtree(tmp_path / "run") if _ == 0 else None
    go(tmp_path / "run")
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_second_ctrl_c_kills_at_once() -> None:
    script = (
        "import sys, time\n"
        "from tutelage.lab.process.interruption import StopRequest\n"
        "with StopRequest(lambda: print('asked', flush=True)):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(500)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=100) == 128 + signal.SIGINT
    process.stdout.close()


# Refusals.


def test_nan_in_the_metrics_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(driver.Diverged) as stopped:
        go(tmp_path / "run", poison_at=18)
    good = tmp_path / "run" / "checkpoints" / checkpoint.file_name(16)
    assert str(stopped.value) == f"metrics 'reward' of seed 3 is nan at update 20; the last good checkpoint is {good}"
    assert all(np.isfinite(array).all() for array in checkpoint.load(good).arrays.values())
    assert [record["step"] for record in RunFolder(tmp_path / "run").metrics()][-1] == 16
    with pytest.raises(driver.Diverged, match="at update 20"):
        go(tmp_path / "run", poison_at=18)


def test_an_infinite_evaluation_stops_the_run(tmp_path: Path) -> None:
    class Infinite(Bandit):
        def evaluate(self, state, step, *, final=False):
            figures = super().evaluate(state, step, final=final)
            return [figures[0], dict(figures[1]) | {"regret": float("-inf")}]

    with pytest.raises(driver.Diverged, match=r"evaluation 'regret' of seed 5 is -inf at update 12; .*step-00000008"):
        go(tmp_path / "run", of=with_program(Infinite))
    with pytest.raises(driver.Diverged, match="there is no checkpoint yet"):
        go(tmp_path / "other", of=with_program(Infinite), schedule__evaluate_every=4)


def test_a_figure_named_as_a_records_own_field_is_refused(tmp_path: Path) -> None:
    class Named(Bandit):
        def evaluate(self, state, step, *, final=False):
            return [{"step": 3.0}] * 2

    with pytest.raises(ValueError, match="evaluation 'step': every record has a step of its own"):
        go(tmp_path / "run", of=with_program(Named))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"learner__exploration": 0.3}, r"config\.learner\.exploration is 0\.1, not 0\.3"),
        ({"seeds": (3,)}, r"seeds is \[3, 5\], not \[3\]"),
        ({"arm": "uniform"}, "arm is 'greedy', not 'uniform'"),
    ],
)
def test_the_folder_of_another_run_is_refused(
    undisturbed: Path, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    with pytest.raises(BadInput, match=f"holds another run: its {complaint}; choose another --out"):
        go(folder, **changes)
    (folder / "result.json").unlink()
    with pytest.raises(BadInput, match=complaint):
        go(folder, **changes)


def test_two_processes_never_write_one_folder(tmp_path: Path) -> None:
    with atomic.sole_writer(tmp_path), pytest.raises(BadInput, match=f"in use by process {os.getpid()}; wait for it"):
        go(tmp_path)
    assert len(go(tmp_path)) == 2


def test_a_damaged_checkpoint_is_passed_over_and_said(undisturbed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    (folder / "result.json").unlink()
    (folder / "checkpoints" / checkpoint.file_name(40)).write_bytes(b"torn")
    said = io.StringIO()
    config, _ = configuration.configure(study, "greedy", "quick", SCHEDULE)
    driver.run(study, "greedy", "quick", config, (3, 5), folder, console=Console(file=said))
    assert "step-00000040.safetensors is truncated or damaged" in said.getvalue()
    assert "going on from step-00000032.safetensors instead" in said.getvalue()
    assert_same_run(folder, undisturbed)


def test_a_checkpoint_that_does_not_fit_the_program_is_refused_by_array(undisturbed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    (folder / "result.json").unlink()
    path = folder / "checkpoints" / checkpoint.file_name(40)
    found = checkpoint.load(path)
    del found.arrays["pulls"]
    checkpoint.save(path, found.arrays, step=40, seeds=found.seeds, config_hash=found.config_hash, extra=found.extra)
    with pytest.raises(BadInput, match=r"checkpoint .*step-00000040\.safetensors does not fit this program: pulls"):
        go(folder)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"^cannot write .*/file/run: Not a directory$"):
        go(tmp_path / "file" / "run")


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1,), (2**32,), (0.5,), (True,)])
def test_impossible_seeds_are_refused(tmp_path: Path, seeds: tuple) -> None:
    with pytest.raises(BadInput, match="seed"):
        go(tmp_path / "run", seeds=seeds)
    assert not (tmp_path / "run").exists()


def test_an_unknown_best_figure_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"best_figure = 'regert': must be one of .*; did you mean 'regret'"):
        go(tmp_path / "run", schedule__best_figure="regert")


# When things fall due.


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 30))
def test_falling_due_is_rounding_up_to_whole_chunks(num_chunks: int, chunk: int, every: int) -> None:
    multiples = range(every, num_chunks * chunk + 1, every) if every else []
    expected = {-(-multiple // chunk) * chunk for multiple in multiples}
    steps = range(chunk, num_chunks * chunk + 1, chunk)
    assert {step for step in steps if driver.falls_due(every, step, chunk)} == expected


def test_a_run_is_a_whole_number_of_chunks() -> None:
    assert driver.chunk_size(Schedule(num_updates=30, log_every=10)) == 10
    assert driver.chunk_size(Schedule(num_updates=7, log_every=10)) == 7
    with pytest.raises(BadInput, match=r"num_updates = 37: must be a multiple of .*log_every = 10.* 30 or 40"):
        driver.chunk_size(Schedule(num_updates=37, log_every=10))
