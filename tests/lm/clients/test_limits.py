"""Rates hold against a simulated clock, and the number of calls at once follows what the server stands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm.virtual_time import simulate

from tutelage.lab.errors import BadInput
from tutelage.lm.clients.limits import Bucket, Limits, estimated_tokens
from tutelage.lm.model import LanguageModel
from tutelage.lm.request import Completion, Failure, Message, Request, Scoring, Usage
from tutelage.lm.scripted import Faults, Scripted


class Server(LanguageModel):
    """Answers at a time of its own, up to `stands` calls at once; beyond that 429, or slower for all."""

    identity = "server"

    def __init__(self, stands: int = 10**9, seconds: float = 1.0, *, slows: bool = False, usage: Usage | None = None):
        self.stands, self.seconds, self.slows, self.usage = stands, seconds, slows, usage or Usage(10, 0, 10)
        self.active = self.most = self.refused = 0
        self.starts: list[float] = []
        self.at_end: Callable[[], object] = lambda: None

    async def complete(self, request: Request) -> Completion:
        self.starts.append(asyncio.get_running_loop().time())
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            if self.active > self.stands and not self.slows:
                self.refused += 1
                await asyncio.sleep(0.01)
                return Completion.failed(Failure("rate_limit", "too many", 429, 0.5))
            await asyncio.sleep(self.seconds * max(1.0, self.active / self.stands))
            self.at_end()
            return Completion("x", usage=self.usage)
        finally:
            self.active -= 1


def _asked(model: LanguageModel, count: int, **fields):
    return simulate(model.generate([Request(prompt="p", sample_index=index, **fields) for index in range(count)]))


def _most_in_a_window(moments: list[tuple[float, float]], window: float) -> float:
    return max(sum(amount for at, amount in moments if start <= at < start + window) for start, _ in moments)


@given(
    st.floats(6, 6000),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 400)), min_size=1, max_size=60),
    st.floats(0.01, 100),
)
@settings(deadline=None)
def test_in_no_window_passes_more_than_the_rate_allows(per_minute, takers, window):
    async def check():
        bucket, passed = Bucket(per_minute), []

        async def take(amount: int):
            await bucket.take(amount)
            passed.append((asyncio.get_running_loop().time(), amount))

        tasks = []
        for pause, amount in takers:
            await asyncio.sleep(pause)
            tasks.append(asyncio.ensure_future(take(amount)))
        await asyncio.gather(*tasks)
        return passed

    passed = simulate(check())
    rate = per_minute / 60
    assert len(passed) == len(takers)
    # One taker that is larger than the bucket passes when it has filled, before the window, for all of it.
    largest = max(amount for _, amount in takers)
    assert _most_in_a_window(passed, window) <= (rate * window + max(1, rate)) * (1 + 1e-9) + largest


def test_requests_per_minute_hold_exactly_and_are_used_fully():
    server = Server()
    _asked(Limits(server, concurrency=1000, rpm=120), 300)
    assert _most_in_a_window([(at, 1) for at in server.starts], 60) <= 122
    assert server.starts[-1] == pytest.approx((300 - 2) / 2)  # two at once, then one each half second


def test_tokens_per_minute_are_taken_beforehand_and_corrected_by_the_usage():
    taken = estimated_tokens(Request(prompt="p")) + 100
    server = Server(usage=Usage(taken - 100, 0, 100))
    _asked(Limits(server, concurrency=1000, tpm=60 * taken), 100, max_tokens=100)
    assert server.starts[-1] == pytest.approx(99)
    frugal = Server(usage=Usage(taken - 100, 0, 0), seconds=0.001)
    model = Limits(frugal, concurrency=1, tpm=60 * taken)
    _asked(model, 100, max_tokens=100)
    assert frugal.starts[-1] == pytest.approx(99 * (taken - 100) / taken, rel=0.05)


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_never_more_calls_at_once_than_allowed_and_all_are_answered_in_order(concurrency):
    backend = Scripted(lambda request: request.text(), faults=Faults(latency=1.0))
    server = Server()
    answers = _asked(Limits(server, concurrency=concurrency), 200)
    assert server.most <= concurrency and len(answers) == 200 and not any(each.error for each in answers)
    requests = [Request(prompt=str(index)) for index in range(200)]
    answers = simulate(Limits(backend, concurrency=concurrency).generate(requests))
    assert [each.text for each in answers] == [each.text() for each in requests]


def test_too_many_requests_halve_the_width_once_per_round_trip_and_hold_everyone_back():
    server = Server(stands=4)
    model = Limits(server, concurrency=16)
    first = _asked(model, 16)
    assert sum(each.error is not None for each in first) == 12
    assert 8 <= model.width <= 9  # twelve refusals of one round are one sign, then come four answers


def test_after_429_nothing_is_sent_before_the_server_said():
    server = Server(stands=4)

    async def check():
        model = Limits(server, concurrency=16)
        first = asyncio.ensure_future(model.generate([Request(prompt=str(index)) for index in range(16)]))
        await asyncio.sleep(0.1)  # after 0.01 twelve were told to wait half a second
        await model.complete(Request(prompt="next"))
        await first

    simulate(check())
    assert server.starts == [0.0] * 16 + [pytest.approx(0.51)]


def test_under_a_server_that_stands_ten_at_once_most_calls_go_through():
    server = Server(stands=10)

    async def ask(model: Limits, index: int) -> None:
        while (await model.complete(Request(prompt="p", sample_index=index))).error:
            await asyncio.sleep(1)

    async def everyone():
        model = Limits(server, concurrency=64)
        await asyncio.gather(*[ask(model, index) for index in range(2000)])
        return asyncio.get_running_loop().time()

    seconds = simulate(everyone())
    assert server.refused < 0.2 * len(server.starts)
    assert seconds < 2 * 2000 / 10  # at least half of what the server could do


def test_growing_latency_narrows_and_a_quick_server_is_used_fully():
    slow = Server(stands=8, slows=True)
    model = Limits(slow, concurrency=64)
    _asked(model, 1500)
    assert 10 < model.width < 30
    quick = Server()
    model = Limits(quick, concurrency=64)
    _asked(model, 500)
    assert model.width == 64 and quick.most == 64


def test_answers_that_are_all_slower_than_before_do_not_stop_the_traffic():
    server = Server(seconds=0.1)
    model = Limits(server, concurrency=32)

    async def shift():
        await model.generate([Request(prompt="p", sample_index=index) for index in range(300)])
        server.seconds = 5.0
        await model.generate([Request(prompt="p", sample_index=index) for index in range(1000)])

    simulate(shift())
    assert model.width == 32


def test_a_waiter_that_is_cancelled_leaves_its_place():
    async def check():
        server = Server()
        model = Limits(server, concurrency=1)
        tasks = [asyncio.ensure_future(model.complete(Request(prompt=str(index)))) for index in range(6)]
        await asyncio.sleep(0.5)
        source = random.Random(0)
        for task in source.sample(tasks, 4):
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        await model.complete(Request(prompt="after"))
        return server.most, [each for each in done if isinstance(each, Completion)]

    most, done = simulate(check())
    assert most == 1 and len(done) == 2


def test_a_place_given_to_one_who_is_cancelled_in_the_same_moment_is_not_lost():
    async def check():
        server = Server()
        model = Limits(server, concurrency=1)
        tasks = [asyncio.ensure_future(model.complete(Request(prompt=str(index)))) for index in range(3)]
        await asyncio.sleep(0)
        server.at_end = lambda: asyncio.get_running_loop().call_soon(tasks[1].cancel)
        await asyncio.wait(tasks)
        return [task.cancelled() for task in tasks]

    assert simulate(check()) == [False, True, False]


def test_scores_and_embeddings_keep_to_the_limits_too():
    async def check():
        model = Limits(Scripted({}, words={"x": 1}), rpm=60)
        await model.score([Scoring("a", (" x",))] * 10)
        await model.embed(["a"])
        return asyncio.get_running_loop().time()

    assert simulate(check()) == pytest.approx(10)


def test_the_estimate_of_tokens_counts_text_and_frames():
    assert estimated_tokens("x" * 300) == 104
    assert estimated_tokens(Request(messages=(Message("user", "x" * 30), Message("assistant", "x" * 29)))) == 28
    assert estimated_tokens(Scoring("x" * 30, ("y" * 15, "z" * 15))) == 24
    assert estimated_tokens(Request(prompt="\ud800é")) == 6


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"rpm": 0}, {"tpm": -1.0}, {"rpm": float("nan")}])
def test_wrong_limits_are_refused(wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Limits(Scripted({}), **wrong)
