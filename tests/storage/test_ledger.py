"""The ledger against real files, real locks, real limits and kill -9."""

import asyncio
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_interactive.events import Usage
from llm_interactive.storage.ledger import LONGEST_TEXT, Ledger, UsageRow
from llm_interactive.storage.migrations import connect
from llm_interactive.storage.usage_queries import recent

AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
FOREVER = 60.0


def row(request_id: str = "r1", **changes: Any) -> UsageRow:
    fields: dict[str, Any] = {
        "request_id": request_id,
        "timestamp": AT,
        "session": "s1",
        "username": "anonymous",
        "frontend": "openai_chat",
        "backend": "openai",
        "requested_model": "gpt-4o",
        "model": "gpt-4o",
        "stream": True,
        "status": 200,
        "prompt_tokens": 10,
        "completion_tokens": 5,
    }
    return UsageRow(**fields | changes)


def select(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def saved(path: Path) -> list[str]:
    """Request ids in the order of writing."""
    return [name for (name,) in select(path, "SELECT request_id FROM usage ORDER BY id")]


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(FOREVER):
        while not reached():
            await asyncio.sleep(0.01)


def run(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """A program of its own that begins like this module does."""
    beginning = f"""
import asyncio, os, resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_ledger import row, saved, until
from llm_interactive.storage.ledger import Ledger
"""
    command = [sys.executable, "-c", beginning + script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=FOREVER)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "proxy.db"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[Ledger]:
    """As patient as a busy machine needs, so that a future that is done means a row that is there."""
    ledger = Ledger(path, patience=FOREVER)
    yield ledger
    ledger.close()


async def test_a_row_is_stored_whole(path: Path) -> None:
    ledger = Ledger(path)
    await ledger.record(
        row(
            "full",
            timestamp=datetime(2026, 11, 23, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2))),
            project="p",
            caller_name="cline",
            key=2,
            status=429,
            error="slow down",
            cached_tokens=4,
            cache_write_tokens=3,
            reasoning_tokens=2,
            estimated=True,
            cost=Decimal("0.25"),
            ttft=0.5,
            execution_time=1.5,
            end_reason="error",
            notes="loop",
            flow_id="f1",
            raw_usage={"not": "stored"},
        )
    )
    ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        (found,) = map(dict, connection.execute("SELECT * FROM usage"))
    assert found == {
        "id": 1,
        "request_id": "full",
        "timestamp": "2026-11-23T08:00:00.123Z",
        "session": "s1",
        "username": "anonymous",
        "project": "p",
        "caller_name": "cline",
        "frontend": "openai_chat",
        "backend": "openai",
        "requested_model": "gpt-4o",
        "model": "gpt-4o",
        "key": 2,
        "stream": 1,
        "status": 429,
        "error": "slow down",
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "cache_write_tokens": 3,
        "completion_tokens": 5,
        "reasoning_tokens": 2,
        "total_tokens": 15,
        "estimated": 1,
        "cost": 0.25,
        "ttft": 0.5,
        "execution_time": 1.5,
        "end_reason": "error",
        "notes": "loop",
        "flow_id": "f1",
    }


