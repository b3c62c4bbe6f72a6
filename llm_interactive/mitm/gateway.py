"""The addon: takes LLM calls out of mitmproxy's traffic, walks each through its `Exchange`, and answers the rest.

The one addon that owns LLM flows runs its steps in order and turns its own errors into an error reply: were they
several addons, mitmproxy would log the exception of one and let the flow go on (fail closed).
"""

import asyncio
import hashlib
import ipaddress
import logging
import os
import re
import secrets
import socket
import sqlite3
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client
from mitmproxy.proxy.layer import Layer, NextLayer
from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from llm_interactive import access, dashboard, entry, protocols, told
from llm_interactive import settings as settings_module
from llm_interactive.backends import catalog, qwen_oauth
from llm_interactive.backends.demo import DemoServer
from llm_interactive.commander import Commander
from llm_interactive.commands.command import Command
from llm_interactive.commands.context import CommandError
from llm_interactive.commands.history import clean_history
from llm_interactive.commands.run import typing_of
from llm_interactive.configuration import Configuration
from llm_interactive.errors import ProxyError
from llm_interactive.exchange import Exchange
from llm_interactive.mitm import chat_commands, management, options, stored_responses, usage_commands
from llm_interactive.mitm.closing import close_for_good
from llm_interactive.mitm.entrance import Entrance, host_of, peer_of
from llm_interactive.mitm.interception import HIDDEN_HEADERS, call_on, caught_exchange
from llm_interactive.mitm.kept_cooldowns import KeptCooldowns
from llm_interactive.mitm.models_list import ModelsList
from llm_interactive.mitm.reading import body_with, call_of, conversation_of
from llm_interactive.mitm.recorder import DATABASE, Recorder
from llm_interactive.mitm.request_walk import OBEYS, RequestWalk
from llm_interactive.mitm.shown import hide_in_body, hide_in_head
from llm_interactive.mitm.upstream import LlmHttpLayer
from llm_interactive.protocols.base import Call
from llm_interactive.redaction.redactor import Redactor
from llm_interactive.routing.choice import Naming, named
from llm_interactive.routing.cooldowns import Cooldowns
from llm_interactive.sessions import Session, Sessions
from llm_interactive.settings import Settings
from llm_interactive.storage import usage_queries
from llm_interactive.storage.ledger import UsageRow
from llm_interactive.storage.routing_store import RoutingStore
from llm_interactive.storage.session_store import SessionStore

logger = logging.getLogger(__name__)


