"""Terminals that are not UTF-8: every command prints and exits as it should."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from tutelage.cli import COMMANDS, main
from tutelage.cli.streams import _in_ascii
from tutelage.studies import STUDIES

LINES = [
    ["--help"], ["list"], *(["list", name] for name in STUDIES), *(["where", name] for name in STUDIES),
    *([name, "--help"] for name in COMMANDS), *([name, "--help"] for name in STUDIES), ["run", "minimax", "--help"],
    ["mixing", "report", "rewards.npy"], ["mixing", "report", "--help"],
]  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_command_prints(tmp_path, monkeypatch, encoding):
    monkeypatch.chdir(tmp_path)
    np.save("rewards.npy", np.tile(np.repeat([1.0, 0.0], 10), (1, 50)))
    for line in LINES:
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        assert main(line) == 0, line
        out.flush()
        text = out.buffer.getvalue().decode(encoding)
        assert len(text) > 20 and "???" not in text, line


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""},
    ],
)
def test_a_process_of_its_own_prints(environment):
    command = [sys.executable, "-m", "tutelage", "list", "mixing"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"rho-learning" in done.stdout


def test_what_is_lacking_is_spelt():
    assert [_in_ascii(letter) for letter in "ρ→½…é≥日"] == ["rho", "->", "1/2", "...", "e", ">=", "?"]
