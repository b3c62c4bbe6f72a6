"""Responses replies written: source events untouched, all others in OpenAI's order and to its SDK's liking."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from kit import corpus
from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from llm_interactive import sse
from llm_interactive.conversation import Thinking, ToolCall
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
from llm_interactive.protocols.base import Call, ReplyContext
from llm_interactive.protocols.foreign_signatures import Hidden, unwrap
from llm_interactive.protocols.openai_responses import NAME, PROTOCOL
from llm_interactive.protocols.openai_responses_reader import StreamReader
from llm_interactive.protocols.openai_responses_writer import StreamWriter, WholeWriter

CALL = Call(NAME, "generate", "/v1/responses")
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
RESPONSES: TypeAdapter[Any] = TypeAdapter(Response)

START = Started("chatcmpl-1", "other", 3)
STOP = (Ended(Reason("stop")), Finished())
CALLS = (
    ToolCallStarted(0, "call_1", "f"),
    ToolCallStarted(1, "call_2", "g"),
    ToolCallDelta(1, '{"b":'),
    ToolCallDelta(0, '{"a":1}'),
    ToolCallDelta(1, "2}"),
    ToolCallEnded(0),
    ToolCallEnded(1),
    Ended(Reason("tool_calls")),
    Finished(),
)
NOTICE = Frame(b"", (TextDelta("[notice]"), *STOP))
STREAMS = [e for e in corpus.exchanges(api="responses", stream=True) if e.response.status == 200]


def context(*, stream: bool = True, backend: str = "gemini", rename: bool = False, **body: Any) -> ReplyContext:
    conversation = PROTOCOL.read_request({"model": "asked", "input": "hi", "stream": stream, **body}, CALL)
    numbers = itertools.count()
    return ReplyContext(conversation, CALL, backend, "asked", lambda p: f"{p}{next(numbers)}", 7, rename)


def parsed(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in sse.Splitter().feed(body) if event.data is not None]


def streamed(*events: Event, **how: Any) -> list[dict[str, Any]]:
    """What is written for these events, found to be to the SDK's liking."""
    writer = PROTOCOL.reply_writer(context(**how))
    body = b"".join(writer.write(Frame(b"", (event,))) for event in events)
    assert all(event.name == json.loads(event.data or b"")["type"] for event in sse.Splitter().feed(body))
    written = parsed(body)
    assert [event["sequence_number"] for event in written] == list(range(len(written)))
    for event in written:
        EVENTS.validate_python(event)
    assert_accepted(written)
    return written


def assert_accepted(written: Sequence[dict[str, Any]]) -> None:
    """The SDK's accumulator takes the stream, and the response repeats the items that were done."""
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    done = {}
    for event in written:
        state.handle_event(construct_type(type_=ResponseStreamEvent, value=event))  # type: ignore[arg-type]
        if event["type"] == "response.output_item.done":
            done[event["output_index"]] = event["item"]
    assert written[-1]["response"]["output"] == [done[index] for index in sorted(done)]


def whole(*events: Event, **how: Any) -> dict[str, Any]:
    body = PROTOCOL.reply_writer(context(stream=False, **how)).write(Frame(b"", events))
    response: dict[str, Any] = json.loads(body)
    RESPONSES.validate_python(response)
    return response


def kinds(written: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in written]


# Written from events


