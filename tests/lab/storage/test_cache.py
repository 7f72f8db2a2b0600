"""The cache: made once however many want it, whole or not there, and made again where it was damaged."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import environment

from tutelage.lab.errors import BadInput
from tutelage.lab.storage.cache import cache_folder, made

IDENTITY = hashlib.sha256(b"some settings").hexdigest()


class Maker:
    """Writes a file in a subfolder and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0
        self.said: list[str] = []

    def __call__(self, folder: Path) -> None:
        assert list(folder.iterdir()) == []
        self.calls += 1
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(b"0123456789")

    def made(self, folder: Path, identity: str = IDENTITY) -> Path:
        return made(folder, identity, self, self.said.append)


def test_where_caches_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("TUTELAGE_CACHE", raising=False)
    assert cache_folder("bases") == tmp_path / "home" / ".cache" / "tutelage" / "bases"
    assert (tmp_path / "home" / ".cache" / "tutelage" / "bases").is_dir()
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "mine"))
    assert cache_folder("bases") == tmp_path / "mine" / "bases"
    monkeypatch.setenv("TUTELAGE_CACHE", "off")
    assert cache_folder("bases") is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "file"))
    assert cache_folder("bases") is None


def test_a_thing_is_made_once_and_then_found(tmp_path: Path) -> None:
    maker = Maker()
    first = maker.made(tmp_path / "bases")
    assert first == tmp_path / "bases" / IDENTITY[:16]
    assert (first / "model" / "weights").read_bytes() == b"0123456789"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert maker.made(tmp_path / "bases") == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    other = maker.made(tmp_path / "bases", hashlib.sha256(b"other settings").hexdigest())
    assert (maker.calls, maker.said, other != first) == (2, [], True)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda target: (target / "model" / "weights").write_bytes(b"0123456780"), "model/weights is not as it was"),
        (lambda target: (target / "model" / "weights").write_bytes(b"01234"), "model/weights is not as it was made"),
        (lambda target: (target / "model" / "weights").unlink(), "model/weights is not as it was made"),
        (lambda target: (target / "made.json").write_text("{"), "no readable record"),
        (lambda target: (target / "made.json").write_text('{"identity": "x", "files": {}}'), "from something else"),
        (lambda target: (target / "made.json").write_text('{"identity": "x", "files": 3}'), "no readable record"),
        (lambda target: shutil.rmtree(target) or target.write_text("a file"), "no readable record"),
    ],
)
def test_what_is_damaged_is_made_again_and_said(tmp_path: Path, damage, reason: str) -> None:
    maker = Maker()
    target = maker.made(tmp_path)
    damage(target)
    assert maker.made(tmp_path) == target
    assert (target / "model" / "weights").read_bytes() == b"0123456789"
    (said,) = maker.said
    assert said.startswith(str(target))
    assert reason in said
    assert maker.made(tmp_path) == target
    assert maker.calls == 2


def test_what_fails_half_way_is_not_there(tmp_path: Path) -> None:
    def breaking(folder: Path) -> None:
        (folder / "weights").write_bytes(b"01")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        made(tmp_path, IDENTITY, breaking)
    assert not (tmp_path / IDENTITY[:16]).exists()
    maker = Maker()
    assert [path.name for path in maker.made(tmp_path).iterdir() if path.name != "made.json"] == ["model"]


def test_the_folder_to_fill_has_the_same_name_every_time_so_that_a_maker_can_go_on(tmp_path: Path) -> None:
    names = []

    def halfway(folder: Path) -> None:
        names.append(folder)
        note = folder.with_name(f".half-{folder.name}")
        if not note.exists():
            note.write_text("1")
            raise KeyboardInterrupt
        (folder / "weights").write_text("2")

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, IDENTITY, halfway)
    made(tmp_path, IDENTITY, halfway)
    assert names[0] == names[1]


SCRIPT = """
import pathlib, sys, time
from tutelage.lab.storage.cache import made
folder, identity, gate = map(pathlib.Path, sys.argv[1:4])

def make(target):
    (target / "weights").write_text("half")
    with (folder / "log").open("a") as log:
        log.write("making\\n")
    while not gate.exists():
        time.sleep(0.01)
    (target / "weights").write_text("whole")

print((made(folder, str(identity), make) / "weights").read_text())
"""


def start(folder: Path, gate: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SCRIPT, str(folder), IDENTITY, str(gate)]
    return subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def test_two_processes_make_it_once_and_the_second_waits_and_says_so(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = start(tmp_path, gate)
    wait_for(tmp_path / "log")
    second = start(tmp_path, gate)
    assert second.stderr is not None
    expected = f"tutelage: waiting for process {first.pid}, which is making {tmp_path / IDENTITY[:16]}\n"
    assert second.stderr.readline() == expected
    gate.touch()
    assert [process.communicate() for process in (first, second)] == [("whole\n", ""), ("whole\n", "")]
    assert (tmp_path / "log").read_text() == "making\n"


def test_the_one_that_waits_makes_it_if_the_maker_is_killed(tmp_path: Path) -> None:
    first = start(tmp_path, tmp_path / "never")
    wait_for(tmp_path / "log")
    second = start(tmp_path, tmp_path)
    assert second.stderr is not None
    assert second.stderr.readline().startswith("tutelage: waiting for process")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.communicate() == ("whole\n", "")
    assert (tmp_path / "log").read_text() == "making\n" * 2
    assert not list(tmp_path.glob(".partial-*"))


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    for identity in ("short", "g" * 64, "../" + "0" * 64):
        with pytest.raises(BadInput, match="must be a hash in hexadecimal digits"):
            made(tmp_path, identity, Maker())
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"^cannot write .*file/bases: Not a directory$"):
        made(tmp_path / "file" / "bases", IDENTITY, Maker())


def test_the_lock_says_who_has_it_and_nobody_afterwards(tmp_path: Path) -> None:
    lock = tmp_path / f".lock-{IDENTITY[:16]}"
    seen = []
    made(tmp_path, IDENTITY, lambda folder: seen.append(lock.read_text()))
    assert seen == [f"process {os.getpid()}"]
    assert lock.read_text() == ""
