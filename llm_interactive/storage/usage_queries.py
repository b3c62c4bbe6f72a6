"""What the usage table says: the rows and figures of `/usage/recent`, `/usage/stats` and `!/status` (SPEC 10).

Each function opens the file read-only and closes it again, so it may run in any thread (and should not run on the event
loop). No file or no table yet is no usage; a locked or damaged file raises sqlite3.Error.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from llm_interactive.storage.ledger import iso

type Row = dict[str, Any]

SHAPE = ("id", "request_id", "timestamp", "session", "username", "project", "caller_name", "frontend", "backend",
         "requested_model", "model", "key", "stream", "status", "error", "prompt_tokens", "cached_tokens",
         "cache_write_tokens", "completion_tokens", "reasoning_tokens", "total_tokens", "estimated", "cost", "ttft",
         "execution_time", "end_reason", "notes")  # fmt: skip
"""A row of `/usage/recent`, in SPEC's order."""
BOOLEANS = ("stream", "estimated")

TOKENS = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens",
          "total_tokens")  # fmt: skip
TOTALS = ", ".join(
    [
        "count(*) AS requests",
        "count(*) FILTER (WHERE error IS NOT NULL OR status >= 400) AS errors",
        *(f"coalesce(sum({name}), 0) AS {name}" for name in TOKENS),
        "sum(cost) AS cost",
        "count(*) FILTER (WHERE cost IS NULL) AS unpriced",
    ]
)
"""`cost` is None where no row has one; `unpriced` rows are not in it."""
ANSWERED = "error IS NULL AND coalesce(status, 200) < 400"
"""Times are those of replies: a refusal within milliseconds would make a slow provider look fast."""
MEASURED = ("execution_time", "ttft")
MOST_DAYS = 36_500
RANKED = ("requests", "prompt_tokens", "completion_tokens", "total_tokens", "cost")


@dataclass(frozen=True, slots=True)
class Filters:
    """Rows to look at: each that is given (and not empty) has to be equal."""

    project: str | None = None
    backend: str | None = None
    model: str | None = None
    username: str | None = None
    session: str | None = None


ALL = Filters()


def recent(path: Path, limit: int = 100, filters: Filters = ALL) -> list[Row]:
    """Rows in the shape of SPEC 10, newest first."""
    where, values = _where(filters)
    rows = _rows(path, f"SELECT {', '.join(SHAPE)} FROM usage WHERE {where} ORDER BY timestamp DESC, id DESC LIMIT ?",
                 (*values, max(0, limit)))  # fmt: skip
    return [row | {name: bool(row[name]) for name in BOOLEANS} for row in rows]


def today(path: Path, session: str, now: datetime | None = None) -> Row:
    """Totals of a session since midnight of `now`'s time zone (the local one by default)."""
    midnight = (now or datetime.now().astimezone()).replace(hour=0, minute=0, second=0, microsecond=0)
    where, values = _where(Filters(session=session), since=midnight)
    found = _rows(path, f"SELECT {TOTALS} FROM usage WHERE {where}", values)
    return found[0] if found else _nothing()


def stats(path: Path, days: int = 30, filters: Filters = ALL, now: datetime | None = None) -> Row:
    """The `data` of `/usage/stats` for the `days` times 24 hours before `now`; days are those of UTC."""
    now = now or datetime.now(UTC)
    days = max(0, min(days, MOST_DAYS))
    where, values = _where(filters, since=now - timedelta(days=days))
    with _reading(path) as connection:
        if connection is None:
            totals, by_day, by_model, by_project = [_nothing()], [], [], []
            times: dict[str, list[float]] = {name: [] for name in MEASURED}
        else:

            def totals_by(what: str, order: str) -> list[Row]:
                return _select(connection, f"SELECT {what}{TOTALS} FROM usage WHERE {where} {order}", values)

            totals = totals_by("", "")
            by_day = totals_by("substr(timestamp, 1, 10) AS date, ", "GROUP BY 1 ORDER BY 1")
            by_model = totals_by("backend || ':' || model AS model, ", "GROUP BY 1 ORDER BY 1")
            by_project = totals_by("project, ", "GROUP BY 1 ORDER BY total_tokens DESC, 1")
            times = {name: _sorted(connection, name, where, values) for name in MEASURED}
    return {
        "period_stats": _period(totals[0], times),
        "model_rankings": {figure: _ranking(by_model, figure) for figure in RANKED},
        "by_day": _without_gaps(by_day, now),
        "by_project": by_project,
        "days": days,
    }


def _period(totals: Row, times: dict[str, list[float]]) -> Row:
    requests = totals["requests"]
    priced = requests - totals["unpriced"]
    figures: Row = {name: totals[name] for name in ("requests", "errors", "unpriced")}
    figures |= {f"sum_{name}": totals[name] for name in (*TOKENS, "cost")}
    figures |= {f"avg_{name}": totals[name] / requests if requests else None for name in TOKENS}
    figures["avg_cost"] = totals["cost"] / priced if priced else None
    for name, values in times.items():
        figures[f"sum_{name}"] = sum(values)
        figures[f"avg_{name}"] = sum(values) / len(values) if values else None
        figures[f"p50_{name}"] = _percentile(values, 50)
        figures[f"p95_{name}"] = _percentile(values, 95)
    return figures


def _percentile(ascending: list[float], percent: int) -> float | None:
    """Nearest rank: a value that occurred."""
    return ascending[-(-len(ascending) * percent // 100) - 1] if ascending else None


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
    return {"requests": 0, "errors": 0, **dict.fromkeys(TOKENS, 0), "cost": None, "unpriced": 0}


def _where(filters: Filters, since: datetime | None = None) -> tuple[str, tuple[str, ...]]:
    wanted = {f"{name} = ?": value for name, value in asdict(filters).items() if value}
    if since is not None:
        wanted["timestamp >= ?"] = iso(since)
    return " AND ".join(wanted) or "1", tuple(wanted.values())


def _rows(path: Path, sql: str, values: tuple[str | int, ...]) -> list[Row]:
    with _reading(path) as connection:
        return [] if connection is None else _select(connection, sql, values)


def _select(connection: sqlite3.Connection, sql: str, values: tuple[str | int, ...]) -> list[Row]:
    cursor = connection.execute(sql, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _sorted(connection: sqlite3.Connection, name: str, where: str, values: tuple[str, ...]) -> list[float]:
    sql = f"SELECT {name} FROM usage WHERE {where} AND {ANSWERED} AND {name} IS NOT NULL ORDER BY 1"
    return [value for (value,) in connection.execute(sql, values)]


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """One consistent view of the file; None where there is no table yet."""
    if not path.exists():
        yield None
        return
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=2.0)
    try:
        connection.execute("BEGIN")
        exists = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'usage'").fetchone()
        yield connection if exists else None
    finally:
        connection.close()
