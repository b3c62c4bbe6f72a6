"""Anthropic's replies written: source bytes untouched, and from events a stream that its SDK can follow."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import corpus

from llm_interactive.conversation import Conversation
from llm_interactive.errors import UpstreamError
from llm_interactive.events import (
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    Foreign,
    Frame,
    LogProbs,
    Reason,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    Used,
)
from llm_interactive.protocols.anthropic_messages import NAME, PROTOCOL
from llm_interactive.protocols.base import Call, ReplyContext
from llm_interactive.protocols.foreign_signatures import Hidden, unwrap

RECORDED = [e for e in corpus.exchanges(api="messages") if e.response.status == 200]
DELTAS = {"text_delta": "text", "citations_delta": "text", "thinking_delta": "thinking", "signature_delta": "thinking"}


def context(backend: str = "openai_chat", stream: bool = True, rename: bool = False) -> ReplyContext:
    numbers = itertools.count(1)
    return ReplyContext(
        conversation=Conversation(model="asked", messages=(), stream=stream),
        call=Call(NAME, "generate", "/v1/messages"),
        backend_protocol=backend,
        model="asked",
        mint=lambda prefix: f"{prefix}{next(numbers)}",
        now=1,
        rename=rename,
    )


def written(*events: Event, backend: str = "openai_chat") -> list[Any]:
    """The stream of these events, each in a frame of its own."""
    writer = PROTOCOL.reply_writer(context(backend))
    return objects(b"".join(writer.write(Frame(b"", (event,))) for event in events))


def objects(data: bytes) -> list[Any]:
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        name, _, body = event.partition("\n")
        value = json.loads(body.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        found.append(value)
    return found


def message(stream: list[Any]) -> dict[str, Any]:
    """What a client that keeps to the rules makes of a stream (T70): one message, one open block, growing indexes."""
    begun = stream[0]
    assert begun["type"] == "message_start"
    blocks: list[Any] = []
    opened = False
    pieces = ""
    for event in stream[1:]:
        match event["type"]:
            case "ping":
                pass
            case "content_block_start":
                assert not opened
                assert event["index"] == len(blocks)
                opened, pieces = True, ""
                blocks.append(event["content_block"])
            case "content_block_delta":
                assert opened
                assert event["index"] == len(blocks) - 1
                pieces += _add(blocks[-1], event["delta"])
            case "content_block_stop":
                assert opened
                assert event["index"] == len(blocks) - 1
                opened = False
                if pieces:
                    blocks[-1]["input"] = json.loads(pieces)
            case "message_delta":
                assert not opened
                begun["message"] |= event["delta"] | {"usage": event["usage"]}
            case other:
                assert not opened
                assert event is stream[-1]
                assert other in ("message_stop", "error")
    return {**begun["message"], "content": blocks}


def _add(block: Any, delta: Any) -> str:
    kind = delta["type"]
    if kind == "input_json_delta":
        assert block["input"] == {}
        return str(delta["partial_json"])
    assert block["type"] == DELTAS[kind]
    if kind == "citations_delta":
        block.setdefault("citations", []).append(delta["citation"])
    else:
        key = kind.removesuffix("_delta")
        block[key] += delta[key]
    return ""


START = Started("chatcmpl-1", "gpt", 5)
END = (Ended(Reason("stop", "stop", "openai_chat")), Used(Usage(input=10, output=4)), Finished())


def content(*events: Event, backend: str = "openai_chat") -> list[Any]:
    """The blocks of these events, the same from a stream and from a whole reply."""
    streamed = message(written(START, *events, *END, backend=backend))
    writer = PROTOCOL.reply_writer(context(backend, stream=False))
    whole = json.loads(b"".join(writer.write(Frame(b"", (event,))) for event in (START, *events, *END)))
    assert whole == streamed
    found: list[Any] = whole["content"]
    return found


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", RECORDED, ids=lambda exchange: exchange.id)
def test_recordings_pass_untouched_and_survive_being_written_anew(exchange: Any) -> None:
    stream, data = isinstance(exchange.response.body, str), exchange.response.data
    reader = PROTOCOL.reply_reader(stream)
    frames = reader.feed(data) + reader.finish()
    writer = PROTOCOL.reply_writer(context(NAME, stream))
    assert b"".join(map(writer.write, frames)) == data
    anew = PROTOCOL.reply_writer(context(NAME, stream))
    again = b"".join(anew.write(frame._replace(edited=True)) for frame in frames)
    reread = PROTOCOL.reply_reader(stream)
    wanted = [event for frame in frames for event in frame.events]
    assert _said(wanted) == _said([event for frame in reread.feed(again) + reread.finish() for event in frame.events])


def _said(events: list[Event]) -> list[Any]:
    """Content in order, deltas of one kind joined, the last usage; errors by their words."""
    said: list[Any] = []
    usage = None
    for event in events:
        if isinstance(event, Used):
            usage = event.usage
        elif isinstance(event, Failed):
            said.append(event.error.message)
        elif said and isinstance(event, TextDelta | ThinkingDelta) and type(said[-1]) is type(event):
            said[-1] = replace(event, text=said[-1].text + event.text)
        elif said and isinstance(event, ToolCallDelta) and isinstance(said[-1], ToolCallDelta):
            said[-1] = replace(event, arguments=said[-1].arguments + event.arguments)
        elif not isinstance(event, Started):
            said.append(event)
    return [event for event in said if not isinstance(event, ToolCallDelta) or json.loads(event.arguments)] + [usage]


def test_a_whole_stream() -> None:
    assert written(START, TextDelta("hi"), *END) == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "asked",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 0,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 0,
                },
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {
                "input_tokens": 10,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 4,
            },
        },
        {"type": "message_stop"},
    ]


def test_t70_one_open_block() -> None:
    assert content(
        ThinkingDelta("hm"),
        ThinkingEnded("openai_chat"),
        TextDelta("a"),
        ToolCallStarted(0, "c1", "f"),
        ToolCallDelta(0, '{"x":'),
        ToolCallDelta(0, "1}"),
        ToolCallEnded(0),
        TextDelta("b"),
        TextDelta("c"),
    )[1:] == [
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}},
        {"type": "text", "text": "bc"},
    ]


def test_t70_calls_that_overlap_come_one_after_another() -> None:
    assert content(
        ToolCallStarted(0, "c1", "f"),
        ToolCallDelta(0, '{"a"'),
        ToolCallStarted(1, "c2", "g"),
        ToolCallDelta(1, '{"b"'),
        ToolCallStarted(2, "c3", "h"),
        ToolCallDelta(0, ":1}"),
        ToolCallDelta(1, ":2}"),
        ToolCallEnded(1),
        ToolCallEnded(0),
        ToolCallDelta(2, '{"c":3}'),
        ToolCallEnded(2),
    ) == [
        {"type": "tool_use", "id": f"c{n}", "name": name, "input": {key: n}}
        for n, name, key in [(1, "f", "a"), (2, "g", "b"), (3, "h", "c")]
    ]


def test_the_next_call_is_streamed_once_the_one_before_is_whole() -> None:
    """OpenAI says that calls have ended only at the end; text after a call need not wait for that."""
    events = (START, ToolCallStarted(0, "c1", "f"), ToolCallDelta(0, "{}"), ToolCallStarted(1, "c2", "g"))
    stream = written(*events, ToolCallDelta(1, '{"a":'), ToolCallDelta(1, "1}"), TextDelta("after"))
    assert [event["type"] for event in stream[-6:]] == [
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]
    assert stream[-1]["delta"]["text"] == "after"


def test_text_within_a_call_waits_for_its_end() -> None:
    assert content(
        ToolCallStarted(0, "c1", "f"),
        ToolCallDelta(0, '{"a":'),
        TextDelta("t"),
        ToolCallDelta(0, "1}"),
        ToolCallEnded(0),
    ) == [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}, {"type": "text", "text": "t"}]


def test_t1_t3_arguments() -> None:
    empty = (ToolCallStarted(0, "c1", "f"), ToolCallDelta(0, ""), ToolCallDelta(0, " "), ToolCallEnded(0))
    assert content(*empty)[0]["input"] == {}
    assert {"type": "input_json_delta", "partial_json": "{}"} in [e.get("delta") for e in written(START, *empty, *END)]
    free = (ToolCallStarted(0, "c1", "f", custom=True), ToolCallDelta(0, 'say "'), ToolCallDelta(0, "hi\n"))
    assert content(*free, ToolCallEnded(0))[0]["input"] == {"input": 'say "hi\n'}
    writer = PROTOCOL.reply_writer(context(stream=False))
    broken = (ToolCallStarted(0, "c1", "f"), ToolCallDelta(0, "{broken"), ToolCallEnded(0))
    assert json.loads(writer.write(Frame(b"", (START, *broken, *END))))["content"][0]["input"] == {"_raw": "{broken"}


def test_t104_ids_are_legal_and_our_own() -> None:
    [first, second] = content(
        ToolCallStarted(0, "call:1/x", "f"), ToolCallEnded(0), ToolCallStarted(1, "call:1.x", "f"), ToolCallEnded(1)
    )
    assert first["id"] != second["id"]
    assert first["id"].startswith("toolu_call_1_x")
    [unnamed] = message(written(START, ToolCallStarted(0, "", "f"), *END))["content"]
    assert unnamed["id"] == "toolu_2"


def test_t72_one_message_start() -> None:
    stream = written(START, START, TextDelta("a"), START, *END)
    assert [event["type"] for event in stream].count("message_start") == 1
    assert written(TextDelta("a"))[0]["type"] == "message_start"


def test_t55_signatures_of_others_come_back_to_us() -> None:
    [signed, unsigned, only, hidden] = content(
        ThinkingDelta("a"),
        ThinkingEnded("gemini", "sig"),
        ThinkingDelta("b"),
        ThinkingEnded("openai_chat"),
        ThinkingEnded("openai_responses", "enc", item_id="rs_1"),
        ThinkingEnded("gemini", redacted="data"),
    )
    assert (signed["thinking"], unwrap(signed["signature"])) == ("a", Hidden("gemini", "sig"))
    assert (unsigned["thinking"], unwrap(unsigned["signature"])) == ("b", Hidden("openai_chat"))
    wanted = Hidden("openai_responses", "enc", item_id="rs_1")
    assert (only["thinking"], unwrap(only["signature"])) == ("", wanted)
    assert unwrap(hidden["signature"]) == Hidden("gemini", redacted="data")


def test_thinking_that_ends_without_a_word_is_marked_as_anothers() -> None:
    [thinking, _] = content(ThinkingDelta("a"), TextDelta("b"))
    assert unwrap(thinking["signature"]) == Hidden("openai_chat")
    [thinking, _] = content(ThinkingDelta("a"), TextDelta("b"), backend=NAME)
    assert thinking["signature"] == ""


def test_t53_t54_anthropics_own_reasoning() -> None:
    assert content(
        ThinkingDelta("a"), ThinkingEnded(NAME, "s1"), ThinkingEnded(NAME, "s2"), ThinkingEnded(NAME, redacted="x")
    ) == [
        {"type": "thinking", "thinking": "a", "signature": "s1"},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "redacted_thinking", "data": "x"},
    ]


def test_t82_citations() -> None:
    own = {"type": "page_location", "cited_text": "p"}
    cited = (Cited(url="https://a", title="A"), Cited(origin=NAME, json=own), Cited(title="no url"))
    assert content(TextDelta("t"), *cited)[0]["citations"] == [
        {
            "type": "web_search_result_location",
            "cited_text": "",
            "encrypted_index": "",
            "title": "A",
            "url": "https://a",
        },
        own,
    ]
    assert content(cited[0]) == []


def test_what_only_anthropic_can_say() -> None:
    use = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
    assert (
        PROTOCOL.reply_writer(context(NAME, stream=False))
        .write(Frame(b"", (START, Foreign(NAME, "server_tool_use", use), *END)))
        .count(json.dumps(use, separators=(",", ":")).encode())
    )
    assert content(TextDelta("t"), Foreign("openai_chat", "audio", {"id": "a"}), LogProbs(({},))) == [
        {"type": "text", "text": "t"}
    ]
    stream = written(START, TextDelta("t"), Foreign(NAME, "server_tool_use", use), TextDelta("u"), *END)
    assert [event["content_block"] for event in stream if event["type"] == "content_block_start"][1] == use


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (Reason("stop", "stop", "openai_chat"), "end_turn"),
        (Reason("length"), "max_tokens"),
        (Reason("tool_calls"), "tool_use"),
        (Reason("content_filter", "SAFETY", "gemini"), "refusal"),
        (Reason("other", "odd", "gemini"), "end_turn"),
        (Reason("error"), "end_turn"),
        (Reason("stop", stop_sequence="X"), "stop_sequence"),
        (Reason("stop", "pause_turn", NAME), "pause_turn"),
        (Reason("other", "odd", NAME), "end_turn"),
    ],
)
def test_t101_reasons(reason: Reason, word: str) -> None:
    found = message(written(START, Ended(reason), Finished()))
    assert (found["stop_reason"], found["stop_sequence"]) == (word, reason.stop_sequence)


def test_t99_refusals() -> None:
    found = message(written(START, RefusalDelta("no"), *END))
    assert (found["content"], found["stop_reason"]) == ([{"type": "text", "text": "no"}], "refusal")
    details = {"type": "refusal", "category": "bio"}
    found = message(written(START, Ended(Reason("content_filter", "refusal", NAME, details=details)), Finished()))
    assert found["stop_details"] == details


def test_t84_usage() -> None:
    usage = Usage(input=60, output=9, cached=20, cache_write=30, reasoning=4)
    writer = PROTOCOL.reply_writer(context())
    stream = objects(
        writer.write(Frame(b"", (START, Used(Usage(input=60))))) + writer.write(Frame(b"", (Used(usage), END[2])))
    )
    assert stream[0]["message"]["usage"]["input_tokens"] == 60
    assert message(stream)["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 20,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }
    raw = {"input_tokens": 1, "output_tokens": 2, "server_tool_use": {"web_search_requests": 1}}
    own = Usage(input=1, output=2, raw=raw, origin=NAME)
    assert message(written(START, Used(own), Finished()))["usage"] == raw


def test_t66_only_the_first_choice() -> None:
    assert content(TextDelta("a"), TextDelta("b", choice=1), ToolCallStarted(0, "c", "f", choice=1)) == [
        {"type": "text", "text": "a"}
    ]


FAILED = Failed(UpstreamError("Overloaded", status=529))


@pytest.mark.parametrize(
    "before",
    [(), (START,), (START, TextDelta("a")), (START, ThinkingDelta("a")), (START, ToolCallStarted(0, "c", "f"))],
)
def test_t79_t80_failures_end_the_stream(before: tuple[Event, ...]) -> None:
    stream = written(*before, FAILED, TextDelta("late"), *END)
    assert stream[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded"},
        "request_id": None,
    }
    assert {"message_delta", "message_stop"}.isdisjoint(event["type"] for event in stream)
    if before:
        message(stream)


def sse(*values: Any) -> bytes:
    return b"".join(f"event: {v['type']}\ndata: {json.dumps(v)}\n\n".encode() for v in values)


TEXT = {"type": "text", "text": ""}
CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
OWN_STREAM = sse(
    {"type": "message_start", "message": {"id": "msg_own", "type": "message", "model": "claude", "content": [],
                                          "usage": {"input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": TEXT},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "content_block_start"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": CALL},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
)  # fmt: skip


def own_frames() -> list[Frame]:
    reader = PROTOCOL.reply_reader(stream=True)
    return reader.feed(OWN_STREAM) + reader.finish()


@pytest.mark.parametrize("passed", range(1, 10))
def test_the_proxy_can_end_a_passing_stream_anywhere(passed: int) -> None:
    notice = Frame(b"", (TextDelta("[cancelled]"), Ended(Reason("stop")), Finished()))
    for ending in (notice, Frame(b"", (FAILED,))):
        writer = PROTOCOL.reply_writer(context(NAME))
        data = b"".join(map(writer.write, own_frames()[:passed])) + writer.write(ending)
        assert data.startswith(b"".join(frame.source for frame in own_frames()[:passed]))
        stream = objects(data)
        if passed < 9:
            found = message(stream)
            assert (stream[-1]["type"] == "error") == (ending is not notice)
        if passed < 9 and ending is notice:
            assert found["content"][-1] == {"type": "text", "text": "[cancelled]"}
            assert found["usage"]["input_tokens"] == 3


def test_after_a_block_of_the_proxys_own_the_rest_is_written_anew() -> None:
    writer = PROTOCOL.reply_writer(context(NAME))
    frames = own_frames()
    frames[4:4] = [Frame(b"", (TextDelta("notice"),))]
    found = message(objects(b"".join(map(writer.write, frames))))
    assert [block["type"] for block in found["content"]] == ["text", "text", "tool_use"]
    assert (found["id"], found["stop_reason"]) == ("msg_own", "tool_use")


def test_edited_names_of_tools() -> None:
    writer = PROTOCOL.reply_writer(context(NAME))
    frames = own_frames()
    call = frames[5].events[0]
    assert isinstance(call, ToolCallStarted)
    frames[5] = Frame(frames[5].source, (replace(call, name="mcp.f"),), edited=True)
    found = message(objects(b"".join(map(writer.write, frames))))
    assert found["content"][1] == {**CALL, "name": "mcp.f"}


def test_the_models_name_is_the_one_asked_for() -> None:
    writer = PROTOCOL.reply_writer(context(NAME, rename=True))
    data = b"".join(map(writer.write, own_frames()))
    assert objects(data)[0]["message"]["model"] == "asked"
    assert data.endswith(OWN_STREAM.partition(b"\n\n")[2])
    body = json.dumps({"id": "m", "model": "claude", "content": [], "odd": 1}).encode()
    reader = PROTOCOL.reply_reader(stream=False)
    [frame] = reader.feed(body) + reader.finish()
    whole = PROTOCOL.reply_writer(context(NAME, stream=False, rename=True)).write(frame)
    assert json.loads(whole) == {"id": "m", "model": "asked", "content": [], "odd": 1}


def test_a_page_of_html_in_a_stream_becomes_an_error_event() -> None:
    reader = PROTOCOL.reply_reader(stream=True)
    writer = PROTOCOL.reply_writer(context(NAME))
    frames = reader.feed(b'{"error": {"message": "no"}}') + reader.finish()
    assert objects(b"".join(map(writer.write, frames)))[-1]["type"] == "error"


EVENTS = st.one_of(
    st.builds(TextDelta, st.text(max_size=3)),
    st.builds(ThinkingDelta, st.text(max_size=3)),
    st.builds(
        ThinkingEnded, st.sampled_from([NAME, "gemini"]), st.sampled_from([None, "s"]), st.sampled_from([None, "r"])
    ),
    st.builds(RefusalDelta, st.text(max_size=2)),
    st.builds(Cited, st.sampled_from([None, "https://a"])),
    st.builds(ToolCallStarted, st.integers(0, 2), st.sampled_from(["", "a", "b"]), st.just("f"), custom=st.booleans()),
    st.builds(ToolCallDelta, st.integers(0, 2), st.sampled_from(["", "{}", "[", "]", "1"])),
    st.builds(ToolCallEnded, st.integers(0, 2)),
    st.builds(Foreign, st.just(NAME), st.just("x"), st.just({"type": "x"})),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=12), st.booleans(), st.integers(0, 8))
def test_every_order_of_events_gives_a_legal_stream(events: list[Event], fails: bool, passed: int) -> None:
    ending = (FAILED,) if fails else END
    writer = PROTOCOL.reply_writer(context(NAME))
    data = b"".join(map(writer.write, own_frames()[:passed]))
    stream = objects(data + b"".join(writer.write(Frame(b"", (event,))) for event in (*events, *ending)))
    opened = 0
    indexes = []
    for event in stream:
        if event["type"] == "content_block_start":
            indexes.append(event["index"])
            opened += 1
        opened -= event["type"] == "content_block_stop"
        assert opened in (0, 1)
    assert indexes == list(range(len(indexes)))
    assert opened == 0
    assert stream[-1]["type"] == ("error" if fails else "message_stop")
    whole = PROTOCOL.reply_writer(context(stream=False)).write(Frame(b"", (START, *events, *END)))
    assert json.loads(whole)["type"] == "message"
