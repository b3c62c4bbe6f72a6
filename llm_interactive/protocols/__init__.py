"""The wire formats. Adding one is adding its file here."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from llm_interactive.protocols.base import Protocol

NAMES = ("openai_chat", "openai_responses", "anthropic_messages", "gemini")


@cache
def all_protocols() -> Mapping[str, Protocol]:
    """Every protocol by its name."""
    return {name: import_module(f"llm_interactive.protocols.{name}").PROTOCOL for name in NAMES}
