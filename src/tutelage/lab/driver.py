"""The one loop of the house: chunks of updates, and between them evaluations, checkpoints and the record on disk.

    for each chunk:   start it, and while it runs read the metrics of the chunk before
    at a boundary:    an evaluation, a checkpoint, a request to stop or the end: wait for the chunk, then attend to them

A checkpoint is written only after every figure up to its step was found finite and is on the disk, so going on from it
(after a kill, at whatever moment) leaves the files that an undisturbed run leaves, byte for byte.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tutelage.lab import configuration
from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.process.interruption import StopRequest
from tutelage.lab.process.memory import TooLarge
from tutelage.lab.process.progress import Progress, clock
from tutelage.lab.program import Figures, Program, State
from tutelage.lab.schedule import Schedule
from tutelage.lab.storage import atomic, checkpoint, record
from tutelage.lab.storage.lines import Lines
from tutelage.lab.storage.record import RunFolder
from tutelage.lab.storage.recovery import best_so_far, recover
from tutelage.lab.storage.timing import Timing
from tutelage.lab.study import Config, RunResult, Study


class Interrupted(Exception):
    """The run was asked to stop, and everything is saved. `command` goes on with it."""

    def __init__(self, folder: Path, command: str) -> None:
        super().__init__(f"stopped and saved; go on with: {command}")
        self.folder = folder
        self.command = command


class Diverged(RuntimeError):
    """A figure is NaN or infinite. The message names it, its seed and step, and the last good checkpoint."""


def run(
    study: Study,
    arm: str,
    preset: str,
    config: Config,
    seeds: Sequence[int],
    folder: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    console: Console | None = None,
    quiet: bool = False,
    leave: Callable[[str], object] | None = None,
) -> list[RunResult]:
    """Start a run, go on with an unfinished one, or give the results of a finished one: one per seed.

    Args:
        arm, preset, overrides: where `config` came from, for the record; `config` itself is complete.
        folder: the run folder; made if it is not there.
        console: where progress goes (standard error by default); `quiet` silences it.
        leave: called by another thread when the run is asked to stop while it compiles or loads and nothing would be
            lost: it may end the process, which a compiler would otherwise hold for as long as it likes. It is given
            the sentence that says how to go on. None: the run stops when compiling ends.

    Raises:
        BadInput: the configuration is not allowed, the folder belongs to another run or is in use or cannot be
            written, or none of its checkpoints can be read.
        Interrupted: after Ctrl-C or SIGTERM, with everything saved.
        Diverged: a figure is NaN or infinite.
    """
    files = RunFolder(folder)
    if finished(study, arm, config, seeds, folder):
        return record.read_results(files.path)
    seeds = list(seeds)
    asked = _asked(study, arm, config, seeds)
    with atomic.sole_writer(files.path):
        if begun := files.exists():
            _refuse_other_run(files, asked)
        else:
            head = {"format": record.FORMAT, "study": study.name, "arm": arm, "preset": preset, "seeds": seeds}
            tail = {"overrides": dict(overrides or {}), "config": asked["config"], "versions": record.versions()}
            atomic.write_json(files.config_file, head | tail)
        if files.standing().word != "finished":
            console = console or Console(stderr=True)
            key = checkpoint.config_hash(asked)
            session = _Session(study, arm, preset, config, seeds, files, key, console, quiet, leave)
            try:
                session.finish()
            except BadInput as error:
                if not begun:
                    files.forget_unbegun()
                if isinstance(error, TooLarge):
                    raise BadInput(f"{_settings_of(config, error)}{error}") from error
                raise
    return record.read_results(files.path)


def finished(study: Study, arm: str, config: Config, seeds: Sequence[int], folder: str | Path) -> bool:
    """Whether this very run is complete in the folder. Changes nothing.

    Raises `BadInput` for all that can be known to be wrong before any work: the configuration is not allowed, or the
    folder belongs to another run.
    """
    configuration.validate(config)
    study.check(config)
    chunk_size(config.schedule)
    files = RunFolder(folder)
    _refuse_other_run(files, _asked(study, arm, config, check_seeds(seeds)))
    return files.standing().word == "finished"


def chunk_size(schedule: Schedule) -> int:
    """Updates in one compiled chunk: `log_every`, or all of them if they are fewer.

    All chunks are equally long, so that there is one compilation. Raises `BadInput` if the run is no whole number of
    chunks; rounding it would change what the method does (step sizes may be annealed over all updates).
    """
    total, chunk = schedule.num_updates, min(schedule.log_every, schedule.num_updates)
    if total % chunk:
        below = total - total % chunk
        raise BadInput(
            f"schedule.num_updates = {total}: must be a multiple of schedule.log_every = {chunk}, "
            f"for example {below} or {below + chunk}"
        )
    return chunk


def falls_due(every: int, step: int, chunk: int) -> bool:
    """Whether a multiple of `every` lies in the chunk that ended at `step`; never if `every` is 0."""
    return every > 0 and step // every > (step - chunk) // every


def _settings_of(config: Config, error: TooLarge) -> str:
    """The settings that make the sizes of what is too large, the largest first: "rollout.num_tasks = 100000000: "."""
    sizes = {size for array in error.arrays for size in array.shape}
    numbers = {
        path: value for path, value in configuration.flatten(config).items() if type(value) is int and value > 64
    }
    factors = {path: value for path, value in numbers.items() if any(size and size % value == 0 for size in sizes)}
    found = [path for path, value in factors.items() if value >= max(factors.values()) // 10]
    return f"{', '.join(f'{path} = {numbers[path]}' for path in found)}: " if found else ""


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """The seeds as a list. Raises `BadInput` unless they are different whole numbers from 0 to 2³² − 1."""
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise BadInput(f"seed {seed!r}: must be a whole number in [0, 2^32)")
    if not seeds or len(set(seeds)) < len(seeds):
        raise BadInput(f"seeds {list(seeds)}: must be at least one, and all different")
    return list(seeds)


def _asked(study: Study, arm: str, config: Config, seeds: Sequence[int]) -> dict[str, Any]:
    """What makes a run this run and no other."""
    return {"study": study.name, "arm": arm, "seeds": list(seeds), "config": configuration.to_json(config)}


def _refuse_other_run(files: RunFolder, asked: Mapping[str, Any]) -> None:
    if not files.exists():
        return
    there = files.config()
    if there.get("format") != record.FORMAT:
        raise BadInput(f"{files.config_file} has format {there.get('format')!r}, must be {record.FORMAT}")
    old, new = (_by_path({name: run.get(name) for name in asked}) for run in (there, atomic.plain(asked)))
    for name, (was, wanted) in configuration.differences(old, new).items():
        raise BadInput(
            f"{files.path} holds another run: its {name} is {was!r}, not {wanted!r}; "
            "choose another --out, or remove the folder"
        )


def _by_path(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"study": …, "config.ppo.clip": 0.2}`."""
    flat: dict[str, Any] = {}
    for name, item in nested.items():
        flat |= _by_path(item, f"{prefix}{name}.") if isinstance(item, Mapping) else {prefix + name: item}
    return flat


