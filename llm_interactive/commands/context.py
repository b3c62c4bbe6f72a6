"""What commands act on: the session and the server's values, and what they may know of the rest. Never globals."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_interactive.config_file import FailoverRoute
from llm_interactive.sessions import Server, Session


class CommandError(Exception):
    """Why a command did not do what it was asked; the text is the answer."""


@dataclass(frozen=True, slots=True)
class BackendSummary:
    """How many keys a backend has, and models, None where nobody asked it yet."""

    keys: int
    models: int | None = None


def no_usage() -> Mapping[str, Any]:
    return {}


def no_key_states() -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Context:
    """`backends`: the configured ones. `prefix`, `routes`, `aliases`, `default_backend`, `redact`: as configured, for
    where the server's values and the session say nothing else. `allowed_urls`: LLM_ALLOWED_URLS.

    `usage`: today's totals of the session (`total_tokens`, `prompt_tokens`, `completion_tokens`, `requests`, `cost`).
    `key_states`: a line for each key or route that is in cool-down or set aside."""

    session: Session
    server: Server
    backends: Mapping[str, BackendSummary]
    configured_prefix: str = "!/"
    configured_routes: Mapping[str, FailoverRoute] = field(default_factory=dict)
    configured_aliases: Mapping[str, str] = field(default_factory=dict)
    configured_default_backend: str | None = None
    configured_redact: bool = True
    allowed_urls: tuple[str, ...] = ()
    usage: Callable[[], Mapping[str, Any]] = no_usage
    key_states: Callable[[], Sequence[str]] = no_key_states
    is_directory: Callable[[str], bool] = os.path.isdir

    @property
    def prefix(self) -> str:
        return self.server.command_prefix or self.configured_prefix

    @property
    def default_backend(self) -> str | None:
        return self.server.default_backend or self.configured_default_backend

    @property
    def redact(self) -> bool:
        return self.configured_redact if self.server.redact is None else self.server.redact

    @property
    def routes(self) -> dict[str, FailoverRoute]:
        """Configured ones, as commands changed them."""
        merged = {**self.configured_routes, **self.server.routes}
        return {name: route for name, route in merged.items() if route is not None}

    @property
    def aliases(self) -> dict[str, str]:
        return {**self.configured_aliases, **self.session.aliases}

    def alias(self, name: str) -> str | None:
        """Its meaning; case does not matter where the very name is not there."""
        aliases = self.aliases
        return aliases.get(name, aliases.get(name.lower()))

    def element(self, text: str) -> str | None:
        """`backend:model` of `backend:model` or `backend/model`; None where the backend is not known."""
        for mark in ":/":
            backend, found, model = text.strip().partition(mark)
            if found and model.strip() and backend in self.backends:
                return f"{backend}:{model}"
        return None
