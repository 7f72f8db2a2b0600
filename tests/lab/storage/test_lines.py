"""Files of JSON lines: half a line never counts, and what something else vouches for is known byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.lab.errors import BadInput
from tutelage.lab.storage.lines import Extent, Lines, cut, keep_readable, read_lines

RECORDS = [{"step": step, "x": step + 0.1} for step in (10, 20, 30)]


def written(path: Path, records: list[dict] = RECORDS) -> Extent:
    file = Lines(path)
    file.write(records)
    file.close()
    return file.extent


def test_a_line_still_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    written(path)
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        assert list(read_lines(path)) == RECORDS[: sum(end <= length for end in ends)]


def test_appending_first_cuts_a_torn_line_away(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    written(path)
    with path.open("ab") as file:
        file.write(b'{"kind": "metr')
    extent = written(path, [{"step": 40}])
    assert list(read_lines(path)) == [*RECORDS, {"step": 40}]
    assert extent == written(tmp_path / "b.jsonl", [*RECORDS, {"step": 40}])


@pytest.mark.parametrize("line", ["", " ", '{"step', "[]", "3", "\xff", "[" * 100_000])
def test_a_broken_line_is_refused_by_number_wherever_it_stands(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line.encode("latin-1") + b'\n{"step": 3}\n')
    for read in (lambda: list(read_lines(path)), lambda: Lines(path)):
        with pytest.raises(BadInput, match=r"^line 2 of .*a\.jsonl is no JSON object; mend the line or remove it$"):
            read()
    assert keep_readable(path, lambda record: record["step"] < 3) == 2
    assert path.read_text() == '{"step": 1}\n'
    assert keep_readable(path, lambda record: True) == 0


@given(st.data())
def test_an_extent_knows_whether_all_of_it_is_there(tmp_path_factory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("extent") / "a.jsonl"
    reached = [written(path, [record]) for record in RECORDS]
    whole = path.read_bytes()
    assert Extent.read(json.loads(json.dumps(reached[-1]))) == reached[-1]
    place, length = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 9))
    blank = data.draw(st.sampled_from([b"", b" " * length, b"\n" * length]))
    damaged = whole[:place] + blank + (whole[place + len(blank) :] if blank else b"")
    path.write_bytes(damaged)
    for number, extent in enumerate(reached, 1):
        problem = extent.missing(path)
        assert (problem is None) == damaged.startswith(whole[: extent.size])
        if not blank and problem:
            there = damaged.count(b"\n")
            assert problem == f"{there} of its {number} lines are there"


def test_no_file_holds_no_lines(tmp_path: Path) -> None:
    empty = Extent(0, 0, written(tmp_path / "empty.jsonl", []).sha256)
    assert empty.missing(tmp_path / "none") is None
    assert Extent(2, 5, "").missing(tmp_path / "none") == "0 of its 2 lines are there"
    assert list(read_lines(tmp_path / "none")) == []
    cut(tmp_path / "none", 0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("value", [None, 3, [], [1, 2], [1, 2, 3], [1.0, 2, ""], [True, 2, ""], [-1, 2, ""], {"a": 1}])
def test_what_is_no_extent_is_none(value: object) -> None:
    assert Extent.read(value) is None


def test_appending_to_a_full_device_is_one_line() -> None:
    file = Lines(Path("/dev/full"))
    with pytest.raises(BadInput, match=r"^cannot write /dev/full: No space left on device$"):
        file.write([{"step": 1}])
    file.close()
