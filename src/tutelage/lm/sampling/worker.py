"""The thread that owns a copy of a model, and what it is asked."""

from __future__ import annotations

import asyncio
import atexit
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from tutelage.lm.request import Completion, Failure, Request, Usage
from tutelage.lm.sampling.decoding import Engine, engine
from tutelage.lm.sampling.rows import Row
from tutelage.lm.sampling.scoring import pooled, read
from tutelage.lm.tokens import Choices, GrowingText, Tokenizer, decode

_LINGER = 0.002
"""Seconds that an idle worker waits for what is asked together with the first."""


@dataclass(eq=False)
class Answer:
    """A request on its way; `watch` and `deliver` are called by the worker."""

    identity: str
    tokenizer: Tokenizer
    request: Request
    row: Row
    tell: Callable[[str], None]
    streams: bool
    choices: Choices | None
    future: asyncio.Future[Completion]
    cancelled: bool = False
    began: float = field(default_factory=time.monotonic)
    text: GrowingText | None = None

    def __post_init__(self) -> None:
        if self.choices is None and (self.streams or self.request.stop):
            self.text = GrowingText(self.tokenizer, self.request.stop)

    def watch(self, row: Row) -> bool:
        if self.choices is not None:
            return self.cancelled or self.choices.settled(row.tokens)
        if self.text is None:
            return self.cancelled
        if piece := self.text.push(row.tokens[-1]):
            self.tell(piece)
        return self.cancelled or self.text.stopped

    def deliver(self) -> None:
        row = self.row
        if self.cancelled:
            return
        if row.failure:
            failed = Completion.failed(Failure("not_finite", row.failure), self.identity)
            tell_loop(self.future.get_loop(), settle, self.future, failed)
            return
        ended = bool(row.tokens) and row.tokens[-1] in row.stops
        if self.choices is not None:
            text = self.choices.name(row.tokens)
        elif self.text is not None:
            rest = self.text.finish()
            text = self.text.text
            if rest:
                self.tell(rest)
        else:
            text = decode(self.tokenizer, row.tokens[:-1] if ended else row.tokens)
        top = tuple(self._by_text(ids, values) for ids, values in row.top) if self.request.top_logprobs else None
        completion = Completion(
            text,
            tuple(row.tokens),
            tuple(row.logprobs),
            top,
            "stop" if self.choices is not None else row.finish or "length",
            Usage(len(row.prompt), 0, len(row.tokens)),
            latency=time.monotonic() - self.began,
            model=self.identity,
        )
        tell_loop(self.future.get_loop(), settle, self.future, completion)

    def fail(self, error: Exception) -> None:
        failed = Completion.failed(broken(error), self.identity)
        tell_loop(self.future.get_loop(), settle, self.future, failed)

    def _by_text(self, ids: list[int], values: list[float]) -> dict[str, float]:
        found: dict[str, float] = {}
        for token, value in zip(ids, values):
            found.setdefault(self.tokenizer.decode([token]), value)
        return found


@dataclass(eq=False)
class Call:
    """Something to compute outside of the decoding loop: `score` a `Reading`, or `embed` lists of ids."""

    kind: str
    given: Any
    future: asyncio.Future[Any]


class Worker(threading.Thread):
    """Owns one copy of the model; ends after `None` in the inbox, when all that came before is answered."""

    def __init__(self, model: PreTrainedModel, max_rows: int, threads: int | None) -> None:
        super().__init__(name="tutelage-hf", daemon=True)
        self.model, self.max_rows, self.threads = model, max_rows, threads
        self.inbox: queue.SimpleQueue[Answer | Call | None] = queue.SimpleQueue()
        self._waiting: list[Answer] = []
        self._running: dict[Row, Answer] = {}
        self._calls: list[Call] = []
        self._ending = False
        self.abandoned = False
        self.start()

    def run(self) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        decoder = None
        while not self.abandoned and not (self._ending and not (self._waiting or self._running or self._calls)):
            self._collect(idle=not (self._waiting or self._running or self._calls or self._ending))
            self._answer_calls()
            if not self._waiting and not self._running:
                continue
            try:
                decoder = decoder or engine(self.model)
                with decoder:
                    while True:
                        through = [*self._admit(decoder), *decoder.step()]
                        answers = [self._running.pop(row) for row in through]
                        self._collect(idle=False)
                        if self.abandoned or self._calls or not (self._waiting or self._running):
                            break
                        self._deliver(answers)
                self._deliver(answers)  # the last ones when the model is again as it was
            except Exception as error:  # out of memory, a broken model: whoever waits must hear of it
                for answer in (*self._running.values(), *self._waiting):
                    answer.fail(error)
                self._running, self._waiting, decoder = {}, [], None

    def _collect(self, idle: bool) -> None:
        """Takes what has come; if there is nothing to do, waits for it, and a little longer for what comes with it."""
        wait = _LINGER if idle else 0
        while True:
            try:
                item = self.inbox.get(timeout=None) if idle else self.inbox.get(timeout=wait)
            except queue.Empty:
                return
            idle = False
            if item is None:
                self._ending = True
                return
            (self._calls if isinstance(item, Call) else self._waiting).append(item)  # type: ignore[arg-type]

    def _admit(self, decoder: Engine) -> list[Row]:
        self._waiting = [answer for answer in self._waiting if not answer.cancelled]
        free = self.max_rows - decoder.live
        new, self._waiting = self._waiting[:free], self._waiting[free:]
        self._running |= {answer.row: answer for answer in new}
        return decoder.admit([answer.row for answer in new]) if new else []

    def _deliver(self, answers: list[Answer]) -> None:
        for answer in answers:
            try:
                answer.deliver()
            except Exception as error:  # a tokenizer that cannot write what the model said: the others can
                answer.fail(error)

    def _answer_calls(self) -> None:
        calls, self._calls = self._calls, []
        scores = [call for call in calls if call.kind == "score"]
        jobs: list[tuple[list[Call], Callable[[], list[Any]]]] = []
        if scores:
            jobs.append((scores, lambda: read(self.model, [call.given for call in scores])))
        for call in calls:
            if call.kind == "embed":
                jobs.append(([call], lambda call=call: [pooled(self.model, call.given)]))
        for asked, compute in jobs:
            try:
                results = compute()
            except Exception as error:
                for call in asked:
                    tell_loop(call.future.get_loop(), settle, call.future, error)
                continue
            for call, result in zip(asked, results):
                tell_loop(call.future.get_loop(), settle, call.future, result)


@atexit.register
def _abandon() -> None:
    """A thread that still computes when the interpreter is taken down aborts the process: end all of them before."""
    workers = [thread for thread in threading.enumerate() if isinstance(thread, Worker)]
    for worker in workers:
        worker.abandoned = True
        worker.inbox.put(None)
    for worker in workers:
        worker.join(10)


def settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def tell_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *values: Any) -> None:
    """Into the asker's loop; a loop that was closed meanwhile has nobody left to tell."""
    try:
        loop.call_soon_threadsafe(function, *values)
    except RuntimeError:
        if not loop.is_closed():
            raise


def broken(error: Exception) -> Failure:
    return Failure("server", f"the model failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
