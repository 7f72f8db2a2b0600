"""An event loop whose clock jumps to the next thing that is due: hours of waiting in no time, and exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Jumping(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None:
            self.now += timeout
            return super().select(0)
        ready = super().select(60)  # nothing is due: only another thread can go on, such as one that writes a file
        if not ready:
            raise RuntimeError("everybody waits and nothing is due")
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now


def simulate(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` on such a loop, from time 0."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
