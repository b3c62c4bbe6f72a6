"""Responses replies read: the same however they are cut, each thing once, whatever a service leaves out."""

import json
from collections.abc import Iterable
from itertools import pairwise
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
from llm_interactive.protocols.openai_responses import NAME, PROTOCOL

REPLIES = [e for e in corpus.exchanges(api="responses") if e.response.status == 200]
STREAMS = [e for e in REPLIES if e.stream]
SMALL = 20_000

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 120,
}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "hello", "annotations": []}],
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}


def frames(body: bytes, stream: bool = True, cuts: Iterable[int] = ()) -> list[Frame]:
    reader = PROTOCOL.reply_reader(stream)
    marks = (0, *cuts, len(body))
    read = [frame for a, b in pairwise(marks) for frame in reader.feed(body[a:b])]
    return read + reader.finish()


def said(body: bytes, stream: bool = True) -> list[Event]:
    return [event for frame in frames(body, stream) for event in frame.events]


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def response(status: str = "completed", output: Iterable[Any] = (), **fields: Any) -> dict[str, Any]:
    base = {"id": "resp_1", "object": "response", "model": "gpt", "created_at": 5, "status": status}
    return {**base, "output": list(output), **fields}


CREATED = event("response.created", response=response("in_progress"))
COMPLETED = event("response.completed", response=response())


def added(index: int, item: Any) -> bytes:
    return event("response.output_item.added", output_index=index, item=item)


def done(index: int, item: Any) -> bytes:
    return event("response.output_item.done", output_index=index, item=item)


def delta(kind: str, text: str, index: int = 0, **place: Any) -> bytes:
    return event(f"response.{kind}.delta", output_index=index, delta=text, **place)


def inner(*pieces: bytes) -> list[Event]:
    """What is said between the start and the end of a complete stream."""
    events = said(b"".join([CREATED, *pieces, COMPLETED]))
    assert events[0] == Started("resp_1", "gpt", 5)
    assert events[-1] == Finished()
    assert isinstance(events[-2], Ended)
    return events[1:-2]


# Recordings


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", REPLIES, ids=lambda e: e.id)
def test_recordings_pass_byte_for_byte_and_end_once(exchange: corpus.Recorded) -> None:
    read = frames(exchange.response.data, exchange.stream)
    assert b"".join(frame.source for frame in read) == exchange.response.data
    events = [event for frame in read for event in frame.events]
    assert isinstance(events[0], Started)
    assert sum(isinstance(event, Finished | Failed) for event in events) == 1
    assert isinstance(events[-1], Finished | Failed)


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", REPLIES, ids=lambda e: e.id)
def test_recordings_say_what_their_response_holds(exchange: corpus.Recorded) -> None:
    """A stream's events tell the same as the response that ends it."""
    read = said(exchange.response.data, exchange.stream)
    body = exchange.response.body
    if exchange.stream:
        ends = [line[5:] for line in body.split("\n") if line.startswith("data:") and '"response":' in line]
        body = json.loads(ends[-1])["response"]
    if isinstance(read[-1], Failed):
        pytest.skip("recorded as failed")
    texts = [
        p.get("text") or p.get("refusal") or "" for i in body["output"] if i["type"] == "message" for p in i["content"]
    ]
    assert "".join(e.text for e in read if isinstance(e, TextDelta | RefusalDelta)) == "".join(texts)
    calls = [item for item in body["output"] if item["type"] in ("function_call", "custom_tool_call")]
    assert [e.id for e in read if isinstance(e, ToolCallStarted)] == [call["call_id"] for call in calls]
    own = [item["type"] for item in body["output"] if item["type"] not in ("message", "reasoning")]
    foreign = [e.what for e in read if isinstance(e, Foreign)]
    assert foreign == [kind for kind in own if kind not in ("function_call", "custom_tool_call")]


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", STREAMS, ids=lambda e: e.id)
def test_t75_t76_recordings_read_the_same_however_they_are_cut(exchange: corpus.Recorded) -> None:
    body = exchange.response.data
    whole = repr(frames(body))  # errors are compared by what they say
    if len(body) <= SMALL:
        assert repr(frames(body, cuts=range(1, len(body)))) == whole
    for cut in range(1, len(body), max(1, len(body) // 60)):
        assert repr(frames(body, cuts=[cut])) == whole


@corpus.requires_corpus
@settings(max_examples=60)
@given(st.data())
def test_mutated_recordings_never_raise(data: st.DataObject) -> None:
    exchange = data.draw(st.sampled_from([e for e in REPLIES if len(e.response.data) < SMALL]))
    body = bytearray(exchange.response.data)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    events = [event for frame in frames(bytes(body), exchange.stream) for event in frame.events]
    assert sum(isinstance(event, Finished | Failed) for event in events) == 1


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_end_in_a_failure(body: bytes, stream: bool) -> None:
    assert isinstance(said(body, stream)[-1], Failed)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "id", "text", "content", "summary", "name"]), inner, max_size=4)
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(
    [
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.delta",
        "response.content_part.done",
        "response.output_text.annotation.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_part.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.completed",
        "response.failed",
        "error",
    ]
)
FIELDS = st.sampled_from(["item", "delta", "part", "response", "output_index", "content_index", "annotation", "error"])


