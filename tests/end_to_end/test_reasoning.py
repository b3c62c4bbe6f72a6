"""One control for reasoning and temperature: what a command changes on the wire, whoever asks and whoever answers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from kit.clients import CLIENTS
from kit.proxy import RunningProxy, running_proxy
from kit.turns import Turn, Turns
from kit.upstream import Upstream

from llm_interactive.protocols.gemini_schema import camel

EVERY = pytest.mark.parametrize("protocol", list(CLIENTS))
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

CONFIG = """
model_defaults:
  "gpt-4.1*": {temperature: 0.3, max_tokens: 700}
  "anthropic:claude-sonnet-4-5": {reasoning_effort: low}
model_facts:
  "openai:gpt-4o-mini": {refuses: [top_p], images: false}
"""
BACKENDS = ("OPENAI", "ANTHROPIC", "GEMINI", "OPENROUTER", "QWEN", "ZAI", "DEEPSEEK", "MISTRAL")


@dataclass(frozen=True, slots=True)
class World:
    proxy: RunningProxy
    upstream: Upstream

    def sent(self, protocol: str, said: str, model: str, session: str, **more: Any) -> Any:
        """The body of the request that came of a prompt."""
        CLIENTS[protocol](self.proxy, said, model=model, session=session, **more)
        return self.upstream.requests[-1].json

    def noted(self, model: str, said: str, session: str, **more: Any) -> list[str]:
        body = {"model": model, "messages": [{"role": "user", "content": said}], **more}
        answer = httpx.post(f"{self.proxy.url}/v1/chat/completions", json=body, headers={"x-session-id": session})
        assert answer.status_code == 200, answer.text
        notes = answer.headers.get("x-llm-proxy-notes")
        return notes.split("; ") if notes else []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    config = tmp_path_factory.mktemp("world") / "config.yaml"
    config.write_text(CONFIG)
    with Upstream(answer=Turns(Turn("Done.", thinking="Hm."))) as upstream:
        keys = {f"{name}_API_KEY": "sk-x" for name in BACKENDS}
        urls = {f"{name}_API_BASE_URL": f"{upstream.url}/v1" for name in BACKENDS} | {
            "GEMINI_API_BASE_URL": upstream.url
        }
        with running_proxy({**keys, **urls, "LLM_CONFIG": str(config)}) as proxy:
            yield World(proxy, upstream)


def found(body: Any, path: str) -> Any:
    """`path`: keys with dots; Gemini's SDK spells some with underscores."""
    for key in path.split("."):
        body = body.get(key, body.get(camel(key))) if isinstance(body, dict) else None
    return body