async def test_an_awaited_row_survives_kill_9(path: Path) -> None:
    script = """
async def main():
    await Ledger(Path(sys.argv[1])).record(row("survivor"))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    assert run(script, path).returncode == -signal.SIGKILL
    assert [found["request_id"] for found in recent(path)] == ["survivor"]
    assert saved(path) == ["survivor"]


async def test_many_rows_share_few_transactions(path: Path, ledger: Ledger) -> None:
    await ledger.record(row("first"))
    with closing(sqlite3.connect(path)) as watching:
        futures = [ledger.record(row(str(number))) for number in range(1000)]
        versions = set()
        while not all(future.done() for future in futures):
            versions.update(watching.execute("PRAGMA data_version").fetchone())
            await asyncio.sleep(0)
        await asyncio.gather(*futures)
        (total,) = watching.execute("SELECT count(*) FROM usage").fetchone()
    assert total == 1001
    assert len(versions) < 100


async def test_a_quiet_ledger_brings_its_rows_through_to_the_disk(path: Path, ledger: Ledger) -> None:
    """A power cut would leave what was synced: the file itself, without the write-ahead log."""
    await ledger.record(row("synced"))
    copy = path.with_name("copy.db")

    def arrived() -> bool:
        copy.write_bytes(path.read_bytes())
        return bool(recent(copy))

    assert not arrived()
    await until(arrived)


async def test_rows_keep_their_order(path: Path, ledger: Ledger) -> None:
    names = [str(number) for number in range(300)]
    await asyncio.gather(*(ledger.record(row(name)) for name in names))
    assert saved(path) == names


async def test_a_locked_database_holds_up_nobody_and_gets_its_rows_later(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(path, patience=0.1, retry_after=0.1)
    await ledger.record(row("before"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        await ledger.record(row("during 1"))
        await until(lambda: bool(caplog.records))
        assert ledger.record(row("during 2")).done(), "once the trouble is known nobody waits"
        assert ledger.record(row("during 3")).done()
        other.execute("ROLLBACK")
    await until(lambda: len(saved(path)) == 4)
    await until(lambda: len(caplog.records) == 2)
    assert saved(path) == ["before", "during 1", "during 2", "during 3"]
    trouble, recovered = caplog.records
    assert trouble.levelno == logging.ERROR
    assert "Another program keeps the database locked: close it." in trouble.getMessage()
    assert "written again: 3 rows" in recovered.getMessage()

    ledger.record(row("after"))
    ledger.close()
    assert saved(path)[-1] == "after"


async def test_a_lock_shorter_than_the_patience_is_no_trouble(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(path, patience=FOREVER)
    await ledger.record(row("before"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        waiting = ledger.record(row("during"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        other.execute("ROLLBACK")
    await waiting
    assert saved(path) == ["before", "during"]
    ledger.close()
    assert not caplog.records


async def test_a_disk_that_hangs_holds_up_nobody_for_long(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    answered = threading.Event()

    def hang(_: UsageRow) -> None:
        answered.wait(FOREVER)

    ledger = Ledger(path, hang, patience=0.05)
    await ledger.record(row("first"))
    assert ledger.record(row("second")).done(), "once it is known nobody waits"
    assert not path.exists()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    answered.set()
    await until(lambda: "written again" in caplog.text)
    ledger.close()
    assert saved(path) == ["first", "second"]


async def test_closing_writes_what_is_left(path: Path) -> None:
    ledger = Ledger(path)
    for number in range(50):
        ledger.record(row(str(number)))
    ledger.close()
    ledger.close()
    assert len(saved(path)) == 50
    assert [file.name for file in path.parent.iterdir()] == ["proxy.db"]


async def test_a_closed_ledger_takes_nothing_and_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(path)
    ledger.close()
    await ledger.record(row())
    assert "it is closed" in caplog.text


async def test_a_cancelled_wait_does_not_take_the_row_back(path: Path, ledger: Ledger) -> None:
    ledger.record(row("gone")).cancel()
    await ledger.record(row("here"))
    assert saved(path) == ["gone", "here"]


@pytest.mark.parametrize("damage", ["header", "inside"])
async def test_a_damaged_file_is_set_aside_and_a_new_one_begun(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = Ledger(path)
    await asyncio.gather(*(first.record(row(str(number), notes="x" * 500)) for number in range(300)))
    first.close()
    content = path.read_bytes()
    broken = b"no database" + content[11:] if damage == "header" else content[:4096] + b"\xff" * (len(content) - 4096)
    path.write_bytes(broken)

    second = Ledger(path)
    await second.record(row("new"))
    second.close()
    assert saved(path) == ["new"]
    (aside,) = [file for file in path.parent.iterdir() if file.name.startswith("proxy.db.corrupt-")]
    assert aside.stat().st_size >= len(broken) - 4096
    assert aside.name in caplog.text


@pytest.mark.parametrize("gone", ["deleted", "replaced"])
async def test_a_file_deleted_or_replaced_meanwhile_is_noticed(path: Path, ledger: Ledger, gone: str) -> None:
    await ledger.record(row("one"))
    for file in path.parent.iterdir():
        file.unlink()
    if gone == "replaced":
        other = Ledger(path)
        await other.record(row("other"))
        other.close()
    await ledger.record(row("two"))
    assert saved(path)[-1] == "two"


async def test_a_folder_that_cannot_be_made_is_survived_and_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.write_text("a file where the folder should be")
    ledger = Ledger(path, retry_after=0.01)
    await ledger.record(row("early"))
    await until(lambda: "name another one with LLM_PROXY_HOME" in caplog.text)
    await asyncio.sleep(0.1)  # attempts that fail as well
    path.parent.unlink()
    await until(lambda: "written again" in caplog.text)
    ledger.close()
    assert saved(path) == ["early"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_closing_tries_once_more(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.write_text("in the way")
    ledger = Ledger(path, retry_after=FOREVER)
    await ledger.record(row("early"))
    await until(lambda: bool(caplog.records))
    path.parent.unlink()
    ledger.close()
    assert saved(path) == ["early"]


def test_a_read_only_folder_is_survived() -> None:
    script = """
