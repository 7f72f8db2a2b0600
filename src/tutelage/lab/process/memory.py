"""How much memory there is, and one line for what would need more, before anything is compiled."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tutelage.lab.errors import BadInput

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_SHOWN = 3


class Array(NamedTuple):
    """One array that will have to exist: a name in words, its shape, its bytes."""

    name: str
    shape: tuple[int, ...]
    nbytes: int


class TooLarge(BadInput):
    """What would not fit into memory; `arrays` are the largest that make it."""

    def __init__(self, message: str, arrays: tuple[Array, ...]) -> None:
        super().__init__(message)
        self.arrays = arrays


def total_bytes() -> int:
    """The memory of this machine, or of the container where that has less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in _CGROUPS:
        try:
            found = min(found, int(Path(file).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return found


def refuse_beyond(limit: int, what: str, together: Iterable[Array], alone: Iterable[Array] = ()) -> None:
    """Refuse what cannot fit: arrays that exist together, beside each of those that come and go.

    A bound from below: whatever a compiler does, this much is needed at one moment.

    Args:
        limit: bytes that there are.
        what: what needs them, in words ("training").

    Raises:
        TooLarge: the need, the limit, and the largest arrays that make it.
    """
    kept = sorted(together, key=lambda array: -array.nbytes)
    passing = max(alone, key=lambda array: array.nbytes, default=None)
    need = sum(array.nbytes for array in kept) + (passing.nbytes if passing else 0)
    if need <= limit:
        return
    largest = sorted([*kept, passing] if passing else kept, key=lambda array: -array.nbytes)
    parts = tuple(array for array in largest[:_SHOWN] if array.nbytes > need / 100)
    listed = ", ".join(f"{array.name} {list(array.shape)} {in_words(array.nbytes)}" for array in parts)
    message = f"{what} needs at least {in_words(need)} of memory; there are {in_words(limit)}. Largest: {listed}"
    raise TooLarge(message, parts)


def in_words(nbytes: float) -> str:
    """12.3 GB, 4 MB."""
    for size, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes / 1e3:.3g} kB"
