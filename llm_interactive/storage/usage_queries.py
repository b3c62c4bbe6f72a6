"""What the usage table says: the rows and figures of `/usage/recent`, `/usage/stats` and `!/status` (SPEC 10).

Each function opens the file read-only and closes it again, so it may run in any thread (and should not run on the event
loop). No file or no table yet is no usage; a locked or damaged file raises sqlite3.Error. Days are those of UTC.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from llm_interactive.storage import usage_sums
from llm_interactive.storage.ledger import iso
from llm_interactive.storage.usage_sums import EVERYBODY, TOKENS

type Row = dict[str, Any]
type Values = dict[str, str | int]

SHAPE = ("id", "request_id", "timestamp", "session", "username", "project", "caller_name", "frontend", "backend",
         "requested_model", "model", "key", "stream", "status", "error", "prompt_tokens", "cached_tokens",
         "cache_write_tokens", "completion_tokens", "reasoning_tokens", "total_tokens", "estimated", "cost", "ttft",
         "execution_time", "end_reason", "notes", "flow_id")  # fmt: skip
"""A row of `/usage/recent`, in SPEC's order; `flow_id` is beyond it."""
BOOLEANS = ("stream", "estimated")

COUNTED = ("requests", "errors", "failovers", "loops", "estimated", "unpriced")
SUMMED = (*COUNTED, *TOKENS, "cost")
"""`cost` is None where nothing has a price."""
MEASURED = {"execution_time": "timed", "ttft": "begun"}
"""Times, and how many of them there are."""
MOST_DAYS = 36_500
RANKED = ("requests", "prompt_tokens", "completion_tokens", "total_tokens", "cost")
MOST_NAMES = 50
MOST_LINES = 50_000
"""Of sums, read for a list of names that may have no end."""
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
FILTERS = tuple(field.name for field in fields(Filters))


class NoCursor(ValueError):
    """Not what `cursor` gave."""


def recent(path: Path, limit: int = 100, filters: Filters = ALL, before: str | None = None) -> list[Row]:
    """Rows in the shape of SPEC 10, newest first; `before`: those that come after the row with this `cursor`.

    Raises `NoCursor` where `before` is none."""
    sql, values = _newest(filters, before)
    with _reading(path) as connection:
        return [_shaped(row) for row in _select(connection, f"{sql} LIMIT :limit", values | {"limit": max(0, limit)})]


def every(
    path: Path, days: int, filters: Filters = ALL, now: datetime | None = None, before: str | None = None
) -> Iterator[Row]:
    """The rows of the last `days` days, newest first, one after the other; `before` as for `recent`."""
    sql, values = _newest(filters, before, since=_first_day(days, now or datetime.now(UTC)))
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
            raise NoCursor(before)
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
    return {name: value if value is not None or name == "cost" else 0 for name, value in found.items()}


def stats(path: Path, days: int = 30, filters: Filters = ALL, now: datetime | None = None) -> Row:
    """The `data` of `/usage/stats` for the last `days` days, today's included."""
    now = now or datetime.now(UTC)
    days = max(0, min(days, MOST_DAYS))
    by_day, by_model, by_project, by_client = _Totals(), _Totals(), _Totals(), _Totals()
    with _reading(path) as connection:
        for (day, model, project, client), sums in _lines(connection, BROKEN_DOWN, _first_day(days, now), filters):
            by_model.add(model, sums)
            plain = sums[: -len(usage_sums.TIMES)]
            by_day.add(day, plain)
            by_project.add(project, plain)
            by_client.add(client, plain)
    models = by_model.rows("model")
    return {
        "period_stats": _period(by_model.together()),
        "model_rankings": {figure: _ranking(models, figure) for figure in RANKED},
        "by_day": _without_gaps(by_day.rows("date"), now),
        "by_project": _largest_first(by_project.rows("project")),
        "days": days,
        "by_model": _largest_first(models),
        "by_client": _largest_first(by_client.rows("caller_name")),
    }


def largest(path: Path, name: str, days: int = 30, filters: Filters = ALL, now: datetime | None = None) -> list[Row]:
    """The users or sessions (`name` is "username" or "session") with the most tokens; where there are too many of them
    to look at, among those of late."""
    where, values = _wanted((name,), filters)
    lines, sums = ", ".join((name, *PLAIN)), ", ".join(f"sum({each})" for each in PLAIN)
    summed = f"SELECT {lines} FROM usage_days WHERE {where} ORDER BY date DESC LIMIT {MOST_LINES}"
    found = f"SELECT {lines} FROM later WHERE {where} UNION ALL SELECT * FROM ({summed})"
    sql = f"SELECT {name}, {sums} FROM ({found}) GROUP BY {name}"
    with _reading(path) as connection:
        _prepare(connection, _first_day(days, now or datetime.now(UTC)))
        rows = [{name: who} | _row(sums) for who, *sums in connection.execute(sql, values)]
    return _largest_first(rows)[:MOST_NAMES]


class _Totals:
    """Sums by name; a line is the values of `ADDED` in their order, with the times or without."""

    def __init__(self) -> None:
        self._sums: dict[str | None, list[Any]] = {}

    def add(self, name: str | None, line: list[Any]) -> None:
        known = self._sums.get(name)
        self._sums[name] = line if known is None else list(map(add, known, line))

    def rows(self, name: str) -> list[Row]:
        return [{name: value} | _row(sums) for value, sums in self._sums.items()]

    def together(self) -> Row:
        return _row(reduce(lambda one, other: list(map(add, one, other)), self._sums.values(), _NOTHING))


