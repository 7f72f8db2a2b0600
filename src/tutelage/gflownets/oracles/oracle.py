"""Rewards from the host: any objectives behind a cache, asked in batches between compiled calls.

What was scored once is never asked again; with a file, not in the next run either. When some objects of a batch
cannot be scored, the others of that batch are kept and those are named.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from tutelage.gflownets.objectives import Objectives, check_rewards
from tutelage.gflownets.oracles.endpoint import Unavailable
from tutelage.gflownets.oracles.own import Measured
from tutelage.gflownets.oracles.score_file import ScoreFile, object_key
from tutelage.lab.errors import BadInput

SHOWN = 3
"""Failing objects that are looked for in a batch and named."""


class OracleError(BadInput):
    """Objects that an oracle could not score; what it did score is kept.

    Attributes:
        objects: the failing objects (those found: the search ends after `SHOWN`), or none where the oracle as a whole
            cannot be used.
    """

    def __init__(self, message: str, objects: Sequence[np.ndarray] = ()) -> None:
        super().__init__(message)
        self.objects = list(objects)


class Counts(NamedTuple):
    """What an oracle did since it was made.

    Attributes:
        asked: objects whose rewards were wanted.
        hits: of those, the ones that were known already, or were there twice.
        scored: different objects that the objectives were asked for and answered.
        calls: of the objectives' function, those that failed included.
    """

    asked: int = 0
    hits: int = 0
    scored: int = 0
    calls: int = 0


class Oracle:
    """`score(objects) -> f32 [n, M]` for `method.hosted_update`: objectives, their cache and their mistakes.

    Args:
        objectives: on the host or not; a function that gives the same values for the same object.
        cache: a JSON-lines file of everything scored, made if needed and appended to. One process at a time may use it.
            It holds what was measured, before bounds are applied (`own.Measured`).
        identity: what values depend on besides the object (version of a model, of a program): a file of another
            identity, or of objectives of other names, is refused.
        batch_size: most objects in one call of the objectives; 0: all at once.

    In memory an object takes some 200 bytes.

    Raises:
        BadInput: for a cache that cannot be used, and, when called, for rewards that are NaN or outside their bounds
            (which objective and how many).
        OracleError: when called, for objects at which the objectives raise or give an array of the wrong shape.
    """

    def __init__(
        self, objectives: Objectives, *, cache: str | Path | None = None, identity: str = "", batch_size: int = 0
    ) -> None:
        if batch_size < 0:
            raise BadInput(f"batch_size = {batch_size}: must be ≥ 0")
        self.objectives = objectives
        self.counts = Counts()
        self._measured = objectives.rewards if isinstance(objectives.rewards, Measured) else None
        self._batch_size = batch_size
        kind = "values" if self._measured else "rewards"
        header = {"names": list(objectives.names), "kind": kind, "identity": identity}
        self._file = None if cache is None else ScoreFile(Path(cache), header)
        self._known = {} if self._file is None else self._file.read()

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def __call__(self, objects: np.ndarray) -> Float32[np.ndarray, "n M"]:
        """The rewards of n objects, in their order."""
        objects = np.asarray(objects)
        rewards = values = self.values(objects)
        if self._measured is not None:
            rewards = self._measured.rewards(values, objects, self.objectives.render)
        return check_rewards(rewards, self.objectives, objects)

    def values(self, objects: np.ndarray) -> Float[np.ndarray, "n M"]:
        """What was measured of n objects, in their order, f64: in units of their own, unchecked."""
        objects = np.asarray(objects)
        keys = [object_key(row) for row in objects]
        first: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in self._known:
                first.setdefault(key, row)
        self._count(asked=len(keys), hits=len(keys) - len(first))
        rows = list(first.values())
        unusable: dict[bytes, np.ndarray] = {}
        for start in range(0, len(rows), self._batch_size or max(len(rows), 1)):
            part = objects[rows[start : start + (self._batch_size or len(rows))]]
            unusable |= self._score(part)
        found = [self._known[key] if key in self._known else unusable[key] for key in keys]
        return np.stack(found) if found else np.zeros((0, self.objectives.num_objectives))

    def _score(self, objects: np.ndarray) -> dict[bytes, np.ndarray]:
        """Ask for objects that are not known, and keep the answers; those that are no finite numbers are returned."""
        failures: list[tuple[int, Exception]] = []
        unusable: dict[bytes, np.ndarray] = {}
        waiting = [range(len(objects))]
        while waiting and len(failures) < SHOWN:
            rows = waiting.pop()
            try:
                values = self._answer(objects[rows.start : rows.stop])
            except Unavailable as error:
                raise OracleError(f"the oracle cannot be used: {error}") from error
            except Exception as error:
                if len(rows) == 1:
                    failures.append((rows.start, error))
                else:
                    middle = rows.start + len(rows) // 2
                    waiting += [range(middle, rows.stop), range(rows.start, middle)]
                continue
            finite = np.isfinite(values).all(axis=1)
            part = objects[rows.start : rows.stop]
            self._keep(part[finite], values[finite])
            unusable |= {object_key(row): value for row, value in zip(part[~finite], values[~finite], strict=True)}
        if failures:
            raise self._error(objects, failures, more=bool(waiting))
        return unusable

    def _answer(self, objects: np.ndarray) -> np.ndarray:
        self._count(calls=1)
        ask = self._measured.values if self._measured is not None else self.objectives.rewards
        values = np.asarray(ask(objects), np.float64)
        expected = (len(objects), self.objectives.num_objectives)
        if values.shape != expected:
            raise ValueError(f"it gave an array of shape {values.shape} for {len(objects)} objects; must be {expected}")
        return values

    def _keep(self, objects: np.ndarray, values: np.ndarray) -> None:
        if self._file is not None:
            self._file.write(objects, values, [self.objectives.render(row) for row in objects])
        self._known |= {object_key(row): value for row, value in zip(objects, values, strict=True)}
        self._count(scored=len(objects))

    def _count(self, **more: int) -> None:
        self.counts = self.counts._replace(**{name: getattr(self.counts, name) + by for name, by in more.items()})

    def _error(self, objects: np.ndarray, failures: list[tuple[int, Exception]], *, more: bool) -> OracleError:
        bad = [objects[row] for row, _ in failures]
        shown = ", ".join(f"{self.objectives.render(row):.80}" for row in bad)
        number = f"at least {len(bad)}" if more else str(len(bad))
        error = failures[0][1]
        message = f"the oracle failed at {number} of {len(objects)} objects ({shown}): {_in_a_line(error)}"
        found = OracleError(message, bad)
        found.__cause__ = error
        return found


def _in_a_line(error: Exception) -> str:
    """An exception with the place it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = frames[-1] if frames and frames[-1].filename != __file__ else None
    place = f" ({Path(inside.filename).name}, line {inside.lineno})" if inside else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text:.200}{place}"
