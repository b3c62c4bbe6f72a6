"""The doors of the proxy: who may pass through mitmproxy to other hosts, how long a wrong key waits for its answer
(SPEC 3), and where a connection may go for which a prompt named the URL (SPEC 9). The gateway asks it from its hooks.
"""

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping

from mitmproxy import ctx, http
from mitmproxy.connection import Client
from mitmproxy.proxy.mode_specs import RegularMode, Socks5Mode, UpstreamMode
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from llm_interactive import access, entry, url_guard
from llm_interactive.errors import NotAuthenticated, ProxyError
from llm_interactive.exchange import Exchange
from llm_interactive.mitm.closing import close_for_good
from llm_interactive.settings import Settings

logger = logging.getLogger(__name__)

AUTHORIZATION = "proxy-authorization"
MOST_NAMED = 1000
PAUSE = "llm_pause"
"""In a flow's metadata: seconds that its answer must wait."""


class Entrance:
    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._wrong_keys = access.WrongKeys()
        self._let_in: set[str] = set()
        """Clients that showed the key when they asked for a tunnel."""
        self._named: OrderedDict[tuple[str, int], None] = OrderedDict()
        """Places that prompts named."""

    # to the gateway

    def check(self, flow: http.HTTPFlow, visit: access.Visit) -> None:
        """Raises `ProxyError`; the flow notes how long to wait before that is told."""
        self._wrong_keys.admit(visit.peer)
        try:
            access.check(visit, self._settings())
        except NotAuthenticated:
            if entry.credentials_of(visit.headers, visit.query):
                self._pause(flow, visit.peer)
            raise

    def _pause(self, flow: http.HTTPFlow, peer: str) -> None:
        if seconds := self._wrong_keys.sent(peer):
            flow.metadata[PAUSE] = seconds

    async def wait(self, flow: http.HTTPFlow) -> None:
        """Before a refusal is told. The connection waits, nothing else does."""
        if seconds := flow.metadata.pop(PAUSE, None):
            try:
                await asyncio.sleep(seconds)
            finally:
                self._wrong_keys.told(peer_of(flow.client_conn))

    def forget(self, flow: http.HTTPFlow) -> None:
        """The client did not wait."""
        if flow.metadata.pop(PAUSE, None):
            self._wrong_keys.told(peer_of(flow.client_conn))

    def trusts(self, flow: http.HTTPFlow, headers: Mapping[str, str]) -> bool:
        """Whether a call that was caught on its provider's host may do more than it could there: run commands, and use
        this proxy's own backends. It may not where it is a web page's, or where a key is set and was not shown."""
        settings = self._settings()
        if access.is_page(headers):
            return False
        if settings.disable_auth or not settings.client_keys or flow.client_conn.id in self._let_in:
            return True
        return access.has_key(access.proxy_credentials(headers.get(AUTHORIZATION, "")), settings)

    # through the proxy to any host

    def check_forward(self, flow: http.HTTPFlow) -> None:
        """Raises `ProxyError`. The key does not go further than here."""
        client = flow.client_conn
        if not isinstance(client.proxy_mode, RegularMode | UpstreamMode) or _has_own_authentication():
            return
        authorization = flow.request.headers.get(AUTHORIZATION, "")
        shown = bool(authorization) and access.has_key(access.proxy_credentials(authorization), self._settings())
        if shown or isinstance(client.proxy_mode, RegularMode):
            flow.request.headers.pop(AUTHORIZATION, None)
        if client.id in self._let_in:
            return
        peer = peer_of(client)
        self._wrong_keys.admit(peer)
        try:
            access.check_forward(peer, authorization, self._settings())
        except NotAuthenticated:
            if authorization:  # clients ask without it first
                self._pause(flow, peer)
            raise
        if shown and flow.request.method == "CONNECT":
            self._let_in.add(client.id)

    async def connect(self, flow: http.HTTPFlow) -> None:
        """A tunnel is asked for."""
        try:
            self.check_forward(flow)
        except ProxyError as error:
            flow.response = http.Response.make(error.status, error.message, dict(error.headers))
            await self.wait(flow)
        except Exception:  # mitmproxy would log it and open the tunnel
            logger.exception("The tunnel could not be checked")
            flow.response = http.Response.make(500, "the proxy could not check the request; its log says why")

    def gone(self, client: Client) -> None:
        self._let_in.discard(client.id)

    # to other hosts

    def sends(self, exchange: Exchange) -> None:
        """Where a prompt named the place, what its name resolves to must be checked when it is connected to."""
        outgoing = exchange.outgoing
        if outgoing is None or exchange.tries[-1].attempt.backend.allowed is None:
            return
        self._named[outgoing.host, outgoing.port] = None
        self._named.move_to_end((outgoing.host, outgoing.port))
        if len(self._named) > MOST_NAMED:
            self._named.popitem(last=False)

    async def before_connection(self, data: ServerConnectionHookData) -> None:
        if data.server.error or data.server.address is None:
            return
        host, port = data.server.address[:2]
        own = data.client.sockname
        if isinstance(data.client.proxy_mode, Socks5Mode) and not _has_own_authentication():
            if not access.is_loopback(peer_of(data.client)):
                data.server.error = "set proxyauth to serve SOCKS to other machines"
        elif own and port == own[1] and access.is_loopback(host):
            data.server.error = "this proxy does not call itself"
        elif (host, port) in self._named:
            addresses = await _addresses(host, port)
            if not all(self._may_connect(each, host, port) for each in addresses):
                data.server.error = f"{host} is at an address that prompts may not name: {', '.join(addresses)}"

    def after_connection(self, data: ServerConnectionHookData) -> None:
        """The name may have resolved to something else by then (DNS rebinding). Nothing was sent yet."""
        if data.server.address is None or data.server.peername is None:
            return
        host, port = data.server.address[:2]
        if (host, port) in self._named and not self._may_connect(data.server.peername[0], host, port):
            logger.warning("%s turned out to be at %s, which prompts may not name", host, data.server.peername[0])
            close_for_good(data.client, data.server)

    def _may_connect(self, address: str, host: str, port: int) -> bool:
        return url_guard.may_connect(address, host, self._settings().allowed_urls, port)


async def _addresses(host: str, port: int) -> list[str]:
    """None at all where the name cannot be resolved: then there is no connection either."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(address[0]) for *_, address in found})


def _has_own_authentication() -> bool:
    """mitmproxy's `proxyauth`, which the few addons of `llm-proxy serve` do not know."""
    return "proxyauth" in ctx.options and bool(ctx.options.proxyauth)


def peer_of(client: Client) -> str:
    return str(client.peername[0]) if client.peername else ""


def host_of(request: http.Request) -> str:
    """What the client called this server. HTTP/2 says it twice; where the two differ nobody knows which counts."""
    names = {name for name in (request.authority, request.headers.get("host", "")) if name}
    return names.pop() if len(names) == 1 else " ".join(sorted(names))
