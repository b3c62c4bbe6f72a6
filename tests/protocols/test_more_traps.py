"""Traps that concern how one protocol's history is told in another, with the wire written out."""

from typing import Any

from llm_interactive import protocols
from llm_interactive.conversation import Conversation, Message, Text, ToolCall, ToolResult
from llm_interactive.events import (
    Ended,
    Finished,
    Frame,
    Reason,
    Started,
    TextDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from llm_interactive.prices import price
from llm_interactive.protocols.base import Call, ModelFacts, Notes, ReplyContext, Target

CHAT = protocols.named("openai_chat")
CLAUDE = protocols.named("anthropic_messages")
CALL = Call("openai_chat", "generate", "/v1/chat/completions")
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def to_claude(body: dict[str, Any], **facts: Any) -> dict[str, Any]:
    target = Target("anthropic", "claude-sonnet-4-5", "anthropic", ModelFacts(**facts))
    return CLAUDE.write_request(CHAT.read_request({"model": "m", **body}, CALL), target, Notes()).body


def test_t5_null_content_beside_calls_becomes_blocks() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    sent = to_claude({"messages": messages, "tools": [TOOL]})
    assert sent["messages"][1]["content"] == [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]


def test_t10_text_after_a_call_in_one_turn_is_kept() -> None:
    parts = (ToolCall(id="a", name="f", arguments="{}"), Text(text="done soon"))
    result = Message(role="user", parts=(ToolResult(call_id="a", parts=(Text(text="1"),)),))
    conversation = Conversation(model="m", messages=(Message(role="assistant", parts=parts), result))
    sent = CHAT.write_request(conversation, Target("openai", "m", "openai"), Notes()).body["messages"]
    assert sent[0]["content"] == "done soon"
    assert [call["id"] for call in sent[0]["tool_calls"]] == ["a"]


def test_t11_calls_are_numbered_from_0_though_text_came_first() -> None:
    conversation = CHAT.read_request({"model": "m", "messages": [], "stream": True}, CALL)
    context = ReplyContext(conversation, CALL, "anthropic_messages", "m", lambda prefix: prefix + "1", 1)
    writer = CHAT.reply_writer(context)
    events = (Started("x", "m"), TextDelta("I look"), ToolCallStarted(0, "a", "f"), ToolCallEnded(0))
    written = writer.write(Frame(b"", (*events, Ended(Reason("tool_calls")), Finished())))
    assert b'"tool_calls":[{"index":0' in written
    assert b'"index":1' not in written


def test_t30_system_messages_between_turns_go_to_the_top_where_they_must() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "b"},
    ]
    sent = to_claude({"messages": messages})
    assert "be brief" in str(sent["system"])
    assert {message["role"] for message in sent["messages"]} == {"user"}


def test_t50_structured_output_leaves_tools_and_thinking_alone() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}}}
    sent = to_claude({"messages": [{"role": "user", "content": "a"}], "tools": [TOOL], "response_format": schema})
    assert sent["output_config"]["format"]["type"] == "json_schema"
    assert [tool["name"] for tool in sent["tools"]] == ["f"]
    assert "tool_choice" not in sent


def test_t71_blocks_open_with_their_seeds() -> None:
    call = Call("anthropic_messages", "generate", "/v1/messages")
    body = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "a"}]}
    context = ReplyContext(CLAUDE.read_request(body, call), call, "openai_chat", "m", lambda prefix: prefix + "1", 1)
    writer = CLAUDE.reply_writer(context)
    events = (Started("x", "m"), TextDelta("a"), ToolCallStarted(0, "i", "f"), ToolCallEnded(0))
    written = writer.write(Frame(b"", (*events, Ended(Reason("tool_calls")), Finished())))
    assert b'"content_block":{"type":"text","text":""}' in written
    assert b'"input":{}' in written


def test_t89_writing_a_cache_costs_its_own_price() -> None:
    plain = price("anthropic", "claude-sonnet-4-5", Usage(input=1000, output=0))
    written = price("anthropic", "claude-sonnet-4-5", Usage(input=1000, output=0, cache_write=1000))
    assert plain is not None
    assert written is not None
    assert written > plain