def test_t73_the_order_of_a_text_answer() -> None:
    written = streamed(START, TextDelta("hel"), TextDelta("lo"), Used(Usage(100, 20, 60, 10, 5)), *STOP)
    assert kinds(written) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    assert all(place.items() <= event.items() for event in written[3:8])
    assert written[0]["response"]["status"] == "in_progress"
    final = written[-1]["response"]
    part = {"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}
    message = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    assert (final["status"], final["output"]) == ("completed", [message])
    assert final["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 120,
    }


def test_t104_ids_and_the_model_are_the_clients() -> None:
    for event in streamed(START, TextDelta("x"), *STOP):
        if "response" in event:
            assert (event["response"]["id"], event["response"]["model"]) == ("resp_0", "asked")


def test_the_response_repeats_the_request() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    final = whole(
        START,
        TextDelta("x"),
        *STOP,
        instructions="be kind",
        temperature=0.5,
        tools=[tool],
        tool_choice="required",
        metadata={"a": "b"},
        reasoning={"effort": "low"},
        text={"verbosity": "low"},
    )
    assert (final["instructions"], final["temperature"], final["metadata"]) == ("be kind", 0.5, {"a": "b"})
    assert final["tools"] == [{**tool, "description": None, "strict": True}]
    assert (final["tool_choice"], final["parallel_tool_calls"]) == ("required", True)
    assert final["reasoning"] == {"effort": "low", "summary": None}
    assert final["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert (final["created_at"], final["store"], final["truncation"]) == (7, True, "disabled")


def test_t7_parallel_calls_keep_apart() -> None:
    written = streamed(START, TextDelta("wait"), *CALLS)
    assert [event["output_index"] for event in written if event["type"].endswith("arguments.delta")] == [2, 1, 2]
    item = {"type": "function_call", "status": "completed"}
    assert written[-1]["response"]["output"][1:] == [
        {**item, "id": "fc_2", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
        {**item, "id": "fc_3", "call_id": "call_2", "name": "g", "arguments": '{"b":2}'},
    ]


def test_t1_a_call_without_arguments_has_an_empty_object() -> None:
    end = (ToolCallEnded(0), Ended(Reason("tool_calls")), Finished())
    written = streamed(START, ToolCallStarted(0, "call_1", "f"), *end)
    assert [e["delta"] for e in written if e["type"] == "response.function_call_arguments.delta"] == ["{}"]
    assert written[-1]["response"]["output"][0]["arguments"] == "{}"


def test_custom_calls() -> None:
    start = ToolCallStarted(0, "call_1", "c", custom=True)
    written = streamed(START, start, ToolCallDelta(0, "raw"), ToolCallEnded(0), *STOP)
    item = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_1", "name": "c", "input": "raw"}
    assert written[-1]["response"]["output"] == [item]
    assert kinds(written)[3:5] == ["custom_tool_call_input.delta", "custom_tool_call_input.done"]


def test_reasoning_is_a_summary_with_its_signature() -> None:
    written = streamed(
        START, ThinkingDelta("hm"), ThinkingDelta("m"), ThinkingEnded(NAME, "gAAA"), TextDelta("x"), *STOP
    )
    assert kinds(written)[2:9] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    assert written[-1]["response"]["output"][0] == {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "hmm"}],
        "encrypted_content": "gAAA",
    }


@pytest.mark.parametrize(
    ("ended", "thinking"),
    [
        (ThinkingEnded("anthropic_messages", "sig"), Thinking(text="hm", signature="sig", origin="anthropic_messages")),
        (
            ThinkingEnded("anthropic_messages", redacted="data"),
            Thinking(text="hm", redacted="data", origin="anthropic_messages"),
        ),
    ],
)
def test_t52_t54_foreign_signatures_come_back_with_the_next_turn(ended: Event, thinking: Thinking) -> None:
    output = whole(START, ThinkingDelta("hm"), ended, TextDelta("x"), *STOP)["output"]
    conversation = PROTOCOL.read_request({"model": "m", "input": output}, CALL)
    assert conversation.messages[0].parts == (thinking,)


def test_t56_a_calls_signature_comes_back_with_the_call() -> None:
    call = ToolCallStarted(0, "call_1", "f", signature="sig")
    output = whole(START, call, ToolCallDelta(0, "{}"), ToolCallEnded(0), *STOP)["output"]
    conversation = PROTOCOL.read_request({"model": "m", "input": output}, CALL)
    parts = [part for message in conversation.messages for part in message.parts]
    assert parts == [ToolCall(id="call_1", name="f", arguments="{}", signature="sig")]


def test_t53_a_signature_without_words_is_an_item() -> None:
    output = whole(START, ThinkingEnded(NAME, "gAAA"), TextDelta("x"), *STOP)["output"]
    assert output[0] == {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA"}


def test_t99_refusals_are_parts_of_their_own() -> None:
    written = streamed(START, TextDelta("Well"), RefusalDelta("I will "), RefusalDelta("not"), *STOP)
    content = written[-1]["response"]["output"][0]["content"]
    assert content[1] == {"type": "refusal", "refusal": "I will not"}
    assert kinds(written)[-6:] == [
        "refusal.delta", "refusal.delta", "refusal.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip


def test_t82_citations_count_from_their_part() -> None:
    cites = (Cited(url="https://a", title="A", start=1, end=3), Cited(url="https://b", title="B", start=0, end=5))
    written = streamed(START, TextDelta("hello"), *cites, *STOP)
    expected = [
        {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 1, "end_index": 3},
        {"type": "url_citation", "url": "https://b", "title": "B", "start_index": 0, "end_index": 5},
    ]
    assert [e["annotation"] for e in written if e["type"].endswith("annotation.added")] == expected
    assert written[-1]["response"]["output"][0]["content"][0]["annotations"] == expected


def test_t82_offsets_that_are_not_known_are_left_out() -> None:
    body = PROTOCOL.reply_writer(context(stream=False)).write(
        Frame(b"", (START, TextDelta("x"), Cited(url="https://a"), Cited(title="no address"), *STOP))
    )
    cited = json.loads(body)["output"][0]["content"][0]["annotations"]
    assert cited == [{"type": "url_citation", "url": "https://a", "title": "https://a"}]


def test_logprobs_stand_with_their_text() -> None:
    token = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}
    written = streamed(START, TextDelta("x"), LogProbs((token,)), *STOP)
    assert written[5]["logprobs"] == [token]
    assert written[-1]["response"]["output"][0]["content"][0]["logprobs"] == [token]


def test_own_foreign_items_are_written_and_others_are_not() -> None:
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}
    other = Foreign("anthropic_messages", "server_tool_use", {"type": "server_tool_use"})
    written = streamed(START, Foreign(NAME, "web_search_call", item), other, TextDelta("x"), *STOP)
    assert [each["type"] for each in written[-1]["response"]["output"]] == ["web_search_call", "message"]


@pytest.mark.parametrize(
    ("unified", "status", "reason"),
    [
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("other", "completed", None),
    ],
)
def test_t101_reasons_are_words_of_this_protocol(unified: Any, status: str, reason: str | None) -> None:
    written = streamed(START, TextDelta("x"), Ended(Reason(unified, "raw", "elsewhere")), Finished())
    assert kinds(written)[-1] == status
    final = written[-1]["response"]
    assert final["status"] == final["output"][0]["status"] == status
    assert final["incomplete_details"] == (None if reason is None else {"reason": reason})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamError("wait", status=429, code="RESOURCE_EXHAUSTED"), "rate_limit_exceeded"),
        (UpstreamError("broke", status=500), "server_error"),
        (UpstreamError("bad", status=400, code="a sentence is no code"), "invalid_prompt"),
        (UpstreamError("img", status=400, code="image_too_large"), "image_too_large"),
    ],
)
def test_t74_t79_failures(error: UpstreamError, code: str) -> None:
    written = streamed(START, TextDelta("par"), Failed(error))
    assert kinds(written)[-1] == "failed"
    final = written[-1]["response"]
    assert (final["status"], final["error"]) == ("failed", {"code": code, "message": error.message})
    assert "completed" not in kinds(written)


