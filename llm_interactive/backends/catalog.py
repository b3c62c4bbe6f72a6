"""Which backends the settings configure, with their base URLs and keys, and how a URL is put together (SPEC 12)."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from llm_interactive.backends.providers import BACKENDS, DEMO, FAMILIES, Backend
from llm_interactive.settings import ExtraBackend, Settings

__all__ = [
    "BACKENDS",
    "FAMILIES",
    "SAME_SERVICE",
    "Backend",
    "ConfiguredBackend",
    "configured",
    "demo",
    "intercepted",
    "join",
    "recognised_host",
    "version_prefix",
]

VERSION = re.compile(r"v\d+(?:(?:alpha|beta)\d*)?", re.IGNORECASE)
DEFAULT_VERSIONS = {"gemini": "v1beta"}
ENDPOINTS = {
    "openai_chat": "/chat/completions",
    "openai_responses": "/responses",
    "anthropic_messages": "/messages",
}
"""A base URL that ends in one of them is taken as it is, for services without a version segment."""

SAME_SERVICE = {"openai-responses": "openai"}
"""Backends that are another door of the same service."""


@dataclass(frozen=True, slots=True)
class Access:
    """What an account is good for now."""

    base_url: str
    token: str = field(repr=False)


class Account(ABC):
    """A sign-in in place of a key, which ends and is renewed."""

    @property
    @abstractmethod
    def is_settled(self) -> bool:
        """Whether `access` can say something without `renew`."""

    @property
    @abstractmethod
    def secrets(self) -> tuple[str, ...]:
        """What must not be seen of it."""

    @abstractmethod
    def access(self) -> Access:
        """Raises `UpstreamError` where it cannot be had."""

    @abstractmethod
    def distrust(self, access: Access) -> None:
        """It was refused: it is not settled any more."""

    @abstractmethod
    async def renew(self) -> None:
        """Settle it. Does not raise."""


@dataclass(frozen=True, slots=True)
class ConfiguredBackend:
    """`protocols`: name -> base URL, the preferred one first. `vendor`: `openai`, `anthropic` or `gemini`, whose other
    paths (`/v1/embeddings` ...) go there. `account`: in place of keys and of the base URL. `allowed`: None, but for a
    URL that came out of a prompt the hosts it may lead to (`url_guard.may_connect`)."""

    name: str
    protocols: Mapping[str, str]
    keys: tuple[SecretStr, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    vendor: str = "openai"
    account: Account | None = field(default=None, repr=False)
    allowed: tuple[str, ...] | None = None


def configured(settings: Settings) -> dict[str, ConfiguredBackend]:
    """The named services that can be called, in the table's order, then the config file's own in its order.

    `demo` is not among them: its URL is known when its server runs (`demo()`).
    """
    found = {}
    for name, row in BACKENDS.items():
        keys = settings.keys.get(name, ())
        if keys or (not row.needs_key and _is_wanted(name, settings)):
            found[name] = _known(row, settings, keys)
    for name, extra in settings.backends.items():
        keys = settings.keys.get(name, ())
        if name not in BACKENDS and (keys or extra.api_key_env is None):
            protocols = dict.fromkeys(extra.protocol, settings.base_urls[name])
            found[name] = ConfiguredBackend(name, protocols, keys, extra.headers, FAMILIES[extra.protocol[0]])
    return found


def _is_wanted(name: str, settings: Settings) -> bool:
    """A service that needs no key is there when something names it."""
    return name in settings.base_urls or name in settings.backends or name == settings.backend


def _known(row: Backend, settings: Settings, keys: tuple[SecretStr, ...]) -> ConfiguredBackend:
    """At a custom base URL only the first protocol is assumed, unless the file says more (SPEC 12)."""
    custom = settings.base_urls.get(row.name)
    extra = settings.backends.get(row.name, ExtraBackend())
    names = extra.protocol or (tuple(row.protocols)[:1] if custom else tuple(row.protocols))
    protocols = {name: custom or row.protocols[name] for name in names}
    return ConfiguredBackend(row.name, protocols, keys, {**row.headers, **extra.headers}, row.vendor)


def demo(url: str, token: str) -> ConfiguredBackend:
    """The backend inside the process, which listens at `url` and asks for `token`."""
    return ConfiguredBackend(DEMO, {"openai_chat": url}, (SecretStr(token),))


def recognised_host(host: str, more: Collection[str] = ()) -> Backend | None:
    """The service whose own host this is; `more`: further hosts to watch (`LLM_INTERCEPT_HOSTS`), named after
    themselves."""
    name = host.lower().rstrip(".")
    found = _BY_HOST.get(name)
    if found is None and name in more:
        return Backend(name, "", {"openai_chat": f"https://{name}"}, hosts=(name,))
    return found


def intercepted(backend: Backend, protocol: str, base_url: str) -> ConfiguredBackend:
    """Where a call that was caught on its way goes: to where it went, with its own credential (SPEC 3)."""
    return ConfiguredBackend(backend.name, {protocol: base_url}, (), backend.headers, FAMILIES[protocol])


def join(base_url: str, protocol: str, path: str) -> str:
    """The URL of `path`, which follows the version segment ("/chat/completions"). A base URL without one gets it.

    A version earlier in the path counts only for OpenAI's protocols: their SDKs take base URLs with the version, and
    some end behind it (`https://host/v1beta/openai`); the others' SDKs add it at the end themselves.
    """
    root = base_url.rstrip("/")
    endpoint = ENDPOINTS.get(protocol)
    if endpoint is not None and root.endswith(endpoint):
        return root.removesuffix(endpoint) + path
    segments = urlsplit(root).path.split("/")
    where = segments if FAMILIES[protocol] == "openai" else segments[-1:]
    if any(VERSION.fullmatch(segment) for segment in where):
        return root + path
    return f"{root}/{DEFAULT_VERSIONS.get(protocol, 'v1')}{path}"


def version_prefix(path: str) -> str:
    """The start of a called path up to its version segment: `/api/v1` of `/api/v1/messages`; "" where there is none."""
    found = _VERSIONED.match(path)
    return found.group() if found else ""


_BY_HOST = {host: row for row in BACKENDS.values() for host in row.hosts}
_VERSIONED = re.compile(rf"(?:/[^/]+?)*?(?:/{VERSION.pattern})+(?=/)", re.IGNORECASE)
