"""A protocol to itself: what came goes on as it came, however it was cut, and nothing makes a reader raise."""

import random
from typing import Any

import pytest
from contracts import recorded
from contracts.recorded import Sample
from contracts.samples import ERRORS, REPLIES, REQUESTS
from hypothesis import given
from hypothesis import strategies as st
from kit import corpus

from llm_interactive.backends.providers import FAMILIES
from llm_interactive.errors import BadRequest
from llm_interactive.events import Failed
from llm_interactive.protocols import NAMES, named
from llm_interactive.protocols.base import Notes, Protocol, Target

protocols = pytest.mark.parametrize("name", NAMES)

EVERY_BYTE = 1_200
"""Recordings up to this size (and the samples) are cut at every byte, longer ones at this many random places."""
SOME_CUTS = 8


def without_injected(body: dict[str, Any]) -> dict[str, Any]:
    """Without the usage that the proxy asks for by itself (SPEC 10, TRAPS T87)."""
    options = body.get("stream_options")
    if not isinstance(options, dict):
        return {key: value for key, value in body.items() if key != "stream_options"}
    asked = {key: value for key, value in options.items() if key != "include_usage"}
    rest = {key: value for key, value in body.items() if key != "stream_options"}
    return rest | ({"stream_options": asked} if asked else {})


def refuses(protocol: Protocol, sample: Sample) -> bool:
    try:
        protocol.read_request(sample.body, recorded.call_of(sample))
    except BadRequest:
        return True
    return False


@protocols
def test_samples_are_there(name: str) -> None:
    assert REPLIES[name]
    assert REQUESTS[name]
    assert ERRORS[name]
    assert name in recorded.APIS


@corpus.requires_corpus
@protocols
def test_recordings_are_found(name: str) -> None:
    assert min(len(recorded.replies(name)), len(recorded.requests(name))) > 50
    assert len(recorded.errors(name)) > 5


@protocols
def test_requests_go_on_as_they_came(name: str) -> None:
    protocol = named(name)
    for sample in recorded.requests(name):
        if sample.status == 400 and refuses(protocol, sample):
            continue  # and so did the vendor
        conversation = protocol.read_request(sample.body, recorded.call_of(sample))
        vendor = "server" if name == "openai_chat" else FAMILIES[name]  # many vendors speak it, each in its own words
        sent = protocol.write_request(conversation, Target(vendor, sample.model, vendor), Notes()).body
        wanted, found = (without_injected(body) for body in (sample.body, sent))
        assert list(found.items()) == list(wanted.items()), sample.id


@protocols
def test_replies_go_on_as_they_came(name: str) -> None:
    for sample in recorded.replies(name):
        array = sample.data.startswith(b"[")
        came = recorded.frames(name, sample.data, sample.stream)
        found = recorded.written(name, name, came, stream=sample.stream, array=array and sample.stream)
        failed = recorded.said(event for frame in came for event in frame.events).failure is not None
        if failed and sample.stream:
            # the proxy itself may say how it ended: clients wait for more than an error event
            upto = next(i for i, frame in enumerate(came) if any(isinstance(e, Failed) for e in frame.events))
            assert found.startswith(b"".join(frame.source for frame in came[: upto + 1])), sample.id
            continue
        after = sample.data.removeprefix(found).strip()  # some send it although their last event has ended the reply
        assert after in (b"", b"data: [DONE]"), sample.id


@protocols
def test_replies_say_the_same_however_they_are_cut(name: str) -> None:
    for sample in recorded.replies(name):
        wanted = recorded.events(name, sample.data, sample.stream)
        size = len(sample.data)
        places = range(1, size)
        if size > EVERY_BYTE and not sample.id.startswith("own"):
            places = sorted(random.Random(size).sample(places, min(SOME_CUTS, size - 1)))
        for cut in places:
            found = recorded.events(name, sample.data, sample.stream, cut)
            assert repr(found) == repr(wanted), f"{sample.id} cut at {cut}"


@protocols
def test_a_stream_in_single_bytes_says_the_same(name: str) -> None:
    for sample in recorded.replies(name)[:12]:
        if sample.stream and len(sample.data) <= 10_000:
            found = recorded.events(name, sample.data, True, *range(1, len(sample.data)))
            assert repr(found) == repr(recorded.events(name, sample.data, True)), sample.id


@protocols
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_make_a_reader_raise(name: str, data: bytes, stream: bool) -> None:
    said = recorded.said(recorded.events(name, data, stream))
    assert (said.failure is not None) != bool(said.finished)
    assert said.text == {}


@protocols
def test_no_damage_makes_a_reader_raise(name: str) -> None:
    """Recordings with a byte changed, a stretch left out or doubled."""
    chance = random.Random(name)
    for sample in recorded.replies(name):
        start, end = sorted(chance.sample(range(len(sample.data)), 2))
        end = min(end, start + 200)
        for damaged in (
            sample.data[:start] + bytes([chance.randrange(256)]) + sample.data[start + 1 :],
            sample.data[:start] + sample.data[end:],
            sample.data[:end] + sample.data[start:],
        ):
            said = recorded.said(recorded.events(name, damaged, sample.stream))
            assert said.failure is not None or said.finished, sample.id
