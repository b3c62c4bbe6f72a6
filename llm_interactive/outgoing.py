"""One attempt as it goes on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from llm_interactive.backends import catalog
from llm_interactive.headers import HOP_BY_HOP
from llm_interactive.protocols.base import Call


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One attempt as it goes on the wire: to `host` and `port`, for the server that calls itself `authority`.
    `headers` hold the credentials: never show or store them."""

    scheme: str
    host: str
    port: int
    authority: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)


def written(method: str, url: str, query: str, headers: Mapping[str, str], body: bytes) -> Outgoing:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = parts.path + (f"?{query}" if query else "")
    # the reply is read here, so it must not come compressed (TRAPS T83)
    sent = {**{name.lower(): value for name, value in headers.items()}, "accept-encoding": "identity"}
    return Outgoing(parts.scheme, parts.hostname or "", port, parts.netloc, method, path, tuple(sent.items()), body)


def own_headers(call: Call) -> dict[str, str]:
    """Of a call that goes on to where it was going by itself."""
    return {name: value for name, value in call.headers.items() if name not in HOP_BY_HOP}


def passed_as_it_was(call: Call, method: str, base_url: str, credentials: Mapping[str, str], body: bytes) -> Outgoing:
    """A call whose body is not read, to where it was going by itself."""
    return written(method, base_url + call.path, call.query, {**own_headers(call), **credentials}, body)


def passed(
    call: Call, method: str, base_url: str, protocol: str, credentials: Mapping[str, str], body: bytes
) -> Outgoing:
    """A call whose body is not read."""
    path = call.path.removeprefix("/anthropic")
    while path.startswith(("/v1/", "/v1beta/", "/v1alpha/", "/v1beta1/")):
        path = path[path.index("/", 1) :]
    headers = {n: v for n, v in call.headers.items() if n not in HOP_BY_HOP and not n.startswith("sec-")}
    url = catalog.join(base_url, protocol, path)
    return written(method, url, call.query, {**headers, **credentials}, body)
