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

from llm_interactive import settings as settings_module
from llm_interactive import usage_report
from llm_interactive.settings import Settings, SettingsError

PROGRAM = "llm-proxy"
DATABASE = "proxy.db"
PATIENCE = 15.0
"""Seconds to wait for the running proxy."""


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
    parser.add_argument("--config", help="YAML file with settings (LLM_CONFIG)")
    usage_report.add_options(parser)
    given = parser.parse_args(list(arguments))
    path = _settings(given.config).home / DATABASE
    try:
        usage_report.show(path, given)
    except sqlite3.Error as error:
        raise Failed(f"{path} cannot be read: {error}") from None


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
