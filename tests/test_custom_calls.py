"""Calls of free-form tools come back as free-form calls, however they were cut."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from llm_interactive.conversation import Conversation, Message, Opaque, Text, Tool
from llm_interactive.custom_calls import CustomCalls, said, writer_of
from llm_interactive.events import (
    Event,
    Frame,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from llm_interactive.protocols.base import Call, ReplyContext, ReplyWriter


class Kept(ReplyWriter):
    """Keeps what it is to write."""

    content_type = "kept"

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def write(self, frame: Frame) -> bytes:
        self.frames.append(frame)
        return frame.source

    @property
    def response(self) -> Mapping[str, Any]:
        return {"id": "r"}


def written(*frames: Frame) -> list[Event]:
    kept = Kept()
    writer = CustomCalls(kept, frozenset({"patch"}))
    assert (writer.content_type, writer.response) == ("kept", {"id": "r"})
    for frame in frames:
        writer.write(frame)
    return [event for frame in kept.frames for event in frame.events]


def call(name: str, *pieces: str, slot: int = 0, choice: int = 0) -> Iterator[Event]:
    yield ToolCallStarted(slot, f"c{slot}", name, "sig", choice=choice)
    yield from (ToolCallDelta(slot, piece, choice) for piece in pieces)
    yield ToolCallEnded(slot, choice)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_string_is_what_was_said(streamed: bool) -> None:
    events = [
        TextDelta("a"),
        *call("patch", '{"inp', 'ut": "x\\n', '\\u00e9"}'),
        *call("f", '{"input":', '"y"}', slot=1),
    ]
    frames = [Frame(b"", (event,)) for event in events] if streamed else [Frame(b"", tuple(events))]
    custom = ToolCallStarted(0, "c0", "patch", "sig", custom=True)
    said = [custom, ToolCallDelta(0, "x\né"), ToolCallEnded(0)]
    assert written(*frames) == [TextDelta("a"), *said, *call("f", '{"input":', '"y"}', slot=1)]


def test_calls_that_overlap() -> None:
    one, two = list(call("patch", '{"input": "1"}')), list(call("patch", '{"input": "2"}', slot=1, choice=1))
    mixed = [event for pair in zip(one, two, strict=True) for event in pair]
    deltas = [event for event in written(Frame(b"", tuple(mixed))) if isinstance(event, ToolCallDelta)]
    assert deltas == [ToolCallDelta(0, "1"), ToolCallDelta(1, "2", 1)]


@pytest.mark.parametrize("arguments", ["", "{", '"x"', '{"input": 1}', '{"input": "a", "more": 1}', "[" * 9999])
def test_other_arguments_are_the_input_themselves(arguments: str) -> None:
    assert said(arguments) == arguments


def test_a_frame_without_such_calls_goes_on_as_it_is() -> None:
    kept, frame = Kept(), Frame(b"data", tuple(call("f", "{}")))
    CustomCalls(kept, frozenset({"patch"})).write(frame)
    assert kept.frames[0] is frame


def test_only_where_it_was_sent_as_a_function() -> None:
    def wrapped(protocol: str, *tools: Tool | Opaque) -> bool:
        asked = Conversation(model="m", messages=(Message(role="user", parts=(Text(text="q"),)),), tools=tools)
        call = Call("openai_responses", "generate", "/v1/responses")
        context = ReplyContext(asked, call, protocol, "m", lambda prefix: prefix, 0)
        return isinstance(writer_of(Kept(), context), CustomCalls)

    patch = Tool(name="patch", custom=True)
    assert wrapped("anthropic_messages", Tool(name="f"), patch)
    assert wrapped("gemini", patch)
    assert not wrapped("openai_chat", patch)
    assert not wrapped("anthropic_messages", Tool(name="f"), Opaque(what="web_search"))
