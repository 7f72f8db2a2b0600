"""Scores on disk: a JSON-lines file that is only appended to, and survives a kill at any moment.

{"format": 1, "names": ["gc", "size"], "kind": "values", "identity": ""}
{"object": [0, 2, 1], "text": "AGC", "values": [0.67, 3.0]}
"""

from __future__ import annotations

import contextlib
import fcntl
import weakref
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic
from tutelage.lab.storage.lines import Lines, read_lines

FORMAT = 1
_LONGEST = 200
"""Letters of an object's text that are kept: they are for a reader."""


def object_key(row: np.ndarray) -> bytes:
    """16 bytes that name an object by its shape and numbers, whatever the width of its integers."""
    row = np.asarray(row)
    wide = np.ascontiguousarray(row, np.float64 if row.dtype.kind == "f" else np.int64)
    return blake2b(wide.tobytes(), digest_size=16, person=repr(row.shape).encode()[:16]).digest()


class ScoreFile:
    """The file, held against other processes until `close`.

    Raises `BadInput` in one line for a file of other objectives, a damaged one, or one that cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self._header = {"format": FORMAT, **header}
        self._stack = contextlib.ExitStack()
        # A file which nobody closed is let go with its owner.
        self._finalizer = weakref.finalize(self, self._stack.close)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = self._stack.enter_context(path.open("ab"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise BadInput(
                f"cache {path} is in use by another oracle; wait for it to end, or give another path"
            ) from None
        except OSError as error:
            self.close()
            raise atomic.unwritable(path, error) from error
        try:
            self._lines = Lines(path)  # which cuts off a line that a kill tore
            self._stack.callback(self._lines.close)
            self._check_header()
        except BaseException:
            self.close()
            raise

    def read(self) -> dict[bytes, np.ndarray]:
        """Everything scored so far: values f64 [M] by `object_key`; of two lines for one object the later counts."""
        known = {}
        for number, record in enumerate(read_lines(self.path), start=1):
            if number == 1:
                continue
            try:
                row, values = np.asarray(record["object"]), np.asarray(record["values"], np.float64)
                good = row.dtype.kind in "if" and values.shape == (len(self._header["names"]),)
                if not (good and np.isfinite(values).all()):
                    raise ValueError
            except (KeyError, ValueError, TypeError):
                raise BadInput(f"line {number} of {self.path} is no score: mend it or give another path") from None
            known[object_key(row)] = values
        return known

    def write(self, objects: np.ndarray, values: np.ndarray, texts: Sequence[str]) -> None:
        """Append scores; they are on the disk when this returns."""
        if len(objects):
            rows = zip(objects, values, texts, strict=True)
            self._lines.write([{"object": row, "text": text[:_LONGEST], "values": value} for row, value, text in rows])
            self._lines.sync()

    def close(self) -> None:
        self._finalizer()

    def _check_header(self) -> None:
        found = next(read_lines(self.path), None)
        if found is None:
            self._lines.write([self._header])
            self._lines.sync()
        elif found != self._header:
            wrong = next(name for name in {**self._header, **found} if found.get(name) != self._header.get(name))
            raise BadInput(
                f"cache {self.path} has {wrong} = {found.get(wrong)!r}, the oracle {self._header.get(wrong)!r}: "
                "give another path"
            )
