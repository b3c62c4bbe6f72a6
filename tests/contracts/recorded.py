"""What the contracts run over, for every protocol in `NAMES`: samples written out here, and the recordings.

A new protocol needs its row in `samples.py`; recordings are found by the API's name in `APIS`. A sample goes by its id
in every failure message. `said` sums up a reply, `asked` a request, so that two protocols' can be compared.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from contracts.samples import ERRORS, REPLIES, REQUESTS
from kit import corpus

from llm_interactive.backends.catalog import FAMILIES, join
from llm_interactive.conversation import Conversation, Media, Text, Tool, ToolCall, ToolResult
from llm_interactive.entry import recognise
from llm_interactive.events import (
    Ended,
    Event,
    Failed,
    Finished,
    Foreign,
    Frame,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
    Used,
)
from llm_interactive.models import facts
from llm_interactive.protocols import NAMES, named
from llm_interactive.protocols.base import Call, ReplyContext, Target, WireRequest

APIS: Mapping[str, str] = {
    "openai_chat": "chat",
    "openai_responses": "responses",
    "anthropic_messages": "messages",
    "gemini": "generateContent",
}
PAIRS = [(backend, frontend) for backend in NAMES for frontend in NAMES if backend != frontend]


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply as bytes, or a request as JSON; `model` and `stream` say what the path does (Gemini)."""

    id: str
    protocol: str
    stream: bool
    data: bytes = b""
    body: Any = None
    model: str = "m"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def replies(protocol: str) -> tuple[Sample, ...]:
    """Every reply with status 200."""
    own = [
        Sample(f"own {protocol} {i}", protocol, text.startswith(("data:", "event:")), text.encode())
        for i, text in enumerate(REPLIES[protocol])
    ]
    recorded = [
        Sample(each.id, protocol, each.stream, each.response.data)
        for each in _recordings(protocol)
        if each.response.status == 200
    ]
    return (*own, *recorded)


@functools.cache
def requests(protocol: str) -> tuple[Sample, ...]:
    """Every request, of refused exchanges too."""
    own = [
        Sample(f"own {protocol} {i}", protocol, bool(body.get("stream")), body=body)
        for i, body in enumerate(REQUESTS[protocol])
    ]
    return (*own, *(each for recording in _recordings(protocol) for each in _request(protocol, recording)))


@functools.cache
def errors(protocol: str) -> tuple[Sample, ...]:
    own = [
        Sample(f"own {protocol} {status}", protocol, False, json.dumps(body).encode(), status=status, headers=headers)
        for status, headers, body in ERRORS[protocol]
    ]
    recorded = [
        Sample(each.id, protocol, False, each.response.data, status=each.response.status, headers=each.response.headers)
        for each in _recordings(protocol)
        if each.response.status >= 400
    ]
    return (*own, *recorded)


def _recordings(protocol: str) -> list[corpus.Recorded]:
    api = APIS.get(protocol)
    return [each for each in corpus.exchanges(api=api) if each.response.body] if api else []


def _request(protocol: str, recording: corpus.Recorded) -> Iterator[Sample]:
    body = recording.request.body
    if not isinstance(body, dict):
        return
    call = recognise("POST", recording.request.path, {})
    in_path = call.model if call is not None else None
    if in_path is None and protocol != "gemini" and not isinstance(body.get("model"), str):
        return  # an Azure path carries the model, which no frontend here serves
    model, status = in_path or body.get("model") or "m", recording.response.status
    yield Sample(recording.id, protocol, recording.stream, body=body, model=model, status=status)


def call_of(sample: Sample) -> Call:
    return Call(
        sample.protocol,
        "generate",
        "/",
        model=sample.model if sample.protocol == "gemini" else None,
        stream=sample.stream if sample.protocol == "gemini" else None,
        array=sample.stream and sample.data.startswith(b"["),
    )


def target(protocol: str, model: str) -> Target:
    """The vendor's own service."""
    backend = FAMILIES[protocol]
    return Target(backend, model, backend, facts(backend, model))


def read_written(protocol: str, request: WireRequest) -> Conversation:
    """What a frontend of the same protocol understands of a request that was written for a backend."""
    path = urlsplit(join("http://backend", protocol, request.path)).path
    call = recognise("POST", f"{path}?{request.query}", dict(request.headers))
    assert call is not None, f"{path} is no path of any protocol"
    assert (call.protocol, call.operation) == (protocol, "generate")
    return named(protocol).read_request(request.body, call)


# Replies


def frames(protocol: str, data: bytes, stream: bool, *cuts: int) -> list[Frame]:
    reader = named(protocol).reply_reader(stream)
    marks = (0, *cuts, len(data))
    return [frame for a, b in pairwise(marks) for frame in reader.feed(data[a:b])] + reader.finish()


def events(protocol: str, data: bytes, stream: bool, *cuts: int) -> list[Event]:
    return [event for frame in frames(protocol, data, stream, *cuts) for event in frame.events]


def context(frontend: str, backend: str, *, stream: bool, array: bool = False) -> ReplyContext:
    conversation = Conversation(model="asked", messages=(), stream=stream)
    in_path = frontend == "gemini"
    call = Call(frontend, "generate", "/", model="asked" if in_path else None, array=array)
    return ReplyContext(conversation, call, backend, "asked", lambda prefix: prefix + "minted", 7)


