"""Sessions on disk: what is saved comes back, and a file that fails is named and tried again."""

import sqlite3
from pathlib import Path

import pytest

from llm_interactive.storage.migrations import connect
from llm_interactive.storage.session_store import SessionStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "proxy.db"


def test_what_is_saved_comes_back(path: Path) -> None:
    store = SessionStore(path)
    assert store.load("k/a") is None
    store.save([("k/a", 1.5, b'{"project":"p"}'), ("k/b", 2.5, '{"project":"ü"}'.encode())])
    store.save([("k/a", 3.5, b"{}")])
    store.close()
    again = SessionStore(path)
    assert again.load("k/a") == ("k/a", 3.5, b"{}")
    assert again.load("k/b") == ("k/b", 2.5, '{"project":"ü"}'.encode())
    again.close()


def test_idle_sessions_are_deleted(path: Path) -> None:
    store = SessionStore(path)
    store.save([("old", 1.0, b"{}"), ("new", 2.0, b"{}")])
    store.forget(2.0)
    assert (store.load("old"), store.load("new")) == (None, ("new", 2.0, b"{}"))
    store.close()


def test_server_values_come_back(path: Path) -> None:
    store = SessionStore(path)
    assert store.load_server() == {}
    store.save_server({"redact": False, "routes": {"r": {"policy": "k"}}, "default_backend": None})
    store.save_server({"redact": True})
    assert store.load_server() == {"redact": True, "routes": {"r": {"policy": "k"}}, "default_backend": None}
    store.close()


def test_a_locked_file_is_an_error_and_then_works_again(path: Path) -> None:
    store = SessionStore(path, patience=0.01)
    store.save([("a", 1.0, b"{}")])
    other = connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        store.save([("a", 2.0, b"{}"), ("b", 2.0, b"{}")])
    other.execute("ROLLBACK")
    other.close()
    assert store.load("a") == ("a", 1.0, b"{}")
    store.save([("b", 2.0, b"{}")])
    assert store.load("b") == ("b", 2.0, b"{}")
    store.close()


def test_all_rows_or_none(path: Path) -> None:
    store = SessionStore(path)
    with pytest.raises(sqlite3.Error):
        store.save([("a", 1.0, b"{}"), ("b", object(), b"{}")])  # type: ignore[list-item]
    assert store.load("a") is None
    store.close()


def test_a_file_that_cannot_be_opened_or_is_damaged_is_an_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(OSError, match="file"):
        SessionStore(blocked / "proxy.db").load("a")
    damaged = tmp_path / "proxy.db"
    damaged.write_bytes(b"not a database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        SessionStore(damaged).load("a")


def test_a_file_that_was_replaced_is_noticed(path: Path) -> None:
    store = SessionStore(path)
    store.save([("a", 1.0, b"{}")])
    for name in ("proxy.db", "proxy.db-wal", "proxy.db-shm"):
        (path.parent / name).rename(path.parent / f"{name}.aside")
    store.save([("b", 1.0, b"{}")])
    other = SessionStore(path)
    assert other.load("b") == ("b", 1.0, b"{}")
    other.close()
    assert store.load("a") is None
    store.close()