async def main():
    home = Path(sys.argv[1])
    if os.geteuid() == 0:  # root may write anywhere
        os.chown(home, 65534, 65534)
        os.seteuid(65534)
    home.chmod(0o500)
    ledger = Ledger(home / "proxy.db")
    await ledger.record(row("early"))
    assert not any(home.iterdir())
    home.chmod(0o700)
    await until((home / "proxy.db").exists)
    ledger.close()
    print(saved(home / "proxy.db"))
asyncio.run(main())
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as outside:  # pytest's own folders are closed to other users
        Path(outside).chmod(0o755)
        home = Path(outside) / "home"
        home.mkdir()
        done = run(script, home)
    assert done.stdout == "['early']\n", done.stderr
    assert done.stderr.count("usage cannot be written") == 1


def test_a_full_disk_is_survived(path: Path) -> None:
    script = """
async def main():
    path = Path(sys.argv[1])
    ledger = Ledger(path)
    await ledger.record(row("before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, resource.RLIM_INFINITY))
    for number in range(300):
        await ledger.record(row(str(number), notes="x" * 1000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await until(lambda: len(saved(path)) == 301)
    ledger.close()
    print(len(set(saved(path))))
asyncio.run(main())
"""
    done = run(script, path)
    assert done.stdout == "301\n", done.stderr
    assert done.stderr.count("usage cannot be written") == 1
    assert "check its free space" in done.stderr


async def test_the_buffer_is_bounded_and_losses_are_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.write_text("in the way")
    ledger = Ledger(path, capacity=10, retry_after=0.2)
    await ledger.record(row("0"))
    await until(lambda: bool(caplog.records))
    for number in range(1, 25):
        ledger.record(row(str(number)))
    path.parent.unlink()
    await until(lambda: "rows were lost" in caplog.text)
    ledger.close()
    kept = saved(path)
    assert 10 <= len(kept) <= 11  # one may be on its way from the queue to the backlog
    assert kept == sorted(kept, key=int)
    assert f" {25 - len(kept)} usage rows were lost" in caplog.text
    assert caplog.text.count("lost from now on") == 1


async def test_rows_that_cannot_be_written_before_the_end_are_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.write_text("in the way")
    ledger = Ledger(path)
    await ledger.record(row())
    ledger.close()
    assert "1 usage rows could not be written and are lost" in caplog.text


async def test_the_price_is_asked_off_the_loop_and_what_the_provider_said_wins(path: Path) -> None:
    asked: list[tuple[str, Usage, int]] = []

    def price(row: UsageRow) -> Decimal | None:
        asked.append((row.request_id, row.tokens, threading.get_ident()))
        return {"known": Decimal("0.1"), "unknown": None}[row.request_id]

    ledger = Ledger(path, price)
    for request_id, cost in (("known", None), ("unknown", None), ("told", Decimal(3))):
        await ledger.record(row(request_id, cost=cost, cached_tokens=4))
    ledger.close()
    assert select(path, "SELECT request_id, cost FROM usage") == [("known", 0.1), ("unknown", None), ("told", 3.0)]
    assert [request_id for request_id, _, _ in asked] == ["known", "unknown"]
    assert asked[0][1] == Usage(input=10, output=5, cached=4, cache_write=0, reasoning=0)
    assert threading.get_ident() not in {thread for _, _, thread in asked}


