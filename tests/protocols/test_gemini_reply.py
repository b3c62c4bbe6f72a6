"""Gemini's replies: read the same however they are cut, passed on as they came, written for other backends' events."""

import base64
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import corpus

from llm_interactive.conversation import Conversation, Thinking, ToolCall
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
from llm_interactive.protocols.base import Call, ModelFacts, Notes, ReplyContext, Target
from llm_interactive.protocols.foreign_signatures import Hidden, wrap
from llm_interactive.protocols.gemini import NAME, PROTOCOL
from llm_interactive.protocols.gemini_reply import read_usage

REPLIES = [e for e in corpus.exchanges(api="generateContent") if e.response.status == 200]
STREAMS = [e for e in REPLIES if e.stream]


def frames(body: bytes, stream: bool, *cuts: int) -> list[Frame]:
    reader = PROTOCOL.reply_reader(stream)
    marks = (0, *cuts, len(body))
    read = [f for a, b in pairwise(marks) for f in reader.feed(body[a:b])]
    return read + reader.finish()


def events(body: bytes, stream: bool = True) -> list[Event]:
    return [event for frame in frames(body, stream) for event in frame.events]


def chunk(*parts: Any, reason: str | None = None, **more: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0, **more}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "g", "responseId": "r"}


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\r\n\r\n" for each in chunks)


def array(*chunks: Any) -> bytes:
    return b"[" + b",\r\n".join(json.dumps(each, indent=2).encode() for each in chunks) + b"\n]\n"


def context(stream: bool, backend: str = "openai_chat", array: bool = False, **more: Any) -> ReplyContext:
    call = Call(NAME, "generate", "/v1beta/models/asked", model="asked", stream=stream, array=array)
    conversation = Conversation(model="asked", messages=(), stream=stream)
    return ReplyContext(conversation, call, backend, "asked", lambda prefix: prefix + "minted", 7, **more)


def streamed(*said: Event | Frame, **how: Any) -> bytes:
    writer = PROTOCOL.reply_writer(context(True, **how))
    return b"".join(writer.write(each if isinstance(each, Frame) else Frame(b"", (each,))) for each in said)


def chunks_of(body: bytes) -> list[Any]:
    assert body.endswith(b"\r\n\r\n")
    return [json.loads(block.removeprefix("data: ")) for block in body.decode().split("\r\n\r\n")[:-1]]


def whole(*said: Event) -> Any:
    writer = PROTOCOL.reply_writer(context(False))
    return json.loads(writer.write(Frame(b"", said)))


def parts_of(response: Any) -> list[Any]:
    return [part for candidate in response["candidates"] for part in candidate["content"]["parts"]]


