"""What a client reads of a model's reasoning, where the session has a wish (`show-reasoning`, `reasoning(exclude=)`).

By itself reasoning appears where the client's protocol has a place for it. `ThoughtsInText` puts it in front of the
text between marks; `HiddenThoughts` leaves it out, but never the signatures that have to come back. What was put into
the text is taken out again when the client sends its history (`without_marked_thoughts`).
"""

import re
from collections.abc import Iterator, Mapping

from llm_interactive.conversation import Conversation, Message, Part, Text
from llm_interactive.events import (
    Event,
    Failed,
    Finished,
    Frame,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    Used,
)
from llm_interactive.protocols.base import Json, ReplyWriter

BEGIN, END = "<think>\n", "\n</think>\n\n"
MARKED = re.compile(r"<think>\n.*?\n</think>\n\n", re.DOTALL)
SIGNS: frozenset[str] = frozenset({"anthropic_messages", "gemini", "openai_responses"})
"""Protocols whose reasoning is signed: it also stays where it was, or it could not come back as it must."""


class _Wrapped(ReplyWriter):
    def __init__(self, writer: ReplyWriter) -> None:
        self.content_type = writer.content_type
        self._writer = writer

    @property
    def response(self) -> Mapping[str, Json]:
        return self._writer.response


class ThoughtsInText(_Wrapped):
    """`keeps`: the reasoning stays at its own place too. Then its copy follows the whole of it, else it is text as it
    comes."""

    def __init__(self, writer: ReplyWriter, *, keeps: bool) -> None:
        super().__init__(writer)
        self._keeps = keeps
        self._open: dict[int, list[str]] = {}
        """By choice: the thoughts whose end is not marked yet."""
        self._rewrites = False

    def write(self, frame: Frame) -> bytes:
        events = tuple(each for event in frame.events for each in self._event(event))
        self._rewrites = self._rewrites or events != frame.events  # numbers of later blocks are others then
        return self._writer.write(frame._replace(events=events, edited=True) if self._rewrites else frame)

    def _event(self, event: Event) -> Iterator[Event]:
        match event:
            case ThinkingDelta(text=text, choice=choice):
                begins = choice not in self._open
                self._open.setdefault(choice, []).append(text)
                yield event if self._keeps else TextDelta((BEGIN if begins else "") + text, choice)
            case ThinkingEnded(choice=choice):
                yield event
                yield from self._close(choice)
            case Finished() | Failed():
                for choice in list(self._open):
                    yield from self._close(choice)
                yield event
            case Started() | Used():
                yield event
            case _:
                yield from self._close(event.choice)
                yield event

    def _close(self, choice: int) -> Iterator[Event]:
        if (thoughts := self._open.pop(choice, None)) is not None:
            yield TextDelta(f"{BEGIN}{''.join(thoughts)}{END}" if self._keeps else END, choice)


class HiddenThoughts(_Wrapped):
    def write(self, frame: Frame) -> bytes:
        events = tuple(event for event in frame.events if not isinstance(event, ThinkingDelta))
        return self._writer.write(frame if events == frame.events else frame._replace(events=events, edited=True))


def without_marked_thoughts(conversation: Conversation) -> Conversation:
    """The same object where no answer of the history holds any."""
    messages = tuple(
        _unmarked(message) if message.role == "assistant" else message for message in conversation.messages
    )
    same = all(new is old for new, old in zip(messages, conversation.messages, strict=True))
    return conversation if same else conversation.edit(messages=messages)


def _unmarked(message: Message) -> Message:
    parts = tuple(part for each in message.parts if (part := _unmarked_part(each)) is not None)
    same = len(parts) == len(message.parts) and all(n is o for n, o in zip(parts, message.parts, strict=True))
    return message if same else message.edit(parts=parts)


def _unmarked_part(part: Part) -> Part | None:
    if not isinstance(part, Text) or BEGIN not in part.text:
        return part
    text = MARKED.sub("", part.text)
    return part if text == part.text else part.edit(text=text) if text else None


def writer_of(writer: ReplyWriter, *, shown: bool | None, hidden: bool, protocol: str) -> ReplyWriter:
    """`shown`: in the text, as the session wants it; `hidden`: nobody wants to read it. `protocol`: the client's."""
    if shown:
        return ThoughtsInText(writer, keeps=protocol in SIGNS)
    return HiddenThoughts(writer) if hidden else writer
