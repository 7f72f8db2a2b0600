"""The checkpoint container of both frameworks: named arrays in a safetensors file, with a hashed JSON header.

A file `checkpoints/step-00000100.safetensors` holds the whole state of a run as NumPy arrays. Its header says the
format, step, seeds and configuration it belongs to, and the SHA-256 of all of that and of every byte of every array; it
holds no time and no host, so the same state gives the same file. Any safetensors reader can open it; nothing is ever
pickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as to_safetensors

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic

FORMAT = 1
_HEADER = "tutelage"
_NAME = re.compile(r"^step-(\d+)\.safetensors$")
BEST = "best.safetensors"
_LARGEST_HEADER = 100 * 2**20
"""Bytes, as in the library that reads the format."""

# What the file format itself can name. Everything else travels as bytes, with its type in our header.
_STORED = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "BF16": "bfloat16",
}
_AS_BYTES = ("complex64", "complex128", "float8_e4m3fn", "float8_e5m2")


class Checkpoint(NamedTuple):
    """A state on disk, verified.

    Attributes:
        arrays: name to array, the program's whole state. The arrays own their memory.
        step: updates done.
        seeds: the seeds that share the arrays' leading axis.
        config_hash: `config_hash` of the run it belongs to.
        extra: JSON that the driver keeps beside the state.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    step: int
    seeds: tuple[int, ...]
    config_hash: str
    extra: dict[str, Any]


