"""A chat with the `demo` backend, as README.md shows it: `python -m scripts.tour` plays it on a proxy of its own."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(sys.executable).parent / "llm-proxy"
PROMPTS = (
    "!/hello",
    "Good morning!",
    "!/set(model=demo:story, project=tea)",
    "Tell me a story.",
    "!/oneoff(demo:loop) Go on.",
    "Once more, please.",
    "!/alias(bard=demo:story)",
    "!/set(temperature=5)",
    "!/bard !/set(temperature=0.2) A last one.",
    "!/status",
)
WIDTH = 100
SHOWN = 3
"""Lines of a model's answer, and as many of its end."""


def transcript() -> str:
    """For README.md, as a terminal shows it."""
    lines = [line for prompt, answer in play() for line in (f"> {prompt}", *_shown(answer), "")]
    return "\n".join(["", "```text", *lines[:-1], "```", "", ""])


def play() -> Iterator[tuple[str, str]]:
    """Each prompt with its answer."""
    with _proxy() as url:
        history: list[dict[str, str]] = []
        for prompt in PROMPTS:
            history.append({"role": "user", "content": prompt})
            answer = _ask(url, history)
            history.append({"role": "assistant", "content": answer})
            yield prompt, answer


def _ask(url: str, history: list[dict[str, str]]) -> str:
    body = json.dumps({"model": "demo:echo", "messages": history, "stream": True}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"content-type": "application/json"})
    said = []
    with urllib.request.urlopen(request, timeout=60) as reply:
        for line in reply:
            if line.startswith(b"data: {"):
                said += [each["delta"].get("content") or "" for each in json.loads(line[6:])["choices"]]
    return "".join(said)


@contextmanager
def _proxy() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "LLM_PROXY_HOME": home}
        command = [str(PROGRAM), "serve", "-q", "--port", str(port), "--set", f"confdir={home}"]
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.DEVNULL)
        try:
            _wait_for(url)
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait_for(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing answers at {url}")


def _shown(answer: str) -> list[str]:
    lines = [piece for line in answer.split("\n") for piece in textwrap.wrap(line, WIDTH) or [""]]
    if "\n" in answer.strip() or len(lines) <= 2 * SHOWN:
        return lines
    return [*lines[: SHOWN - 1], "[...]", *lines[-(SHOWN - 1) :]]


if __name__ == "__main__":
    for typed, said in play():
        print(f"> {typed}", *_shown(said), "", sep="\n")