class LayerSwap:
    """Puts our layer where mitmproxy's `NextLayer` decided on HTTP; must stand after it in the chain of addons.

    mitmproxy takes connections before it calls `running`: they wait until `ready`."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()

    async def next_layer(self, next_layer: NextLayer) -> None:
        await self.ready.wait()
        layer: Layer | None = next_layer.layer
        while layer is not None:
            if type(layer) is HttpLayer:
                LlmHttpLayer.take_over(layer, exchanges)
                return
            child = getattr(layer, "child_layer", None)  # layers have it or not; mitmproxy has no type for that
            layer = child if isinstance(child, Layer) else None


NAME = "llm-interactive-proxy"

CREDENTIAL = re.compile("auth(?:orization)?$|key|token|secret", re.IGNORECASE)
"""In the name of a header that holds one."""


def exchanges() -> Mapping[str, Exchange]:
    """Those of the gateway that is loaded now: a reloaded script serves the connections of its predecessor."""
    gateway = ctx.master.addons.get(NAME)
    return gateway.exchanges if isinstance(gateway, Gateway) else {}


class Gateway:
    name = NAME

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.exchanges: dict[str, Exchange] = {}
        self._passing: set[str] = set()
        """Flows to a provider's host that are no calls, while they last."""
        self._swap = LayerSwap()
        self._demo: DemoServer | None = None
        self._demo_token = ""
        self._demo_url = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._cooldowns = Cooldowns()
        self._configuration = Configuration({}, cooldowns=self._cooldowns)
        self._models = ModelsList()
        self._recorder: Recorder | None = None
        self._sessions: Sessions | None = None
        self._sessions_read: asyncio.Task[None] | None = None
        self._commander: Commander | None = None
        self._entrance = Entrance(self._configured)
        self._walk = RequestWalk(
            self._configured, lambda: self._configuration, self._entrance, self._obey, self._hide_new_secrets
        )

    # life

    def load(self, loader: Loader) -> None:
        options.register(loader)
        for name, function in (*chat_commands.commands(self._type), *usage_commands.commands(self._database)):
            loader.add_command(name, function)

    def configure(self, updated: set[str]) -> None:
        if self.settings is not None and not any(name.startswith("llm_") for name in updated):
            return
        try:
            self.settings = settings_module.load(options.given(ctx.options), os.environ, Path.cwd())
        except settings_module.SettingsError as error:
            if self.settings is not None:
                raise exceptions.OptionsError(str(error)) from None
            logger.error("%s", error)  # mitmproxy ends a start during which an error was logged
            return
        if self._swap not in ctx.master.addons.chain:
            ctx.master.addons.add(self._swap)
        self._apply()

    def running(self) -> None:
        """Synchronous, as `done` is, since mitmproxy calls both from synchronous code when it reloads a script."""
        if self.settings is None:
            return
        self._demo_token = secrets.token_urlsafe(16)
        self._demo = DemoServer(self._demo_token)
        listening = socket.create_server(("127.0.0.1", 0))
        self._demo_url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        self._do_later(self._demo.start(listening))
        if not self.settings.disable_accounting:
            self._recorder = Recorder(self._configured)
        self._do_later(KeptCooldowns(self._cooldowns, RoutingStore(self.settings.home / DATABASE)).start())
        self._sessions = Sessions(SessionStore(self.settings.home / DATABASE))
        self._sessions_read = self._do_later(self._sessions.start())
        self._apply()
        self._swap.ready.set()

    def _apply(self) -> None:
        assert self.settings is not None
        backends = dict(catalog.configured(self.settings))
        if qwen_oauth.is_signed_in(Path.home()) and not self.settings.keys.get(qwen_oauth.NAME):
            backends[qwen_oauth.NAME] = qwen_oauth.configured(Path.home(), self.settings.base_urls.get(qwen_oauth.NAME))
        if self._demo is not None:
            backends["demo"] = catalog.demo(self._demo_url, self._demo_token)
        self._configuration = replace(
            self._configuration,
            backends=backends,
            naming=Naming.configured(
                self.settings.failover_routes, self.settings.aliases, self.settings.backend, self.settings.allowed_urls
            ),
            server=self._sessions.server if self._sessions is not None else self._configuration.server,
            timeout=self.settings.proxy_timeout,
            loops=self._configuration.loops.with_settings(self.settings),
            redactor=self._redactor(backends),
        )
        if self._sessions is not None:
            self._commander = Commander(
                self._sessions,
                self.settings,
                models=self._models.number_known,
                today=self._used_today,
                key_states=lambda: self._cooldowns.lines(backends.values()),
            )
        self._cooldowns.try_all_again()
        self._models.forget()

    def _hide_new_secrets(self) -> None:
        self._configuration = replace(self._configuration, redactor=self._redactor())

    def _redactor(self, backends: Mapping[str, catalog.ConfiguredBackend] | None = None) -> Redactor:
        return Redactor(_keys(self._configured(), self._configuration.backends if backends is None else backends))

    def _database(self) -> Path:
        return self._configured().home / DATABASE

    def _used_today(self, session: Session) -> Mapping[str, Any]:
        with suppress(sqlite3.Error):
            return usage_queries.today(self._recorder.path, session.name) if self._recorder is not None else {}
        return {}

    def _type(self, command: Command, session: str | None, arguments: str) -> str:
        if self._commander is None:
            raise CommandError("the proxy is not running")
        return self._commander.type(command, session, arguments, self._configuration.backends)

    def _do_later(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def done(self) -> None:
        if self._swap in ctx.master.addons.chain:
            ctx.master.addons.remove(self._swap)
        if self._demo is not None:
            self._do_later(self._demo.stop())
        if self._sessions is not None:
            self._do_later(self._sessions.close())
        if self._recorder is not None:
            self._recorder.close(self.exchanges.values())

    # requests

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response is not None or flow.id in self.exchanges:  # another addon has answered, or it is a replay
            return
        if flow.is_replay == "request" and call_of(flow) is not None:
            self._refuse(flow, ProxyError("mitmproxy's own replay has no keys: use llm.replay", status=501))
            return
        backend = self.provider(flow)
        for_gateway = backend is None and self._is_for_gateway(flow)
        if not for_gateway and not self._may_pass(flow):
            return
        if backend is not None:
            self._catch(flow, _headers(flow), backend)
        if not for_gateway:
            return
        headers = _headers(flow)
        call = entry.recognise(flow.request.method, flow.request.path, headers)
        flow.request.stream = False
        flow.metadata["llm_gateway"] = True
        try:
            self._entrance.check(flow, self._visit(flow, headers))
        except ProxyError as error:
            self._refuse(flow, error)
            return
        except Exception:  # mitmproxy would log it and let the request go on, unchecked
            logger.exception("The request could not be checked")
            self._refuse(flow, ProxyError("the proxy could not check the request; its log says why"))
            return
        path, _, query = flow.request.path.partition("?")
        flow.metadata["llm_protocol"] = call.protocol if call else entry.nearest_protocol(path, headers, query)
        client = _client(entry.credentials_of(headers, query))
        self._hide_credentials(flow)
        if call is not None and call.operation not in ("models", "model") and "upgrade" not in headers:
            self._begin(flow, Exchange(call, self._configuration, method=flow.request.method, client=client))

    def _begin(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        exchange.flow_id = flow.id
        self.exchanges[flow.id] = exchange

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        if flow.response is None:
            await self._entrance.connect(flow)

    def _may_pass(self, flow: http.HTTPFlow) -> bool:
        """Through the proxy to another host."""
        try:
            self._entrance.check_forward(flow)
        except ProxyError as error:
            self._refuse(flow, error)
        except Exception:  # mitmproxy would log it and let the request go on, unchecked
            logger.exception("The request could not be checked")
            self._refuse(flow, ProxyError("the proxy could not check the request; its log says why"))
        return flow.response is None

    def _configured(self) -> Settings:
        assert self.settings is not None
        return self.settings

    def _is_for_gateway(self, flow: http.HTTPFlow) -> bool:
        if flow.metadata.get("llm_gateway"):
            return True
        if isinstance(flow.client_conn.proxy_mode, ReverseMode):
            return entry.recognise(flow.request.method, flow.request.path, {}) is not None
        own = flow.client_conn.sockname
        return bool(own) and flow.request.port == own[1] and _is_loopback(flow.request.host)

    def _visit(self, flow: http.HTTPFlow, headers: Mapping[str, str]) -> access.Visit:
        named = {**headers, "host": flow.metadata.get("llm_host") or host_of(flow.request)}
        path, _, query = flow.request.path.partition("?")
        return access.Visit(peer_of(flow.client_conn), named, query, keyless=path == dashboard.PATH)

    def _hide_credentials(self, flow: http.HTTPFlow, names: tuple[str, ...] = entry.CREDENTIAL_HEADERS) -> None:
        """No flow that mitmproxy shows or saves holds one (SPEC 9)."""
        for name in names:
            flow.request.headers.pop(name, None)
        path, mark, query = flow.request.path.partition("?")
        if "key=" in query:
            query = entry.without_key(query)
            flow.request.path = path + (mark + query if query else "")
        if self._walk.redacts():
            hide_in_head(flow.request, self._configuration.redactor.begin())

    def provider(self, flow: http.HTTPFlow) -> catalog.Backend | None:
        """The one on whose own host the call was caught."""
        return catalog.recognised_host(flow.request.pretty_host, self._configured().intercept_hosts)

    def redactor(self) -> Redactor | None:
        """None where secrets may go on."""
        return self._configuration.redactor if self._walk.redacts() else None

    def record(self, row: UsageRow) -> None:
        """What was used elsewhere than in an exchange."""
        if self._recorder is not None:
            hide = self._configuration.redactor.redact_text
            project = hide(row.project) if row.project else None
            self._recorder.put(replace(row, session=hide(row.session), username=hide(row.username), project=project))

    def _catch(self, flow: http.HTTPFlow, headers: Mapping[str, str], backend: catalog.Backend) -> None:
        limit = self._configuration.body_limit
        call = call_on(backend, flow.request.method, flow.request.path, headers, limit)
        if call is None:
            self._passing.add(flow.id)
            return
        flow.request.stream = False
        trusted = self._entrance.trusts(flow, headers)
        client = _client(entry.credentials_of(headers, flow.request.path.partition("?")[2]))
        exchange = caught_exchange(flow.request, call, backend, self._configuration, trusted, client)
        flow.metadata |= {OBEYS: trusted, "llm_protocol": call.protocol}
        self._hide_credentials(flow, HIDDEN_HEADERS)
        self._begin(flow, exchange)

    def _refuse(self, flow: http.HTTPFlow, error: ProxyError) -> None:
        headers = _headers(flow)
        self._hide_credentials(flow)
        flow.request.stream = False
        flow.metadata["llm_gateway"] = True  # its body is not kept
        protocol = protocols.named(entry.nearest_protocol(flow.request.path.partition("?")[0], headers))
        flow.response = management.error_response(protocol, error)

    async def request(self, flow: http.HTTPFlow) -> None:
        if flow.response is not None:
            await self._entrance.wait(flow)
            return
        exchange = self.exchanges.get(flow.id)
        if exchange is not None and (kept := stored_responses.answer(exchange, flow.request.method)) is not None:
            del self.exchanges[flow.id]
            flow.response = kept
        elif exchange is not None:
            self._walk.begin(exchange, flow)
        elif flow.metadata.get("llm_gateway") or self._is_for_gateway(flow):
            if self._walk.redacts():
                hide_in_body(flow.request, self._configuration.redactor.begin())
            flow.response = await self._manage(flow)

    def prepare_replay(self, flow: http.HTTPFlow, call: Call, model: str) -> None:
        """The flow, which is not sent yet, will go to `model`. Raises `CommandError`."""
        if self._commander is None:
            raise CommandError("the proxy is not running")
        exchange = Exchange(call, self._configuration, method=flow.request.method)
        context = self._commander.context(exchange.session, self._configuration.backends)
        exchange.session.oneoff = context.element(model)
        if exchange.session.oneoff is None:
            known = ", ".join(self._configuration.backends)
            raise CommandError(f"{model!r} is no backend:model; the backends are {known}")
        try:
            cleaned = clean_history(conversation_of(flow, call), typing_of(context), newest_too=True)
            flow.request.content = body_with(flow, call, cleaned)
        except (ProxyError, ValueError) as error:
            raise CommandError(f"the conversation cannot be sent again: {error}") from None
        if not cleaned.messages:
            raise CommandError("there is nothing to send again: it was all commands")
        flow.metadata |= {OBEYS: False, "llm_protocol": call.protocol}
        self._begin(flow, exchange)

    async def _obey(self, exchange: Exchange) -> None:
        assert self._commander is not None
        assert self._sessions_read is not None
        if not self._sessions_read.done():
            await asyncio.wait({self._sessions_read})
        await self._commander.obey(exchange)

    async def _manage(self, flow: http.HTTPFlow) -> http.Response:
        headers = {name.lower(): value for name, value in flow.request.headers.items()}
        protocol = protocols.named(flow.metadata["llm_protocol"])  # told by the credential, which is hidden by now
        try:
            call = entry.recognise(flow.request.method, flow.request.path, headers)
            if call is not None and call.operation in ("models", "model"):
                configuration = self._configuration
                own = named(configuration.naming, configuration.server)
                return await self._models.answer(replace(call, protocol=protocol.name), configuration.backends, own)
            return await management.answer(flow.request, self._configured())
        except ProxyError as error:
            return management.error_response(protocol, error)
        except Exception:
            logger.exception("The request could not be answered")
            return management.error_response(protocol, ProxyError("the proxy failed; its log says why"))

    # from the layer below the hooks

    async def llm_request(self, flow: http.HTTPFlow) -> None:
        if (exchange := self.exchanges.get(flow.id)) is not None:
            await self._walk.go(exchange, flow)

    async def llm_next_attempt(self, exchange: Exchange) -> None:
        await self._walk.next_attempt(exchange)

    async def llm_reply_ended(self, exchange: Exchange) -> None:
        if self._recorder is not None:
            await self._recorder.record(exchange)
        if exchange.session_changed and self._sessions is not None:
            exchange.session_changed = False
            self._sessions.changed(exchange.session)

    # ends

    def response(self, flow: http.HTTPFlow) -> None:
        self._forget(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        self._forget(flow)

    async def server_connect(self, data: ServerConnectionHookData) -> None:
        await self._entrance.before_connection(data)

    def server_connected(self, data: ServerConnectionHookData) -> None:
        self._entrance.after_connection(data)

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        close_for_good(data.client, data.server)

    def client_disconnected(self, client: Client) -> None:
        close_for_good(client, client)
        self._entrance.gone(client)

    def _forget(self, flow: http.HTTPFlow) -> None:
        self._entrance.forget(flow)
        self._walk.forget(flow)
        exchange = self.exchanges.pop(flow.id, None)
        if flow.id in self._passing:
            self._passing.discard(flow.id)
            self._hide_credentials(flow, HIDDEN_HEADERS)  # it passed as it was
        if exchange is not None and exchange.tries:
            flow.metadata |= told.metadata(exchange.tries)
            flow.comment = flow.comment or exchange.summary()
            if any(try_.stop is not None for try_ in exchange.tries):
                flow.marked = flow.marked or ":repeat:"


def _keys(settings: Settings, backends: Mapping[str, catalog.ConfiguredBackend]) -> Iterator[str]:
    """All that the proxy holds, those in headers of the file's backends too."""
    yield from (key.get_secret_value() for key in settings.client_keys)
    for keys in (*settings.keys.values(), *(backend.keys for backend in backends.values())):
        yield from (key.get_secret_value() for key in keys)
    for backend in backends.values():
        yield from (value.rpartition(" ")[2] for name, value in backend.headers.items() if CREDENTIAL.search(name))
        yield from backend.account.secrets if backend.account is not None else ()


def _headers(flow: http.HTTPFlow) -> dict[str, str]:
    return {name.lower(): value for name, value in flow.request.headers.items()}


def _client(credentials: list[str]) -> str:
    """Tells clients apart without keeping their keys."""
    return hashlib.sha256(credentials[0].encode("utf-8", "surrogateescape")).hexdigest()[:16] if credentials else ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
