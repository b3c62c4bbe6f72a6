"""The usage ledger: rows go in on the event loop and are written by a thread, many in one transaction.

`await ledger.record(row)` returns when the row is committed: kill -9 cannot lose it then (SPEC 10). A database that
cannot be written never holds up a request: the wait ends after `patience` seconds, later ones do not wait at all, the
trouble is logged once, and the rows stay in a bounded buffer until writing works again. Rows hold no secrets: whoever
records them has redacted what came from outside.

In quiet moments, and now and then without them, the thread brings the sums up to date (usage_sums.py), deletes rows
that are older than they are to be kept, and syncs; each step is short, so that nobody waits long for the file.
"""

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby, islice
from pathlib import Path
from queue import Empty, SimpleQueue

from llm_interactive.events import Json, Usage
from llm_interactive.storage import usage_sums
from llm_interactive.storage.migrations import connect

type Cell = str | int | float | None
type Price = Callable[["UsageRow"], Decimal | None]
type Saved = asyncio.Future[Decimal | None]
"""Done with the cost of the row."""

log = logging.getLogger(__name__)

LONGEST_TEXT = 4000
"""Characters kept of a text; a provider's error page may be any size."""
BATCH = 1000
QUIET = 1.0
"""Seconds. A power cut loses no more than the rows since the last of them."""
TIDIED = 250
"""Rows that are summed up, or deleted, in one step: some 10 ms, for which a new row may have to wait."""
FORGET_EVERY = 3600.0
"""Seconds between two looks for rows that are too old."""

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
ADVICE = {
    sqlite3.SQLITE_FULL: "The disk is full: free some space.",
    sqlite3.SQLITE_IOERR: "The disk refuses it: check its free space, quota and health.",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable.",
    sqlite3.SQLITE_CANTOPEN: "Make the folder writable, or name another one with LLM_PROXY_HOME.",
    sqlite3.SQLITE_BUSY: "Another program keeps the database locked: close it.",
    sqlite3.SQLITE_LOCKED: "Another program keeps the database locked: close it.",
}
OTHER_ADVICE = "Check the file and its folder, or name another one with LLM_PROXY_HOME."


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """One attempt. Tokens count as in `events.Usage`; times in seconds; `cost` in USD only where the provider said it
    (else the ledger asks its price table); `key` is the ordinal of the backend's key; `flow_id` is mitmproxy's;
    `raw_usage`, the provider's own usage object, and `tier`, of its service, help pricing and are not stored."""

    request_id: str
    timestamp: datetime
    session: str
    username: str
    project: str | None = None
    caller_name: str | None = None
    frontend: str
    backend: str
    requested_model: str
    model: str
    key: int | None = None
    stream: bool
    status: int | None = None
    error: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cost: Decimal | None = None
    ttft: float | None = None
    execution_time: float | None = None
    end_reason: str | None = None
    notes: str | None = None
    flow_id: str | None = None
    raw_usage: Json = None
    tier: str | None = None

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def tokens(self) -> Usage:
        return Usage(
            input=self.prompt_tokens,
            output=self.completion_tokens,
            cached=self.cached_tokens,
            cache_write=self.cache_write_tokens,
            reasoning=self.reasoning_tokens,
            raw=self.raw_usage,
            tier=self.tier,
        )


TEXTS = ("request_id", "session", "username", "project", "caller_name", "frontend", "backend", "requested_model",
         "model", "error", "end_reason", "notes", "flow_id")  # fmt: skip
NUMBERS = ("key", "stream", "status", "prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens",
           "reasoning_tokens", "total_tokens", "estimated", "ttft", "execution_time")  # fmt: skip
COLUMNS = ("timestamp", "cost", *TEXTS, *NUMBERS)
INSERT = f"INSERT INTO usage ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


