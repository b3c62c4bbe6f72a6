"""Which backends the settings configure, with their base URLs and keys, and how a URL is put together (SPEC 12)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from llm_interactive.backends.providers import BACKENDS, DEMO, FAMILIES, Backend
from llm_interactive.settings import ExtraBackend, Settings

__all__ = [
    "BACKENDS",
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


@dataclass(frozen=True, slots=True)
class ConfiguredBackend:
    """`protocols`: name -> base URL, the preferred one first. `vendor`: `openai`, `anthropic` or `gemini`, whose other
    paths (`/v1/embeddings` ...) go there."""

    name: str
    protocols: Mapping[str, str]
    keys: tuple[SecretStr, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    vendor: str = "openai"


def configured(settings: Settings) -> dict[str, ConfiguredBackend]:
    """The named services that can be called, in the table's order, then the config file's own in its order.

    `demo` is not among them: its URL is known when its server runs (`demo()`).
    """
    found = {}
    for name, row in BACKENDS.items():
        backend = _of_row(row, settings)
        if backend.keys or (not row.needs_key and _is_wanted(row, settings)):
            found[name] = backend
    for name, extra in settings.backends.items():
        keys = settings.keys.get(name, ())
        if name not in BACKENDS and (keys or extra.api_key_env is None):
            found[name] = _of_file(name, extra, settings.base_urls.get(name), keys)
    return found


def _is_wanted(row: Backend, settings: Settings) -> bool:
    return row.name in settings.base_urls or row.name in settings.backends or settings.backend == row.name


def _of_row(row: Backend, settings: Settings) -> ConfiguredBackend:
    custom = settings.base_urls.get(row.name)
    extra = settings.backends.get(row.name)
    if extra is not None:
        names = extra.protocol or (next(iter(row.protocols)) if custom else "",)
        if not extra.protocol and not custom:
            protocols = dict(row.protocols)
        else:
            protocols = {name: custom or row.protocols[name] for name in names if custom or name in row.protocols}
    elif custom is not None:
        protocols = {next(iter(row.protocols)): custom}
    else:
        protocols = dict(row.protocols)
    headers = {**row.headers, **(extra.headers if extra else {})}
    return ConfiguredBackend(row.name, protocols, settings.keys.get(row.name, ()), headers, row.vendor)


def _of_file(name: str, extra: ExtraBackend, base_url: str | None, keys: tuple[SecretStr, ...]) -> ConfiguredBackend:
    assert base_url is not None
    protocols = dict.fromkeys(extra.protocol, base_url)
    return ConfiguredBackend(name, protocols, keys, extra.headers, FAMILIES[extra.protocol[0]])


def demo(url: str, token: str) -> ConfiguredBackend:
    """The backend inside the process, which listens at `url` and asks for `token`."""
    return ConfiguredBackend(DEMO, {"openai_chat": url}, (SecretStr(token),))
