"""Identical requests under way share one call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from lm.virtual_time import simulate

from tutelage.lm.clients.cache import Cache
from tutelage.lm.clients.flight import SingleFlight
from tutelage.lm.request import Completion, Request, Scoring
from tutelage.lm.scripted import Faults, Scripted


def _slow(**faults) -> Scripted:
    return Scripted(lambda request: request.text(), words={"x": 1}, faults=Faults(latency=5.0, **faults))


def test_identical_requests_are_sent_once_and_one_of_them_pays():
    backend = _slow()
    requests = [Request(prompt="a", tag=str(index)) for index in range(50)] + [Request(prompt="a", sample_index=1)]
    answers = simulate(SingleFlight(backend).generate(requests))
    assert backend.calls["generate"] == 2
    assert {each.text for each in answers} == {"a"}
    assert [each.from_cache for each in answers] == [False] + [True] * 49 + [False]


def test_the_same_request_after_the_answer_is_another_call():
    backend = _slow()

    async def twice():
        model = SingleFlight(backend)
        return [(await model.complete(Request(prompt="a"))).from_cache for _ in range(2)]

    assert simulate(twice()) == [False, False] and backend.calls["generate"] == 2


@pytest.mark.parametrize("leaving", [[0], [2], [0, 1, 2]])
def test_who_stops_waiting_does_not_stop_the_others(leaving):
    backend = _slow()

    async def check():
        model = SingleFlight(backend)
        tasks = [asyncio.ensure_future(model.complete(Request(prompt="a"))) for _ in range(4)]
        await asyncio.sleep(0.01)
        for index in leaving:
            tasks[index].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    done = simulate(check())
    assert [isinstance(each, asyncio.CancelledError) for each in done] == [index in leaving for index in range(4)]
    answers = [each for each in done if isinstance(each, Completion)]
    assert backend.calls["generate"] == 1 and sum(not each.from_cache for each in answers) == 1


def test_when_nobody_waits_any_more_the_call_ends_and_the_next_one_is_new():
    backend = _slow()

    async def check():
        model = SingleFlight(backend)
        task = asyncio.ensure_future(model.complete(Request(prompt="a")))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        left = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        return left, await model.complete(Request(prompt="a"))

    left, answer = simulate(check())
    assert not left and answer.text == "a" and not answer.from_cache


def test_a_failure_is_shared_and_scores_are_too():
    backend = _slow(server=1.0)
    failed = simulate(SingleFlight(backend).generate([Request(prompt="a")] * 3))
    assert [each.error and each.error.kind for each in failed] == ["server"] * 3 and backend.calls["generate"] == 1
    assert not any(each.from_cache for each in failed)

    async def slowly(item):
        await asyncio.sleep(1)
        return await Scripted.score_one(backend, item)

    backend.score_one = slowly  # type: ignore[method-assign]
    scored = simulate(SingleFlight(backend).score([Scoring("a", (" x",))] * 3))
    assert backend.calls["score"] == 1 and [each.from_cache for each in scored] == [False, True, True]


def test_at_whatever_moment_the_same_is_asked_again_it_is_sent_once(tmp_path: Path):
    class Ticking(Scripted):
        async def complete(self, request: Request) -> Completion:
            for _ in range(20):
                await asyncio.sleep(0)
            return await super().complete(request)

    backend = Ticking({"a": "b"})

    async def check():
        model = Cache(SingleFlight(backend), tmp_path / "lm.sqlite")

        async def later(turns: int) -> Completion:  # before, while and after the answer comes
            for _ in range(turns):
                await asyncio.sleep(0)
            return await model.complete(Request(prompt="a", sample_index=turns))

        async def both(turns: int) -> bool:
            first, second = await asyncio.gather(model.complete(Request(prompt="a", sample_index=turns)), later(turns))
            return first.from_cache != second.from_cache

        paid_once = [await both(turns) for turns in range(60)]
        await model.close()
        return all(paid_once)

    assert asyncio.run(check()) and backend.calls["generate"] == 60
