"""The wire formats. Adding one is adding its file here, and its name to `NAMES`."""

from functools import cache
from importlib import import_module

from llm_interactive.protocols.base import Protocol

NAMES = ("openai_chat", "openai_responses", "anthropic_messages", "gemini")


@cache
def named(name: str) -> Protocol:
    """A protocol by its name, loaded when it is first used."""
    protocol = import_module(f"llm_interactive.protocols.{name}").PROTOCOL
    assert isinstance(protocol, Protocol)
    return protocol
