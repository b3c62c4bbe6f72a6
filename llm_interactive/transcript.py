"""A conversation as a person reads it: roles, words, tool calls, thinking, pictures as notes, what was used.

A request, or a reply put together from its events, becomes a `Transcript` of `Section`s, which is written as text
(`as_text`), Markdown or JSON. The text can be edited: `edited` finds the sections whose words changed and gives the
conversation with them. A section's words are indented, so that nothing in them looks like a title.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from llm_interactive import wire_json
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from llm_interactive.events import (
    Cited,
    Ended,
    Event,
    Failed,
    Foreign,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
    Used,
)

type Json = Any
type Place = tuple[str | int, ...]
"""Of words in a conversation: ("system", part), ("messages", message, part) or ("messages", message, part, inner)."""

INDENT = "  "
MOST_TOOLS = 12
"""Tools that are named."""


class CannotEdit(ValueError):
    """The text cannot be read back."""


@dataclass(frozen=True, slots=True)
class Section:
    """`place`: where its words stand in the conversation, () where they cannot be edited."""

    title: str
    words: str = ""
    place: Place = ()

    def __str__(self) -> str:
        body = "".join(f"{INDENT}{line}".rstrip() + "\n" for line in self.words.split("\n")) if self.words else ""
        return f"[{' '.join(self.title.split())}]\n{body}"


@dataclass(frozen=True, slots=True)
class Transcript:
    head: str
    sections: tuple[Section, ...]

    def as_text(self) -> str:
        return "\n".join([f"{self.head}\n", *map(str, self.sections)])

    def as_markdown(self) -> str:
        return "\n".join(_markdown(self))

    def lines(self) -> list[str]:
        return self.as_text().rstrip("\n").split("\n")


@dataclass(slots=True)
class _Block:
    """A part of a reply while it is put together."""

    choice: int
    part: Text | Thinking | Refusal | ToolCall | Opaque
    pieces: list[str] = field(default_factory=list)
    is_over: bool = False

    def whole(self) -> Part:
        said = "".join(self.pieces)
        match self.part:
            case ToolCall():
                return replace(self.part, arguments=said)
            case Opaque():
                return self.part
            case _:
                return replace(self.part, text=said)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, one message for each choice."""

    model: str
    messages: tuple[Message, ...]
    ends: tuple[str, ...] = ()
    usage: Usage | None = None
    error: str | None = None


def put_together(events: Iterable[Event]) -> Answer:
    """However little of the reply there is."""
    blocks: list[_Block] = []
    model, error = "", None
    ends: list[str] = []
    usage: Usage | None = None
    for event in events:
        match event:
            case Started():
                model = event.model
            case Ended():
                ends.append(event.reason.raw or event.reason.unified)
            case Used():
                usage = event.usage
            case Failed():
                error = event.error.message
            case _:
                _gather(event, blocks)
    by_choice = groupby(sorted(blocks, key=lambda block: block.choice), key=lambda block: block.choice)
    messages = [Message(role="assistant", parts=tuple(block.whole() for block in group)) for _, group in by_choice]
    return Answer(model, tuple(messages), tuple(ends), usage, error)


def _gather(event: Event, blocks: list[_Block]) -> None:
    match event:
        case TextDelta():
            _open(blocks, event.choice, Text(text="")).pieces.append(event.text)
        case ThinkingDelta():
            _open(blocks, event.choice, Thinking()).pieces.append(event.text)
        case RefusalDelta():
            _open(blocks, event.choice, Refusal(text="")).pieces.append(event.text)
        case ThinkingEnded():
            last = _open(blocks, event.choice, Thinking())
            last.part, last.is_over = Thinking(redacted=event.redacted, origin=event.origin), True
        case ToolCallStarted():
            call = ToolCall(id=event.id, name=event.name, arguments="", custom=event.custom)
            blocks.append(_Block(event.choice, call))
        case ToolCallDelta():
            calls = [each for each in blocks if each.choice == event.choice and isinstance(each.part, ToolCall)]
            if event.slot < len(calls):
                calls[event.slot].pieces.append(event.arguments)
        case Foreign():
            blocks.append(_Block(event.choice, Opaque(what=event.what)))
        case Cited() if event.url or event.title:
            blocks.append(_Block(event.choice, Opaque(what=f"source: {event.title or ''} {event.url or ''}".strip())))
        case _:
            pass


