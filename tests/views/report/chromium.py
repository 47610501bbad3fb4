"""A real browser without a window, driven over the DevTools protocol."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_START_S = 600.0
_ANSWER_S = 600.0
_ALWAYS_DRAWN = (
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--disable-background-timer-throttling",
)
"""Without these options, a tab that counts as hidden renders no frames, and scripts wait for one for ever."""


class Chromium:
    """A browser with one tab. ``complaints`` has errors on pages, and ``requests`` what pages load."""

    def __init__(self, profile: Path) -> None:
        self._log = (profile / "log").open("w")
        self._process = subprocess.Popen(
            [
                str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars",
                *_ALWAYS_DRAWN,
                "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={profile}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=self._log,
        )  # fmt: skip
        self._socket = self._connect(profile)
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Page.bringToFront")

    def _connect(self, profile: Path) -> Any:
        import websocket

        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            found = re.search(r"DevTools listening on (ws://\S+)", (profile / "log").read_text())
            if found:
                return websocket.create_connection(found[1], timeout=_ANSWER_S)
            time.sleep(0.05)
        raise TimeoutError(f"chromium did not start: {(profile / 'log').read_text()[-500:]}")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        self._number += 1
        request: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            request["sessionId"] = self._session
        self._socket.send(json.dumps(request))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                answer: dict[str, Any] = message["result"]
                return answer
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(str(details.get("exception", {}).get("description", details["text"])))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.complaints.append(str(params["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, page: Path, width: int, *, dark: bool = False, scripts: bool = True, fragment: str = "") -> None:
        """Load a page at a width, in a theme, with scripts on or off."""
        self.complaints, self.requests = [], []
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[theme])
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=page.as_uri() + fragment)
        self.wait("document.readyState == 'complete' && location.protocol == 'file:'")

    def run(self, expression: str) -> Any:
        """Return the value of an expression, awaiting promises."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + _ANSWER_S
        while not self.run(expression):
            assert time.monotonic() < deadline, f"never came true: {expression}"
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._socket.close()
        self._process.kill()
        self._process.wait()
        self._log.close()
