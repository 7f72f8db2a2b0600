"""An OpenAI-compatible server over any language model.

It only awaits the model's verbs, many at a time; a model that computes in batches forms them itself, and writing
messages as one text is the model's too. A client that goes away cancels what it asked for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import hmac
import json
import logging
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tutelage.lab.errors import BadInput
from tutelage.lm.clients.endpoint import is_loopback
from tutelage.lm.model import LanguageModel
from tutelage.lm.request import Completion, Failure, Scoring
from tutelage.lm.serving import server_format as wire
from tutelage.lm.serving.server_format import Refusal, Wanted

log = logging.getLogger(__name__)
Result = TypeVar("Result")

EMBEDDED_AT_ONCE = 2048
BODY_SECONDS = 30.0
"""How long a client may take to send a request."""


@dataclass(frozen=True)
class Limits:
    """What one server takes on.

    Attributes:
        max_concurrent: completions and scorings under way; beyond it clients are told to come back (429).
        max_tokens_per_request: the most that `max_tokens` may be.
        max_body: bytes of a request.
        grace: whole seconds that requests under way may take to finish when the server stops; then they are cancelled.
    """

    max_concurrent: int = 256
    max_tokens_per_request: int = 4096
    max_body: int = 4 * 2**20
    grace: int = 5

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            low = 0 if each.name == "grace" else 1
            if getattr(self, each.name) < low:
                raise BadInput(f"{each.name} is {getattr(self, each.name)}: must be at least {low}")


def serve(
    model: LanguageModel,
    *,
    name: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    announce: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; a second Ctrl-C does not wait for requests under way.

    Args:
        name: what clients call the model.
        host: an address of this machine. Another than loopback needs a token.
        port: 0 takes a free one.
        token: the bearer token that every request must show, but those to `/health`.
        announce: called with the URL as soon as clients may connect.

    Raises `BadInput` for an unsafe host and a port that cannot be had.
    """
    limits = limits or Limits()
    if token is None and not is_loopback(host):
        raise BadInput(f"host = {host!r}: other machines could use it; give a token, or keep host 127.0.0.1")
    app = application(model, name=name, token=token, limits=limits)
    with _bound(host, port) as listener:
        announce(_url(host, listener))
        _server(app, limits).run(sockets=[listener])


@contextlib.contextmanager
def running(
    model: LanguageModel,
    *,
    name: str = "model",
    port: int = 0,
    token: str | None = None,
    limits: Limits | None = None,
) -> Iterator[str]:
    """A server on loopback in a thread, for notebooks and tests: yields its URL, and always stops it."""
    limits = limits or Limits(grace=1)
    app = application(model, name=name, token=token, limits=limits)
    with _bound("127.0.0.1", port) as listener:
        server = _server(app, limits)
        work = threading.Thread(target=server.run, args=([listener],), name=f"server of {name}", daemon=True)
        work.start()
        try:
            yield _url("127.0.0.1", listener)
        finally:
            server.should_exit = True
            work.join(limits.grace + 10)
            server.force_exit = True
            work.join(10)