def _open(blocks: list[_Block], choice: int, part: Text | Thinking | Refusal) -> _Block:
    """The block of the choice that goes on, or a new one."""
    last = next((block for block in reversed(blocks) if block.choice == choice), None)
    if last is not None and type(last.part) is type(part) and not last.is_over:
        return last
    blocks.append(_Block(choice, part))
    return blocks[-1]


def of_conversation(conversation: Conversation) -> Transcript:
    sections = [
        section
        for index, part in enumerate(conversation.system)
        for section in _sections("system", part, ("system", index))
    ]
    for number, message in enumerate(conversation.messages):
        who = f"{message.role} {message.name}" if message.name else message.role
        for index, part in enumerate(message.parts):
            sections += _sections(who, part, ("messages", number, index))
    return Transcript(_asked(conversation), tuple(sections))


def of_answer(answer: Answer) -> Transcript:
    sections: list[Section] = []
    for number, message in enumerate(answer.messages):
        who = f"assistant, choice {number + 1}" if len(answer.messages) > 1 else "assistant"
        sections += [section for part in message.parts for section in _sections(who, part, ())]
    if answer.error is not None:
        sections.append(Section("failed", answer.error))
    said = [answer.model, *dict.fromkeys(answer.ends), used(answer.usage) if answer.usage is not None else ""]
    return Transcript(" · ".join(filter(None, said)) or "no answer", tuple(sections))


def used(usage: Usage) -> str:
    """`1200 in (1000 cached, 50 written to the cache) / 80 out (60 reasoning)`; "?" where it was not told."""
    read = [
        f"{usage.cached} cached" if usage.cached else "",
        f"{usage.cache_write} written to the cache" if usage.cache_write else "",
    ]
    wrote = [f"{usage.reasoning} reasoning" if usage.reasoning else ""]
    return " / ".join(
        f"{'?' if count is None else count} {word}"
        + (f" ({', '.join(more)})" if (more := list(filter(None, notes))) else "")
        for count, word, notes in ((usage.input, "in", read), (usage.output, "out", wrote))
    )


def _asked(conversation: Conversation) -> str:
    sampling, reasoning = conversation.sampling, conversation.reasoning
    said: list[str] = [conversation.model]
    if conversation.stream:
        said.append("stream")
    named = (("temperature", sampling.temperature), ("top_p", sampling.top_p), ("max_tokens", sampling.max_tokens),
             ("effort", reasoning.effort), ("thinking budget", reasoning.budget))  # fmt: skip
    said += [f"{name} {value}" for name, value in named if value is not None]
    if conversation.output is not None and conversation.output.kind != "text":
        said.append(conversation.output.kind)
    if tools := [tool.name if isinstance(tool, Tool) else tool.what for tool in conversation.tools]:
        more = f", and {len(tools) - MOST_TOOLS} more" if len(tools) > MOST_TOOLS else ""
        said.append(f"{len(tools)} tool{'s' * (len(tools) != 1)}: {', '.join(tools[:MOST_TOOLS])}{more}")
    return " · ".join(said)


def _sections(who: str, part: Part, place: Place) -> Iterator[Section]:
    match part:
        case Text():
            yield Section(who, part.text, place)
        case Thinking():
            hidden = part.redacted is not None or not part.text
            yield Section(f"{who} · thinking{', encrypted' if hidden else ''}", part.text)
        case Refusal():
            yield Section(f"{who} · refusal", part.text)
        case Media():
            yield Section(f"{who} · {_media(part)}", part.text or "")
        case ToolCall():
            yield Section(f"{who} · calls {part.name} ({part.id})", pretty(part.arguments))
        case ToolResult():
            yield from _result(who, part, place)
        case Opaque():
            yield Section(f"{who} · {part.what}")


def _result(who: str, result: ToolResult, place: Place) -> Iterator[Section]:
    name = f" of {result.name}" if result.name else ""
    title = f"{who} · {'failed ' if result.is_error else ''}result{name} ({result.call_id})"
    match result.parts:
        case (Text(text=words),):
            yield Section(title, words, (*place, 0))
        case parts:
            yield Section(title)
            for index, inner in enumerate(parts):
                yield from _sections("result", inner, (*place, index))


def _media(media: Media) -> str:
    said: list[str] = [media.kind]
    said += [each for each in (media.name, media.media_type) if each]
    if media.data is not None:
        said.append(f"{len(media.data) * 3 // 4:,} bytes")
    said += [each for each in (media.url, media.file_id) if each]
    return ", ".join(said)


def pretty(arguments: str) -> str:
    try:
        return json.dumps(wire_json.loads(arguments), indent=2, ensure_ascii=False)
    except ValueError:
        return arguments


