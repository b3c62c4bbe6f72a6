"""Sessions and the server's values in `proxy.db`, for `sessions.Sessions`.

Every call blocks and raises OSError or sqlite3.Error; after one that failed the file is opened anew. A call commits all
it was given or nothing. A file that was deleted or replaced meanwhile (the ledger sets a damaged one aside) is noticed.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from llm_interactive import wire_json
from llm_interactive.storage.migrations import connect

type Json = Any
type Row = tuple[str, float, bytes]
"""A session's id, when it was last used (seconds since the epoch), its state as JSON."""

SAVE = "INSERT OR REPLACE INTO sessions (id, used, state) VALUES (?, ?, ?)"
SAVE_VALUE = "INSERT OR REPLACE INTO server_values (name, value) VALUES (?, ?)"


class SessionStore:
    """`patience`: seconds to wait for a lock."""

    def __init__(self, path: Path, patience: float = 1.5) -> None:
        self._path = path
        self._patience = patience
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def load(self, id_: str) -> Row | None:
        found = self._run("SELECT id, used, state FROM sessions WHERE id = ?", (id_,))
        return (found[0][0], found[0][1], found[0][2].encode()) if found else None

    def save(self, rows: Sequence[Row]) -> None:
        self._write(SAVE, [(id_, used, state.decode()) for id_, used, state in rows])

    def forget(self, before: float) -> None:
        """Sessions that were last used earlier."""
        self._run("DELETE FROM sessions WHERE used < ?", (before,))

    def load_server(self) -> dict[str, Json]:
        return {name: wire_json.loads(value) for name, value in self._run("SELECT name, value FROM server_values")}

    def save_server(self, values: Mapping[str, Json]) -> None:
        self._write(SAVE_VALUE, [(name, wire_json.text(value)) for name, value in values.items()])

    def close(self) -> None:
        connection, self._connection, self._opened = self._connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _run(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            return self._database().execute(sql, values).fetchall()
        except (OSError, sqlite3.Error):
            self.close()
            raise

    def _write(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        try:
            database = self._database()
            database.execute("BEGIN IMMEDIATE")
            database.executemany(sql, rows)
            database.execute("COMMIT")
        except (OSError, sqlite3.Error):
            self.close()
            raise

    def _database(self) -> sqlite3.Connection:
        if self._connection is not None and _identity(self._path) != self._opened:
            self.close()
        if self._connection is None:
            self._connection = connect(self._path, self._patience)
            self._opened = _identity(self._path)
        return self._connection


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
