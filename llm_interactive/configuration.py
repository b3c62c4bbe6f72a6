"""What exchanges need to know beside the request: the settings, and where a caught call was going."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.loops import Loops
from llm_interactive.protocols.openai_responses_store import ResponseStore
from llm_interactive.redaction.redactor import Redactor
from llm_interactive.routing.choice import Naming
from llm_interactive.routing.cooldowns import Cooldowns
from llm_interactive.sessions import Server


@dataclass(frozen=True, slots=True)
class Configuration:
    """What exchanges need to know of the settings. `timeout`: seconds without a byte; `body_limit`: bytes."""

    backends: Mapping[str, ConfiguredBackend]
    naming: Naming = field(default_factory=Naming)
    cooldowns: Cooldowns = field(default_factory=Cooldowns)
    server: Server = field(default_factory=Server)
    """What commands set for everybody."""
    responses: ResponseStore = field(default_factory=ResponseStore)
    loops: Loops = field(default_factory=Loops)
    redactor: Redactor = field(default_factory=Redactor)
    timeout: float = 300.0
    body_limit: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Caught:
    """What a call that was caught on its provider's own host keeps: where it was going, and its credentials. They are
    for that `backend` alone: a command may send the call elsewhere."""

    backend: ConfiguredBackend
    host: str
    port: int
    authority: str
    credentials: Mapping[str, str] = field(repr=False)
