"""Another attempt where one may help, no sooner than asked, and never without end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tutelage.lab.errors import BadInput
from tutelage.lm.clients.cache import Store
from tutelage.lm.clients.retry import Retry
from tutelage.lm.model import LanguageModel
from tutelage.lm.request import Completion, Failure, Request, Scored, Scoring, Usage
from tutelage.lm.scripted import Faults, Scripted


class Failing(LanguageModel):
    """Fails with the given failures, one after the other, then answers."""

    identity = "failing"

    def __init__(self, *failures: Failure):
        self.failures = list(failures)
        self.calls = 0

    def _next(self) -> Failure | None:
        self.calls += 1
        return self.failures.pop(0) if self.failures else None

    async def complete(self, request: Request) -> Completion:
        failure = self._next()
        return Completion.failed(failure) if failure else Completion("answer", usage=Usage(5, 0, 3))

    async def score_one(self, item: Scoring) -> Scored:
        return Scored(np.zeros(1), (np.zeros(1),), error=self._next())

    async def embed(self, texts):
        if failure := self._next():
            error = RuntimeError(failure.message)
            error.failure = failure  # type: ignore[attr-defined]
            raise error
        return np.zeros((len(texts), 2), np.float32)


def _retry(backend: LanguageModel, **options) -> tuple[Retry, list[float]]:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    return Retry(backend, sleep=sleep, **options), waits


def _one(model: LanguageModel) -> Completion:
    return asyncio.run(model.complete(Request(prompt="a")))


@pytest.mark.parametrize("kind", ["rate_limit", "timeout", "connection", "server", "malformed"])
def test_failures_that_pass_are_tried_again(kind):
    backend = Failing(*[Failure(kind, "x")] * 5)
    model, waits = _retry(backend)
    assert _one(model).text == "answer" and backend.calls == 6 and len(waits) == 5


@pytest.mark.parametrize(
    "kind", ["auth", "not_found", "context_length", "bad_request", "unsupported", "budget", "cache_miss"]
)
def test_final_failures_are_handed_on_at_once_and_unchanged(kind):
    failure = Failure(kind, "why", 400)
    backend = Failing(failure)
    model, waits = _retry(backend)
    assert _one(model).error is failure and backend.calls == 1 and not waits


def test_waits_are_full_jitter_under_a_doubling_bound_after_what_the_server_asked():
    every = []
    for _ in range(300):
        model, waits = _retry(Failing(*[Failure("server", "x")] * 8), attempts=9, base=1.0, longest=20.0)
        _one(model)
        every.append(waits)
    waits = np.array(every)
    bounds = np.array([1, 2, 4, 8, 16, 20, 20, 20])
    assert (waits <= bounds).all()
    assert np.allclose((waits / bounds).mean(0), 0.5, atol=0.08)  # 0.5 ± 4.8 standard errors
    assert (waits / bounds).min() < 0.05 and (waits / bounds).max() > 0.95
    model, waits = _retry(Failing(Failure("rate_limit", "x", 429, 30.0)), base=1.0)
    _one(model)
    assert 30 <= waits[0] <= 31


def test_a_server_that_asks_to_wait_too_long_is_not_waited_for():
    model, waits = _retry(Failing(Failure("rate_limit", "quota", 429, 86400.0)))
    failure = _one(model).error
    assert failure is not None and "86400 s" in failure.message and not waits


def test_attempts_come_to_an_end_with_the_last_failure():
    backend = Failing(*[Failure("server", "broken", 503)] * 10)
    model, _ = _retry(backend, attempts=3)
    failure = _one(model).error
    assert failure is not None and backend.calls == 3
    assert (failure.kind, failure.status, failure.message) == ("server", 503, "broken (given up after 3 attempts)")


def test_the_run_has_a_budget_of_its_own():
    backend = Failing(*[Failure("server", "x")] * 100)
    model, _ = _retry(backend, attempts=5, run_attempts=6)
    answers = asyncio.run(model.generate([Request(prompt=str(index)) for index in range(10)]))
    assert backend.calls == 10 + 6
    assert any("all 6 retries of this run" in each.error.message for each in answers if each.error)


def test_answers_that_a_validator_finds_malformed_are_asked_for_again():
    def valid(request: Request, completion: Completion) -> str | None:
        return "it is cut" if "\ufffd" in completion.text else None

    requests = [Request(prompt="a", sample_index=index) for index in range(200)]

    def answer(request, source):
        return str(source.random())

    clean = asyncio.run(Scripted(answer).generate(requests))
    model, waits = _retry(Scripted(answer, faults=Faults(garbled=0.3)), valid=valid)
    assert [each.text for each in asyncio.run(model.generate(requests))] == [each.text for each in clean]
    assert 30 < len(waits) < 150
    model, _ = _retry(Scripted(answer, faults=Faults(garbled=1.0, attempts=9)), valid=valid, attempts=2)
    bad = _one(model)
    assert bad.error is not None and bad.error.kind == "malformed" and "it is cut" in bad.error.message
    assert bad.finish_reason == "error" and bad.text.endswith("\ufffd")


def test_what_useless_answers_cost_is_told_and_may_end_the_attempts():
    model, _ = _retry(Failing(), valid=lambda request, completion: "bad", attempts=10)
    told: list[Usage] = []

    def spent(request: Request, usage: Usage) -> Failure | None:
        told.append(usage)
        return Failure("budget", "over budget") if len(told) == 3 else None

    model.spent_on_failure = spent
    failure = _one(model).error
    assert failure is not None and failure.kind == "budget" and told == [Usage(5, 0, 3)] * 3


def test_scores_and_embeddings_are_tried_again_too():
    model, waits = _retry(Failing(Failure("server", "x"), Failure("connection", "y")))
    [scored] = asyncio.run(model.score([Scoring("a", (" b",))]))
    assert scored.error is None and len(waits) == 2
    backend = Failing(Failure("server", "x"))
    model, waits = _retry(backend)
    assert asyncio.run(model.embed(["a", "b"])).shape == (2, 2) and len(waits) == 1
    model, waits = _retry(Failing(Failure("auth", "no key")))
    with pytest.raises(RuntimeError, match="no key"):
        asyncio.run(model.embed(["a"]))
    assert not waits


def test_other_exceptions_are_nobodys_to_retry():
    class Broken(Failing):
        async def embed(self, texts):
            raise ZeroDivisionError

    model, waits = _retry(Broken())
    with pytest.raises(ZeroDivisionError):
        asyncio.run(model.embed(["a"]))
    assert not waits


class Killed(Exception):
    """What stands here for the death of the process."""


def test_a_run_that_is_killed_again_and_again_comes_to_an_end_with_the_same_budget(tmp_path: Path):
    backend = Failing(*[Failure("server", "x")] * 100)

    async def die(seconds: float) -> None:
        raise Killed

    async def session(sleep, **options):
        store = Store(tmp_path / "lm.sqlite")
        try:
            return await Retry(backend, sleep=sleep, store=store, **options).complete(Request(prompt="a"))
        finally:
            store.close()

    for _ in range(3):  # each session fails once, and dies before the next attempt
        with pytest.raises(Killed):
            asyncio.run(session(die, attempts=4))
    failed = asyncio.run(session(die, attempts=4))
    assert backend.calls == 4 and failed.error is not None and "after 4 attempts" in failed.error.message
    with pytest.raises(Killed):  # the failure was handed on: whoever asks again means it
        asyncio.run(session(die, attempts=4))
    before = backend.calls
    failed = asyncio.run(session(asyncio.sleep, attempts=50, run_attempts=4))
    assert backend.calls == before + 1 and failed.error is not None
    assert "all 4 retries of this run" in failed.error.message
    backend.failures.clear()
    assert asyncio.run(session(die)).text == "answer"


def test_wrong_attempts_are_refused():
    with pytest.raises(BadInput, match="attempts is 0"):
        Retry(Scripted({}), attempts=0)