BROKEN_DOWN = ("date", "backend || ':' || model", "nullif(project, '')", "nullif(caller_name, '')")
PLAIN = (*SUMMED, "priced", *MEASURED, *MEASURED.values())
ADDED = (*PLAIN, *usage_sums.TIMES)
_NOTHING: list[Any] = [0] * len(ADDED)


def _row(sums: list[Any]) -> Row:
    row = dict(zip(ADDED, sums, strict=False))
    row["cost"] = row["cost"] if row["priced"] else None
    for name in MEASURED:
        if (counts := row.pop(f"{name}s", None)) is not None:
            row |= {f"p{percent}_{name}": usage_sums.percentile(counts, percent) for percent in (50, 95)}
    return row


def _lines(
    connection: sqlite3.Connection, what: Sequence[str], first: date, filters: Filters
) -> Iterator[tuple[tuple[Any, ...], list[Any]]]:
    """What these expressions say, and the values of `ADDED`, for each wanted line: in a table of this connection's own
    those that are not in the sums yet, then those that are, newest first."""
    _prepare(connection, first)
    where, values = _wanted(what, filters)
    sums = (name if name != "cost" else "coalesce(cost, 0)" for name in ADDED)
    columns = ", ".join((*what, *sums))
    for table in ("later", "usage_days"):
        for line in connection.execute(f"SELECT {columns} FROM {table} WHERE {where} ORDER BY date DESC", values):
            yield line[: len(what)], [*line[len(what) : -2], usage_sums.read(line[-2]), usage_sums.read(line[-1])]


def _prepare(connection: sqlite3.Connection, first: date) -> None:
    """Makes the tables `later` and `dates`, for this connection alone."""
    later = usage_sums.unsummed(connection)
    connection.execute(f"CREATE TEMP TABLE later ({', '.join(usage_sums.COLUMNS)})")
    connection.executemany(f"INSERT INTO later VALUES ({', '.join('?' * len(usage_sums.COLUMNS))})", later)
    connection.execute(f"CREATE TEMP TABLE dates AS {_DATES}", {"first": first.isoformat()})


def _wanted(what: Sequence[str], filters: Filters) -> tuple[str, Values]:
    """Lines of the prepared dates. The dates one by one lead SQLite straight to those of each of them."""
    where, values = _where(filters)
    return " AND ".join(("date IN (SELECT date FROM dates)", where, *_whose(what, filters))), values


def _whose(what: Sequence[str], filters: Filters) -> Iterator[str]:
    """Which of the three kinds of lines (usage_sums.py) count every call once."""
    by_session = bool(filters.session) or "session" in what
    by_user = by_session or bool(filters.username) or "username" in what
    yield f"session {'>' if by_session else '='} '{EVERYBODY}'"
    yield f"username {'>' if by_user else '='} '{EVERYBODY}'"


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


def _period(totals: Row) -> Row:
    requests = totals["requests"]
    figures: Row = {name: totals[name] for name in COUNTED}
    figures |= {f"sum_{name}": totals[name] for name in (*TOKENS, "cost")}
    figures |= {f"avg_{name}": totals[name] / requests if requests else None for name in TOKENS}
    figures["avg_cost"] = totals["cost"] / totals["priced"] if totals["priced"] else None
    for name, number in MEASURED.items():
        figures[f"sum_{name}"] = totals[name]
        figures[f"avg_{name}"] = totals[name] / totals[number] if totals[number] else None
        figures |= {key: totals[key] for key in (f"p50_{name}", f"p95_{name}")}
    return figures


def _ranking(by_model: list[Row], figure: str) -> list[Row]:
    known = [{"model": row["model"], "value": row[figure]} for row in by_model if row[figure] is not None]
    return sorted(known, key=lambda entry: (-entry["value"], entry["model"]))


def _largest_first(rows: list[Row]) -> list[Row]:
    """By the first column where they are equal, so that the order is always the same."""
    return sorted(rows, key=lambda row: (-row["total_tokens"], str(next(iter(row.values())) or "")))


def _without_gaps(by_day: list[Row], now: datetime) -> list[Row]:
    """From the first day with rows to today, days without any included."""
    if not by_day:
        return []
    found = {row["date"]: row for row in by_day}
    first = date.fromisoformat(min(found))
    last = max(date.fromisoformat(max(found)), now.astimezone(UTC).date())
    days = [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
    return [found.get(day) or {"date": day, **_row(_NOTHING[: -len(usage_sums.TIMES)])} for day in days]


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
    """One consistent view of the file. Tables and columns that are not there (yet) are empty."""
    where = f"{path.absolute().as_uri()}?mode=ro" if path.exists() else ":memory:"
    connection = sqlite3.connect(where, uri=True, isolation_level=None, timeout=2.0)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("BEGIN")
        for name, columns in TABLES.items():
            there = {column for _, column, *_ in connection.execute(f"PRAGMA table_info({name})")}
            missing = ", ".join(f"NULL AS {column}" for column in columns if column not in there)
            if not there:
                connection.execute(f"CREATE TEMP TABLE {name} ({', '.join(columns)})")
            elif missing:  # an older version's
                connection.execute(f"CREATE TEMP VIEW {name} AS SELECT *, {missing} FROM main.{name}")
        yield connection
    finally:
        connection.close()
