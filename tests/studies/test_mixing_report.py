"""`mixing report` on files of rewards and on bandit runs: a sentence, a table, one line for what cannot be judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tutelage import studies
from tutelage.cli import main
from tutelage.cli.runs import driving
from tutelage.studies.mixing.report import read_rewards

ALTERNATING = np.tile(np.repeat([1.0, 0.0], 10), (1, 50))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two seeds of one arm, one of another, and files of rewards."""
    root = tmp_path_factory.mktemp("mixing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(studies.STUDIES, "bandit", "lab.toy_study")
        patch.setattr(driving, "publish", lambda *_, **__: None)
        patch.chdir(root)
        for arguments in ("bandit/greedy --seeds 0:2", "bandit/uniform --seed 0"):
            assert main(["run", *arguments.split(), "--quiet"]) == 0
    np.save(root / "rewards.npy", ALTERNATING)
    np.savez(root / "many.npz", left=ALTERNATING, right=ALTERNATING + 1)
    np.savetxt(root / "rewards.csv", ALTERNATING, delimiter=",")
    np.save(root / "cube.npy", np.ones((2, 2, 2)))
    np.save(root / "short.npy", np.ones((3, 1)))
    np.save(root / "nan.npy", np.array([[1.0, 2.0], [np.nan, 1.0]]))
    np.save(root / "zero.npy", np.zeros((2, 8)))
    np.save(root / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(root / "evaluations.npz", timesteps=np.arange(50), results=np.ones((50, 5)), ep_lengths=np.ones((50, 5)))
    np.save(root / "huge.npy", np.full((2, 100), 1e308))
    (root / "ragged.csv").write_text("1,2,3\n1,2\n")
    (root / "words.csv").write_text("step,reward\n1,2\n")
    (root / "notes.txt").write_text("1")
    (root / "empty").mkdir()
    return root


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("file", ["rewards.npy", "rewards.csv", "many.npz --figure left"])
def test_window_of_alternating_rates_is_judged_by_the_closed_form(capsys, file):
    assert main(["mixing", "report", *file.split(), "--window", "30"]) == 0
    text = capsys.readouterr().out
    assert "1 rollout of 1000 steps" in text
    assert "your evaluation window of 30 steps is 0.33 return-mixing times; 3 such windows would be needed" in text
    assert "t_ret(0.1) = 91 steps, the first h from which on the running average reward" in text
    assert [line.split() for line in text.splitlines()[-3:]] == [
        ["0.05", "0.5", "±", "0.025", "191", "0.157", "6.37"],
        ["0.1", "0.5", "±", "0.05", "91", "0.33", "3.03"],
        ["0.2", "0.5", "±", "0.1", "34", "0.882", "1.13"],
    ]


def test_a_beginning_can_be_left_out(capsys):
    assert main(["mixing", "report", "rewards.npy", "--skip", "5", "--window", "30", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["estimate"]["length"] == 995
    assert record["windows_needed"] == record["estimate"]["steps"] / 30


def test_what_is_not_reached_has_no_number(capsys):
    np.save("slow.npy", np.linspace(1, 2, 50)[None])
    assert main(["mixing", "report", "slow.npy", "--eps", "0.05"]) == 0
    assert "cannot be judged" in capsys.readouterr().out
    assert main(["mixing", "report", "slow.npy", "--eps", "0.05", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["windows_needed"] is record["mixing_times"] is record["estimate"]["steps"] is None


def test_every_seed_of_a_run_is_a_rollout(capsys):
    rewards = read_rewards(Path("runs/bandit-quick/greedy"))
    records = [
        [
            json.loads(line)
            for line in Path(f"runs/bandit-quick/greedy/seed-{seed}/metrics.jsonl").read_text().split("\n")[:-1]
        ]
        for seed in (0, 1)
    ]
    expected = [[line["reward"] for line in lines if line["kind"] == "metrics"] for lines in records]
    np.testing.assert_array_equal(rewards.values, expected)
    assert main(["mixing", "report", "runs/bandit-quick/greedy", "--window", "3", "--quantile", "0.5"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"runs/bandit-quick/greedy, reward: 2 rollouts of {len(expected[0])} steps; one step is ")
    assert "your evaluation window of 3 steps" in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("nowhere", "nowhere: no such run folder or file"),
        ("", "RECORD is missing: A run folder, or one that holds"),
        ("empty", "empty: holds no run"),
        ("notes.txt", "notes.txt: must be a run folder or a file ending in .npy, .npz, .csv"),
        ("runs/bandit-quick", "runs/bandit-quick: holds runs of greedy, uniform; name a folder further down"),
        (
            "runs/bandit-quick/greedy --figure rewad",
            "--figure rewad: runs/bandit-quick/greedy has no such figure; did you mean 'reward'?",
        ),
        ("many.npz", "many.npz: choose by --figure among left, right"),
        (
            "evaluations.npz",
            "evaluations.npz: Stable-Baselines3's evaluations: `results` are returns [evaluations, epis",
        ),
        ("evaluations.npz --figure results", "evaluations.npz: Stable-Baselines3's evaluations"),
        ("huge.npy", "rewards: entries of 1e+308 overflow when they are summed; give them in another unit"),
        ("rewards.npy --figure x", "--figure x: rewards.npy holds no named series"),
        ("cube.npy", "cube.npy: shape (2, 2, 2); must be [rollouts, steps]"),
        ("short.npy", "short.npy: 1 steps less the 0 skipped; need 2"),
        ("rewards.npy --skip 999", "rewards.npy: 1000 steps less the 999 skipped; need 2"),
        ("nan.npy", "rewards: rollouts [1] have entries that are not finite"),
        ("zero.npy", "eps: relative to an average reward of 0; give absolute=True and eps in units of reward"),
        ("objects.npy", "objects.npy: cannot be read as rewards: "),
        ("ragged.csv", "ragged.csv: lines of 2 to 3 entries; must be equal"),
        ("words.csv", "words.csv: cannot be read as rewards: "),
        ("rewards.npy --eps 1.5", "eps = 1.5: must be in (0, 1), a share of the average reward"),
        ("rewards.npy --window -1", "window = -1: must be in [0, inf)"),
        ("rewards.npy --epz 1", "--epz: no such setting; did you mean '--eps'?"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, line):
    assert main(["mixing", "report", *arguments.split()]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.removeprefix("tutelage: ").startswith(line)
