"""Objectives behind HTTP, against a server that the test starts and stops."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tutelage.gflownets.oracles.endpoint import Endpoint, Unavailable
from tutelage.gflownets.oracles.oracle import Oracle, OracleError
from tutelage.gflownets.oracles.own import own_objectives
from tutelage.lab.errors import BadInput


class _Server(ThreadingHTTPServer):
    """Scores a word by its length and its A's. `faults` are answered first: (status, headers, text)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.faults: list[tuple[int, dict[str, str], str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/score"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(body)
        self.server.tokens.append(self.headers["authorization"])
        words = body["objects"]
        if self.server.faults:
            self._say(*self.server.faults.pop(0))
        elif "TTT" in words:
            self._say(422, {}, "TTT is no sequence")
        else:
            values = [[len(word), None if word == "AAA" else word.count("A")] for word in words]
            self._say(200, {}, json.dumps({"values": values}))

    def _say(self, status: int, headers: dict[str, str], text: str) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(text.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _word(row: np.ndarray) -> str:
    return "".join("ACGT"[number] for number in row)


def _objectives(endpoint: Endpoint):
    return own_objectives(endpoint, maximise={"as": (0, 3)}, minimise={"length": (0, 6)}, render=_word)


def _endpoint(server: _Server, waits: list[float] | None = None, **options: Any) -> Endpoint:
    sleep = (lambda seconds: waits.append(seconds)) if waits is not None else (lambda seconds: None)
    return Endpoint(server.url, ("length", "as"), sleep=sleep, **options)


_ROWS = np.array([[0, 1, 2], [0, 0, 3], [0, 1, 2]], np.int32)


def test_a_batch_goes_round_and_is_asked_once(server: _Server):
    with Oracle(_objectives(_endpoint(server))) as oracle:
        np.testing.assert_allclose(oracle(_ROWS), [[0.5, 1 / 3], [0.5, 2 / 3], [0.5, 1 / 3]], rtol=1e-6)
        oracle(_ROWS)
    assert server.requests == [{"objects": ["ACG", "AAT"], "objectives": ["length", "as"]}]


def test_passing_faults_are_tried_again_with_back_off(server: _Server):
    waits: list[float] = []
    server.faults = [(503, {"retry-after": "7"}, "busy"), (429, {}, "slow down"), (500, {}, "oops")]
    endpoint = _endpoint(server, waits, base=0.5)
    assert Oracle(_objectives(endpoint))(_ROWS).shape == (3, 2)
    assert endpoint.retries == 3 and waits[0] == 7.0 and waits[1] <= 1.0 and waits[2] <= 2.0


def test_an_answer_that_is_none_is_tried_no_longer_than_told(server: _Server):
    server.faults = [(503, {}, "busy")] * 2
    with pytest.raises(OracleError, match=r"the oracle cannot be used: .*answered 503: busy"):
        Oracle(_objectives(_endpoint(server, attempts=2)))(_ROWS)
    assert len(server.requests) == 2


def test_refused_objects_are_named_and_the_others_kept(server: _Server, tmp_path: Path):
    rows = np.array([[0, 1, 2], [3, 3, 3], [1, 1, 1], [0, 0, 0]], np.int32)
    with Oracle(_objectives(_endpoint(server)), cache=tmp_path / "scores.jsonl") as oracle:
        with pytest.raises(OracleError, match=r"failed at 2 of 4 objects \(TTT, AAA\).*422: TTT is no sequence"):
            oracle(rows)
        assert oracle.counts.scored == 2


def test_a_server_that_is_not_there_or_elsewhere_is_said_in_one_line(server: _Server):
    server.faults = [(302, {"location": "http://127.0.0.1:9/"}, "")]
    with pytest.raises(OracleError, match="redirects"):
        Oracle(_objectives(_endpoint(server)))(_ROWS)
    server.faults = [(404, {}, "no such page")]
    with pytest.raises(OracleError, match="answered 404"):
        Oracle(_objectives(_endpoint(server)))(_ROWS)
    closed = Endpoint("http://127.0.0.1:9/score", ("length", "as"), attempts=2, sleep=lambda seconds: None)
    with pytest.raises(Unavailable, match="after 2 attempts"):
        closed(["A"])


def test_a_slow_server_is_not_waited_for(server: _Server):
    release = threading.Event()
    answer = _Handler._say

    def slow(self, *args: Any) -> None:
        release.wait(5)
        answer(self, *args)

    _Handler._say = slow  # type: ignore[method-assign]
    try:
        with pytest.raises(Unavailable, match="timed out"):
            _endpoint(server, timeout=0.05, attempts=1)(["A"])
    finally:
        release.set()
        _Handler._say = answer  # type: ignore[method-assign]


def test_a_token_is_sent_and_never_seen(server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCORE_TOKEN", "s3cret-token")
    endpoint = _endpoint(server, token_variable="SCORE_TOKEN")
    with Oracle(_objectives(endpoint), cache=tmp_path / "scores.jsonl") as oracle:
        oracle(_ROWS)
        server.faults = [(401, {}, "wrong token s3cret-token")]
        with pytest.raises(OracleError, match="401: wrong token …") as caught:
            oracle(np.array([[1, 1, 1]], np.int32))
    assert server.tokens[0] == "Bearer s3cret-token"
    seen = repr(endpoint) + str(caught.value) + (tmp_path / "scores.jsonl").read_text()
    assert "s3cret" not in seen


def test_a_url_or_token_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch):
    for url in ("ftp://x/y", "127.0.0.1:80", "http://user:word@host/", ""):
        with pytest.raises(BadInput, match="url"):
            Endpoint(url, ("a",))
    monkeypatch.delenv("SCORE_TOKEN", raising=False)
    with pytest.raises(BadInput, match="SCORE_TOKEN"):
        Endpoint("https://host/", ("a",), token_variable="SCORE_TOKEN")
    monkeypatch.setenv("SCORE_TOKEN", "token")
    with pytest.raises(BadInput, match="must not travel over http"):
        Endpoint("http://host.example/", ("a",), token_variable="SCORE_TOKEN")
    with pytest.raises(BadInput, match="attempts = 0"):
        Endpoint("http://127.0.0.1/", ("a",), attempts=0)
