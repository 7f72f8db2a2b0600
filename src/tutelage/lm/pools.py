"""Rollout pools: what models produced and what it earned, on disk, from which training, metrics and reports read.

A pool is a folder: `pool.json` (format, free notes) and shards `shard-00000.rollouts`, each a sequence of records

    length (4 bytes) · CRC-32 of what follows (4) · kind (1) · content

of three kinds: a *definition* (JSON met often: a prompt, an origin; named by its number in the shard), a *rollout* (a
fixed head with the numbers of its definitions, token ids, log-probabilities, text) and an *annotation* (JSON that adds
to a rollout by its id). Records are only ever appended, each by one write, so a kill loses at most the record being
written: the next writer cuts it off. Readers stop before it, and may read while a writer appends.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic

FORMAT = 1
SHARD_BYTES = 256 * 2**20
FINISH_REASONS = ("stop", "length", "content_filter", "error")

_FRAME = struct.Struct("<IIB")
_HEAD = struct.Struct("<16sIIIQIIBd")  # id, prompt, origin, sample index, seed, tokens, bytes of text, flags, reward
_DEFINITION, _ROLLOUT, _ANNOTATION = 0, 1, 2
_WIDE, _TOKEN_REWARDS, _REWARDED = 1, 2, 4


@dataclass(frozen=True, eq=False)
class Rollout:
    """One completion of one prompt.

    Attributes:
        question: id of the question, the same for all its samples.
        prompt: `[p]` token ids; `completion`: `[n]` token ids, n ≥ 1, the end-of-sequence token included if it came.
        logprobs: `[n]` float32, the sampler's log p of each token, ≤ 0.
        text: the completion as text; `finish_reason`: "length" if it was cut off.
        reward: the outcome's reward; None if not judged yet. `token_rewards`: `[n]` float32, if rewards are dense.
        answer: the parsed answer; None if there is none. `scores`: further verdicts by name.
        policy: name or hash of the weights that sampled; `parents`: ids of what this was derived from.
        round, sample_index, seed: where it stands in training, among the question's samples, and in randomness.
    """

    question: str
    prompt: np.ndarray
    completion: np.ndarray
    logprobs: np.ndarray
    text: str = ""
    finish_reason: str = "stop"
    reward: float | None = None
    token_rewards: np.ndarray | None = None
    answer: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    policy: str = ""
    round: int = 0
    sample_index: int = 0
    seed: int = 0
    parents: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """32 hex digits (BLAKE2b) of question, prompt, policy, round, sample index and seed: what decided the draw."""
        drawn = [self.question, self.policy, self.round, self.sample_index, self.seed]
        text = json.dumps(drawn, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return blake2b(text + np.asarray(self.prompt, "<u4").tobytes(), digest_size=16).hexdigest()


class Pool:
    """A pool to read from. What a writer appends later is seen by the next iteration. Rows are in order of appending.

    Raises `BadInput` for a folder that is no pool, of another format, or damaged elsewhere than at its end.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            head = json.loads((self.folder / "pool.json").read_bytes())
        except (OSError, ValueError) as error:
            raise BadInput(f"{folder}: not a rollout pool") from error
        if head.get("format") != FORMAT:
            raise BadInput(f"{folder}: pool of format {head.get('format')}; this version reads {FORMAT}")
        self.notes: dict[str, Any] = head["notes"]
        self._shards: list[_Shard] = []
        self._annotations: dict[bytes, list[dict[str, Any]]] = {}

    def __len__(self) -> int:
        self._refresh()
        return sum(len(shard.rollouts) for shard in self._shards)

    def __iter__(self) -> Iterator[Rollout]:
        """Every rollout, read as it is asked for."""
        self._refresh()
        for shard in list(self._shards):
            yield from self._read(shard, range(len(shard.rollouts)))

    def __getitem__(self, row: int) -> Rollout:
        self._refresh()
        place = row
        for shard in self._shards:
            if 0 <= place < len(shard.rollouts):
                return next(self._read(shard, [place]))
            place -= len(shard.rollouts)
        raise IndexError(f"row {row} of a pool of {len(self)}")

    def by_question(self) -> dict[str, list[Rollout]]:
        """All rollouts, in lists by question. Holds them in memory; for large pools iterate instead."""
        groups: dict[str, list[Rollout]] = {}
        for rollout in self:
            groups.setdefault(rollout.question, []).append(rollout)
        return groups

    def size_on_disk(self) -> int:
        """Bytes of all shards."""
        return sum(path.stat().st_size for path in self.folder.glob("shard-*.rollouts"))

    def to_jsonl(self, path: str | Path) -> int:
        """Write one JSON object a line; the number of rollouts."""
        number = 0
        with Path(path).open("w", encoding="utf-8", errors="backslashreplace") as file:
            for rollout in self:
                number += file.write(json.dumps(atomic.plain(_columns(rollout)), ensure_ascii=False) + "\n") > 0
        return number

    def to_parquet(self, path: str | Path, *, group: int = 10_000) -> int:
        """Write one row per rollout, in row groups of `group`; the number of rollouts."""
        import pyarrow as pa
        from pyarrow import parquet

        text, floats, ids = pa.string(), pa.list_(pa.float32()), pa.list_(pa.uint32())
        names = {"id": text, "question": text, "prompt": ids, "completion": ids, "logprobs": floats, "text": text}
        names |= {"finish_reason": text, "reward": pa.float64(), "token_rewards": floats, "answer": text}
        names |= {"scores": pa.map_(text, pa.float64()), "policy": text, "round": pa.int64()}
        names |= {"sample_index": pa.int64(), "seed": pa.uint64(), "parents": pa.list_(text)}
        schema, number = pa.schema(list(names.items())), 0
        with parquet.ParquetWriter(path, schema) as writer:
            rows: list[dict[str, Any]] = []
            for rollout in self:
                rows.append(_columns(rollout) | {"scores": list(rollout.scores.items())})
                if len(rows) == group:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                    number, rows = number + len(rows), []
            writer.write_table(pa.Table.from_pylist(rows, schema))
        return number + len(rows)

    def _refresh(self) -> None:
        """Learn of the records that were appended since."""
        paths = sorted(self.folder.glob("shard-*.rollouts"))
        self._shards += [_Shard(path) for path in paths[len(self._shards) :]]
        for shard in self._shards:
            for content in shard.scan(last=shard is self._shards[-1]):
                note = json.loads(content)
                self._annotations.setdefault(bytes.fromhex(note.pop("id")), []).append(note)

    def _read(self, shard: _Shard, rows: Iterable[int]) -> Iterator[Rollout]:
        with shard.path.open("rb") as file:
            for row in rows:
                rollout = shard.read(file, row)
                for note in self._annotations.get(bytes.fromhex(rollout.id), ()):
                    rollout = replace(rollout, **note | {"scores": {**rollout.scores, **note.get("scores", {})}})
                yield rollout


