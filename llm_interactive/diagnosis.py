"""What works, what does not, and how to mend it: `llm-proxy check`. Changes nothing and shows no key."""

import contextlib
import http.client
import os
import socket
import sqlite3
import ssl
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from llm_interactive.access import is_loopback
from llm_interactive.backends import catalog
from llm_interactive.backends.providers import DEMO
from llm_interactive.certificate_authority import Authority
from llm_interactive.settings import Settings

type State = Literal["ok", "note", "wrong"]

PATIENCE = 5.0
"""Seconds for a connection."""
SOON = timedelta(days=14)
TESTED = "12.2"
"""The mitmproxy whose inner parts are used."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is how it is; `mend` what to do about it."""

    state: State
    what: str
    mend: str = ""


def findings(settings: Settings, authority: Authority, database: Path, host: str, port: int) -> Iterator[Finding]:
    yield _mitmproxy()
    yield _listening(host, port)
    yield from _open_door(settings, host)
    yield from _backends(settings)
    yield from _authority(authority)
    yield _database(database)


def _mitmproxy() -> Finding:
    version = metadata.version("mitmproxy")
    if version == TESTED or version.startswith(f"{TESTED}."):
        return Finding("ok", f"mitmproxy {version}")
    return Finding("note", f"mitmproxy {version} is not the {TESTED} that this was tried with", "scripts/setup")


def _listening(host: str, port: int) -> Finding:
    where = f"{host}:{port}"
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=PATIENCE)
    try:
        connection.request("GET", "/health")
        reply = connection.getresponse()
        body = reply.read(10_000)
        is_ours = b'"version"' in body or b"LLM_INTERACTIVE_PROXY_API_KEY" in body
    except ConnectionRefusedError:
        return _free(host, port)
    except (OSError, http.client.HTTPException):
        is_ours = False
    finally:
        connection.close()
    if is_ours:
        return Finding("ok", f"the proxy answers on {where}")
    return Finding("wrong", f"another program listens on {where}", "choose another port: --port or PROXY_PORT")


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def _free(host: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding(
                "wrong", f"{host}:{port} cannot be listened on: {error.strerror}", "--host and --port choose"
            )
    return Finding("note", f"{host}:{port} is free, the proxy is not running", "start it: scripts/run")


def _open_door(settings: Settings, host: str) -> Iterator[Finding]:
    keys = settings.client_keys and not settings.disable_auth
    if keys:
        yield Finding("ok", f"clients must show one of {len(settings.client_keys)} keys")
    elif is_loopback(host):
        yield Finding("ok", "no client key is set: only programs on this machine may connect")
    else:
        yield Finding(
            "wrong", f"{host} is open to others, who are all refused without a key", "set LLM_INTERACTIVE_PROXY_API_KEY"
        )


def _backends(settings: Settings) -> Iterator[Finding]:
    configured = catalog.configured(settings)
    for name, each in configured.items():
        keys = f"{len(each.keys)} key{'s' * (len(each.keys) != 1)}" if each.keys else "no key needed"
        hosts = dict.fromkeys(urlsplit(url).netloc for url in each.protocols.values())
        yield Finding("ok", f"backend {name}: {keys}, {', '.join(hosts)}")
    if not configured:
        yield Finding("note", "no backend has a key: there is only demo", "set OPENAI_API_KEY or another's, as in .env")
    if settings.backend is not None and settings.backend not in (*configured, DEMO):
        yield Finding("wrong", f"LLM_BACKEND is {settings.backend}, which has no key", "give it one, or unset it")


def _authority(authority: Authority) -> Iterator[Finding]:
    path = authority.certificate
    if not authority.exists:
        yield Finding("note", f"no certificate authority yet at {path}", "the first start makes it")
        return
    try:
        left = authority.valid_until() - datetime.now(UTC)
    except (OSError, ValueError) as error:
        yield Finding("wrong", f"{path} is no certificate: {error}", "remove it: the next start makes a new one")
        return
    if left < SOON:
        gone = "has ended" if left.total_seconds() < 0 else f"ends in {left.days} days"
        yield Finding("wrong", f"the certificate authority {gone}", f"remove {path.parent}/mitmproxy-ca*, start again")
    else:
        yield Finding("ok", f"certificate authority {path}, {left.days} days left")
    with contextlib.suppress(OSError):
        if authority.private_key.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            key = authority.private_key
            yield Finding("wrong", f"others on this machine can read {key}", f"chmod 600 {key}")


def _database(path: Path) -> Finding:
    folder = next(each for each in (path, *path.parents) if each.exists())
    try:
        if folder != path:
            if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
                return Finding("wrong", f"{folder} cannot be written to", "choose another LLM_PROXY_HOME")
            return Finding("ok", f"no database yet, the first start makes {path}")
        with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE)) as database:
            database.execute("BEGIN IMMEDIATE").close()
            database.rollback()
            [(has_usage,)] = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'usage'").fetchall()
            [(rows,)] = database.execute("SELECT count(*) FROM usage").fetchall() if has_usage else [(0,)]
    except sqlite3.Error as error:
        return Finding("wrong", f"{path} cannot be used: {error}", "mend or move it away; a new one is made")
    return Finding("ok", f"database {path}, {rows} calls recorded")


def reachable(settings: Settings) -> Iterator[Finding]:
    """A connection to each provider's host, TLS included; no request is sent."""
    for name, each in catalog.configured(settings).items():
        for place in dict.fromkeys((urlsplit(url).scheme, urlsplit(url).netloc) for url in each.protocols.values()):
            yield _connection(name, *place)


def _connection(name: str, scheme: str, netloc: str) -> Finding:
    parts = urlsplit(f"//{netloc}")
    port = parts.port or (443 if scheme == "https" else 80)
    begun = time.monotonic()
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=PATIENCE) as plain:
            if scheme == "https":
                ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname).close()
    except ssl.SSLCertVerificationError as error:
        what = f"{name}: the certificate of {netloc} is not trusted: {error.verify_message}"
        return Finding("wrong", what, "another proxy may stand between: --set ssl_verify_upstream_trusted_ca=FILE")
    except OSError as error:
        why = error.strerror or str(error)
        return Finding("wrong", f"{name}: no connection to {netloc}: {why}", "is this machine online, the URL right?")
    return Finding("ok", f"{name}: {netloc} answers after {(time.monotonic() - begun) * 1000:.0f} ms")