# reading


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", REPLIES, ids=lambda e: e.id)
def test_identity_of_replies(exchange: Any) -> None:
    body, streams = exchange.response.data, exchange.stream
    writer = PROTOCOL.reply_writer(context(streams, NAME, array=streams and body.startswith(b"[")))
    read = frames(body, streams)
    assert b"".join(frame.source for frame in read) == body
    assert b"".join(writer.write(frame) for frame in read) == body


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", STREAMS, ids=lambda e: e.id)
def test_any_cut_gives_the_same_frames(exchange: Any) -> None:
    body = exchange.response.data
    expected = repr(frames(body, True))
    for cut in range(1, len(body), 1 if len(body) < 4_000 else len(body) // 400):
        assert repr(frames(body, True, cut)) == expected


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", STREAMS, ids=lambda e: e.id)
def test_both_forms_of_a_stream_are_read_and_given_alike(exchange: Any) -> None:
    """T78: what came in one form says the same when a client wants the other."""
    body = exchange.response.data
    said = events(body)
    is_array = body.startswith(b"[")
    writer = PROTOCOL.reply_writer(context(True, NAME, array=not is_array))
    turned = b"".join(writer.write(frame) for frame in frames(body, True))
    assert turned.startswith(b"data: " if is_array else b"[")
    assert repr(events(turned)) == repr(said)


@pytest.mark.parametrize("form", [sse, array])
def test_t78_the_form_is_seen_from_the_content(form: Any) -> None:
    body = form(chunk({"text": 'a }{\\" '}), chunk({"text": "é"}, reason="STOP"))
    assert [e.text for e in events(body) if isinstance(e, TextDelta)] == ['a }{\\" ', "é"]
    for cut in range(1, len(body)):
        assert frames(body, True, cut) == frames(body, True)
    plain = json.dumps(chunk({"text": "x"}, reason="STOP")).encode()
    assert isinstance(events(plain)[-1], Finished)


def test_t14_parallel_calls_in_chunks_of_their_own_are_two_calls() -> None:
    call: Any = {"functionCall": {"name": "f", "args": {"a": 1}}}
    said = events(sse(chunk(call), chunk(call), chunk({"text": ""}, reason="STOP")))
    started = [e for e in said if isinstance(e, ToolCallStarted)]
    assert [e.slot for e in started] == [0, 1]
    assert len({e.id for e in started}) == 2
    assert [e.arguments for e in said if isinstance(e, ToolCallDelta)] == ['{"a":1}'] * 2


def test_t13_ids_given_are_kept_and_ids_made_differ_between_replies() -> None:
    given: Any = {"functionCall": {"name": "f", "id": "x"}}
    made: Any = {"functionCall": {"name": "f"}}
    first, second = (
        [
            e.id
            for e in events(sse({**chunk(given, made, reason="STOP"), "responseId": r}))
            if isinstance(e, ToolCallStarted)
        ]
        for r in ("r1", "r2")
    )
    assert first[0] == second[0] == "x"
    assert first[1] != second[1]


@pytest.mark.parametrize(
    ("reason", "unified"),
    [
        ("STOP", "tool_calls"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("LANGUAGE", "other"),
        ("SOMETHING_NEW", "other"),
        ("1", "tool_calls"),
        (2, "length"),
    ],
)
def test_t16_t100_reasons_with_a_call_in_an_earlier_chunk(reason: Any, unified: str) -> None:
    said = events(sse(chunk({"functionCall": {"name": "f"}}), chunk(reason=reason)))
    [ended] = [e for e in said if isinstance(e, Ended)]
    assert ended.reason.unified == unified


def test_every_reason_of_the_sdk_is_known() -> None:
    from google.genai import types

    from llm_interactive.protocols.gemini_reply import REASONS

    assert {r.name for r in types.FinishReason} - set(REASONS) == {"FINISH_REASON_UNSPECIFIED"}


def test_t99_a_blocked_prompt_is_an_answer() -> None:
    body = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    for said in (events(sse(body)), events(json.dumps(body).encode(), False)):
        assert [type(e) for e in said] == [Started, Used, Ended, Finished]
        assert said[2] == Ended(Reason("content_filter", "SAFETY", NAME, details=body["promptFeedback"]))


@pytest.mark.parametrize("content", [{}, None, {"parts": None}, {"role": "model"}])
def test_t100_content_without_parts(content: Any) -> None:
    body = {"candidates": [{"content": content, "finishReason": "MAX_TOKENS"}]}
    assert [e.reason.unified for e in events(sse(body)) if isinstance(e, Ended)] == ["length"]


def test_t58_thoughts_are_reasoning_and_signatures_end_them() -> None:
    said = events(
        sse(
            chunk({"text": "hm", "thought": True}),
            chunk({"text": "42"}),
            chunk({"text": "", "thoughtSignature": "AAAA"}),
            chunk({"functionCall": {"name": "f", "id": "i"}, "thoughtSignature": "BBBB"}, reason="STOP"),
        )
    )
    assert said[1:5] == [
        ThinkingDelta("hm"),
        TextDelta("42"),
        ThinkingEnded(NAME, "AAAA"),
        ToolCallStarted(0, "i", "f", "BBBB"),
    ]


def test_arguments_that_are_streamed_come_together() -> None:
    def piece(path: str, **value: Any) -> Any:
        return {"functionCall": {"partialArgs": [{"jsonPath": path, **value}], "willContinue": True}}

    said = events(
        sse(
            chunk({"functionCall": {"name": "f", "willContinue": True}}),
            chunk(piece("$.city", stringValue="Bos", willContinue=True)),
            chunk(piece("$.city", stringValue="ton")),
            chunk(piece("$.days[1].hot", boolValue=True)),
            chunk(piece("$['n']", numberValue=2)),
            chunk(piece("$.none", nullValue="NULL_VALUE")),
            chunk(piece("$.big[99999999999999]", numberValue=2)),
            chunk({"functionCall": {}}),
            chunk({"functionCall": {"name": "g", "willContinue": True}}, reason="STOP"),
        )
    )
    deltas = [json.loads(e.arguments) for e in said if isinstance(e, ToolCallDelta)]
    city = {"city": "Boston", "days": [None, {"hot": True}], "n": 2, "none": None}
    assert {key: deltas[0][key] for key in city} == city
    assert deltas[1] == {}
    assert [e.slot for e in said if isinstance(e, ToolCallEnded)] == [0, 1]


def test_t84_t86_usage_counts_thoughts_as_output_and_the_last_wins() -> None:
    first = {**chunk({"text": "a"}), "usageMetadata": {"promptTokenCount": 10}}
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 3, "thoughtsTokenCount": 4, "cachedContentTokenCount": 6}
    last = {**chunk(reason="STOP"), "usageMetadata": usage}
    used = [e.usage for e in events(sse(first, last)) if isinstance(e, Used)]
    assert used == [
        Usage(10, raw={"promptTokenCount": 10}, origin=NAME),
        Usage(10, 7, 6, None, 4, raw=usage, origin=NAME),
    ]
    bare = {**chunk(reason="STOP"), "usageMetadata": {"trafficType": "ON_DEMAND"}}
    assert not [e for e in events(sse(bare)) if isinstance(e, Used)]


def test_t80_a_cut_stream_failed() -> None:
    said = events(sse(chunk({"text": "a"})))
    assert isinstance(said[-1], Failed)
    assert not any(isinstance(e, (Ended, Finished)) for e in said)


def test_a_reason_with_every_chunk_ends_the_answer_once() -> None:
    said = events(sse(chunk({"text": "a"}, reason="STOP"), chunk({"text": "b"}, reason="STOP")))
    assert [type(e) for e in said] == [Started, TextDelta, TextDelta, Ended, Finished]


@pytest.mark.parametrize("form", [sse, array, lambda error: json.dumps(error, indent=1).encode()])
def test_t79_an_error_in_the_stream_is_told(form: Any) -> None:
    [failed] = events(form({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}))
    assert isinstance(failed, Failed)
    assert (failed.error.status, failed.error.message) == (503, "overloaded")


def test_a_bare_error_between_events_is_told() -> None:
    said = events(sse(chunk({"text": "a"})) + b'{"error": {"code": 500,\n"message": "oops"}}\n\n')
    assert isinstance(said[-1], Failed)
    assert said[-1].error.message == "oops"


@pytest.mark.parametrize("body", [b"", b"<html>nope</html>", b'{"candidates": [', b"[]", b"null", b'{"foo": 1}'])
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_no_answer_fails_with_clear_words(body: bytes, stream: bool) -> None:
    read = frames(body, stream)
    assert b"".join(frame.source for frame in read) == body
    [failed] = [event for frame in read for event in frame.events]
    assert isinstance(failed, Failed)
    assert "no Gemini response" in failed.error.message


def test_several_candidates_are_choices() -> None:
    both = {
        "candidates": [{"index": n, "content": {"parts": [{"text": str(n)}]}, "finishReason": "STOP"} for n in (0, 1)]
    }
    said = events(sse(both))
    assert [(e.text, e.choice) for e in said if isinstance(e, TextDelta)] == [("0", 0), ("1", 1)]
    assert [e.choice for e in said if isinstance(e, Ended)] == [0, 1]


def test_t82_each_source_is_one_event_with_offsets_only_where_they_are_true() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "u1", "title": "t1"}}, {"web": {"uri": "u2"}}, {"web": {"uri": "u3"}}],
        "groundingSupports": [{"segment": {"endIndex": 4, "text": "text"}, "groundingChunkIndices": [0, 1, 9]}],
    }
    citation = {"citations": [{"startIndex": 1, "endIndex": 2, "uri": "u4"}]}
    for text, offsets in (("text", [(0, 4), (0, 4), (None, None), (1, 2)]), ("ä", [(None, None)] * 4)):
        last = chunk({"text": text}, reason="STOP", groundingMetadata=grounding, citationMetadata=citation)
        cited = [e for e in events(sse(last, last)) if isinstance(e, Cited)]
        assert sorted(e.url or "" for e in cited) == ["u1", "u2", "u3", "u4"]
        by_url = {e.url: (e.start, e.end) for e in cited}
        assert [by_url[url] for url in ("u1", "u2", "u3", "u4")] == offsets


