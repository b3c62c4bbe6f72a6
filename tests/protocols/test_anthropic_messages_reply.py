"""Anthropic's replies read: the same events however the bytes are cut, whatever the bytes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import corpus

from llm_interactive.events import (
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    Foreign,
    Frame,
    Reason,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Used,
)
from llm_interactive.protocols.anthropic_messages import NAME, PROTOCOL

RECORDED = [e for e in corpus.exchanges(api="messages") if e.response.status == 200]
STREAMS = [e for e in RECORDED if isinstance(e.response.body, str)]
WHOLE = [e for e in RECORDED if not isinstance(e.response.body, str)]
SMALL = 20_000


def read(*pieces: bytes, stream: bool = True) -> list[Frame]:
    reader = PROTOCOL.reply_reader(stream)
    return [frame for piece in pieces for frame in reader.feed(piece)] + reader.finish()


def events(frames: list[Frame]) -> list[Event]:
    """Errors are compared by their words."""
    return [_plain(event) for frame in frames for event in frame.events]


def _plain(event: Event) -> Any:
    return ("failed", event.error.message, event.error.status) if isinstance(event, Failed) else event


def sse(*objects: Any) -> bytes:
    return b"".join(f"event: {o['type']}\ndata: {json.dumps(o)}\n\n".encode() for o in objects)


def start(usage: Any = None) -> Any:
    message = {
        "id": "msg_1",
        "model": "claude",
        "content": [],
        "usage": usage or {"input_tokens": 1, "output_tokens": 1},
    }
    return {"type": "message_start", "message": message}


def block(index: int, content: Any, *deltas: Any) -> list[Any]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(reason: str = "end_turn", usage: Any = None, **delta: Any) -> list[Any]:
    delta = {"stop_reason": reason, "stop_sequence": None, **delta}
    return [{"type": "message_delta", "delta": delta, "usage": usage or {"output_tokens": 9}}, {"type": "message_stop"}]


def said(*objects: Any) -> list[Event]:
    """What stands between the start and the end of a stream of these blocks."""
    found = events(read(sse(start(), *objects, *end())))
    return found[2:-3]


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", STREAMS, ids=lambda exchange: exchange.id)
def test_streams_are_the_same_however_they_are_cut(exchange: Any) -> None:
    data = exchange.response.data
    whole = read(data)
    assert b"".join(frame.source for frame in whole) == data
    assert isinstance(whole[-1].events[-1], Finished | Failed) or any(Finished() in f.events for f in whole)
    wanted = events(whole)
    step = 1 if len(data) < SMALL // 10 else max(1, len(data) // 97)
    for position in range(1, len(data), step):
        cut = read(data[:position], data[position:])
        assert b"".join(frame.source for frame in cut) == data
        assert events(cut) == wanted


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", WHOLE, ids=lambda exchange: exchange.id)
def test_whole_replies_are_one_frame(exchange: Any) -> None:
    data = exchange.response.data
    [frame] = read(data[:9], data[9:], stream=False)
    assert frame.source == data
    assert isinstance(frame.events[0], Started)
    assert isinstance(frame.events[-1], Finished)


def test_a_stream_and_its_whole_message_say_the_same() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    text = {"type": "text", "text": "hi"}
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
    streamed = sse(
        start({"input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 1}),
        {"type": "ping"},
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": "sig"},
        ),
        *block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "hi"}),
        *block(
            2,
            {**call, "input": {}},
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": '{"a":1}'},
        ),
        *end("tool_use", {"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 2}}),
    )
    wanted = [
        Started("msg_1", "claude"),
        ThinkingDelta("hm"),
        ThinkingEnded(NAME, "sig"),
        TextDelta("hi"),
        ToolCallStarted(0, "t1", "f"),
        ToolCallDelta(0, '{"a":1}'),
        ToolCallEnded(0),
        Ended(Reason("tool_calls", "tool_use", NAME)),
        Finished(),
    ]
    found = events(read(streamed))
    assert [event for event in found if not isinstance(event, Used)] == wanted
    usage = [event for event in found if isinstance(event, Used)][-1].usage
    assert (usage.input, usage.cached, usage.cache_write, usage.output, usage.reasoning) == (8, 3, None, 7, 2)
    message = {
        "id": "msg_1", "type": "message", "model": "claude", "content": [thinking, text, call],
        "stop_reason": "tool_use", "usage": usage.raw,
    }  # fmt: skip
    found = events(read(json.dumps(message).encode(), stream=False))
    assert [event for event in found if not isinstance(event, Used)] == wanted
    assert Used(usage) in found


def test_t84_t85_usage_counts_everything_and_the_last_figure_holds() -> None:
    begun = {"input_tokens": 10, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 30, "output_tokens": 1}
    found = events(read(sse(start(begun), *end(usage={"output_tokens": 5, "input_tokens": 11}))))
    used = [event.usage for event in found if isinstance(event, Used)]
    assert (used[0].input, used[0].output) == (60, 1)
    assert (used[-1].input, used[-1].cached, used[-1].cache_write, used[-1].output) == (61, 20, 30, 5)
    assert used[-1].raw == {**begun, "input_tokens": 11, "output_tokens": 5}


@pytest.mark.parametrize(
    ("raw", "unified"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("compaction", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("brand_new", "other"),
    ],
)
def test_t101_reasons(raw: str, unified: Any) -> None:
    assert Ended(Reason(unified, raw, NAME)) in events(read(sse(start(), *end(raw))))


def test_t99_what_belongs_to_a_reason() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": None}
    assert Ended(Reason("content_filter", "refusal", NAME, details=details)) in events(
        read(sse(start(), *end("refusal", stop_details=details)))
    )
    assert Ended(Reason("stop", "stop_sequence", NAME, "END")) in events(
        read(sse(start(), *end("stop_sequence", stop_sequence="END")))
    )


def test_t2_calls_without_arguments_and_with_whole_ones() -> None:
    empty = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    whole = {"type": "tool_use", "id": "t2", "name": "g", "input": {"a": 1}}
    assert said(*block(0, empty, {"type": "input_json_delta", "partial_json": ""}), *block(1, whole)) == [
        ToolCallStarted(0, "t1", "f"),
        ToolCallEnded(0),
        ToolCallStarted(1, "t2", "g"),
        ToolCallDelta(1, '{"a":1}'),
        ToolCallEnded(1),
    ]
    both = block(0, whole, {"type": "input_json_delta", "partial_json": '{"a":1}'})
    assert said(*both)[1:] == [ToolCallDelta(0, '{"a":1}'), ToolCallEnded(0)]


def test_t53_t54_thinking_without_text() -> None:
    signed = block(
        0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "signature_delta", "signature": "sig"}
    )
    assert said(*signed, *block(1, {"type": "redacted_thinking", "data": "x"})) == [
        ThinkingEnded(NAME, "sig"),
        ThinkingEnded(NAME, redacted="x"),
    ]


def test_blocks_of_anthropics_own_tools_come_whole() -> None:
    use = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ('{"query":', '"x"}')]
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    compacted = {"type": "compaction", "content": None}
    assert said(
        *block(0, use, *deltas),
        *block(1, found),
        *block(2, compacted, {"type": "compaction_delta", "content": "summary"}),
    ) == [
        Foreign(NAME, "server_tool_use", {**use, "input": {"query": "x"}}),
        Foreign(NAME, "web_search_tool_result", found),
        Foreign(NAME, "compaction", {"type": "compaction", "content": "summary"}),
    ]


def test_t82_citations() -> None:
    web = {"type": "web_search_result_location", "url": "https://a", "title": "A", "cited_text": "c"}
    page = {"type": "page_location", "document_title": "D", "cited_text": "p", "start_page_number": 1}
    text = {"type": "text", "text": "", "citations": []}
    deltas = [{"type": "citations_delta", "citation": each} for each in (web, page)]
    assert said(*block(0, text, *deltas)) == [
        Cited(url="https://a", title="A", cited_text="c", origin=NAME, json=web),
        Cited(title="D", cited_text="p", origin=NAME, json=page),
    ]


def test_t79_an_error_in_the_stream() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    found = events(read(sse(start(), error, *end())))
    assert found[2:] == [("failed", "Overloaded", 529)]


def test_t80_a_stream_that_was_cut() -> None:
    text = block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "half"})[:2]
    assert events(read(sse(start(), *text)))[-1] == (
        "failed",
        "the provider's stream ended before the answer was complete",
        502,
    )


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("body", "words", "status"),
    [
        (b"<html><title>Oops</title>", "is no Anthropic message: the provider answered with a web page: Oops", 502),
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}', "slow down", 429),
        (b'{"type":"message","content":[{"type":"te', "is no Anthropic message", 502),
        (b"[]", "is no Anthropic message", 502),
    ],
)
def test_what_is_no_answer(body: bytes, words: str, status: int, stream: bool) -> None:
    [(_, said, found)] = events(read(body, stream=stream))  # type: ignore[misc]
    assert words in said
    assert found == status


def test_nothing_at_all_is_no_answer() -> None:
    [(_, whole, _)] = events(read(stream=False))  # type: ignore[misc]
    [(_, streamed, _)] = events(read())  # type: ignore[misc]
    assert whole == "the provider's reply is no Anthropic message (it was empty)"
    assert streamed == "the provider's stream ended before the answer was complete"


def test_a_whole_message_where_a_stream_was_asked_for() -> None:
    message = {"id": "m", "model": "c", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"}
    [frame] = read(json.dumps(message).encode())
    assert frame.edited  # its bytes are none for a client that waits for events
    assert frame.events == (Started("m", "c"), TextDelta("hi"), Ended(Reason("stop", "end_turn", NAME)), Finished())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_no_bytes_make_it_raise(pieces: list[bytes], stream: bool) -> None:
    frames = read(*pieces, stream=stream)
    assert isinstance(frames[-1].events[-1], Failed)


KEYS = [
    "type", "index", "delta", "content_block", "message", "usage", "text", "partial_json", "input", "id", "content",
    "input_tokens", "stop_reason", "citations", "output_tokens_details", "error", "citation", "signature",
]  # fmt: skip
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=10,
)
TYPES = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error"]
)
FIELDS = st.dictionaries(st.sampled_from(KEYS[1:6]), ODD, max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TYPES, FIELDS), max_size=6))
def test_no_event_makes_it_raise(objects: list[tuple[str, dict[str, Any]]]) -> None:
    data = sse(*({**fields, "type": kind} for kind, fields in objects))
    assert b"".join(frame.source for frame in read(data)) == data
    for _, fields in objects:
        body = json.dumps({"content": [fields.get("content_block")], **fields}).encode()
        assert [frame.source for frame in read(body, stream=False)] == [body]


@settings(max_examples=60, deadline=None)
@given(st.data())
@corpus.requires_corpus
def test_spoilt_recordings_do_not_make_it_raise(data: st.DataObject) -> None:
    recorded = data.draw(st.sampled_from([e for e in STREAMS if len(e.response.data) < SMALL])).response.data
    at = data.draw(st.integers(0, len(recorded)))
    spoilt = recorded[:at] + data.draw(st.binary(max_size=20)) + recorded[at + data.draw(st.integers(0, 40)) :]
    assert b"".join(frame.source for frame in read(spoilt)) == spoilt.removeprefix(b"\xef\xbb\xbf")  # a BOM is no event
