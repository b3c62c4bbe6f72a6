"""Which model a request gets: one-off > session > request (SPEC 6), with what commands changed of the names."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from llm_interactive import url_guard
from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.backends.providers import DEMO, FAMILIES
from llm_interactive.config_file import FailoverRoute, is_pattern
from llm_interactive.errors import BadRequest, NotFound
from llm_interactive.protocols.base import Call
from llm_interactive.routing.resolution import EACH_KEY, Element, Leg, Names, patterns, resolve, without_route
from llm_interactive.routing.selectors import Draw, is_selector
from llm_interactive.sessions import Server, Session
from llm_interactive.url_guard import UrlRefused

OWN_URL = "openai"
"""The backend that `openai_url` moves."""


@dataclass(frozen=True, slots=True)
class Naming:
    """What is configured. `allowed_urls`: LLM_ALLOWED_URLS."""

    names: Names = field(default_factory=lambda: Names({}))
    allowed_urls: tuple[str, ...] = ()
    draw: Draw = random.random

    @classmethod
    def configured(
        cls,
        routes: Mapping[str, FailoverRoute],
        aliases: Mapping[str, str],
        default: str | None,
        allowed_urls: tuple[str, ...] = (),
    ) -> "Naming":
        return cls(Names({}, routes, aliases, patterns(aliases), default), allowed_urls)


@dataclass(frozen=True, slots=True)
class Choice:
    """For one request. `caught`: the backend that a caught call was going to by itself."""

    naming: Naming
    backends: Mapping[str, ConfiguredBackend]
    server: Server
    session: Session
    caught: str | None = field(default=None)

    def names(self) -> Names:
        session, configured = self.session, self.naming.names
        typed = {name: text for name, text in session.aliases.items() if not any(map(str.isspace, text))}
        return replace(
            configured,
            backends=self._backends(),
            routes=routes_of(configured.routes, self.server),
            aliases={**configured.aliases, **typed} if typed else configured.aliases,
            default=self.server.default_backend or configured.default,
            forced=session.backend,
            caught=self.caught,
        )

    def of(self, asked: str) -> tuple[Leg, ...]:
        """Raises `ProxyError`. The one-off route stays: who takes it is who sends the prompt."""
        names = self.names()
        chosen = self.session.oneoff or self.session.model
        if chosen is None:
            return resolve(asked, names, self.naming.draw)
        names = replace(names, forced=None, caught=None)
        if ":" not in chosen and chosen not in names.routes and not is_selector(chosen):
            raise without_route(chosen)
        return resolve(chosen, names, self.naming.draw)

    def passed(self, call: Call, asked: str | None) -> tuple[Leg, ...]:
        """Another path of a vendor goes to a backend of that vendor (SPEC 1)."""
        if self.caught is not None:
            return (Leg(EACH_KEY, (Element(self.backends[self.caught], asked or ""),)),)
        family = FAMILIES[call.protocol]
        default = self.server.default_backend or self.naming.names.default
        serving = [each for each in self.backends.values() if each.vendor == family and each.name != DEMO]
        serving.sort(key=lambda backend: (backend.name != default, call.protocol not in backend.protocols))
        if not serving:
            raise NotFound(f"no backend that serves {call.path} is configured")
        return (Leg(EACH_KEY, (Element(serving[0], asked or ""),)),)

    def _backends(self) -> Mapping[str, ConfiguredBackend]:
        """With the session's own place for `openai`, in front, since somebody wants it. A key or header that was
        configured goes to the configured place alone (SPEC 9)."""
        url = self.session.openai_url
        if url is None:
            return self.backends
        try:
            url_guard.check(url, self.naming.allowed_urls)
        except UrlRefused as error:
            raise BadRequest(f"openai_url={url}: {error}") from None
        known = self.backends.get(OWN_URL)
        there = ConfiguredBackend(OWN_URL, {"openai_chat": url}, allowed=self.naming.allowed_urls)
        if known is not None and any(url_guard.same_origin(url, base) for base in known.protocols.values()):
            there = replace(there, keys=known.keys, headers=known.headers)
        return {OWN_URL: there, **{name: each for name, each in self.backends.items() if name != OWN_URL}}


def named(naming: Naming, server: Server) -> dict[str, str]:
    """Names beside those of models that a client may ask for, and what each is."""
    aliases = dict.fromkeys((name for name in naming.names.aliases if not is_pattern(name)), "alias")
    return {**aliases, **dict.fromkeys(routes_of(naming.names.routes, server), "route")}


def routes_of(configured: Mapping[str, FailoverRoute], server: Server) -> Mapping[str, FailoverRoute]:
    """As commands changed them."""
    if not server.routes:
        return configured
    return {name: route for name, route in {**configured, **server.routes}.items() if route is not None}
