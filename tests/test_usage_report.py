import argparse
import csv
import io
import json
import os
import signal
import subprocess
import threading
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from kit.proxy import PROGRAMS, clean_environment
from rich.console import Console

from llm_interactive import usage_report
from llm_interactive.storage.migrations import connect
from llm_interactive.storage.usage_queries import Filters

INSERT = """
INSERT INTO usage (request_id, timestamp, session, username, project, caller_name, backend, model, stream, status,
    prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, total_tokens, cost, execution_time, end_reason)
VALUES ('r', strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?), 's', 'u', ?, 'Codex', 'openai', ?, 1, 200,
    ?, 0, 0, 0, ?, 0.5, 2.0, 'stop')
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "llm" / "proxy.db"
    with closing(connect(path)) as connection:
        rows = [("-0 days", "tea", "gpt-4o", 400, 400), ("-1 days", "[red]", "gpt-5", 100, 100)]
        connection.executemany(INSERT, rows)
    return path


def printed(path: Path, filters: Filters) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(usage_report.report(path, 30, 10, filters))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_tables_and_bars(path: Path) -> None:
    said = printed(path, Filters())
    assert "│ cost        │ $1.0000, 0 calls without a price" in said
    assert "│ openai:gpt-4o │        1 │    400 │ $0.5000 │ " + "█" * 24 in said
    assert "│ openai:gpt-5  │        1 │    100 │ $0.5000 │ " + "█" * 6 + " " in said
    assert "│ [red]   │" in said, "names are no markup"
    assert said.count("stop 200") == 2
    assert "gpt-5" not in printed(path, Filters(model="gpt-4o"))


@pytest.mark.parametrize(
    ("value", "most", "drawn"), [(0, 9, ""), (0, 0, ""), (1, 10**9, "▏"), (1, 2, "█" * 12), (24, 192, "███")]
)
def test_bars_are_in_proportion(value: int, most: int, drawn: str) -> None:
    assert usage_report.bar(value, most) == drawn


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    usage_report.add_options(parser)
    return parser.parse_args(arguments)


def run(path: Path, *arguments: str) -> bytes:
    command = [str(PROGRAMS / "llm-proxy"), "usage", *arguments]
    environment = clean_environment(path.parent.parent)
    return subprocess.run(command, env=environment, cwd=path.parent, capture_output=True, check=True).stdout


def test_files_hold_the_rows_of_the_days_and_filters(path: Path) -> None:
    rows = json.loads(run(path, "--json"))["data"]
    assert [row["model"] for row in rows] == ["gpt-4o", "gpt-5"]
    lines = list(csv.DictReader(io.StringIO(run(path, "--csv", "--days", "1").decode())))
    assert [line["model"] for line in lines] == ["gpt-4o"]
    assert json.loads(run(path, "--json", "--caller-name", "nobody"))["data"] == []


def test_two_kinds_at_once_are_refused() -> None:
    assert options("--watch").watch
    with pytest.raises(SystemExit):
        options("--watch", "--csv")


def test_watching_shows_what_comes_and_ends_with_an_interrupt(path: Path) -> None:
    leader, follower = os.openpty()
    environment = clean_environment(path.parent.parent) | {"TERM": "xterm", "COLUMNS": "120", "LINES": "100"}
    process = subprocess.Popen(
        [str(PROGRAMS / "llm-proxy"), "usage", "--watch"],
        env=environment,
        cwd=path.parent,
        stdout=follower,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    os.close(follower)
    seen = ""

    def until(text: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 30
        while text not in seen:
            assert time.monotonic() < deadline, seen[-2000:]
            seen += os.read(leader, 65536).decode("utf-8", "replace")

    def drain() -> None:
        with suppress(OSError):  # the terminal is gone
            while os.read(leader, 65536):
                pass

    try:
        until("gpt-4o")
        with closing(connect(path)) as connection:
            connection.execute(INSERT, ("-0 days", "tea", "brand-new", 1, 1))
        until("brand-new")
        process.send_signal(signal.SIGINT)
        threading.Thread(target=drain, daemon=True).start()  # nobody ends who cannot write the rest
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(leader)
