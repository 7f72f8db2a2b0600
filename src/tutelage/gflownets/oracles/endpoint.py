"""Objectives behind HTTP: batches of objects are POSTed as JSON, and numbers come back.

POST <url>  {"objects": [...], "objectives": ["stability", "size"]}   ->   {"values": [[0.3, 12.0], ...]}
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from email.message import Message
from typing import Any, NoReturn

import numpy as np

from tutelage.lab.errors import BadInput

MAX_ANSWER = 64 * 2**20
"""Bytes of an answer beyond which it is refused."""
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_ABOUT_OBJECTS = (400, 413, 422, 500)


class Unavailable(RuntimeError):
    """The endpoint cannot be used at all: no fault of the objects that were asked for."""


class Rejected(RuntimeError):
    """The endpoint refused these objects, or said something of them that is no number."""


class Endpoint:
    """A batch of objects -> [n, M] numbers, from an HTTP server.

    Args:
        url: http or https; http with a token only on this machine.
        names: the M objectives, sent along, in the order of the columns wanted.
        token_variable: the environment variable that holds a bearer token. The token itself is never written, shown or
            part of an error.
        timeout: seconds for one whole answer.
        attempts: at one batch, ≥ 1. The k-th wait is uniform in [0, min(`longest`, `base`·2^(k−1))] seconds, after
            whatever the server asked to wait.
        sleep: how to wait, for tests.

    Raises `BadInput` for a URL or token that cannot be used.
    """

    def __init__(
        self,
        url: str,
        names: Sequence[str],
        *,
        token_variable: str | None = None,
        timeout: float = 60.0,
        attempts: int = 5,
        base: float = 0.5,
        longest: float = 60.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise BadInput(
                "endpoint: url (not shown) must be like http://127.0.0.1:8000/score, without user or password"
            )
        local = _is_loopback(parts.hostname)
        token = os.environ.get(token_variable, "") if token_variable else ""
        if token_variable and not (token and token.isascii() and token.isprintable() and token.strip() == token):
            raise BadInput(f"endpoint: the environment variable {token_variable} must hold a token in printable ASCII")
        if token and parts.scheme == "http" and not local:
            raise BadInput(f"endpoint: a token for {parts.hostname} must not travel over http: give an https URL")
        for field, value, least in (("timeout", timeout, 1e-3), ("attempts", attempts, 1)):
            if not value >= least:
                raise BadInput(f"endpoint: {field} = {value!r} must be at least {least:g}")
        self.url, self.names = url, tuple(names)
        self.retries = 0
        self._place = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self._token, self._timeout, self._attempts = token, timeout, attempts
        self._base, self._longest, self._sleep = base, longest, sleep
        # A proxy is for the way out: this machine is reached without.
        proxies = [urllib.request.ProxyHandler({})] if local else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)

    def __repr__(self) -> str:
        return f"Endpoint({self._place!r}, {self.names!r})"

    def __call__(self, objects: Sequence[Any]) -> np.ndarray:
        """The values of n objects, f64 [n, M].

        Raises:
            Rejected: the server refuses these objects, or its answer is not n rows of M numbers.
            Unavailable: it cannot be reached, has no such page, or wants another token; passing faults after the last
                attempt.
        """
        body = json.dumps({"objects": [_plain(each) for each in objects], "objectives": self.names}).encode()
        for attempt in range(self._attempts):
            last = attempt == self._attempts - 1
            wait = random.uniform(0, min(self._longest, self._base * 2**attempt))
            try:
                return self._values(self._sent(body), len(objects))
            except urllib.error.HTTPError as error:
                with error:
                    said = self._hidden(error.read(500).decode(errors="replace"))
                if error.code not in _PASSING or last:
                    kind = Rejected if error.code in _ABOUT_OBJECTS else Unavailable
                    raise kind(f"{self._place} answered {error.code}: {said[:200]}") from None
                wait = max(wait, min(_seconds(error.headers.get("retry-after")), self._longest))
            except (OSError, http.client.HTTPException) as error:
                if last:
                    reason = self._hidden(str(getattr(error, "reason", error)) or type(error).__name__)
                    raise Unavailable(f"{self._place} after {self._attempts} attempts: {reason}") from None
            self.retries += 1
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _sent(self, body: bytes) -> bytes:
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self.url, body, headers, method="POST")
        end = time.monotonic() + self._timeout
        with self._opener.open(request, timeout=self._timeout) as answer:
            pieces, size = [], 0
            while piece := answer.read1(2**16):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_ANSWER:
                    raise Unavailable(f"{self._place} answered with more than {MAX_ANSWER} bytes")
                if time.monotonic() > end:
                    raise TimeoutError(f"no whole answer within {self._timeout:g} s")
            return b"".join(pieces)

    def _values(self, answer: bytes, number: int) -> np.ndarray:
        try:
            rows = json.loads(answer)["values"]
            values = np.array([[float(value) for value in row] for row in rows], np.float64)
        except (ValueError, KeyError, TypeError) as error:
            raise Rejected(f'{self._place} must answer {{"values": [[number, …], …]}}: {error!r:.120}') from None
        if values.shape != (number, len(self.names)):
            raise Rejected(
                f"{self._place} gave an array of shape {values.shape} for {number} objects; "
                f"must be {(number, len(self.names))}"
            )
        return values

    def _hidden(self, text: str) -> str:
        """What a server said, on one line and without the token, which it may have repeated."""
        line = " ".join(text.split())
        return line.replace(self._token, "…") if self._token else line


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is an error: the token and the objects are for one server only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Message, newurl: str) -> NoReturn:
        fp.close()
        raise Unavailable(f"the endpoint redirects ({code}); give the URL that it redirects to")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _seconds(text: str | None) -> float:
    try:
        return max(float(text or 0), 0.0)
    except ValueError:
        return 0.0


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
