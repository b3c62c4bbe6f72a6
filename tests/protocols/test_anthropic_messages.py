"""Anthropic's requests as a client sends them: what came goes on as it came; its meaning; errors, models, counts."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import corpus

from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Reasoning,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_interactive.errors import BadRequest, NotAuthenticated, UpstreamError
from llm_interactive.protocols.anthropic_messages import NAME, PROTOCOL
from llm_interactive.protocols.base import Call, ModelEntry, ModelFacts, Notes, Target
from llm_interactive.protocols.foreign_signatures import Hidden, wrap

CALL = Call(NAME, "generate", "/v1/messages")
TARGET = Target("anthropic", "claude", "anthropic")
USER: Any = {"role": "user", "content": "hi"}
OWN = [
    exchange
    for api in ("messages", "count_tokens")
    for exchange in corpus.exchanges(api=api)
    if isinstance(exchange.request.body, dict)
    and "model" in exchange.request.body
    and all(isinstance(message, dict) for message in exchange.request.body.get("messages", [None]))
]


def read(*messages: Any, call: Call = CALL, **body: Any) -> Conversation:
    return PROTOCOL.read_request({"model": "claude", "messages": list(messages) or [USER], **body}, call)


def parts(*blocks: Any, role: str = "user") -> tuple[Any, ...]:
    return read({"role": role, "content": list(blocks)}).messages[0].parts


def sent(conversation: Conversation, target: Target = TARGET) -> dict[str, Any]:
    return PROTOCOL.write_request(conversation, target, Notes()).body


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", OWN, ids=lambda exchange: exchange.id)
def test_identity_of_requests(exchange: Any) -> None:
    body = exchange.request.body
    write = PROTOCOL.write_count_request if exchange.api == "count_tokens" else PROTOCOL.write_request
    request = write(PROTOCOL.read_request(body, CALL), Target("anthropic", body["model"], "anthropic"), Notes())
    assert list(request.body.items()) == list(body.items())


def test_only_edited_messages_of_an_own_request_are_written_anew() -> None:
    mark = {"type": "ephemeral"}
    picture = {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}, "cache_control": mark}
    old = {"role": "assistant", "content": [{"type": "text", "text": "", "odd": 1}]}
    new = {"role": "user", "content": [{"type": "text", "text": "!/hello now"}, picture]}
    conversation = read(USER, old, new, system=[{"type": "text", "text": "s", "cache_control": mark}], top_k=3)
    message = conversation.messages[2]
    message = message.edit(parts=(message.parts[0].edit(text="now"), message.parts[1]))  # type: ignore[call-arg]
    assert sent(conversation.edit(messages=(*conversation.messages[:2], message))) == {
        "model": "claude",
        "messages": [USER, old, {"role": "user", "content": [{"type": "text", "text": "now"}, picture]}],
        "system": [{"type": "text", "text": "s", "cache_control": mark}],
        "top_k": 3,
    }


def test_a_message_with_nothing_left_goes() -> None:
    conversation = read({"role": "user", "content": "!/pwd"}, {"role": "assistant", "content": "/home"}, USER)
    empty = conversation.messages[0].edit(parts=())
    assert sent(conversation.edit(messages=(empty, conversation.messages[2])))["messages"] == [USER]


def test_instructions_left_behind_an_assistants_turn_become_the_users_words() -> None:
    rule = {"role": "system", "content": [{"type": "text", "text": "rule"}]}
    conversation = read(USER, {"role": "assistant", "content": "a"}, {"role": "user", "content": "!/pwd"}, rule)
    kept = (*conversation.messages[:2], conversation.messages[3])
    assert sent(conversation.edit(messages=kept))["messages"][2:] == [{**rule, "role": "user"}]
    assert sent(conversation)["messages"][3] == rule


def test_beta_flags_go_to_anthropic_only() -> None:
    """T94, T95"""
    headers = {"anthropic-beta": "context-1m", "anthropic-version": "2024-01-01", "x-stainless-os": "Linux"}
    call = Call(NAME, "generate", "/v1/messages", query="beta=true", headers=headers)
    conversation = read(call=call, context_management={"edits": []})
    own = PROTOCOL.write_request(conversation, TARGET, Notes())
    assert own.headers == {"anthropic-beta": "context-1m", "anthropic-version": "2024-01-01"}
    assert (own.query, own.path) == ("beta=true", "/messages")
    notes = Notes()
    other = PROTOCOL.write_request(conversation, Target("zai", "glm", "zai"), notes)
    assert (other.headers, other.query) == ({"anthropic-version": "2023-06-01"}, "")
    assert other.body == {"model": "glm", "messages": [USER]}
    assert list(notes) == ["context_management: not sent, it belongs to Anthropic"]


def test_t29_system_messages_between_turns_stay_in_place() -> None:
    rule = {"role": "system", "content": "rule"}
    conversation = read(USER, rule)
    assert conversation.messages[1] == Message(role="system", parts=(Text(text="rule"),))
    assert sent(conversation)["messages"] == [USER, rule]
    elsewhere = sent(conversation, Target("zai", "glm", "zai"))
    assert (elsewhere["messages"], elsewhere["system"]) == ([USER], [{"type": "text", "text": "rule"}])


def test_edited_instructions_between_turns_are_not_lost() -> None:
    conversation = read(USER, {"role": "system", "content": "key"}, system="s")
    edited = conversation.messages[1].edit(parts=(Text(text="hidden"),))
    conversation = conversation.edit(messages=(conversation.messages[0], edited))
    takes = Target("anthropic", "claude", "anthropic", ModelFacts(mid_system=True))
    hidden = {"type": "text", "text": "hidden"}
    assert sent(conversation, takes)["messages"] == [USER, {"role": "system", "content": [hidden]}]
    assert sent(conversation)["messages"] == [USER]
    assert sent(conversation)["system"] == [{"type": "text", "text": "s"}, hidden]


def test_another_model_than_was_asked_for_gets_what_it_takes() -> None:
    asked = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "max_tokens": 90000, "stream": True}
    facts = ModelFacts(reasoning="budget", max_output=64000)
    body = sent(read(**asked), Target("anthropic", "older", "anthropic", facts))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 16384}
    assert (body["max_tokens"], "output_config" in body, body["stream"]) == (64000, False, True)
    newer = ModelFacts(reasoning="adaptive", refuses=frozenset({"temperature"}))
    asked = {"thinking": {"type": "enabled", "budget_tokens": 3000}, "temperature": 1, "max_tokens": 5000}
    body = sent(read(**asked), Target("anthropic", "newer", "anthropic", newer))
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert (body["output_config"], "temperature" in body) == ({"effort": "low"}, False)


def test_a_session_can_set_thinking_on_an_own_request() -> None:
    conversation = read(max_tokens=4000, temperature=0.3, tools=[TOOL], tool_choice={"type": "any"})
    conversation = conversation.edit(reasoning=Reasoning(enabled=True, budget=8000))
    body = sent(conversation, Target("anthropic", "claude", "anthropic", ModelFacts(reasoning="budget")))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert (body["max_tokens"], "temperature" in body, body["tool_choice"]) == (4000, False, {"type": "auto"})


TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True, "cache_control": {}}


def test_blocks_and_their_meaning() -> None:
    assert parts({"type": "text", "text": "a"}, "b") == (Text(text="a"), Text(text="b"))
    assert parts({"type": "thinking", "thinking": "t", "signature": "sig"}, role="assistant") == (
        Thinking(text="t", signature="sig", origin=NAME),
    )
    assert parts({"type": "redacted_thinking", "data": "x"}) == (Thinking(redacted="x", origin=NAME),)
    assert parts({"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1]}}) == (
        ToolCall(id="1", name="f", arguments='{"a":[1]}'),
    )
    [opaque] = parts({"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}})
    assert opaque == Opaque(what="server_tool_use")


def test_t23_t24_results_with_pictures_and_errors() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}
    text = {"type": "text", "text": "t"}
    assert parts({"type": "tool_result", "tool_use_id": "1", "content": [text, picture], "is_error": True}) == (
        ToolResult(
            call_id="1",
            parts=(Text(text="t"), Media(kind="image", media_type="image/png", data="AA")),
            is_error=True,
        ),
    )
    assert parts({"type": "tool_result", "tool_use_id": "1"}) == (ToolResult(call_id="1", parts=()),)


@pytest.mark.parametrize(
    ("block", "media"),
    [
        ({"type": "url", "url": "https://a/b.pdf"}, Media(kind="document", url="https://a/b.pdf", name="n")),
        (
            {"type": "url", "url": "data:application/pdf;base64,AA"},
            Media(kind="document", media_type="application/pdf", data="AA", name="n"),
        ),
        ({"type": "file", "file_id": "file_1"}, Media(kind="document", file_id="file_1", origin=NAME, name="n")),
        (
            {"type": "text", "media_type": "text/plain", "data": "words"},
            Media(kind="document", text="words", media_type="text/plain", name="n"),
        ),
        (
            {"type": "content", "content": [{"type": "text", "text": "words"}]},
            Media(kind="document", text="words", media_type="text/plain", name="n"),
        ),
        ({"type": "content", "content": [{"type": "image"}]}, Opaque(what="document of type content")),
    ],
)
def test_t37_to_t41_documents(block: Any, media: Any) -> None:
    assert parts({"type": "document", "source": block, "title": "n"}) == (media,)


def test_settings_and_their_meaning() -> None:
    schema = {"type": "object"}
    conversation = read(
        system="s",
        tools=[TOOL, {"type": "web_search_20250305", "name": "web_search"}],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        max_tokens=5,
        temperature=0.5,
        top_k=2,
        stop_sequences=["x"],
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}},
        metadata={"user_id": "u"},
        service_tier="auto",
        stream=True,
    )
    assert conversation == Conversation(
        model="claude",
        messages=(Message(role="user", parts=(Text(text="hi"),)),),
        system=(Text(text="s"),),
        tools=(
            Tool(name="f", description="d", schema={"type": "object"}, strict=True),
            Opaque(what="web_search_20250305"),
        ),
        tool_choice=ToolChoice(mode="named", name="f", parallel=False),
        sampling=Sampling(max_tokens=5, temperature=0.5, top_k=2, stop=("x",)),
        reasoning=Reasoning(effort="low"),
        output=OutputFormat(kind="json_schema", schema=schema),
        stream=True,
        user="u",
        owned={"service_tier": "auto"},
    )
    assert read(output_format={"type": "json_schema", "schema": schema}).output == conversation.output


@pytest.mark.parametrize(
    ("thinking", "reasoning"),
    [
        ({"type": "enabled", "budget_tokens": 2000}, Reasoning(enabled=True, budget=2000)),
        ({"type": "adaptive", "display": "omitted"}, Reasoning(enabled=True, adaptive=True, summary=False)),
        ({"type": "disabled"}, Reasoning(enabled=False)),
        ({"type": "between_tools"}, Reasoning(enabled=False)),
        (None, Reasoning()),
    ],
)
def test_thinking_asked_for(thinking: Any, reasoning: Reasoning) -> None:
    assert read(thinking=thinking).reasoning == reasoning


def test_t55_what_the_proxy_hid_in_a_signature_comes_out_and_never_reaches_anthropic() -> None:
    hidden = {"type": "thinking", "thinking": "t", "signature": wrap(Hidden("gemini", "sig", None, "id"))}
    call = {"type": "tool_use", "id": "1", "name": "f", "input": {}, "cache_control": {"type": "ephemeral"}}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]}
    conversation = read(USER, {"role": "assistant", "content": [hidden, call]}, result)
    assert conversation.messages[1].parts[0] == Thinking(text="t", signature="sig", origin="gemini", item_id="id")
    assert sent(conversation)["messages"] == [USER, {"role": "assistant", "content": [call]}, result]


def test_citations_that_the_proxy_made_do_not_go_to_anthropic() -> None:
    citation = {"type": "web_search_result_location", "url": "u", "encrypted_index": "", "cited_text": "c"}
    text = {"type": "text", "text": "a", "citations": [citation]}
    body = sent(read(USER, {"role": "assistant", "content": [text]}, USER))
    assert body["messages"][1] == {"role": "assistant", "content": [{"type": "text", "text": "a"}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": "hi"}, "messages"),
        ({"model": None}, "model"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0]"),
        ({"system": {"a": 1}}, "system"),
        ({"tools": [{"name": "f"}]}, "tools[0]"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"temperature": True}, "temperature"),
        ({"stop_sequences": [1]}, "stop_sequences"),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "budget_tokens"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_wrong_types_are_named(body: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        PROTOCOL.read_request({"model": "m", "messages": [USER], **body}, CALL)
    assert caught.value.param == param


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "text", "role", "content", "source", "data", "thinking", "signature", "id", "name", "input", "schema"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KEYS = ["system", "tools", "tool_choice", "thinking", "output_config", "output_format", "metadata", "stop_sequences"]


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3), st.lists(JSON, max_size=3))
def test_odd_requests_are_read_or_refused(body: dict[str, Any], content: list[Any]) -> None:
    try:
        conversation = read({"role": "user", "content": content}, **body)
    except BadRequest:
        return
    assert sent(conversation)["model"] == "claude"


def test_counting() -> None:
    request = PROTOCOL.write_count_request(read(system="s", max_tokens=5, stream=True), TARGET, Notes())
    assert (request.path, request.body) == (
        "/messages/count_tokens",
        {"model": "claude", "messages": [USER], "system": "s"},
    )
    assert PROTOCOL.write_count(7) == {"input_tokens": 7}
    assert (PROTOCOL.read_count({"input_tokens": 7}), PROTOCOL.read_count([])) == (7, None)


def test_errors_of_the_proxy() -> None:
    assert PROTOCOL.write_error(NotAuthenticated("no key")) == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "no key"},
        "request_id": None,
    }
    for status, kind in [(402, "billing_error"), (413, "request_too_large"), (418, "invalid_request_error")]:
        assert PROTOCOL.write_error(UpstreamError("x", status=status))["error"]["type"] == kind
    assert PROTOCOL.write_error(UpstreamError("x", status=503))["error"]["type"] == "api_error"


def test_t91_t92_errors_of_anthropic_keep_their_words() -> None:
    inner = {"type": "overloaded_error", "message": "Overloaded", "details": {"error_code": "x"}}
    body = {"type": "error", "error": inner, "request_id": "req_1"}
    headers = {"Retry-After": "3", "anthropic-ratelimit-unified-reset": "9", "server": "x"}
    error = PROTOCOL.read_error(529, headers, json.dumps(body).encode())
    assert (error.message, error.status, error.kind, error.code) == ("Overloaded", 529, "overloaded_error", "x")
    assert error.headers == (("retry-after", "3"), ("anthropic-ratelimit-unified-reset", "9"))
    assert PROTOCOL.write_error(error) == body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html><title>Bad gateway</title></html>", "the provider answered with a web page: Bad gateway"),
        (b"", "the provider answered with status 502 and no words"),
        (b'{"detail": "no such path"}', "no such path"),
        (b'{"error": "plain"}', "plain"),
        (b"upstream died", "upstream died"),
    ],
)
def test_errors_that_are_not_anthropics(body: bytes, message: str) -> None:
    assert PROTOCOL.read_error(502, {}, body).message == message


def test_t102_models() -> None:
    raw = {"type": "model", "id": "claude", "display_name": "Claude", "created_at": "2026-02-03T00:00:00Z", "x": 1}
    [own] = PROTOCOL.read_models({"data": [raw, {"id": 5}]})
    assert (own.name, own.created) == ("Claude", 1770076800)
    assert PROTOCOL.read_models("no list") == []
    listed = PROTOCOL.write_models([own, ModelEntry("gpt", context=10)])
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "claude", "gpt")
    assert listed["data"] == [
        raw,
        {
            "type": "model",
            "id": "gpt",
            "display_name": "gpt",
            "created_at": "1970-01-01T00:00:00Z",
            "lifecycle": "active",
            "max_input_tokens": 10,
        },
    ]
    assert PROTOCOL.write_models([])["first_id"] is None


def test_credentials() -> None:
    assert PROTOCOL.credentials("k") == {"x-api-key": "k"}
