"""Several jobs at a time, each in a process of its own: started, watched, stopped, and told about in words."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich import progress as bars
from rich.console import Console

from tutelage.cli import DONE, INTERRUPTED
from tutelage.cli.runs.child import order
from tutelage.cli.runs.jobs import Job
from tutelage.lab.driver import Interrupted
from tutelage.lab.process.interruption import StopRequest
from tutelage.lab.process.progress import clock
from tutelage.lab.storage.record import RunFolder, read_results
from tutelage.lab.study import RunResult

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LOOK_SECONDS = 0.05
_STATUS_SECONDS = 30.0


class Outcome(NamedTuple):
    """How a job ended: its results, or None if it failed (why was said)."""

    label: str
    job: Job
    results: list[RunResult] | None


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(
    jobs: Sequence[tuple[str, Job]], count: int, folder: Path, *, quiet: bool = False, console: Console | None = None
) -> Generator[Outcome]:
    """Run the labelled jobs, at most `count` at a time, and give each one's outcome when it ends.

    A child has its share of the cores as threads, unless the environment says how many. Whatever it prints comes out
    here, line by line, on standard error.

    Raises `Interrupted` after Ctrl-C or SIGTERM, or if a child was asked to stop, once all have saved and left.
    """
    console = console or Console(stderr=True)
    waiting, running, interrupted = list(jobs), list[_Child](), False
    threads = dict.fromkeys(_THREADS, str(max(1, num_cores() // count))) | os.environ
    with contextlib.ExitStack() as stack:
        board = stack.enter_context(_Board(console, jobs, quiet=quiet))
        stack.callback(lambda: [child.kill() for child in running])
        stop = stack.enter_context(StopRequest(lambda: board.say("stopping: all runs save; Ctrl-C again kills them")))
        while running or (waiting and not stop and not interrupted):
            while waiting and len(running) < count and not stop and not interrupted:
                label, job = waiting.pop(0)
                if not quiet:
                    print(label, flush=True)
                running.append(_Child(label, job, threads, board))
                board.start(running[-1])
            time.sleep(_LOOK_SECONDS)
            for child in [child for child in running if child.ended()]:
                running.remove(child)
                interrupted |= child.interrupted
                board.end(child)
                if not child.interrupted:
                    yield Outcome(child.label, child.job, child.results())
            if stop or interrupted:
                for child in running:
                    child.stop()
            board.look(running, waiting)
        if stop or interrupted:
            raise Interrupted(folder, f"tutelage resume {folder}")


class _Child:
    """A process that runs one job."""

    def __init__(self, label: str, job: Job, environment: dict[str, str], board: _Board) -> None:
        self.label, self.job = label, job
        self.start, self.step = time.monotonic(), 0
        self.total: int = job.config.schedule.num_updates
        self.first = self.look()
        self._asked = False
        program = f"import sys; sys.path[:] = {sys.path!r}; from tutelage.cli.runs.child import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(job.folder)],
            env=environment | {"PYTHONIOENCODING": "utf-8"},  # this pipe is no terminal, and read as UTF-8
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal reaches all processes in front; the second would kill the child while it saves.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._relay, args=(board,), daemon=True)
        self._reader.start()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone already, and its exit code says so
            self._process.stdin.write(order(job))
            self._process.stdin.flush()

    def look(self) -> int:
        """The updates done so far, from the record on disk."""
        with contextlib.suppress(OSError, ValueError, LookupError):  # there is none yet
            self.step = _last_step(RunFolder(self.job.folder).timing_file)
        return self.step

    def stop(self) -> None:
        """Ask it to save and leave. SIGTERM, not SIGINT: before the run listens, it ends the process silently."""
        if not self._asked:
            self._asked = True
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.ended()

    def ended(self) -> bool:
        if self._process.poll() is None:
            return False
        self._reader.join(timeout=1.0)  # processes that it left behind may hold the pipe
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        return True

    @property
    def interrupted(self) -> bool:
        """Whether it left because it was asked to, by us or by someone else."""
        return self._process.returncode in (INTERRUPTED, -signal.SIGTERM)

    def results(self) -> list[RunResult] | None:
        code = self._process.returncode
        if code < 0:
            name = signal.Signals(-code).name
            reason = "; was there too little memory?" if name == "SIGKILL" else ""
            print(f"tutelage: {self.job.name} failed: its process was ended by {name}{reason}", file=sys.stderr)
        return read_results(self.job.folder) if code == DONE else None

    def _relay(self, board: _Board) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for raw in lines:
                if line := raw.decode(errors="replace").rstrip():
                    board.relay(line if line.startswith("tutelage: ") else f"{self.job.name}: {line}")


class _Board:
    """What a person sees: on a terminal a bar for each job under way and a line for all, elsewhere a line at times."""

    def __init__(self, console: Console, jobs: Sequence[tuple[str, Job]], *, quiet: bool) -> None:
        self._console, self._quiet, self._total = console, quiet, len(jobs)
        self._ended = 0
        self._whole: dict[str, list[float]] = {}  # by arm: seconds that a whole run takes
        self._said = self._looked = time.monotonic()
        self._bars: bars.Progress | None = None
        self._tasks: dict[_Child, bars.TaskID] = {}

    def __enter__(self) -> _Board:
        if self._console.is_terminal and not self._quiet:
            columns = [bars.TextColumn("{task.description}", markup=False), bars.BarColumn(bar_width=24)]
            columns.append(bars.TextColumn("{task.fields[status]}", markup=False))
            # Lines for a file must not go to the terminal because bars are drawn there.
            self._bars = bars.Progress(
                *columns, console=self._console, refresh_per_second=4, redirect_stdout=sys.stdout.isatty()
            )
            self._all = self._bars.add_task("all runs", total=self._total, status="")
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """A line that stays, unless all is to be quiet."""
        if not self._quiet:
            self.relay(text)

    def relay(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start(self, child: _Child) -> None:
        if self._bars is not None:
            self._tasks[child] = self._bars.add_task(child.label, total=child.total, completed=child.step, status="")

    def end(self, child: _Child) -> None:
        child.look()
        self._ended += not child.interrupted
        if (seconds := _whole_seconds(child)) is not None:
            self._whole.setdefault(child.job.arm, []).append(seconds)
        if self._bars is not None:
            self._bars.remove_task(self._tasks.pop(child))

    def look(self, running: Sequence[_Child], waiting: Sequence[tuple[str, Job]]) -> None:
        """Bring everything up to date, now and then."""
        now = time.monotonic()
        if self._quiet or now - self._looked < 1.0:
            return
        self._looked = now
        for child in running:
            child.look()
        left = self._left(running, waiting)
        words = [f"{len(running)} running", f"{self._ended}/{self._total} ended"]
        status = " · ".join(words + ([f"{clock(left)} left"] if left is not None else []))
        if self._bars is not None:
            self._bars.update(self._all, completed=self._ended, status=status)
            for child in running:
                self._bars.update(
                    self._tasks[child], completed=child.step, status=f"{child.step}/{child.total} updates"
                )
        elif now - self._said >= _STATUS_SECONDS:
            self._said = now
            self.say(status)

    def _left(self, running: Sequence[_Child], waiting: Sequence[tuple[str, Job]]) -> float | None:
        """Seconds until all have ended, if runs of an arm take as long as those before and no process ever idles."""
        whole = {arm: list(seconds) for arm, seconds in self._whole.items()}
        for child in running:
            if (seconds := _whole_seconds(child)) is not None:
                whole.setdefault(child.job.arm, []).append(seconds)
        if not whole:
            return None
        means = {arm: sum(seconds) / len(seconds) for arm, seconds in whole.items()}
        usual = sum(means.values()) / len(means)
        under_way = [means.get(child.job.arm, usual) * (1 - child.step / child.total) for child in running]
        to_come = [means.get(job.arm, usual) for _, job in waiting]
        return max(sum(under_way + to_come) / max(1, len(running)), *under_way, 0.0)


def _whole_seconds(child: _Child) -> float | None:
    """How long the run takes from beginning to end, at the pace so far; None where there is none yet."""
    done = child.step - child.first
    return (time.monotonic() - child.start) * child.total / done if done > 0 else None


def _last_step(path: Path) -> int:
    """The step of the last whole record of `timing.jsonl`."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return int(json.loads(file.read().rsplit(b"\n", 2)[-2].rpartition(b"\n")[2])["step"])