def config_hash(identity: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON-able record, independent of the order of its names."""
    return hashlib.sha256(_canonical(atomic.plain(dict(identity)))).hexdigest()


def file_name(step: int) -> str:
    """The name of the checkpoint after `step` updates."""
    return f"step-{step:08d}.safetensors"


def save(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    *,
    step: int,
    seeds: Sequence[int],
    config_hash: str,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint atomically. Raises `BadInput` for an array whose type no checkpoint can hold."""
    stored: dict[str, np.ndarray] = {}
    as_bytes: dict[str, list[Any]] = {}
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        kind = array.dtype.newbyteorder("=").name
        if kind in _AS_BYTES:
            as_bytes[name] = [kind, list(array.shape)]
            array = np.frombuffer(array.tobytes(), np.uint8)
        elif kind not in _STORED.values():
            raise BadInput(f"array {name!r} has type {array.dtype}, which a checkpoint cannot hold")
        stored[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    header = {
        "format": FORMAT,
        "step": int(step),
        "seeds": [int(seed) for seed in seeds],
        "config": config_hash,
        "as_bytes": as_bytes,
        "extra": atomic.plain(dict(extra or {})),
    }
    header["sha256"] = _digest(header, stored)
    atomic.write_bytes(path, to_safetensors(stored, metadata={_HEADER: json.dumps(header, sort_keys=True)}))


def load(path: Path, *, config_hash: str | None = None) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises `BadInput` in one line that names the file and what is wrong: not there, truncated, not one of ours, of a
    newer format, altered since it was written, or of another configuration than `config_hash`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    try:
        # The library bounds-checks the header against the file, so that a hostile one cannot make us read outside it.
        stored = {name: _array(name, entry, path) for name, entry in deserialize(data)}
        header = _header(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"checkpoint {path} is truncated or damaged; remove it to use an earlier one") from error
    if header is None:
        raise BadInput(f"{path} is a safetensors file but not a Tutelage checkpoint; give a file that a run wrote")
    if header.get("format") != FORMAT:
        raise BadInput(f"checkpoint {path} has format {header.get('format')!r}; this version reads format {FORMAT}")
    claimed = header.pop("sha256", None)
    if claimed != _digest(header, stored):
        raise BadInput(f"checkpoint {path} was altered after it was written (its SHA-256 differs); remove it")
    if config_hash is not None and header.get("config") != config_hash:
        raise BadInput(f"checkpoint {path} belongs to another configuration; use its own run folder, or another --out")
    try:
        for name, (kind, shape) in header["as_bytes"].items():
            stored[name] = stored[name].view(_dtype(_AS_BYTES[_AS_BYTES.index(kind)])).reshape(shape)
        step, seeds, extra = int(header["step"]), tuple(header["seeds"]), dict(header["extra"])
        return Checkpoint(path, stored, step, seeds, header["config"], extra)
    except (ValueError, KeyError, TypeError) as error:  # a digest is no signature: anybody can make one
        raise BadInput(f"checkpoint {path} has a header that no run wrote; remove it") from error


def steps(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a folder by step, oldest first; none if the folder is not there."""
    if not folder.is_dir():
        return []
    matches = ((_NAME.match(path.name), path) for path in folder.iterdir())
    return sorted((int(match.group(1)), path) for match, path in matches if match)


def peek(path: Path) -> dict[str, Any]:
    """What the driver keeps beside the state (`Checkpoint.extra`), without reading the arrays.

    The file is as long as it says, but not verified further. Raises `BadInput` in one line.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(min(size, _LARGEST_HEADER)))
            ends = [entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"]
            if path.stat().st_size == 8 + size + max(ends, default=0):
                extra = json.loads(head["__metadata__"][_HEADER])["extra"]
                if isinstance(extra, dict):
                    return extra
    except OSError as error:
        raise BadInput(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        pass
    raise BadInput(f"checkpoint {path} is truncated or damaged")


def latest_good(
    folder: Path, *, config_hash: str | None = None, refuse: Callable[[Checkpoint], str | None] = lambda found: None
) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that can be used, and one line for each newer one that had to be passed over.

    Args:
        refuse: why a checkpoint, whole by itself, cannot be used, in one line; None if it can.

    None if the folder holds no checkpoint at all. Raises `BadInput` if it holds some and none can be used: work
    is never thrown away in silence.
    """
    refused: list[str] = []
    for _, path in reversed(steps(folder)):
        try:
            found = load(path, config_hash=config_hash)
        except BadInput as error:
            refused.append(str(error))
            continue
        if (reason := refuse(found)) is not None:
            refused.append(reason)
            continue
        return found, [f"{reason}; going on from {path.name} instead" for reason in refused]
    if refused:
        raise BadInput(f"{refused[0]} (no checkpoint in {folder} can be used; remove that folder to start over)")
    return None, []


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints."""
    for _, path in steps(folder)[:-keep]:
        path.unlink(missing_ok=True)


def _array(name: str, entry: Mapping[str, Any], path: Path) -> np.ndarray:
    if entry["dtype"] not in _STORED:
        raise BadInput(f"{path} is not a Tutelage checkpoint: array {name!r} has type {entry['dtype']}")
    dtype = _dtype(_STORED[entry["dtype"]])
    shape = tuple(entry["shape"])
    array = np.empty(shape, dtype)
    if array.nbytes != len(entry["data"]):
        raise ValueError(f"{name}: {len(entry['data'])} bytes for shape {shape}")
    # A copy, so that the array is writable and does not keep the whole file in memory.
    array.reshape(-1).view(np.uint8)[:] = np.frombuffer(entry["data"], np.uint8)
    return array


def _dtype(kind: str) -> np.dtype:
    if kind == "bfloat16" or kind.startswith("float8"):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, kind))
    return np.dtype(kind)


def _header(data: bytes) -> dict[str, Any] | None:
    """Our part of the safetensors header, or None if there is none. The file was parsed before."""
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    return json.loads(metadata[_HEADER]) if _HEADER in metadata else None


def _digest(header: Mapping[str, Any], stored: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the header (without the digest itself) and of name, type, shape and bytes of every array."""
    digest = hashlib.sha256(_canonical(header))
    for name in sorted(stored):
        array = stored[name]
        digest.update(_canonical([name, array.dtype.newbyteorder("=").name, list(array.shape)]))
        digest.update(array.reshape(-1).view(np.uint8).data if array.nbytes else b"")
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
