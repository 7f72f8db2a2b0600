"""The commands as a user types them, on the bandit: what they print, write and return."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab import toy_study

from tutelage import studies
from tutelage.cli import COMMANDS, main, reporting
from tutelage.cli.listing import locate
from tutelage.cli.options import parse_seeds
from tutelage.cli.runs import driving
from tutelage.cli.runs.jobs import seeds_name
from tutelage.lab.errors import BadInput

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def bandit_alone(monkeypatch, tmp_path):
    """The bandit is the only study, runs go to an empty folder, and no report is drawn (it takes a second)."""
    monkeypatch.setattr(studies, "STUDIES", {"bandit": "lab.toy_study"})
    monkeypatch.setattr(driving, "publish", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)


def refusal(capsys, *argv: str) -> str:
    """The one line of a command that is refused as bad input."""
    assert main(argv) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("tutelage: ")
    assert output.err.count("\n") == 1
    return output.err.removeprefix("tutelage: ").strip()


def figures(folder: str) -> dict:
    return json.loads(Path(folder, "result.json").read_text())["figures"]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("rnu", "'rnu' is neither a command nor a study; there are list, run, study, report"),
        ("run bandt", "study 'bandt' is not one of bandit; did you mean 'bandit'?"),
        ("run bandit/gredy", "arm 'gredy' of bandit is not one of greedy, uniform, poisoned; did you mean 'greedy'?"),
        ("run bandit --preset quik", "preset 'quik' of bandit is not one of quick, paper; did you mean 'quick'?"),
        ("run bandit --exploration 1", "--exploration: no such setting; did you mean '--learner.exploration'?"),
        ("run bandit --learner.exploration 1.7", "learner.exploration = 1.7: must be in [0, 1]"),
        ("run bandit --noise", "--noise: a value is missing"),
        ("run bandit --seed -1", "seed = -1: must be in [0, 4294967295]"),
        ("run bandit --seeds 3:3", "seeds = '3:3': must be distinct whole numbers in [0, 4294967295], at least one"),
        ("run bandit --seeds a", "seeds = 'a': must be like 0:8 (0 up to 7), 0,3,5 or 4"),
        ("run bandit --seed 1 --seeds 0:2", "--seed and --seeds: give one of them"),
        ("run bandit greedy", "bandit greedy: give exactly one STUDY or STUDY/ARM"),
        (
            "run bandit --schedule.log-every 7",
            "schedule.num_updates = 40: must be a multiple of schedule.log_every = 7",
        ),
        ("list --jsn", "--jsn: no such setting; did you mean '--json'?"),
        ("list bandit more", "'more': a word too many; list takes at most one study"),
        ("where bandt", "study 'bandt' is not one of bandit; did you mean 'bandit'?"),
        ("where", "where needs a study: one of bandit"),
        ("resume nowhere", "nowhere: no such folder"),
        ("resume", "nothing: give exactly one run or study folder"),
        ("bench bandt", "study 'bandt' is not one of bandit; did you mean 'bandit'?"),
        ("bench bandit", "benchmarks/bandit.py is not here: benchmarks belong to a checkout"),
        ("doctor me", "'me': doctor takes no words"),
    ],
)
def test_bad_input_is_one_line(capsys, argv, line):
    assert refusal(capsys, *argv.split()).startswith(line)
    assert not Path("runs").exists()


def test_run_without_a_study_lists_what_there_is(capsys):
    assert main(["run"]) == 2
    assert "bandit/{greedy,uniform,poisoned}  --preset {quick,paper}" in capsys.readouterr().err


def test_run_writes_a_folder_and_says_when_it_is_finished(capsys, monkeypatch):
    monkeypatch.setattr(driving, "publish", reporting.publish)
    assert main(["run", "bandit", "--quiet"]) == 0
    folder = "runs/bandit-quick/greedy/seed-0"
    share = figures(folder)["0"]["best_share"]
    said = f"{folder}: best_share {share:.4g} (seed 0)\nreport: {folder}/report.html\n"
    assert capsys.readouterr().out == said
    assert Path(folder, "report.html").is_file()
    record = json.loads(Path(folder, "config.json").read_text())
    assert (record["study"], record["arm"], record["preset"], record["seeds"]) == ("bandit", "greedy", "quick", [0])
    assert main(["run", "bandit", "--quiet"]) == 0
    assert "already finished" in capsys.readouterr().out


def test_run_of_several_seeds_equals_runs_of_each():
    assert main(["run", "bandit/uniform", "--seeds", "0,2", "--quiet"]) == 0
    assert main(["run", "bandit/uniform", "--seed", "2", "--out", "alone", "--quiet"]) == 0
    assert sorted(path.name for path in Path("runs/bandit-quick/uniform").iterdir()) == ["seed-0", "seed-2"]
    assert figures("runs/bandit-quick/uniform/seed-2") == figures("alone")


def test_settings_reach_the_run_and_its_record():
    assert main(["run", "bandit", "--learner.exploration=0", "--noise", "0", "--out", "sure", "--quiet"]) == 0
    record = json.loads(Path("sure/config.json").read_text())
    assert record["overrides"] == {"learner.exploration": 0.0, "noise": 0.0}
    assert record["config"]["learner"]["exploration"] == 0
    # Optimistic and noiseless: every lever once, then the best one.
    assert figures("sure")["0"]["best_share"] == 37 / 40


def test_overrides_go_to_a_folder_of_their_own():
    for noise in ("0.1", "0.2", "0.1"):
        assert main(["run", "bandit", "--noise", noise, "--quiet"]) == 0
    assert len(list(Path("runs").iterdir())) == 2


def test_a_folder_of_another_configuration_is_refused_by_its_first_difference(capsys):
    assert main(["run", "bandit", "--out", "here", "--quiet"]) == 0
    capsys.readouterr()
    assert "noise is 0.5, not 0.25" in refusal(capsys, "run", "bandit", "--out", "here", "--noise", "0.25")
    assert "arm is 'greedy', not 'uniform'" in refusal(capsys, "run", "bandit/uniform", "--out", "here")
    Path("letters").mkdir()
    Path("letters/a.txt").write_text("dear")
    assert refusal(capsys, "run", "bandit", "--out", "letters").startswith("letters: is not empty and holds no run")
    assert refusal(capsys, "run", "bandit", "--out", "letters/a.txt").startswith("letters/a.txt: is a file")


def test_a_run_that_diverges_fails_in_one_line_and_leaves_the_others(capsys):
    assert main(["run", "bandit/poisoned", "--seeds", "0:2", "--quiet"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert errors[1].startswith("tutelage: poisoned seed 1 failed: metrics 'reward' of seed 1 is nan")


def test_an_unexpected_failure_keeps_its_traceback(capsys, monkeypatch):
    def broken(self, state, step, *, final=False):
        raise ZeroDivisionError("out of levers")

    monkeypatch.setattr(toy_study.Bandit, "evaluate", broken)
    assert main(["run", "bandit", "--out", "here", "--quiet"]) == 1
    error = "tutelage: greedy seed 0 failed: ZeroDivisionError: out of levers (see here/failure.txt)\n"
    assert capsys.readouterr().err == error
    assert "Traceback" in Path("here/failure.txt").read_text()


def interrupt_at(monkeypatch, step: int) -> None:
    """Send Ctrl-C when a bandit is about to go on from that step."""
    update = toy_study.Bandit.update

    def interrupted(self, state, num_updates):
        if state["step"][0] == step:
            os.kill(os.getpid(), 2)
        return update(self, state, num_updates)

    monkeypatch.setattr(toy_study.Bandit, "update", interrupted)


def test_interrupted_then_resumed_ends_the_same(capsys, monkeypatch):
    assert main(["run", "bandit", "--out", "whole", "--quiet"]) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 20)
        assert main(["run", "bandit", "--out", "cut", "--quiet"]) == 130
    assert "tutelage resume cut" in capsys.readouterr().err
    assert not Path("cut/result.json").exists()
    assert main(["resume", "cut", "--quiet"]) == 0
    assert Path("cut/metrics.jsonl").read_bytes() == Path("whole/metrics.jsonl").read_bytes()
    assert figures("cut") == figures("whole")


def test_resume_refuses_a_record_it_cannot_trust(capsys):
    assert main(["run", "bandit", "--out", "here", "--quiet"]) == 0
    capsys.readouterr()
    record = json.loads(Path("here/config.json").read_text())
    for change, line in [
        ({"study": "bandt"}, "study 'bandt' is not one of bandit; did you mean 'bandit'?"),
        ({"arm": "../x"}, "here/config.json: arm '../x' of bandit is not one of greedy, uniform, poisoned"),
        ({"seeds": ["0"]}, "here/config.json: seeds = ['0']: must be whole numbers, at least one"),
        ({"config": 3}, "here/config.json: config = 3: not what a run folder holds"),
        ({"config": record["config"] | {"nois": 1}}, "here/config.json: nois: no such setting; did you mean 'noise'?"),
    ]:
        Path("here/config.json").write_text(json.dumps(record | change))
        assert refusal(capsys, "resume", "here").startswith(line)
    Path("here/config.json").write_text("{")
    assert "is not JSON" in refusal(capsys, "resume", "here")
    Path("empty").mkdir()
    assert refusal(capsys, "resume", "empty").startswith("empty: holds neither a run")


def test_list_shows_studies_and_verdicts(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("bandit  Which lever is best?  3 arms · 1 claims\n")
    assert main(["list", "bandit"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("bandit: Which lever is best?\n  An ε-greedy learner finds the best lever.\n")
    assert "\n  greedy (main)  " in text
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/study.json").write_text(json.dumps({"study": "bandit", "preset": "quick"}))
    verdicts = [{"verdict": "holds"}, {"verdict": "undecided"}, {"verdict": "holds"}]
    Path("runs/mine/claims.json").write_text(json.dumps({"format": 1, "claims": verdicts}))
    Path("runs/torn").mkdir()
    Path("runs/torn/study.json").write_text("{")
    Path("runs/torn/claims.json").write_text("{}")
    assert main(["list", "--json"]) == 0
    output = capsys.readouterr()
    assert output.err.startswith("tutelage: runs/torn: study.json or claims.json is damaged; the command")
    (record,) = json.loads(output.out)["studies"]
    assert list(record["claims"]) == ["finds-the-best"]
    assert record["tools"] == {}
    assert record["judged"] == [{"folder": "runs/mine", "preset": "quick", "verdicts": {"holds": 2, "undecided": 1}}]
    assert main(["list"]) == 0
    assert capsys.readouterr().out.startswith(
        "bandit  Which lever is best?  3 arms · 1 claims · 2 hold, 1 undecided (runs/mine)\n"
    )
    assert main(["list", "bandit"]) == 0
    assert "judged\n  runs/mine  2 hold, 1 undecided" in capsys.readouterr().out


def test_where_finds_file_and_line(capsys, monkeypatch):
    assert main(["where", "bandit"]) == 0
    lines = capsys.readouterr().out.splitlines()
    source = (ROOT / "tests/lab/toy_study.py").read_text().splitlines()
    number = next(index for index, line in enumerate(source, 1) if line.startswith("    def update("))
    assert lines[0].endswith(f"tests/lab/toy_study.py:{number}")
    assert main(["where", "bandit", "GREEDY"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    monkeypatch.setitem(toy_study.study.map, "Eq. 9", "lab.toy_study:Bandit.nothing")
    assert main(["where", "bandit"]) == 1
    assert "lab.toy_study:Bandit.nothing  NOT FOUND" in capsys.readouterr().out


def test_locate_follows_what_a_package_passes_on(tmp_path, monkeypatch):
    (tmp_path / "house").mkdir()
    (tmp_path / "house/__init__.py").write_text("from .room import chair as seat\nTABLE: int = 4\n")
    (tmp_path / "house/room.py").write_text("raise SystemExit('imported')\n\ndef chair(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate("house:seat") == "house/room.py:3"
    assert locate("house:TABLE") == "house/__init__.py:2"
    assert locate("house.room") == "house/room.py:1"
    assert locate("house:sofa") is None
    assert locate("house.attic:box") is None


def test_run_help_is_the_documentation(capsys):
    assert main(["run", "bandit/uniform", "--help", "--schedule.num-updates", "80"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in (
        "--learner.exploration FLOAT",
        "Probability ε of a uniformly random lever. Range [0, 1]. Source: Sutton & Barto 2018, §2.2. (default: 1.0)",
        "Standard deviation of a payment. Range [0, inf). Unit: reward. (default: 0.5)",
        "Updates in all. Range [1, inf). Unit: updates. (default: 80)",
        "--learner.tie-break {first,last}",
        "--inverted {True,False}",
        "Scale: one of the study's presets. (default: quick)",
        "paper: A thousand pulls.",
        "those of bandit/uniform at the preset quick",
    ):
        assert words in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(capsys, name):
    assert callable(COMMANDS[name].load())
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: tutelage {name}")


def test_overview_lists_every_command(capsys):
    for argv in ([], ["--help"], ["help"]):
        assert main(argv) == 0
        text = capsys.readouterr().out
        assert all(f"tutelage {name}" in text for name in COMMANDS)


@pytest.mark.parametrize(
    ("text", "seeds"), [("0:3", [0, 1, 2]), ("4", [4]), ("0,3,5", [0, 3, 5]), ("7:9,1", [7, 8, 1])]
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", ":", "1:", "2:2", "5:2", "0,0", "0:3,2", "-1", "-2:1", "1.5", "a"])
def test_seeds_refused(text):
    with pytest.raises(BadInput, match="seeds = "):
        parse_seeds(text)


def test_seeds_name_a_folder():
    assert [seeds_name(seeds) for seeds in ((3,), (0, 1, 2), (0, 3))] == ["seed-3", "seeds-0-2", "seeds-0,3"]


@pytest.mark.parametrize("argv", [["--help"], ["--version"]])
def test_no_framework_is_loaded(argv):
    program = (
        "import sys, tutelage\nfrom tutelage.cli import main\ncode = main(sys.argv[1:])\n"
        "loaded = {'jax', 'jaxlib', 'equinox', 'torch', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    answer = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, env=environment)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
