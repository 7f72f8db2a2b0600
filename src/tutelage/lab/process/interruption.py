"""Ctrl-C and SIGTERM as a request: finish the chunk, save, say how to go on. A second Ctrl-C kills at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn

_REQUESTS = (signal.SIGINT, signal.SIGTERM)


def leave(code: int) -> NoReturn:
    """End the process at once, from whatever thread: nothing is unwound, nothing is saved."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if sys.stderr.isatty():
        with contextlib.suppress(OSError):
            os.write(2, b"\x1b[?25h\n")  # the progress bar hides the cursor
    os._exit(code)


class StopRequest:
    """While entered, remembers whether the process was asked to stop.

    Python runs its own signal handlers only between two bytecodes of the main thread, which may be minutes away inside
    a compiled call. The signal's number is therefore also written to a pipe, at once, and a thread waits at its other
    end. Outside the main thread, where Python allows no handlers, nothing is installed and nothing is ever requested.
    """

    def __init__(self, on_request: Callable[[], object] = lambda: None) -> None:
        """`on_request` is called by the waiting thread at the first request; it may also leave the process."""
        self._requested = threading.Event()
        self._on_request = on_request
        self._installed = threading.current_thread() is threading.main_thread()

    def __bool__(self) -> bool:
        return self._requested.is_set()

    def __enter__(self) -> StopRequest:
        if self._installed:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._handlers = {number: signal.signal(number, self._handle) for number in _REQUESTS}
            self._previous = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, name="stop request", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.set_wakeup_fd(self._previous)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            os.write(self._writer, b"\0")
            self._thread.join()
            os.close(self._reader)
            os.close(self._writer)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._requested.set()

    def _watch(self) -> None:
        heard = False
        while (number := os.read(self._reader, 1)[0]) != 0:
            if number not in _REQUESTS:
                continue
            if heard and number == signal.SIGINT:
                leave(128 + number)
            self._requested.set()
            if not heard:
                self._on_request()
            heard = True
