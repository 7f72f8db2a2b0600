"""Identical requests that are under way at the same time share one call."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tutelage.lm.model import LanguageModel, Layer
from tutelage.lm.request import Completion, Request, Scored, Scoring

Answer = TypeVar("Answer", Completion, Scored)


@dataclass
class _Flight:
    task: asyncio.Task[Any]
    waiting: int = 0
    landed: bool = False


class SingleFlight(Layer):
    """One call for all who ask the same at the same time; all but one of them get it marked `from_cache`.

    Someone who stops waiting does not stop the call for the others; when nobody waits any more, it is cancelled.
    """

    def __init__(self, inner: LanguageModel) -> None:
        super().__init__(inner)
        self._flights: dict[bytes, _Flight] = {}

    async def complete(self, request: Request) -> Completion:
        return await self._joined(request.key(self.identity), lambda: self.inner.complete(request))

    async def score_one(self, item: Scoring) -> Scored:
        return await self._joined(item.key(self.identity), lambda: self.inner.score_one(item))

    async def _joined(self, key: bytes, send: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(send()))
        flight.waiting += 1
        try:
            answer = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            # Only now, not when the call ended: up to here a newcomer finds the flight, and from here on, without a
            # turn of the loop in between, the answer among the cache's.
            if (flight.task.done() or not flight.waiting) and self._flights.get(key) is flight:
                del self._flights[key]
            if not flight.waiting:
                flight.task.cancel()
        first, flight.landed = not flight.landed, True
        return answer if first or answer.error else dataclasses.replace(answer, from_cache=True)