class PoolWriter:
    """The one process that appends to a pool, made if it is not there. Use it as a context.

    Args:
        notes: JSON that describes the pool (tokenizer, data, sampling); refused if the pool has other notes.
        shard_bytes: a new shard begins when one has grown to this size.

    Raises `BadInput` if another process writes, and for rollouts that could not be trained on.
    """

    def __init__(
        self, folder: str | Path, *, notes: Mapping[str, Any] | None = None, shard_bytes: int = SHARD_BYTES
    ) -> None:
        self.folder, self._shard_bytes = Path(folder), shard_bytes
        self._closing = ExitStack()
        self._closing.enter_context(atomic.sole_writer(self.folder))
        try:
            self._open(notes)
        except BaseException:
            self._closing.close()
            raise

    def _open(self, notes: Mapping[str, Any] | None) -> None:
        head = self.folder / "pool.json"
        if not head.exists():
            atomic.write_json(head, {"format": FORMAT, "notes": dict(notes or {})})
        pool = Pool(self.folder)
        if notes is not None and pool.notes != json.loads(json.dumps(atomic.plain(dict(notes)))):
            raise BadInput(f"{self.folder}: holds a pool with other notes ({pool.notes}); choose another folder")
        pool._refresh()
        self._ids = {key for shard in pool._shards for key in shard.ids()}
        self._number = max(0, len(pool._shards) - 1)
        self._definitions: dict[str, int] = {}
        if pool._shards:
            self._definitions = {text: number for number, text in enumerate(pool._shards[-1].definitions)}
        self._file = self._shard(None if not pool._shards else pool._shards[-1].end)

    def __enter__(self) -> PoolWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, rollout: Rollout | str) -> bool:
        """Whether a rollout (or its id) is in the pool, so that it need not be drawn again."""
        key = rollout.id if isinstance(rollout, Rollout) else rollout
        return bytes.fromhex(key) in self._ids

    def append(self, rollouts: Rollout | Iterable[Rollout]) -> int:
        """Append what is not there yet; the number of rollouts that were new. All are checked before any is written."""
        many = [rollouts] if isinstance(rollouts, Rollout) else list(rollouts)
        for rollout in many:
            _check(rollout)
        added = 0
        for rollout in many:
            key = bytes.fromhex(rollout.id)
            if key not in self._ids:
                self._write(self._record(key, rollout))
                self._ids.add(key)
                added += 1
        return added

    def annotate(
        self,
        rollout: Rollout | str,
        *,
        reward: float | None = None,
        answer: str | None = None,
        scores: Mapping[str, float] | None = None,
    ) -> None:
        """Add to a rollout that is in the pool; a later annotation wins, scores are added by name."""
        key = rollout.id if isinstance(rollout, Rollout) else rollout
        if key not in self:
            raise BadInput(f"rollout {key}: not in the pool, so it cannot be annotated")
        note = {"id": key, "reward": reward, "answer": answer, "scores": dict(scores) if scores else None}
        for name, value in {"reward": reward, **(scores or {})}.items():
            if value is not None and not math.isfinite(value):
                raise BadInput(f"rollout {key}: {name} is {value}: must be finite")
        given = {name: value for name, value in note.items() if value is not None}
        self._write(_frame(_ANNOTATION, _json(given)))

    def sync(self) -> None:
        """Wait until everything is on the disk, safe from a power cut too."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if not self._file.closed:
            self.sync()
            self._file.close()
        self._closing.close()

    def _record(self, key: bytes, rollout: Rollout) -> bytes:
        if self._file.tell() >= self._shard_bytes:
            self.sync()
            self._file.close()
            self._number, self._definitions = self._number + 1, {}
            self._file = self._shard(None)
        prompt = {"question": rollout.question, "prompt": np.asarray(rollout.prompt).tolist()}
        origin: dict[str, Any] = {"policy": rollout.policy, "round": rollout.round, "parents": list(rollout.parents)}
        origin["finish_reason"] = rollout.finish_reason
        new: list[bytes] = []
        numbers = [self._define(value, new) for value in (prompt, origin)]
        ids = np.asarray(rollout.completion)
        wide = int(ids.max()) > 0xFFFF
        flags = wide * _WIDE | (rollout.token_rewards is not None) * _TOKEN_REWARDS
        flags |= (rollout.reward is not None) * _REWARDED
        text = rollout.text.encode("utf-8", "surrogatepass")
        sizes = (rollout.sample_index, rollout.seed, len(ids), len(text), flags, rollout.reward or 0.0)
        arrays = [ids.astype("<u4" if wide else "<u2"), np.asarray(rollout.logprobs, "<f4")]
        if rollout.token_rewards is not None:
            arrays.append(np.asarray(rollout.token_rewards, "<f4"))
        rest: dict[str, Any] = {} if rollout.answer is None else {"answer": rollout.answer}
        rest |= {"scores": dict(rollout.scores)} if rollout.scores else {}
        tail = text + (_json(rest) if rest else b"")
        content = _HEAD.pack(key, *numbers, *sizes) + b"".join(array.tobytes() for array in arrays) + tail
        return b"".join(new) + _frame(_ROLLOUT, content)

    def _define(self, value: Mapping[str, Any], new: list[bytes]) -> int:
        text = _json(value).decode("utf-8", "surrogatepass")
        if text not in self._definitions:
            self._definitions[text] = len(self._definitions)
            new.append(_frame(_DEFINITION, text.encode("utf-8", "surrogatepass")))
        return self._definitions[text]

    def _shard(self, end: int | None) -> io.FileIO:
        """The shard to append to; what stands behind its last whole record is cut off."""
        path = self.folder / f"shard-{self._number:05d}.rollouts"
        try:
            file = io.FileIO(path, "a+")
            file.truncate(end or 0)
            file.seek(0, os.SEEK_END)
        except OSError as error:
            raise atomic.unwritable(path, error) from error
        return file

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except BaseException as error:
            self._as_on_disk()
            if isinstance(error, OSError):
                raise atomic.unwritable(self.folder, error) from error
            raise

    def _as_on_disk(self) -> None:
        """After a record that was not written whole: without it, and without the definitions that came with it."""
        shard = _Shard(self.folder / f"shard-{self._number:05d}.rollouts")
        shard.scan(last=True)
        self._definitions = {text: number for number, text in enumerate(shard.definitions)}
        self._file.truncate(shard.end)


class _Shard:
    """Where the records of one file are, as far as it has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        self.rollouts = np.zeros(0, np.int64)
        self.definitions: list[str] = []
        self._decoded: dict[int, dict[str, Any]] = {}

    def scan(self, *, last: bool) -> list[bytes]:
        """Go on to the end of the whole records; the annotations on the way."""
        notes, found = [], []
        size = self.path.stat().st_size
        if size == self.end:
            return notes
        with self.path.open("rb", buffering=2**20) as file:
            file.seek(self.end)
            while frame := file.read(_FRAME.size):
                length, checksum, kind = _FRAME.unpack(frame) if len(frame) == _FRAME.size else (0, 0, 0)
                whole = self.end + _FRAME.size + length
                content = file.read(length) if length > 0 and whole <= size else b""
                if not content or zlib.crc32(content, kind) != checksum:
                    # Torn at the end of the last shard, zeros behind it or not: a writer is at work, or was killed.
                    # Anywhere else it is damage.
                    file.seek(whole)
                    if last and (whole >= size or not file.read().strip(b"\0")):
                        break
                    raise BadInput(f"{self.path}: damaged at byte {self.end}")
                if kind == _DEFINITION:
                    self.definitions.append(content.decode("utf-8", "surrogatepass"))
                elif kind == _ROLLOUT:
                    found.append(self.end)
                else:
                    notes.append(content)
                self.end = whole
        self.rollouts = np.concatenate([self.rollouts, np.array(found, np.int64)])
        return notes

    def ids(self) -> Iterator[bytes]:
        """The ids of all rollouts, as bytes."""
        with self.path.open("rb") as file:
            for offset in self.rollouts.tolist():
                file.seek(offset + _FRAME.size)
                yield file.read(16)

    def read(self, file: io.BufferedReader, row: int) -> Rollout:
        file.seek(int(self.rollouts[row]))
        length, _, _ = _FRAME.unpack(file.read(_FRAME.size))
        content = file.read(length)
        _, prompt, origin, sample_index, seed, n, size, flags, reward = _HEAD.unpack_from(content)
        at = _HEAD.size
        completion = np.frombuffer(content, "<u4" if flags & _WIDE else "<u2", n, at)
        at += completion.nbytes
        logprobs = np.frombuffer(content, "<f4", n, at)
        at += logprobs.nbytes
        dense = np.frombuffer(content, "<f4", n, at) if flags & _TOKEN_REWARDS else None
        at += 0 if dense is None else dense.nbytes
        rest = json.loads(content[at + size :]) if len(content) > at + size else {}
        return Rollout(
            **self._definition(prompt),
            **self._definition(origin),
            completion=completion.astype(np.int64),
            logprobs=logprobs,
            text=content[at : at + size].decode("utf-8", "surrogatepass"),
            reward=reward if flags & _REWARDED else None,
            token_rewards=dense,
            sample_index=sample_index,
            seed=seed,
            **rest,
        )

    def _definition(self, number: int) -> dict[str, Any]:
        if number not in self._decoded:
            value = json.loads(self.definitions[number])
            if "prompt" in value:
                value["prompt"] = np.array(value["prompt"], np.int64)
            else:
                value["parents"] = tuple(value["parents"])
            self._decoded[number] = value
        return self._decoded[number]