@given(st.lists(st.tuples(KINDS, st.dictionaries(FIELDS, JSON, max_size=4)), max_size=6))
def test_events_of_any_shape_never_raise(events: list[tuple[str, dict[str, Any]]]) -> None:
    read = said(b"".join(event(kind, **fields) for kind, fields in events))
    assert sum(isinstance(each, Finished | Failed) for each in read) == 1


# Text


def test_deltas_count_and_dones_repeat_them() -> None:
    part = MESSAGE["content"][0]  # type: ignore[index]
    assert inner(
        added(0, {**MESSAGE, "content": []}),
        event("response.content_part.added", output_index=0, content_index=0, part={"type": "output_text", "text": ""}),
        delta("output_text", "hel", content_index=0, obfuscation="xyz"),
        delta("output_text", "lo", content_index=0),
        event("response.output_text.done", output_index=0, content_index=0, text="hello"),
        event("response.content_part.done", output_index=0, content_index=0, part=part),
        done(0, MESSAGE),
    ) == [TextDelta("hel"), TextDelta("lo")]


@pytest.mark.parametrize(
    "pieces",
    [
        [event("response.output_text.done", output_index=0, content_index=0, text="hello"), done(0, MESSAGE)],
        [event("response.content_part.done", output_index=0, content_index=0, part=MESSAGE["content"][0])],  # type: ignore[index]
        [added(0, {**MESSAGE, "content": []}), done(0, MESSAGE)],
        [done(0, MESSAGE)],
    ],
)
def test_text_that_was_never_streamed_is_told_once(pieces: list[bytes]) -> None:
    assert inner(*pieces) == [TextDelta("hello")]


def test_items_that_only_the_response_holds() -> None:
    last = event("response.completed", response=response(output=[MESSAGE, CALL]))
    assert said(CREATED + last)[1:] == [
        TextDelta("hello"),
        ToolCallStarted(0, "call_1", "f"),
        ToolCallDelta(0, '{"a":1}'),
        ToolCallEnded(0),
        Ended(Reason("tool_calls", "completed", NAME)),
        Finished(),
    ]


def test_the_response_repeats_what_was_streamed_under_other_ids() -> None:
    last = event("response.completed", response=response(output=[{**MESSAGE, "id": "msg_other"}]))
    streamed = added(0, {**MESSAGE, "content": []}) + delta("output_text", "hello", content_index=0)
    assert [e for e in said(CREATED + streamed + last) if isinstance(e, TextDelta)] == [TextDelta("hello")]


def test_deltas_without_items_or_indexes() -> None:
    assert inner(delta_without_place("output_text", "a"), delta_without_place("output_text", "b")) == [
        TextDelta("a"),
        TextDelta("b"),
    ]


def delta_without_place(kind: str, text: str) -> bytes:
    return event(f"response.{kind}.delta", delta=text)


def test_t99_refusals() -> None:
    refused = {**MESSAGE, "content": [{"type": "refusal", "refusal": "I will not"}]}
    pieces = [delta("refusal", "I will ", content_index=0), delta("refusal", "not", content_index=0)]
    assert inner(*pieces, done(0, refused)) == [RefusalDelta("I will "), RefusalDelta("not")]
    assert inner(done(0, refused)) == [RefusalDelta("I will not")]