def test_t68_log_probabilities_map_both_ways() -> None:
    result = {
        "chosenCandidates": [{"token": "hé", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "hé", "logProbability": -0.5}, {"token": "x"}]}],
    }
    [logprobs] = [
        e for e in events(sse(chunk({"text": "hé"}, reason="STOP", logprobsResult=result))) if isinstance(e, LogProbs)
    ]
    assert logprobs.tokens[0]["bytes"] == [104, 195, 169]
    assert [top["logprob"] for top in logprobs.tokens[0]["top_logprobs"]] == [-0.5, 0.0]
    written = whole(Started("i", "m"), TextDelta("hé"), logprobs, Ended(Reason("stop")), Finished())
    assert written["candidates"][0]["logprobsResult"]["chosenCandidates"] == result["chosenCandidates"]


def test_pictures_and_code_are_gemini_s_own() -> None:
    parts = [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}, {"executableCode": {"code": "1"}}]
    assert [e for e in events(sse(chunk(*parts, reason="STOP"))) if isinstance(e, Foreign)] == [
        Foreign(NAME, "inlineData", parts[0]),
        Foreign(NAME, "executableCode", parts[1]),
    ]


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_make_the_reader_raise(body: bytes, stream: bool) -> None:
    assert isinstance(events(body, stream)[-1], Failed)


