"""A real browser without a window, for tests of pages: Chromium over its debugging pipe.

with Browser(path) as browser:
    browser.open(url)
    browser.until("document.title === 'Usage'")
    browser.run("document.querySelector('button').click()")
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATH = next((path for name in NAMES if (path := shutil.which(name))), None)
SECONDS = 30.0

requires_browser = pytest.mark.skipif(PATH is None, reason=f"no browser on this machine ({', '.join(NAMES)})")


class Browser:
    def __init__(self) -> None:
        self._home = TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        self._number = 0
        self._session = ""
        self._left = b""
        self.said: list[str] = []
        """Uncaught errors and messages of the page's console, and what its policy forbade."""

    def __enter__(self) -> Self:
        assert PATH is not None
        (read, its_write), (its_read, write) = os.pipe(), os.pipe()
        # The browser talks on its descriptors 3 and 4: the shell puts them there.
        script = f'exec "$0" "$@" 3<&{its_read} 4>&{its_write}'
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
                 "--disable-dev-shm-usage", f"--user-data-dir={self._home.name}/profile"]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", script, PATH, *flags, "about:blank"],
            pass_fds=(its_read, its_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"HOME": self._home.name, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        )
        os.close(its_read)
        os.close(its_write)
        self._read, self._write = read, write
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._home.cleanup()

    def open(self, url: str) -> None:
        if not self._session:
            target = self._ask("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self._ask(f"{domain}.enable")
        self._ask("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression, a promise's when it is there."""
        done = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, condition: str) -> None:
        """`condition` may fail meanwhile: the page before may still be there."""
        deadline = time.monotonic() + SECONDS
        while not self.run(f"(() => {{ try {{ return Boolean({condition}) }} catch {{ return false }} }})()"):
            assert time.monotonic() < deadline, f"never true: {condition}; the page said {self.said}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """A key that stands for a command: Tab, Enter."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                      **(text if kind == "keyDown" else {}))  # fmt: skip

    def type(self, text: str) -> None:
        self._ask("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        import base64

        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot")["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)
        raise AssertionError("the browser went away")

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            message, mark, rest = self._left.partition(b"\0")
            if mark:
                self._left = rest
                yield json.loads(message)
            elif data := os.read(self._read, 1 << 16):
                self._left += data
            else:
                return

    def _note(self, event: dict[str, Any]) -> None:
        match event:
            case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": details}}:
                self.said.append(str(details.get("exception", {}).get("description") or details.get("text")))
            case {"method": "Runtime.consoleAPICalled", "params": {"args": arguments}}:
                self.said.append(" ".join(str(each.get("value")) for each in arguments))
            case {"method": "Log.entryAdded", "params": {"entry": entry}}:
                self.said.append(entry["text"])