def iso(moment: datetime) -> str:
    """As stored: UTC, of fixed width, so that text order is the order of time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def no_price(row: UsageRow) -> Decimal | None:
    return None


class Ledger:
    """Starts its thread at once; the thread opens the file, and calls `price`. Several event loops may use it.

    `keep_days` gives the days (of UTC) before today whose rows are kept, None for all. `capacity`: rows kept in memory
    while the database cannot be written; more are lost, which is logged. `patience`: seconds that a lock or a slow disk
    is waited for; `retry_after`: seconds between attempts while there is trouble."""

    def __init__(
        self,
        path: Path,
        price: Price = no_price,
        *,
        keep_days: Callable[[], int | None] = lambda: None,
        patience: float = 2.0,
        retry_after: float = 1.0,
        capacity: int = 20_000,
    ) -> None:
        self._file = _LedgerFile(path, patience * 0.75, keep_days)  # a lock is named as the cause before waiting ends
        self._price = price
        self._patience = patience
        self._retry_after = retry_after
        self._capacity = capacity
        self._queue: SimpleQueue[tuple[UsageRow, Saved | None] | None] = SimpleQueue()
        self._backlog: deque[tuple[Cell, ...]] = deque()
        self._waiting: list[tuple[Saved, Decimal | None]] = []
        self._troubled = False
        self._stuck = False
        self._retry_at = 0.0
        self._lost = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="usage ledger", daemon=True)
        self._thread.start()

    def record(self, row: UsageRow) -> Saved:
        """Hand a row over; the future is done when it is committed, or when waiting for that makes no sense any more
        (with None then).

        Never blocks and never fails. Cancelling the future does not take the row back."""
        loop = asyncio.get_running_loop()
        saved: Saved = loop.create_future()
        if self._is_full():
            self._lose_one()
            saved.set_result(None)
        elif self._troubled or self._stuck:
            self._queue.put((row, None))
            saved.set_result(None)
        else:
            # A disk that hangs (a network share) holds the thread inside a system call: only the loop can give up then.
            timer = loop.call_later(self._patience, self._give_up, saved)
            saved.add_done_callback(lambda _: timer.cancel())
            self._queue.put((row, saved))
        return saved

    def put(self, row: UsageRow) -> None:
        """Hand a row over, and do not wait for it; `close` does."""
        if self._is_full():
            self._lose_one()
        else:
            self._queue.put((row, None))

    def close(self, timeout: float = 5.0) -> None:
        """Write what is left and end the thread; waits at most `timeout` seconds."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join(timeout)

    def _give_up(self, saved: Saved) -> None:
        if saved.done():  # the loop itself was late
            return
        if not self._stuck:
            self._stuck = True
            log.error("%s: the disk does not answer. Requests go on without waiting for usage rows.", self._file.path)
        saved.set_result(None)

    def _is_full(self) -> bool:
        return self._closed or self._queue.qsize() + len(self._backlog) >= self._capacity

    def _lose_one(self) -> None:
        if not self._lost:
            reason = "it is closed" if self._closed else "too many wait to be written"
            log.error("%s: usage rows are lost from now on: %s", self._file.path, reason)
        self._lost += 1

    # All below runs in the thread.

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._gather()
            if closing or time.monotonic() >= self._retry_at:
                self._write()
            self._release()
            self._file.tidy()
        self._file.close()
        if self._backlog:
            log.error("%s: %d usage rows could not be written and are lost", self._file.path, len(self._backlog))

    def _gather(self) -> bool:
        """Wait for rows, take all there are. True: the ledger is to be closed."""
        try:
            item = self._queue.get(timeout=self._pause())
            while item is not None:
                row, saved = item
                cost = self._cost(row)
                self._backlog.append(_cells(row, cost))
                if saved is not None:
                    self._waiting.append((saved, cost))
                item = self._queue.get_nowait()
        except Empty:
            return False
        return True

    def _pause(self) -> float | None:
        if self._backlog:
            return max(0.0, self._retry_at - time.monotonic())
        return self._file.tidy_in

    def _cost(self, row: UsageRow) -> Decimal | None:
        if row.cost is not None:
            return row.cost
        try:
            return self._price(row)
        except Exception as error:  # the edge: one row without a price, and not the end of all recording
            log.warning("no price for %s:%s: %r", row.backend, row.model, error)
            return None

    def _write(self) -> None:
        waited = len(self._backlog)
        try:
            while self._backlog:
                rows = list(islice(self._backlog, BATCH))
                self._file.write(rows)
                for _ in rows:
                    self._backlog.popleft()
        except (OSError, sqlite3.Error) as error:
            self._retry_at = time.monotonic() + self._retry_after
            if not self._troubled:
                self._troubled = True
                log.error(
                    "%s: usage cannot be written (%s). %s Requests go on, and up to %d rows wait in memory.",
                    self._file.path, error, ADVICE.get(_code(error), OTHER_ADVICE), self._capacity,
                )  # fmt: skip
        else:
            if self._troubled or self._stuck:
                self._troubled = self._stuck = False
                log.warning("%s: usage is written again: %d rows had waited", self._file.path, waited)
            if self._lost:
                log.error("%s: %d usage rows were lost", self._file.path, self._lost)
                self._lost = 0

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for loop, done in groupby(waiting, key=lambda each: each[0].get_loop()):
            with suppress(RuntimeError):  # that loop is closed: nobody waits
                loop.call_soon_threadsafe(_resolve, tuple(done))


