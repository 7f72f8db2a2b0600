"""The cache: nothing answered is asked again, what comes back is what was put in, and bad files say so."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.lab.errors import BadInput
from tutelage.lm.clients.cache import Cache, Store, packed, unpacked
from tutelage.lm.connecting import connect
from tutelage.lm.request import Completion, Message, Request, Scored, Scoring, Usage
from tutelage.lm.scripted import Faults, Scripted

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}

floats = st.floats(allow_nan=False)
completions = st.builds(
    Completion,
    text=st.text() | st.text(st.characters(categories=["Cs", "L"])),
    tokens=st.none() | st.lists(st.integers(0, 2**31)).map(tuple),
    logprobs=st.none() | st.lists(floats).map(tuple),
    top_logprobs=st.none() | st.lists(st.dictionaries(st.text(), floats, max_size=3), max_size=3).map(tuple),
    finish_reason=st.sampled_from(["stop", "length"]),
    usage=st.builds(Usage, *[st.integers(0, 10**6)] * 3),
    cost=floats,
    latency=floats,
    model=st.text(),
)


def _asked(model, requests):
    async def ask():
        try:
            return await model.generate(requests)
        finally:
            await model.close()

    return asyncio.run(ask())


@given(completions)
@settings(max_examples=200, deadline=None)
def test_every_completion_comes_back_as_it_was(completion):
    assert unpacked(packed(completion)) == completion
    assert packed(unpacked(packed(completion))) == packed(completion)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_scores_and_embeddings_come_back_bit_by_bit(kind):
    source = np.random.default_rng(0)
    rows = (source.normal(size=3).astype(kind), np.array([-np.inf, 0.1], kind), np.empty(0, kind))
    scored = Scored(np.array([each.sum() for each in rows]), rows, Usage(7))
    again = unpacked(packed(scored))
    assert again.usage == scored.usage and again.totals.tobytes() == scored.totals.tobytes()
    assert [each.tobytes() for each in again.tokens] == [each.tobytes() for each in rows]
    assert [each.dtype for each in again.tokens] == [kind] * 3
    assert unpacked(packed(rows[0])).tobytes() == rows[0].tobytes()


@given(st.binary(max_size=40))
@settings(deadline=None)
def test_what_was_never_packed_is_refused_without_surprises(value):
    import zlib

    for attempt in (value, zlib.compress(value), zlib.compress(json.dumps({"kind": "Completion"}).encode())):
        with pytest.raises((ValueError, KeyError, TypeError, zlib.error)):
            unpacked(attempt)


def test_a_hit_is_the_answer_byte_by_byte_and_nothing_is_sent(tmp_path: Path):
    words = {"yes": 2.0, "no": 1.0}
    requests = [
        Request(prompt="a", top_logprobs=2),
        Request(messages=(Message("user", "b"),), sample_index=1, tag="x", meta={"i": 1}),
    ]

    def answer(request, source):
        return f"yes no {source.random()}"

    def model():
        backend = Scripted(answer, words=words, faults=Faults(latency=1e-4))
        prices = {backend.identity: {"prompt": 3, "completion": 5}}
        return backend, connect(backend, cache=tmp_path / "lm.sqlite", prices=prices)

    first_backend, first = model()
    fresh = _asked(first, requests)
    second_backend, second = model()
    again = _asked(second, [each.replace(tag="other", meta={}) for each in requests])
    assert first_backend.calls["generate"] == 2 and second_backend.calls["generate"] == 0
    assert not any(each.from_cache for each in fresh) and all(each.from_cache for each in again)
    assert [each.replace(from_cache=False) for each in again] == fresh
    assert [packed(each) for each in again] == [packed(each) for each in fresh]
    assert fresh[0].cost > 0 and second.account.spent.money == 0


def test_scores_and_embeddings_are_kept_too_and_embeddings_text_by_text(tmp_path: Path):
    async def ask(backend: Scripted):
        model = Cache(backend, tmp_path / "lm.sqlite")
        scored = await model.score([Scoring("a", (" x", " y x"))])
        vectors = await model.embed(["one", "two", "one"])
        more = await model.embed(["two", "three"])
        await model.close()
        return scored, vectors, more

    first, second = (Scripted({}, words={"x": 1, "y": 3}) for _ in range(2))
    fresh, again = asyncio.run(ask(first)), asyncio.run(ask(second))
    assert first.calls == {"score": 1, "embed": 2} and not second.calls
    assert again[0][0].from_cache and not fresh[0][0].from_cache
    assert again[0][0].totals.tobytes() == fresh[0][0].totals.tobytes()
    for one, two in zip(fresh[1:], again[1:]):
        assert one.tobytes() == two.tobytes() and one.dtype == two.dtype
    assert np.array_equal(fresh[1], asyncio.run(Scripted({}).embed(["one", "two", "one"])))


def test_failures_and_content_filter_stops_are_not_kept(tmp_path: Path):
    backend = Scripted({"a": "b"}, faults=Faults(refusal=0.5, server=0.5, attempts=1))
    requests = [Request(prompt="a", sample_index=index) for index in range(20)]

    async def ask():
        model = Cache(backend, tmp_path / "lm.sqlite")
        first = await model.generate(requests)
        second = await model.generate(requests)
        await model.close()
        return first, second

    first, second = asyncio.run(ask())
    assert {each.finish_reason for each in first} == {"content_filter", "error"}
    assert [each.text for each in second] == ["b"] * 20 and not any(each.from_cache for each in second)


def test_modes_read_write_or_replay(tmp_path: Path):
    file = tmp_path / "lm.sqlite"
    known, new = Request(prompt="known"), Request(prompt="new " * 30, tag="judge")
    answer = {"known": "k", "new " * 30: "n"}
    for missing in ("ro", "replay"):
        with pytest.raises(BadInput, match="does not exist"):
            connect(answer, cache=file, cache_mode=missing)
    _asked(connect(answer, cache=file), [known])
    before = file.read_bytes()
    for mode, sent, texts in (("ro", 1, ["k", "n"]), ("off", 2, ["k", "n"]), ("replay", 0, ["k", ""])):
        backend = Scripted(answer)
        found = _asked(connect(backend, cache=file, cache_mode=mode), [known, new])
        assert (backend.calls["generate"], [each.text for each in found]) == (sent, texts)
        assert file.read_bytes() == before
    failure = found[1].error
    assert failure is not None and failure.kind == "cache_miss" and not failure.passing
    assert "'judge'" in failure.message and "new new" in failure.message and len(failure.message) < 300
    with pytest.raises(BadInput, match="did you mean 'replay'"):
        connect(answer, cache=file, cache_mode="repaly")
    with pytest.raises(BadInput, match="no cache"):
        connect(answer, cache_mode="replay")


def test_an_embedding_that_is_missing_in_replay_is_one_clear_line(tmp_path: Path):
    file = tmp_path / "lm.sqlite"
    _asked(connect({}, cache=file), [])
    model = Cache(Scripted({}), file, "replay")
    with pytest.raises(BadInput, match="no answer for tag 'embed'"):
        asyncio.run(model.embed(["x"]))
    asyncio.run(model.close())


def test_an_answer_is_handed_on_only_when_another_connection_can_read_it(tmp_path: Path):
    file = tmp_path / "lm.sqlite"
    model = connect({f"{index}": "x" for index in range(200)}, cache=file)

    async def ask(index: int, turns: int) -> bool:
        request = Request(prompt=str(index))
        for _ in range(turns):  # so that some find the answer on its way to the disk
            await asyncio.sleep(0)
        await model.complete(request)
        with sqlite3.connect(file) as other:
            row = other.execute("SELECT 1 FROM answers WHERE key = ?", (request.key(model.identity),)).fetchone()
        other.close()
        return row is not None

    async def everything():
        found = await asyncio.gather(*[ask(index, turns) for index in range(100) for turns in (0, 4, 5, 6, 7, 8)])
        await model.close()
        return found

    assert all(asyncio.run(everything()))


@pytest.mark.parametrize("damage", [b"", b"junk", "cut", "flip", "other"])
def test_a_damaged_value_counts_as_missing_is_reported_and_replaced(tmp_path: Path, damage, caplog):
    file = tmp_path / "lm.sqlite"
    request = Request(prompt="a")
    _asked(connect({"a": "b"}, cache=file), [request])
    with sqlite3.connect(file) as other:
        [value] = other.execute("SELECT value FROM answers").fetchone()
        flipped = value[:-6] + bytes([value[-6] ^ 1]) + value[-5:]
        wrong = {"cut": value[:-5], "flip": flipped, "other": packed(np.ones(2))}.get(damage, damage)
        other.execute("UPDATE answers SET value = ?", (wrong,))
    other.close()
    with caplog.at_level(logging.WARNING):
        for sent in (1, 0):
            backend = Scripted({"a": "b"})
            [answer] = _asked(connect(backend, cache=file), [request])
            assert (answer.text, backend.calls["generate"]) == ("b", sent)
    assert len(caplog.records) == 1 and "damaged" in caplog.text and str(file) in caplog.text


def test_foreign_old_and_broken_files_are_refused_in_one_line_and_left_alone(tmp_path: Path):
    foreign, old, text, folder = (tmp_path / name for name in ("foreign", "old", "text", "folder"))
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    Store(old).close()
    with sqlite3.connect(old) as other:
        other.execute("PRAGMA user_version = 0")
    other.close()
    text.write_text("no database, but long enough to be taken for one\n" * 100)
    folder.mkdir()
    broken = {foreign: "another program", old: "format 0", text: "not a database", folder: "cannot be used"}
    for path, part in broken.items():
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(BadInput, match=part) as told:
            connect({"a": "b"}, cache=path)
        assert "\n" not in str(told.value) and str(path) in str(told.value)
        assert not path.is_file() or path.read_bytes() == before


def test_a_file_damaged_in_the_middle_is_one_clear_line(tmp_path: Path):
    file = tmp_path / "lm.sqlite"
    requests = [Request(prompt=str(index)) for index in range(500)]
    _asked(connect(lambda request: request.text() * 50, cache=file), requests)
    whole = bytearray(file.read_bytes())
    whole[8192:] = os.urandom(len(whole) - 8192)
    file.write_bytes(whole)
    with pytest.raises(BadInput, match="cannot be used") as told:
        _asked(connect(lambda request: request.text() * 50, cache=file), requests)
    assert "\n" not in str(told.value)


def test_a_disk_that_is_full_is_one_clear_line_and_what_was_kept_stays(tmp_path: Path):
    async def fill():
        model = Cache(Scripted(lambda request, source: source.randbytes(3000).hex()), store)
        await model.generate([Request(prompt="first")])
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(BadInput, match="is full"):
            for index in range(20):
                await model.complete(Request(prompt="more", sample_index=index))
        return await model.complete(Request(prompt="first"))

    store = Store(tmp_path / "lm.sqlite")
    assert asyncio.run(fill()).from_cache
    store.close()


def test_several_models_share_an_open_store(tmp_path: Path):
    async def both():
        one, two = (connect({"a": name}, name=name, cache=store) for name in ("one", "two"))
        first = [(await model.complete(Request(prompt="a"))).text for model in (one, two)]
        await one.close()
        return first, await two.complete(Request(prompt="a"))

    store = Store(tmp_path / "lm.sqlite")
    first, again = asyncio.run(both())
    store.close()
    assert first == ["one", "two"] and (again.text, again.from_cache) == ("two", True)


SENDER = """
import asyncio, json, os, sys
from tutelage.lm.clients.cache import Cache, Store
from tutelage.lm.clients.flight import SingleFlight
from tutelage.lm.clients.ledger import Ledger
from tutelage.lm.clients.limits import Limits
from tutelage.lm.request import Request
from tutelage.lm.clients.retry import Retry
from tutelage.lm.scripted import Faults, Scripted