def written(frontend: str, backend: str, said: Iterable[Frame], *, stream: bool, array: bool = False) -> bytes:
    writer = named(frontend).reply_writer(context(frontend, backend, stream=stream, array=array))
    return b"".join(writer.write(frame) for frame in said)


@dataclass(slots=True)
class Said:
    """A reply as a client sees it. Refusals are words too: two protocols have no other place for them."""

    text: dict[int, str] = field(default_factory=dict)
    thinking: dict[int, str] = field(default_factory=dict)
    calls: dict[tuple[int, int], list[Any]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    usage: Usage | None = None
    foreign: bool = False
    custom: bool = False
    refused: bool = False
    failure: str | None = None
    finished: int = 0

    def only(self, choice: int) -> "Said":
        """Where a client can be given one answer."""
        return Said(
            {c: t for c, t in self.text.items() if c == choice},
            {c: t for c, t in self.thinking.items() if c == choice},
            {key: call for key, call in self.calls.items() if key[0] == choice},
            {c: r for c, r in self.reasons.items() if c == choice},
            self.usage,
            self.foreign,
            self.custom,
            self.refused,
            self.failure,
            self.finished,
        )

    def called(self) -> list[tuple[int, str, Any]]:
        return [(choice, name, arguments(text)) for (choice, _), (name, text) in sorted(self.calls.items())]

    def counted(self) -> tuple[int, int, int] | None:
        """Input, output, cached. Not told and 0 are the same to a protocol whose figures must be numbers."""
        usage = self.usage
        return None if usage is None else (usage.input or 0, usage.output or 0, usage.cached or 0)


def arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except json.JSONDecodeError:
        return text


def said(found: Iterable[Event]) -> Said:
    whole = Said()
    for event in found:
        match event:
            case TextDelta(text, choice) | RefusalDelta(text, choice):
                whole.text[choice] = whole.text.get(choice, "") + text
                whole.refused = whole.refused or isinstance(event, RefusalDelta)
            case ThinkingDelta(text, choice):
                whole.thinking[choice] = whole.thinking.get(choice, "") + text
            case ToolCallStarted(slot, _, name, _, custom, choice):
                whole.calls[choice, slot] = [name, ""]
                whole.custom = whole.custom or custom
            case ToolCallDelta(slot, text, choice):
                whole.calls[choice, slot][1] += text
            case Ended(reason, choice) if whole.failure is None:
                whole.reasons[choice] = reason.unified
            case Used(usage):
                whole.usage = usage
            case Foreign():
                whole.foreign = True
            case Failed(error):
                whole.failure = error.message
            case Finished():
                whole.finished += 1
    for texts in (whole.text, whole.thinking):
        for choice in [choice for choice, text in texts.items() if not text]:
            del texts[choice]
    return whole


# Requests


def asked(conversation: Conversation, names: Mapping[str, str]) -> dict[str, Any]:
    """What a request asks, however its messages are cut. `names`: tools' names as sent -> as the client wrote them."""
    words: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    media: list[str] = []
    calls: list[Any] = []
    results: list[Any] = []
    words["system"] += [part.text for part in conversation.system if isinstance(part, Text)]
    for message in conversation.messages:
        role = {"developer": "system", "tool": "user"}.get(message.role, message.role)
        for part in message.parts:
            match part:
                case Text(text=text):
                    words[role].append(text)
                case Media():
                    media.append(_pixels(part))
                case ToolCall():
                    given = {"input": part.arguments} if part.custom else arguments(part.arguments)
                    calls.append((names.get(part.name, part.name), given))
                case ToolResult():
                    results.append(_result(part))
                    media += [_pixels(inner) for inner in part.parts if isinstance(inner, Media)]
    sampling = conversation.sampling
    return {
        "system": _joined(words["system"]),
        "user": _joined(words["user"]),
        "assistant": _joined(words["assistant"]),
        "media": sorted(media),
        "calls": calls,
        "results": results,
        "tools": {names.get(t.name, t.name): _properties(t) for t in conversation.tools if isinstance(t, Tool)},
        "max_tokens": sampling.max_tokens,
        "stop": sampling.stop,
        "stream": conversation.stream,
    }


def _joined(texts: list[str]) -> str:
    return " ".join(" ".join(texts).split())


def _pixels(media: Media) -> str:
    return (media.data or media.url or media.file_id or media.text or "")[:200]


def _result(result: ToolResult) -> Any:
    """An error says so in words where there is no mark for it (TRAPS T24)."""
    text = "".join(part.text for part in result.parts if isinstance(part, Text))
    match arguments(text) if text.startswith(("{", "[")) else text:
        case {"error": str(words), **rest} if not rest:
            return words
        case value:
            return value


def _properties(tool: Tool) -> list[str]:
    """A free-form tool is elsewhere a function with one string."""
    if tool.custom:
        return ["input"]
    properties = (tool.schema or {}).get("properties")
    return sorted(properties) if isinstance(properties, Mapping) else []
