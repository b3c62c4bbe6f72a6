"""What a client reads of the reasoning: in the text, not at all, and no more once it comes back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from llm_interactive.conversation import Conversation, Message, Source, Text, ToolCall
from llm_interactive.errors import UpstreamError
from llm_interactive.events import (
    Ended,
    Event,
    Failed,
    Finished,
    Frame,
    Reason,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallStarted,
    Usage,
    Used,
)
from llm_interactive.protocols.base import ReplyWriter
from llm_interactive.visible_thoughts import HiddenThoughts, ThoughtsInText, without_marked_thoughts


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


START, STOP = Started("i", "m"), Ended(Reason("stop"))
SIGNED = ThinkingEnded("anthropic_messages", "sig")
THOUGHT = (ThinkingDelta("a"), ThinkingDelta("b"))
CALL = ToolCallStarted(0, "c", "f")


def events(writer: Any, *told: Event, whole: bool = False) -> list[Event]:
    kept = Kept()
    through = writer(kept)
    frames = [Frame(b"x", told)] if whole else [Frame(b"x", (event,)) for event in told]
    for frame in frames:
        through.write(frame)
    return [event for frame in kept.frames for event in frame.events]


def as_it_comes(kept: Kept) -> ThoughtsInText:
    return ThoughtsInText(kept, keeps=False)


def as_a_copy(kept: Kept) -> ThoughtsInText:
    return ThoughtsInText(kept, keeps=True)


@pytest.mark.parametrize("whole", [False, True])
def test_reasoning_as_text_as_it_comes(whole: bool) -> None:
    told = (START, *THOUGHT, TextDelta("c"), STOP, Used(Usage()), Finished())
    text = (TextDelta("<think>\na"), TextDelta("b"), TextDelta("\n</think>\n\n"), TextDelta("c"))
    assert events(as_it_comes, *told, whole=whole) == [START, *text, STOP, Used(Usage()), Finished()]


@pytest.mark.parametrize("end", [CALL, STOP, Finished(), Failed(UpstreamError("gone"))])
def test_whatever_follows_ends_the_marks(end: Event) -> None:
    assert events(as_it_comes, *THOUGHT, end)[-2:] == [TextDelta("\n</think>\n\n"), end]
    assert events(as_a_copy, *THOUGHT, end) == [*THOUGHT, TextDelta("<think>\nab\n</think>\n\n"), end]


def test_signed_reasoning_stays_and_its_copy_follows_the_whole_of_it() -> None:
    told = (START, *THOUGHT, SIGNED, TextDelta("c"), STOP)
    copy = TextDelta("<think>\nab\n</think>\n\n")
    assert events(as_a_copy, *told) == [START, *THOUGHT, SIGNED, copy, TextDelta("c"), STOP]


def test_choices_are_kept_apart() -> None:
    told = (ThinkingDelta("a", 0), ThinkingDelta("b", 1), TextDelta("c", 1), TextDelta("d", 0))
    assert events(as_it_comes, *told) == [
        TextDelta("<think>\na", 0),
        TextDelta("<think>\nb", 1),
        TextDelta("\n</think>\n\n", 1),
        TextDelta("c", 1),
        TextDelta("\n</think>\n\n", 0),
        TextDelta("d", 0),
    ]


def test_frames_are_rewritten_from_the_first_thought_on_only() -> None:
    kept = Kept()
    writer = ThoughtsInText(kept, keeps=True)
    for event in (START, *THOUGHT, TextDelta("c"), STOP):
        writer.write(Frame(b"x", (event,)))
    assert [frame.edited for frame in kept.frames] == [False, False, False, True, True]
    assert (writer.content_type, writer.response) == ("kept", {"id": "r"})


def test_hidden_reasoning_leaves_its_signature() -> None:
    kept = Kept()
    writer = HiddenThoughts(kept)
    for event in (START, *THOUGHT, SIGNED, TextDelta("c")):
        writer.write(Frame(b"x", (event,)))
    assert [frame.events for frame in kept.frames] == [(START,), (), (), (SIGNED,), (TextDelta("c"),)]
    assert [frame.edited for frame in kept.frames] == [False, True, True, False, False]


def test_what_was_marked_does_not_come_back() -> None:
    source = Source("openai_chat", {})
    call = ToolCall(id="c", name="f", arguments="{}")
    marked = "<think>\na\nb\n</think>\n\n"
    messages = (
        Message(role="user", parts=(Text(text=marked),)),
        Message(role="assistant", parts=(Text(text=f"{marked}Yes. {marked}No.", source=source),), source=source),
        Message(role="assistant", parts=(Text(text=marked), call)),
        Message(role="assistant", parts=(Text(text="<think>\nnever ended"),)),
    )
    asked = Conversation(model="m", messages=messages)
    found = without_marked_thoughts(asked)
    assert found.messages[0] is messages[0]
    assert found.messages[1].parts == (Text(text="Yes. No."),)
    assert found.messages[1].source is None
    assert found.messages[2].parts == (call,)
    assert found.messages[3] is messages[3]
    assert found.changed == {"messages"}
    plain = replace(asked, messages=messages[:1])
    assert without_marked_thoughts(plain) is plain
