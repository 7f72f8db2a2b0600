"""The run folder: what is written is valid JSON that reads back exactly, and half a line never counts."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic, record
from tutelage.lab.storage.lines import Lines
from tutelage.lab.storage.record import RunFolder
from tutelage.lab.study import Exhibit

ASKED = {"study": "minimax", "arm": "dr", "preset": "quick", "overrides": {}, "seeds": [0], "config": {}}


def lines(folder: Path, *, evaluation: bool = True) -> list[dict]:
    """Metrics at 10, 20, 30 and evaluations at 20, 30 of two seeds, written to `metrics.jsonl`."""
    records = []
    for step in (10, 20, 30):
        kinds = ("metrics", "evaluation") if evaluation and step > 10 else ("metrics",)
        records += [{"kind": kind, "seed": s, "step": step, "x": step + 0.1 * s} for kind in kinds for s in (0, 1)]
    file = Lines(folder / "metrics.jsonl")
    file.write(records)
    file.close()
    return records


@given(st.dictionaries(st.text(), st.floats() | st.integers() | st.booleans() | st.none() | st.text()))
def test_plain_is_strict_json_and_keeps_finite_numbers_exactly(value: dict) -> None:
    back = json.loads(json.dumps(atomic.plain(value), allow_nan=False))
    for name, item in value.items():
        finite = not isinstance(item, float) or np.isfinite(item)
        assert back[name] == (item if finite else repr(item))


def test_plain_knows_numpy() -> None:
    value = {"a": np.float32(0.5), "b": np.arange(2), "c": (np.bool_(True), np.inf), 3: np.int64(4)}
    assert atomic.plain(value) == {"a": 0.5, "b": [0, 1], "c": [True, "inf"], "3": 4}


def test_results_of_an_unfinished_run_are_what_there_is(tmp_path: Path) -> None:
    lines(tmp_path)
    atomic.write_json(tmp_path / "config.json", ASKED | {"seeds": [0, 1]})
    first, second = record.read_results(tmp_path)
    assert (first.arm, first.seed, second.seed) == ("dr", 0, 1)
    assert second.figures == {"x": 30.1}
    steps, values = second.series["metrics", "x"]
    assert steps.tolist() == [10, 20, 30]
    assert values.tolist() == [10.1, 20.1, 30.1]
    assert first.series["evaluation", "x"][0].tolist() == [20, 30]
    assert first.cost == {}


def test_results_of_a_finished_run_are_its_result_file(tmp_path: Path) -> None:
    lines(tmp_path)
    atomic.write_json(tmp_path / "config.json", ASKED)
    result = {"figures": {"0": {"x": 9.0}}, "wall_seconds": 2.5, "work_per_second": {"unit": "steps", "value": 7.0}}
    record.write_result(RunFolder(tmp_path), result | {"step": 30, "finished": True})
    (only,) = record.read_results(tmp_path)
    assert only.figures == {"x": 9.0}
    assert only.cost == {"wall_seconds": 2.5, "work_per_second": 7.0}


@pytest.mark.parametrize(("text", "complaint"), [("{", "is not JSON"), ("[]", "is not a JSON object")])
def test_damaged_files_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=rf"config\.json {complaint}; put the file back, or start over in another"):
        RunFolder(tmp_path).config()
    with pytest.raises(BadInput, match=r"cannot read .*result\.json: No such file"):
        RunFolder(tmp_path).result()


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "metrics", "seed": 0}',
        '{"kind": "x", "seed": 0, "step": 1}',
        '{"kind": "metrics", "seed": 0, "step": 1.5}',
        *(json.dumps({"kind": "metrics", "seed": 0, "step": 1, "x": value}) for value in ("word", None, [1], {})),
    ],
)
def test_what_is_no_record_of_metrics_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "evaluation", "seed": 0, "step": 1, "x": "nan"}\n' + line + "\n")
    with pytest.raises(BadInput, match=r"^line 2 of .*metrics\.jsonl is no record of metrics; mend the line or remove"):
        list(RunFolder(tmp_path).metrics())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        *(({name: 3}, f"{name} = 3: not what a run folder holds") for name in ASKED),
        ({"seeds": []}, r"seeds = \[\]: must be whole numbers, at least one"),
        ({"seeds": [True]}, r"seeds = \[True\]: must be whole numbers, at least one"),
    ],
)
def test_a_configuration_that_no_run_wrote_is_named(tmp_path: Path, change: dict, complaint: str) -> None:
    atomic.write_json(tmp_path / "config.json", ASKED | change)
    with pytest.raises(BadInput, match=rf"config\.json: {complaint}"):
        RunFolder(tmp_path).config()
    assert RunFolder(tmp_path).standing().word == "damaged"


def test_exhibits_are_written_by_name(tmp_path: Path) -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    exhibits = [
        Exhibit("walk", "Walk", "How it walks.", svg=svg),
        Exhibit("best-levels", "Levels", "The best.", rows=(("level", "score"), ("1", "0.5"))),
    ]
    record.write_exhibits(tmp_path, exhibits)
    index = json.loads((tmp_path / "index.json").read_text())
    assert [(entry["name"], entry["file"]) for entry in index] == [
        ("walk", "walk.svg"),
        ("best-levels", "best-levels.json"),
    ]
    assert (tmp_path / "walk.svg").read_text() == svg
    assert json.loads((tmp_path / "best-levels.json").read_text()) == [["level", "score"], ["1", "0.5"]]


@pytest.mark.parametrize(
    "exhibit",
    [Exhibit("../x", "", "", svg="<svg/>"), Exhibit("x", "", ""), Exhibit("x", "", "", svg="<svg/>", rows=(("a",),))],
)
def test_exhibits_out_of_place_are_refused(tmp_path: Path, exhibit: Exhibit) -> None:
    with pytest.raises(BadInput, match="exhibit"):
        record.write_exhibits(tmp_path, [exhibit])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    atomic.write_json(path, {"old": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match=r"^cannot write .*result\.json: No space left on device$"):
        atomic.write_json(path, {"new": 2})
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
    assert json.loads(path.read_text()) == {"old": 1}


def test_versions_name_what_made_the_run() -> None:
    versions = record.versions()
    assert versions["numpy"] == np.__version__
    assert {"python", "tutelage", "jax", "platform"} <= versions.keys()
