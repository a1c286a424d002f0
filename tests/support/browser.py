"""A headless Chromium, driven through its DevTools protocol over a pipe: no port, no package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import processes

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


class Tab:
    """A tab. ``problems`` has each error and warning of its pages, and each request of theirs."""

    def __init__(self, send: int, receive: int) -> None:
        self._send = send
        self._receive = receive
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        self.problems: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Open a page in a window of that width; return when it has loaded and was drawn once."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        self._call("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._event(self._message())
        self.run("0")  # a course is drawn when its size is known, in the first frame

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression, after the next frame is drawn."""
        frame = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
        code = f"(async () => {{ const value = await ({script}); await {frame}; return value }})()"
        result = self._call(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key that has a name, such as "Backspace"."""
        for kind in ("rawKeyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key)
        self.run("0")

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        request: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            request["sessionId"] = self._session
        os.write(self._send, json.dumps(request).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                result: dict[str, Any] = answer["result"]
                return result
            self._event(answer)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert processes.readable(self._receive), "the browser does not answer"
            data = os.read(self._receive, 1 << 16)
            assert data, "the browser has ended"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _event(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            if params["request"]["url"] != params["documentURL"]:
                self.problems.append(f"request: {params['request']['url']}")
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.problems.append(f"{method}: {json.dumps(params)}")


@contextmanager
def browser(directory: Path) -> Iterator[Tab]:
    """Start Chromium, with its files in the directory; skip the test where there is none."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    read_commands, send = os.pipe()
    receive, write_answers = os.pipe()
    # Chromium reads commands from descriptor 3 and writes answers to 4.
    shell = f'exec "$@" 3<&{read_commands} 4>&{write_answers}'
    popen = subprocess.Popen(
        ["bash", "-c", shell, "bash", program, *_FLAGS, f"--user-data-dir={directory}"],
        pass_fds=(read_commands, write_answers),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(directory)},
    )  # fmt: skip
    os.close(read_commands)
    os.close(write_answers)
    try:
        yield Tab(send, receive)
    finally:
        os.close(send)  # it ends
        os.close(receive)
        try:
            popen.wait(processes.TIMEOUT)
        finally:
            popen.kill()
            popen.wait()