def edited(conversation: Conversation, text: str) -> Conversation:
    """The conversation with the words of `text`, which is its transcript with changes. Raises `CannotEdit`."""
    before, after = of_conversation(conversation).sections, _read_back(text)
    if [" ".join(section.title.split()) for section in before] != [section.title for section in after]:
        raise CannotEdit(
            "only the words below the titles can be changed: edit the JSON to add, remove or rename anything"
        )
    for old, new in zip(before, after, strict=True):
        if str(old) == str(new):
            continue
        if not old.place:
            raise CannotEdit(f"the words below [{old.title}] cannot be changed here: edit the JSON")
        conversation = _put(conversation, old.place, new.words)
    return conversation


def _read_back(text: str) -> list[Section]:
    sections: list[Section] = []
    words: list[str] = []
    for line in [*text.split("\n"), "[]"]:
        if line.startswith("[") and line.rstrip().endswith("]"):
            if sections:
                sections[-1] = Section(sections[-1].title, "\n".join(words).rstrip("\n"))
            sections.append(Section(line.rstrip()[1:-1]))
            words = []
        elif sections:
            words.append(line.removeprefix(INDENT))
    return sections[:-1]


def _put(conversation: Conversation, place: Place, words: str) -> Conversation:
    match place:
        case "system", int(index):
            return conversation.edit(system=_exchanged(conversation.system, index, words, ()))
        case "messages", int(number), int(index), *inner:
            message = conversation.messages[number]
            changed = message.edit(parts=_exchanged(message.parts, index, words, tuple(inner)))
            messages = conversation.messages
            return conversation.edit(messages=(*messages[:number], changed, *messages[number + 1 :]))
    raise CannotEdit(f"there is no place {place}")


def _exchanged(parts: Sequence[Part], index: int, words: str, inner: Place) -> tuple[Part, ...]:
    part = parts[index]
    if isinstance(part, ToolResult) and inner:
        changed: Part = part.edit(parts=_exchanged(part.parts, int(inner[0]), words, ()))
    elif isinstance(part, Text):
        changed = part.edit(text=words)
    else:
        raise CannotEdit(f"{type(part).__name__} has no words to change")
    return (*parts[:index], changed, *parts[index + 1 :])


def _markdown(transcript: Transcript) -> Iterator[str]:
    yield f"# {transcript.head}\n"
    for section in transcript.sections:
        yield f"## {section.title}\n"
        if not section.words:
            continue
        if " · calls " in section.title:
            yield f"```json\n{section.words}\n```\n"
        elif section.title.endswith("thinking"):
            yield "".join(f"> {line}".rstrip() + "\n" for line in section.words.split("\n"))
        else:
            yield f"{section.words}\n"


def as_json(conversation: Conversation, answer: Answer | None) -> dict[str, Json]:
    """For programs: the same in every protocol."""
    body: dict[str, Json] = {"model": conversation.model}
    if conversation.system:
        body["system"] = [_part(part) for part in conversation.system]
    body["messages"] = [_message(message) for message in conversation.messages]
    if conversation.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "schema": tool.schema}
            if isinstance(tool, Tool)
            else {"other": tool.what}
            for tool in conversation.tools
        ]
    if answer is not None:
        body["answer"] = {
            "model": answer.model,
            "messages": [_message(message) for message in answer.messages],
            "end": list(answer.ends),
            "usage": _usage(answer.usage),
            "error": answer.error,
        }
    return body


def _message(message: Message) -> dict[str, Json]:
    return {"role": message.role, "parts": [_part(part) for part in message.parts]}


def _usage(usage: Usage | None) -> dict[str, Json] | None:
    if usage is None:
        return None
    return {name: getattr(usage, name) for name in ("input", "output", "cached", "cache_write", "reasoning")}


def _part(part: Part) -> dict[str, Json]:
    match part:
        case Text():
            return {"text": part.text}
        case Thinking():
            return {"thinking": part.text, "encrypted": part.redacted is not None}
        case Refusal():
            return {"refusal": part.text}
        case Media():
            facts = {"media_type": part.media_type, "name": part.name, "url": part.url, "file_id": part.file_id}
            held = {"data": part.data, "text": part.text}
            return {part.kind: {key: value for key, value in (facts | held).items() if value is not None}}
        case ToolCall():
            return {"call": part.name, "id": part.id, "arguments": part.arguments}
        case ToolResult():
            return {"result": part.call_id, "is_error": part.is_error, "parts": [_part(inner) for inner in part.parts]}
        case Opaque():
            return {"other": part.what, "json": part.source.json if part.source is not None else None}