def test_t72_a_failure_at_once_has_its_beginning() -> None:
    assert kinds(streamed(Failed(UpstreamError("no")))) == ["created", "in_progress", "failed"]


def test_nothing_follows_the_end() -> None:
    writer = PROTOCOL.reply_writer(context())
    writer.write(Frame(b"", (START, TextDelta("x"), *STOP)))
    assert writer.write(Frame(b"", (TextDelta("y"),))) == b""


def test_a_plain_answer_is_the_same_response() -> None:
    events = (START, ThinkingDelta("hm"), TextDelta("x"), Used(Usage(1, 2)), *CALLS)
    assert whole(*events) == {**streamed(*events)[-1]["response"]}


def test_a_plain_answer_waits_for_its_end() -> None:
    writer = PROTOCOL.reply_writer(context(stream=False))
    assert writer.write(Frame(b"", (START, TextDelta("x")))) == b""
    assert json.loads(writer.write(Frame(b"", STOP)))["output"][0]["content"][0]["text"] == "x"


def test_the_output_can_be_remembered() -> None:
    for stream, writer_type in ((True, StreamWriter), (False, WholeWriter)):
        writer = PROTOCOL.reply_writer(context(stream=stream))
        assert isinstance(writer, writer_type)
        writer.write(Frame(b"", (START, TextDelta("x"), *STOP)))
        assert isinstance(writer, StreamWriter | WholeWriter)
        assert writer.output == writer.response["output"]
        assert writer.output[0]["content"][0]["text"] == "x"


# Passed on as it came


