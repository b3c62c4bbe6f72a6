import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from llm_interactive.storage.migrations import MIGRATIONS, connect, m001_create_usage, migrate
from llm_interactive.storage.usage_queries import recent, stats
from llm_interactive.storage.usage_sums import sum_up


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "proxy.db"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(sqlite3.connect(tmp_path / "some.db", isolation_level=None))
    yield database
    database.close()


def schema(db: Database) -> list[tuple[str, ...]]:
    return db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_belongs_to_its_owner_alone_and_uses_wal(path: Path) -> None:
    connection = connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.execute("INSERT INTO usage (request_id) VALUES ('r')")
    assert mode(path.parent) == 0o700
    assert {file.name: mode(file) for file in path.parent.iterdir()} == dict.fromkeys(
        ("proxy.db", "proxy.db-wal", "proxy.db-shm"), 0o600
    )
    connection.close()


def test_a_file_open_to_others_is_closed_to_them_and_a_folder_of_the_user_left_alone(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    path.touch(mode=0o644)
    connect(path).close()
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o755


def test_an_older_file_gets_what_is_missing_and_keeps_its_rows(path: Path) -> None:
    path.parent.mkdir()
    older = Database(sqlite3.connect(path, isolation_level=None))
    migrate(older, [m001_create_usage])
    older.execute("INSERT INTO usage (request_id, model) VALUES ('old', 'gpt-4o')")
    assert not older.table("usage").indexes
    older.close()

    connection = connect(path)
    assert connection.execute("SELECT id, request_id, model FROM usage").fetchall() == [(1, "old", "gpt-4o")]
    applied = [name for (name,) in connection.execute("SELECT name FROM migrations ORDER BY rowid")]
    assert applied == [migration.__name__ for migration in MIGRATIONS]
    db = Database(connection)
    assert ["session", "timestamp"] in [index.columns for index in db.table("usage").indexes]
    connection.close()


@pytest.mark.parametrize("applied", range(1, len(MIGRATIONS)))
def test_from_every_earlier_schema_rows_stay_and_count(path: Path, applied: int) -> None:
    path.parent.mkdir()
    older = Database(sqlite3.connect(path, isolation_level=None))
    migrate(older, MIGRATIONS[:applied])
    row = {"request_id": "old", "timestamp": "2026-11-01T10:00:00.000Z", "session": "s", "username": "u", "model": "m",
           "backend": "b", "total_tokens": 7, "cost": 0.5}  # fmt: skip
    older.table("usage").insert(row)
    older.close()

    def told() -> tuple[Any, ...]:
        """By whoever reads it: before the new version has written, after, and when the sums are made."""
        sums = stats(path, 30, now=datetime(2026, 11, 2, tzinfo=UTC))["period_stats"]
        return [each["request_id"] for each in recent(path)], sums["sum_total_tokens"], sums["sum_cost"]

    assert told() == (["old"], 7, 0.5)
    with closing(connect(path)) as connection:
        assert told() == (["old"], 7, 0.5)
        assert not sum_up(connection, 100)
        assert connection.execute("SELECT id FROM usage_summed").fetchone() == (1,)
    assert told() == (["old"], 7, 0.5)


def test_applying_twice_changes_nothing(db: Database) -> None:
    migrate(db)
    before = schema(db)
    migrate(db)
    assert schema(db) == before


def test_a_failing_step_leaves_the_file_as_it_was(db: Database) -> None:
    def m003_fails(db: Database) -> None:
        db.execute("DROP TABLE usage")
        raise sqlite3.OperationalError("no")

    migrate(db)
    before = schema(db)
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, [*MIGRATIONS, m003_fails])
    assert schema(db) == before
    assert not db.conn.in_transaction


def test_steps_of_a_newer_version_are_left_alone(db: Database) -> None:
    def m099_from_the_future(db: Database) -> None:
        db.table("usage").add_column("mood", str)

    migrate(db, [*MIGRATIONS, m099_from_the_future])
    migrate(db)
    assert "mood" in db.table("usage").columns_dict


def test_two_processes_may_start_at_once(path: Path) -> None:
    script = """
import sys
import threading
import time
from pathlib import Path
from llm_interactive.storage.migrations import connect
print("ready", flush=True)
sys.stdin.readline()
connect(Path(sys.argv[1]), patience=30).execute("INSERT INTO usage (request_id) VALUES ('r')")
"""
    command = [sys.executable, "-c", script, str(path)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in processes] == ["", "", ""]
    connection = connect(path)
    assert connection.execute("SELECT count(*) FROM usage").fetchone() == (3,)
    assert connection.execute("SELECT count(*) FROM migrations").fetchone() == (len(MIGRATIONS),)
    connection.close()


def test_who_comes_second_waits_and_finds_it_done(path: Path) -> None:
    """Also where the table of names exists already, and a transaction could begin by reading."""
    path.parent.mkdir()
    first, second = (
        Database(sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)) for _ in range(2)
    )
    first.enable_wal()
    migrate(first)
    second_began, ran = threading.Event(), []

    def m099_slow(db: Database) -> None:
        ran.append(db)
        db.table("usage").add_column("slow", str)
        if db is first:
            thread.start()
            assert second_began.wait(60)
            time.sleep(0.1)

    thread = threading.Thread(target=migrate, args=(second, [*MIGRATIONS, m099_slow]))
    second.conn.set_trace_callback(lambda sql: second_began.set() if sql.startswith("BEGIN") else None)
    migrate(first, [*MIGRATIONS, m099_slow])
    thread.join()
    assert ran == [first]
    first.close()
    second.close()


def test_each_filter_of_a_query_by_time_has_its_index(db: Database) -> None:
    migrate(db)
    for column in ("session", "project", "username", "backend", "model"):
        plan = db.execute(
            f"EXPLAIN QUERY PLAN SELECT * FROM usage WHERE {column} = 'x' ORDER BY timestamp DESC, id DESC LIMIT 9"
        ).fetchall()
        assert [step[3] for step in plan] == [f"SEARCH usage USING INDEX idx_usage_{column}_timestamp ({column}=?)"]
