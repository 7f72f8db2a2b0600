"""A model behind an OpenAI-compatible server: hosted services, vLLM, SGLang, llama.cpp, `tutelage lm serve`.

Nothing is tried twice here (that is the retry layer's), except that a request which a server refuses for one feature
is sent again without it. What a server cannot do is found out at its first refusal, said once as a warning, and taken
off `capabilities`, which begin with what such servers may offer; `probe` finds out beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import json
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import httpx
import numpy as np

from tutelage.lab.errors import BadInput, nearest
from tutelage.lm.clients import endpoint_format as wire
from tutelage.lm.clients.endpoint_format import Malformed
from tutelage.lm.model import Capabilities, LanguageModel
from tutelage.lm.request import Completion, Failure, Request, Scored, Scoring, Usage

log = logging.getLogger(__name__)

CONNECTIONS = 128
"""Requests under way at once; more wait for their turn, which does not count towards their time."""
MAX_ANSWER = 256 * 2**20
"""Bytes of an answer beyond which it is refused."""
TEXTS_PER_CALL = 256
_MOST = Capabilities(logprobs=20, score=True, seed=True, schema=True, embed=True)
_OWN_SCORES = "/score_continuations"
_NO_ROUTE = (404, 405, 501)


class EndpointError(RuntimeError):
    """A call failed; `failure` says why. Raised by `embed` and `probe` alone, which have no place for it."""

    def __init__(self, failure: Failure, code: str = "", param: str = "") -> None:
        super().__init__(failure.message)
        self.failure, self.code, self.param = failure, code, param


class _Line(NamedTuple):
    client: httpx.AsyncClient
    gate: asyncio.Semaphore


class Endpoint(LanguageModel):
    """A model of an OpenAI-compatible server.

    Args:
        base_url: up to and with the version: `http://127.0.0.1:8000/v1`.
        model: the name by which the server knows it.
        api_key: sent as bearer token; never shown, logged or part of `identity`.
        timeout: seconds until the whole answer must be there (between two pieces when streaming).
        http2: whether HTTP/2 may be used where the server offers it (over TLS).
        transport: another way to reach the server, for tests.
        chat: None sends messages to `/chat/completions` and raw prompts to `/completions`; True is for servers that
            have only chat (a raw prompt becomes one user message), False for those that have none.

    Raises `BadInput` for a URL or key that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout: float = 600.0,
        http2: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        chat: bool | None = None,
    ) -> None:
        self.base_url, self.local = _checked(base_url)
        if not model:
            raise BadInput("endpoint: model is empty: must name a model of the server")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key):
            raise BadInput("endpoint: api_key (not shown): must be printable ASCII without spaces around it")
        if not timeout > 0:
            raise BadInput(f"endpoint: timeout is {timeout!r}: must be more than 0 seconds")
        self.model, self.chat, self.timeout = model, chat, timeout
        # Raw prompts sent as chat have other answers.
        self.identity = f"endpoint:{self.base_url}#{model}" + (" chat" if chat else "")
        self.capabilities = _MOST
        # httpx.Headers hides the value of Authorization in its repr.
        self._headers = httpx.Headers({"authorization": f"Bearer {api_key}"} if api_key else {})
        self._secret, self._http2, self._transport = wire.Hidden(api_key or ""), http2, transport
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()
        self._missing: set[str] = set()
        self._known: list[str] = []
        if api_key and http2:
            # At DEBUG the header compression of HTTP/2 logs every header's value.
            logging.getLogger("hpack").setLevel(max(logging.INFO, logging.getLogger("hpack").level))

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r}, {self.model!r})"

    async def complete(self, request: Request) -> Completion:
        start = time.perf_counter()
        try:
            route, body = self._put(request)
            while True:
                allowed = self._allowed(body)
                try:
                    answer = await self._call("POST", route, allowed)
                    return self._finished(wire.completion_of(answer, request), request, start)
                except EndpointError as error:
                    self._without_what_is_refused(error, allowed)
        except (EndpointError, Malformed) as error:
            return await self._failed(error)

    async def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        start = time.perf_counter()
        try:
            route, body = self._put(request)
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            while True:
                allowed, whole = self._allowed(body), _Assembly()
                try:
                    async with contextlib.aclosing(self._events(route, allowed)) as events:
                        async for event in events:
                            if piece := whole.add(event):
                                yield piece
                    break
                except EndpointError as error:
                    if whole.begun:
                        raise
                    self._without_what_is_refused(error, allowed)
            yield self._finished(wire.completion_of(whole.answer(), request), request, start)
        except (EndpointError, Malformed) as error:
            yield await self._failed(error)

    async def score_one(self, item: Scoring) -> Scored:
        """Exact where the server is ours, or reads prompts back with their log-probabilities (`echo`, as vLLM does).

        Servers that take `echo` and answer without the prompt's log-probabilities are recognised.
        """
        if not self.capabilities.score:
            return await super().score_one(item)
        try:
            if "own scores" not in self._missing:
                try:
                    return await self._own_scores(item)
                except EndpointError as error:
                    if error.code == "unsupported":
                        self._give_up("score", error.failure.message)
                    if error.failure.status not in _NO_ROUTE or self._about_model(error):
                        raise
                    self._missing.add("own scores")
            return await self._echoed_scores(item)
        except (EndpointError, Malformed) as error:
            return Scored(np.empty(0), (), error=(await self._failed(error)).error)

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """`[texts, dimensions]` float32. Raises `BadInput` where the server has none, else `EndpointError`."""
        rows: list[list[float]] = []
        for start in range(0, len(texts), TEXTS_PER_CALL):
            part = list(texts[start : start + TEXTS_PER_CALL])
            try:
                body = {"model": self.model, "input": part, "encoding_format": "float"}
                rows += wire.vectors_of(await self._call("POST", "/embeddings", body), len(part))
            except Malformed as error:
                raise EndpointError(self._malformed(error)) from None
            except EndpointError as error:
                if error.failure.status not in (400, *_NO_ROUTE) or self._about_model(error):
                    raise
                self._give_up("embed", error.failure.message)
                raise BadInput(f"{self.identity} gives no embeddings: {error.failure.message}") from None
        return np.array(rows, np.float32) if rows else np.empty((0, 0), np.float32)

    async def probe(self) -> Capabilities:
        """Ask the server what it is: its list of models, then one small scoring. Sets and returns `capabilities`.

        Raises `EndpointError` when the server cannot be reached or has no such model.
        """
        entries = await self._models()
        mine = next((each for each in entries if each["id"] == self.model), None)
        if mine is None:
            raise EndpointError(await self._unknown_model(Failure("not_found", "", 404)))
        told, length = mine.get("capabilities"), mine.get("max_model_len")
        if mine.get("owned_by") == "tutelage" and isinstance(told, Mapping):
            fields: dict[str, Any] = {each.name: told.get(each.name) for each in dataclasses.fields(Capabilities)}
            same = {name: value for name, value in fields.items() if type(value) is type(getattr(_MOST, name))}
            self.capabilities = Capabilities(**same)
        else:
            if type(length) is int and length > 0:
                self.capabilities = dataclasses.replace(self.capabilities, max_context=length)
            await self.score_one(Scoring("One and one is", (" two",)))
        return self.capabilities

    async def close(self) -> None:
        lines, self._lines = dict(self._lines), WeakKeyDictionary()
        for loop, line in lines.items():
            if loop is asyncio.get_running_loop():
                await line.client.aclose()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(line.client.aclose(), loop))

    def _put(self, request: Request) -> tuple[str, dict[str, Any]]:
        if request.messages and self.chat is False:
            raise EndpointError(Failure("unsupported", f"{self.identity} is used without chat: give a raw prompt"))
        chat = bool(request.messages) or self.chat is True
        return ("/chat/completions" if chat else "/completions"), wire.body_of(request, self.model, chat=chat)

    def _allowed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        left = {name for feature in self._missing for name in wire.FEATURES.get(feature, ())}
        allowed = {name: value for name, value in body.items() if name not in left}
        if "max_tokens" in self._missing:
            allowed["max_completion_tokens"] = allowed.pop("max_tokens")
        return allowed

    def _without_what_is_refused(self, error: EndpointError, body: Mapping[str, Any]) -> None:
        feature = wire.refused_feature(error.failure, error.param, body)
        if feature is None:
            raise error
        self._give_up(feature, error.failure.message)

    def _give_up(self, feature: str, why: str) -> None:
        if feature in self._missing:
            return
        self._missing.add(feature)
        if feature in ("usage", "max_tokens"):
            return  # a count less, and another spelling: no answer changes
        log.warning("%s does not support %s, going on without: %s", self.identity, feature, why)
        if hasattr(self.capabilities, feature):
            off = 0 if feature == "logprobs" else False
            self.capabilities = dataclasses.replace(self.capabilities, **{feature: off})

    def _finished(self, completion: Completion, request: Request, start: float) -> Completion:
        if (request.logprobs or request.top_logprobs) and completion.logprobs is None and completion.text:
            self._give_up("logprobs", "the answer holds none")
        if not wire.obeys(completion, request):
            self._give_up("schema", "the answer does not keep to it")
        return completion.replace(latency=time.perf_counter() - start, model=completion.model or self.model)

    async def _failed(self, error: EndpointError | Malformed) -> Completion:
        if isinstance(error, Malformed):
            return Completion.failed(self._malformed(error), self.model)
        failure = error.failure
        if error.code == "content_filter":
            return Completion("", finish_reason="content_filter", model=self.model)
        if self._about_model(error):
            failure = await self._unknown_model(failure)
        return Completion.failed(failure, self.model)

    def _about_model(self, error: EndpointError) -> bool:
        """Whether it is the model, and not the route, that was not found."""
        named = re.search(rf"(?<![\w/.-]){re.escape(self.model)}(?![\w/-])", error.failure.message)
        return error.failure.status == 404 and ("model" in (error.code + error.param) or named is not None)

    def _malformed(self, error: Malformed) -> Failure:
        return Failure("malformed", self._secret.taken_out(f"{self.base_url}: {error}"))

    async def _unknown_model(self, failure: Failure) -> Failure:
        if not self._known:
            with contextlib.suppress(EndpointError):
                await self._models()
        there = f"; there are {', '.join(self._known[:8])}{nearest(self.model, self._known)}" if self._known else ""
        message = f"model {self.model!r} is not served at {self.base_url}{there}"
        return dataclasses.replace(failure, message=self._secret.taken_out(message))

    async def _models(self) -> list[dict[str, Any]]:
        try:
            entries = wire.field(await self._call("GET", "/models"), "data", list, "")
            self._known = [wire.plain(wire.field(each, "id", str, "data."), 80) for each in entries]
        except Malformed as error:
            raise EndpointError(self._malformed(error)) from None
        return entries

    async def _own_scores(self, item: Scoring) -> Scored:
        context = item.context
        if not isinstance(context, str):
            context = [{"role": turn.role, "content": turn.content} for turn in context]
        body = {"model": self.model, "context": context, "continuations": list(item.continuations)}
        answer = await self._call("POST", _OWN_SCORES, body)
        rows = wire.field(answer, "tokens", list, "")
        totals = wire.field(answer, "totals", list, "")
        if not len(rows) == len(totals) == len(item.continuations):
            raise Malformed("totals and tokens do not have one entry per continuation")
        tokens = tuple(_logs(row, "tokens") for row in rows)
        return Scored(_logs(totals, "totals"), tokens, wire.usage_of(answer))

    async def _echoed_scores(self, item: Scoring) -> Scored:
        if not isinstance(item.context, str):
            raise EndpointError(Failure("unsupported", f"{self.identity} scores raw prompts only, no messages"))
        asked = {"model": self.model, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
        prompts = [item.context + each for each in item.continuations]
        try:
            answers = await asyncio.gather(
                *(self._call("POST", "/completions", asked | {"prompt": p}) for p in prompts)
            )
            tokens = [wire.echoed(answer, item.context, each) for answer, each in zip(answers, item.continuations)]
        except EndpointError as error:
            final = error.failure.status in (400, 422, 500, *_NO_ROUTE) and error.failure.kind != "context_length"
            if not final or self._about_model(error):
                raise
            raise self._cannot_score(error.failure.message) from None
        except wire.NotEchoed as error:
            raise self._cannot_score(str(error)) from None
        except Malformed:
            raise
        except ValueError as error:
            raise EndpointError(Failure("unsupported", f"{self.base_url}: {error}")) from None
        usages = [wire.usage_of(answer) for answer in answers]
        usage = Usage(sum(each.prompt for each in usages), sum(each.cached for each in usages))
        rows = tuple(map(np.array, tokens))
        return Scored(np.array([row.sum() for row in rows]), rows, usage)

    def _cannot_score(self, why: str) -> EndpointError:
        self._give_up("score", why)
        return EndpointError(Failure("unsupported", f"{self.identity} cannot score continuations"))

    def _line(self) -> _Line:
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            client = httpx.AsyncClient(
                headers=self._headers,
                http2=self._http2,
                transport=self._transport,
                timeout=httpx.Timeout(self.timeout, connect=min(10.0, self.timeout)),
                limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
                trust_env=not self.local,  # a proxy cannot reach this machine's loopback
            )
            self._lines[loop] = _Line(client, asyncio.Semaphore(CONNECTIONS))
        return self._lines[loop]

    async def _call(self, method: str, route: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of the answer. Raises `EndpointError`, also for what is no JSON."""
        payload = bytearray()
        async with contextlib.aclosing(self._bytes(method, route, body, self.timeout)) as chunks:
            async for chunk in chunks:
                payload += chunk
        try:
            return json.loads(payload)
        except (ValueError, RecursionError):
            message = f"{self.base_url}{route}: the answer ({len(payload)} bytes) is no JSON, or is cut off"
            raise EndpointError(Failure("malformed", message, 200)) from None

    async def _events(self, route: str, body: Mapping[str, Any]) -> AsyncGenerator[Any]:
        """The JSON of each server-sent event, until `[DONE]`."""
        rest = b""
        async with contextlib.aclosing(self._bytes("POST", route, body, None)) as chunks:
            async for chunk in chunks:
                # Lines end at line feeds alone: JSON may hold other characters that `splitlines` takes for ends.
                *lines, rest = (rest + chunk).split(b"\n")
                for field, _, value in (line.strip().partition(b":") for line in lines):
                    if field != b"data":
                        continue
                    if value.strip() == b"[DONE]":
                        return
                    try:
                        event = json.loads(value)
                    except (ValueError, RecursionError):
                        raise Malformed("an event of the stream is no JSON") from None
                    if isinstance(event, dict) and event.get("error"):
                        raise EndpointError(*self._refusal(route, 500, {}, value))
                    yield event

    async def _bytes(
        self, method: str, route: str, body: Mapping[str, Any] | None, seconds: float | None
    ) -> AsyncGenerator[bytes]:
        """The bytes of a good answer. Everything that goes wrong becomes an `EndpointError` here."""
        where = f"{self.base_url}{route}"
        line = self._line()
        try:
            content = None if body is None else json.dumps(body).encode()
            headers = {} if body is None else {"content-type": "application/json"}
            async with (
                line.gate,
                asyncio.timeout(seconds),
                line.client.stream(method, self.base_url + route, content=content, headers=headers) as response,
            ):
                size, kept = 0, bytearray()
                async for chunk in response.aiter_bytes():
                    size += len(chunk)
                    if size > MAX_ANSWER:
                        raise EndpointError(Failure("malformed", f"{where}: more than {MAX_ANSWER} bytes"))
                    if response.status_code == 200:
                        yield chunk
                    elif len(kept) < 2**16:
                        kept += chunk
                if response.status_code != 200:
                    raise EndpointError(*self._refusal(route, response.status_code, response.headers, kept))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._broken("connection", f"{where}: cannot connect: {error}") from None
        except (TimeoutError, httpx.TimeoutException):
            raise self._broken("timeout", f"{where}: no answer within {self.timeout:g} s") from None
        except (httpx.DecodingError, UnicodeError) as error:
            raise self._broken("malformed", f"{where}: {error}") from None
        except (httpx.HTTPError, OSError) as error:
            raise self._broken("connection", f"{where}: the connection broke: {error}") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise self._broken("bad_request", f"the request cannot be written as JSON: {error}") from None

    def _refusal(
        self, route: str, status: int, headers: Mapping[str, str], payload: bytes | bytearray
    ) -> tuple[Failure, str, str]:
        failure, code, param = wire.failure_of(status, headers, bytes(payload))
        said = failure.message
        if 300 <= status < 400:
            said = f"redirects (HTTP {status}) are not followed; give the final address"
        elif route == "/completions" and status in _NO_ROUTE:
            said += "; a server without /completions takes raw prompts as chat with chat=True"
        message = self._secret.taken_out(f"{self.base_url}: {said}")
        return dataclasses.replace(failure, message=message), code, param

    def _broken(self, kind: str, message: str) -> EndpointError:
        return EndpointError(Failure(kind, self._secret.taken_out(wire.plain(message, 400))))


class _Assembly:
    """The pieces of a streamed answer put together to one that was not streamed."""

    def __init__(self) -> None:
        self.begun = False
        self.top: dict[str, Any] = {}
        self.choice: dict[str, Any] = {"finish_reason": None}
        self.text: list[str] = []

    def add(self, event: Any) -> str:
        """Take an event in and return its text. Raises `Malformed`."""
        self.begun = True
        for name in ("model", "usage"):
            if isinstance(event, dict) and event.get(name) is not None:
                self.top[name] = event[name]
        choices = wire.field(event, "choices", list, "")
        if not choices:
            return ""
        delta = wire.field(choices[0], "delta", dict, "choices[0].", optional=True)
        name, record = ("text", choices[0]) if delta is None else ("content", delta)
        piece = wire.field(record, name, str, "choices[0].", optional=True) or ""
        self.text.append(piece)
        for key in ("finish_reason", "token_ids"):
            if choices[0].get(key) is not None:
                self.choice[key] = choices[0][key]
        for key, values in (wire.field(choices[0], "logprobs", dict, "choices[0].", optional=True) or {}).items():
            if isinstance(values, list):
                self.choice.setdefault("logprobs", {}).setdefault(key, []).extend(values)
        return wire.well_formed(piece)

    def answer(self) -> dict[str, Any]:
        """Raises `Malformed` when the stream ended before the completion did."""
        if self.choice["finish_reason"] is None:
            raise Malformed("the stream ended before the completion did")
        return self.top | {"choices": [self.choice | {"text": "".join(self.text)}]}


def _logs(values: Any, where: str) -> np.ndarray:
    """Log-probabilities of our own server, which writes log 0 as null."""
    if not isinstance(values, list):
        raise Malformed(f"{where} is not a list")
    array = np.array(wire.numbers([0.0 if value is None else value for value in values], where))
    array[[value is None for value in values]] = -np.inf
    return array


def _checked(base_url: str) -> tuple[str, bool]:
    """The URL without its last slash, and whether it is this machine's."""
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        raise BadInput("endpoint: base_url is no URL: must be like http://127.0.0.1:8000/v1") from None
    if url.userinfo or url.query or url.fragment:
        raise BadInput("endpoint: base_url (not shown): must have no user, query or fragment; a key goes in api_key")
    if url.scheme not in ("http", "https") or not url.host:
        raise BadInput(f"endpoint: base_url is {base_url!r}: must be like http://127.0.0.1:8000/v1")
    return base_url.rstrip("/"), is_loopback(url.host)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
