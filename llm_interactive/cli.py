"""The command `llm-proxy`: `serve` (also when nothing is named), `usage`, `models`."""

import argparse
import json
import os
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm_interactive import settings as settings_module
from llm_interactive.settings import Settings, SettingsError
from llm_interactive.storage import usage_queries

PROGRAM = "llm-proxy"
DATABASE = "proxy.db"
PATIENCE = 15.0
"""Seconds to wait for the running proxy."""
WIDTH = 24
"""Characters of the longest bar."""


class Failed(Exception):
    """Says why, in one line."""


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("serve", [])
    commands = {"usage": _usage, "models": _models}
    if name not in commands:
        from llm_interactive.mitm.lean_master import serve  # mitmproxy takes its time to import

        return serve(rest if name == "serve" else arguments)
    try:
        commands[name](rest)
    except (Failed, SettingsError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


def _settings(config: str | None) -> Settings:
    return settings_module.load({"llm_config": config} if config else {}, os.environ, Path.cwd())


def _usage(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} usage", description="What was used, from the proxy's database.")
    parser.add_argument("--days", type=int, default=30, help="days to sum up (30)")
    parser.add_argument("--limit", type=int, default=10, help="newest calls to list (10)")
    parser.add_argument("--config", help="YAML file with settings (LLM_CONFIG)")
    for name in ("project", "backend", "model", "username", "session"):
        parser.add_argument(f"--{name}", help=f"only this {name}")
    given = parser.parse_args(list(arguments))
    path = _settings(given.config).home / DATABASE
    filters = usage_queries.Filters(given.project, given.backend, given.model, given.username, given.session)
    try:
        stats = usage_queries.stats(path, given.days, filters)
        rows = usage_queries.recent(path, given.limit, filters)
    except sqlite3.Error as error:
        raise Failed(f"{path} cannot be read: {error}") from None
    console = Console()
    if not rows:
        console.print(f"No usage in {path} yet.", highlight=False)
        return
    console.print(_totals(stats), _by_day(stats["by_day"]), _recent(rows))


def _totals(stats: dict[str, Any]) -> Table:
    sums = stats["period_stats"]
    table = Table(title=f"Last {stats['days']} days", title_justify="left", show_header=False)
    rows = (
        ("requests", f"{sums['requests']:,}, {sums['errors']:,} failed"),
        ("tokens in", f"{sums['sum_prompt_tokens']:,}, {sums['sum_cached_tokens']:,} cached"),
        ("tokens out", f"{sums['sum_completion_tokens']:,}, {sums['sum_reasoning_tokens']:,} reasoning"),
        ("cost", f"{_money(sums['sum_cost'])}, {sums['unpriced']:,} calls without a price"),
        ("time", f"{_seconds(sums['p50_execution_time'])} median, {_seconds(sums['p95_execution_time'])} p95"),
        ("first token", f"{_seconds(sums['p50_ttft'])} median, {_seconds(sums['p95_ttft'])} p95"),
    )
    for row in rows:
        table.add_row(*row)
    return table


def _by_day(days: list[dict[str, Any]]) -> Table:
    table = Table("day", "requests", "tokens", "cost", "", title="By day", title_justify="left")
    most = max((day["total_tokens"] for day in days), default=0)
    for day in days:
        bar = "█" * round(WIDTH * day["total_tokens"] / most) if most else ""
        table.add_row(day["date"], f"{day['requests']:,}", f"{day['total_tokens']:,}", _money(day["cost"]), bar)
    return table


def _recent(rows: list[dict[str, Any]]) -> Table:
    table = Table("time (UTC)", "backend:model", "status", "in", "out", "cost", title="Newest", title_justify="left")
    for row in rows:
        status = str(row["status"] or row["error"] or "")
        cost = _money(row["cost"])
        model = f"{row['backend']}:{row['model']}"
        tokens = [f"{row['prompt_tokens']:,}", f"{row['completion_tokens']:,}"]
        table.add_row(row["timestamp"][:19].replace("T", " "), escape(model), escape(status), *tokens, cost)
    return table


def _money(cost: float | None) -> str:
    return "-" if cost is None else f"${cost:,.4f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _models(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} models", description="The models of the running proxy.")
    parser.add_argument("--host", help="where it listens (PROXY_HOST)")
    parser.add_argument("--port", type=int, help="where it listens (PROXY_PORT)")
    parser.add_argument("--config", help="YAML file with settings (LLM_CONFIG)")
    given = parser.parse_args(list(arguments))
    settings = _settings(given.config)
    host = given.host or settings.proxy_host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    for model in _ask(f"[{host}]" if ":" in host else host, given.port or settings.proxy_port, settings):
        print(model)


def _ask(host: str, port: int, settings: Settings) -> list[str]:
    url = f"http://{host}:{port}/v1/models"
    key = settings.client_keys[0].get_secret_value() if settings.client_keys else ""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE) as response:
            return [str(model["id"]) for model in json.load(response)["data"]]
    except urllib.error.HTTPError as error:
        with error:
            raise Failed(f"{url} answered {error.code} {error.reason}") from None
    except (OSError, ValueError, KeyError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Failed(f"no proxy answers at {url}: {reason}") from None
