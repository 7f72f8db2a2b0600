"""`tutelage STUDY TOOL`: a study's tools are found, listed, told what they lack, and given their arguments."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
from lab import toy_study

from tutelage import studies
from tutelage.cli import main, options
from tutelage.lab.errors import BadInput
from tutelage.lab.settings import setting
from tutelage.lab.study import Tool


@dataclass(frozen=True)
class PullArguments:
    """Arguments of `bandit pull`."""

    run: str = setting("", "A run folder.", word=True, needed=True)
    levers: tuple[str, ...] = setting((), "Levers to pull.", word=True)
    times: int = setting(0, "How often.", interval="[1, 9]", needed=True)
    share: float = setting(0.5, "A share.", interval="[0, 1]")
    loud: bool = setting(False, "Say more.")


CALLS: list[PullArguments] = []


@pytest.fixture(autouse=True)
def bandit(monkeypatch):
    CALLS.clear()
    tools = {"pull": Tool("Pulls levers of your own.", PullArguments, "cli.test_tools:CALLS.append")}
    monkeypatch.setattr(studies, "STUDIES", {"bandit": "lab.toy_study"})
    monkeypatch.setattr(toy_study, "study", dataclasses.replace(toy_study.study, tools=tools))


def test_words_flags_and_switches_are_read_in_any_order():
    given = options.read_all(PullArguments, ["--times", "2", "here", "--loud", "a", "b", "--share=0.25"])
    assert given == PullArguments("here", ("a", "b"), 2, 0.25, True)
    assert options.usage(PullArguments) == "RUN [LEVERS…] --times INT"


def test_a_tool_runs_with_its_arguments():
    import cli.test_tools as loaded

    loaded.CALLS.clear()
    assert main(["bandit", "pull", "runs/x", "left", "--times", "3"]) == 0
    assert [dataclasses.astuple(each) for each in loaded.CALLS] == [("runs/x", ("left",), 3, 0.5, False)]


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("pull", "RUN is missing: A run folder."),
        ("pull here", "--times is missing: How often."),
        ("pull here --times 12", "times = 12: must be in [1, 9]"),
        ("pull here --tmes 2", "--tmes: no such setting; did you mean '--times'?"),
        ("pull here --run x", "--run: no such setting"),
        ("pul here", "'pul' is not a tool of bandit; there are pull; did you mean 'pull'?"),
        ("greedy", "'greedy' is an arm of bandit, not a tool: tutelage run bandit/greedy"),
    ],
)
def test_bad_input_is_one_line(capsys, line, refusal):
    assert main(["bandit", *line.split()]) == 2
    assert capsys.readouterr().err == f"tutelage: {refusal}\n"


def test_a_word_too_many_is_refused():
    @dataclass(frozen=True)
    class One:
        file: str = setting("", "A file.", word=True, needed=True)

    with pytest.raises(BadInput, match=r"'b': a word too many; usage: FILE"):
        options.read_all(One, ["a", "b"])


def test_tools_are_listed_by_help_by_list_and_by_their_own_help(capsys):
    for line, code in (
        ("--help", 0),
        ("bandit --help", 0),
        ("bandit", 2),
        ("list bandit", 0),
        ("bandit pull --help", 0),
    ):
        assert main(line.split()) == code
        assert "pull" in capsys.readouterr().out
    assert main(["bandit", "pull", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "RUN [LEVERS…] --times INT" in shown and "RUN: A run folder." in shown and "--share" in shown


@pytest.mark.parametrize("name", ["compositional_attention", "minimax", "mixing", "mogfn", "reason_rl"])
def test_tools_of_every_study_can_be_loaded(monkeypatch, name):
    from tutelage.lab.naming import resolve

    monkeypatch.undo()
    study = studies.load(name)
    assert study.tools
    for tool in study.tools.values():
        assert callable(resolve(tool.run))
        assert tool.arguments.__doc__ and options.usage(tool.arguments)
