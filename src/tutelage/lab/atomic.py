"""Files that are either as they were or as they shall be, whatever kills the process in between."""

from __future__ import annotations

import json
import math
import os
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


def unwritable(path: Path, error: OSError) -> BadInput:
    """The one-line error of a file that could not be written."""
    return BadInput(f"cannot write {path}: {error.strerror or error}")
