"""Who may use the gateway (SPEC 3): who has a key of the proxy, or loopback peers; never a foreign web page. And who
may use what else mitmproxy does, as a proxy for any host: loopback peers, or who has the key."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from llm_interactive import entry
from llm_interactive.errors import Forbidden, NotAuthenticated, ProxyError
from llm_interactive.settings import Settings

OWN_PAGES = ("same-origin", "none")
"""Values of `Sec-Fetch-Site` that no other page causes; `same-site` is another port of this machine."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What is known of a request before its body: the peer's address, headers by lower-case name, the query. `keyless`:
    for a page that holds nothing secret and asks for the key itself."""

    peer: str
    headers: Mapping[str, str]
    query: str = ""
    keyless: bool = False


def check(visit: Visit, settings: Settings) -> None:
    """Raises `Forbidden` or `NotAuthenticated`; says nothing of which key would have been right."""
    wants_key = bool(settings.client_keys) and not settings.disable_auth
    _refuse_pages(visit, wants_key, settings)
    if not wants_key:
        if not is_loopback(visit.peer):
            raise Forbidden("this proxy has no client key set, so only programs on its own machine may use it")
        return
    if visit.keyless:
        return
    given = entry.credentials_of(visit.headers, visit.query)
    if not has_key(given, settings):
        missing = "no key was sent" if not given else "the key is wrong"
        raise NotAuthenticated(f"{missing}: send the proxy's own key (LLM_INTERACTIVE_PROXY_API_KEY)")


def check_forward(peer: str, authorization: str, settings: Settings) -> None:
    """For what is not for the gateway but passes through to any host: on a network, an open proxy would lend everybody
    this machine's place in it. `authorization` is that of `Proxy-Authorization`."""
    if is_loopback(peer):
        return
    if settings.disable_auth or not settings.client_keys:
        raise Forbidden("this proxy has no client key set, so only programs on its own machine may use it")
    if not has_key(proxy_credentials(authorization), settings):
        raise NotAuthenticated(
            "send the proxy's own key (LLM_INTERACTIVE_PROXY_API_KEY) as the password of the proxy",
            status=407,
            headers=(("proxy-authenticate", 'Basic realm="LLM Interactive Proxy"'),),
        )


def has_key(candidates: Iterable[str], settings: Settings) -> bool:
    """Every candidate is compared with every key, so that the time tells neither which was right nor how far."""
    keys = [_digest(key.get_secret_value()) for key in settings.client_keys]
    matches = [hmac.compare_digest(_digest(each), key) for each in candidates for key in keys]
    return any(matches)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def proxy_credentials(authorization: str) -> list[str]:
    """User and password of `Basic`, the token of `Bearer`."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return [value.strip()]
    if scheme.lower() != "basic":
        return []
    try:
        decoded = base64.b64decode(value.strip(), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return []
    user, _, password = decoded.partition(":")
    return [each for each in (user, password) if each]


def is_page(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page of another place made this request."""
    return headers.get("sec-fetch-site", "none") not in OWN_PAGES or "origin" in headers


def _refuse_pages(visit: Visit, wants_key: bool, settings: Settings) -> None:
    """A page in the user's browser must not be able to spend tokens, also not by DNS rebinding."""
    headers = visit.headers
    host = headers.get("host", "")
    if not wants_key and host != "" and not _is_own_name(_host_of(host), settings):
        raise Forbidden(
            f"the host {host!r} is not this machine; set LLM_INTERACTIVE_PROXY_API_KEY to serve other names"
        )
    if headers.get("sec-fetch-site", "none") not in OWN_PAGES:
        raise Forbidden("requests from web pages of other sites are refused")
    origin = headers.get("origin")
    if origin is not None and not _origin_allowed(origin, host):
        raise Forbidden(f"requests from the web page {origin!r} are refused")


def _is_own_name(host: str, settings: Settings) -> bool:
    return is_loopback(host) or (host != "" and host == settings.proxy_host.lower())


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


@dataclass(slots=True)
class _Guesses:
    number: int
    last: float
    waiting: int = 0


class WrongKeys:
    """How long the answer to a wrong key has to wait, by how many its peer has sent lately.

    A right key never waits, whoever else guesses. A peer may have `MOST_WAITING` wrong answers outstanding; until one
    of them is told, its next requests are turned away unread, so that guessing in parallel gains nothing.
    """

    FREE = 10
    """Wrong keys that are answered at once: who mistypes, or forgot to tell one of his programs, is not punished."""
    FIRST, LONGEST = 0.25, 4.0
    """Seconds; each further wrong key doubles the pause."""
    FORGOTTEN = 600.0
    """Seconds after the last wrong key."""
    MOST_PEERS = 10_000
    MOST_WAITING = 32

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, _Guesses] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def admit(self, peer: str) -> None:
        """Raises where too many answers to this peer are waiting already."""
        guesses = self._peers.get(_network(peer))
        if guesses is not None and guesses.waiting >= self.MOST_WAITING and not self._is_old(guesses):
            seconds = str(round(self.LONGEST))
            raise ProxyError(
                "too many wrong keys from this address", 429, "rate_limit_error", headers=(("retry-after", seconds),)
            )

    def sent(self, peer: str) -> float:
        """A wrong key came; seconds that the answer must wait. When they are over, call `told`."""
        network = _network(peer)
        guesses = self._peers.pop(network, None)
        if guesses is None or self._is_old(guesses):
            guesses = _Guesses(0, 0.0)
        guesses.number += 1
        guesses.last = self._clock()
        self._peers[network] = guesses
        if len(self._peers) > self.MOST_PEERS:
            self._peers.popitem(last=False)
        beyond = guesses.number - self.FREE
        if beyond <= 0:
            return 0.0
        guesses.waiting += 1
        pause: float = self.FIRST * 2 ** min(beyond - 1, 16)
        return min(self.LONGEST, pause)

    def _is_old(self, guesses: _Guesses) -> bool:
        return self._clock() - guesses.last > self.FORGOTTEN

    def told(self, peer: str) -> None:
        if (guesses := self._peers.get(_network(peer))) is not None:
            guesses.waiting = max(0, guesses.waiting - 1)


def _network(peer: str) -> str:
    """Who has one IPv6 address has 2**64 of them."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(ipaddress.IPv6Network((address, 64), strict=False))
