from typing import Any

import pytest

from llm_interactive.asked_in import AskedIn
from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.config_file import ModelDefaults, OwnFacts
from llm_interactive.conversation import Conversation, Message, Opaque, Reasoning, Text, Tool
from llm_interactive.routing.resolution import Element
from llm_interactive.sessions import Session
from llm_interactive.settings import Settings

BOTH = {"openai_chat": "http://x/v1", "openai_responses": "http://x/v1"}
OPENAI = ConfiguredBackend("openai", BOTH)
TOOLS = (Tool(name="f"),)
ASKED = Conversation(model="m", messages=(Message(role="user", parts=(Text(text="q"),)),))


def instead(
    model: str,
    conversation: Conversation | None = ASKED,
    *,
    backend: ConfiguredBackend = OPENAI,
    usual: str = "openai_chat",
    parameters: Any = None,
    session: Any = None,
    **settings: Any,
) -> str:
    asked = AskedIn(conversation, Session("s", **(session or {})), Settings(**settings))
    return asked.instead(Element(backend, model, parameters or {}), usual)


@pytest.mark.parametrize(
    ("model", "bare", "with_tools", "calm_with_tools", "thinking_with_tools"),
    [
        ("gpt-4o", "chat", "chat", "chat", "chat"),
        ("gpt-5", "chat", "chat", "chat", "chat"),
        ("gpt-5.1", "chat", "chat", "chat", "chat"),
        ("gpt-5.4", "chat", "chat", "chat", "responses"),  # it does not think by itself
        ("gpt-5.6-sol", "chat", "responses", "chat", "responses"),
        ("gpt-6-luna", "chat", "responses", "chat", "responses"),
        ("gpt-6-astra-2026-09-01", "chat", "responses", "chat", "responses"),
        ("gpt-5-codex", "responses", "responses", "responses", "responses"),
        ("gpt-5.4-pro", "responses", "responses", "responses", "responses"),
        ("o3-pro", "responses", "responses", "responses", "responses"),
        ("gpt-9.9-new", "chat", "responses", "chat", "responses"),
        ("nobody-knows-this", "chat", "chat", "chat", "chat"),
    ],
)
def test_openai_s_models(
    model: str, bare: str, with_tools: str, calm_with_tools: str, thinking_with_tools: str
) -> None:
    tooled = ASKED.edit(tools=TOOLS)
    assert [
        instead(model, ASKED),
        instead(model, tooled),
        instead(model, tooled.edit(reasoning=Reasoning(enabled=False))),
        instead(model, tooled.edit(reasoning=Reasoning(effort="high"))),
    ] == [f"openai_{name}" for name in (bare, with_tools, calm_with_tools, thinking_with_tools)]


def test_whoever_has_a_say_in_the_thinking_is_heard() -> None:
    tooled = ASKED.edit(tools=TOOLS)
    assert instead("gpt-5.4", tooled, session={"reasoning_effort": "high"}) == "openai_responses"
    assert instead("gpt-5.4", tooled, parameters={"reasoning_effort": "high"}) == "openai_responses"
    defaults = {"openai:gpt-5*": ModelDefaults(reasoning_effort="low")}
    assert instead("gpt-5.4", tooled, model_defaults=defaults) == "openai_responses"
    assert instead("gpt-6-sol", tooled, session={"reasoning_effort": "none"}) == "openai_chat"
    assert instead("gpt-6-sol", tooled, model_facts={"gpt-6*": OwnFacts(chat="always")}) == "openai_chat"


def test_nothing_else_is_asked_in_another_protocol() -> None:
    tooled = ASKED.edit(tools=TOOLS)
    chat_only = ConfiguredBackend("openai", {"openai_chat": "http://x/v1"})
    assert instead("gpt-6-sol", tooled, backend=chat_only) == "openai_chat"
    assert instead("openai/gpt-6-sol", tooled, backend=ConfiguredBackend("mine", BOTH)) == "openai_chat"
    assert instead("gpt-6-sol", tooled, usual="anthropic_messages") == "anthropic_messages"
    assert instead("gpt-5-codex", None) == "openai_chat"  # a call that goes on unread
    search = ASKED.edit(tools=(Opaque(what="web_search"),))
    assert instead("gpt-6-sol", search) == "openai_chat"
    assert instead("gpt-6-sol", tooled, backend=ConfiguredBackend("openai-responses", BOTH)) == "openai_responses"
