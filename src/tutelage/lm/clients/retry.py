"""Another attempt after failures that pass, and an end to it."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np

from tutelage.lab.errors import BadInput
from tutelage.lm.clients.cache import Store, embedding_key
from tutelage.lm.model import LanguageModel, Layer
from tutelage.lm.request import Completion, Failure, Request, Scored, Scoring, Usage

Answer = TypeVar("Answer", Completion, Scored)
_RUN = b"failures in this run"


class Retry(Layer):
    """Asks again after passing failures, and after answers that `valid` finds malformed.

    The k-th wait is uniform in [0, min(`longest`, `base` · 2^(k-1))] seconds (full jitter), after whatever the server
    asked to wait. With a `store` the failures are counted on disk before the wait, so a run that is killed and started
    again has what was left of its attempts, and always one. An answer or failure handed on clears the request's count.

    Args:
        attempts: at one request, ≥ 1.
        run_attempts: the most failures to retry in the whole run, over all its restarts; None is no limit.
        patience: seconds; a server that asks to wait longer is not waited for.
        valid: what is wrong with an answer, in one line, or None.
        sleep: how to wait, for tests.
    """

    def __init__(
        self,
        inner: LanguageModel,
        *,
        attempts: int = 6,
        run_attempts: int | None = None,
        base: float = 0.5,
        longest: float = 60.0,
        patience: float = 300.0,
        valid: Callable[[Request, Completion], str | None] | None = None,
        store: Store | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(inner)
        if attempts < 1:
            raise BadInput(f"attempts is {attempts!r}: must be at least 1")
        self._attempts, self._run_attempts = attempts, run_attempts
        self._base, self._longest, self._patience = base, longest, patience
        self._valid, self.store, self._sleep = valid, store, sleep
        self.retries = 0
        self.spent_on_failure: Callable[[Request, Usage], Failure | None] = lambda request, usage: None
        """Told what a useless answer cost; gives a failure when there must be no further attempt."""

    async def complete(self, request: Request) -> Completion:
        async def send() -> Completion:
            completion = await self.inner.complete(request)
            if completion.error is None and self._valid and (wrong := self._valid(request, completion)):
                completion = completion.replace(error=Failure("malformed", wrong), finish_reason="error")
            return completion

        return await self._tried(request.key(self.identity), send, lambda usage: self.spent_on_failure(request, usage))

    async def score_one(self, item: Scoring) -> Scored:
        return await self._tried(item.key(self.identity), lambda: self.inner.score_one(item))

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """As the model's; an exception that carries a passing `failure` is retried, and raised in the end."""
        raised: list[Exception] = []

        async def send() -> Scored:
            try:
                return Scored(await self.inner.embed(texts), ())
            except Exception as error:
                failure = getattr(error, "failure", None)
                if not isinstance(failure, Failure):
                    raise
                raised.append(error)
                return Scored(np.empty(0), (), error=failure)

        answer = await self._tried(embedding_key(self.identity, texts), send)
        if answer.error is not None:
            raise raised[-1]
        return answer.totals

    async def _tried(
        self,
        key: bytes,
        send: Callable[[], Coroutine[Any, Any, Answer]],
        spent: Callable[[Usage], Failure | None] = lambda usage: None,
    ) -> Answer:
        failures = 0
        while True:
            answer = await send()
            failure = answer.error
            if failure is not None and failure.passing:
                if not failures and self.store:
                    failures = self.store.failures(key)
                failures += 1
                final = (spent(answer.usage) if answer.usage != Usage() else None) or self._over(failures, failure)
            else:
                final = failure
            if failure is None or final is not None:
                if failures and self.store:
                    await self.store.forget_failures(key)
                return dataclasses.replace(answer, error=final) if final is not failure else answer
            self.retries += 1
            if self.store:
                await self.store.count_failure(key, _RUN)
            wait = random.uniform(0, min(self._longest, self._base * 2 ** min(failures - 1, 60)))
            await self._sleep(wait + (failure.retry_after or 0.0))

    def _over(self, failures: int, failure: Failure) -> Failure | None:
        """Why there is no further attempt, if so."""
        run = self.store.failures(_RUN) if self.store else self.retries
        if failure.retry_after is not None and failure.retry_after > self._patience:
            why = f"it asks to wait {failure.retry_after:g} s, more than {self._patience:g} s"
        elif failures >= self._attempts:
            why = f"given up after {failures} attempts"
        elif self._run_attempts is not None and run >= self._run_attempts:
            why = f"given up: all {self._run_attempts} retries of this run are used"
        else:
            return None
        return dataclasses.replace(failure, message=f"{failure.message} ({why})")