def test_t82_each_citation_once_counted_from_the_answers_start() -> None:
    cite = {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 1, "end_index": 3}
    path = {"type": "container_file_citation", "filename": "x.csv", "file_id": "f"}
    part = {"type": "output_text", "text": "world", "annotations": [cite, path]}
    assert inner(
        done(0, MESSAGE),
        delta("output_text", "world", 1, content_index=0),
        event("response.output_text.annotation.added", output_index=1, content_index=0, annotation=cite),
        done(1, {**MESSAGE, "content": [part]}),
    ) == [
        TextDelta("hello"),
        TextDelta("world"),
        Cited(url="https://a", title="A", start=6, end=8, origin=NAME, json=cite),
        Cited(title="x.csv", origin=NAME, json=path),
    ]


def test_logprobs_come_with_their_text() -> None:
    token = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
    part = {"type": "output_text", "text": "a", "annotations": [], "logprobs": [token]}
    streamed = delta("output_text", "a", content_index=0, logprobs=[token])
    expected = [TextDelta("a"), LogProbs((token,))]
    assert inner(streamed, done(0, {**MESSAGE, "content": [part]})) == expected
    assert inner(done(0, {**MESSAGE, "content": [part]})) == expected


# Reasoning


def test_summary_parts_are_apart() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    summary = [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]
    assert inner(
        added(0, {**item, "encrypted_content": "g"}),
        delta("reasoning_summary_text", "one", summary_index=0),
        event("response.reasoning_summary_text.done", output_index=0, summary_index=0, text="one"),
        event("response.reasoning_summary_part.done", output_index=0, summary_index=0, part={"text": "one"}),
        delta("reasoning_summary_text", "two", summary_index=1),
        done(0, {**item, "summary": summary}),
    ) == [ThinkingDelta("one"), ThinkingDelta("\n\ntwo"), ThinkingEnded(NAME, "gAAA", item_id="rs_1")]


def test_reasoning_in_the_clear_and_unstreamed() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    assert inner(delta("reasoning_text", "hm", content_index=0), done(0, item)) == [
        ThinkingDelta("hm"),
        ThinkingEnded(NAME, item_id="rs_1"),
    ]
    assert inner(done(0, item)) == [ThinkingDelta("hm"), ThinkingEnded(NAME, item_id="rs_1")]


def test_t53_reasoning_without_words_keeps_its_signature() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    assert inner(added(0, item), done(0, item)) == [ThinkingEnded(NAME, "gAAA", item_id="rs_1")]
    assert inner(done(0, {"type": "reasoning", "id": "rs_1", "summary": []})) == []


# Calls


def test_t17_calls_end_the_turn() -> None:
    started = {**CALL, "arguments": ""}
    events = said(
        CREATED
        + added(0, started)
        + delta("function_call_arguments", '{"a":')
        + delta("function_call_arguments", "1}")
        + event("response.function_call_arguments.done", output_index=0, arguments='{"a":1}')
        + done(0, CALL)
        + event("response.completed", response=response(output=[CALL]))
    )
    assert events[1:] == [
        ToolCallStarted(0, "call_1", "f"),
        ToolCallDelta(0, '{"a":'),
        ToolCallDelta(0, "1}"),
        ToolCallEnded(0),
        Ended(Reason("tool_calls", "completed", NAME)),
        Finished(),
    ]


def test_t7_parallel_calls_may_overlap() -> None:
    other = {**CALL, "id": "fc_2", "call_id": "call_2", "name": "g"}
    read = inner(
        added(0, {**CALL, "arguments": ""}),
        added(1, {**other, "arguments": ""}),
        delta("function_call_arguments", "{", 1),
        delta("function_call_arguments", '{"a":1}', 0),
        delta("function_call_arguments", "}", 1),
        done(0, CALL),
        done(1, other),
    )
    assert read == [
        ToolCallStarted(0, "call_1", "f"),
        ToolCallStarted(1, "call_2", "g"),
        ToolCallDelta(1, "{"),
        ToolCallDelta(0, '{"a":1}'),
        ToolCallDelta(1, "}"),
        ToolCallEnded(0),
        ToolCallEnded(1),
    ]


@pytest.mark.parametrize("pieces", [[done(0, CALL)], [added(0, CALL), done(0, CALL)], [added(0, CALL)]])
def test_calls_without_deltas(pieces: list[bytes]) -> None:
    last = event("response.completed", response=response(output=[CALL]))
    events = said(b"".join([CREATED, *pieces, last]))
    assert events[1:-2] == [ToolCallStarted(0, "call_1", "f"), ToolCallDelta(0, '{"a":1}'), ToolCallEnded(0)]