PIECES = [
    b"data: ",
    b"\r\n\r\n",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b'"candidates"',
    b'"content"',
    b'"parts"',
    b'"text"',
]
PIECES += [
    b'"functionCall"',
    b'"partialArgs"',
    b'"finishReason"',
    b'"usageMetadata"',
    b'"error"',
    b"null",
    b"1",
    b'"\\"',
]
PIECES += [b'{"candidates":[{"content":{"parts":[{"text":1},{"functionCall":{}}]}}]}', b'{"error":', b"\xff"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=20), st.integers(0, 60))
def test_odd_json_does_not_make_the_reader_raise(pieces: list[bytes], cut: int) -> None:
    body = b"".join(pieces)
    read = frames(body, True, min(cut, len(body)))
    assert b"".join(frame.source for frame in read) == body
    assert repr(read) == repr(frames(body, True))


JSON = st.recursive(
    st.sampled_from([None, True, -1, 0.5, "", "x", "STOP"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["parts", "text", "functionCall", "name", "args", "partialArgs", "jsonPath", "uri", "index"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    st.sampled_from(
        ["content", "finishReason", "index", "logprobsResult", "citationMetadata", "groundingMetadata", "finishMessage"]
    ),
    JSON,
    JSON,
)
def test_wrong_types_in_a_chunk_do_not_make_the_reader_raise(key: str, value: Any, other: Any) -> None:
    odd = {"candidates": [{key: value}, other], "promptFeedback": other, "usageMetadata": value}
    assert isinstance(events(sse(odd))[0], Started)
    assert isinstance(events(json.dumps(odd).encode(), False)[-1], Finished)


def test_what_is_nested_too_deeply_fails() -> None:
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    for stream in (True, False):
        said = events(json.dumps(chunk({"functionCall": {"name": "f", "args": deep}})).encode(), stream)
        assert isinstance(said[-1], Failed)


# writing

ANSWER: tuple[Event, ...] = (
    Started("chatcmpl-1", "gpt"),
    ThinkingDelta("hm"),
    ThinkingEnded("anthropic_messages", "sig"),
    TextDelta("Hel"),
    TextDelta("lo"),
    ToolCallStarted(0, "c1", "f"),
    ToolCallStarted(1, "c2", "g", signature="AAAA"),
    ToolCallDelta(0, '{"a"'),
    ToolCallDelta(1, ""),
    ToolCallDelta(0, ":1}"),
    ToolCallEnded(0),
    ToolCallEnded(1),
    Ended(Reason("tool_calls", "tool_calls", "openai_chat")),
    Used(Usage(10, 9, 4, None, 2)),
    Finished(),
)
USAGE = {
    "promptTokenCount": 10,
    "candidatesTokenCount": 7,
    "thoughtsTokenCount": 2,
    "cachedContentTokenCount": 4,
    "totalTokenCount": 19,
}
MARK = wrap(Hidden("openai_chat"))
CALLS = [
    {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}, "thoughtSignature": MARK},
    {"functionCall": {"id": "c2", "name": "g", "args": {}}, "thoughtSignature": "AAAA"},
]


def test_a_whole_answer() -> None:
    response = whole(*ANSWER)
    thought, text, *calls = parts_of(response)
    assert (thought["text"], thought["thought"], text) == ("hm", True, {"text": "Hello"})
    assert calls == CALLS
    assert response["candidates"][0]["finishReason"] == "STOP"
    assert response["usageMetadata"] == USAGE
    assert (response["modelVersion"], response["responseId"]) == ("asked", "minted")


def test_a_streamed_answer_ends_with_reason_and_usage_in_one_chunk() -> None:
    sent = chunks_of(streamed(*ANSWER))
    assert all(each["responseId"] == "minted" and each["modelVersion"] == "asked" for each in sent)
    parts = [part for each in sent for part in parts_of(each)]
    assert [p["text"] for p in parts if "text" in p and not p.get("thought")] == ["Hel", "lo", ""]
    assert [p for p in parts if "functionCall" in p] == CALLS
    assert [i for i, each in enumerate(sent) if "finishReason" in each["candidates"][0]] == [len(sent) - 1]
    assert sent[-1]["usageMetadata"] == USAGE


def test_t78_clients_without_sse_get_an_array() -> None:
    body = streamed(*ANSWER, array=True)
    assert json.loads(body) == chunks_of(streamed(*ANSWER))
    assert streamed(Failed(UpstreamError("x")), array=True).startswith(b'[{"error":{')
    assert json.loads(streamed(TextDelta("a"), Failed(UpstreamError("x")), array=True))[1]["error"]["code"] == 502


def test_t79_a_failure_is_an_error_object_and_nothing_after_it() -> None:
    body = streamed(TextDelta("a"), Ended(Reason("stop")), Failed(UpstreamError("cut", status=502)), TextDelta("b"))
    assert [list(each) for each in chunks_of(body)][1:] == [["error"]]
    assert b'data: {"error":{"code":502' in body  # the SDK looks for exactly this start


def test_t55_another_vendors_signature_survives_a_round_through_the_client() -> None:
    redacted = ThinkingEnded("anthropic_messages", redacted="data")
    contents = []
    for each in chunks_of(streamed(ThinkingDelta("hm"), ThinkingEnded("x", "s", item_id="rs"), redacted, Finished())):
        contents += [candidate["content"] for candidate in each["candidates"]]
    base64.b64decode(contents[1]["parts"][0]["thoughtSignature"], validate=True)
    call = Call(NAME, "generate", "", model="g")
    read = PROTOCOL.read_request({"contents": contents}, call)
    assert [p for m in read.messages for p in m.parts if isinstance(p, Thinking)] == [
        Thinking(text="hm", signature="s", item_id="rs", origin="x"),
        Thinking(redacted="data", origin="anthropic_messages"),
    ]


def test_t56_a_signature_that_is_no_base64_is_not_written() -> None:
    [part, _] = [p for c in chunks_of(streamed(ThinkingEnded(NAME, "AAAA"), Finished())) for p in parts_of(c)]
    assert part == {"text": "", "thoughtSignature": "AAAA"}
    said = (ThinkingEnded(NAME, "n!"), ToolCallStarted(0, "c", "f", signature="n!"), ToolCallEnded(0), Finished())
    assert b"thoughtSignature" not in streamed(*said, backend=NAME)


def test_t56_calls_of_others_are_known_when_they_come_back_and_google_3_takes_them() -> None:
    content = whole(ToolCallStarted(0, "c", "f"), ToolCallEnded(0), Finished())["candidates"][0]["content"]
    user = {"role": "user", "parts": [{"text": "hi"}]}
    answer = {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "f", "response": {"a": 1}}}]}
    read = PROTOCOL.read_request({"contents": [user, content, answer]}, Call(NAME, "generate", "", model="g"))
    assert read.messages[1].parts == (ToolCall(id="c", name="f", arguments="{}"),)
    for kind, more in (("budget", {}), ("level", {"thoughtSignature": "skip_thought_signature_validator"})):
        target = Target("gemini", "g", "gemini", ModelFacts(reasoning=kind))  # type: ignore[arg-type]
        sent = PROTOCOL.write_request(read, target, Notes()).body
        called = {"functionCall": {"id": "c", "name": "f", "args": {}}, **more}
        assert sent == {"contents": [user, {"role": "model", "parts": [called]}, answer]}


