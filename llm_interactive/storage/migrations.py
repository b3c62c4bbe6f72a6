"""The tables of `proxy.db`, as a list of steps. A step that was released is never edited: add another at the end.

`connect` opens the file for writing: made if missing (only its owner may read it), in WAL mode, every step applied.
Old rows are migrated, never dropped (SPEC 10). Steps that a newer version applied are left alone.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database

type Migration = Callable[[Database], None]


def m001_create_usage(db: Database) -> None:
    db.table("usage").create(
        {
            "id": int,
            "request_id": str,
            "timestamp": str,
            "session": str,
            "username": str,
            "project": str,
            "caller_name": str,
            "frontend": str,
            "backend": str,
            "requested_model": str,
            "model": str,
            "key": int,
            "stream": int,
            "status": int,
            "error": str,
            "prompt_tokens": int,
            "cached_tokens": int,
            "cache_write_tokens": int,
            "completion_tokens": int,
            "reasoning_tokens": int,
            "total_tokens": int,
            "estimated": int,
            "cost": float,
            "ttft": float,
            "execution_time": float,
            "end_reason": str,
            "notes": str,
        },
        pk="id",
    )


def m002_index_usage(db: Database) -> None:
    """One index for each filter of `/usage/recent` and `/usage/stats`, both of which go by time."""
    usage = db.table("usage")
    usage.create_index(["timestamp"])
    for column in ("session", "project", "username", "backend", "model"):
        usage.create_index([column, "timestamp"])


def m003_create_sessions(db: Database) -> None:
    """`used` in seconds since the epoch, `state` and `value` are JSON (sessions.py)."""
    sessions = db.table("sessions")
    sessions.create({"id": str, "used": float, "state": str}, pk="id")
    sessions.create_index(["used"])
    db.table("server_values").create({"name": str, "value": str}, pk="name")


def m004_create_cooldowns(db: Database) -> None:
    """`key`: a digest; `until` in seconds since the epoch (routing/cooldowns.py)."""
    columns = {"service": str, "model": str, "key": str, "until": float, "why": str, "refusals": int}
    db.table("cooldowns").create(columns, pk=("service", "model", "key"))


def m005_create_usage_days(db: Database) -> None:
    """Sums of the rows, see usage_sums.py; `usage_summed` holds the id of the last row that is in them."""
    db.conn.execute(
        """
        CREATE TABLE usage_days (
            date TEXT, session TEXT, username TEXT, project TEXT, backend TEXT, model TEXT, caller_name TEXT,
            requests INTEGER, errors INTEGER, failovers INTEGER, loops INTEGER, estimated INTEGER, unpriced INTEGER,
            priced INTEGER, prompt_tokens INTEGER, cached_tokens INTEGER, cache_write_tokens INTEGER,
            completion_tokens INTEGER, reasoning_tokens INTEGER, total_tokens INTEGER, cost REAL,
            timed INTEGER, execution_time REAL, begun INTEGER, ttft REAL, execution_times BLOB, ttfts BLOB,
            PRIMARY KEY (date, session, username, project, backend, model, caller_name)
        ) WITHOUT ROWID
        """
    )
    db.conn.execute("CREATE TABLE usage_summed (id INTEGER)")
    db.conn.execute("INSERT INTO usage_summed VALUES (0)")


def m006_add_flow_id(db: Database) -> None:
    """mitmproxy's name of the flow, by which mitmweb shows it."""
    db.table("usage").add_column("flow_id", str)


MIGRATIONS: Sequence[Migration] = (
    m001_create_usage,
    m002_index_usage,
    m003_create_sessions,
    m004_create_cooldowns,
    m005_create_usage_days,
    m006_add_flow_id,
)


def connect(path: Path, patience: float = 2.0) -> sqlite3.Connection:
    """A connection for writing, in autocommit mode. `patience`: seconds to wait for a lock.

    Raises OSError or sqlite3.Error. The connection may be used by another thread than the one that opened it."""
    _make_private(path)
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        _use_wal(connection, time.monotonic() + patience)
        # A commit in WAL mode is a write() into the kernel's cache: kill -9 of this process cannot take it back,
        # whatever this says. NORMAL leaves out the fsync of each commit, for which every reply would wait. Only a power
        # cut or a crash of the system can tell: the file stays sound, rows since the last sync may be missing.
        connection.execute("PRAGMA synchronous=NORMAL")
        migrate(Database(connection, execute_plugins=False))
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(db: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Apply what is missing, all or nothing. Two processes may do this at once: the second waits and finds it done."""
    if not _pending(db, migrations):
        return
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        db.conn.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied TEXT)")
        for migration in _pending(db, migrations):
            migration(db)
            applied = (migration.__name__, datetime.now(UTC).isoformat(timespec="seconds"))
            db.conn.execute("INSERT INTO migrations VALUES (?, ?)", applied)
        db.conn.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


def _pending(db: Database, migrations: Sequence[Migration]) -> list[Migration]:
    if not db.table("migrations").exists():
        return list(migrations)
    applied = {name for (name,) in db.conn.execute("SELECT name FROM migrations")}
    return [migration for migration in migrations if migration.__name__ not in applied]


def _make_private(path: Path) -> None:
    """The folder is made with mode 0700 (one that exists is the user's affair), the file always has 0600."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            with suppress(PermissionError):  # somebody else's file, which may still be written
                path.chmod(0o600)


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Changing to WAL does not wait for locks by itself, and two processes may start at once."""
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return  # some file systems cannot; then it stays with a rollback journal, slower and just as safe
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
