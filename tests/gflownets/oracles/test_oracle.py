"""An oracle asks once, keeps the order and what was scored, and names the objects that fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.oracles.oracle import Counts, Oracle, OracleError
from tutelage.gflownets.oracles.own import own_objectives
from tutelage.lab.errors import BadInput


def _rows(*numbers: int) -> np.ndarray:
    return np.array([[number, 2 * number, 0] for number in numbers], np.int32)


class _Function:
    """Two rewards of a row's first number; records what it was asked for, and fails where told."""

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.bad, self.batches = bad, []

    def __call__(self, objects: np.ndarray) -> np.ndarray:
        numbers = [int(row[0]) for row in objects]
        self.batches.append(numbers)
        if found := [number for number in numbers if number in self.bad]:
            raise RuntimeError(f"cannot do {found[0]}")
        return np.array([[number / 100, 1 - number / 100] for number in numbers])


def _oracle(function, **options) -> Oracle:
    return Oracle(Objectives(("up", "down"), function, on_host=True), **options)


def test_duplicates_are_asked_once_and_the_order_is_kept():
    function = _Function()
    oracle = _oracle(function)
    rewards = oracle(_rows(3, 1, 3, 2, 1))
    assert function.batches == [[3, 1, 2]]
    np.testing.assert_allclose(rewards[:, 0], [0.03, 0.01, 0.03, 0.02, 0.01], rtol=1e-6)
    assert rewards.dtype == np.float32
    np.testing.assert_array_equal(oracle(_rows(2, 5)), np.array([[0.02, 0.98], [0.05, 0.95]], np.float32))
    assert function.batches == [[3, 1, 2], [5]]
    assert oracle.counts == Counts(asked=7, hits=3, scored=4, calls=2)


def test_objects_of_one_sum_or_other_shape_are_different_objects():
    function = _Function()
    oracle = _oracle(function)
    oracle(np.array([[1, 0], [0, 1]], np.int32))
    oracle(np.array([[1, 0, 0]], np.int32))
    assert oracle.counts.scored == 3


def test_an_oracle_is_asked_in_batches_and_nothing_for_nothing():
    function = _Function()
    oracle = _oracle(function, batch_size=2)
    oracle(_rows(1, 2, 3, 4, 5))
    assert [len(batch) for batch in function.batches] == [2, 2, 1]
    assert oracle(_rows().reshape(0, 3)).shape == (0, 2)
    assert oracle.counts.calls == 3


def test_failing_objects_are_named_and_the_others_kept(tmp_path: Path):
    function = _Function(bad=(7, 12))
    oracle = _oracle(function, cache=tmp_path / "scores.jsonl")
    with pytest.raises(OracleError) as caught:
        oracle(_rows(*range(16)))
    assert [row[0] for row in caught.value.objects] == [7, 12]
    text = str(caught.value)
    assert "failed at 2 of 16 objects" in text and "cannot do 7" in text and "[ 7 14  0]" in text
    assert "test_oracle.py, line" in text and "\n" not in text
    assert oracle.counts.scored == 14
    oracle.close()
    # The next run has the fourteen, and asks for the two alone.
    mended = _Function()
    with _oracle(mended, cache=tmp_path / "scores.jsonl") as again:
        again(_rows(*range(16)))
    assert mended.batches == [[7, 12]]


def test_of_many_failing_objects_a_few_are_looked_for():
    function = _Function(bad=tuple(range(64)))
    with pytest.raises(OracleError, match="at least 3 of 64"):
        _oracle(function)(_rows(*range(64)))
    assert len(function.batches) < 20


def test_a_failure_that_passes_costs_nothing():
    calls = []

    def shaky(objects: np.ndarray) -> np.ndarray:
        calls.append(len(objects))
        if len(calls) == 1:
            raise MemoryError("too many at once")
        return np.full((len(objects), 2), 0.5)

    assert _oracle(shaky)(_rows(1, 2, 3, 4)).shape == (4, 2)
    assert calls == [4, 2, 2]


def test_a_wrong_shape_says_both_shapes_and_finds_who_is_missing():
    def drops_nine(objects: np.ndarray) -> list:
        return [[0.1, 0.2] for row in objects if row[0] != 9]

    with pytest.raises(
        OracleError, match=r"failed at 1 of 8 objects \(\[ 9 18  0\]\).*shape \(0,\) for 1 objects.*\(1, 2\)"
    ):
        _oracle(drops_nine)(_rows(*range(4, 12)))
    with pytest.raises(OracleError, match=r"shape \(1, 3\) for 1 objects; must be \(1, 2\)"):
        _oracle(lambda objects: np.zeros((len(objects), 3)))(_rows(1, 2))
    with pytest.raises(OracleError, match=r"TypeError|ValueError"):
        _oracle(lambda objects: None)(_rows(1, 2))


