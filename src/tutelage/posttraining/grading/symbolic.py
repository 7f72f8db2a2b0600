"""Grading answers that are not numbers, by math-verify in a process of its own.

Its parser can run for minutes on hostile input, and its own time limit uses SIGALRM, which works only in a main thread.
Here a worker process does the parsing and is killed at the limit: nothing hangs, and what was not judged is told
from what is wrong.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tutelage.lab.errors import BadInput

Judge = Callable[[str, str], Any]
"""`(answer, reference) -> truth`; a function of a module, as it is sent to another process."""


def math_verify(answer: str, reference: str) -> bool:
    """Whether two LaTeX or plain expressions are equal, by the package math-verify."""
    from math_verify import parse, verify

    # None switches off its own time limits, which need signals; its annotations do not say so.
    ours, truth = (parse(f"${text}$", parsing_timeout=None) for text in (answer, reference))  # type: ignore[arg-type]
    return verify(truth, ours, timeout_seconds=None)


class SymbolicGrader:
    """Calls a judge in a worker process, which is started when first needed and restarted after a kill.

    A context manager; `close` ends the worker. About 2 ms a call: grade numbers by
    `tutelage.posttraining.grading.answers`.

    Args:
        timeout: seconds for one pair; the worker's start (and math-verify's import) counts with the first.
        judge: what compares; by default `math_verify`.

    Raises:
        BadInput: math-verify is not installed and no other judge is given.
    """

    def __init__(self, timeout: float = 30.0, judge: Judge = math_verify) -> None:
        if judge is math_verify and importlib.util.find_spec("math_verify") is None:
            raise BadInput("symbolic grading needs math-verify: pip install 'math-verify[antlr4_13_2]'")
        if not timeout > 0:
            raise BadInput(f"timeout: {timeout} seconds; must be above 0")
        self._timeout = timeout
        self._judge = judge
        self._process: Any = None
        self._channel: Any = None

    def __call__(self, answer: str, reference: str) -> bool | None:
        """Whether the answer equals the reference; None where the judge failed, died or ran out of time."""
        if self._process is None:
            spawn = multiprocessing.get_context("spawn")
            self._channel, theirs = spawn.Pipe()
            self._process = spawn.Process(target=_serve, args=(theirs, self._judge), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._channel.send((answer, reference))
            if self._channel.poll(self._timeout):
                return self._channel.recv()
        except (EOFError, OSError):
            pass
        self.close()
        return None

    def close(self) -> None:
        """End the worker; the next call starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._channel.close()
            self._process = self._channel = None

    def __enter__(self) -> SymbolicGrader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _serve(channel: Connection, judge: Judge) -> None:
    while True:
        try:
            answer, reference = channel.recv()
        except EOFError:
            return
        try:
            verdict = bool(judge(answer, reference))
        except Exception:
            # Parsers of foreign text raise anything; the pair counts as not judged.
            verdict = None
        channel.send(verdict)
