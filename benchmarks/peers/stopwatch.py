"""What every driver measures the same way, in whatever environment it runs: standard library only.

A driver prints one JSON object as the last line of its output. Processor time counts from the start of the process
(interpreter and imports included) over all its threads; wall time from the moment that the harness started it.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = "BENCHMARK_STARTED"
"""Environment variable with the harness's `time.time()` just before it started this process."""


class Stopwatch:
    """Marks from the start of the process, and the cost of single calls."""

    def __init__(self) -> None:
        self.start = float(os.environ.get(STARTED, time.time()))
        self.marks: dict[str, dict[str, float]] = {}

    def mark(self, name: str) -> None:
        """Record how much has gone by, in seconds, since the process started."""
        self.marks[name] = {"cpu": time.process_time(), "wall": time.time() - self.start}

    @staticmethod
    def time(call: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, float]]:
        """Run `call`, which must not return before the device is done, and what it cost in seconds."""
        cpu, wall = time.process_time(), time.perf_counter()
        result = call(*arguments)
        return result, {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def samples(call: Callable[[], Any], seconds: float, number: int = 5) -> list[float]:
    """Processor seconds of one `call`, so many times: each from as many calls as fill its share of `seconds`.

    Call it once before, if its first time does more than the others.
    """
    start = time.process_time()
    call()
    once = max(time.process_time() - start, 1e-7)
    calls, taken = max(1, math.ceil(seconds / number / once)), []
    for _ in range(number):
        start = time.process_time()
        for _ in range(calls):
            call()
        taken.append((time.process_time() - start) / calls)
    return taken


def peak_memory() -> int:
    """The largest resident set of this process so far, in bytes."""
    # Linux's ru_maxrss begins with what the parent had when it forked; the mark in /proc begins with the program.
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return 1024 * int(line.split()[1])
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else 1024 * kilobytes


def report(**record: Any) -> None:
    """Print the record as the last line, as the harness expects it."""
    sys.stdout.flush()
    print(json.dumps(record), flush=True)