COMMANDS: list[tuple[str, str, dict[str, Any]]] = [
    ("temperature=0.5", "openai:gpt-4o", {"temperature": 0.5}),
    ("temperature=1.6", "anthropic:claude-opus-4-1", {"temperature": 1}),
    ("temperature=1.6", "gemini:gemini-2.5-flash", {"generationConfig.temperature": 1.6}),
    ("temperature=1.6", "mistral:mistral-large-latest", {"temperature": 1.5}),
    ("temperature=0.5", "openai:gpt-5", {"temperature": None}),
    ("temperature=0.5", "anthropic:claude-opus-4-7", {"temperature": None}),
    ("reasoning-effort=high", "openai:gpt-5", {"reasoning_effort": "high"}),
    ("reasoning-effort=max", "openai:o3", {"reasoning_effort": "high"}),
    ("reasoning-effort=none", "openai:gpt-5", {"reasoning_effort": "minimal"}),
    ("reasoning-effort=none", "openai:gpt-5.1", {"reasoning_effort": "none"}),
    ("reasoning-effort=high", "openai:gpt-4o", {"reasoning_effort": None}),
    ("reasoning-effort=high", "openai-responses:gpt-5", {"reasoning.effort": "high"}),
    ("reasoning-effort=high", "anthropic:claude-opus-4-7",
     {"thinking.type": "adaptive", "output_config.effort": "high"}),
    ("reasoning-effort=none", "anthropic:claude-opus-4-7", {"thinking.type": "disabled", "output_config": None}),
    ("thinking-budget=2048", "anthropic:claude-sonnet-4-0",
     {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
    ("thinking-budget=2048", "gemini:gemini-2.5-pro", {"generationConfig.thinkingConfig.thinkingBudget": 2048}),
    ("thinking-budget=0", "gemini:gemini-2.5-pro", {"generationConfig.thinkingConfig.thinkingBudget": 128}),
    ("thinking-budget=0", "gemini:gemini-2.5-flash", {"generationConfig.thinkingConfig.thinkingBudget": 0}),
    ("reasoning-effort=low", "gemini:gemini-3-pro-preview", {"generationConfig.thinkingConfig.thinkingLevel": "LOW"}),
    ("thinking-budget=9000", "openai:gpt-5", {"reasoning_effort": "medium"}),
    ("reasoning=effort=low", "openrouter:anthropic/claude-opus-4.7", {"reasoning": {"effort": "low"}}),
    ("reasoning=max_tokens=3000, exclude=true", "openrouter:anthropic/claude-sonnet-4.5",
     {"reasoning": {"max_tokens": 3000, "exclude": True}}),
    ("thinking-budget=3000", "qwen:qwen-plus", {"enable_thinking": True, "thinking_budget": 3000}),
    ("reasoning-effort=none", "qwen:qwen3-235b-a22b", {"enable_thinking": False, "thinking_budget": None}),
    ("reasoning-effort=none", "zai:glm-4.6", {"thinking": {"type": "disabled"}, "reasoning_effort": None}),
    ("reasoning-effort=max", "deepseek:deepseek-chat", {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}),
    ('gemini-generation-config={"topK": 7, "response_mime_type": "text/plain"}', "gemini:gemini-2.5-flash",
     {"generationConfig.topK": 7, "generationConfig.responseMimeType": "text/plain"}),
    ('gemini-generation-config={"topK": 7}', "openai:gpt-4o", {"generationConfig": None, "top_k": None}),
]  # fmt: skip


@EVERY
def test_a_command_says_the_same_through_every_client(world: World, protocol: str) -> None:
    for number, (command, model, expected) in enumerate(COMMANDS):
        session = f"says-{protocol}-{number}"
        body = world.sent(protocol, f"!/set({command}) Why?", model, session, stream=bool(number % 2))
        assert {path: found(body, path) for path in expected} == expected, (command, model)
        assert "!/set" not in json.dumps(body)
        later = world.sent(protocol, "And then?", model, session)
        assert {path: found(later, path) for path in expected} == expected, (command, model, "later")


REASONED = {
    "openai_chat": ({"reasoning_effort": "low"}, "reasoning_effort"),
    "openai_responses": ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
    "anthropic_messages": ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
                           "output_config.effort"),
    "gemini": ({"config": {"thinking_config": {"thinking_level": "LOW"}}},
               "generationConfig.thinkingConfig.thinking_level"),
}  # fmt: skip
OWN = {
    "openai_chat": "openai:gpt-5",
    "openai_responses": "openai-responses:gpt-5",
    "anthropic_messages": "anthropic:claude-opus-4-7",
    "gemini": "gemini:gemini-3-pro-preview",
}


@EVERY
def test_a_command_goes_before_the_clients_own_words_and_unset_gives_them_back(world: World, protocol: str) -> None:
    asked, path = REASONED[protocol]
    model, session = OWN[protocol], f"own-{protocol}"
    assert found(world.sent(protocol, "Why?", model, session, **asked), path) in ("low", "LOW")
    CLIENTS[protocol](world.proxy, "!/set(reasoning-effort=high)", model=model, session=session)
    assert found(world.sent(protocol, "Why?", model, session, **asked), path) in ("high", "HIGH")
    CLIENTS[protocol](world.proxy, "!/unset(reasoning-effort)", model=model, session=session)
    assert found(world.sent(protocol, "Why?", model, session, **asked), path) in ("low", "LOW")


def test_the_tiers_from_the_models_name_to_its_defaults(world: World) -> None:
    ask = world.sent
    assert ask("openai_chat", "Why?", "openai:gpt-4.1-mini", "tiers") | {"messages": 0, "model": 0} == {
        "model": 0, "messages": 0, "temperature": 0.3, "max_completion_tokens": 700,
    }  # fmt: skip
    assert ask("openai_chat", "Why?", "openai:gpt-4.1-mini", "tiers", temperature=0.9)["temperature"] == 0.9
    named = "openai:gpt-4.1-mini?temperature=0.2&max_tokens=50"
    body = ask("openai_chat", "Why?", named, "tiers", temperature=0.9)
    assert (body["temperature"], body["max_completion_tokens"], body["model"]) == (0.2, 50, "gpt-4.1-mini")
    CLIENTS["openai_chat"](world.proxy, "!/set(temperature=0.1)", session="tiers")
    assert ask("openai_chat", "Why?", named, "tiers", temperature=0.9)["temperature"] == 0.1
    assert ask("openai_chat", "Why?", "anthropic:claude-sonnet-4-5", "x")["thinking"]["budget_tokens"] == 2048


def test_the_file_knows_better_than_the_table(world: World) -> None:
    notes = world.noted("openai:gpt-4o-mini", "Why?", "facts", top_p=0.5, temperature=0.5)
    assert notes == ["top_p: not sent, gpt-4o-mini refuses it"]
    assert world.upstream.requests[-1].json["temperature"] == 0.5
    assert world.noted("openai:gpt-4o", "Why?", "facts", top_p=0.5) == []


def test_no_secret_leaves_in_a_generation_config(world: World) -> None:
    key = "sk-proj-" + "Ab3" * 16
    typed = json.dumps({"stopSequences": [key, "end"]})
    body = world.sent("gemini", f"!/set(gemini-generation-config={typed}) Why?", "gemini:gemini-2.5-flash", "secret")
    assert body["generationConfig"]["stopSequences"] == ["(API_KEY_HAS_BEEN_REDACTED)", "end"]


NOTES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("openai:gpt-4o", "!/set(temperature=0.5)", {"temperature": 0.7},
     ["temperature 0.7 -> 0.5: set in this session"]),
    ("anthropic:claude-opus-4-1", "!/set(temperature=1.6)", {},
     ["temperature 1.6: set in this session", "temperature 1.6 -> 1: the most that claude-opus-4-1 takes"]),
    ("openai:gpt-5", "!/set(temperature=0.5)", {},
     ["temperature 0.5: set in this session", "temperature: not sent, gpt-5 refuses it"]),
    ("openai:gpt-5", "", {"temperature": 0.5}, ["temperature: not sent, gpt-5 refuses it"]),
    ("openai:gpt-4o", "!/set(reasoning-effort=high)", {},
     ["reasoning high: set in this session", "reasoning: not sent, gpt-4o does not reason"]),
    ("openai:o3", "!/set(reasoning-effort=max)", {},
     ["reasoning max: set in this session", "reasoning effort max -> high: o3 takes low, medium, high"]),
    ("openai-responses:gpt-4o", "", {"max_tokens": 5},
     ["max_tokens 5 -> 16: the least that the Responses API takes"]),
    ("zai:glm-4.6", "!/set(reasoning-effort=high)", {},
     ["reasoning high: set in this session", "reasoning high: sent as on, glm-4.6 knows only on and off"]),
    ("openai:gpt-4o", '!/set(gemini-generation-config={"topK": 7})', {},
     ["gemini-generation-config: not sent, openai:gpt-4o is not asked as Gemini is"]),
    ("openai:gpt-4o", "", {"temperature": 0.5}, []),
]  # fmt: skip


