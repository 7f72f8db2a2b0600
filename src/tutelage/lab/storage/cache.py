"""What can be made again but takes time, kept on this machine between runs: one folder for each thing made.

    bases = cache_folder("bases") or run / "bases"
    folder = made(bases, config_hash({"model": config}), lambda folder: pretrain(texts, folder / "model", config))

`$TUTELAGE_CACHE` says where caches lie (`~/.cache/tutelage` when it is not set); "off" says nowhere.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic

RECORD = "made.json"
"""What a finished folder holds: identity, and size and SHA-256 of every file."""
_LETTERS = 16


def cache_folder(kind: str) -> Path | None:
    """The folder for caches of that kind: `$TUTELAGE_CACHE/<kind>`, or `~/.cache/tutelage/<kind>`; made if needed.

    None if `TUTELAGE_CACHE` is "off" or the folder cannot be made: a cache that cannot be had costs time only.
    """
    place = os.environ.get("TUTELAGE_CACHE") or str(Path.home() / ".cache" / "tutelage")
    if place == "off":
        return None
    folder = Path(place).expanduser() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def made(folder: Path, identity: str, make: Callable[[Path], object], say: Callable[[str], None] | None = None) -> Path:
    """The folder `<folder>/<identity[:16]>`, made by `make` unless it is there and whole.

    Args:
        identity: a hash (64 hexadecimal digits, as from `checkpoint.config_hash`) of all that the content follows from.
        make: fills the empty folder that it is given. What it writes counts once it returned, all or nothing; whatever
            it keeps beside that folder (a training half-way) it finds again after a kill, for the name stays the same.
        say: told in one line what is waited for and what is made again (standard error by default).

    Two processes that want the same thing at the same time make it once: the second waits, and says so. What is damaged
    is made again, and so is what a process left that was killed. Files are compared with their hashes at every call.

    Raises `BadInput` if the folder cannot be written.
    """
    if len(identity) < 2 * _LETTERS or set(identity) - set("0123456789abcdef"):
        raise BadInput(f"identity {identity!r}: must be a hash in hexadecimal digits, at least {2 * _LETTERS} of them")
    say = say or (lambda line: print(f"tutelage: {line}", file=sys.stderr, flush=True))
    target = folder / identity[:_LETTERS]
    if _wrong(target, identity) is None:
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".lock-{target.name}").open("a+", encoding="utf-8")
    except OSError as error:
        raise atomic.unwritable(folder, error) from error
    with lock:
        _hold(lock, target, say)
        wrong = _wrong(target, identity)  # another process may just have made it
        if wrong is not None:
            _make(target, identity, make, "" if wrong == _ABSENT else wrong, say)
        lock.truncate(0)
    return target


_ABSENT = "is not there"


def _make(target: Path, identity: str, make: Callable[[Path], object], wrong: str, say: Callable[[str], None]) -> None:
    """Make the folder under another name and rename it. The lock is held, so no other process uses that name."""
    if wrong:
        say(f"{target} {wrong}: making it again")
    partial = target.with_name(f".partial-{target.name}")
    try:
        for leftover in (partial, target):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)
        partial.mkdir()
        make(partial)
        files = {str(path.relative_to(partial)): atomic.seen(path) for path in _files(partial)}
        atomic.write_json(partial / RECORD, {"identity": identity, "files": files})
        partial.replace(target)
        atomic.sync_folder(target.parent)
    except OSError as error:
        if error.filename is not None and str(error.filename).startswith(str(target.parent)):
            raise atomic.unwritable(target, error) from error
        raise


def _hold(lock: TextIO, target: Path, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        say(f"waiting for {lock.read().strip() or 'another process'}, which is making {target}")
        fcntl.flock(lock, fcntl.LOCK_EX)
    lock.truncate(0)
    lock.write(f"process {os.getpid()}")
    lock.flush()


def _wrong(target: Path, identity: str) -> str | None:
    """Why the folder cannot be used, in words that follow its name; None if it is whole."""
    if not target.exists():
        return _ABSENT
    try:
        record = json.loads((target / RECORD).read_bytes())
        found, files = record["identity"], dict(record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return "is damaged (no readable record of what it holds)"
    if found != identity:
        return "was made from something else"
    for name, seen in files.items():
        path = target / name
        if not path.is_file() or atomic.seen(path) != seen:
            return f"is damaged ({name} is not as it was made)"
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
