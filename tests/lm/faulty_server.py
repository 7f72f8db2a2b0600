"""An HTTP server that answers as a test says, down to the bytes and to breaking the connection."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Call:
    """One request that arrived, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: bytes, over: threading.Event) -> None:
        self.path, self.headers, self._handler, self._over = handler.path, dict(handler.headers), handler, over
        self.body: Any = json.loads(body) if body else None

    def json(self, answer: Any, status: int = 200, **headers: str) -> None:
        self.raw(json.dumps(answer).encode(), status, **headers)

    def error(self, status: int, message: str, headers: dict[str, str] | None = None, **details: Any) -> None:
        self.json({"error": {"message": message, **details}}, status, **(headers or {}))

    def raw(self, payload: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self._handler.send_response(status)
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.send_header("Content-Length", str(len(payload) if length is None else length))
        self._handler.end_headers()
        self._handler.wfile.write(payload)
        if length is not None:
            self._handler.close_connection = True

    def text(self, text: str, **choice: Any) -> None:
        """A good answer to either route."""
        content = {"message": {"role": "assistant", "content": text}} if "chat" in self.path else {"text": text}
        self.json({"choices": [{"index": 0, "finish_reason": "stop", **content, **choice}], "model": "m"})

    def hang_up(self) -> None:
        self._handler.close_connection = True

    def hang(self) -> None:
        self._over.wait(30)
        self._handler.close_connection = True


class Calls(list[Call]):
    """The requests in order; `url` is the server's."""

    url: str = ""


@contextlib.contextmanager
def faulty(answer: Callable[[Call], None]) -> Iterator[Calls]:
    """A server on loopback that answers each request by `answer`; stopped at the end."""
    calls, over, guard = Calls(), threading.Event(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            call = Call(self, self.rfile.read(int(self.headers.get("Content-Length", 0))), over)
            with guard:
                calls.append(call)
            with contextlib.suppress(ConnectionError):
                answer(call)

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        calls.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield calls
        finally:
            over.set()
            server.shutdown()
            thread.join(10)
