"""What the usage table says: the rows and figures of `/usage/recent`, `/usage/stats` and `!/status` (SPEC 10).

Each function opens the file read-only and closes it again, so it may run in any thread (and should not run on the event
loop). No file or no table yet is no usage; a locked or damaged file raises sqlite3.Error. Days are those of UTC.
"""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from llm_interactive.storage import usage_sums
from llm_interactive.storage.ledger import iso
from llm_interactive.storage.usage_sums import ALL_SESSIONS, TOKENS

type Row = dict[str, Any]
type Values = dict[str, str | int]

SHAPE = ("id", "request_id", "timestamp", "session", "username", "project", "caller_name", "frontend", "backend",
         "requested_model", "model", "key", "stream", "status", "error", "prompt_tokens", "cached_tokens",
         "cache_write_tokens", "completion_tokens", "reasoning_tokens", "total_tokens", "estimated", "cost", "ttft",
         "execution_time", "end_reason", "notes")  # fmt: skip
"""A row of `/usage/recent`, in SPEC's order."""
BOOLEANS = ("stream", "estimated")

COUNTED = ("requests", "errors", "failovers", "loops", "estimated", "unpriced")
SUMMED = (*COUNTED, *TOKENS, "cost")
"""`cost` is None where nothing has a price."""
MEASURED = {"execution_time": "timed", "ttft": "begun"}
"""Times, and how many of them there are."""
MOST_DAYS = 36_500
RANKED = ("requests", "prompt_tokens", "completion_tokens", "total_tokens", "cost")
MOST_SESSIONS = 50
TABLES = {"usage": SHAPE, "usage_days": usage_sums.COLUMNS, "usage_summed": ("id",)}
CURSOR = re.compile(r"([0-9TZ:.-]{1,40})_([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Filters:
    """Rows to look at: each that is given (and not empty) has to be equal."""

    project: str | None = None
    backend: str | None = None
    model: str | None = None
    username: str | None = None
    session: str | None = None
    caller_name: str | None = None


ALL = Filters()


def recent(path: Path, limit: int = 100, filters: Filters = ALL, before: str | None = None) -> list[Row]:
    """Rows in the shape of SPEC 10, newest first; `before`: those that come after the row with this `cursor`.

    Raises ValueError where `before` is none."""
    sql, values = _newest(filters, before)
    with _reading(path) as connection:
        return [_shaped(row) for row in _select(connection, f"{sql} LIMIT :limit", values | {"limit": max(0, limit)})]


def every(path: Path, days: int, filters: Filters = ALL, now: datetime | None = None) -> Iterator[Row]:
    """The rows of the last `days` days, newest first, one after the other."""
    sql, values = _newest(filters, None, since=_first_day(days, now or datetime.now(UTC)))
    with _reading(path) as connection:
        yield from map(_shaped, _each(connection, sql, values))


def cursor(row: Row) -> str:
    """For `before`. It stays good when rows are added or deleted."""
    return f"{row['timestamp']}_{row['id']}"


def _newest(filters: Filters, before: str | None, since: date | None = None) -> tuple[str, Values]:
    where, values = _where(filters)
    if since is not None:
        where, values = f"{where} AND timestamp >= :since", values | {"since": since.isoformat()}
    if before is not None:
        found = CURSOR.fullmatch(before)
        if found is None:
            raise ValueError(before)
        where = f"{where} AND (timestamp, id) < (:timestamp, :id)"
        values = values | {"timestamp": found[1], "id": int(found[2])}
    return f"SELECT {', '.join(SHAPE)} FROM usage WHERE {where} ORDER BY timestamp DESC, id DESC", values


def _shaped(row: Row) -> Row:
    return row | {name: bool(row[name]) for name in BOOLEANS}


def today(path: Path, session: str, now: datetime | None = None) -> Row:
    """Totals of a session since midnight of `now`'s time zone (the local one by default)."""
    midnight = (now or datetime.now().astimezone()).replace(hour=0, minute=0, second=0, microsecond=0)
    sums = ", ".join(f"{usage_sums.SUMS[name]} AS {name}" for name in SUMMED)
    sql = f"SELECT {sums} FROM usage WHERE session = :session AND timestamp >= :since"
    with _reading(path) as connection:
        [found] = _select(connection, sql, {"session": session, "since": iso(midnight)})
    return found if found["requests"] else _nothing()


def stats(path: Path, days: int = 30, filters: Filters = ALL, now: datetime | None = None) -> Row:
    """The `data` of `/usage/stats` for the last `days` days, today's included."""
    now = now or datetime.now(UTC)
    days = max(0, min(days, MOST_DAYS))
    with _reading(path) as connection:
        sums = _Sums(connection, _first_day(days, now), filters)
        totals = sums.by("'all'", "name")
        by_model = sums.by("backend || ':' || model", "model")
        return {
            "period_stats": _period(totals[0] if totals else _nothing(), sums.times_of(None)),
            "model_rankings": {figure: _ranking(by_model, figure) for figure in RANKED},
            "by_day": _without_gaps(sums.by("date", "date", order="1"), now),
            "by_project": sums.by("nullif(project, '')", "project"),
            "days": days,
            "by_model": [row | sums.times_of(row["model"]) for row in by_model],
            "by_client": sums.by("nullif(caller_name, '')", "caller_name"),
            "by_user": sums.by("username", "username"),
            "by_session": sums.by_session(),
        }


class _Sums:
    """The lines of a period: those of the table, and in a table of this connection's own those that come behind it."""

    def __init__(self, connection: sqlite3.Connection, first: date, filters: Filters) -> None:
        self._connection = connection
        where, self._values = _where(filters)
        columns = ", ".join(usage_sums.COLUMNS)
        connection.execute(f"CREATE TEMP TABLE later ({columns})")
        marks = ", ".join("?" * len(usage_sums.COLUMNS))
        connection.executemany(f"INSERT INTO later VALUES ({marks})", usage_sums.unsummed(connection))
        connection.execute(f"CREATE TEMP TABLE dates AS {_DATES}", {"first": first.isoformat()})
        # The dates one by one lead SQLite straight to the lines of one session on each of them.
        self._lines = " UNION ALL ".join(
            f"SELECT * FROM {table} WHERE date IN (SELECT date FROM dates) AND {where} AND {{session}}"
            for table in ("usage_days", "later")
        )
        self._wanted = "1" if filters.session else f"session = '{ALL_SESSIONS}'"
        self._times = self._read_times()

    def by(self, what: str, name: str, *, order: str = "total_tokens DESC, 1") -> list[Row]:
        """Totals for each of what the expression says."""
        sql = f"SELECT {what} AS {name}, {_TOTALS} FROM ({self._of(self._wanted)}) GROUP BY 1 ORDER BY {order}"
        return _select(self._connection, sql, self._values)

    def by_session(self) -> list[Row]:
        """The largest ones."""
        lines = self._of(f"session > '{ALL_SESSIONS}'")
        sql = f"SELECT session, {_TOTALS} FROM ({lines}) GROUP BY 1 ORDER BY total_tokens DESC, 1 LIMIT {MOST_SESSIONS}"
        return _select(self._connection, sql, self._values)

    def times_of(self, model: str | None) -> Row:
        """Percentiles of a `backend:model`; None: of all."""
        return {
            f"p{percent}_{name}": usage_sums.percentile(self._times[model][f"{name}s"], percent)
            for name in MEASURED
            for percent in (50, 95)
        }

    def _of(self, session: str) -> str:
        return self._lines.format(session=session)

    def _read_times(self) -> Mapping[str | None, Mapping[str, int]]:
        times: defaultdict[str | None, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        sql = f"SELECT backend || ':' || model, {', '.join(usage_sums.TIMES)} FROM ({self._of(self._wanted)})"
        for model, *histograms in self._connection.execute(sql, self._values):
            for name, histogram in zip(usage_sums.TIMES, histograms, strict=True):
                times[model][name] += usage_sums.counts_of(histogram)
        for name in usage_sums.TIMES:
            times[None][name] = sum(each[name] for each in tuple(times.values()))
        return times


_TOTALS = ", ".join(f"sum({name}) AS {name}" for name in (*SUMMED, "priced", *MEASURED, *MEASURED.values()))
_DATES = """
    WITH RECURSIVE found(date) AS (
        SELECT min(date) FROM usage_days WHERE date >= :first
        UNION ALL SELECT (SELECT min(date) FROM usage_days WHERE date > found.date) FROM found WHERE date IS NOT NULL
    )
    SELECT date FROM found UNION SELECT date FROM later WHERE date >= :first
"""
"""Those there are, without reading every line."""


def _first_day(days: int, now: datetime) -> date:
    """Of a period of so many days, the last of which is now's; none is before the year 1."""
    if days <= 0:
        return date.max
    today = now.astimezone(UTC).date()
    return today - timedelta(days=min(days - 1, today.toordinal() - 1))


def _period(totals: Row, times: Row) -> Row:
    requests = totals["requests"]
    figures: Row = {name: totals[name] for name in COUNTED}
    figures |= {f"sum_{name}": totals[name] for name in (*TOKENS, "cost")}
    figures |= {f"avg_{name}": totals[name] / requests if requests else None for name in TOKENS}
    figures["avg_cost"] = totals["cost"] / totals["priced"] if totals["priced"] else None
    for name, counted in MEASURED.items():
        figures[f"sum_{name}"] = totals[name]
        figures[f"avg_{name}"] = totals[name] / totals[counted] if totals[counted] else None
    return figures | times


def _ranking(by_model: list[Row], figure: str) -> list[Row]:
    known = [{"model": row["model"], "value": row[figure]} for row in by_model if row[figure] is not None]
    return sorted(known, key=lambda entry: -entry["value"])


def _without_gaps(by_day: list[Row], now: datetime) -> list[Row]:
    """From the first day with rows to today, days without any included."""
    if not by_day:
        return []
    found = {row["date"]: row for row in by_day}
    first = date.fromisoformat(by_day[0]["date"])
    last = max(date.fromisoformat(by_day[-1]["date"]), now.astimezone(UTC).date())
    days = [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
    return [found.get(day) or {"date": day, **_nothing()} for day in days]


def _nothing() -> Row:
    sums = (*SUMMED, "priced", *MEASURED, *MEASURED.values())
    return {name: None if name == "cost" else 0 for name in sums}


def _where(filters: Filters) -> tuple[str, Values]:
    values: Values = {name: value for name, value in asdict(filters).items() if value}
    return " AND ".join(f"{name} = :{name}" for name in values) or "1", values


def _select(connection: sqlite3.Connection, sql: str, values: Values) -> list[Row]:
    return list(_each(connection, sql, values))


def _each(connection: sqlite3.Connection, sql: str, values: Values) -> Iterator[Row]:
    cursor = connection.execute(sql, values)
    names = [column[0] for column in cursor.description]
    return (dict(zip(names, row, strict=True)) for row in cursor)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """One consistent view of the file. Tables that are not there (yet) are empty."""
    where = f"{path.absolute().as_uri()}?mode=ro" if path.exists() else ":memory:"
    connection = sqlite3.connect(where, uri=True, isolation_level=None, timeout=2.0)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("BEGIN")
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        for name, columns in TABLES.items():
            if name not in there:
                connection.execute(f"CREATE TEMP TABLE {name} ({', '.join(columns)})")
        yield connection
    finally:
        connection.close()
