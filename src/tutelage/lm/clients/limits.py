"""Not faster than a server allows: requests and tokens per minute, and as many calls at once as it stands."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np

from tutelage.lab.errors import BadInput
from tutelage.lm.model import LanguageModel, Layer
from tutelage.lm.request import Completion, Failure, Request, Scored, Scoring, Usage

Answer = TypeVar("Answer")

_START = 16
_SLOWER = 3.0
"""Growth of the seconds per token that counts as congestion."""
_ROUND = 20
"""Answers whose mean is compared."""
_NOISE = 1e-4
"""Seconds per token below which growth means nothing."""


class Bucket:
    """A token bucket: in any `t` seconds at most `rate · t + max(1, rate)` pass, with `rate = per_minute / 60`."""

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60
        self._capacity = max(1.0, self._rate)
        self._level, self._since = self._capacity, -float("inf")

    async def take(self, amount: float) -> None:
        """Wait until `amount` is there, in the order of the calls; more than fits at once takes as long as it fills."""
        self._fill()
        self._level -= amount
        if self._level < 0:
            await asyncio.sleep(-self._level / self._rate)

    def give_back(self, amount: float) -> None:
        """What was taken and not used (or, if negative, used beyond what was taken)."""
        self._fill()
        self._level = min(self._capacity, self._level + amount)

    def _fill(self) -> None:
        now = asyncio.get_running_loop().time()
        self._level = min(self._capacity, self._level + (now - self._since) * self._rate)
        self._since = now


class Limits(Layer):
    """Keeps to rates and adapts how many calls are under way at once.

    The width starts at 16, grows by one per answer until the first sign of congestion and by one per round trip
    thereafter. An answer 429 (or 503, 529) halves it and holds every call back for as long as the server asks. Seconds
    per token beyond three times the best halve it too, unless that was tried and did not help. At most one of these
    signs counts per round trip.

    Args:
        concurrency: the most calls at once, ≥ 1.
        rpm, tpm: requests and tokens per minute, > 0; None is no limit. Tokens are taken beforehand (an estimate of
            the prompt, and `max_tokens`) and corrected by the usage told.
    """

    def __init__(
        self, inner: LanguageModel, *, concurrency: int = 64, rpm: float | None = None, tpm: float | None = None
    ) -> None:
        super().__init__(inner)
        if concurrency < 1:
            raise BadInput(f"concurrency is {concurrency!r}: must be at least 1")
        for name, rate in (("rpm", rpm), ("tpm", tpm)):
            if rate is not None and not rate > 0:
                raise BadInput(f"{name} is {rate!r}: must be more than 0, or None for no limit")
        self._most = concurrency
        self.width = float(min(_START, concurrency))
        self._calls, self._tokens = Bucket(rpm) if rpm else None, Bucket(tpm) if tpm else None
        self._active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._steady = False
        self._cut_at = self._held_until = self._round_at = -float("inf")
        self._paces: list[float] = []
        self._best = self._cut_pace = 0.0

    async def complete(self, request: Request) -> Completion:
        expected = estimated_tokens(request) + request.max_tokens
        return await self._within(expected, lambda: self.inner.complete(request))

    async def score_one(self, item: Scoring) -> Scored:
        return await self._within(estimated_tokens(item), lambda: self.inner.score_one(item))

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        expected = sum(map(estimated_tokens, texts))
        return await self._within(expected, lambda: self.inner.embed(texts))

    async def _within(self, expected: int, send: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        loop = asyncio.get_running_loop()
        await self._enter()
        try:
            if self._calls:
                await self._calls.take(1)
            if self._tokens:
                await self._tokens.take(expected)
            while (left := self._held_until - loop.time()) > 0:
                await asyncio.sleep(left)
            start = loop.time()
            try:
                answer = await send()
            except Exception as error:
                self._learn(getattr(error, "failure", None), start, None)
                raise
            usage: Usage | None = getattr(answer, "usage", None)
            self._learn(getattr(answer, "error", None), start, usage)
            if self._tokens and usage and usage.prompt:
                self._tokens.give_back(expected - usage.prompt - usage.completion)
            return answer
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self._active < int(self.width) and not self._waiting:
            self._active += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        self._active -= 1
        while self._waiting and self._active < int(self.width):
            turn = self._waiting.popleft()
            if not turn.done():
                self._active += 1
                turn.set_result(None)

    def _learn(self, failure: Failure | None, start: float, usage: Usage | None) -> None:
        now = asyncio.get_running_loop().time()
        if failure is not None and (failure.kind == "rate_limit" or failure.status in (503, 529)):
            self._held_until = max(self._held_until, now + (failure.retry_after or 0.0))
            self._cut(start, now)
        elif failure is None:
            self.width = min(self._most, self.width + (1 / self.width if self._steady else 1))
            if start >= self._round_at:
                # Twenty tokens stand for what an answer costs whatever its length.
                self._paces.append((now - start) / ((usage.completion if usage else 0) + 20))
            if len(self._paces) >= _ROUND:
                self._compare(sum(self._paces) / len(self._paces), start, now)
                self._paces, self._round_at = [], now

    def _compare(self, pace: float, start: float, now: float) -> None:
        """After a round of answers: are they slower than the best round, and is that because of us?"""
        self._best = min(self._best or pace, pace)
        slow = pace > _SLOWER * self._best and self._best > _NOISE
        if slow and self._cut_pace and pace > 0.9 * self._cut_pace:
            self._best = pace  # fewer calls at once made nothing faster: the answers are others than before
        elif slow:
            self._cut(start, now)
        self._cut_pace = pace if slow else 0.0

    def _cut(self, start: float, now: float) -> None:
        if start >= self._cut_at:
            self.width, self._steady, self._cut_at = max(1.0, self.width / 2), True, now


def estimated_tokens(item: Request | Scoring | str) -> int:
    """How many tokens the prompt probably has at most: a third of its bytes, and some for every message's frame."""
    text = item if isinstance(item, str) else item.text()
    if isinstance(item, Scoring):
        text += "".join(item.continuations)
    parts = len(item.messages) if isinstance(item, Request) else 1
    return -(-len(text.encode("utf-8", "surrogatepass")) // 3) + 4 * max(1, parts)