def application(
    model: LanguageModel, *, name: str, token: str | None = None, limits: Limits | None = None
) -> Starlette:
    """The ASGI application alone, to be run by another server. Without a token only this machine's pages may ask."""
    if not name or (
        token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != "")
    ):
        raise BadInput("server: name and token (not shown) must not be empty, the token printable ASCII")
    desk = _Desk(model, name, token, limits or Limits())
    routes = [
        Route("/health", desk.health),
        Route("/v1/models", desk.guarded(desk.models)),
        Route("/v1/models/{name:path}", desk.guarded(desk.models)),
        Route("/v1/chat/completions", desk.guarded(desk.chat), methods=["POST"]),
        Route("/v1/completions", desk.guarded(desk.completions), methods=["POST"]),
        Route("/v1/embeddings", desk.guarded(desk.embeddings), methods=["POST"]),
        Route("/v1/score_continuations", desk.guarded(desk.scores), methods=["POST"]),
    ]

    async def unknown(request: HTTPRequest, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return _refused(Refusal(status, f"{request.method} {request.url.path}: there is no such route"))

    return Starlette(routes=routes, exception_handlers={HTTPException: unknown})


class _Desk:
    """The routes and what they share."""

    def __init__(self, model: LanguageModel, name: str, token: str | None, limits: Limits) -> None:
        self.model, self.name, self.token, self.limits = model, name, token, limits
        self.under_way, self.started = 0, int(time.time())

    def guarded(self, route: Callable[[HTTPRequest], Awaitable[ASGIApp]]) -> Callable[..., Awaitable[ASGIApp]]:
        """The route behind the token, with every exception answered."""

        async def answer(request: HTTPRequest) -> ASGIApp:
            try:
                self._admit(request)
                return await route(request)
            except (Exception, asyncio.CancelledError) as error:
                return _refused(_refusal(error))

        return answer

    async def health(self, request: HTTPRequest) -> Response:
        return _json({"status": "ok"})

    async def models(self, request: HTTPRequest) -> Response:
        can = dataclasses.asdict(self.model.capabilities)
        entry = {"id": self.name, "object": "model", "created": self.started, "owned_by": "tutelage"}
        entry |= {"capabilities": can, "max_model_len": can["max_context"] or None}
        if "name" not in request.path_params:
            return _json({"object": "list", "data": [entry]})
        self._named({"model": request.path_params["name"]})
        return _json(entry)

    async def chat(self, request: HTTPRequest) -> ASGIApp:
        return await self._generated(request, chat=True)

    async def completions(self, request: HTTPRequest) -> ASGIApp:
        return await self._generated(request, chat=False)

    async def embeddings(self, request: HTTPRequest) -> Response:
        body = await self._body(request)
        wire.refuse_what_is_ignored(body)
        texts = wire.texts(body, "input")
        if len(texts) > EMBEDDED_AT_ONCE:
            raise Refusal(400, f"input: at most {EMBEDDED_AT_ONCE} texts at once", param="input")
        form = body.get("encoding_format", "float")
        if form not in ("float", "base64"):
            raise Refusal(400, f"encoding_format: must be float or base64, is {form!r}", param="encoding_format")
        if not self.model.capabilities.embed:
            raise Refusal(400, "this model gives no embeddings", code="unsupported")
        with self._places(1):
            rows = await _while_connected(request.receive, self.model.embed(texts))
        rows = np.asarray(rows, "<f4")
        plain = [base64.b64encode(row.tobytes()).decode() if form == "base64" else row.tolist() for row in rows]
        data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(plain)]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return _json({"object": "list", "data": data, "model": self.name, "usage": usage})

    async def scores(self, request: HTTPRequest) -> Response:
        """Ours alone: log p of texts after a context, which echoed prompts cannot tell for chats."""
        body = await self._body(request)
        context = body.get("context")
        item = Scoring(
            context if isinstance(context, str) else wire.messages(context, "context"),
            tuple(wire.texts(body, "continuations")),
        )
        if not self.model.capabilities.score:
            raise Refusal(400, "this model cannot score continuations", code="unsupported")
        with self._places(len(item.continuations)):
            [scored] = await _while_connected(request.receive, self.model.score([item]))
        if scored.error is not None:
            raise Refusal.of(scored.error)
        usage = wire.usage_body(scored.usage)
        return _json({"totals": _logs(scored.totals), "tokens": [*map(_logs, scored.tokens)], "usage": usage})

    async def _generated(self, request: HTTPRequest, *, chat: bool) -> ASGIApp:
        limits, body = self.limits, await self._body(request)
        wanted = wire.wanted(
            body,
            chat=chat,
            capabilities=self.model.capabilities,
            max_tokens=limits.max_tokens_per_request,
            max_requests=limits.max_concurrent,
        )
        if wanted.stream:
            return self._streamed(wanted)
        with self._places(len(wanted.requests)):
            completions = await _while_connected(request.receive, self.model.generate(wanted.requests))
        for completion in completions:
            if completion.error is not None:
                raise Refusal.of(completion.error)
        return _json(wire.answer(wanted, completions, self.name))

    def _streamed(self, wanted: Wanted) -> ASGIApp:
        """The answer that writes itself. Until its first piece it may still become a refusal."""

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            begun = False

            async def write() -> None:
                nonlocal begun
                async for event in self._events(wanted):
                    if not begun:
                        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
                        await send({"type": "http.response.start", "status": 200, "headers": headers})
                        begun = True
                    line = b"data: " + event + b"\n\n"
                    await send({"type": "http.response.body", "body": line, "more_body": True})
                await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

            try:
                with self._places(len(wanted.requests)):
                    await _while_connected(receive, write())
            except (Exception, asyncio.CancelledError) as error:
                refusal = _refusal(error)
                if not begun:
                    await _refused(refusal)(scope, receive, send)
                elif not isinstance(error, ClientDisconnect):
                    lines = b"data: " + wire.dumps(refusal.body()) + b"\n\ndata: [DONE]\n\n"
                    await send({"type": "http.response.body", "body": lines})

        return respond

    async def _events(self, wanted: Wanted) -> AsyncIterator[bytes]:
        """The pieces of one choice after the other, the log-probabilities of each with its last piece."""
        top, ended = wire.head(wanted.chat, self.name, piece=True), []
        for index, request in enumerate(wanted.requests):
            echo = wanted.echo[index] if wanted.echo else ""
            async for piece in self.model.stream(request):
                last: dict[str, Any] = {"logprobs": None, "finish_reason": None}
                text = echo
                if not isinstance(piece, Completion):
                    text += piece
                elif piece.error is not None:
                    raise Refusal.of(piece.error)
                else:
                    ended.append(piece)
                    last = wire.ending(wanted, piece)
                content = {"delta": {"role": "assistant", "content": text}} if wanted.chat else {"text": text}
                yield wire.dumps({**top, "choices": [{"index": index, **content, **last}]})
                echo = ""
        if wanted.usage:
            yield wire.dumps({**top, "choices": [], "usage": wire.usage(wanted, ended)})

    def _admit(self, request: HTTPRequest) -> None:
        if self.token is not None:
            shown = request.headers.get("authorization", "")
            if not hmac.compare_digest(shown.encode(), f"Bearer {self.token}".encode()):
                raise Refusal(401, "the bearer token is missing or wrong", code="invalid_api_key")
            return
        # A page of another site, open in a browser here, may try to use a server that asks for no token.
        origin = request.headers.get("origin")
        sources = [request.url.hostname or "", *([origin.split("://")[-1]] if origin else [])]
        for source in sources:
            if not is_loopback(source.rsplit(":", 1)[0] if source.count(":") == 1 or "]" in source else source):
                raise Refusal(403, "without a token only this machine may ask, by a loopback address")

    async def _body(self, request: HTTPRequest) -> dict[str, Any]:
        most, payload = self.limits.max_body, bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    payload += chunk
                    if len(payload) > most:
                        raise Refusal(413, f"the request is larger than {most} bytes")
            body = json.loads(payload)
        except TimeoutError:
            raise Refusal(408, f"the request did not come within {BODY_SECONDS:g} s") from None
        except (ValueError, RecursionError):
            raise Refusal(400, "the request is no JSON") from None
        if not isinstance(body, dict):
            raise Refusal(400, "the request must be a JSON object")
        self._named(body)
        return body

    def _named(self, body: dict[str, Any]) -> None:
        if body.get("model") not in (None, self.name):
            said = f"there is no such model here, only {self.name!r}"
            raise Refusal(404, said, code="model_not_found", param="model")

    @contextlib.contextmanager
    def _places(self, count: int) -> Iterator[None]:
        """Take places for so many completions. Raises `Refusal` when there are not enough."""
        most = self.limits.max_concurrent
        if count > most:
            raise Refusal(400, f"{count} at once: at most {most} here")
        if self.under_way + count > most:
            raise Refusal(429, f"{self.under_way} of {most} places are taken; try again", code="rate_limit", wait=1.0)
        self.under_way += count
        try:
            yield
        finally:
            self.under_way -= count


