"""Programs, forked from a process that has imported them already: most of what a proxy's start costs is imports.

    process = preloaded.start("mitmdump", [...], env=..., cwd=..., log=...)

A started program is a process of its own in all else: its environment, arguments, folder, session and log are given,
and it ends as Python ends. How programs start from the shell is shown by tests/test_cli.py.

Run as a script, this file is the process that they are forked from: it reads a line of JSON for each start, and tells
of each start and each end in one. It ends when nobody listens, and what it started with it.
"""

import atexit
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

type Entry = Callable[[], Any]

LINE = 1 << 16


class Process:
    """What `subprocess.Popen` would be."""

    def __init__(self, pid: int, args: Sequence[str], ends: "Parent") -> None:
        self.pid = pid
        self.args = args
        self._parent = ends

    @property
    def returncode(self) -> int | None:
        return self._parent.ended.get(self.pid)

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        with self._parent.news:
            if not self._parent.news.wait_for(lambda: self.returncode is not None, timeout):
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        assert self.returncode is not None
        return self.returncode


class Parent:
    """The process to fork from, seen from the tests."""

    def __init__(self) -> None:
        ours, its = socket.socketpair()
        with its:
            command = [sys.executable, __file__, str(its.fileno())]
            environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/nonexistent"}
            self._process = subprocess.Popen(command, env=environment, pass_fds=[its.fileno()], start_new_session=True)
        self._socket = ours
        self._starting = threading.Lock()
        self._started: int | None = None
        self.ended: dict[int, int] = {}
        self.news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, args: Sequence[str], **more: Any) -> Process:
        with self._starting, self.news:
            self._started = None
            self._socket.sendall(json.dumps({"args": list(args), **more}).encode() + b"\n")
            assert self.news.wait_for(lambda: self._started is not None, 60), "nothing was started"
            assert self._started is not None
            return Process(self._started, args, self)

    def _listen(self) -> None:
        with self._socket.makefile() as lines:
            for line in lines:
                told = json.loads(line)
                with self.news:
                    if told["code"] is None:
                        self.ended.pop(told["pid"], None)  # of an earlier process with this number
                        self._started = told["pid"]
                    else:
                        self.ended[told["pid"]] = told["code"]
                    self.news.notify_all()


@cache
def parent() -> Parent:
    """One for each process of pytest."""
    return Parent()


def start(program: str, args: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Process:
    """`args`: with the program's name in front."""
    return parent().start(args, program=program, env=dict(env), cwd=str(cwd), log=str(log))


# The process to fork from


def entries() -> dict[str, Entry]:
    from mitmproxy.tools import dump, web  # noqa: F401
    from mitmproxy.tools import main as tools

    from llm_interactive import cli, diagnosis, usage_report  # noqa: F401
    from llm_interactive.mitm import addons, lean_master  # noqa: F401

    return {"mitmdump": tools.mitmdump, "mitmweb": tools.mitmweb, "llm-proxy": lambda: sys.exit(cli.main())}


def serve(control: socket.socket) -> None:
    known, alive, buffer = entries(), set[int](), b""
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def tell(pid: int, code: int | None) -> None:
        control.sendall(json.dumps({"pid": pid, "code": code}).encode() + b"\n")

    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(LINE)
            for pid in list(alive):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    alive.discard(pid)
                    tell(pid, os.waitstatus_to_exitcode(status))
        if control in ready:
            data = control.recv(LINE)
            if not data:
                for pid in alive:
                    os.killpg(pid, signal.SIGKILL)
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                wanted = json.loads(line)
                pid = os.fork()
                if not pid:
                    for each in (control, woken, wake):
                        signal.set_wakeup_fd(-1)
                        each.close()
                    become(wanted, known[wanted["program"]])
                alive.add(pid)
                tell(pid, None)


def become(wanted: dict[str, Any], entry: Entry) -> None:
    """Never returns."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(wanted["cwd"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(wanted["env"])
    random.seed()
    sys.argv = wanted["args"]
    code = 0
    try:
        entry()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