@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (-0.25, r"-0\.25"), (1.5, r"1\.5"), (np.inf, "inf")])
def test_a_reward_that_is_none_is_refused_by_objective_and_number(value: float, text: str):
    def wrong(objects: np.ndarray) -> np.ndarray:
        return np.array([[0.5, value if row[0] > 1 else 0.5] for row in objects])

    with pytest.raises(BadInput, match=rf"objective 'down': 2 of 3 rewards are outside \[0, 1\], the first {text}"):
        _oracle(wrong)(_rows(1, 2, 3))


def test_a_value_that_is_no_number_is_asked_for_again_and_never_kept(tmp_path: Path):
    answers = [np.nan, 0.5]
    oracle = _oracle(lambda objects: [[answers.pop(0), 0.5]], cache=tmp_path / "scores.jsonl")
    with pytest.raises(BadInput, match="objective 'up'"):
        oracle(_rows(1))
    assert (tmp_path / "scores.jsonl").read_text().count("\n") == 1
    assert oracle(_rows(1))[0, 0] == 0.5
    oracle.close()


def test_an_objective_may_declare_a_larger_bound():
    objectives = Objectives(("seh",), lambda rows: np.full((len(rows), 1), 1.7), on_host=True, upper=(100.0,))
    assert Oracle(objectives)(_rows(1))[0, 0] == np.float32(1.7)


def test_new_bounds_need_no_new_measurements(tmp_path: Path):
    path, asked = tmp_path / "scores.jsonl", []

    def size(objects: list) -> list:
        asked.extend(objects)
        return [float(row[0]) for row in objects]

    def objectives(high: float) -> Objectives:
        return own_objectives({"size": size}, minimise={"size": (0, high)})

    with (
        Oracle(objectives(10), cache=path) as first,
        pytest.raises(
            BadInput, match=r"objective 'size': 1 of 2 values are outside \[0, 10\], the first 12 of 12 24 0"
        ),
    ):
        first(_rows(5, 12))
    with Oracle(objectives(20), cache=path) as second:
        np.testing.assert_allclose(second(_rows(5, 12))[:, 0], [0.75, 0.4], rtol=1e-6)
    assert len(asked) == 2


def test_a_cache_of_other_objectives_or_identity_is_refused(tmp_path: Path):
    path = tmp_path / "scores.jsonl"
    with _oracle(_Function(), cache=path, identity="v1"):
        pass
    with pytest.raises(BadInput, match="has identity = 'v1', the oracle 'v2'"):
        _oracle(_Function(), cache=path, identity="v2")
    with pytest.raises(BadInput, match="has names"):
        Oracle(Objectives(("a",), _Function(), on_host=True), cache=path, identity="v1")
    _oracle(_Function(), cache=path, identity="v1").close()


def test_two_oracles_cannot_write_one_file(tmp_path: Path):
    path = tmp_path / "scores.jsonl"
    first = _oracle(_Function(), cache=path)
    with pytest.raises(BadInput, match="is in use by another oracle"):
        _oracle(_Function(), cache=path)
    first.close()
    _oracle(_Function(), cache=path).close()


def test_a_torn_last_line_is_cut_off_and_the_rest_stands(tmp_path: Path):
    path = tmp_path / "scores.jsonl"
    with _oracle(_Function(), cache=path) as oracle:
        oracle(_rows(1, 2, 3))
    whole = path.read_bytes()
    for cut in (1, 7, 20):
        path.write_bytes(whole[:-cut])
        function = _Function()
        with _oracle(function, cache=path) as healed:
            np.testing.assert_allclose(healed(_rows(1, 2, 3))[:, 0], [0.01, 0.02, 0.03], rtol=1e-6)
        assert function.batches == [[3]]
        assert path.read_bytes() == whole


def test_a_damaged_line_is_named(tmp_path: Path):
    path = tmp_path / "scores.jsonl"
    with _oracle(_Function(), cache=path) as oracle:
        oracle(_rows(1, 2))
    lines = path.read_text().splitlines()
    lines[1] = json.dumps({"object": [1, 2, 0], "text": "", "values": [0.5]})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadInput, match=r"line 2 of .*scores.jsonl is no score"):
        _oracle(_Function(), cache=path)


_KILLED = """
import sys, time
import numpy as np
from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.oracles.oracle import Oracle

def slow(objects):
    time.sleep(0.002)
    return np.array([[row[0] / 1e6, 0.5] for row in objects])

oracle = Oracle(Objectives(("up", "down"), slow, on_host=True), cache=sys.argv[1])
for number in range(10**6):
    oracle(np.array([[number, 0, 0]], np.int32))
    if number == 20:
        print("on", flush=True)
"""


def test_a_killed_run_finds_what_it_scored(tmp_path: Path):
    path = tmp_path / "scores.jsonl"
    environment = {**os.environ, "PYTHONPATH": "src"}
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "on\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    function = _Function()
    with _oracle(function, cache=path) as oracle:
        rewards = oracle(np.array([[number, 0, 0] for number in range(21)], np.int32))
    assert function.batches == []
    np.testing.assert_allclose(rewards[:, 0], np.arange(21) / 1e6, rtol=1e-6)
