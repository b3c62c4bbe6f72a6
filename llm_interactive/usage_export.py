"""Usage rows as files: CSV for spreadsheets and JSON, a piece at a time."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from llm_interactive import wire_json

FORMATS = {"csv": "text/csv; charset=utf-8; header=present", "json": "application/json"}
PIECE = 500
"""Rows."""
STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def pieces(format: str, rows: Iterable[dict[str, Any]], columns: Iterable[str]) -> Iterator[bytes]:
    """The file, of at least one piece; JSON as in `/usage/recent`."""
    return _csv(rows, columns) if format == "csv" else _json(rows)


def _csv(rows: Iterable[dict[str, Any]], columns: Iterable[str]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for number, row in enumerate(rows, 1):
        writer.writerow(map(_cell, row.values()))
        if number % PIECE == 0:
            yield _taken(text)
    yield _taken(text)


def _cell(value: Any) -> Any:
    """Names and errors come from clients and providers: a spreadsheet must not run them as formulas."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case str() if value.startswith(STARTS_FORMULA):
            return f"'{value}"
    return value


def _taken(text: io.StringIO) -> bytes:
    data = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return data


def _json(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    yield b'{"object":"usage_entries","data":['
    for number, row in enumerate(rows):
        yield (b",\n" if number else b"\n") + wire_json.dumps(row)
    yield b"\n]}\n"
