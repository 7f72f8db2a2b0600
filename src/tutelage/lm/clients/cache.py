"""Answers on disk: what was answered once is never asked again, even after a kill at any moment.

One SQLite file in WAL mode holds compressed JSON by the 16-byte key of (model's identity, request). It survives the
death of the process; after the death of the machine the last moments may be missing, the rest is whole.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from tutelage.lab.errors import BadInput, nearest
from tutelage.lm.model import LanguageModel, Layer
from tutelage.lm.request import Completion, Failure, FinishReason, Request, Scored, Scoring, Usage

log = logging.getLogger(__name__)

FORMAT = 1
MODES = ("rw", "ro", "off", "replay")
_APPLICATION = 0x54757465
_PATIENCE = 30.0
"""Seconds to wait for another process that writes."""
_LARGEST = 2**30
"""Bytes of one value, unpacked."""
_TABLES = (
    "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS failures (key BLOB PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID",
)
_KINDS = {Request: Completion, Scoring: Scored, str: np.ndarray}
Answer = TypeVar("Answer", Completion, Scored)


class Store:
    """The file: answers, and counts of failed attempts, by key. Several processes may have it open.

    Raises `BadInput`, in one line, for a file that is damaged, of another program or format, or cannot be written.
    """

    def __init__(self, path: str | Path, *, readonly: bool = False) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._queue: list[tuple[str, tuple[Any, ...], asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._unwritten: dict[bytes, bytes] = {}
        self._writing = False
        self._thread = ThreadPoolExecutor(1, "tutelage-cache")
        if readonly and not self.path.is_file():
            raise BadInput(f"cache {self.path} does not exist: must be there to be read")
        # Where SQLite cannot put its index of the log beside the file, nobody writes to it either.
        frozen = readonly and not os.access(self.path.absolute().parent, os.W_OK)
        options = ("?mode=ro" if readonly else "") + ("&immutable=1" if frozen else "")
        try:
            self.path.absolute().parent.mkdir(parents=True, exist_ok=True)
            self._reader = self._opened(options)
            self._writer = self._reader if readonly else self._opened(options)
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def get(self, key: bytes) -> bytes | None:
        """The value of that key, written or about to be."""
        with self._lock:
            if key in self._unwritten:
                return self._unwritten[key]
            row = self._row("SELECT value FROM answers WHERE key = ?", key)
            return row[0] if row else None

    def waits(self, key: bytes) -> bool:
        """Whether the value of that key is not yet committed."""
        with self._lock:
            return key in self._unwritten

    async def put(self, key: bytes, value: bytes) -> None:
        """Returns once the value is committed, together with all that came while the last commit was under way."""
        with self._lock:
            self._unwritten[key] = value
        await self._write("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, value))

    def failures(self, key: bytes) -> int:
        """How many failed attempts were counted under that key, in this run and earlier ones."""
        with self._lock:
            row = self._row("SELECT count FROM failures WHERE key = ?", key)
            return int(row[0]) if row else 0

    async def count_failure(self, *keys: bytes) -> None:
        """Count one more failed attempt under each key, on disk before this returns."""
        command = "INSERT INTO failures VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET count = count + 1"
        await asyncio.gather(*[self._write(command, (key,)) for key in keys])

    async def forget_failures(self, key: bytes) -> None:
        """The attempts under that key came to an end: it was answered, or the failure was handed on."""
        await self._write("DELETE FROM failures WHERE key = ?", (key,))

    def close(self) -> None:
        """Write what is waiting and close the file."""
        self._thread.shutdown()
        self._reader.close()
        self._writer.close()

    async def _write(self, command: str, row: tuple[Any, ...]) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._queue.append((command, row, loop, done))
            start, self._writing = not self._writing, True
        if start:
            self._thread.submit(self._commit)
        await asyncio.shield(done)

    def _commit(self) -> None:
        """In the writer's thread: commit what waits, until nothing does."""
        while True:
            with self._lock:
                batch, self._queue = self._queue, []
                self._writing = bool(batch)
            if not batch:
                return
            problem: BadInput | None = None
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                for command, row, _, _ in batch:
                    self._writer.execute(command, row)
                self._writer.execute("COMMIT")
            except sqlite3.Error as error:
                problem = self._unusable(error)
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            with self._lock:
                for _, (key, *value), _, _ in batch:
                    if value and self._unwritten.get(key) is value[0]:
                        del self._unwritten[key]
            for loop in {each[2] for each in batch}:
                waiting = [done for _, _, own, done in batch if own is loop]
                with contextlib.suppress(RuntimeError):  # a loop that was closed: nobody waits there any more
                    loop.call_soon_threadsafe(_settle, waiting, problem)

    def _row(self, command: str, key: bytes) -> tuple[Any, ...] | None:
        try:
            return self._reader.execute(command, (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _opened(self, options: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path.absolute().as_uri() + options,
            uri=True,
            timeout=_PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            application, version, tables = (
                connection.execute(f"SELECT {what}").fetchone()[0]
                for what in (
                    "application_id FROM pragma_application_id",
                    "user_version FROM pragma_user_version",
                    "count(*) FROM sqlite_master",
                )
            )
            if application != _APPLICATION and (application or tables or "ro" in options):
                raise BadInput(f"cache {self.path} is an SQLite file of another program: give another path")
            if application == _APPLICATION and version != FORMAT:
                raise BadInput(f"cache {self.path} has format {version}, this is format {FORMAT}: give another path")
            if "ro" not in options:
                self._made(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _made(self, connection: sqlite3.Connection) -> None:
        # Two processes that make the file at once: SQLite's own waiting does not cover the change to WAL.
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.01)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        for command in (*_TABLES, f"PRAGMA application_id = {_APPLICATION}", f"PRAGMA user_version = {FORMAT}"):
            connection.execute(command)
        connection.execute("COMMIT")

    def _unusable(self, error: sqlite3.Error | OSError) -> BadInput:
        return BadInput(f"cache {self.path} cannot be used ({error}): mend or move it, or give another path")


def _settle(waiting: Sequence[asyncio.Future[None]], problem: BadInput | None) -> None:
    for done in waiting:
        if not done.done():
            done.set_exception(problem) if problem else done.set_result(None)


class Cache(Layer):
    """Answers what the file holds, and puts there what the model answers before it is handed on.

    Failures and answers stopped by a content filter are not kept. A value that cannot be read counts as missing, is
    reported to the log, counted in `corrupt`, and replaced by the new answer. Raises `BadInput` when the file can no
    longer be read or written.

    Args:
        where: path of the file, which is closed with the cache; or an open `Store`, which several models may share.
        mode: `rw` reads and writes; `ro` only reads; `replay` only reads and a miss is a failure of kind `cache_miss`;
            `off` does neither.
    """

    def __init__(self, inner: LanguageModel, where: str | Path | Store, mode: str = "rw") -> None:
        super().__init__(inner)
        if mode not in MODES:
            raise BadInput(f"cache_mode is {mode!r}: must be one of {', '.join(MODES)}{nearest(mode, MODES)}")
        self.mode = mode
        self.corrupt = 0
        self.store = None
        if mode != "off":
            self.store = where if isinstance(where, Store) else Store(where, readonly=mode != "rw")
        self._own = None if isinstance(where, Store) else self.store

    def held(self, item: Request | Scoring | str) -> bool:
        """Whether the answer (for a text: its embedding) is there and whole."""
        return self.store is not None and self._found(item) is not None

    async def complete(self, request: Request) -> Completion:
        return await self._answer(request, self.inner.complete, Completion.failed)

    async def score_one(self, item: Scoring) -> Scored:
        return await self._answer(item, self.inner.score_one, lambda why: Scored(np.empty(0), (), error=why))

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """As the model's, text by text. Raises `BadInput` for a miss in mode `replay`."""
        if self.store is None or not texts:
            return await self.inner.embed(texts)
        keys = [self._key(text) for text in texts]
        rows = {key: self._found(text) for key, text in zip(keys, texts, strict=True)}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if rows[key] is None}
        if missing:
            if self.mode == "replay":
                raise BadInput(self._miss("embed", next(iter(missing.values()))).message)
            rows.update(zip(missing, await self.inner.embed(list(missing.values())), strict=True))
            await asyncio.gather(*[self._keep(key, rows[key]) for key in missing])
        return np.stack([rows[key] for key in keys])  # type: ignore[arg-type]

    async def close(self) -> None:
        await self.inner.close()
        if self._own is not None:
            self._own.close()

    async def _answer(
        self,
        item: Any,
        send: Callable[[Any], Coroutine[Any, Any, Answer]],
        failed: Callable[[Failure], Answer],
    ) -> Answer:
        if self.store is None:
            return await send(item)
        key = self._key(item)
        found = self._found(item)
        if found is not None:
            if self.store.waits(key):
                await self._keep(key, found)
            return dataclasses.replace(found, from_cache=True)
        if self.mode == "replay":
            return failed(self._miss(item.tag, item.text()))
        answer = await send(item)
        if answer.error is None and getattr(answer, "finish_reason", "stop") != "content_filter":
            await self._keep(key, answer)
        return answer

    def _key(self, item: Request | Scoring | str) -> bytes:
        return embedding_key(self.identity, [item]) if isinstance(item, str) else item.key(self.identity)

    def _found(self, item: Request | Scoring | str) -> Any:
        assert self.store is not None
        key, kind = self._key(item), _KINDS[type(item)]
        value = self.store.get(key)
        if value is None:
            return None
        try:
            found = unpacked(value)
            if isinstance(found, kind):
                return found
            problem = f"it is a {type(found).__name__}, not a {kind.__name__}"
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            problem = str(error) or type(error).__name__
        self.corrupt += 1
        log.warning(
            "cache %s: the value of %s is damaged and counts as missing: %s", self.store.path, key.hex(), problem
        )
        return None

    async def _keep(self, key: bytes, answer: Completion | Scored | np.ndarray | None) -> None:
        if self.mode == "rw" and self.store is not None:
            await self.store.put(key, packed(answer))

    def _miss(self, tag: str, text: str) -> Failure:
        place = self.store.path if self.store is not None else ""
        return Failure("cache_miss", f"cache {place} has no answer for tag {tag!r}, prompt {text[:60]!r}")


def embedding_key(identity: str, texts: Sequence[str]) -> bytes:
    """16 bytes that name the embeddings of these texts by that model."""
    content = json.dumps([identity, "embed", list(texts)])
    return blake2b(content.encode(), digest_size=16).digest()


def packed(answer: Any) -> bytes:
    """The answer as compressed JSON. Numbers come back bit by bit; `from_cache` is not part of it."""
    if isinstance(answer, np.ndarray):
        content = {"kind": "Embedding", "array": answer}
    else:
        content = {each.name: getattr(answer, each.name) for each in dataclasses.fields(answer)}
        content = {"kind": type(answer).__name__} | content
        del content["from_cache"], content["error"]
    return zlib.compress(json.dumps(content, default=_plain, separators=(",", ":")).encode(), 1)


def unpacked(value: bytes) -> Any:
    """What `packed` was given. Raises ValueError, KeyError, TypeError or zlib.error for anything else."""
    stream = zlib.decompressobj()
    text = stream.decompress(value, _LARGEST)
    if not stream.eof:
        raise ValueError("the value is cut off or too large")
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("the value is no object")
    kind = content.pop("kind")
    if kind == "Embedding":
        return _array(content["array"])
    content["usage"] = Usage(*map(int, content["usage"]))
    if kind == "Scored":
        totals, tokens = _array(content.pop("totals")), tuple(map(_array, content.pop("tokens")))
        return Scored(totals, tokens, **content)
    for name in ("tokens", "logprobs", "top_logprobs"):
        content[name] = content[name] if content[name] is None else tuple(content[name])
    numbers = [*(content["tokens"] or ()), *(content["logprobs"] or ()), content["cost"], content["latency"]]
    good = isinstance(content["text"], str) and content["finish_reason"] in get_args(FinishReason)
    if not good or not all(isinstance(each, int | float) for each in numbers) or kind != "Completion":
        raise ValueError("the value is no answer")
    return Completion(**content)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        return {"dtype": little.dtype.str, "shape": value.shape, "data": base64.b64encode(little.tobytes()).decode()}
    if isinstance(value, Usage):
        return [value.prompt, value.cached, value.completion]
    return value.item() if isinstance(value, np.generic) else dict(value)


def _array(content: dict[str, Any]) -> np.ndarray:
    if content["dtype"] not in ("<f2", "<f4", "<f8"):
        raise ValueError(f"an array of {content['dtype']!r}")
    flat = np.frombuffer(base64.b64decode(content["data"], validate=True), content["dtype"])
    return flat.reshape(content["shape"]).copy()
