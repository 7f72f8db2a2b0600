"""`compare` on bandit runs: settings that differ, intervals, and plain words where seeds are too few."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tutelage import studies
from tutelage.cli import main
from tutelage.cli.runs import driving


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Three seeds of both arms in the default folders, and folders whose runs do not belong together."""
    root = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "STUDIES", {"bandit": "lab.toy_study"})
        patch.setattr(driving, "publish", lambda *_, **__: None)
        patch.chdir(root)
        for arguments in (
            "bandit/greedy --seeds 0:3",
            "bandit/uniform --seeds 0:3",
            "bandit --out mixed/a",
            "bandit --out mixed/b --noise 0.7 --seed 1",
            "bandit --out twice/a",
            "bandit --out twice/b",
        ):
            assert main(["run", *arguments.split(), "--quiet"]) == 0
    (root / "empty").mkdir()
    return root


@pytest.fixture(autouse=True)
def here(finished, monkeypatch):
    monkeypatch.chdir(finished)


def shares(arm: str) -> np.ndarray:
    files = sorted(Path("runs/bandit-quick", arm).glob("*/result.json"))
    return np.array([next(iter(json.loads(file.read_text())["figures"].values()))["best_share"] for file in files])


def test_two_arms(capsys):
    assert main(["compare", "runs/bandit-quick/greedy", "runs/bandit-quick/uniform"]) == 0
    text = capsys.readouterr().out
    assert "A = runs/bandit-quick/greedy (greedy, 3 seeds)" in text
    assert "learner.exploration: 0.1 → 1.0" in text
    row = next(line for line in text.splitlines() if line.strip().startswith("best_share"))
    greedy, uniform = shares("greedy"), shares("uniform")
    # With three seeds every percentile bound of the mean is reached by a resample of one seed alone.
    assert f"{greedy.mean():.4g} [{greedy.min():.4g}, {greedy.max():.4g}]" in row
    assert f"{(uniform.mean() - greedy.mean()):.4g} [" in row
    assert row.endswith("0 [0, 0]")  # uniform never beats greedy
    assert "too few" not in text


def test_equal_folders(capsys):
    assert main(["compare", "runs/bandit-quick", "runs/bandit-quick"]) == 0
    text = capsys.readouterr().out
    assert text.count("settings: the same") == 2
    assert "0.5 [" in text  # ties count one half


def test_too_few_seeds_are_said_plainly(capsys):
    assert main(["compare", "runs/bandit-quick/greedy/seed-0", "runs/bandit-quick/uniform"]) == 0
    text = capsys.readouterr().out
    assert "(greedy, 1 seed)" in text
    assert "too few seeds for intervals: 3 on each side are needed" in text
    assert "[" not in text.replace("[0", "")


def test_damaged_runs_are_left_out_and_said(capsys, tmp_path):
    cut = tmp_path / "cut" / "seed-2"
    shutil.copytree("runs/bandit-quick/greedy", tmp_path / "cut")
    (cut / "metrics.jsonl").write_text("")
    assert main(["compare", "runs/bandit-quick/greedy", str(tmp_path / "cut")]) == 0
    problem = f"{cut}/metrics.jsonl is not as it was when result.json was written"
    line = f"{cut} is damaged and left out: {problem}; to mend it: tutelage resume {cut}"
    assert line in capsys.readouterr().out.splitlines()


def test_unfinished_runs_are_left_out_and_said(capsys, tmp_path):
    shutil.copytree("runs/bandit-quick/greedy", tmp_path / "cut")
    (tmp_path / "cut/seed-2/result.json").unlink()
    assert main(["compare", str(tmp_path / "cut"), "runs/bandit-quick/uniform"]) == 0
    text = capsys.readouterr().out
    assert f"{tmp_path / 'cut'}: 1 unfinished run is left out" in text
    assert "(greedy, 2 seeds)" in text


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["runs"], "compare needs two folders; 1 were given"),
        (["runs", "walks"], "walks: no such folder"),
        (["runs/bandit-quick/greedy", "empty"], "empty: holds no finished run"),
        (["mixed", "runs/bandit-quick"], "mixed: the runs of greedy differ in noise; name a folder further down"),
        (["twice", "runs/bandit-quick"], "twice: seed 0 of greedy is there twice; name a folder further down"),
    ],
)
def test_refused_in_one_line(capsys, argv, line):
    assert main(["compare", *argv]) == 2
    assert capsys.readouterr().err == f"tutelage: {line}\n"
