"""A run on disk: what was asked for, what came of it, and the files in between.

config.json      format, study, arm, preset, seeds, overrides, the whole configuration, versions: enough to run it again
metrics.jsonl    append-only, one JSON object a line: {"kind": "metrics" | "evaluation", "seed", "step", figure: value}
timing.jsonl     wall, compile and update seconds so far, by session; apart from the metrics, which hold no times, so
                 that a run that was killed and resumed leaves the same metrics byte for byte
checkpoints/     see `tutelage.lab.storage.checkpoint`
figures/         exhibits: name.svg or name.json, and index.json with their titles and captions
…/               what the program keeps for itself (`Program.attach`), in folders of other names
result.json      final figures by seed and what they cost; written last, so its presence means "finished"
"""

from __future__ import annotations

import array
import contextlib
import importlib.metadata
import itertools
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tutelage
from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic
from tutelage.lab.study import Exhibit, RunResult

FORMAT = 1
_VERSIONED = ("numpy", "jax", "jaxlib", "equinox", "optax", "torch", "safetensors", "scipy")
LABELS = ("kind", "seed", "step")
"""What a record of metrics says of itself; no figure may be called so."""
_COSTS = ("wall_seconds", "compile_seconds", "updates_per_second", "peak_memory_bytes", "peak_device_memory_bytes")


class RunFolder:
    """The files of one run. Reading never changes them; a file that cannot be understood raises `BadInput`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def timing_file(self) -> Path:
        return self.path / "timing.jsonl"

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def exists(self) -> bool:
        """Whether a run was ever started here."""
        return self.config_file.is_file()

    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.result_file.is_file()

    def forget_unbegun(self) -> None:
        """Take back what a run left that was refused before it did anything, so that the folder is free for another."""
        begun = self.result_file.exists() or any(self.checkpoints.glob("[!.]*")) or any(self.figures.glob("[!.]*"))
        if begun or (self.metrics_file.exists() and self.metrics_file.stat().st_size):
            return
        for file in (self.config_file, self.metrics_file, self.timing_file):
            file.unlink(missing_ok=True)
        for folder in (self.checkpoints, self.figures):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def config(self) -> dict[str, Any]:
        """What was asked for (`config.json`)."""
        return _read_json(self.config_file)

    def result(self) -> dict[str, Any]:
        """What came of it (`result.json`)."""
        return _read_json(self.result_file)

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The records of `metrics.jsonl` in order. A last line that was cut off is left out."""
        return read_lines(self.metrics_file)

    def timing(self) -> Iterator[dict[str, Any]]:
        """The records of `timing.jsonl` in order."""
        return read_lines(self.timing_file)


def read_results(folder: str | Path) -> list[RunResult]:
    """One result per seed of a run, finished or not (then `figures` and `cost` are what there is so far)."""
    run = RunFolder(folder)
    config = run.config()
    result = run.result() if run.finished() else {}
    final = result.get("figures", {})
    cost = costs(result)
    series: dict[tuple[int, str, str], tuple[array.array, array.array]] = {}
    latest: dict[int, dict[str, float]] = {}
    for record in run.metrics():
        kind, seed, step = (record[label] for label in LABELS)
        figures = {name: value for name, value in record.items() if name not in LABELS}
        for name, value in figures.items():
            steps, values = series.setdefault((seed, kind, name), (array.array("q"), array.array("d")))
            steps.append(step)
            values.append(float(value))
        if kind == "evaluation":
            latest[seed] = figures
    return [
        RunResult(
            arm=config["arm"],
            seed=seed,
            figures=final.get(str(seed), latest.get(seed, {})),
            series={
                (kind, name): (np.array(steps), np.array(values))
                for (owner, kind, name), (steps, values) in series.items()
                if owner == seed
            },
            cost=cost,
        )
        for seed in config["seeds"]
    ]


def costs(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a run took, of its `result.json`: the numbers of `RunResult.cost`."""
    cost = {name: value for name, value in result.items() if name in _COSTS}
    if isinstance(work := result.get("work_per_second"), Mapping) and "value" in work:
        cost["work_per_second"] = work["value"]
    return cost


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file. A line still being written is left out; no file is no lines."""
    if path.is_file():
        yield from (record for _, record in _whole_lines(path))


class Lines:
    """A JSON-lines file that is appended to. Whatever was cut off at its end is cut away first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("ab", buffering=0)
            if path.is_file():
                self._file.truncate(max((end for end, _ in _whole_lines(path)), default=0))
        except OSError as error:
            raise atomic.unwritable(path, error) from error

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append the records in one write."""
        text = "".join(json.dumps(atomic.plain(dict(record)), allow_nan=False) + "\n" for record in records)
        left = memoryview(text.encode())
        try:
            while left:  # on a disk that is nearly full a write may be short before the next one fails
                left = left[self._file.write(left) :]
        except OSError as error:
            raise atomic.unwritable(self._path, error) from error

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise atomic.unwritable(self._path, error) from error

    def close(self) -> None:
        self._file.close()


def heal(path: Path, step: int, *, evaluated: bool) -> None:
    """Cut a metrics file back to what was known at `step`: records are in order, so it ends at the first later one.

    With `evaluated` false the evaluation at `step` itself is cut too, because it will be done again.
    """

    def known(record: dict[str, Any]) -> bool:
        return record["step"] < step or (record["step"] == step and (evaluated or record["kind"] == "metrics"))

    if path.is_file():
        try:
            with path.open("r+b") as file:
                within = itertools.takewhile(lambda line: known(line[1]), _whole_lines(path))
                file.truncate(max((end for end, _ in within), default=0))
                os.fsync(file.fileno())
        except OSError as error:
            raise atomic.unwritable(path, error) from error


def write_exhibits(folder: Path, exhibits: Sequence[Exhibit]) -> None:
    """Write `figures/`: every exhibit by its name, and `index.json` last."""
    index = []
    for exhibit in exhibits:
        if not exhibit.name.replace("-", "_").isidentifier():
            raise BadInput(f"exhibit {exhibit.name!r}: a name is letters, digits, '-' and '_'")
        if bool(exhibit.svg) == bool(exhibit.rows):
            raise BadInput(f"exhibit {exhibit.name!r} must have either svg or rows")
        file = f"{exhibit.name}.{'svg' if exhibit.svg else 'json'}"
        if exhibit.svg:
            atomic.write_bytes(folder / file, exhibit.svg.encode())
        else:
            atomic.write_json(folder / file, exhibit.rows)
        index.append({"name": exhibit.name, "title": exhibit.title, "caption": exhibit.caption, "file": file})
    atomic.write_json(folder / "index.json", index)


def versions() -> dict[str, str]:
    """What made the run: Python, this package, what it stands on (where installed), and the platform."""
    found = {"python": platform.python_version(), "tutelage": tutelage.__version__}
    for package in _VERSIONED:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["platform"] = platform.platform()
    return found


def _whole_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file, each with the offset behind its line; what follows the last newline is torn."""
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                record = json.loads(line)
            except ValueError as error:
                raise BadInput(f"line {number} of {path} is not JSON") from error
            if not isinstance(record, dict):
                raise BadInput(f"line {number} of {path} is not a JSON object")
            yield end, record


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} is not a JSON object")
    return value
