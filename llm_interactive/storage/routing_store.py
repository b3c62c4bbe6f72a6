"""Cool-downs in `proxy.db`, so that a restart does not run into the same rate limits.

Every call opens the file, blocks, and raises OSError or sqlite3.Error. `save` replaces all that was there.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from llm_interactive.storage.migrations import connect

type Row = tuple[str, str, str, float, str, int]
"""Service, model, a digest of the key, until (seconds since the epoch), why, refusals in a row."""

SAVE = "INSERT OR REPLACE INTO cooldowns (service, model, key, until, why, refusals) VALUES (?, ?, ?, ?, ?, ?)"


class RoutingStore:
    """`patience`: seconds to wait for a lock."""

    def __init__(self, path: Path, patience: float = 1.5) -> None:
        self._path = path
        self._patience = patience

    def load(self) -> list[Row]:
        with closing(connect(self._path, self._patience)) as database:
            return database.execute("SELECT service, model, key, until, why, refusals FROM cooldowns").fetchall()

    def save(self, rows: Sequence[Row]) -> None:
        with closing(connect(self._path, self._patience)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("DELETE FROM cooldowns")
            database.executemany(SAVE, rows)
            database.execute("COMMIT")
