"""What every benchmark of ours against others needs: environments, one process at a time in turns, costs by kind.

A contestant is a command that prints one JSON object as its last line (`benchmarks/peers/stopwatch.py` says what is in
it). It runs in an environment of its own, because peers clash with each other and with us. Processor time is what is
compared: on a shared machine wall time tells about the neighbours.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
ENVIRONMENTS = HERE / ".envs"
"""Where peers' environments are made unless told otherwise; git ignores it."""
STARTED = "BENCHMARK_STARTED"


class BenchmarkFailed(RuntimeError):
    """A contestant did not run, or did not print its record; the message ends with the last of what it printed."""


@dataclass(frozen=True)
class Contestant:
    """A library on the starting line.

    Attributes:
        command: the interpreter, the driver and what is the same in every run.
        variables: what is added to the environment of the process.
    """

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    """The machine and how busy it is now, for the record."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": list(os.getloadavg()),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def make_environment(name: str, folder: Path = ENVIRONMENTS) -> Path:
    """The Python of the virtual environment for `peers/<name>.txt`, made now if it is not there in this very form.

    Raises `BenchmarkFailed` if the requirements cannot be installed.
    """
    requirements = PEERS / f"{name}.txt"
    stamp = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    home = folder / f"{name}-{stamp}"
    python = home / "bin" / "python"
    complete = home / "complete"
    if not complete.exists():
        _check_call(sys.executable, "-m", "venv", "--clear", str(home))
        _check_call(str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements))
        complete.touch()
    return python


def checkout(url: str, commit: str, folder: Path = ENVIRONMENTS) -> Path:
    """A clone of `url` at `commit` under `folder`, made now if it is not there. Raises `BenchmarkFailed`."""
    home = folder / f"{url.rstrip('/').rsplit('/', 1)[1]}-{commit[:12]}"
    if not (home / ".git").exists():
        _check_call("git", "clone", "--quiet", url, str(home))
    _check_call("git", "-C", str(home), "checkout", "--quiet", commit)
    return home


def _check_call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkFailed(f"{' '.join(command)}\n{_tail(done.stderr or done.stdout)}")


def run(contestant: Contestant, arguments: Sequence[str], *, timeout: float) -> dict[str, Any]:
    """Run it once, alone; its record. Raises `BenchmarkFailed` if it fails, takes too long or prints no record."""
    command = [*contestant.command, *arguments]
    environment = {**os.environ, **contestant.variables, STARTED: repr(time.time())}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkFailed(f"{contestant.name} took longer than {timeout:g} s") from error
    if done.returncode != 0:
        raise BenchmarkFailed(f"{contestant.name} ended with {done.returncode}\n{_tail(done.stderr)}")
    lines = done.stdout.strip().splitlines()
    try:
        record = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        record = None
    if not isinstance(record, dict):
        raise BenchmarkFailed(f"{contestant.name} printed no record\n{_tail(done.stdout)}")
    return record


def in_turns(contestants: Sequence[Contestant], rounds: int) -> Iterator[tuple[int, Contestant]]:
    """Ours, peer, ours, peer, …: whatever changes on the machine changes for all of them."""
    for number in range(rounds):
        for contestant in contestants:
            yield number, contestant


def costs_by_kind(cycles: Sequence[Mapping[str, Any]], clock: str) -> dict[str, float]:
    """Seconds of one batch of each kind, from calls that may hold several batches.

    Each call is `{"kinds": {kind: batches}, "cpu": seconds, "wall": seconds}`. The costs make the sum of absolute
    deviations smallest: where every call holds one batch this is the median of its kind. Kinds that always come
    together cannot be told apart; their sum is right, and it is divided evenly.
    """
    kinds = sorted({kind for cycle in cycles for kind in cycle["kinds"]})
    if not kinds:
        return {}
    counts = np.array([[cycle["kinds"].get(kind, 0) for kind in kinds] for cycle in cycles], float)
    seconds = np.array([cycle[clock] for cycle in cycles], float)
    singles = np.flatnonzero((counts > 0).sum(axis=1) == 1)
    if len(singles) == len(cycles):
        values = [float(np.median(seconds[counts[:, k] > 0] / counts[counts[:, k] > 0, k])) for k in range(len(kinds))]
        return dict(zip(kinds, values, strict=True))
    # Iteratively reweighted least squares; the pseudo-inverse takes the smallest solution, hence the even division.
    weights = np.ones_like(seconds)
    solution = np.zeros(len(kinds))
    for _ in range(100):
        root = np.sqrt(weights)
        solution = np.linalg.pinv(counts * root[:, None]) @ (seconds * root)
        weights = 1 / np.maximum(np.abs(seconds - counts @ solution), 1e-6 * np.abs(seconds).max())
    return dict(zip(kinds, (float(value) for value in solution), strict=True))


def mixed(costs: Mapping[str, float], mix: Mapping[str, float]) -> float:
    """The cost of one batch when kinds come in the proportions of `mix`; NaN when a kind was never seen."""
    return sum(costs.get(kind, float("nan")) * share for kind, share in mix.items()) / sum(mix.values())


@dataclass(frozen=True)
class Spread:
    """Figures of several rounds: the median, and what lies around it."""

    median: float
    low: float
    high: float
    number: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        seen = [value for value in values if np.isfinite(value)]
        if not seen:
            return cls(float("nan"), float("nan"), float("nan"), 0)
        return cls(float(np.median(seen)), min(seen), max(seen), len(seen))

    def __str__(self) -> str:
        if not self.number:
            return "–"
        digits = 2 if self.median < 100 else 0
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}–{self.high:.{digits}f})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads as text and renders as Markdown."""
    table = [list(head), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