folder, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sent = os.open(f"{folder}/sent", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
answered = os.open(f"{folder}/answered", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def answer(request, source):
    os.write(sent, f"{os.getpid()} {request.text()}\\n".encode())
    return str(source.random())

backend = Scripted(answer, name="sender", faults=Faults(server=0.2, malformed=0.1, latency=0.001, attempts=2))
store = Store(f"{folder}/lm.sqlite")
calls = Retry(Limits(backend, concurrency=16), attempts=50, base=0.001, store=store)
model = Ledger(Cache(SingleFlight(calls), store))

async def one(index):
    completion = await model.complete(Request(prompt=str(index)))
    assert completion.error is None, completion.error
    os.write(answered, f"{os.getpid()} {index}\\n".encode())
    return completion.text

async def main():
    texts = await asyncio.gather(*map(one, range(first, last)))
    store.close()
    print(json.dumps(texts))

asyncio.run(main())
"""


def _lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def _sender(folder: Path, first: int, last: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SENDER, str(folder), str(first), str(last)]
    return subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_after_kills_at_random_moments_nothing_answered_is_sent_again_and_the_end_is_the_same(tmp_path: Path):
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    clean.mkdir(), killed.mkdir()
    moments = random.Random(7)
    deaths = 0
    for _ in range(6):
        process = _sender(killed, 0, 1500)
        before = len(_lines(killed / "sent"))
        while process.poll() is None and len(_lines(killed / "sent")) == before:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.12))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        deaths += process.returncode == -signal.SIGKILL
    texts = []
    for folder in (killed, clean):
        process = _sender(folder, 0, 1500)
        out, err = process.communicate()
        assert process.returncode == 0, err
        texts.append(json.loads(out))
    assert deaths >= 3  # otherwise nothing was tested
    assert texts[0] == texts[1]
    answered: dict[str, str] = {}
    order = list(dict.fromkeys(process for process, _ in _lines(killed / "sent")))
    for process, index in _lines(killed / "answered"):
        answered.setdefault(index, process)
    again = [
        (process, index)
        for process, index in _lines(killed / "sent")
        if index in answered and order.index(process) > order.index(answered[index])
    ]
    assert not again
    assert len({index for _, index in _lines(killed / "sent")}) == 1500


def test_two_processes_share_one_file(tmp_path: Path):
    processes = [_sender(tmp_path, 0, 400), _sender(tmp_path, 200, 600)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    one, two = (json.loads(out) for out, _ in outputs)
    assert one[200:] == two[:200]
    process = _sender(tmp_path, 0, 600)
    before = len(_lines(tmp_path / "sent"))
    out, _ = process.communicate()
    assert json.loads(out) == one + two[200:] and len(_lines(tmp_path / "sent")) == before


def test_a_cancelled_waiter_does_not_lose_the_answer_that_came(tmp_path: Path):
    async def check():
        backend = Scripted({"a": "b"})
        model = Cache(backend, tmp_path / "lm.sqlite")
        task = asyncio.ensure_future(model.complete(Request(prompt="a")))
        await asyncio.sleep(0)  # the answer is there and on its way to the disk
        task.cancel()
        [again] = await model.generate([Request(prompt="a")])
        await model.close()
        return backend.calls["generate"], again

    calls, again = asyncio.run(check())
    assert calls == 1 and again.from_cache
