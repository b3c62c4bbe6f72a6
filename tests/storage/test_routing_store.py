"""Cool-downs on disk."""

import sqlite3
from pathlib import Path

import pytest

from llm_interactive.storage.routing_store import RoutingStore

ROWS = [("openai", "m", "0123", 1_700_000_000.5, "the rate limit is reached", 3), ("groq", "n", "", 1.0, "ü", 1)]


def test_what_is_saved_comes_back_and_replaces_what_was_there(tmp_path: Path) -> None:
    store = RoutingStore(tmp_path / "home" / "proxy.db")
    assert store.load() == []
    store.save(ROWS)
    assert sorted(RoutingStore(tmp_path / "home" / "proxy.db").load()) == sorted(ROWS)
    store.save(ROWS[:1])
    assert store.load() == ROWS[:1]


def test_a_file_that_fails_is_said(tmp_path: Path) -> None:
    (tmp_path / "proxy.db").write_bytes(b"this is no database, and long enough to be taken for one" * 99)
    with pytest.raises(sqlite3.Error):
        RoutingStore(tmp_path / "proxy.db").load()