async def test_a_failing_price_costs_the_price_and_not_the_row(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def price(_: UsageRow) -> Decimal | None:
        raise ZeroDivisionError("of tokens")

    ledger = Ledger(path, price)
    await ledger.record(row("r"))
    ledger.close()
    assert select(path, "SELECT request_id, cost FROM usage") == [("r", None)]
    assert "no price for openai:gpt-4o" in caplog.text


async def test_values_that_a_client_or_provider_invents_are_stored_as_far_as_possible(
    path: Path, ledger: Ledger
) -> None:
    await ledger.record(row("r", model="\ud800x", prompt_tokens=10**30, error="e" * 10**6, ttft=[1]))
    (found,) = select(path, "SELECT model, prompt_tokens, length(error), ttft FROM usage")
    assert found == ("?x", 2**63 - 1, LONGEST_TEXT, None)


async def test_several_ledgers_share_a_file(path: Path) -> None:
    ledgers = [Ledger(path) for _ in range(3)]
    await asyncio.gather(*(ledger.record(row()) for ledger in ledgers for _ in range(50)))
    for ledger in ledgers:
        ledger.close()
    assert len(saved(path)) == 150
    assert os.listdir(path.parent) == ["proxy.db"]


async def test_a_loop_that_was_busy_is_no_trouble_of_the_disk(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(path, patience=0.5)
    await ledger.record(row("warm"))
    waiting = ledger.record(row("busy"))
    time.sleep(1.0)  # longer than the patience; the row is written meanwhile
    await waiting
    assert saved(path) == ["warm", "busy"]
    assert not caplog.records
    ledger.close()


async def test_a_quiet_ledger_sums_its_rows_up(path: Path, ledger: Ledger) -> None:
    await asyncio.gather(*(ledger.record(row(str(number))) for number in range(3)))
    assert select(path, "SELECT id FROM usage_summed") == [(0,)]
    await until(lambda: select(path, "SELECT id FROM usage_summed") == [(3,)])
    assert select(path, "SELECT sum(requests), sum(total_tokens) FROM usage_days WHERE username = ''") == [(3, 45)]


async def test_a_busy_ledger_sums_its_rows_up_all_the_same(path: Path, ledger: Ledger) -> None:
    """Every row comes before there was a quiet second."""
    number = 0
    while not number or select(path, "SELECT id FROM usage_summed") == [(0,)]:
        await asyncio.gather(*(ledger.record(row()) for _ in range(100)))
        number += 100
        assert number < 20_000


async def test_rows_of_before_are_summed_up_at_the_start(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("INSERT INTO usage (request_id, timestamp) VALUES ('old', '2026-11-01T00:00:00.000Z')")
    ledger = Ledger(path)
    await until(lambda: select(path, "SELECT id FROM usage_summed") == [(1,)])
    ledger.close()


async def test_rows_are_kept_for_so_many_days(path: Path) -> None:
    """Those of the day on which the period begins whole, whatever the time of day is."""
    now = datetime.now(UTC)
    with closing(connect(path)) as connection:
        for days in range(5):
            for clock in ("00:00:00.000", "23:59:59.999"):
                connection.execute(
                    "INSERT INTO usage (request_id, timestamp) VALUES (?, ?)",
                    (str(days), f"{now - timedelta(days=days):%Y-%m-%d}T{clock}Z"),
                )
    ledger = Ledger(path, keep_days=lambda: 2)
    await until(lambda: len(saved(path)) < 10)
    await ledger.record(row("new", timestamp=now))
    ledger.close()
    assert saved(path) == ["0", "0", "1", "1", "2", "2", "new"]


async def test_a_file_that_is_not_there_is_not_made_before_there_is_a_row(path: Path) -> None:
    ledger = Ledger(path, keep_days=lambda: 1)
    ledger.close()
    assert not path.exists()


async def test_nobody_waits_for_many_old_rows_to_go(path: Path) -> None:
    """They go a few at a time, and a new row does not wait for the last of them."""
    with closing(connect(path)) as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO usage "
            "(request_id, timestamp, session) SELECT i, '2020-01-01T00:00:00.000Z', i % 100 FROM n"
        )
    ledger = Ledger(path, keep_days=lambda: 2)
    await ledger.record(row("new", timestamp=datetime.now(UTC)))
    left = len(saved(path))
    assert left > 1
    await until(lambda: saved(path) == ["new"])
    ledger.close()


async def test_tidying_that_fails_is_tried_again(path: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    await ledger.record(row())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(1.5)  # it is quiet, but locked
        other.execute("COMMIT")
    await until(lambda: select(path, "SELECT id FROM usage_summed") == [(1,)])
    assert not caplog.records


async def test_a_row_that_nobody_waits_for_is_written_before_the_end(path: Path) -> None:
    ledger = Ledger(path, capacity=1000)
    for number in range(100):
        ledger.put(row(str(number)))
    ledger.close()
    assert len(saved(path)) == 100


async def test_what_nobody_waits_for_is_bounded_too(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.write_text("in the way")
    ledger = Ledger(path, capacity=5, retry_after=FOREVER)
    await ledger.record(row())
    for _ in range(10):
        ledger.put(row())
    assert "too many wait to be written" in caplog.text
    ledger.close()
    ledger.put(row())
    assert re.search("[56] usage rows could not be written", caplog.text)
