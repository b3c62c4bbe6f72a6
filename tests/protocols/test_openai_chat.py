"""Chat Completions: what came goes on as it came; what is read says what the recording says."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import corpus

from llm_interactive import wire_json
from llm_interactive.conversation import Conversation, Message, Text, Thinking, Tool, ToolCall, ToolResult
from llm_interactive.errors import BadRequest
from llm_interactive.events import (
    Ended,
    Event,
    Failed,
    Finished,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Used,
)
from llm_interactive.protocols.base import Call, Notes, ReplyContext, Target
from llm_interactive.protocols.openai_chat import NAME, PROTOCOL

CALL = Call(NAME, "generate", "/v1/chat/completions")
TARGET = Target("openai", "m", "openai")
USER: Any = {"role": "user", "content": "hi"}

EXCHANGES = corpus.exchanges(api="chat")
REPLIES = [each for each in EXCHANGES if each.response.status == 200]


def read(body: dict[str, Any]) -> Conversation:
    return PROTOCOL.read_request({"model": "m", **body}, CALL)


def written(conversation: Conversation, target: Target = TARGET) -> dict[str, Any]:
    return PROTOCOL.write_request(conversation, target, Notes()).body


def foreign(*messages: Message, **fields: Any) -> Conversation:
    return Conversation(model="m", messages=messages, **fields)


def events(body: bytes, stream: bool, cuts: tuple[int, ...] = ()) -> list[Event]:
    reader = PROTOCOL.reply_reader(stream)
    marks = (0, *cuts, len(body))
    frames = [f for a, b in pairwise(marks) for f in reader.feed(body[a:b])]
    frames += reader.finish()
    return [event for frame in frames for event in frame.events]


def chunks(*deltas: dict[str, Any], reason: str | None = "stop") -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    if reason:
        choices.append({"index": 0, "delta": {}, "finish_reason": reason})
    lines = [json.dumps({"id": "c", "model": "m", "choices": [choice]}) for choice in choices]
    return "".join(f"data: {line}\n\n" for line in lines).encode() + b"data: [DONE]\n\n"


def context(conversation: Conversation | None = None, backend: str = "gemini", **more: Any) -> ReplyContext:
    conversation = conversation or read({"messages": [USER], "stream": True})
    return ReplyContext(conversation, CALL, backend, "asked", lambda prefix: prefix + "1", 7, **more)


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda e: e.id)
def test_identity_of_requests(exchange: Any) -> None:
    body = exchange.request.body
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        pytest.skip("recorded without a request body")
    sent = written(PROTOCOL.read_request(body, CALL), Target("server", body["model"], "server"))
    if body.get("stream"):
        sent["stream_options"].pop("include_usage")
        expected = dict(body)
        options = {k: v for k, v in (body.get("stream_options") or {}).items() if k != "include_usage"}
        assert sent.pop("stream_options") == options
        expected.pop("stream_options", None)
        assert sent == expected
    else:
        assert list(sent.items()) == list(body.items())


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", REPLIES, ids=lambda e: e.id)
def test_identity_of_replies(exchange: Any) -> None:
    body, streams = exchange.response.data, exchange.stream
    request = read({"messages": [USER], "stream": streams, "stream_options": {"include_usage": True}})
    reader, writer = PROTOCOL.reply_reader(streams), PROTOCOL.reply_writer(context(request, NAME))
    frames = [*reader.feed(body), *reader.finish()]
    assert b"".join(writer.write(frame) for frame in frames).rstrip() == body.rstrip()


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", [e for e in REPLIES if e.stream], ids=lambda e: e.id)
def test_any_cut_gives_the_same_events(exchange: Any) -> None:
    body = exchange.response.data
    expected = repr(events(body, True))
    step = 1 if len(body) < 4_000 else len(body) // 400
    for cut in range(1, len(body), step):
        assert repr(events(body, True, (cut,))) == expected


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_make_the_reader_raise(body: bytes, stream: bool) -> None:
    assert isinstance(events(body, stream)[-1], Failed | Finished)  # `data:[DONE]` alone is an end


ODD = [b'data: {"choices": ', b"[{", b'"delta":', b"null", b"[1]", b"}\n\n", b"data: 3\n\n"]


@given(st.lists(st.sampled_from(ODD)))
def test_odd_json_does_not_make_the_reader_raise(pieces: list[bytes]) -> None:
    events(b"".join(pieces), True)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [USER], "temperature": "hot"}, "temperature"),
        ({"messages": [USER], "temperature": True}, "temperature"),
        ({"messages": [USER], "tools": {}}, "tools"),
        ({"messages": [USER], "tools": [{}]}, "tools[0]"),
        ({"messages": [USER], "stop": 3}, "stop"),
        ({"messages": [USER], "model": 3}, "model"),
        ({"messages": [USER], "tool_choice": 3}, "tool_choice"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0]"),
    ],
)
def test_wrong_types_are_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body)
    assert caught.value.param == param


def test_t1_a_call_without_arguments_has_empty_json() -> None:
    body = chunks({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]})
    assert [e for e in events(body, True) if isinstance(e, ToolCallDelta)] == []
    writer = PROTOCOL.reply_writer(context())
    frames = [*(reader := PROTOCOL.reply_reader(True)).feed(body), *reader.finish()]
    assert b'"arguments":"{}"' in b"".join(writer.write(frame) for frame in frames)


def test_t6_t8_results_are_messages_of_their_own_before_the_users_words() -> None:
    call = ToolCall(id="a", name="f", arguments="{}")
    parts = (ToolResult(call_id="a", parts=(Text(text="1"),)), Text(text="and?"))
    body = written(foreign(Message(role="assistant", parts=(call,)), Message(role="user", parts=parts)))
    assert [m["role"] for m in body["messages"]] == ["assistant", "tool", "user"]
    assert body["messages"][2]["content"] == "and?"


def test_t9_anthropic_blocks_are_understood() -> None:
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "ok"}]}
    conversation = read({"messages": [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]})
    assert conversation.messages[0].parts == (ToolCall(id="a", name="f", arguments='{"x":1}'),)
    assert conversation.messages[1].parts == (ToolResult(call_id="a", parts=(Text(text="ok"),)),)


def test_t12_another_id_under_the_same_index_is_another_call() -> None:
    calls = [{"index": 0, "id": id_, "function": {"name": "f", "arguments": "{}"}} for id_ in ("a", "b")]
    found = events(chunks({"tool_calls": [calls[0]]}, {"tool_calls": [calls[1]]}), True)
    assert [e.id for e in found if isinstance(e, ToolCallStarted)] == ["a", "b"]
    assert [e.slot for e in found if isinstance(e, ToolCallDelta)] == [0, 1]


@pytest.mark.parametrize("index", [{}, {"index": -1}, {"index": True}, {"index": None}], ids=repr)
def test_calls_without_a_usable_index_go_on_with_the_last(index: dict[str, Any]) -> None:
    def piece(arguments: str, id_: str | None = None) -> dict[str, Any]:
        call = index | {"function": {"name": "f", "arguments": arguments}} | ({"id": id_} if id_ else {})
        return {"tool_calls": [call]}

    found = events(chunks(piece("{", "a"), piece("}"), piece("[", "b"), piece("]")), True)
    assert [e.id for e in found if isinstance(e, ToolCallStarted)] == ["a", "b"]
    assert [(e.slot, e.arguments) for e in found if isinstance(e, ToolCallDelta)] == [
        (0, "{"),
        (0, "}"),
        (1, "["),
        (1, "]"),
    ]
    assert [e.slot for e in events(chunks(piece("{}")), True) if isinstance(e, ToolCallDelta)] == [0]


def test_t18_calls_that_end_with_stop_are_calls() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    [ended] = [e for e in events(chunks({"tool_calls": [call]}), True) if isinstance(e, Ended)]
    assert (ended.reason.unified, ended.reason.raw) == ("tool_calls", "stop")


def test_t19_names_that_the_target_refuses_are_shortened_and_known_again() -> None:
    names = ("mcp.server/tool", "x" * 80, "fine")
    request = PROTOCOL.write_request(foreign(tools=tuple(Tool(name=n) for n in names)), TARGET, Notes())
    sent = [tool["function"]["name"] for tool in request.body["tools"]]
    assert all(len(name) <= 64 for name in sent)
    assert [request.tool_names.get(name, name) for name in sent] == list(names)


def test_t24_an_error_result_says_so() -> None:
    call = ToolCall(id="a", name="f", arguments="{}")
    result = ToolResult(call_id="a", parts=(Text(text="no such file"),), is_error=True)
    body = written(foreign(Message(role="assistant", parts=(call,)), Message(role="user", parts=(result,))))
    assert json.loads(body["messages"][1]["content"]) == {"error": "no such file"}


def test_a_cut_history_stays_legal() -> None:
    call = ToolCall(id="a", name="f", arguments="{}")
    orphan = ToolResult(call_id="z", parts=(Text(text="1"),))
    notes = Notes()
    conversation = foreign(
        Message(role="tool", parts=(orphan,)), Message(role="assistant", parts=(call,)), Message(role="user", parts=())
    )
    body = PROTOCOL.write_request(conversation, TARGET, notes).body
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "tool"]
    assert len(list(notes)) == 2


def test_t57_reasoning_goes_back_to_those_who_want_it() -> None:
    message = Message(role="assistant", parts=(Thinking(text="hm"), Text(text="42")))
    assert written(foreign(message), Target("deepseek", "m", "deepseek"))["messages"][0]["reasoning_content"] == "hm"
    assert "reasoning_content" not in written(foreign(message))["messages"][0]


def test_t79_an_error_in_the_stream_has_no_done_after_it() -> None:
    body = b'data: {"error": {"message": "overloaded", "code": 503}}\n\ndata: [DONE]\n\n'
    found = events(body, True)
    assert [type(e) for e in found] == [Failed]
    assert isinstance(found[0], Failed)
    assert found[0].error.status == 503
    writer = PROTOCOL.reply_writer(context())
    reader = PROTOCOL.reply_reader(True)
    out = b"".join(writer.write(frame) for frame in [*reader.feed(body), *reader.finish()])
    assert b"overloaded" in out
    assert b"[DONE]" not in out
    assert b"finish_reason" not in out


def test_t80_a_stream_that_was_cut_is_no_answer() -> None:
    cut = chunks({"content": "half"}, reason=None).removesuffix(b"data: [DONE]\n\n")
    assert isinstance(events(cut, True)[-1], Failed)


def test_a_stream_without_done_is_finished_when_it_gave_its_reason() -> None:
    body = chunks({"content": "x"}).removesuffix(b"data: [DONE]\n\n")
    assert isinstance(events(body, True)[-1], Finished)


def test_t86_reasoning_beside_the_completion_counts_once() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35}
    usage_with = usage | {"completion_tokens_details": {"reasoning_tokens": 20}}
    body = json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage_with})
    [used] = [e for e in events(body.encode(), False) if isinstance(e, Used)]
    assert (used.usage.output, used.usage.reasoning) == (25, 20)


def test_mistrals_parts_are_text_and_thinking() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    found = events(chunks({"content": [thinking]}, {"content": [{"type": "text", "text": "42"}]}), True)
    assert ThinkingDelta("hm") in found
    assert TextDelta("42") in found


def test_a_translated_stream_in_full() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}}
    body = chunks({"content": "Hi"}, {"tool_calls": [call]}, reason="tool_calls")
    reader, writer = PROTOCOL.reply_reader(True), PROTOCOL.reply_writer(context())
    frames = [*reader.feed(body), *reader.finish()]
    out = b"".join(writer.write(frame) for frame in frames)
    assert out.endswith(b"data: [DONE]\n\n")
    parsed = [wire_json.loads(line[6:]) for line in out.split(b"\n\n")[:-2]]
    assert all((p["id"], p["model"], p["created"]) == ("chatcmpl-1", "asked", 7) for p in parsed)
    assert parsed[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert events(out, True)[1:] == [
        TextDelta("Hi"),
        ToolCallStarted(0, "a", "f"),
        ToolCallDelta(0, '{"x":1}'),
        ToolCallEnded(0),
        events(body, True)[-2],
        Finished(),
    ]


def test_reasoning_stands_before_the_text_whatever_the_order_of_keys() -> None:
    message = {"role": "assistant", "content": "So.", "reasoning_content": "Hm."}
    reply = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    reader = PROTOCOL.reply_reader(False)
    told = [event for frame in (*reader.feed(json.dumps(reply).encode()), *reader.finish()) for event in frame.events]
    assert [event for event in told if isinstance(event, ThinkingDelta | TextDelta)] == [
        ThinkingDelta("Hm."),
        TextDelta("So."),
    ]
