"""`study` on the bandit: all arms and seeds, verdicts, what fails, what is resumed, what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from lab import toy_study

from tutelage import studies
from tutelage.cli import main, reporting, running

PUBLISH = reporting.publish


@pytest.fixture(autouse=True)
def bandit_alone(monkeypatch, tmp_path):
    """The bandit is the only study, runs go to an empty folder, and no report is drawn (it takes a second)."""
    monkeypatch.setattr(studies, "STUDIES", {"bandit": "lab.toy_study"})
    monkeypatch.setattr(reporting, "publish", lambda *_, **__: None)
    monkeypatch.setattr(running, "publish", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)


def runs(folder: str = "runs/bandit-quick") -> list[str]:
    return sorted(str(file.parent.relative_to(folder)) for file in Path(folder).glob("*/*/result.json"))


def verdict(folder: str = "runs/bandit-quick") -> str:
    (claim,) = json.loads(Path(folder, "claims.json").read_text())["claims"]
    return claim["verdict"]


def test_a_study_runs_its_presets_arms_and_judges(capsys, monkeypatch):
    monkeypatch.setattr(reporting, "publish", PUBLISH)
    assert main(["study", "bandit", "--quiet"]) == 0
    assert runs() == [f"{arm}/seed-{seed}" for arm in ("greedy", "uniform") for seed in (0, 1, 2)]
    plan = json.loads(Path("runs/bandit-quick/study.json").read_text())
    assert plan == {
        "format": 1,
        "study": "bandit",
        "preset": "quick",
        "arms": ["greedy", "uniform"],
        "seeds": [0, 1, 2],
        "overrides": {},
    }
    assert verdict() == "holds"
    assert Path("runs/bandit-quick/report.html").is_file()
    output = capsys.readouterr().out
    assert "[6/6] uniform seed 2: best_share 0." in output
    assert f"report: {Path('runs/bandit-quick/report.html')}" in output
    capsys.readouterr()
    assert main(["list"]) == 0
    assert "judged   runs/bandit-quick: 1 holds" in capsys.readouterr().out


def test_what_is_finished_is_not_run_again_and_seeds_are_added(capsys):
    assert main(["run", "bandit", "--seed", "1", "--quiet"]) == 0
    before = Path("runs/bandit-quick/greedy/seed-1/result.json").read_bytes()
    assert main(["study", "bandit", "--arms", "greedy", "--seeds", "0:2", "--quiet"]) == 0
    assert "greedy seed 1: already finished" in capsys.readouterr().out
    assert main(["study", "bandit", "--arms", "greedy", "--seeds", "0:4", "--quiet"]) == 0
    assert runs() == [f"greedy/seed-{seed}" for seed in range(4)]
    assert Path("runs/bandit-quick/greedy/seed-1/result.json").read_bytes() == before


def test_one_arm_that_fails_does_not_lose_the_others(capsys):
    assert main(["study", "bandit", "--arms", "poisoned,greedy", "--seeds", "0:2", "--out", "mine", "--quiet"]) == 1
    assert runs("mine") == ["greedy/seed-0", "greedy/seed-1"]
    assert verdict("mine") == "holds"
    errors = capsys.readouterr().err
    assert "2 of 4 runs failed (poisoned seed 0, poisoned seed 1)" in errors
    assert "Traceback" not in errors


def test_interrupted_then_resumed_ends_the_same(capsys, monkeypatch):
    assert main(["study", "bandit", "--out", "whole", "--quiet"]) == 0
    update = toy_study.Bandit.update

    def interrupted(self, state, num_updates):
        if (self.seeds[0], state["step"][0]) == (1, 20):
            os.kill(os.getpid(), 2)
        return update(self, state, num_updates)

    with monkeypatch.context() as patch:
        patch.setattr(toy_study.Bandit, "update", interrupted)
        assert main(["study", "bandit", "--out", "cut", "--quiet"]) == 130
    assert capsys.readouterr().err == "tutelage: interrupted; go on with: tutelage resume cut\n"
    assert runs("cut") == ["greedy/seed-0"]
    assert main(["resume", "cut", "--quiet"]) == 0
    assert runs("cut") == runs("whole")
    for run in runs("whole"):
        assert Path("cut", run, "metrics.jsonl").read_bytes() == Path("whole", run, "metrics.jsonl").read_bytes()
    assert Path("cut/claims.json").read_bytes() == Path("whole/claims.json").read_bytes()


def test_seeds_abreast_share_a_folder(monkeypatch):
    assert main(["study", "bandit", "--arms", "greedy", "--out", "loop", "--quiet"]) == 0
    monkeypatch.setattr(toy_study, "study", dataclasses.replace(toy_study.study, seeds="vmap"))
    assert main(["study", "bandit", "--arms", "greedy", "--out", "abreast", "--quiet"]) == 0
    assert runs("abreast") == ["greedy/seeds-0-2"]
    alone = json.loads(Path("loop/greedy/seed-2/result.json").read_text())["figures"]
    abreast = json.loads(Path("abreast/greedy/seeds-0-2/result.json").read_text())["figures"]
    assert abreast["2"] == alone["2"]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("", "study needs a name: one of bandit"),
        ("bandt", "study 'bandt' is not one of bandit; did you mean 'bandit'?"),
        ("bandit --preset papr", "preset 'papr' of bandit is not one of quick, paper; did you mean 'paper'?"),
        ("bandit --arms greedy,unifrom", "arm 'unifrom' of bandit is not one of greedy, uniform, poisoned"),
        ("bandit --arms greedy,greedy", "arms = greedy, greedy: greedy is given twice"),
        ("bandit --seeds 2:1", "seeds = '2:1': must be distinct"),
        ("bandit --noise -1", "noise = -1.0: must be in [0, inf)"),
        ("bandit --arms greedy,poisoned --schedule.num-updates 10", "poison_at = 15: must be at most schedule."),
    ],
)
def test_bad_input_is_refused_before_any_work(capsys, argv, line):
    assert main(["study", *argv.split()]) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"tutelage: {line}")
    assert output.err.count("\n") == 1
    assert not Path("runs").exists()


def test_a_folder_of_another_study_is_refused(capsys):
    assert main(["study", "bandit", "--arms", "greedy", "--seeds", "0", "--out", "mine", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["study", "bandit", "--arms", "uniform", "--noise", "0.25", "--out", "mine"]) == 2
    assert capsys.readouterr().err == (
        "tutelage: mine: holds another study: overrides is {} there, {'noise': 0.25} here\n"
    )
    plan = json.loads(Path("mine/study.json").read_text())
    for change, line in [
        ({"seeds": ["a"]}, "mine/study.json: seeds = ['a']: must be whole numbers"),
        ({"arms": "greedy"}, "mine/study.json: arms: missing or not what a study folder holds"),
        ({"study": "bandt"}, "study 'bandt' is not one of bandit; did you mean 'bandit'?"),
    ]:
        Path("mine/study.json").write_text(json.dumps(plan | change))
        assert main(["resume", "mine"]) == 2
        assert capsys.readouterr().err == f"tutelage: {line}\n"
    Path("mine/study.json").write_text("[")
    assert main(["resume", "mine"]) == 2
    assert capsys.readouterr().err == "tutelage: mine/study.json: is not JSON\n"


def test_report_of_folders(capsys, monkeypatch):
    monkeypatch.setattr(reporting, "publish", PUBLISH)
    for arm in ("greedy", "uniform"):
        assert main(["run", f"bandit/{arm}", "--quiet"]) == 0
    capsys.readouterr()
    folders = ["runs/bandit-quick/greedy/seed-0", "runs/bandit-quick/uniform/seed-0"]
    assert main(["report", *folders, "--out", "page.html"]) == 0
    assert capsys.readouterr().out.endswith("report: page.html\n")
    assert "Reinforcement Learning: An Introduction" in Path("page.html").read_text()
    assert main(["report"]) == 2
    assert capsys.readouterr().err == "tutelage: report needs at least one run or study folder\n"
