"""`study` on the bandit: all arms and seeds, verdicts, what fails, what is resumed, what is refused."""

from __future__ import annotations

import dataclasses
import html
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import assert_same_run, environment
from lab import toy_study
from rich.console import Console

from tutelage import studies
from tutelage.cli import main, reporting
from tutelage.cli.runs import driving, studying
from tutelage.cli.runs.jobs import StudyPlan, plan
from tutelage.cli.runs.side_by_side import side_by_side
from tutelage.lab.study import RunResult

PUBLISH = reporting.publish


@pytest.fixture(autouse=True)
def bandit_alone(monkeypatch, tmp_path):
    """The bandit is the only study, runs go to an empty folder, and no report is drawn (it takes a second)."""
    monkeypatch.setattr(studies, "STUDIES", {"bandit": "lab.toy_study"})
    monkeypatch.setattr(reporting, "publish", lambda *_, **__: None)
    monkeypatch.setattr(driving, "publish", lambda *_, **__: None)
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
    assert " · 1 holds (runs/bandit-quick)" in capsys.readouterr().out


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
    line = "mine/study.json: is not JSON; the same `tutelage study …` command writes it again"
    assert capsys.readouterr().err == f"tutelage: {line}\n"
    assert main(["study", "bandit", "--seeds", "0:2", "--out", "mine"]) == 0
    assert "tutelage: mine/study.json: was torn; written again\n" in capsys.readouterr().err
    assert json.loads(Path("mine/study.json").read_text())["seeds"] == [0, 1]


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


# Several runs at a time.

ROOT = Path(__file__).parents[2]
JOBS = [(1, "greedy", 0), (2, "greedy", 1), (3, "uniform", 0), (4, "uniform", 1)]
SLOW = "study slow --seeds 0:2 --out mine --quiet --schedule.log-every 2 --schedule.checkpoint-every 1000"


@pytest.fixture
def slow(monkeypatch):
    """The bandit that waits, whose runs can be found by what they noted."""
    monkeypatch.setattr(studies, "STUDIES", {"slow": "cli.slow_study"})