class _Uvicorn(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn raises the signal again after it has stopped; we return to our caller instead.
        self.force_exit, self.should_exit = self.should_exit, True


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work unless the client goes away before; then cancel it and raise `ClientDisconnect`."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _refusal(error: BaseException) -> Refusal:
    """How any exception is answered. What is unexpected goes to the log, not to the client."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, asyncio.CancelledError):  # by uvicorn, at the end of the time of grace
        return Refusal(503, "the server is stopping", wait=1.0)
    if isinstance(error, ClientDisconnect):
        return Refusal(499, "the client is gone")
    failure = getattr(error, "failure", None)  # of an endpoint that this server passes on
    if isinstance(failure, Failure):
        return Refusal.of(failure)
    if isinstance(error, BadInput):
        return Refusal(400, str(error), code="unsupported")
    log.exception("a request failed", exc_info=error)
    return Refusal(500, "the server failed; its log says why")


def _refused(refusal: Refusal) -> Response:
    headers = {"retry-after": str(math.ceil(refusal.wait))} if refusal.wait is not None else {}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(wire.dumps(refusal.body()), refusal.status, headers, "application/json")


def _json(body: Any) -> Response:
    return Response(wire.dumps(body), media_type="application/json")


def _logs(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _server(app: Starlette, limits: Limits) -> _Uvicorn:
    config = uvicorn.Config(
        app,
        loop="asyncio",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=limits.grace,
    )
    return _Uvicorn(config)


def _bound(host: str, port: int) -> socket.socket:
    # asyncio sends small packets at once (no delay of 40 ms) only on sockets that name their protocol.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        return listener
    except (OSError, OverflowError) as error:
        listener.close()
        raise BadInput(f"{host}:{port}: cannot be listened at: {getattr(error, 'strerror', None) or error}") from None


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/v1"
