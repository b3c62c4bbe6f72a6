"""As users type them at mitmproxy's prompt."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import exceptions
from mitmproxy.command import CommandManager
from mitmproxy.master import Master
from mitmproxy.options import Options

from llm_interactive.mitm.usage_commands import commands
from llm_interactive.storage.migrations import connect

INSERT = """
INSERT INTO usage (request_id, timestamp, session, username, backend, model, stream, status, prompt_tokens,
    cached_tokens, completion_tokens, total_tokens, cost, ttft)
VALUES ('r', strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?), 's', 'u', 'openai', 'gpt-4o', 1, 200, 1000, 0, 20, 1020, ?, 0.5)
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "proxy.db"


def typed(database: Path, line: str) -> Any:
    loop = asyncio.new_event_loop()

    async def execute() -> Any:
        manager = CommandManager(Master(Options(), event_loop=loop))
        for name, function in commands(lambda: database):
            manager.add(name, function)
        return manager.execute(line)

    try:
        return loop.run_until_complete(execute())
    finally:
        loop.close()


def test_what_was_spent_and_used(database: Path) -> None:
    with closing(connect(database)) as connection:
        connection.executemany(INSERT, [("-0 days", 0.25), ("-3 days", None)])
    assert typed(database, "llm.cost") == "$0.2500 today: 1 calls, 1,000 tokens in, 20 out"
    assert typed(database, "llm.cost 7") == (
        "$0.2500, and 1 calls of unknown cost in 7 days: 2 calls, 2,000 tokens in, 40 out"
    )
    head, line = typed(database, "llm.usage 7")
    assert dict(zip(head, line, strict=True)) == {
        "model": "openai:gpt-4o",
        "calls": "2",
        "failed": "0",
        "tokens in": "2,000",
        "cached": "0",
        "tokens out": "40",
        "cost": "$0.2500",
        "first token": "0.51 s",
        "95 %": "0.51 s",
    }


def test_without_usage(database: Path) -> None:
    assert typed(database, "llm.cost") == "- today: 0 calls, 0 tokens in, 0 out"
    assert len(typed(database, "llm.usage")) == 1


@pytest.mark.parametrize("days", ["0", "-1", "99999999", "x"])
def test_a_wrong_number_of_days_is_named(database: Path, days: str) -> None:
    with pytest.raises(exceptions.CommandError, match=days):
        typed(database, f"llm.cost {days}")


def test_a_damaged_database_is_told(database: Path) -> None:
    database.write_bytes(b"this is no database" * 1000)
    with pytest.raises(exceptions.CommandError, match=r"proxy\.db cannot be read: file is not a database"):
        typed(database, "llm.usage")
    with pytest.raises(sqlite3.DatabaseError):
        connect(database)
