"""A backend at the URL that a session's `openai_url` names: what of the configured one may go there (SPEC 9)."""

from collections.abc import Mapping

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.url_guard import same_origin

NAME = "openai"
PROTOCOL = "openai_chat"


def backend_for_url(url: str, configured: Mapping[str, ConfiguredBackend]) -> ConfiguredBackend:
    """The backend `openai` at another base URL, whether one is configured or not. Its keys and headers come along only
    where the URL is at the very origin that the operator gave them to; else it has none."""
    own = configured.get(NAME)
    if own is not None and any(same_origin(url, base_url) for base_url in own.protocols.values()):
        return ConfiguredBackend(NAME, {PROTOCOL: url}, own.keys, own.headers, own.vendor)
    return ConfiguredBackend(NAME, {PROTOCOL: url})
