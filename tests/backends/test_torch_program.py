"""The PyTorch backend: a chunk is the same updates one by one, reduced by hand; a run goes on to the same bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backends.toy_torch_study import study
from killing import assert_same_run, command, run_to_end, run_with_kills

from tutelage import studies
from tutelage.backends.torch_program import TorchProgram, torch_program
from tutelage.lab import configuration, driver
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Last, Max, Program, Sometimes, Sum
from tutelage.lab.storage.record import RunFolder
from tutelage.studies.loading import load_run

SCHEDULE = {
    "schedule.num_updates": 24,
    "schedule.log_every": 4,
    "schedule.evaluate_every": 8,
    "schedule.checkpoint_every": 4,
}


def fit(seeds: tuple[int, ...] = (2, 9), **changes: Any) -> TorchProgram:
    config, _ = configuration.configure(study, "fit", "quick", changes)
    return study.program(config, seeds)


def go(folder: Path, seeds: tuple[int, ...] = (2, 9), build: Any = study.build, **changes: Any) -> None:
    config, _ = configuration.configure(study, "fit", "quick", SCHEDULE | changes)
    driver.run(dataclasses.replace(study, build=build), "fit", "quick", config, seeds, folder, quiet=True)


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


class Counter:
    """A system whose state is a count, and whose verbs are given."""

    def __init__(self, metrics: Any = lambda n: {}, figures: Any = lambda n, final: {}) -> None:
        self.metrics, self.figures = metrics, figures

    def init(self) -> dict[str, Any]:
        return {"n": torch.tensor(0.0)}

    def update(self, state: dict[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        state["n"] += 1
        return state, self.metrics(state["n"])

    def evaluate(self, state: dict[str, Any], step: int, final: bool) -> Mapping[str, Any]:
        return self.figures(state["n"], final)


def counter(*verbs: Any, seeds: tuple[int, ...] = (0,)) -> TorchProgram:
    return torch_program(lambda seed, folder: Counter(*verbs), seeds=seeds)


# The three verbs.


def test_it_is_a_program() -> None:
    assert isinstance(fit(), Program)
    assert fit().compiles is False
    assert fit().compile_seconds == 0
    assert fit().device().startswith("CPU, 1 of ")
    assert fit().peak_device_bytes() == 0


def test_metrics_of_a_chunk_by_hand() -> None:
    """n counts 1, 2, 3, 4; the tensor itself is a metric although the next update changes it."""

    def metrics(n: torch.Tensor) -> dict[str, Any]:
        odd = float(n) if n % 2 else float("nan")
        found = {"mean": n, "last": Last(n), "sum": Sum(n), "max": Max(-n), "odd": Sometimes(odd), "broken": odd}
        found |= {"never": Sometimes(float("nan")), "flag": n > 2, "array": n[None]}
        return found | ({"late": int(n)} if n > 2 else {})

    program = counter(metrics)
    state, fetch = program.update(program.init(), 4)
    (figures,) = fetch()
    figures = dict(figures)
    assert np.isnan(figures.pop("broken"))
    expected = {"mean": 2.5, "last": 4.0, "sum": 10.0, "max": -1.0, "odd": 2.0, "flag": 0.5, "array": 2.5, "late": 3.5}
    assert figures == expected
    assert all(type(value) is float for value in figures.values())
    _, fetch = program.update(state, 4)
    assert fetch()[0]["sum"] == 5 + 6 + 7 + 8


def test_nan_is_never_lost_in_a_chunk() -> None:
    values = iter([1.0, float("nan"), 2.0])

    def metrics(n: torch.Tensor) -> dict[str, Any]:
        value = next(values)
        return {"mean": value, "sum": Sum(value), "max": Max(value)}

    program = counter(metrics)
    (figures,) = program.update(program.init(), 3)[1]()
    assert all(np.isnan(value) for value in figures.values())


def test_metrics_and_figures_must_be_single_numbers() -> None:
    program = counter(lambda n: {"ok": 1, "returns": Last(torch.zeros(3))})
    with pytest.raises(TypeError, match=r"'returns' has shape \(3,\): must be one number"):
        program.update(program.init(), 1)
    program = counter(lambda n: {}, lambda n, final: {"words": "many"})
    with pytest.raises(TypeError, match="'words' is 'many': must be one number"):
        program.evaluate(program.init(), 0)


def test_the_final_evaluation_is_marked() -> None:
    program = counter(lambda n: {}, lambda n, final: {"final": final, "none": Sometimes(float("nan"))})
    state = program.init()
    assert program.evaluate(state, 1) == [{"final": 0.0}]
    assert program.evaluate(state, 2, final=True) == [{"final": 1.0}]


def test_chunks_are_the_same_updates_one_by_one() -> None:
    chunked, single = fit(), fit()
    one, _ = chunked.update(chunked.init(), 6)
    other = single.init()
    for _ in range(6):
        other, _ = single.update(other, 1)
    assert same(chunked.save(one), single.save(other))


def test_seeds_together_are_runs_of_their_own_bit_for_bit() -> None:
    together = fit(seeds=(2, 9))
    state, fetch = together.update(together.init(), 6)
    both, figures, evaluated = together.save(state), fetch(), together.evaluate(state, 6)
    for row, seed in enumerate((2, 9)):
        alone = fit(seeds=(seed,))
        state, fetch = alone.update(alone.init(), 6)
        assert same(
            alone.save(state), {name: array for name, array in both.items() if name.startswith(f"seed-{seed}/")}
        )
        assert fetch() == [figures[row]]
        assert alone.evaluate(state, 6) == [evaluated[row]]
    assert figures[0] != figures[1]


def test_pytorchs_generators_are_seeded_inside_and_untouched_outside() -> None:
    program = counter(lambda n: {}, lambda n, final: {"u": torch.rand(())}, seeds=(3, 4))
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    state = program.init()
    assert torch.rand(()) == expected[0]
    first = program.evaluate(state, 10)
    assert torch.rand(()) == expected[1]
    assert first == program.evaluate(state, 10)
    assert len({figures["u"] for figures in first + program.evaluate(state, 11)}) == 4


def test_one_thread_inside_and_as_before_outside() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        threads = lambda *_: {"threads": torch.get_num_threads()}  # noqa: E731
        program = counter(threads, threads)
        state, fetch = program.update(program.init(), 1)
        assert (fetch(), program.evaluate(state, 1)) == ([{"threads": 1.0}], [{"threads": 1.0}])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_systems_are_built_once_when_first_needed_with_the_runs_folder(tmp_path: Path) -> None:
    built: list[tuple[int, Path | None]] = []

    def make(seed: int, folder: Path | None) -> Counter:
        built.append((seed, folder))
        return Counter()

    program = torch_program(make, seeds=(3, 4))
    program.attach(tmp_path)
    assert built == []
    state, _ = program.update(program.init(), 1)
    program.evaluate(state, 1)
    assert built == [(3, tmp_path), (4, tmp_path)]
    assert program.system(1) is program.system(1)
    torch_program(make, seeds=(5,)).init()
    assert built[-1] == (5, None)


def test_a_device_that_is_not_here_is_refused() -> None:
    for name in ("gpu", "cuda:99"):
        with pytest.raises(BadInput, match=f"device = '{name}': cannot be used here"):
            torch_program(lambda seed, folder: Counter(), seeds=(0,), device=name)


# The state on disk.


def test_save_and_load_are_inverse_and_names_are_paths() -> None:
    program = fit()
    state, _ = program.update(program.init(), 3)
    arrays = program.save(state)
    assert {"seed-2/model/1.weight", "seed-9/optimizer/state/0/exp_avg", "seed-2/outline.json"} <= set(arrays)
    fresh = fit()
    loaded = fresh.load(arrays)
    assert same(fresh.save(loaded), arrays)
    assert fresh.seed_state(loaded, 1)["step"] == 3
    (one, _), (other, _) = program.update(state, 3), fresh.update(loaded, 3)
    assert same(program.save(one), fresh.save(other))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda arrays: arrays.pop("seed-9/n"), "seed-9: .* array 'n' is missing"),
        (lambda arrays: arrays.update({"seed-2/m": np.zeros(1)}), "seed-2: .* array 'm' is no part of it"),
        (lambda arrays: arrays.update({"seed-3/n": np.zeros(1)}), "array 'seed-3/n' is not part of this program's"),
        (lambda arrays: [arrays.pop(name) for name in list(arrays) if name < "seed-9"], "seed-2: .*outline"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(change: Any, complaint: str) -> None:
    program = counter(seeds=(2, 9))
    arrays = program.save(program.init())
    change(arrays)
    with pytest.raises(BadInput, match=complaint):
        program.load(arrays)


# Under the driver.


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    go(folder)
    return folder


def test_a_crash_in_any_update_goes_on_to_the_same_files_and_draws_nothing_again(
    undisturbed: Path, tmp_path: Path
) -> None:
    programs: list[TorchProgram] = []

    def build(config: Any, seeds: Any, crash: int = -1) -> TorchProgram:
        program = study.program(config, seeds)
        update, calls = program.update, iter(range(100))

        def crashing(state: Any, num_updates: int) -> Any:
            if next(calls) == crash:
                update(state, 2)  # half-way through the chunk
                raise KeyboardInterrupt
            return update(state, num_updates)

        program.update = crashing
        programs.append(program)
        return program

    for crash in (0, 1, 5):
        folder = tmp_path / str(crash)
        with pytest.raises(KeyboardInterrupt):
            go(folder, build=lambda config, seeds, crash=crash: build(config, seeds, crash))
        go(folder, build=build)
        assert_same_run(folder, undisturbed)
        drawn = [program.system(0).drawn for program in programs[-2:]]  # type: ignore[attr-defined]
        assert sum(drawn) == 24


def test_evaluation_off_or_doubled_leaves_training_alone(undisturbed: Path, tmp_path: Path) -> None:
    for every in (0, 4):
        go(tmp_path / str(every), **{"schedule.evaluate_every": every})
        checkpoints = [
            folder / "checkpoints/step-00000024.safetensors" for folder in (tmp_path / str(every), undisturbed)
        ]
        arrays = [driver.checkpoint.load(path).arrays for path in checkpoints]
        assert same(*arrays)
        figures = [RunFolder(folder).result()["figures"] for folder in (tmp_path / str(every), undisturbed)]
        assert figures[0] == figures[1]


def test_a_run_is_loaded_and_repeated_from_its_folder_alone(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "STUDIES", {"line": "backends.toy_torch_study"})
    run = load_run(undisturbed)
    assert run.step == 24
    assert run.program.system(0).folder is None  # type: ignore[attr-defined]
    figures = run.program.evaluate(run.state, 24, final=True)
    assert {str(seed): of_seed for seed, of_seed in zip((2, 9), figures)} == RunFolder(undisturbed).result()["figures"]
    asked = RunFolder(undisturbed).config()
    config = configuration.from_json(study.config, asked["config"])
    driver.run(study, asked["arm"], asked["preset"], config, asked["seeds"], tmp_path / "again", quiet=True)
    assert_same_run(tmp_path / "again", undisturbed)


def test_nan_stops_the_run_and_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(driver.Diverged, match=r"'loss' of seed 2 is nan at update 12; .*step-00000008"):
        go(tmp_path / "run", poison_at=10)


def test_killed_and_resumed_is_identical(tmp_path: Path) -> None:
    kill(tmp_path, kills=1, seed=0)


@pytest.mark.slow
def test_killed_many_times_and_resumed_is_identical(tmp_path: Path) -> None:
    kill(tmp_path, kills=6, seed=1)


def kill(tmp_path: Path, *, kills: int, seed: int) -> None:
    changes = {"schedule.log_every": 4, "schedule.checkpoint_every": 40, "schedule.evaluate_every": 100}
    changes |= {"schedule.num_updates": 400 * kills}
    words = [command("backends.toy_torch_study", "fit", "quick", [2, 9], tmp_path / name, changes) for name in "ab"]
    run_to_end(words[0])
    run_with_kills(words[1], tmp_path / "b", kills=kills, seed=seed, longest=0.3)
    assert_same_run(tmp_path / "a", tmp_path / "b")
