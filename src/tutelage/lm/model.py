"""The interface of every language model and every layer around one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from tutelage.lm.request import Completion, Failure, Request, Scored, Scoring

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do beyond generating text.

    Attributes:
        logprobs: the most alternatives per position it reports; 0 if it reports no log-probabilities at all.
        score: whether `score` is exact (the model reads the continuation, nothing is sampled).
        seed: whether a seed makes the answer repeatable.
        schema: whether JSON schemas, choices and regular expressions are enforced while decoding.
        choices: whether `Request.choices` are, even where schemas are not.
        embed: whether `embed` works.
        max_context: tokens of prompt and completion together; 0 if unknown.
    """

    logprobs: int = 0
    score: bool = False
    seed: bool = False
    schema: bool = False
    choices: bool = False
    embed: bool = False
    max_context: int = 0


@runtime_checkable
class LM(Protocol):
    """What a system may ask of a language model. Order is kept; one bad item never spoils the others."""

    @property
    def identity(self) -> str:
        """Backend, model and revision or weights' hash: all that decides the answer besides the request."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def generate(self, requests: Sequence[Request]) -> list[Completion]: ...

    async def score(self, items: Sequence[Scoring]) -> list[Scored]: ...

    async def embed(self, texts: Sequence[str]) -> np.ndarray: ...

    async def close(self) -> None: ...


class LanguageModel:
    """Base of backends: they write the verbs for one item, lists run concurrently.

    A backend that computes in batches collects what arrives while it is busy, so that single items are no slower.
    """

    identity: str = ""
    capabilities: Capabilities = Capabilities()

    async def complete(self, request: Request) -> Completion:
        """One completion. Problems of the item come back as `Completion.error`, never as an exception."""
        raise NotImplementedError

    async def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        """Pieces of text as they come, and last the whole completion."""
        completion = await self.complete(request)
        if completion.text:
            yield completion.text
        yield completion

    async def score_one(self, item: Scoring) -> Scored:
        """log p of each continuation; `unsupported` where the backend cannot tell exactly."""
        failure = Failure("unsupported", f"{self.identity} cannot score continuations")
        return Scored(np.empty(0), (), error=failure)

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """`[texts, dimensions]` float32 embeddings. Raises `BadInput` where the model has none."""
        from tutelage.lab.errors import BadInput

        raise BadInput(f"{self.identity} gives no embeddings")

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order."""
        return await _all([self.complete(request) for request in requests])

    async def score(self, items: Sequence[Scoring]) -> list[Scored]:
        """One result per item, in order."""
        return await _all([self.score_one(item) for item in items])

    async def close(self) -> None:
        """Give back sockets, files and threads. Nothing may be asked afterwards."""


class Layer(LanguageModel):
    """Base of the wrappers around a model: passes everything on, a subclass changes what it is for."""

    def __init__(self, inner: LanguageModel) -> None:
        self.inner = inner

    @property
    def identity(self) -> str:  # type: ignore[override]
        return self.inner.identity

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return self.inner.capabilities

    async def complete(self, request: Request) -> Completion:
        return await self.inner.complete(request)

    async def score_one(self, item: Scoring) -> Scored:
        return await self.inner.score_one(item)

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        return await self.inner.embed(texts)

    async def close(self) -> None:
        await self.inner.close()


async def _all(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    return list(await asyncio.gather(*work))


class _Loop:
    """One event loop in a thread of its own, so that `run` also works where a loop is running (notebooks)."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="tutelage-lm", daemon=True).start()


_background: _Loop | None = None
_guard = threading.Lock()


def run(work: Awaitable[Result]) -> Result:
    """Wait for `work` from ordinary code: `completions = run(model.generate(requests))`.

    All calls share one loop in a background thread, so a model's connections stay usable from call to call. Ctrl-C
    cancels the work. Must not be called from inside `work` itself.
    """
    global _background
    with _guard:
        if _background is None:
            _background = _Loop()
        loop = _background.loop
    future = asyncio.run_coroutine_threadsafe(_awaited(work), loop)
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise


async def _awaited(work: Awaitable[Result]) -> Result:
    return await work
