"""Files of JSON lines that are only appended to, and how much of one something else vouches for.

A kill tears at most the last line, which then never counts. What a checkpoint or a result has behind it is an `Extent`
of such a file: it can be told whether all of it is still there, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic

_BLOCK = 2**20


class Extent(NamedTuple):
    """How far a file reached: its whole lines, their bytes, and the SHA-256 of these bytes."""

    lines: int
    size: int
    sha256: str

    @classmethod
    def read(cls, value: Any) -> Extent | None:
        """What JSON made of an extent; None if it is none."""
        good = isinstance(value, list) and [type(part) for part in value] == [int, int, str] and min(value[:2]) >= 0
        return cls(*value) if good else None

    def missing(self, path: Path) -> str | None:
        """What is wrong with the file, if it does not begin with this: `3 of its 12 lines are there`."""
        digest, left, lines = hashlib.sha256(), self.size, 0
        if path.is_file():
            with path.open("rb") as file:
                while left and (block := file.read(min(left, _BLOCK))):
                    digest.update(block)
                    lines += block.count(b"\n")
                    left -= len(block)
        if not left and digest.hexdigest() == self.sha256:
            return None
        if lines < self.lines:
            return f"{lines} of its {self.lines} lines are there"
        return f"of its {self.lines} lines some were changed"


class Lines:
    """A file of JSON lines that is appended to. Whatever was cut off at its end is cut away first.

    Raises `BadInput` as `read_lines` does, and where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest, self._count, self._size = hashlib.sha256(), 0, 0
        try:
            self._file = path.open("ab", buffering=0)
            if path.is_file():
                for line, _ in _whole_lines(path):
                    self._add(line)
                self._file.truncate(self._size)
        except OSError as error:
            raise atomic.unwritable(path, error) from error
        except BadInput:
            self._file.close()
            raise

    @property
    def extent(self) -> Extent:
        """What is in the file now, which is no promise that it is on the disk (`sync`)."""
        return Extent(self._count, self._size, self._digest.hexdigest())

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append the records in one write."""
        lines = [(json.dumps(atomic.plain(dict(record)), allow_nan=False) + "\n").encode() for record in records]
        left = memoryview(b"".join(lines))
        try:
            while left:  # on a disk that is nearly full a write may be short before the next one fails
                left = left[self._file.write(left) :]
        except OSError as error:
            raise atomic.unwritable(self._path, error) from error
        for line in lines:
            self._add(line)

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise atomic.unwritable(self._path, error) from error

    def close(self) -> None:
        self._file.close()

    def _add(self, line: bytes) -> None:
        self._digest.update(line)
        self._count += 1
        self._size += len(line)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of the file. A line still being written is left out; no file is no lines.

    Raises `BadInput` naming the first whole line that is no JSON object.
    """
    if path.is_file():
        yield from (record for _, record in _whole_lines(path))


def cut(path: Path, size: int) -> None:
    """Let the file end after so many bytes. No file stays none."""
    if path.is_file():
        try:
            with path.open("r+b") as file:
                file.truncate(size)
                os.fsync(file.fileno())
        except OSError as error:
            raise atomic.unwritable(path, error) from error


def keep_readable(path: Path, good: Callable[[Mapping[str, Any]], bool]) -> int:
    """Drop the whole lines that are no objects or not `good`; how many these were."""
    kept, dropped = [], 0
    if path.is_file():
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    record = _object(line)
                    if record is not None and good(record):
                        kept.append(line)
                    else:
                        dropped += 1
    if dropped:
        atomic.write_bytes(path, b"".join(kept))
    return dropped


def _whole_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each line with its object; what follows the last newline is torn."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            record = _object(line)
            if record is None:
                raise BadInput(f"line {number} of {path} is no JSON object; mend the line or remove it")
            yield line, record


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
