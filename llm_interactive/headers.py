"""Headers between clients, the proxy and providers: which go on, and what their values may be."""

from collections.abc import Iterable, Mapping

HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "content-encoding",
        "accept-encoding",
        "host",
        "expect",
    ]
)
KEPT_REPLY_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry", "request-id", "x-request-id")
KEPT_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
"""Headers of another vendor's reply that mean something to any client (TRAPS T91)."""


def portable(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of another vendor's reply that go on."""
    return [(n, v) for n, v in headers if n in KEPT_REPLY_HEADERS or n.startswith(KEPT_PREFIXES)]


def streams(content_type: str, protocol: str, asked: bool) -> bool:
    """Whether the reply is a stream: some services answer with the other kind than was asked for (TRAPS T78)."""
    if content_type.startswith("text/event-stream"):
        return True
    return asked and (protocol == "gemini" or not content_type.startswith("application/json"))


def unexpected(status: int, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400 and "location" in headers:
        return f"the provider redirects to {headers['location'][:200]}; is the base URL right?"
    return f"the provider answered with status {status}, which is no answer"


def one_line(text: str) -> str:
    """Header values are one line of ASCII (TRAPS T103)."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()[:2000]