class _Session:
    """One process's share of a run: from where the folder stands to the end, or to an interruption."""

    def __init__(
        self,
        study: Study,
        arm: str,
        preset: str,
        config: Config,
        seeds: list[int],
        files: RunFolder,
        config_hash: str,
        console: Console,
        quiet: bool,
        leave: Callable[[str], object] | None,
    ) -> None:
        self.study, self.arm, self.preset, self.config, self.seeds = study, arm, preset, config, seeds
        self.files, self.hash, self.console, self.quiet = files, config_hash, console, quiet
        self.schedule: Schedule = config.schedule
        self.chunk = chunk_size(config.schedule)
        self.started = time.monotonic()
        self.updates, self.update_seconds = 0, 0.0
        self.saved: tuple[int, bool] = (0, True)  # step, and whether its evaluation was done
        self.saved_at = self.started
        self.called: set[str] = set()
        self.best = -math.inf
        self.leave, self.held = leave, False

    def finish(self) -> None:
        """Bring the run to its end and write its result."""
        for folder in (self.files.checkpoints, self.files.figures):
            try:
                folder.mkdir(exist_ok=True)
            except OSError as error:
                raise atomic.unwritable(folder, error) from error
            atomic.sweep(folder)
        found, notes = recover(self.files, config_hash=self.hash, best_figure=self.schedule.best_figure)
        step = found.step if found else 0
        unit, amount = self.study.work(self.config)
        self.progress = Progress(
            self.console,
            title=f"{self.study.name}/{self.arm}",
            start=step,
            total=self.schedule.num_updates,
            unit=unit,
            amount=amount * len(self.seeds),
            headline=self.study.headline,
            quiet=self.quiet,
        )
        with contextlib.ExitStack() as stack:
            timing = Timing(self.files.timing_file, step, self.started)
            self.timing = stack.enter_context(contextlib.closing(timing))
            for note in [*notes, *timing.notes]:  # what was lost is said however quiet the run is to be
                self.console.print(f"tutelage: {note}", markup=False, highlight=False, soft_wrap=True)
            stack.enter_context(self.progress)
            self.stop = stack.enter_context(StopRequest(self._asked_to_stop))
            self.metrics = stack.enter_context(contextlib.closing(Lines(self.files.metrics_file)))
            with self._holding("building"):
                self.program: Program = self.study.program(self.config, self.seeds)
                self.program.attach(self.files.path)
            beginning = self._holding("loading" if found else "making the beginning")
            with beginning, self._compiling("load" if found else "init"):
                state = self._restore(found) if found else self.program.init()
            evaluation_due = not found.extra["evaluated"] if found else self.schedule.evaluate_first
            del found
            state = self._loop(state, step, evaluation_due)
            self._conclude(state)

    def _asked_to_stop(self) -> None:
        """By the thread that waits for signals. Where nothing would be lost it does not wait for a compiler."""
        if self.held and self.leave is not None:
            self.leave(f"stopped, nothing is lost; go on with: {self._interrupted().command}")
        self.progress.say("stopping; Ctrl-C again kills")

    def _interrupted(self) -> Interrupted:
        return Interrupted(self.files.path, self.files.mending)

    @contextlib.contextmanager
    def _holding(self, what: str) -> Iterator[None]:
        """Around what may take minutes, cannot be interrupted, and loses nothing if the process ends."""
        if self.stop:
            raise self._interrupted()
        self.progress.doing(what)
        self.held = True
        yield
        self.held = False
        self.progress.doing("")

    def _restore(self, found: checkpoint.Checkpoint) -> State:
        self.progress.say(f"going on after update {found.step}")
        self.saved = found.step, found.extra["evaluated"]
        self.best = best_so_far(self.files, self.schedule.best_figure)
        try:
            return self.program.load(found.arrays)
        except BadInput as error:
            raise BadInput(f"checkpoint {found.path} does not fit this program: {error}") from error

    def _loop(self, state: State, step: int, evaluation_due: bool) -> State:
        """Train to the end. The state is touched here only while no chunk is under way."""
        while True:
            if evaluation_due and not self.stop:
                self._evaluate(state, step)
                evaluation_due = False
            done = step == self.schedule.num_updates
            if self.stop or done or self._checkpoint_due(step):
                self._save(state, step, evaluated=not evaluation_due)
            if self.stop:
                raise self._interrupted()
            if done:
                return state
            state, step = self._train(state, step)
            evaluation_due = self._evaluation_due(step)

    def _train(self, state: State, step: int) -> tuple[State, int]:
        """Chunks until something falls due, metrics one chunk late; on return all of them are read and written."""
        late: tuple[int, Callable[[], list[Figures]]] | None = None
        while True:
            # Until the first chunk of this session is done nothing is lost if the process ends; it may be long.
            self.held = self.updates == 0
            with self._compiling("update"), self._updating():
                state, fetch = self.program.update(state, self.chunk)
            if self.held:
                self.progress.doing("first updates")
            step += self.chunk
            if late is not None:
                self._log(*late)
            late = step, fetch
            if self._evaluation_due(step) or self._checkpoint_due(step) or self.stop:
                self._log(*late)
                return state, step

    def _log(self, step: int, fetch: Callable[[], list[Figures]]) -> None:
        with self._updating():
            figures = fetch()
        if self.held:
            self.held = False
            self.progress.doing("")
        self.updates += self.chunk
        self._write("metrics", step, figures)
        self._write_timing(step)
        self.progress.reach(step)

    def _evaluate(self, state: State, step: int) -> None:
        final = step == self.schedule.num_updates
        self.progress.doing("evaluating")
        with self._compiling("final evaluation" if final else "evaluation"):
            figures = self.program.evaluate(state, step, final=final)
        self.progress.doing("")
        self._write("evaluation", step, figures)
        self._write_timing(step)
        if headline := [seed[self.study.headline] for seed in figures if self.study.headline in seed]:
            self.progress.figure(math.fsum(headline) / len(headline))
        if name := self.schedule.best_figure:
            for seed in figures:
                if name not in seed:
                    known = ", ".join(seed)
                    raise BadInput(f"schedule.best_figure = {name!r}: must be one of {known}{nearest(name, seed)}")
            value = math.fsum(seed[name] for seed in figures) / len(figures)
            if value > self.best:
                self.best = value
                self._write_checkpoint(self.files.checkpoints / checkpoint.BEST, state, step, evaluated=True)

    def _save(self, state: State, step: int, *, evaluated: bool) -> None:
        if self.saved == (step, evaluated):
            return
        self._write_checkpoint(self.files.checkpoints / checkpoint.file_name(step), state, step, evaluated=evaluated)
        checkpoint.prune(self.files.checkpoints, self.schedule.keep_checkpoints)
        self.saved, self.saved_at = (step, evaluated), time.monotonic()

    def _write_checkpoint(self, path: Path, state: State, step: int, *, evaluated: bool) -> None:
        self.metrics.sync()
        arrays = self.program.save(state)
        extra = {"evaluated": evaluated, "metrics": self.metrics.extent}
        checkpoint.save(path, arrays, step=step, seeds=self.seeds, config_hash=self.hash, extra=extra)

    def _conclude(self, state: State) -> None:
        """Exhibits, then the result: its presence says that the run is finished."""
        if self.study.exhibits:
            self.progress.doing("drawing")
            record.write_exhibits(self.files.figures, self.study.exhibits_of(self.config, self.program, state))
        self.progress.doing("")
        self.metrics.sync()
        self._write_timing(self.schedule.num_updates)
        figures = {str(result.seed): result.figures for result in record.read_results(self.files.path)}
        unit, amount = self.study.work(self.config)
        result = {
            "format": record.FORMAT,
            "study": self.study.name,
            "arm": self.arm,
            "preset": self.preset,
            "seeds": self.seeds,
            "step": self.schedule.num_updates,
            "figures": figures,
            **self.timing.cost(unit, amount * len(self.seeds)),
            "device": self.program.device(),
            "finished": True,
        }
        record.write_result(self.files, result)
        self.progress.say(f"finished in {clock(result['wall_seconds'])} · {self.progress.status()}")

    def _write(self, kind: str, step: int, figures: list[Figures]) -> None:
        """Append one record per seed, after a look at every number."""
        for seed, of_seed in zip(self.seeds, figures, strict=True):
            for name, value in of_seed.items():
                if name in record.LABELS:
                    raise ValueError(f"{kind} {name!r}: every record has a {name} of its own; choose another name")
                if not math.isfinite(value):
                    kept = checkpoint.steps(self.files.checkpoints)
                    good = f"the last good checkpoint is {kept[-1][1]}" if kept else "there is no checkpoint yet"
                    raise Diverged(f"{kind} {name!r} of seed {seed} is {value} at update {step}; {good}")
        labelled = ({"kind": kind, "seed": seed, "step": step} for seed in self.seeds)
        self.metrics.write([label | dict(of_seed) for label, of_seed in zip(labelled, figures)])

    def _write_timing(self, step: int) -> None:
        self.timing.write(
            step,
            updates=self.updates,
            update_seconds=self.update_seconds,
            compile_seconds=self.program.compile_seconds,
            peak_device_bytes=self.program.peak_device_bytes(),
        )

    @contextlib.contextmanager
    def _compiling(self, verb: str) -> Iterator[None]:
        """Say that the call inside compiles, which a program does at the first call of each verb."""
        first = self.program.compiles and verb not in self.called
        self.called.add(verb)
        before = self.program.compile_seconds
        if first:
            self.progress.doing(f"compiling {verb}")
            if verb == "update":  # the long one
                self.progress.say("compiling")
        yield
        if first:
            self.progress.doing("")
            if verb == "update":
                self.progress.say(f"compiled in {self.program.compile_seconds - before:.1f} s")

    @contextlib.contextmanager
    def _updating(self) -> Iterator[None]:
        """Count the time inside as training, without what was spent on compiling."""
        start, compiled = time.monotonic(), self.program.compile_seconds
        yield
        self.update_seconds += time.monotonic() - start - (self.program.compile_seconds - compiled)

    def _evaluation_due(self, step: int) -> bool:
        return step == self.schedule.num_updates or falls_due(self.schedule.evaluate_every, step, self.chunk)

    def _checkpoint_due(self, step: int) -> bool:
        if step == self.saved[0]:
            return False
        by_time = time.monotonic() - self.saved_at >= self.schedule.checkpoint_seconds
        return by_time or falls_due(self.schedule.checkpoint_every, step, self.chunk)
