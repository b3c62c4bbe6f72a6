"""The proxy itself as a process of its own, in a home of its own and with a clean environment (see preloaded.py).

    with running_proxy({"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url}) as proxy:
        httpx.get(f"{proxy.url}/health")

Nothing of the caller's environment is inherited, and the working directory is the new home, so that no `.env` is found.
Give `home` (and `port`) to start again where an earlier process left off. `hosts` maps the names of real hosts to ports
on loopback, where their connections then go; `authority` is what the proxy trusts upstream.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from kit import preloaded
from kit.certificates import Authority
from kit.wire import exchange, request

REPOSITORY = Path(__file__).parents[2]
ADDONS = REPOSITORY / "addons" / "llm.py"
PROGRAMS = Path(sys.executable).parent
START_SECONDS = 60
STOP_SECONDS = 10
POLL_SECONDS = 0.05
PORTS = range(20_000, 32_000)
"""Below the ports that the kernel hands out by itself, so that no client's socket takes one in between."""

REDIRECT = """
HOSTS = {hosts!r}

def server_connect(data):
    host, _ = data.server.address
    if host in HOSTS:
        data.server.address = ("127.0.0.1", HOSTS[host])
"""

READY = """
import asyncio, logging, pathlib
from mitmproxy import ctx

tasks = []

def running():
    tasks.append(asyncio.create_task(say_so()))

async def say_so():
    check = ctx.master.addons.get("errorcheck")
    while check and check.logger in logging.getLogger().handlers:
        await asyncio.sleep(0.01)
    pathlib.Path({sign!r}).touch()
"""
"""mitmproxy listens before it knows whether its start failed; this waits until it stops watching for errors."""

Mode = Literal["mitmdump", "mitmweb", "serve"]


class DidNotStart(AssertionError):
    """With the end of the process's output."""


@dataclass(frozen=True, slots=True)
class RunningProxy:
    process: preloaded.Process
    port: int
    home: Path
    web_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def web_url(self) -> str:
        """Of mitmweb's own pages; its password is `test`."""
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def ca_path(self) -> Path:
        """The certificate that a client must trust to be proxied on real hosts."""
        return self.home / "mitmproxy" / "mitmproxy-ca-cert.pem"

    @property
    def data(self) -> Path:
        """`LLM_PROXY_HOME`."""
        return self.home / "llm"

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def log(self) -> str:
        """All output so far, of earlier processes in this home too."""
        return log_path(self.home).read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL: no chance to clean up."""
        _signal_group(self.process, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and SIGKILL when that is not obeyed; the exit code."""
        if self.alive:
            _signal_group(self.process, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        self.kill()
        return self.process.returncode


@contextmanager
def running_proxy(
    env: Mapping[str, str] | None = None,
    mode: Mode = "mitmdump",
    args: Sequence[str] = (),
    *,
    home: Path | None = None,
    port: int | None = None,
    script: Path = ADDONS,
    hosts: Mapping[str, int] | None = None,
    authority: Authority | None = None,
) -> Iterator[RunningProxy]:
    with ExitStack() as stack:
        folder = home or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="proxy-", ignore_cleanup_errors=True))
        )
        more = [*_trusting(authority), *_redirecting(hosts or {}, folder), *args]
        proxy = _start(env or {}, mode, more, folder, port, script)
        stack.callback(proxy.stop)
        yield proxy
        assert "mitmproxy has crashed" not in proxy.log(), proxy.log()


def free_port() -> int:
    for candidate in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", candidate))
            return candidate
    raise OSError(f"no free port in {PORTS}")


def clean_environment(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.defpath}",
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "LLM_PROXY_HOME": str(home / "llm"),
        "PYTHONUNBUFFERED": "1",
    }


def log_path(home: Path) -> Path:
    return home / "proxy.log"


def _start(
    env: Mapping[str, str], mode: Mode, args: Sequence[str], home: Path, port: int | None, script: Path
) -> RunningProxy:
    for attempts_left in (2, 1, 0):
        chosen, web_port = port or free_port(), free_port()
        sign = home / "ready"
        sign.unlink(missing_ok=True)
        command = [
            *_command(mode, chosen, web_port, script),
            *_telling(mode, sign),
            "--set",
            f"confdir={home / 'mitmproxy'}",
            *args,
        ]
        environment = clean_environment(home) | dict(env)
        process = preloaded.start(Path(command[0]).name, command, env=environment, cwd=home, log=log_path(home))
        proxy = RunningProxy(process, chosen, home, web_port)
        try:
            _wait(proxy, partial(_healthy, proxy) if mode == "serve" else sign.exists)
        except DidNotStart:
            if port or not attempts_left or "address already in use" not in proxy.log():
                raise
        else:
            return proxy
    raise AssertionError("unreachable: the last attempt returns or raises")


def _telling(mode: Mode, sign: Path) -> list[str]:
    """A script that says when the start has succeeded; `serve` is asked for its health instead."""
    if mode == "serve":
        return []
    script = sign.with_name("tell_ready.py")
    script.write_text(READY.format(sign=str(sign)))
    return ["-s", str(script)]


def _healthy(proxy: RunningProxy) -> bool:
    with suppress(OSError, AssertionError):
        return exchange(proxy.port, request("GET", "/health"), timeout=5).status == 200
    return False


def _trusting(authority: Authority | None) -> list[str]:
    return ["--set", f"ssl_verify_upstream_trusted_ca={authority.path}"] if authority else []


def _redirecting(hosts: Mapping[str, int], home: Path) -> list[str]:
    if not hosts:
        return []
    script = home / "redirect.py"
    script.write_text(REDIRECT.format(hosts=dict(hosts)))
    return ["-s", str(script)]


def _command(mode: Mode, port: int, web_port: int, script: Path) -> list[str]:
    if mode == "serve":
        return [str(PROGRAMS / "llm-proxy"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    stock = [str(PROGRAMS / mode), "-s", str(script), "--listen-host", "127.0.0.1", "-p", str(port)]
    web = ["--no-web-open-browser", "--web-host", "127.0.0.1", "--web-port", str(web_port)]
    return [*stock, *web, "--set", "web_password=test"] if mode == "mitmweb" else stock


def _wait(proxy: RunningProxy, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < deadline:
            if not proxy.alive:
                raise DidNotStart(f"exit code {proxy.process.returncode}: {proxy.log()[-4000:]}")
            if ready():
                return
            time.sleep(POLL_SECONDS)
        raise DidNotStart(f"not ready after {START_SECONDS} s: {proxy.log()[-4000:]}")
    except BaseException:
        proxy.kill()
        raise


def _signal_group(process: preloaded.Process, number: signal.Signals) -> None:
    """The process leads its group; what it started goes with it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
