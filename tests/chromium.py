"""A real headless Chromium for tests, driven over its DevTools protocol with the standard library alone.

The protocol is spoken over a pair of pipes (`--remote-debugging-pipe`: JSON messages that end in a zero byte), so there
is no port to choose, no driver program and no package to keep in step with the browser. The browser is Debian's package
`chromium`; where it is absent it is installed if that is possible, else the test fails and says what to do.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    # Whatever asks for a host all the same is told that there is none.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


def find_chromium() -> str:
    """The browser's path. Installs Debian's package where that is allowed; fails the test where nothing helps."""
    if found := _installed():
        return found
    advice = "this test opens a real browser: install Debian's package chromium (apt-get install chromium)"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.fail(advice)
    # Test processes side by side would install it twice.
    with (Path(tempfile.gettempdir()) / "install-chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _installed():
            wait = "DPkg::Lock::Timeout=300"
            for words in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
                environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
                done = subprocess.run(
                    ["apt-get", "-o", wait, *words], env=environment, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    pytest.fail(f"{advice}; apt-get {words[0]} said: {done.stderr.strip()[-300:]}")
    return _installed() or pytest.fail(advice)


def _installed() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A running browser with an empty profile; `open` gives pages. Messages go down one pipe, answers up another."""

    def __init__(self, profile: Path) -> None:
        down_read, down_write = _pipe()
        up_read, up_write = _pipe()
        program = find_chromium()
        arguments = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        log = str(profile / "chromium.log")
        profile.mkdir(parents=True, exist_ok=True)
        self._process = os.posix_spawn(
            program,
            arguments,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, down_read, 3),
                (os.POSIX_SPAWN_DUP2, up_write, 4),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setpgroup=0,
        )
        os.close(down_read)
        os.close(up_write)
        self._down, self._up = down_write, up_read
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is kept in `events`."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._down, json.dumps(message).encode() + b"\0")
        number = self._number
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def wait_for(self, method: str, session: str) -> dict[str, Any]:
        """The first event of that name, which may have happened already."""
        while True:
            for event in self.events:
                if event["method"] == method and event.get("sessionId") == session:
                    return event
            self._receive()

    def open(self, address: str, *, width: int = 1280, height: int = 900, **media: str) -> Page:
        """A page that has loaded. `media` are media features, as `prefers_color_scheme="dark"`, or `media="print"`."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        page = Page(self, session)
        page.resize(width, height)
        kind = media.pop("media", "")
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.call("Emulation.setEmulatedMedia", session, media=kind, features=features)
        self.call("Page.navigate", session, url=address)
        self.wait_for("Page.loadEventFired", session)
        return page

    def close(self) -> None:
        """End the browser and all its processes, and wait until they are gone."""
        with contextlib.suppress(RuntimeError, OSError, TimeoutError):
            self.call("Browser.close")
        for descriptor in (self._down, self._up):
            os.close(descriptor)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if os.waitpid(self._process, os.WNOHANG)[0]:
                return
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)

    def _receive(self, seconds: float = 60.0) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._up], [], [], seconds)[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._up, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message


class Page:
    """One tab: what is in it, what it said and asked for, and how it looks."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression; promises are awaited."""
        answer = self._browser.call(
            "Runtime.evaluate", self._session, expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        self._browser.call(
            "Emulation.setDeviceMetricsOverride",
            self._session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def requests(self) -> list[str]:
        """Every address that was asked for, data: included."""
        return [event["params"]["request"]["url"] for event in self._events("Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """Console messages, log entries and uncaught exceptions."""
        said = [json.dumps(event["params"]["args"]) for event in self._events("Runtime.consoleAPICalled")]
        said += [event["params"]["entry"]["text"] for event in self._events("Log.entryAdded")]
        return said + [json.dumps(event["params"]) for event in self._events("Runtime.exceptionThrown")]

    def screenshot(self, path: Path | None = None, *, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        if whole:
            size = self._browser.call("Page.getLayoutMetrics", self._session)["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            answer = self._browser.call("Page.captureScreenshot", self._session, clip=clip, captureBeyondViewport=True)
        else:
            answer = self._browser.call("Page.captureScreenshot", self._session)
        picture = base64.b64decode(answer["data"])
        if path is not None:
            path.write_bytes(picture)
        return picture

    def pdf(self) -> bytes:
        """The page as it would be printed on A4."""
        answer = self._browser.call("Page.printToPDF", self._session, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(answer["data"])

    def _events(self, method: str) -> Iterator[dict[str, Any]]:
        return (
            event
            for event in self._browser.events
            if event["method"] == method and event.get("sessionId") == self._session
        )


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are numbered beyond those that the browser expects its own under."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