@pytest.mark.parametrize(("arguments", "args"), [("", {}), ("{bad", {"_raw": "{bad"}), ("[1]", {"_raw": "[1]"})])
def test_t1_t3_arguments_are_always_an_object(arguments: str, args: Any) -> None:
    said = (ToolCallStarted(0, "c", "f"), ToolCallDelta(0, arguments), ToolCallEnded(0), Finished())
    assert parts_of(whole(*said))[0]["functionCall"]["args"] == args
    assert parts_of(chunks_of(streamed(*said))[0])[0]["functionCall"]["args"] == args


def test_a_call_that_nobody_ended_is_written_at_the_end() -> None:
    said = (ToolCallStarted(0, "c", "f"), ToolCallDelta(0, '{"a":'), Ended(Reason("length")), Finished())
    for response in (whole(*said), chunks_of(streamed(*said))[-1]):
        assert parts_of(response) == [
            {"functionCall": {"id": "c", "name": "f", "args": {"_raw": '{"a":'}}, "thoughtSignature": MARK}
        ]
        assert response["candidates"][0]["finishReason"] == "MAX_TOKENS"


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (Reason("stop"), "STOP"),
        (Reason("content_filter", "refusal", "anthropic_messages"), "SAFETY"),
        (Reason("content_filter", "RECITATION", NAME), "RECITATION"),
        (Reason("error", "NEW_WORD", NAME), "OTHER"),
    ],
)
def test_t101_reasons_are_words_of_the_enum(reason: Reason, word: str) -> None:
    assert whole(TextDelta("a"), Ended(reason), Finished())["candidates"][0]["finishReason"] == word


