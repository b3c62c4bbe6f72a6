"""Who may use the gateway (SPEC 3): who has a key of the proxy, or loopback peers; never a foreign web page."""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from llm_interactive import entry
from llm_interactive.errors import Forbidden, NotAuthenticated
from llm_interactive.settings import Settings


@dataclass(frozen=True, slots=True)
class Visit:
    """What is known of a request before its body: the peer's address, headers by lower-case name, the query."""

    peer: str
    headers: Mapping[str, str]
    query: str = ""


def check(visit: Visit, settings: Settings) -> None:
    """Raises `Forbidden` or `NotAuthenticated`; says nothing of which key would have been right."""
    keys = [key.get_secret_value() for key in settings.client_keys]
    _refuse_pages(visit, bool(keys) and not settings.disable_auth, settings)
    if settings.disable_auth or not keys:
        if not is_loopback(visit.peer):
            raise Forbidden("this proxy has no client key set, so only programs on its own machine may use it")
        return
    given = entry.credentials_of(visit.headers, visit.query)
    if not any(_same(candidate, key) for candidate in given for key in keys):
        missing = "no key was sent" if not given else "the key is wrong"
        raise NotAuthenticated(f"{missing}: send the proxy's own key (LLM_INTERACTIVE_PROXY_API_KEY)")


def _same(candidate: str, key: str) -> bool:
    return hmac.compare_digest(candidate.encode("utf-8", "surrogateescape"), key.encode())


def _refuse_pages(visit: Visit, has_keys: bool, settings: Settings) -> None:
    """A page in the user's browser must not be able to spend tokens, also not by DNS rebinding."""
    headers = visit.headers
    host = headers.get("host", "")
    if not has_keys and not (host == "" or is_loopback(_host_of(host))):
        raise Forbidden(
            f"the host {host!r} is not this machine; set LLM_INTERACTIVE_PROXY_API_KEY to serve other names"
        )
    if headers.get("sec-fetch-site") == "cross-site":
        raise Forbidden("requests from web pages of other sites are refused")
    origin = headers.get("origin")
    if origin is not None and not _origin_allowed(origin, host):
        raise Forbidden(f"requests from the web page {origin!r} are refused")


def _origin_allowed(origin: str, host: str) -> bool:
    scheme, mark, there = origin.partition("://")
    return bool(scheme and mark) and there == host != ""


def _host_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
