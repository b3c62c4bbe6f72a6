"""Calls on the providers' own hosts (SPEC 1, 3): which connections are opened, which calls are caught, and what is said
where a program does not let itself be watched.

TLS to any other host passes unopened, byte for byte, unless `LLM_DECRYPT_OTHERS` or mitmproxy's `allow_hosts` say
what to open.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl

from mitmproxy import ctx, http
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.tls import ClientHelloData, TlsData

from llm_interactive import entry
from llm_interactive.backends import catalog
from llm_interactive.configuration import Caught, Configuration
from llm_interactive.exchange import Exchange
from llm_interactive.protocols.base import Call
from llm_interactive.routing.choice import Naming
from llm_interactive.settings import Settings

logger = logging.getLogger(__name__)

HIDDEN_HEADERS = (*entry.CREDENTIAL_HEADERS, "api-key", "cookie")
"""Of a caught call: what opens its provider, and is neither shown nor saved."""
BODILESS = ("GET", "HEAD", "DELETE")
QUERY_KEY_HEADER = "x-goog-api-key"
"""Says what `?key=` says; only Gemini has that."""


class Interception:
    """The addon. `settings`: None before there are any."""

    def __init__(self, settings: Callable[[], Settings | None]) -> None:
        self._settings = settings
        self._told: set[str] = set()

    def running(self) -> None:
        if self._settings() is None or self._opens_all():
            return
        logger.info("TLS to hosts other than those of LLM providers passes unopened (llm_decrypt_others opens it)")

    def _opens_all(self) -> bool:
        settings = self._settings()
        return settings is None or settings.decrypt_others or bool(ctx.options.allow_hosts)

    def tls_clienthello(self, data: ClientHelloData) -> None:
        address = data.context.server.address
        if self._opens_all() or address is None or isinstance(data.context.client.proxy_mode, ReverseMode):
            return
        if not any(map(self._is_providers, (data.client_hello.sni, address[0]))):
            data.ignore_connection = True

    def tls_failed_client(self, data: TlsData) -> None:
        address = data.context.server.address
        host = data.conn.sni or (address[0] if address is not None else "")
        if not self._is_providers(host) or host in self._told:
            return
        self._told.add(host)
        logger.warning(
            "%s: a program refuses the proxy's certificate. If it does not know the CA yet, `llm-proxy ca` says how to "
            "tell it; if it takes only the provider's own (pinning), let it pass: --set ignore_hosts='^%s:'",
            host,
            host.replace(".", r"\."),
        )

    def _is_providers(self, host: str | None) -> bool:
        settings = self._settings()
        more = settings.intercept_hosts if settings is not None else ()
        return bool(host) and catalog.recognised_host(str(host), more) is not None


def call_on(backend: catalog.Backend, method: str, target: str, headers: Mapping[str, str], limit: int) -> Call | None:
    """None for what passes as it is: pages, uploads beyond the `limit` of bytes, gRPC, WebSocket."""
    if method == "OPTIONS" or is_socket(headers):
        return None
    call = entry.recognise_on_host(method, target, headers)
    if entry.is_read(call):
        return call
    kind, length = headers.get("content-type", ""), headers.get("content-length")
    if (call is None and "json" not in kind) or kind.startswith("application/grpc"):
        return None
    if length is None and "json" not in kind and method not in BODILESS:
        return None  # an upload of unknown size
    if length is not None and (not length.isdecimal() or int(length) > limit):
        return None
    path, _, query = target.partition("?")
    shown = {name: value for name, value in headers.items() if name not in entry.CREDENTIAL_HEADERS}
    protocol = next(iter(backend.protocols))
    query = entry.without_key(query) if protocol == "gemini" else query
    return Call(protocol, "other", path, query, headers=shown)


def is_socket(headers: Mapping[str, str]) -> bool:
    return headers.get("upgrade", "").lower() == "websocket"


def caught_exchange(
    request: http.Request,
    call: Call,
    backend: catalog.Backend,
    configuration: Configuration,
    trusted: bool,
    client: str,
) -> Exchange:
    """It keeps its credential and goes where it went (SPEC 3). `trusted`: it may go elsewhere too."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    authority = request.authority or request.host_header or request.pretty_host
    there = catalog.intercepted(backend, call.protocol, f"{request.scheme}://{authority}{_base_path(call)}")
    backends = {**(configuration.backends if trusted else {}), there.name: there}
    naming = configuration.naming if trusted else Naming()
    exchange = Exchange(
        call, replace(configuration, backends=backends, naming=naming), method=request.method, client=client
    )
    credentials = {name: headers[name] for name in HIDDEN_HEADERS if name in headers}
    for name, value in parse_qsl(request.path.partition("?")[2]):
        if name == "key" and call.protocol == "gemini":
            credentials.setdefault(QUERY_KEY_HEADER, value)
    exchange.caught = Caught(there, request.host, request.port, authority, credentials)
    return exchange


def _base_path(call: Call) -> str:
    """What `catalog.join` makes the called path of again."""
    if call.operation == "other":
        return ""
    path = call.path.removesuffix("/count_tokens").removesuffix("/input_tokens")
    endpoint = catalog.ENDPOINTS.get(call.protocol)
    return path if endpoint is not None and path.endswith(endpoint) else catalog.version_prefix(path)
