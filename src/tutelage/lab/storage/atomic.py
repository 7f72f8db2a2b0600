"""Files that are either as they were or as they shall be, and folders that one process writes at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.lab.errors import BadInput

_MARK = ".partial-"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`: a temporary file beside it, fsync, rename, fsync of the folder.

    Raises `BadInput` in one line when the disk is full or the folder cannot be written; the old file then stands.
    """
    partial = path.with_name(f"{_MARK}{os.getpid()}-{path.name}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of `plain(value)` as indented JSON."""
    write_bytes(path, (json.dumps(plain(value), indent=2, allow_nan=False) + "\n").encode())


def plain(value: Any) -> Any:
    """`value` as strict JSON can hold it: NumPy numbers as Python's, NaN and infinities as strings, tuples as lists."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def seen(path: Path) -> list[int | str]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def sync_folder(folder: Path) -> None:
    """Make renames and removals inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what writers killed half-way left behind. Call it under the folder's lock."""
    for partial in folder.glob(f"{_MARK}*"):
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make the folder and hold it against other processes. Raises `BadInput` naming the process that has it.

    The kernel releases the lock when the holder dies, however it dies; the empty file `.lock` stays.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise unwritable(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise BadInput(f"{folder} is in use by {holder}; wait for it to end, or choose another --out") from error
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        sweep(folder)
        try:
            yield
        finally:
            file.truncate(0)


def unwritable(path: Path, error: OSError) -> BadInput:
    """The one-line error of a file that could not be written."""
    return BadInput(f"cannot write {path}: {error.strerror or error}")
