"""The command `llm-proxy`: `serve` (also when nothing is named), `usage`, `models`, `env`, `ca`, `check`."""

import argparse
import json
import os
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from llm_interactive import certificate_authority, diagnosis, environment, usage_report
from llm_interactive import settings as settings_module
from llm_interactive.certificate_authority import Authority
from llm_interactive.settings import Settings, SettingsError

PROGRAM = "llm-proxy"
DATABASE = "proxy.db"
SELF = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen on -> how this machine reaches them."""
PATIENCE = 15.0
"""Seconds to wait for the running proxy."""


class Failed(Exception):
    """Says why, in one line."""


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("serve", [])
    commands = {"usage": _usage, "models": _models, "env": _env, "ca": _ca, "check": _check}
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
    host = SELF.get(host, host)
    for model in _ask(f"[{host}]" if ":" in host else host, given.port or settings.proxy_port, settings):
        print(model)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} {name}", description=description)
    parser.add_argument("--host", help="where the proxy listens (PROXY_HOST)")
    parser.add_argument("--port", type=int, help="where the proxy listens (PROXY_PORT)")
    parser.add_argument("--config", help="YAML file with settings (LLM_CONFIG)")
    parser.add_argument("--confdir", default=certificate_authority.CONFDIR, help="mitmproxy's folder (%(default)s)")
    return parser


def _env(arguments: Sequence[str]) -> None:
    parser = _parser("env", 'What to set in a shell so that programs use the proxy: eval "$(llm-proxy env)"')
    parser.add_argument("program", nargs="?", choices=environment.PROGRAMS, help="only for this one")
    parser.add_argument("--base-url", action="store_true", help="as the base URL of SDKs, with the proxy's own keys")
    given = parser.parse_args(list(arguments))
    settings, authority = _settings(given.config), Authority.of(Path(given.confdir).expanduser())
    host = SELF.get(given.host or settings.proxy_host, given.host or settings.proxy_host)
    bundle = settings.home / certificate_authority.BUNDLE
    has_key = bool(settings.client_keys) and not settings.disable_auth
    port = given.port or settings.proxy_port
    place = environment.Place(host, port, str(authority.certificate), str(bundle), has_key)
    if given.base_url:
        print("\n".join(environment.as_base_url(given.program, place)))
        return
    if not authority.exists:
        raise Failed(f"there is no {authority.certificate} yet: start the proxy once, which makes it")
    try:
        certificate_authority.write_bundle(authority, settings.home, os.environ)
    except OSError as error:
        raise Failed(f"{bundle} cannot be written: {error.strerror}") from None
    print("\n".join(environment.as_proxy(given.program, place)))


def _ca(arguments: Sequence[str]) -> None:
    parser = _parser("ca", "Where the certificate authority is, and how programs come to trust it.")
    parser.add_argument("--path", action="store_true", help="print the certificate's path only")
    given = parser.parse_args(list(arguments))
    authority = Authority.of(Path(given.confdir).expanduser())
    try:
        print(authority.certificate if given.path else certificate_authority.explained(authority).rstrip("\n"))
    except (OSError, ValueError) as error:
        raise Failed(f"{authority.certificate} is no certificate: {error}") from None


MARKS = {"ok": "[green]ok   [/]", "note": "[yellow]note [/]", "wrong": "[red]wrong[/]"}


def _check(arguments: Sequence[str]) -> None:
    parser = _parser("check", "What works, what does not, and how to mend it. Sends no request to any provider.")
    parser.add_argument("--online", action="store_true", help="connect to the providers' hosts too")
    given = parser.parse_args(list(arguments))
    settings, authority = _settings(given.config), Authority.of(Path(given.confdir).expanduser())
    host, port = given.host or settings.proxy_host, given.port or settings.proxy_port
    found = list(diagnosis.findings(settings, authority, settings.home / DATABASE, host, port))
    found += diagnosis.reachable(settings) if given.online else []
    console = Console(highlight=False, soft_wrap=True)
    for each in found:
        console.print(MARKS[each.state], escape(each.what) + (f"\n      -> {escape(each.mend)}" if each.mend else ""))
    wrong = sum(each.state == "wrong" for each in found)
    if wrong:
        raise Failed(f"{wrong} thing{'s' * (wrong != 1)} to mend")


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
