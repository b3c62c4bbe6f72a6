"""`/usage/*` and `/dashboard`: what the ledger holds, for people and their programs (SPEC 10)."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from mitmproxy import http

from llm_interactive import dashboard, usage_export, wire_json
from llm_interactive.errors import BadRequest, ProxyError
from llm_interactive.protocols.base import Json
from llm_interactive.storage import usage_queries
from llm_interactive.storage.usage_queries import Filters, Row

PATHS = ("/usage/stats", "/usage/recent", "/usage/users", "/usage/sessions", "/usage/export", "/usage/export.csv",
         "/usage/export.json", "/dashboard")  # fmt: skip
MOST_ROWS = 10_000
MOST_EXPORTED = 100_000

type Given = dict[str, str]
type Page = Callable[[Path, Given], http.Response]
"""Blocks. Raises `ProxyError` or sqlite3.Error."""


async def answer(path: str, query: str, database: Path) -> http.Response | None:
    """None where it is none of `PATHS`. Raises `ProxyError`."""
    if path == dashboard.PATH:
        return http.Response.make(200, dashboard.page(), dict(dashboard.HEADERS))
    page = PAGES.get(path)
    if page is None:
        return None
    try:
        return await asyncio.to_thread(page, database, dict(parse_qsl(query)))
    except sqlite3.Error as error:
        raise ProxyError(f"the usage database cannot be read: {error}", status=503) from None


def _stats(database: Path, given: Given) -> http.Response:
    return _json("usage_stats", usage_queries.stats(database, _days(given), _filters(given)))


def _recent(database: Path, given: Given) -> http.Response:
    limit = _whole(given, "limit", 100, MOST_ROWS)
    with _naming_before():
        rows = usage_queries.recent(database, limit, _filters(given), given.get("before"))
    return _json("usage_entries", rows, next=usage_queries.cursor(rows[-1]) if len(rows) == limit else None)


def _users(database: Path, given: Given) -> http.Response:
    rows = usage_queries.largest(database, "username", _days(given), _filters(given))
    return _json("usage_users", rows)


def _sessions(database: Path, given: Given) -> http.Response:
    rows = usage_queries.largest(database, "session", _days(given), _filters(given))
    return _json("usage_sessions", rows)


def _export(database: Path, given: Given) -> http.Response:
    """Rows as a file; where there are more of them, `Link` leads to the next one."""
    format = given.get("format", "csv")
    if format not in usage_export.FORMATS:
        raise BadRequest(f"format must be {' or '.join(usage_export.FORMATS)}, not {format[:50]!r}", param="format")
    limit = _whole(given, "limit", MOST_EXPORTED, MOST_EXPORTED)
    found = usage_queries.every(database, _days(given), _filters(given), before=given.get("before"))
    last: deque[Row] = deque(maxlen=1)
    with _naming_before():
        body = b"".join(usage_export.pieces(format, _noted(islice(found, limit), last), usage_queries.SHAPE))
    headers = {
        "content-type": usage_export.FORMATS[format],
        "content-disposition": f'attachment; filename="usage.{format}"',
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    if last and next(found, None) is not None:
        after = urlencode(given | {"format": format, "before": usage_queries.cursor(last[0])})
        headers["link"] = f'</usage/export?{after}>; rel="next"'
    return http.Response.make(200, body, headers)


def _noted(rows: Iterable[Row], last: deque[Row]) -> Iterator[Row]:
    """Each is the last one for a while."""
    for row in rows:
        last.append(row)
        yield row


def _export_as(format: str) -> Page:
    return lambda database, given: _export(database, given | {"format": format})


PAGES: dict[str, Page] = {
    "/usage/stats": _stats,
    "/usage/recent": _recent,
    "/usage/users": _users,
    "/usage/sessions": _sessions,
    "/usage/export": _export,
    "/usage/export.csv": _export_as("csv"),
    "/usage/export.json": _export_as("json"),
}


def _json(name: str, data: Json, **more: Json) -> http.Response:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return http.Response.make(200, wire_json.dumps({"object": name, "data": data, **more}), headers)


@contextmanager
def _naming_before() -> Iterator[None]:
    try:
        yield
    except usage_queries.NoCursor:
        raise BadRequest("before must be the `next` of an earlier answer", param="before") from None


def _filters(given: Given) -> Filters:
    return Filters(**{name: given[name] for name in usage_queries.FILTERS if given.get(name)})


def _days(given: Given) -> int:
    return _whole(given, "days", 30, usage_queries.MOST_DAYS)


def _whole(given: Given, name: str, default: int, most: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or not 1 <= int(text) <= most:
        raise BadRequest(f"{name} must be a whole number from 1 to {most}, not {text[:50]!r}", param=name)
    return int(text)
