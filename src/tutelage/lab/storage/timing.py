"""`timing.jsonl`: what a run has taken so far, by session. Apart from the metrics, which hold no times."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.lab.storage.lines import Lines, keep_readable, read_lines

_WHOLE = ("session", "step", "updates", "peak_memory_bytes", "peak_device_bytes")
_SECONDS = ("wall_seconds", "compile_seconds", "update_seconds")


class Timing:
    """The file, while one process adds its session to it. Lines that cannot be read cost their times, not the run.

    Args:
        step: the update after which the session goes on.
        started: when it began, by `time.monotonic`.

    Attributes:
        notes: what was lost, one line each.
    """

    def __init__(self, path: Path, step: int, started: float) -> None:
        self._path, self._started = path, started
        self.notes: list[str] = []
        if dropped := keep_readable(path, _is_timing):
            lines = "1 line" if dropped == 1 else f"{dropped} lines"
            self.notes.append(f"{path}: {lines} could not be read; what they say is not counted in the costs")
        before = list(read_lines(path))
        if max((line["step"] for line in before), default=0) < step:
            self.notes.append(f"{path} does not reach update {step}; the time up to there is not all counted")
        self._session = 1 + max((line["session"] for line in before), default=0)
        self._lines = Lines(path)

    def write(
        self, step: int, *, updates: int, update_seconds: float, compile_seconds: float, peak_device_bytes: int
    ) -> None:
        """Note what this session has taken up to an update."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        line = {
            "session": self._session,
            "step": step,
            "updates": updates,
            "wall_seconds": time.monotonic() - self._started,
            "compile_seconds": compile_seconds,
            "update_seconds": update_seconds,
            "peak_memory_bytes": peak if sys.platform == "darwin" else peak * 1024,  # Linux counts kilobytes
            "peak_device_bytes": peak_device_bytes,
        }
        self._lines.write([line])

    def cost(self, unit: str, amount: float) -> dict[str, Any]:
        """Sums and peaks over all sessions, repeated work after a kill included: it was waited for.

        Args:
            unit, amount: what one update does, of all seeds.
        """
        last = {line["session"]: line for line in read_lines(self._path)}.values()
        seconds = math.fsum(line["update_seconds"] for line in last)
        rate = sum(line["updates"] for line in last) / seconds if seconds > 0 else 0.0
        cost: dict[str, Any] = {
            "wall_seconds": math.fsum(line["wall_seconds"] for line in last),
            "compile_seconds": math.fsum(line["compile_seconds"] for line in last),
            "updates_per_second": rate,
            "work_per_second": {"unit": unit, "value": rate * amount},
            "peak_memory_bytes": max(line["peak_memory_bytes"] for line in last),
        }
        if device := max(line["peak_device_bytes"] for line in last):
            cost["peak_device_memory_bytes"] = device
        return cost

    def close(self) -> None:
        self._lines.close()


def _is_timing(line: Mapping[str, Any]) -> bool:
    numbers = [line.get(name) for name in _SECONDS]
    seconds = all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
    return seconds and all(type(line.get(name)) is int for name in _WHOLE)
