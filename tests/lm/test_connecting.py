"""From a name to a model in its layers, and what the whole stack guarantees."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from lm.virtual_time import simulate

import tutelage.lm as lm
from tutelage.lab.errors import BadInput
from tutelage.lm.clients.cache import Cache
from tutelage.lm.clients.flight import SingleFlight
from tutelage.lm.clients.ledger import Ledger
from tutelage.lm.clients.limits import Limits
from tutelage.lm.clients.retry import Retry
from tutelage.lm.connecting import connect
from tutelage.lm.model import Layer, run
from tutelage.lm.request import Completion, Failure, Request
from tutelage.lm.scripted import Faults, Grammar, Scripted


def _layers(model: lm.LanguageModel) -> list[type]:
    return [type(model), *(_layers(model.inner) if isinstance(model, Layer) else [])]


def _backend(model: lm.LanguageModel) -> lm.LanguageModel:
    return _backend(model.inner) if isinstance(model, Layer) else model


class Fake(Scripted):
    """Stands for a backend that is not under test here; remembers what it was made from."""

    def __init__(self, *where, **options):
        super().__init__({"a": "b"}, name="fake")
        self.where, self.options = where, options


@pytest.fixture
def fakes(monkeypatch):
    class Endpoint(Fake):
        def __init__(self, base_url, model, *, api_key=None, timeout=600.0):
            super().__init__(base_url, model, api_key=api_key, timeout=timeout)

    class HuggingFace(Fake):
        def __init__(self, where, *, dtype="auto"):
            super().__init__(where, dtype=dtype)

    class LiteLLM(Fake):
        def __init__(self, model, *, api_key=None):
            super().__init__(model, api_key=api_key)

    for name, kind in (
        ("clients.endpoint", Endpoint),
        ("huggingface", HuggingFace),
        ("clients.litellm_adapter", LiteLLM),
    ):
        module = types.ModuleType(name)
        setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, f"tutelage.lm.{name}", module)


def test_what_scripted_answers_from_is_a_model():
    for where in ({"a": "b"}, lambda request: "b", Grammar({"start": ["b"]}), Scripted({"a": "b"})):
        model = lm.connect(where)
        assert [each.text for each in run(model.generate([Request(prompt="a")]))] == ["b"]
        assert _layers(model) == [Ledger, SingleFlight, Retry, Scripted]
    assert connect({"a": "b"}, seed=1).identity != connect({"a": "b"}).identity


def test_servers_get_every_layer_in_order_and_local_models_neither_retries_nor_limits(
    fakes, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("OTHER_KEY", "sk-2")
    served = connect("http://127.0.0.1:8000/v1#org/name", cache=tmp_path / "a.sqlite", timeout=5.0)
    backend = _backend(served)
    assert _layers(served) == [Ledger, Cache, SingleFlight, Retry, Limits, type(backend)]
    assert (backend.where, backend.options) == (  # type: ignore[attr-defined]
        ("http://127.0.0.1:8000/v1", "org/name"),
        {"api_key": "sk-1", "timeout": 5.0},
    )
    assert served.model == "org/name"
    other = _backend(connect("https://host/v1#m", api_key_env="OTHER_KEY"))
    assert other.options["api_key"] == "sk-2"  # type: ignore[attr-defined]
    monkeypatch.delenv("OPENAI_API_KEY")
    assert _backend(connect("http://host/v1#m")).options["api_key"] is None  # type: ignore[attr-defined]
    assert _backend(connect("litellm:some/model")).where == ("some/model",)  # type: ignore[attr-defined]
    (tmp_path / "model").mkdir()
    module = types.SimpleNamespace(state_dict=dict)
    for where in (str(tmp_path / "model"), tmp_path / "model", "gpt2", "org/name-1.5b", module):
        local = connect(where, budget={"money": 0.0}, dtype="float32")
        assert _layers(local)[:2] == [Ledger, SingleFlight] and len(_layers(local)) == 3
        assert _backend(local).where == (where,)  # type: ignore[attr-defined]
        assert run(local.generate([Request(prompt="a")]))[0].text == "b"  # what runs here is free
    assert Limits in _layers(connect("gpt2", concurrency=2))
    run(served.close())


@pytest.mark.parametrize(
    ("where", "options", "part"),
    [
        (3, {}, "model is a int"),
        ("http://host/v1", {}, "http://host/v1#model"),
        ("htp://host/v1#m", {}, "did you mean 'http'"),
        ("litelm:m", {}, "did you mean 'litellm'"),
        ("./nowhere/at/all", {}, "no such folder"),
        (Path("nowhere"), {}, "no such folder"),
        ("a/b/c", {}, "no such folder"),
        ("http://host/v1#m", {"timout": 3}, "did you mean 'timeout'"),
        ("http://host/v1#m", {"api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY"),
        ("gpt2", {"dtyp": 3}, "did you mean 'dtype'"),
        ({"a": "b"}, {"fault": Faults()}, "did you mean 'faults'"),
        (Scripted({}), {"seed": 3}, "takes none"),
        ({}, {"attempts": 0}, "attempts is 0"),
        ({}, {"concurrency": 0}, "concurrency is 0"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_line(fakes, tmp_path: Path, where, options, part):
    with pytest.raises(BadInput, match=part) as told:
        connect(where, cache=tmp_path / "lm.sqlite", **options)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "lm.sqlite").exists()  # before any work


def test_a_folder_that_is_misspelt_names_the_nearest(tmp_path: Path):
    (tmp_path / "small-model").mkdir()
    with pytest.raises(BadInput, match="did you mean 'small-model'"):
        connect(str(tmp_path / "smal-model"))


REQUESTS = [Request(prompt=f"p{index % 150}", sample_index=index // 150, tag=f"t{index % 3}") for index in range(600)]


def _say(request: Request, source: random.Random) -> str:
    return f"{request.text()} {source.random()}"


def _results(**options) -> tuple[list[Completion], Scripted]:
    backend = Scripted(_say, faults=Faults(latency=0.5, **options.pop("faults", {})))

    async def ask():
        model = connect(backend, **options)
        try:
            return await model.generate(REQUESTS)
        finally:
            await model.close()

    return simulate(ask()), backend


def test_results_are_the_same_one_at_a_time_and_64_at_once_and_in_order(tmp_path: Path):
    plain = asyncio.run(Scripted(_say).generate(REQUESTS))
    for options in ({"concurrency": 1}, {"concurrency": 64}, {"concurrency": 64, "cache": tmp_path / "lm.sqlite"}, {}):
        answers, _ = _results(**options)
        assert [each.text for each in answers] == [each.text for each in plain]
        assert all(each.text.startswith(f"{asked.text()} ") for each, asked in zip(answers, REQUESTS))


def test_a_run_full_of_faults_ends_with_the_answers_of_a_clean_run(tmp_path: Path):
    faults = {"rate_limit": 0.3, "malformed": 0.05, "retry_after": 0.2, "attempts": 5}
    clean, _ = _results(cache=tmp_path / "clean.sqlite")
    faulty, backend = _results(cache=tmp_path / "faulty.sqlite", faults=faults, concurrency=64)
    assert faulty == clean
    assert backend.calls["generate"] > 1.3 * len(REQUESTS)
    replayed, backend = _results(cache=tmp_path / "faulty.sqlite", cache_mode="replay")
    assert [each.replace(from_cache=False) for each in replayed] == clean and not backend.calls


def test_no_secret_reaches_cache_errors_logs_or_sums(fakes, tmp_path: Path, monkeypatch, caplog):
    secret = "sk-very-secret-1234567890"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    caplog.set_level(logging.DEBUG)
    model = connect("https://host/v1#m", cache=tmp_path / "lm.sqlite", budget={"calls": 2})
    answers = run(model.generate([Request(prompt="a"), Request(prompt="unknown"), Request(prompt="over budget")]))
    with pytest.raises(BadInput) as told:
        connect("https://user:hunter2@host/v1?key=hunter2", cache=tmp_path / "lm.sqlite")
    shown = [
        *map(repr, answers),
        *(each.error.message for each in answers if each.error),
        json.dumps(model.summary()),
        caplog.text,
        str(told.value),
        model.identity,
        *(file.read_bytes().decode("latin-1") for file in tmp_path.iterdir()),
    ]
    run(model.close())
    assert len([each for each in answers if each.error]) == 2
    assert not [text for text in shown if secret in text or "hunter2" in text]


def test_a_failure_of_one_item_spoils_no_other():
    def say(request: Request):
        return Completion.failed(Failure("bad_request", "no")) if request.sample_index % 2 else "yes"

    answers = run(connect(say).generate([Request(prompt="a", sample_index=index) for index in range(10)]))
    assert [each.error is None for each in answers] == [True, False] * 5


IMPORT = """
import sys, time
sockets = []
sys.addaudithook(lambda event, arguments: sockets.append(event) if event.startswith("socket.") else None)
start = time.process_time()
import tutelage.lm as lm
bare = time.process_time() - start
heavy = {"torch", "transformers", "httpx", "sqlite3", "jax", "tokenizers", "json_repair"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
lm.Request(prompt="a"), lm.Scripted({"a": "b"}), lm.run, lm.LanguageModel
assert not heavy & set(sys.modules), heavy & set(sys.modules)
lm.connect({"a": "b"})
assert not (heavy - {"sqlite3"}) & set(sys.modules), heavy & set(sys.modules)
assert not sockets, sockets
print(f"import tutelage.lm: {bare:.3f} s, all of this room: {time.process_time() - start:.3f} s of CPU")
"""


def test_importing_loads_no_framework_and_opens_no_socket():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    done = subprocess.run([sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)


def test_a_thousand_requests_go_through_the_whole_stack(tmp_path: Path):
    requests = [Request(prompt=f"question {index} " * 10) for index in range(1000)]

    async def ask():
        model = connect(
            lambda request: request.text()[::-1], cache=tmp_path / "lm.sqlite", concurrency=64, budget={"calls": 1000}
        )
        try:
            return await model.generate(requests)
        finally:
            await model.close()

    for sent in (True, False):
        start = time.process_time()
        answers = asyncio.run(ask())
        print(f"1000 requests, {'answered' if sent else 'cached'}: {time.process_time() - start:.3f} s of CPU")
        assert [each.text for each in answers] == [each.text()[::-1] for each in requests]
        assert all(each.from_cache != sent for each in answers)
