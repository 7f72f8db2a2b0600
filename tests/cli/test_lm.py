"""`tutelage lm` as a user types it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import tutelage.lm
from tutelage.cli import lm, main
from tutelage.lab.errors import BadInput
from tutelage.lm import Completion, Failure
from tutelage.lm.model import LanguageModel

ROOT = Path(__file__).parents[2]
ATTACK = "[red]not markup[/red] :smile: [/] \x1b]0;title\x07\x1b[2Jtext \u202egnp.exe\r\nnext\tline\x00\x9b"


class Told(LanguageModel):
    """Says one text, to messages another one."""

    identity = "told"
    closed = False

    def __init__(self, text: str = "hello") -> None:
        self.text, self.asked = text, []

    async def complete(self, request):
        self.asked.append(request)
        if "bad" in request.text():
            return Completion.failed(Failure("server", "no [b]luck[/b]\x1b[0m"))
        return Completion(self.text, logprobs=(-1.0,))

    async def close(self):
        self.closed = True


@pytest.fixture
def told(monkeypatch):
    model = Told()

    def connect(where, **options):
        if where == "nowhere":
            raise BadInput("nowhere: no such model")
        return model

    monkeypatch.setitem(vars(tutelage.lm), "connect", connect)
    return model


def test_help_lists_the_commands_and_their_options(capsys):
    assert main(["lm"]) == 0
    said = capsys.readouterr().out
    for name in lm.COMMANDS:
        assert f"tutelage lm {name} " in said
    assert main(["lm", "serve", "--help"]) == main(["lm", "sample", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--max-concurrent" in said and "--temperature" in said and "--chat" in said
    assert main(["--help"]) == 0
    assert "tutelage lm serve MODEL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("lm sampel m", "lm 'sampel': there are serve, sample"),
        ("lm sample", "nothing: give MODEL, and a PROMPT"),
        ("lm sample m a b", "m a b: give MODEL, and a PROMPT"),
        ("lm sample m --temprature 1", "--temprature: no such setting; did you mean '--temperature'?"),
        ("lm sample m --top-p 0", "top_p = 0.0: must be in (0, 1]"),
        ("lm sample nowhere hi", "nowhere: no such model"),
        ("lm serve", "nothing: give exactly one MODEL"),
        ("lm serve m --port 70000", "port = 70000: must be in [0, 65535]"),
        ("lm serve m --host 0.0.0.0", "host = '0.0.0.0': other machines could use the model; set TUTELAGE_LM_TOKEN"),
    ],
)
def test_bad_input_is_one_line(capsys, monkeypatch, told, argv, line):
    monkeypatch.delenv("TUTELAGE_LM_TOKEN", raising=False)
    assert main(argv.split()) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"tutelage: {line}") and output.err.count("\n") == 1
    assert output.out == "" and not told.asked


def test_one_sample_is_its_text_alone(capsys, told):
    assert main(["lm", "sample", "m", "say [it]", "--max-tokens", "5", "--temperature", "0", "--stop", "a,b"]) == 0
    assert capsys.readouterr().out == "hello\n"
    [request] = told.asked
    assert (request.prompt, request.max_tokens, request.temperature, request.stop) == ("say [it]", 5, 0, ("a", "b"))
    assert told.closed


def test_several_samples_of_a_chat_from_standard_input(capsys, told, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("two\nlines"))
    assert main(["lm", "sample", "m", "-", "--n", "2", "--chat", "--seed", "3"]) == 0
    assert capsys.readouterr().out == "── 1, stop ──\nhello\n── 2, stop ──\nhello\n"
    assert [each.messages[0].content for each in told.asked] == ["two\nlines"] * 2
    assert [(each.seed, each.sample_index) for each in told.asked] == [(3, 0), (3, 1)]


def test_json_holds_everything_and_no_control_characters(capsys, told):
    told.text = ATTACK
    assert main(["lm", "sample", "m", "x", "--n", "2", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == [ATTACK, ATTACK]
    assert json.loads(lines[0])["logprobs"] == [-1.0]
    assert all(line.isascii() and line.isprintable() for line in lines)


@pytest.mark.parametrize("colour", ["", "1"])
def test_text_of_a_model_cannot_command_the_terminal(capsys, told, monkeypatch, colour):
    monkeypatch.setenv("FORCE_COLOR", colour)
    monkeypatch.setenv("COLUMNS", "30")
    told.text = ATTACK
    assert main(["lm", "sample", "m", "x"]) == 0
    said = capsys.readouterr().out
    assert said == "[red]not markup[/red] :smile: [/] ]0;title[2Jtext gnp.exe\nnext\tline\n".expandtabs(8) or (
        said == "[red]not markup[/red] :smile: [/] ]0;title[2Jtext gnp.exe\nnext\tline\n"
    )


def test_failures_go_to_stderr_and_make_the_exit_code(capsys, told):
    assert main(["lm", "sample", "m", "bad"]) == 1
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "tutelage: no [b]luck[/b][0m\n")
    assert told.closed


def test_serve_answers_until_it_is_told_to_stop():
    program = (
        "import sys, tutelage.lm\n"
        "from tutelage.cli import main\n"
        "tutelage.lm.connect = lambda where: tutelage.lm.Scripted({'hi': 'ho'})\n"
        "sys.exit(main(['lm', 'serve', 'models/tiny/', '--port', '0']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TUTELAGE_LM_TOKEN": "sesame"}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("tiny: serving at http://127.0.0.1:") and first.endswith("/v1 (Ctrl-C stops)\n")
        url = first.split()[3]
        with httpx.Client(trust_env=False, headers={"authorization": "Bearer sesame"}) as client:
            answer = client.post(f"{url}/completions", json={"model": "tiny", "prompt": "hi"})
        assert answer.json()["choices"][0]["text"] == "ho"
        assert httpx.get(f"{url}/models", trust_env=False).status_code == 401
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
    assert (rest, process.returncode) == ("tiny: stopped\n", 0)
