"""A run on disk: what was asked for, what came of it, and the files in between.

config.json      format, study, arm, preset, seeds, overrides, the whole configuration, versions: enough to run it again
metrics.jsonl    append-only, one JSON object a line: {"kind": "metrics" | "evaluation", "seed", "step", figure: value}
timing.jsonl     wall, compile and update seconds so far, by session; apart from the metrics, which hold no times, so
                 that a run that was killed and resumed leaves the same metrics byte for byte
checkpoints/     see `tutelage.lab.storage.checkpoint`; each says which metrics it has behind it
figures/         exhibits: name.svg or name.json, and index.json with their titles and captions
…/               what the program keeps for itself (`Program.attach`), in folders of other names
result.json      final figures by seed and what they cost; written last. It names the files that it has behind it, each
                 with size and SHA-256, and holds its own: where all of that is so the run is "finished"

That a file is there says nothing: `RunFolder.standing` decides where a run stands, for every command.
"""

from __future__ import annotations

import array
import contextlib
import importlib.metadata
import json
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

import tutelage
from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic, checkpoint
from tutelage.lab.storage.lines import Extent, read_lines
from tutelage.lab.study import Exhibit, RunResult

FORMAT = 2
_VERSIONED = ("numpy", "jax", "jaxlib", "equinox", "optax", "torch", "safetensors", "scipy")
LABELS = ("kind", "seed", "step")
"""What a record of metrics says of itself; no figure may be called so."""
_ASKED = {"study": str, "arm": str, "preset": str, "overrides": dict, "seeds": list, "config": dict}
_COSTS = ("wall_seconds", "compile_seconds", "updates_per_second", "peak_memory_bytes", "peak_device_memory_bytes")


class Standing(NamedTuple):
    """Where a run stands.

    Attributes:
        word: `absent`, nothing was ever started here; `unfinished`, there is all that the newest checkpoint has behind
            it, if there is one; `finished`, there is a result and all that it has behind it; `damaged`, some of that
            is torn, gone or changed.
        problem: of a damaged run, what is wrong, in one line.
    """

    word: Literal["absent", "unfinished", "finished", "damaged"]
    problem: str = ""


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

    def standing(self) -> Standing:
        """Where the run stands: the one place where that is decided. Changes nothing.

        Checkpoints of a finished run do not count: they may be removed, and whoever reads one verifies it. Lines after
        those behind the newest checkpoint of an unfinished run do not count either: they are made again.
        """
        if not self.exists():
            return Standing("absent")
        try:
            self.config()
            if self.result_file.exists():
                problem = self._behind_result()
                return Standing("damaged", problem) if problem else Standing("finished")
            for _, path in reversed(checkpoint.steps(self.checkpoints)):
                if path.exists():  # a run under way removes old ones
                    problem = self.behind(path, checkpoint.peek(path))
                    return Standing("damaged", problem) if problem else Standing("unfinished")
        except BadInput as error:
            return Standing("damaged", str(error))
        return Standing("unfinished")

    def behind(self, path: Path, extra: Mapping[str, Any]) -> str | None:
        """What is wrong with the metrics behind a checkpoint, in one line. `extra`: what it says of them."""
        extent = Extent.read(extra.get("metrics"))
        if extent is None or type(extra.get("evaluated")) is not bool:
            return f"checkpoint {path} does not say what it has behind it; remove it"
        problem = extent.missing(self.metrics_file)
        return problem and f"{self.metrics_file} is not as it was at {path.name}: {problem}"

    def _behind_result(self) -> str | None:
        for name, seen in self.result()["files"].items():
            path = self.path / name
            if not path.is_file() or atomic.seen(path) != seen:
                return f"{path} is not as it was when {self.result_file.name} was written"
        return None

    @property
    def mending(self) -> str:
        """The command that goes on with the run, and mends what can be mended."""
        return f"tutelage resume {shlex.quote(str(self.path))}"

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
        """What was asked for (`config.json`), with everything in it that a run has, each of its type."""
        try:
            found = _read_json(self.config_file)
        except BadInput as error:
            raise BadInput(f"{error}; put the file back, or start over in another folder") from error
        for name, kind in _ASKED.items():
            if not isinstance(found.get(name), kind):
                raise BadInput(f"{self.config_file}: {name} = {found.get(name)!r}: not what a run folder holds")
        if not found["seeds"] or not all(type(seed) is int for seed in found["seeds"]):
            raise BadInput(f"{self.config_file}: seeds = {found['seeds']!r}: must be whole numbers, at least one")
        return found

    def result(self) -> dict[str, Any]:
        """What came of it (`result.json`), exactly as it was written."""
        result = _read_json(self.result_file)
        claimed = result.pop("sha256", None)
        if claimed != checkpoint.config_hash(result) or not isinstance(result.get("files"), dict):
            raise BadInput(f"{self.result_file} is not as it was written")
        return result

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The records of `metrics.jsonl` in order. A last line that was cut off is left out."""
        for number, record in enumerate(read_lines(self.metrics_file), start=1):
            if not _is_record(record):
                where = f"line {number} of {self.metrics_file}"
                raise BadInput(f"{where} is no record of metrics; mend the line or remove it")
            yield record


def read_results(folder: str | Path) -> list[RunResult]:
    """One result per seed of a run, finished or not (then `figures` and `cost` are what there is so far).

    Raises `BadInput` in one line, which says what to do, for a damaged run.
    """
    run = RunFolder(folder)
    standing = run.standing()
    if standing.word == "damaged":
        raise BadInput(f"{standing.problem}; to mend it: {run.mending}")
    config = run.config()
    result = run.result() if standing.word == "finished" else {}
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


def write_result(run: RunFolder, about: Mapping[str, Any]) -> None:
    """Write `result.json`: `about`, what lies behind it now (configuration, metrics, figures), the hash of all that."""
    behind = [run.config_file, run.metrics_file, *sorted(run.figures.glob("[!.]*"))]
    files = {path.relative_to(run.path).as_posix(): atomic.seen(path) for path in behind if path.is_file()}
    result = atomic.plain({**about, "files": files})
    atomic.write_json(run.result_file, result | {"sha256": checkpoint.config_hash(result)})


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


def _is_record(record: Mapping[str, Any]) -> bool:
    """Whether it is a record of metrics: labels and numbers (NaN and infinities as the words that `plain` makes)."""
    kind, seed, step = (record.get(label) for label in LABELS)
    if kind not in ("metrics", "evaluation") or type(seed) is not int or type(step) is not int:
        return False
    figures = [value for name, value in record.items() if name not in LABELS]
    return all(isinstance(value, int | float) or value in ("nan", "inf", "-inf") for value in figures)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} is not a JSON object")
    return value
