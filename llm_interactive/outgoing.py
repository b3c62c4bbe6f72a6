"""One attempt as it goes on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from llm_interactive.backends import catalog
from llm_interactive.conversation import Conversation
from llm_interactive.errors import BadRequest
from llm_interactive.headers import HOP_BY_HOP
from llm_interactive.protocols.base import Call

STORED_STATE = ("previous_response_id", "conversation", "prompt", "cachedContent", "cached_content", "container")


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


def refuse_stored_state(conversation: Conversation) -> None:
    """What a provider keeps cannot be read by another one: the context would be silently gone (TRAPS T96)."""
    for key in STORED_STATE:
        if conversation.owned.get(key):
            message = f"'{key}' names something that only the provider that keeps it knows: {conversation.owned[key]}"
            raise BadRequest(message, param=key)


def in_the_clients_order(body: dict[str, Any], own: dict[str, Any] | None) -> dict[str, Any]:
    """What was edited stays at its place: only commands and the like may differ from what the client sent."""
    return body if own is None else {**{key: body[key] for key in own if key in body}, **body}