def test_a_refusal_is_text() -> None:
    assert parts_of(whole(RefusalDelta("no"), Ended(Reason("stop")), Finished())) == [{"text": "no"}]


def test_sources_go_with_the_last_chunk() -> None:
    said = (
        TextDelta("text"),
        Cited(url="u", title="t", start=0, end=4),
        Cited(url="u"),
        Cited(cited_text="no address"),
        Ended(Reason("stop")),
        Finished(),
    )
    grounding = {
        "groundingChunks": [{"web": {"uri": "u", "title": "t"}}],
        "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 4}, "groundingChunkIndices": [0]}],
    }
    assert whole(*said)["candidates"][0]["groundingMetadata"] == grounding
    assert chunks_of(streamed(*said))[-1]["candidates"][0]["groundingMetadata"] == grounding
    assert "groundingSupports" not in whole(TextDelta("ä"), *said)["candidates"][0]["groundingMetadata"]


def test_several_choices_are_candidates() -> None:
    said = (TextDelta("a"), TextDelta("b", 1), Ended(Reason("stop")), Ended(Reason("length"), 1), Finished())
    for response in (whole(*said), chunks_of(streamed(*said))[-1]):
        assert [(c["index"], c["finishReason"]) for c in response["candidates"]] == [(0, "STOP"), (1, "MAX_TOKENS")]


