"""What a person sees while a run goes on: a bar on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType

from rich import progress as bars
from rich.console import Console

_PLAIN_SECONDS = 10.0
_WINDOW = 20
_LOOK_SECONDS = 1.0


class Progress:
    """Steps done, rate of work, time left and the headline figure of one run.

    Args:
        title: what is running.
        start, total: updates already done, and in all.
        unit, amount: what one update does, e.g. "environment steps", 8192.
        headline: name of the figure shown beside the rate; empty for none.
        quiet: print nothing at all.
    """

    def __init__(
        self,
        console: Console,
        *,
        title: str,
        start: int,
        total: int,
        unit: str,
        amount: float,
        headline: str = "",
        quiet: bool = False,
    ) -> None:
        self._console = console
        self._title = title
        self._step, self._total = start, total
        self._unit, self._amount = unit, amount
        self._headline, self._value = headline, ""
        self._doing, self._since = "", time.monotonic()
        self._ended = threading.Event()
        self._quiet = quiet
        # The first sample is taken when the first chunk is done: compiling counts neither in rate nor in time left.
        self._samples: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._first: tuple[float, int] | None = None
        self._printed = 0.0
        self._bar: bars.Progress | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal and not self._quiet:
            bar = bars.Progress(
                bars.TextColumn("{task.description}", markup=False),
                bars.BarColumn(bar_width=24),
                bars.TextColumn("{task.fields[status]}", markup=False),
                console=self._console,
                refresh_per_second=4,
            )
            self._task = bar.add_task(self._title, total=self._total, completed=self._step, status=self.status())
            bar.start()
            self._bar = bar
        if not self._quiet:
            threading.Thread(target=self._tell_what_takes_long, name="progress", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._bar is not None:
            self._refresh()
            self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._print(text if self._bar is not None else f"{self._title}: {text}")

    def doing(self, text: str) -> None:
        """What takes time just now, shown instead of the rate; empty: training.

        After ten seconds it is said how long it has been taking, from a thread: whoever compiles or loads says nothing.
        """
        self._doing, self._since = text, time.monotonic()
        self._refresh()

    def reach(self, step: int) -> None:
        """So many updates are done."""
        now = time.monotonic()
        self._step = step
        self._first = self._first or (now, step)
        self._samples.append((now, step))
        self._refresh()
        if self._bar is None and not self._quiet and now - self._printed >= _PLAIN_SECONDS:
            self.say(self.status())

    def figure(self, value: float) -> None:
        """The newest value of the headline figure."""
        self._value = f"{self._headline} {value:.3g}"
        self._refresh()

    def status(self) -> str:
        """`120/400 updates · 13.5 k steps/s · 2:05 left · solved 0.71`."""
        parts = [f"{self._step}/{self._total} updates"]
        if self._doing:
            seconds = time.monotonic() - self._since
            parts.append(f"{self._doing} for {clock(seconds)}" if seconds >= _PLAIN_SECONDS else self._doing)
        else:
            parts += [text for text in (self._rate(), self._left()) if text]
        return " · ".join([*parts, self._value] if self._value else parts)

    def _tell_what_takes_long(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            now = time.monotonic()
            if self._doing and now - self._since >= _PLAIN_SECONDS:
                self._refresh()
                if self._bar is None and now - self._printed >= _PLAIN_SECONDS:
                    self.say(self.status())

    def _rate(self) -> str:
        if len(self._samples) < 2 or (seconds := self._samples[-1][0] - self._samples[0][0]) <= 0:
            return ""
        updates = self._samples[-1][1] - self._samples[0][1]
        return f"{short(updates / seconds * self._amount)} {self._unit}/s"

    def _left(self) -> str:
        if self._first is None or self._step == self._first[1] or self._step >= self._total:
            return ""
        elapsed, updates = time.monotonic() - self._first[0], self._step - self._first[1]
        return f"{clock(elapsed / updates * (self._total - self._step))} left"

    def _refresh(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._step, status=self.status())

    def _print(self, text: str) -> None:
        self._printed = time.monotonic()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def short(number: float) -> str:
    """A number for the eye: 0.85, 13.5 k, 2.1 M."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def clock(seconds: float) -> str:
    """A duration for the eye: 0:42, 12:05, 3:20:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