def _check(rollout: Rollout) -> None:
    name = f"rollout of question {rollout.question!r}"
    n = len(rollout.completion)
    ids = np.concatenate([np.asarray(rollout.prompt), np.asarray(rollout.completion)])
    if not n or not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0 or ids.max() > 0xFFFFFFFF:
        raise BadInput(f"{name}: token ids must be whole numbers in [0, 4294967295], and the completion at least one")
    arrays: Sequence[tuple[str, Any]] = [("logprobs", rollout.logprobs), ("token_rewards", rollout.token_rewards)]
    for what, array in arrays:
        if array is None:
            continue
        if np.shape(array) != (n,):
            raise BadInput(f"{name}: {what} has shape {np.shape(array)}: must be ({n},), one per token")
        if not np.isfinite(array).all():
            raise BadInput(f"{name}: {what} holds a number that is not finite")
    if np.max(rollout.logprobs) > 1e-3:
        raise BadInput(f"{name}: logprobs reach {np.max(rollout.logprobs):g}: must be at most 0")
    for what, value in {"reward": rollout.reward, **rollout.scores}.items():
        if value is not None and not math.isfinite(value):
            raise BadInput(f"{name}: {what} is {value}: must be finite")
    if rollout.finish_reason not in FINISH_REASONS:
        raise BadInput(
            f"{name}: finish_reason is {rollout.finish_reason!r}: must be one of {', '.join(FINISH_REASONS)}"
        )
    if not (0 <= rollout.seed < 2**64 and 0 <= rollout.sample_index < 2**32):
        raise BadInput(f"{name}: seed must be in [0, 2^64) and sample_index in [0, 2^32)")


def _columns(rollout: Rollout) -> dict[str, Any]:
    return {"id": rollout.id} | {name: getattr(rollout, name) for name in rollout.__dataclass_fields__}


def _frame(kind: int, content: bytes) -> bytes:
    return _FRAME.pack(len(content), zlib.crc32(content, kind), kind) + content


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
