"""What the driver needs of a running system, whatever framework computes it.

A study composes three pure functions (`init`, `update`, `evaluate`); a backend (`tutelage.backends`) makes a `Program`
of them: compiled, chunked, with one or more seeds side by side, and with its state readable as named arrays. The driver
sees NumPy arrays and floats only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

State = Any
Figures = Mapping[str, float]
"""One record of metrics or results: name to number."""


class Last(NamedTuple):
    """A metric of which the value after the chunk's last update counts."""

    value: Any


class Sum(NamedTuple):
    """A metric that is added up over the chunk."""

    value: Any


class Max(NamedTuple):
    """A metric of which the largest value in the chunk counts."""

    value: Any


class Sometimes(NamedTuple):
    """A metric or figure that not every update has: NaN means "no value here".

    The mean over the updates that have one; left out of the record where none has. Do not wrap a loss: a plain NaN
    stops the run, and this one does not.
    """

    value: Any


@runtime_checkable
class Program(Protocol):
    """A system ready to run, for one or several seeds which share every call (their state has a leading seed axis).

    Attributes:
        seeds: the seeds in order; every list of figures below has one entry per seed.
        compiles: whether the first call of each verb below compiles (so that the wait can be explained).
        compile_seconds: wall time spent on tracing and compiling so far.
    """

    compiles: bool
    compile_seconds: float

    @property
    def seeds(self) -> Sequence[int]: ...

    def attach(self, folder: Path) -> None:
        """Called once by the driver, before `init` or `load`, with the folder of the run.

        A program may keep records of its own there, in subfolders that are not the lab's (samples it has drawn, say).
        They are its own business: the driver neither reads nor heals them, so what a kill leaves of them must not
        change how the run ends. A program that is only looked at (`load_run`) is attached to no folder.
        """
        ...

    def init(self) -> State:
        """The state before the first update, from the seeds alone."""
        ...

    def update(self, state: State, num_updates: int) -> tuple[State, Callable[[], list[Figures]]]:
        """Start `num_updates` updates. The old state is consumed (its buffers may be donated).

        Returns at once with the next state and a function that blocks until the metrics (means over the chunk, or
        whatever the system reduces itself) are on the host. Call that function one chunk late and nothing waits.
        """
        ...

    def evaluate(self, state: State, step: int, *, final: bool = False) -> list[Figures]:
        """The figures that the claims are about. Reads the state, never changes it; keys come from (seed, step).

        `final` marks the evaluation after the last update, which may be more thorough.
        """
        ...

    def save(self, state: State) -> dict[str, np.ndarray]:
        """The whole state as named arrays (random keys as their data)."""
        ...

    def load(self, arrays: Mapping[str, np.ndarray]) -> State:
        """The inverse of `save`. Raises `BadInput` naming the first array that is missing, extra or misshapen."""
        ...

    def seed_state(self, state: State, index: int) -> State:
        """The state of the seed at that position alone, as the study's own functions know it (for exhibits, play)."""
        ...

    def device(self) -> str:
        """The device in words, for the record."""
        ...

    def peak_device_bytes(self) -> int:
        """The most memory held on an accelerator so far; 0 where there is none (the driver measures the host's)."""
        ...
