"""Any bytes that a provider may answer with: every reader makes frames of them, every writer writes those."""

import json
from typing import Any

from contracts import recorded
from contracts.samples import ERRORS, REPLIES
from fuzz.mutated import VALUES, changed, cut
from hypothesis import given
from hypothesis import strategies as st

from llm_interactive import sse, wire_json
from llm_interactive.errors import UpstreamError
from llm_interactive.protocols import NAMES, named
from llm_interactive.routing import refusals

type Json = Any

READERS = [(name, stream) for name in NAMES for stream in (True, False)]


def replied(protocol: str, data: bytes, stream: bool, *cuts: int) -> None:
    try:
        frames = recorded.frames(protocol, data, stream, *sorted(min(cut, len(data)) for cut in cuts))
    except UpstreamError:
        return
    for frontend in NAMES:
        for streams in (True, False):
            recorded.written(frontend, protocol, frames, stream=streams)


def events(protocol: str) -> list[Json]:
    """The JSON of each event of the sample's stream."""
    found = [event.data for event in sse.Splitter().feed(REPLIES[protocol][0].encode()) if event.data]
    return [json.loads(data) for data in found if data != b"[DONE]"]


def streamed(protocol: str, changes: list[tuple[int, Json]]) -> None:
    """The sample's stream with some events changed."""
    whole = [*events(protocol)]
    for at, event in changes:
        whole.insert(at % (len(whole) + 1), event)
    name = protocol in ("anthropic_messages", "openai_responses")
    blocks = [
        sse.write(
            wire_json.dumps(each),
            str(each.get("type")).encode("ascii", "replace").decode() if name and isinstance(each, dict) else None,
        )
        for each in whole
    ]
    replied(protocol, b"".join(blocks), True)


def some(protocol: str) -> st.SearchStrategy[list[tuple[int, Json]]]:
    return st.lists(st.tuples(st.integers(0, 50), changed(events(protocol))), min_size=1, max_size=3)


@given(some("openai_chat"))
def test_openai_chat(changes: list[tuple[int, Json]]) -> None:
    streamed("openai_chat", changes)


@given(some("openai_responses"))
def test_openai_responses(changes: list[tuple[int, Json]]) -> None:
    streamed("openai_responses", changes)


@given(some("anthropic_messages"))
def test_anthropic_messages(changes: list[tuple[int, Json]]) -> None:
    streamed("anthropic_messages", changes)


@given(some("gemini"))
def test_gemini(changes: list[tuple[int, Json]]) -> None:
    streamed("gemini", changes)


@given(st.sampled_from(NAMES).flatmap(lambda n: st.tuples(st.just(n), changed([json.loads(REPLIES[n][1])]))))
def test_whole_replies(sample: tuple[str, Json]) -> None:
    protocol, body = sample
    replied(protocol, wire_json.dumps(body), False)


@given(
    st.sampled_from(READERS).flatmap(
        lambda r: st.tuples(st.just(r), cut([REPLIES[r[0]][0 if r[1] else 1].encode()]) | st.binary(max_size=60))
    ),
    st.lists(st.integers(0, 2000), max_size=3),
)
def test_any_bytes(sample: tuple[tuple[str, bool], bytes], cuts: list[int]) -> None:
    (protocol, stream), data = sample
    replied(protocol, data, stream, *cuts)


@given(st.sampled_from(READERS), VALUES)
def test_any_json(reader: tuple[str, bool], value: Json) -> None:
    protocol, stream = reader
    data = wire_json.dumps(value)
    replied(protocol, sse.write(data) if stream else data, stream)


@given(
    st.sampled_from(NAMES),
    st.integers(100, 999),
    st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens",
                                     "anthropic-ratelimit-tokens-reset", "content-type"]), st.text(max_size=20)),
    st.data(),
)  # fmt: skip
def test_error_bodies(protocol: str, status: int, headers: dict[str, str], data: st.DataObject) -> None:
    bodies = [body for _, _, body in ERRORS[protocol]]
    body = data.draw(st.binary(max_size=40) | (changed(bodies) | VALUES).map(wire_json.dumps))
    error = named(protocol).read_error(status, headers, body)
    for frontend in NAMES:
        wire_json.dumps(named(frontend).write_error(error))
    refusals.moves_on(error)
    refusals.rest_of(error, 0.0)