def start(line: str, *, pause: float = 0.0) -> subprocess.Popen[str]:
    """A study in a process of its own, as a user starts it; its runs are slow after three chunks."""
    program = (
        "import sys; from tutelage import studies; from tutelage.cli import main, reporting\n"
        "studies.STUDIES = {'slow': 'cli.slow_study'}; reporting.publish = lambda *_, **__: None\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", program, *line.split()]
    slowly = environment() | {"SLOW_PAUSE": str(pause)}
    return subprocess.Popen(words, env=slowly, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def notes(folder: str = "mine") -> dict[str, list[tuple[int, float]]]:
    """What the runs noted: process and time, by run."""
    files = Path(folder).glob("*/*/alive.jsonl")
    return {str(file.parent): [tuple(json.loads(line)) for line in file.read_text().splitlines()] for file in files}


def wait_for(condition) -> None:
    while not condition():
        time.sleep(0.02)


def under_way(number: int) -> bool:
    """Whether so many runs have done a few chunks."""
    return sum(len(lines) >= 4 for lines in notes().values()) >= number


def alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def assert_as_one_by_one(folder: str = "mine") -> None:
    """All runs and the verdicts are those of the same study run one by one."""
    assert main([*SLOW.replace("mine", "whole").split(), "--jobs", "1"]) == 0
    assert runs(folder) == runs("whole")
    for run in runs("whole"):
        assert_same_run(Path(folder, run), Path("whole", run))
    assert Path(folder, "claims.json").read_bytes() == Path("whole/claims.json").read_bytes()


def test_side_by_side_is_the_same_as_one_by_one_and_never_more_at_a_time(capsys, slow):
    assert main([*SLOW.split(), "--jobs", "2"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    ends = sorted(line.partition(":")[0] for line in output.out.splitlines())
    assert ends == [f"[{place}/4] {arm} seed {seed}" for place, arm, seed in JOBS]
    found = notes()
    spans = [(lines[0][1], lines[-1][1]) for lines in found.values()]
    most = max(sum(start <= moment <= end for start, end in spans) for moment, _ in spans)
    assert most <= 2
    assert len({lines[0][0] for lines in found.values()}) == 4
    assert os.getpid() not in {lines[0][0] for lines in found.values()}


def test_any_number_at_a_time_leaves_the_same_files(capsys, slow):
    assert main([*SLOW.split(), "--jobs", "3"]) == 0
    assert_as_one_by_one()
    assert os.getpid() in {lines[0][0] for lines in notes("whole").values()}
    capsys.readouterr()
    assert main([*SLOW.split(), "--jobs", "3"]) == 0
    assert capsys.readouterr().out.count("already finished") == 4


def test_what_a_run_prints_comes_out_of_its_process_whatever_the_terminal(capfd, slow, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    line = "study slow --arms greedy,uniform --seeds 0:1 --out mine --jobs 2 --says \u2192é"
    assert main(line.split()) == 0
    assert "greedy seed 0: \u2192é" in capfd.readouterr().err


def test_side_by_side_what_fails_is_said_and_the_others_go_on(capfd, slow):
    line = "study slow --arms poisoned,broken,greedy --seeds 0:1 --out mine --jobs 2 --says hello"
    assert main(line.split()) == 1
    output = capfd.readouterr()
    assert runs("mine") == ["greedy/seed-0"]
    assert "tutelage: poisoned seed 0 failed: metrics 'reward' of seed 0 is nan at update 20" in output.err
    assert "tutelage: broken seed 0 failed: ZeroDivisionError: as configured" in output.err
    assert "ZeroDivisionError" in Path("mine/broken/seed-0/failure.txt").read_text()
    assert "2 of 3 runs failed (" in output.err
    assert "Traceback" not in output.err
    assert {"[3/3] greedy seed 0", "[1/3] poisoned seed 0"} <= set(output.out.splitlines())
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert f"greedy seed 0: hello {os.environ.get('OMP_NUM_THREADS', threads)}\n" in output.err


def test_a_terminal_shows_a_bar_for_each_run_under_way_and_the_time_left_for_all(slow, monkeypatch):
    monkeypatch.setenv("SLOW_PAUSE", "0.15")
    study = studies.load("slow")
    overrides = {"schedule.log_every": 1}
    jobs, _ = plan(study, "greedy", "quick", overrides, (0, 1, 2), Path("mine"))
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    outcomes = list(side_by_side([(job.name, job) for job in jobs], 2, Path("mine"), console=console))
    assert sorted(outcome.job.seeds for outcome in outcomes) == [(0,), (1,), (2,)]
    assert all(outcome.results is not None for outcome in outcomes)
    shown = screen.getvalue()
    assert re.search(r"all runs +.* [12] running · [01]/3 ended · \d+:\d\d left", shown)
    assert re.search(r"1 running · 2/3 ended · \d+:\d\d left", shown)
    assert re.search(r"greedy seed 2 +.* \d+/40 updates", shown)
    quiet = io.StringIO()
    jobs, _ = plan(study, "greedy", "quick", overrides, (3,), Path("mine"))
    console = Console(file=quiet, force_terminal=True)
    monkeypatch.delenv("SLOW_PAUSE")
    assert len(list(side_by_side([("", job) for job in jobs], 2, Path("mine"), quiet=True, console=console))) == 1
    assert quiet.getvalue() == ""


@pytest.mark.parametrize(
    ("of_study", "of_preset", "asked", "expected"),
    [(1, None, -1, 1), (3, None, -1, 3), (3, 2, -1, 2), (3, 2, 4, 4), (0, None, -1, "cores"), (1, None, 0, "cores")],
)
def test_how_many_at_a_time(monkeypatch, of_study, of_preset, asked, expected):
    presets = {"quick": dataclasses.replace(toy_study.study.presets["quick"], jobs=of_preset)}
    study = dataclasses.replace(toy_study.study, jobs=of_study, presets=presets)
    todo = StudyPlan("bandit", "quick", ("greedy",), (0,), {})
    cores = len(os.sched_getaffinity(0))
    assert studying._at_a_time(study, todo, asked) == (cores if expected == "cores" else expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_side_by_side_saves_all_and_goes_on_to_the_same_end(slow, number):
    process = start(f"{SLOW} --jobs 2", pause=1.0)
    wait_for(lambda: under_way(2))
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert errors == "tutelage: interrupted; go on with: tutelage resume mine\n"
    found = notes()
    assert len(found) == 2
    assert not any(alive(lines[0][0]) for lines in found.values())
    assert all(list(Path(run, "checkpoints").glob("step-*")) for run in found)  # none falls due so early
    assert not Path("mine/claims.json").exists()
    again = start("resume mine --jobs 2 --quiet")
    assert again.communicate(timeout=200)[1] == ""
    assert again.returncode == 0
    assert {run: len({process for process, _ in lines}) for run, lines in notes().items()} == dict.fromkeys(
        [f"mine/{arm}/seed-{seed}" for _, arm, seed in JOBS], 1
    ) | dict.fromkeys(found, 2)
    assert_as_one_by_one()


def test_a_killed_study_leaves_no_process_and_goes_on_by_the_same_command(slow):
    line = f"{SLOW} --jobs 2"
    process = start(line, pause=1.0)
    wait_for(lambda: under_way(2))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    children = [lines[0][0] for lines in notes().values()]
    assert len(children) == 2
    wait_for(lambda: not any(alive(child) for child in children))
    again = start(line)
    out, errors = again.communicate(timeout=200)
    assert (again.returncode, errors) == (0, "")
    assert out.count("best_share") == 4
    assert_as_one_by_one()


def test_one_run_killed_fails_alone_and_one_asked_to_stop_stops_the_study(slow):
    process = start(f"{SLOW} --jobs 2", pause=1.0)
    wait_for(lambda: under_way(2))
    victim = notes()["mine/greedy/seed-0"][0][0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: "mine/uniform/seed-0" in notes())
    os.kill(notes()["mine/uniform/seed-0"][0][0], signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert errors.splitlines() == [
        "tutelage: greedy seed 0 failed: its process was ended by SIGKILL; was there too little memory?",
        "tutelage: interrupted; go on with: tutelage resume mine",
    ]


def test_arms_without_the_headline_figure_are_summed_up_by_one_that_they_have():
    ended = [RunResult("line", seed, {"slope": seed / 2}) for seed in (1, 3)]
    assert driving.headline(toy_study.study, ended) == "slope 0.5, 1.5 (seed 1, 3)"
    with_it = [dataclasses.replace(ended[0], figures={"slope": 0.5, toy_study.study.headline: 7.0})]
    assert driving.headline(toy_study.study, with_it) == f"{toy_study.study.headline} 7 (seed 1)"


def test_a_report_says_what_does_not_fit_its_study(capsys, monkeypatch):
    """An arm or a setting changed by hand is shown, and said; a folder as it was made has nothing to say."""
    monkeypatch.setattr(reporting, "publish", PUBLISH)
    assert main(["run", "bandit", "--quiet"]) == 0
    folder = Path("runs/bandit-quick/greedy/seed-0")
    record = json.loads((folder / "config.json").read_text())

    def told(**changes) -> str:
        (folder / "config.json").write_text(json.dumps({**record, **changes}))
        capsys.readouterr()
        assert main(["report", str(folder)]) == 0
        shown = capsys.readouterr().out
        sentence = next((line for line in shown.splitlines() if "shown as its files say" in line), "")
        page = (folder / "report.html").read_text()
        assert sentence in html.unescape(page) and "<b>greedier" not in page
        return sentence

    assert told() == ""
    assert "bandit has no arm '<b>greedier</b>'" in told(arm="<b>greedier</b>")
    assert "for the arm 'uniform' at the preset 'quick'" in told(arm="uniform")
    assert "bandit has no preset 'quicker'" in told(preset="quicker")
    assert "there is no study 'burglar' here" in told(study="burglar")
    assert "no such setting" in told(config={**record["config"], "greed": 1})
