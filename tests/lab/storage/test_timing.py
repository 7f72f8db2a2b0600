"""What a run took, by session: sums over sessions, and lines that cannot be read cost their times only."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tutelage.lab.storage.timing import Timing

WHOLE = {"session": 1, "step": 8, "updates": 8, "wall_seconds": 5.0, "compile_seconds": 1.0, "update_seconds": 2.0}
WHOLE |= {"peak_memory_bytes": 10, "peak_device_bytes": 0}


def session(path: Path, step: int, updates: int) -> Timing:
    timing = Timing(path, step, time.monotonic())
    timing.write(step + updates, updates=updates, update_seconds=2.0, compile_seconds=0.5, peak_device_bytes=7)
    timing.close()
    return timing


def test_costs_are_sums_and_peaks_over_the_last_lines_of_all_sessions(tmp_path: Path) -> None:
    path = tmp_path / "timing.jsonl"
    path.write_text("".join(json.dumps(WHOLE | {"step": step, "updates": step}) + "\n" for step in (4, 8)))
    timing = session(path, 8, 4)
    cost = timing.cost("pulls", 3.0)
    assert timing.notes == []
    assert cost["compile_seconds"] == 1.5
    assert cost["updates_per_second"] == (8 + 4) / 4.0
    assert cost["work_per_second"] == {"unit": "pulls", "value": 9.0}
    assert cost["wall_seconds"] >= 5.0
    assert cost["peak_device_memory_bytes"] == 7


@pytest.mark.parametrize(
    "line", ["", "{}", *(json.dumps(WHOLE | change) for change in ({"step": "8"}, {"wall_seconds": None}))]
)
def test_a_line_that_cannot_be_read_is_dropped_and_said(tmp_path: Path, line: str) -> None:
    path = tmp_path / "timing.jsonl"
    path.write_text(f"{line}\n{json.dumps(WHOLE)}\n")
    timing = session(path, 8, 4)
    assert timing.notes == [f"{path}: 1 line could not be read; what they say is not counted in the costs"]
    assert timing.cost("pulls", 1.0)["compile_seconds"] == 1.5


def test_a_file_that_ends_before_the_checkpoint_is_said(tmp_path: Path) -> None:
    path = tmp_path / "timing.jsonl"
    assert session(path, 0, 4).notes == []
    assert session(path, 8, 4).notes == [f"{path} does not reach update 8; the time up to there is not all counted"]
