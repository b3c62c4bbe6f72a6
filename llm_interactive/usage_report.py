"""`llm-proxy usage`: what was used as tables and bars in the terminal, live with `--watch`, or as a file."""

import argparse
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from llm_interactive import usage_export
from llm_interactive.storage import usage_queries
from llm_interactive.storage.usage_queries import Filters, Row

BAR = 24
"""Characters of the longest bar."""
EIGHTHS = " ▏▎▍▌▋▊▉"
MOST_LINES = 12
WATCH_EVERY = 2.0
"""Seconds."""
EVERYTHING = usage_queries.MOST_DAYS


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=30, help="days to sum up, today included (30)")
    parser.add_argument("--limit", type=int, default=10, help="newest calls to list (10)")
    for name in usage_queries.FILTERS:
        parser.add_argument(f"--{name.replace('_', '-')}", help=f"only this {name.replace('_', ' ')}")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--watch", action="store_true", help="keep it up to date until Ctrl-C")
    for format in usage_export.FORMATS:
        kind.add_argument(f"--{format}", action="store_true", help=f"the rows of these days as {format.upper()}")


def show(path: Path, given: argparse.Namespace) -> None:
    """Raises sqlite3.Error."""
    filters = Filters(**{name: getattr(given, name) for name in usage_queries.FILTERS})
    format = next((each for each in usage_export.FORMATS if getattr(given, each)), None)
    if format is not None:
        _export(path, given.days, filters, format)
    elif given.watch:
        _watch(path, given.days, given.limit, filters)
    else:
        console = Console()
        console.print(report(path, given.days, given.limit, filters), highlight=False)


def _export(path: Path, days: int, filters: Filters, format: str) -> None:
    rows = usage_queries.every(path, days, filters)
    with suppress(BrokenPipeError):  # as of `| head`
        for piece in usage_export.pieces(format, rows, usage_queries.SHAPE):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _watch(path: Path, days: int, limit: int, filters: Filters) -> None:
    """What cannot be read for a moment (the file is locked) leaves what was shown."""
    with suppress(KeyboardInterrupt), Live(report(path, days, limit, filters), screen=True) as live:
        while True:
            time.sleep(WATCH_EVERY)
            with suppress(sqlite3.Error):
                live.update(report(path, days, limit, filters), refresh=True)


def report(path: Path, days: int, limit: int, filters: Filters) -> RenderableType:
    stats = usage_queries.stats(path, days, filters)
    rows = usage_queries.recent(path, limit, filters)
    if not rows:
        return f"No usage in {escape(str(path))} yet."
    tables: list[RenderableType] = [
        _totals(stats),
        _bars("By day (UTC)", "date", stats["by_day"][-MOST_LINES:]),
        _bars("By model", "model", stats["by_model"][:MOST_LINES]),
        _bars("By project", "project", stats["by_project"][:MOST_LINES]),
        _bars("By client", "caller_name", stats["by_client"][:MOST_LINES]),
        _recent(rows),
    ]
    return Group(*tables)


def cost_line(path: Path, days: int) -> str:
    """One line for mitmproxy's command `llm.cost`."""
    sums = usage_queries.stats(path, days)["period_stats"]
    unknown = f", and {sums['unpriced']:,} calls of unknown cost" if sums["unpriced"] else ""
    period = "today" if days == 1 else f"in {days} days"
    tokens = f"{sums['sum_prompt_tokens']:,} tokens in, {sums['sum_completion_tokens']:,} out"
    return f"{money(sums['sum_cost'])}{unknown} {period}: {sums['requests']:,} calls, {tokens}"


def lines(path: Path, days: int) -> list[list[str]]:
    """Of mitmproxy's command `llm.usage`: what each model used."""
    head = ["model", "calls", "failed", "tokens in", "cached", "tokens out", "cost", "first token", "95 %"]
    rows = usage_queries.stats(path, days)["by_model"]
    return [head, *([row["model"], *_figures(row), seconds(row["p50_ttft"]), seconds(row["p95_ttft"])] for row in rows)]


def _figures(row: Row) -> list[str]:
    counts = (row["requests"], row["errors"], row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"])
    return [*(f"{count:,}" for count in counts), money(row["cost"])]


def _totals(stats: dict[str, Any]) -> Table:
    sums = stats["period_stats"]
    table = Table(title=f"Last {stats['days']} days", title_justify="left", show_header=False)
    rows = (
        ("requests", f"{sums['requests']:,}, {sums['errors']:,} failed"),
        ("tokens in", f"{sums['sum_prompt_tokens']:,}, {sums['sum_cached_tokens']:,} cached"),
        ("tokens out", f"{sums['sum_completion_tokens']:,}, {sums['sum_reasoning_tokens']:,} reasoning"),
        ("cost", f"{money(sums['sum_cost'])}, {sums['unpriced']:,} calls without a price"),
        ("time", f"{seconds(sums['p50_execution_time'])} median, {seconds(sums['p95_execution_time'])} p95"),
        ("first token", f"{seconds(sums['p50_ttft'])} median, {seconds(sums['p95_ttft'])} p95"),
        ("stopped", f"{sums['loops']:,} loops, {sums['failovers']:,} failovers"),
    )
    for row in rows:
        table.add_row(*row)
    return table


def _bars(title: str, name: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(title.removeprefix("By ").removesuffix(" (UTC)"), overflow="fold")
    for column in ("requests", "tokens", "cost"):
        table.add_column(column, justify="right")
    table.add_column("", min_width=BAR, no_wrap=True, style="cyan")
    most = max((row["total_tokens"] for row in rows), default=0)
    for row in rows:
        figures = f"{row['requests']:,}", f"{row['total_tokens']:,}", money(row["cost"])
        table.add_row(escape(row[name] or "-"), *figures, bar(row["total_tokens"], most))
    return table


def bar(value: int, most: int) -> str:
    """In eighths of a character; whatever is not 0 can be seen."""
    if not most or not value:
        return ""
    eighths = max(1, round(BAR * 8 * value / most))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def _recent(rows: Sequence[Row]) -> Table:
    table = Table(title="Newest", title_justify="left")
    table.add_column("time (UTC)", no_wrap=True)
    for column in ("backend:model", "end"):
        table.add_column(column, overflow="fold")
    for column in ("in", "out", "cost", "first", "time"):
        table.add_column(column, justify="right")
    for row in rows:
        end = f"{row['end_reason'] or ''} {row['status'] or ''}".strip()
        mark = "~" if row["estimated"] else ""
        tokens = [f"{mark}{row['prompt_tokens']:,}", f"{mark}{row['completion_tokens']:,}"]
        times = [seconds(row["ttft"]), seconds(row["execution_time"])]
        when = row["timestamp"][5:19].replace("T", " ")
        table.add_row(
            when, escape(f"{row['backend']}:{row['model']}"), escape(end), *tokens, money(row["cost"]), *times
        )
    return table


def money(cost: float | None) -> str:
    return "-" if cost is None else f"${cost:,.4f}"


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
