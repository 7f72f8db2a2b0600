"""What does not fit is refused with its sizes before anything compiles; what compiles for long can be left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tutelage.cli import main
from tutelage.lab.process.memory import Array, TooLarge, in_words, refuse_beyond, total_bytes

ROOT = Path(__file__).parents[3]


def test_the_need_is_what_stays_and_the_largest_of_what_passes():
    kept, passing = [Array("a", (4,), 40), Array("b", (3,), 30)], [Array("c", (2,), 20), Array("d", (1,), 10)]
    refuse_beyond(90, "it", kept, passing)
    with pytest.raises(TooLarge, match=r"it needs at least 0.09 kB of memory; there are 0.089 kB. Largest: a \[4\]"):
        refuse_beyond(89, "it", kept, passing)
    refuse_beyond(0, "nothing", [])
    assert [in_words(number) for number in (1e3, 4e6, 12.34e9, 9.2e12)] == ["1 kB", "4 MB", "12.3 GB", "9.2 TB"]
    assert 2**28 < total_bytes() < 2**50


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("minimax/dr --maze.height 1000000", "maze.height = 1000000: must be in [2, 1024]"),
        (
            "minimax/accel --teacher.replay.buffer-size 1000000000",
            "teacher.replay.buffer_size = 1000000000: init needs at least 977 GB of memory; there are ",
        ),
        ("minimax/dr --rollout.num-tasks 100000000", "rollout.num_tasks = 100000000: update needs at least "),
        ("minimax/dr --network.hidden 1000000", "network.hidden = 1000000: init needs at least 36 TB of memory; there"),
        (
            "mogfn --gflownet.batch-size 1000000000",
            "gflownet.batch_size = 1000000000: update needs at least 9.22 TB of memory; ",
        ),
    ],
)
def test_a_size_without_a_ceiling_is_one_line_and_leaves_no_run(line, refusal, tmp_path, capsys):
    assert main(["run", *line.split(), "--out", str(tmp_path / "run"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tutelage: {refusal}") and error.count("\n") == 1
    assert not (tmp_path / "run/config.json").exists()


SLOW = """
import sys, time, ctypes
from tutelage import studies
from tutelage.cli import main
from tutelage.lab.program import Program
import lab.toy_study as toy, dataclasses

def build(config, seeds):
    ctypes.CDLL(None).sleep(60)  # as a compiler does: no bytecode of the main thread runs meanwhile

toy.study = dataclasses.replace(toy.study, build=build)
studies.STUDIES = {"bandit": "lab.toy_study"}
sys.exit(main(["run", "bandit", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_cannot_be_interrupted_is_left_at_once_where_nothing_is_lost(tmp_path, number):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests")))}
    command = [sys.executable, "-c", SLOW, str(tmp_path / "run")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "run/metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(number)
        error = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert f"stopped, nothing is lost; go on with: tutelage resume {tmp_path / 'run'}" in error
