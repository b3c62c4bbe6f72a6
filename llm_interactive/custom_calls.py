"""Calls of free-form tools, back as the client knows them.

Where a protocol knows functions only, a free-form tool goes out as a function with one string, `input`
(docs/protocols.md). Its calls come back as such, and become free-form calls again: the string is what was said.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from llm_interactive import wire_json
from llm_interactive.conversation import Tool
from llm_interactive.events import Event, Frame, ToolCallDelta, ToolCallEnded, ToolCallStarted
from llm_interactive.protocols.base import Json, ReplyContext, ReplyWriter

FUNCTIONS_ONLY = frozenset({"anthropic_messages", "gemini"})


class CustomCalls(ReplyWriter):
    """`names`: those of the free-form tools. A call's input comes in one piece, at its end."""

    def __init__(self, writer: ReplyWriter, names: frozenset[str]) -> None:
        self.content_type = writer.content_type
        self._writer = writer
        self._names = names
        self._open: dict[tuple[int, int], list[str]] = {}
        """By choice and slot: the arguments of a call so far."""

    @property
    def response(self) -> Mapping[str, Json]:
        return self._writer.response

    def write(self, frame: Frame) -> bytes:
        events = tuple(each for event in frame.events for each in self._event(event))
        return self._writer.write(frame if events == frame.events else frame._replace(events=events, edited=True))

    def _event(self, event: Event) -> Iterator[Event]:
        match event:
            case ToolCallStarted(custom=False) if event.name in self._names:
                self._open[event.choice, event.slot] = []
                yield replace(event, custom=True)
            case ToolCallDelta(slot, arguments, choice) if (choice, slot) in self._open:
                self._open[choice, slot].append(arguments)
            case ToolCallEnded(slot, choice) if (choice, slot) in self._open:
                yield ToolCallDelta(slot, said("".join(self._open.pop((choice, slot)))), choice)
                yield event
            case _:
                yield event


def said(arguments: str) -> str:
    """The string that stands for the input; arguments that are no such object are the input themselves."""
    try:
        read = wire_json.loads(arguments)
    except ValueError:
        return arguments
    match read:
        case {"input": str(text), **rest} if not rest:
            return text
    return arguments


def writer_of(writer: ReplyWriter, context: ReplyContext) -> ReplyWriter:
    tools = context.conversation.tools if context.backend_protocol in FUNCTIONS_ONLY else ()
    names = frozenset(tool.name for tool in tools if isinstance(tool, Tool) and tool.custom)
    return CustomCalls(writer, names) if names else writer