def recorded(exchange: corpus.Recorded) -> list[Frame]:
    reader = StreamReader()
    return reader.feed(exchange.response.data) + reader.finish()


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", STREAMS, ids=lambda e: e.id)
def test_source_events_go_on_untouched(exchange: corpus.Recorded) -> None:
    writer = PROTOCOL.reply_writer(context(backend=NAME))
    frames = recorded(exchange)
    ends = next(i for i, f in enumerate(frames) if any(isinstance(e, Finished | Failed) for e in f.events))
    written = b"".join(writer.write(frame) for frame in frames)
    source = b"".join(frame.source for frame in frames[: ends + 1])
    assert written.startswith(source)
    assert isinstance(writer, StreamWriter)
    if isinstance(frames[ends].events[-1], Finished):
        assert written == source
        assert writer.output == parsed(frames[ends].source)[0]["response"]["output"]


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", STREAMS, ids=lambda e: e.id)
def test_the_proxy_can_take_over_after_any_event(exchange: corpus.Recorded) -> None:
    open_frames = list(itertools.takewhile(_goes_on, recorded(exchange)))
    for count in range(1, len(open_frames) + 1, max(1, len(open_frames) // 40)):
        for ending in (NOTICE, Frame(b"", (Failed(UpstreamError("cut")),))):
            writer = PROTOCOL.reply_writer(context(backend=NAME))
            body = b"".join(writer.write(frame) for frame in open_frames[:count])
            written = parsed(body) + parsed(writer.write(ending))
            numbers = [e["sequence_number"] for e in written if "sequence_number" in e]
            assert numbers == sorted(set(numbers))
            assert written[-1]["response"]["id"] == written[0]["response"]["id"]
            if ending is NOTICE:
                assert_accepted(written)
                assert written[-1]["response"]["output"][-1]["content"][-1]["text"].endswith("[notice]")
            else:
                assert written[-1]["type"] == "response.failed"


def _goes_on(frame: Frame) -> bool:
    return not any(isinstance(each, Finished | Failed) for each in frame.events)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def test_taking_over_closes_what_is_open() -> None:
    """A call and a message are open; what was said of them so far stays theirs."""
    busy = {"status": "in_progress"}
    made = {"id": "resp_9", "object": "response", "model": "m", **busy, "output": [], "temperature": 0.3}
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "", **busy}
    message = {"type": "message", "id": "msg_9", "role": "assistant", **busy, "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    first = {"item_id": "fc_1", "output_index": 0}
    place = {"item_id": "msg_9", "output_index": 1, "content_index": 0}
    source = [
        event("response.created", response=made, sequence_number=0),
        event("response.output_item.added", output_index=0, item=call, sequence_number=1),
        event("response.function_call_arguments.delta", **first, delta='{"a":', sequence_number=2),
        event("response.output_item.added", output_index=1, item=message, sequence_number=3),
        event("response.content_part.added", **place, part=part, sequence_number=4),
        event("response.output_text.delta", **place, delta="hel", logprobs=[], sequence_number=5),
    ]
    reader, writer = StreamReader(), PROTOCOL.reply_writer(context(backend=NAME))
    body = b"".join(writer.write(frame) for piece in source for frame in reader.feed(piece))
    ending = Frame(b"", (TextDelta("lo"), ToolCallDelta(0, "1}"), *STOP))
    written = parsed(body) + parsed(writer.write(ending))
    assert_accepted(written)
    assert [each["sequence_number"] for each in written] == list(range(len(written)))
    final = written[-1]["response"]
    assert (final["id"], final["temperature"]) == ("resp_9", 0.3)
    said, spoken = final["output"]
    assert (said["id"], said["arguments"]) == ("fc_1", '{"a":1}')
    assert (spoken["id"], spoken["content"][0]["text"]) == ("msg_9", "hello")


def test_numbers_go_on_from_the_last_event_passed() -> None:
    made = {"id": "resp_9", "object": "response", "model": "m", "status": "in_progress", "output": []}
    message = {"type": "message", "id": "msg_9", "role": "assistant", "status": "completed", "content": []}
    writer = PROTOCOL.reply_writer(context(backend=NAME))
    writer.write(Frame(event("response.created", response=made, sequence_number=10)))
    writer.write(Frame(event("response.output_item.added", output_index=4, item=message, sequence_number=20)))
    writer.write(Frame(event("response.output_item.done", output_index=4, item=message, sequence_number=30)))
    written = parsed(writer.write(NOTICE))
    assert written[0]["sequence_number"] == 31
    assert written[0]["output_index"] == 5


@pytest.mark.parametrize("kind", ["error", "response.failed"])
def test_t79_an_error_event_is_followed_by_the_failed_response(kind: str) -> None:
    """Codex waits for `response.failed`; what the provider sent is not said twice."""
    made = {"id": "resp_9", "object": "response", "model": "m", "status": "in_progress", "output": []}
    error = {"code": "server_error", "message": "broke"}
    failed = {**made, "status": "failed", "error": error}
    source = event(kind, **({"response": failed} if kind == "response.failed" else error), sequence_number=1)
    reader, writer = StreamReader(), PROTOCOL.reply_writer(context(backend=NAME))
    created = event("response.created", response=made, sequence_number=0)
    body = b"".join(writer.write(frame) for frame in reader.feed(created + source))
    assert body.startswith(created + source)
    assert [each["type"] for each in parsed(body)][-1] == "response.failed"
    assert body.count(b"response.failed") == 2
    assert parsed(body)[-1]["response"]["error"] == error


def test_an_edited_frame_is_written_from_its_events() -> None:
    made = {"id": "resp_9", "object": "response", "model": "m", "status": "in_progress", "output": []}
    writer = PROTOCOL.reply_writer(context(backend=NAME))
    writer.write(Frame(event("response.created", response=made, sequence_number=0), (START,)))
    written = parsed(writer.write(Frame(b"secret", (TextDelta("[redacted]"),), edited=True)))
    assert written[-1]["delta"] == "[redacted]"
    assert written[0]["sequence_number"] == 1


def test_the_models_name_is_the_clients_where_it_was_changed() -> None:
    made = {"id": "resp_9", "object": "response", "model": "real", "status": "in_progress", "output": [], "odd": 1}
    writer = PROTOCOL.reply_writer(context(backend=NAME, rename=True))
    (created,) = parsed(writer.write(Frame(event("response.created", response=made, sequence_number=0), (START,))))
    assert created["response"] == {**made, "model": "asked"}
    delta = event("response.output_text.delta", delta="x", output_index=0)
    assert writer.write(Frame(delta, (TextDelta("x"),))) == delta


def test_plain_replies_go_on_untouched_but_for_the_models_name() -> None:
    body = {"id": "resp_9", "model": "real", "output": [{"type": "message", "id": "m"}], "odd": 1}
    frame = Frame(json.dumps(body).encode(), (START, *STOP))
    writer = PROTOCOL.reply_writer(context(stream=False, backend=NAME))
    assert writer.write(frame) == frame.source
    assert isinstance(writer, WholeWriter)
    assert writer.output == body["output"]
    renamed = PROTOCOL.reply_writer(context(stream=False, backend=NAME, rename=True)).write(frame)
    assert json.loads(renamed) == {**body, "model": "asked"}


def _is_mark(said: Any) -> bool:
    """Whose reasoning it is that nobody signed."""
    return isinstance(said, tuple) and said[0] == "thought" and unwrap(said[1]) == Hidden("elsewhere")


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", STREAMS, ids=lambda e: e.id)
def test_recordings_written_anew_say_the_same(exchange: corpus.Recorded) -> None:
    """Reading what was written from a recording's events gives the events again."""
    events = [each for frame in recorded(exchange) for each in frame.events]
    if isinstance(events[-1], Failed):
        pytest.skip("recorded as failed")
    writer = PROTOCOL.reply_writer(context(backend="elsewhere"))
    body = b"".join(writer.write(Frame(b"", (each,))) for each in events)
    assert_accepted(parsed(body))
    again = [each for frame in StreamReader().feed(body) for each in frame.events]
    assert [each for each in _said(again) if not _is_mark(each)] == _said(events)


def _said(events: list[Event]) -> list[Any]:
    """Without what is the proxy's to choose: ids, and where the end of the stream tells of usage."""
    told: list[Any] = []
    for each in events:
        match each:
            case Started() | Used() | ThinkingEnded(signature=None):
                pass
            case ThinkingEnded(signature=signature):
                told.append(("thought", signature))
            case TextDelta(text=text) | ThinkingDelta(text=text):
                told.append((type(each).__name__, text))
            case Cited():
                told.append(("cited", each.url))
            case _:
                told.append(each)
    return told