def test_what_is_changed_is_told(world: World) -> None:
    for number, (model, command, more, expected) in enumerate(NOTES):
        assert world.noted(model, f"{command} Why?", f"notes-{number}", **more) == expected, (model, command)


ANSWERERS = ["openai:gpt-5", "openai-responses:gpt-5", "anthropic:claude-opus-4-7", "gemini:gemini-3-pro-preview"]


@EVERY
@BOTH
@pytest.mark.parametrize("model", ANSWERERS)
def test_reasoning_in_the_text_where_the_session_wants_it(
    world: World, protocol: str, stream: bool, model: str
) -> None:
    session = f"shown-{protocol}-{stream}-{model}"
    ask = CLIENTS[protocol]
    assert ask(world.proxy, "Why?", model=model, stream=stream, session=session).text == "Done."
    set_ = ask(world.proxy, "!/set(show-reasoning=true)", model=model, stream=stream, session=session)
    assert set_.text == "show-reasoning set to True"
    shown = ask(world.proxy, "Why?", model=model, stream=stream, session=session).text
    assert shown == "<think>\nHm.\n</think>\n\nDone."
    turns = [("user", "Why?"), ("assistant", shown), ("user", "And?")]
    ask(world.proxy, turns, model=model, stream=stream, session=session)
    sent = json.dumps(world.upstream.requests[-1].json)
    assert ("Done." in sent, "<think>" in sent, "Hm." in sent) == (True, False, False)


def reasoning_read(proxy: RunningProxy, protocol: str, session: str, stream: bool) -> bool:
    """Whether a client of this protocol is given the reasoning of a Chat Completions backend."""
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "openai_chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Why?"}]}),
        "openai_responses": ("/v1/responses", {"input": "Why?"}),
        "anthropic_messages": ("/v1/messages", {"max_tokens": 90, "messages": [{"role": "user", "content": "Why?"}]}),
    }
    path, body = bodies[protocol]
    asked = {"model": "deepseek:deepseek-chat", "stream": stream, **body}
    headers = {"x-session-id": session, "authorization": "Bearer none"}
    answer = httpx.post(f"{proxy.url}{path}", json=asked, headers=headers)
    assert (answer.status_code, "Done." in answer.text) == (200, True)
    return "Hm." in answer.text