class _LedgerFile:
    """The database as the thread sees it. After any failure it is closed, and opened anew by the next write."""

    def __init__(self, path: Path, patience: float, keep_days: Callable[[], int | None]) -> None:
        self.path = path
        self._patience = patience
        self._keep_days = keep_days
        self._tidy_at = self._forget_at = time.monotonic()
        self._unsummed = 0
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def write(self, rows: Sequence[tuple[Cell, ...]]) -> None:
        """Commit all rows or none. A damaged file is set aside, and a new one begun."""
        found = _identity(self.path)
        if found != self._opened:
            self.close()  # deleted or replaced meanwhile: rows would go into a file that nobody sees
        try:
            self._insert(rows)
        except sqlite3.Error as error:
            self.close()
            if _code(error) not in DAMAGED:
                raise
            if _identity(self.path) == found:  # else another process has done it already
                self._set_aside(error)
            self._insert(rows)

    @property
    def tidy_in(self) -> float | None:
        """Seconds until `tidy` has something to do if nothing is written meanwhile; None: it has not."""
        return None if self._tidy_at == math.inf else max(0.0, self._tidy_at - time.monotonic())

    def tidy(self) -> None:
        """One step of what is not urgent. Failing is no trouble: the next write will tell."""
        now = time.monotonic()
        if now < self._tidy_at:
            return
        try:
            nothing_there = self._connection is None and not self.path.exists()
            if nothing_there or not self._tidy_more(now):
                self._tidy_at = self._forget_at if self._keep_days() is not None else math.inf
        except (OSError, sqlite3.Error):
            self.close()
            self._tidy_at = now + QUIET

    def _tidy_more(self, now: float) -> bool:
        """Whether there is still something to do."""
        connection = self._open()
        if usage_sums.sum_up(connection, TIDIED):
            return True
        self._unsummed = 0
        keep_days = self._keep_days()
        if keep_days is not None and now >= self._forget_at:
            first = datetime.now(UTC) - timedelta(days=keep_days)
            if usage_sums.forget(connection, f"{first:%Y-%m-%d}", TIDIED):
                return True
            self._forget_at = now + FORGET_EVERY
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return False

    def close(self) -> None:
        connection, self._connection, self._opened = self._connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self.path, self._patience)
            self._opened = _identity(self.path)
        return self._connection

    def _insert(self, rows: Sequence[tuple[Cell, ...]]) -> None:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")
        self._unsummed += len(rows)
        self._tidy_at = time.monotonic() + (QUIET if self._unsummed < TIDIED else 0.0)

    def _set_aside(self, error: sqlite3.Error) -> None:
        name = f"{self.path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).rename(self.path.with_name(name + suffix))
        log.error(
            "%s is damaged (%s). It was set aside as %s and a new one begun; "
            "`sqlite3 %s .recover` may get the old rows back.", self.path, error, name, name,
        )  # fmt: skip


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _code(error: Exception) -> int:
    """SQLite's primary result code; errors of the Python module itself have none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _cells(row: UsageRow, cost: Decimal | None) -> tuple[Cell, ...]:
    texts = (_text(getattr(row, name)) for name in TEXTS)
    numbers = (_number(getattr(row, name)) for name in NUMBERS)
    return iso(row.timestamp), None if cost is None else float(cost), *texts, *numbers


def _text(value: str | None) -> str | None:
    """SQLite takes no lone surrogates, which a client's JSON may bring."""
    return None if value is None else str(value)[:LONGEST_TEXT].encode(errors="replace").decode()


def _number(value: float | None) -> float | None:
    """SQLite's integers have 64 bits, and a provider may claim anything."""
    if isinstance(value, int):
        return max(-(2**63), min(value, 2**63 - 1))
    return value if isinstance(value, float) else None


def _resolve(done: Sequence[tuple[Saved, Decimal | None]]) -> None:
    for saved, cost in done:
        if not saved.done():
            saved.set_result(cost)