def test_custom_calls() -> None:
    item = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "c", "input": "raw"}
    assert inner(added(0, {**item, "input": ""}), delta("custom_tool_call_input", "raw"), done(0, item)) == [
        ToolCallStarted(0, "call_1", "c", custom=True),
        ToolCallDelta(0, "raw"),
        ToolCallEnded(0),
    ]


@pytest.mark.parametrize(
    "kind", ["web_search_call", "code_interpreter_call", "mcp_call", "shell_call", "compaction", "item_of_next_year"]
)
def test_openais_own_items_are_foreign_to_others(kind: str) -> None:
    item = {"type": kind, "id": "x"}
    progress = event(f"response.{kind}.in_progress", output_index=0, item_id="x")
    assert inner(added(0, item), progress, done(0, item)) == [Foreign(NAME, kind, item)]


# The end


@pytest.mark.parametrize(
    ("reason", "unified"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("steered", "other"), ("new", "other")],
)
def test_incomplete_says_why(reason: str, unified: Any) -> None:
    last = response("incomplete", [MESSAGE, CALL], incomplete_details={"reason": reason})
    events = said(CREATED + event("response.incomplete", response=last))
    assert events[-2:] == [Ended(Reason(unified, reason, NAME)), Finished()]


def test_t84_usage_counts_what_openai_counts() -> None:
    events = said(CREATED + event("response.completed", response=response(usage=USAGE)))
    assert Used(Usage(100, 20, 60, 10, 5, origin=NAME)) in events


def test_t79_failures_end_the_answer() -> None:
    error = {"code": "rate_limit_exceeded", "message": "Slow down"}
    for last in (
        event("response.failed", response=response("failed", error=error)),
        event("error", **error, param=None, sequence_number=3),
        event("error", error=error),
        b"data: " + json.dumps({"error": error}).encode() + b"\n\n",
    ):
        *_, failed = said(CREATED + delta("output_text", "par", content_index=0) + last + COMPLETED)
        assert isinstance(failed, Failed)
        assert (failed.error.message, failed.error.status) == ("Slow down", 429)


def test_t80_a_stream_that_stops_was_cut() -> None:
    *_, failed = said(CREATED + delta("output_text", "par", content_index=0))
    assert isinstance(failed, Failed)
    assert "before the answer was complete" in failed.error.message


def test_t77_line_separators_inside_json_are_text() -> None:
    data = json.dumps({"type": "response.output_text.delta", "delta": "a\u2028b\x85c"}, ensure_ascii=False)
    assert inner(f"data:{data}\r\n\r\n".encode()) == [TextDelta("a\u2028b\x85c")]


def test_a_whole_answer_where_a_stream_was_asked() -> None:
    body = json.dumps(response(output=[MESSAGE]), indent=2).encode()
    (frame,) = frames(body)
    assert frame.source == body
    assert frame.edited
    assert frame.events[1:] == (TextDelta("hello"), Ended(Reason("stop", "completed", NAME)), Finished())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html><title>502 Bad Gateway</title></html>", "502 Bad Gateway"),
        (b'{"error": {"message": "no such model"}}', "no such model"),
        (b'{"id": "resp_1", "outp', '{"id": "resp_1"'),
    ],
)
def test_what_is_no_answer(body: bytes, words: str, stream: bool) -> None:
    (failed,) = said(body, stream)
    assert isinstance(failed, Failed)
    assert words in failed.error.message


def test_whole_replies() -> None:
    body = response(output=[MESSAGE, CALL, {"type": "web_search_call", "id": "ws"}], usage=USAGE)
    (frame,) = frames(json.dumps(body).encode(), stream=False)
    assert frame.events == (
        Started("resp_1", "gpt", 5),
        TextDelta("hello"),
        ToolCallStarted(0, "call_1", "f"),
        ToolCallDelta(0, '{"a":1}'),
        ToolCallEnded(0),
        Foreign(NAME, "web_search_call", {"type": "web_search_call", "id": "ws"}),
        Used(Usage(100, 20, 60, 10, 5, origin=NAME)),
        Ended(Reason("tool_calls", "completed", NAME)),
        Finished(),
    )


def test_whole_replies_that_failed() -> None:
    body = response("failed", error={"code": "server_error", "message": "broke"})
    *_, failed = said(json.dumps(body).encode(), stream=False)
    assert isinstance(failed, Failed)
    assert (failed.error.message, failed.error.status) == ("broke", 500)