@BOTH
@pytest.mark.parametrize("protocol", ["openai_chat", "openai_responses", "anthropic_messages"])
def test_reasoning_at_its_own_place_unless_the_session_leaves_it_out(world: World, protocol: str, stream: bool) -> None:
    session = f"hidden-{protocol}-{stream}"
    assert reasoning_read(world.proxy, protocol, session, stream)
    CLIENTS["openai_chat"](world.proxy, "!/set(reasoning=exclude=true)", session=session)
    assert not reasoning_read(world.proxy, protocol, session, stream)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
FORCED: dict[str, Any] = {"tools": [TOOL], "tool_choice": "required"}


@pytest.mark.parametrize(
    ("model", "off"),
    [
        ("anthropic:claude-opus-4-1", {"thinking.type": "disabled", "tool_choice.type": "any"}),
        ("qwen:qwen3-235b-a22b", {"enable_thinking": False, "tool_choice": "required"}),
        ("deepseek:deepseek-chat", {"thinking.type": "disabled", "tool_choice": "required"}),
        ("anthropic:claude-opus-4-7", {"thinking.type": "adaptive", "tool_choice.type": "any"}),
        ("openai:o3", {"reasoning_effort": "high", "tool_choice": "required"}),
        ("anthropic:claude-haiku-5-5", {"thinking.type": "adaptive", "tool_choice.type": "any"}),
        ("anthropic:claude-sonnet-5-5", {"thinking.type": "adaptive", "tool_choice.type": "auto"}),
        ("openrouter:anthropic/claude-opus-5.5", {"reasoning_effort": "high", "tool_choice": "auto"}),
    ],
)
def test_t20_a_forced_tool_goes_before_thinking(world: World, model: str, off: dict[str, Any]) -> None:
    world.noted(model, "Why?", "forced", reasoning_effort="high", **FORCED)
    body = world.upstream.requests[-1].json
    assert {path: found(body, path) for path in off} == off


def test_t20_but_not_before_a_command(world: World) -> None:
    notes = world.noted("anthropic:claude-opus-4-1", "!/set(reasoning-effort=low) Why?", "commanded", **FORCED)
    body = world.upstream.requests[-1].json
    assert (found(body, "thinking.type"), body["tool_choice"]["type"]) == ("enabled", "auto")
    assert body["system"] == "Answer by calling one of your tools."
    assert (
        "tool_choice: auto, and asked for in words, claude-opus-4-1 cannot be forced to call a tool while it thinks"
        in notes
    )


def test_t20_and_before_a_default(world: World) -> None:
    notes = world.noted("anthropic:claude-sonnet-4-5", "Why?", "defaults", **FORCED)
    body = world.upstream.requests[-1].json
    assert (found(body, "thinking.type"), body["tool_choice"]["type"]) == ("disabled", "any")
    assert notes[-1] == "reasoning: off, claude-sonnet-4-5 cannot be forced to call a tool while it thinks"


def test_t20_a_claude_that_is_never_forced_is_told_in_words(world: World) -> None:
    """In its own protocol too, where nothing else of the request changes."""
    own = {
        "model": "anthropic:claude-opus-5-5", "max_tokens": 50, "system": "Be brief.",
        "messages": [{"role": "user", "content": "Why?"}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    }  # fmt: skip
    answer = httpx.post(f"{world.proxy.url}/v1/messages", json=own, headers={"x-session-id": "never-forced"})
    told = "tool_choice: auto, and asked for in words, claude-opus-5-5 cannot be forced to call a tool"
    assert (answer.status_code, answer.headers["x-llm-proxy-notes"]) == (200, told)
    body = world.upstream.requests[-1].json
    words = [{"type": "text", "text": text} for text in ("Be brief.", "Answer by calling the tool `f`.")]
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert body == own | {"model": "claude-opus-5-5", "system": words, "tool_choice": choice}


def test_models_that_think_in_streams_only_do_not_think_elsewhere(world: World) -> None:
    model = "qwen:qwen3-235b-a22b"
    notes = world.noted(model, "Why?", "unstreamed", reasoning_effort="high")
    assert world.upstream.requests[-1].json["enable_thinking"] is False
    assert notes == ["reasoning: off, qwen3-235b-a22b thinks only in answers that are streamed"]
    CLIENTS["openai_chat"](world.proxy, "Why?", model=model, session="streamed", stream=True, reasoning_effort="high")
    assert world.upstream.requests[-1].json["enable_thinking"] is True


def test_t40_pictures_stay_away_from_models_that_cannot_see(world: World) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    said: Any = [{"type": "text", "text": "What is this?"}, picture]
    for model, sees in (("deepseek:deepseek-chat", False), ("openai:gpt-4o", True)):
        notes = world.noted(model, said, "pictures")
        assert ("iVBORw0KGgo" in json.dumps(world.upstream.requests[-1].json)) is sees
        assert notes == ([] if sees else ["pictures: not sent, deepseek-chat reads text only"])