def test_an_answer_of_nothing_is_still_an_answer() -> None:
    assert parts_of(whole(Started("i", "m"), Ended(Reason("stop")), Finished())) == [{"text": ""}]
    assert json.loads(streamed(Finished(), array=True))[0]["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("form", [sse, array])
def test_a_notice_after_source_bytes_is_legal(form: Any) -> None:
    read = frames(form(chunk({"text": "a"}), chunk({"text": "b"}, reason="STOP")), True)
    notice = Frame(b"", (TextDelta("[stopped]"), Ended(Reason("stop")), Finished()))
    for passed in (read[:1], read[:2]):
        body = streamed(*passed, notice, backend=NAME, array=form is array)
        sent = json.loads(body) if form is array else chunks_of(body)
        assert sent[-2]["responseId"] == "r"
        assert parts_of(sent[-2]) == [{"text": "[stopped]"}]
        assert sent[-1]["candidates"][0]["finishReason"] == "STOP"


def test_an_edited_frame_is_written_from_its_events() -> None:
    first, second, end = frames(sse(chunk({"text": "a"}), chunk({"text": "b"}, reason="MAX_TOKENS")), True)
    body = streamed(first, Frame(second.source, (TextDelta("B"),), edited=True), end, backend=NAME)
    sent = chunks_of(body)
    assert [p["text"] for each in sent for p in parts_of(each)] == ["a", "B", ""]
    assert sent[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"


def test_a_renamed_model_changes_nothing_else() -> None:
    first = {**chunk({"text": "a"}, reason="STOP", groundingMetadata={"webSearchQueries": ["q"]}), "extra": 1}
    [sent] = chunks_of(streamed(*frames(sse(first), True), backend=NAME, rename=True))
    assert sent == {**first, "modelVersion": "asked"}
    writer = PROTOCOL.reply_writer(context(False, NAME, rename=True))
    [frame] = frames(json.dumps(first).encode(), False)
    assert json.loads(writer.write(frame)) == {**first, "modelVersion": "asked"}


def test_every_reply_is_one_the_sdk_takes() -> None:
    from google.genai import types

    for response in (whole(*ANSWER), *chunks_of(streamed(*ANSWER))):
        types.GenerateContentResponse.model_validate(response)


def test_what_googles_tools_gave_the_model_to_read_is_input() -> None:
    said = {"promptTokenCount": 32, "candidatesTokenCount": 20, "thoughtsTokenCount": 37, "totalTokenCount": 4699,
            "toolUsePromptTokenCount": 4610}  # fmt: skip
    usage = read_usage(said)
    assert usage is not None
    assert (usage.input, usage.output) == (4642, 57)
