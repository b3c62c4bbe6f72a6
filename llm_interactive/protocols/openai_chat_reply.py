"""Chat Completions replies, read: chunks or a whole completion -> canonical events."""

from collections.abc import Callable

from llm_interactive import sse, wire_json
from llm_interactive.conversation import Source, Thinking
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
    UnifiedReason,
    Usage,
    Used,
)
from llm_interactive.protocols import openai_errors
from llm_interactive.protocols.base import Json, ReplyReader

NAME = "openai_chat"

REASONS: dict[str, UnifiedReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
    "eos": "stop",
    "end_turn": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "sensitive": "content_filter",
}
EMPTY = "the provider's answer is empty"

ORIGIN_OF_FORMAT = {
    "anthropic-claude-v1": "anthropic_messages",
    "google-gemini-v1": "gemini",
    "openai-responses-v1": "openai_responses",
}
"""OpenRouter says in `reasoning_details[].format` whose signature it is."""


def thinking_text(value: Json) -> str:
    """Mistral's thinking parts hold a string or a list of text parts."""
    if isinstance(value, str):
        return value
    return "".join(part.get("text") or "" for part in value or () if isinstance(part, dict))


def read_signature(call: dict[str, Json]) -> str | None:
    match call:
        case {"extra_content": {"google": {"thought_signature": str(signature)}}}:
            return signature
    return None


def read_reasoning_detail(detail: Json) -> Thinking | None:
    if not isinstance(detail, dict):
        return None
    origin = ORIGIN_OF_FORMAT.get(str(detail.get("format")), NAME)
    text = detail.get("text") or detail.get("summary") or ""
    signature, data = detail.get("signature"), detail.get("data")
    if origin == "openai_responses":
        signature, data = data, None
    item_id, source = detail.get("id"), Source(NAME, detail)
    return Thinking(text=text, signature=signature, redacted=data, origin=origin, item_id=item_id, source=source)


def read_usage(usage: dict[str, Json], tier: Json = None) -> Usage:
    details = usage.get("prompt_tokens_details")
    cached = _count(details, "cached_tokens")
    if cached is None:
        cached = _count(usage, "prompt_cache_hit_tokens")  # DeepSeek
    if cached is None:
        cached = _count(usage, "cached_tokens")  # Moonshot
    read, output = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    reasoning = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    if reasoning and read is not None and output is not None and usage.get("total_tokens") == read + output + reasoning:
        output += reasoning  # xAI counts reasoning beside the completion
    if cached and read is not None and cached > read:
        cached = None  # impossible numbers, seen from Azure
    written = _count(details, "cache_write_tokens")
    return Usage(read, output, cached, written, reasoning, raw=usage, origin=NAME, tier=tier)


def _count(holder: Json, key: str) -> int | None:
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class _Choice:
    """What has been read of one choice: its open tool calls and how it ended."""

    __slots__ = ("by_index", "ended", "last_slot", "open", "slots")

    def __init__(self) -> None:
        self.slots: list[str] = []  # call ids by slot
        self.by_index: dict[int, int] = {}
        self.open: dict[int, None] = {}
        self.last_slot = -1
        self.ended = False


class _Decoder:
    """Deltas (or whole messages: a delta that says everything) -> events."""

    def __init__(self) -> None:
        self.started = False
        self.choices: dict[int, _Choice] = {}

    def started_by(self, chunk: dict[str, Json]) -> list[Event]:
        self.started = True
        created = chunk.get("created")
        created = created if isinstance(created, int) else None
        return [Started(str(chunk.get("id") or ""), str(chunk.get("model") or ""), created)]

    def plain_text(self, chunk: dict[str, Json]) -> TextDelta | None:
        """The chunk that nearly all are, a piece of text and nothing else, read the short way."""
        choices = chunk.get("choices")
        if not self.started or type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
            return None
        choice = choices[0]
        delta = choice.get("delta")
        if type(delta) is not dict or len(delta) != 1 or choice.get("finish_reason") or choice.get("logprobs"):
            return None
        text = delta.get("content")
        if type(text) is not str or not text or choice.get("error") or chunk.get("usage") or chunk.get("error"):
            return None
        return TextDelta(text, _count(choice, "index") or 0)

    def chunk(self, chunk: dict[str, Json], place: str) -> list[Event]:
        if chunk.get("error"):
            return [Failed(_stream_error(chunk))]
        events: list[Event] = [] if self.started else self.started_by(chunk)
        choices = chunk.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                events += self.choice(choice, _count(choice, "index") or 0 if place == "delta" else position, place)
                if choice.get("error"):
                    events.append(Failed(_stream_error(choice)))
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            events.append(Used(read_usage(usage, chunk.get("service_tier"))))
        elif isinstance(x_groq := chunk.get("x_groq"), dict) and isinstance(x_groq.get("usage"), dict):
            events.append(Used(read_usage(x_groq["usage"])))
        return events

    def choice(self, choice: dict[str, Json], number: int, place: str) -> list[Event]:
        state = self.choices.setdefault(number, _Choice())
        events: list[Event] = []
        delta = choice.get(place)
        if isinstance(delta, dict):
            self.delta(delta, number, state, events)
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list) and logprobs["content"]:
            events.append(LogProbs(tuple(logprobs["content"]), number))
        reason = choice.get("finish_reason")
        if reason and not state.ended:
            state.ended = True
            events += [ToolCallEnded(slot, number) for slot in state.open]
            unified = REASONS.get(str(reason), "other")
            if unified == "stop" and state.slots:
                unified = "tool_calls"  # T18
            events.append(Ended(Reason(unified, str(reason), NAME), number))
        return events

    def delta(self, delta: dict[str, Json], number: int, state: _Choice, events: list[Event]) -> None:
        for key, value in sorted(delta.items(), key=lambda item: item[0] not in THINKING_KEYS):  # it came first
            if not value:
                continue
            if key == "content":
                if isinstance(value, str):
                    events.append(TextDelta(value, number))
                elif isinstance(value, list):
                    _read_parts(value, number, events)
            elif key == "tool_calls":
                for position, call in enumerate(value if isinstance(value, list) else ()):
                    if isinstance(call, dict):
                        self.call(call, position, number, state, events)
            elif key == "function_call" and isinstance(value, dict) and any(value.values()):
                self.call({"index": 0, "function": value}, 0, number, state, events)
            elif key in _DELTA_READERS:
                _DELTA_READERS[key](value, delta, number, events)

    def call(self, call: dict[str, Json], position: int, number: int, state: _Choice, events: list[Event]) -> None:
        custom = isinstance(call.get("custom"), dict)
        body = call["custom"] if custom else call.get("function")
        body = body if isinstance(body, dict) else {}
        id_, name = call.get("id"), body.get("name")
        index = _count(call, "index")
        if index is not None and index < 0:
            index = None
        if index is None and (id_ or state.last_slot < 0):
            index = position
        slot = state.last_slot if index is None else state.by_index.get(index)
        if slot is None or (id_ and state.slots[slot] not in ("", id_)):  # T12: another id is another call
            slot = len(state.slots)
            state.slots.append(str(id_ or ""))
            state.open[slot] = None
            fresh = str(id_ or f"call_{number}_{slot}")
            events.append(ToolCallStarted(slot, fresh, str(name or ""), read_signature(call), custom, number))
        state.last_slot = slot
        if index is not None:
            state.by_index[index] = slot
        arguments = body.get("input") if custom else body.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = wire_json.text(arguments)
        if arguments:
            events.append(ToolCallDelta(slot, arguments, number))


THINKING_KEYS = ("reasoning_content", "reasoning", "reasoning_details")

type _Reads = Callable[[Json, dict[str, Json], int, list[Event]], None]


def _read_thinking(value: Json, delta: dict[str, Json], number: int, events: list[Event]) -> None:
    if isinstance(value, str):
        events.append(ThinkingDelta(value, number))


def _read_reasoning(value: Json, delta: dict[str, Json], number: int, events: list[Event]) -> None:
    if not delta.get("reasoning_content"):  # some send the same text under both names
        _read_thinking(value, delta, number, events)


def _read_details(value: Json, delta: dict[str, Json], number: int, events: list[Event]) -> None:
    has_text = bool(delta.get("reasoning") or delta.get("reasoning_content"))
    for detail in value if isinstance(value, list) else ():
        thinking = read_reasoning_detail(detail)
        if thinking is None:
            continue
        if thinking.text and not has_text:
            events.append(ThinkingDelta(thinking.text, number))
        if thinking.signature or thinking.redacted:
            origin = thinking.origin or NAME
            events.append(ThinkingEnded(origin, thinking.signature, thinking.redacted, thinking.item_id, number))


def _read_refusal(value: Json, delta: dict[str, Json], number: int, events: list[Event]) -> None:
    if isinstance(value, str):
        events.append(RefusalDelta(value, number))


def _read_annotations(value: Json, delta: dict[str, Json], number: int, events: list[Event]) -> None:
    events += [_read_annotation(annotation, number) for annotation in (value if isinstance(value, list) else ())]


_DELTA_READERS: dict[str, _Reads] = {
    "reasoning_content": _read_thinking,
    "reasoning": _read_reasoning,
    "reasoning_details": _read_details,
    "refusal": _read_refusal,
    "annotations": _read_annotations,
    "audio": lambda value, delta, number, events: events.append(Foreign(NAME, "audio", value, number)),
    "images": lambda value, delta, number, events: events.append(Foreign(NAME, "images", value, number)),
}


def _read_parts(content: list[Json], number: int, events: list[Event]) -> None:
    for part in content:
        match part:
            case {"type": "thinking", "thinking": thinking}:
                if text := thinking_text(thinking):
                    events.append(ThinkingDelta(text, number))
            case {"text": str(text)} if text:
                events.append(TextDelta(text, number))
            case {"type": "reference"} | {"type": "image_url"}:
                events.append(Foreign(NAME, part["type"], part, number))


def _read_annotation(annotation: Json, number: int) -> Cited:
    match annotation:
        case {"url_citation": dict(cite)}:
            return Cited(
                url=cite.get("url"),
                title=cite.get("title"),
                cited_text=cite.get("content"),
                start=cite.get("start_index"),
                end=cite.get("end_index"),
                origin=NAME,
                json=annotation,
                choice=number,
            )
    return Cited(origin=NAME, json=annotation, choice=number)


def _stream_error(holder: dict[str, Json]) -> UpstreamError:
    error = holder["error"]
    return openai_errors.read_error(NAME, openai_errors.status_of(error), {}, wire_json.dumps({"error": error}))


def _no_completion(body: bytes) -> UpstreamError:
    """What came with status 200 instead of an answer: an error, a page, or what should be shown to be understood."""
    error = openai_errors.read_error(NAME, 502, {}, body)
    start = body[:300].decode("utf-8", "replace").strip()
    if error.details or start.startswith("<") or any(f'"{key}"' in start for key in ("detail", "error", "message")):
        return error
    shown = "".join(c if c.isprintable() else " " for c in start)
    return UpstreamError(f"the provider's answer is no chat completion: {shown}" if shown else EMPTY)


class StreamReader(ReplyReader):
    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._decoder = _Decoder()
        self._done = False
        self._garbage = b""

    def feed(self, data: bytes) -> list[Frame]:
        try:
            return [self._frame(event) for event in self._splitter.feed(data)]
        except UpstreamError as error:
            self._done = True
            return [Frame(b"", (Failed(error),))]

    def _frame(self, event: sse.ServerSentEvent) -> Frame:
        data = event.data
        if data is None or not data:
            if event.data is None and not event.raw.lstrip(b"\r\n").startswith(b":"):
                self._garbage = (self._garbage + event.raw)[:2000]
            return Frame(event.raw)
        if data.startswith(b"[DONE]"):
            return Frame(event.raw, self._finished())
        try:
            chunk = wire_json.loads(data)
        except ValueError:
            self._garbage = (self._garbage + data)[:2000]
            return Frame(event.raw)
        if not isinstance(chunk, dict):
            return Frame(event.raw)
        if event.name == "error" and "error" not in chunk:
            chunk = {"error": chunk}
        if (plain := self._decoder.plain_text(chunk)) is not None:
            return Frame(event.raw, (plain,))
        events = self._decoder.chunk(chunk, "delta")
        self._done = self._done or any(isinstance(e, Failed) for e in events)
        return Frame(event.raw, tuple(events))

    def _finished(self) -> tuple[Event, ...]:
        if self._done:
            return ()
        self._done = True
        return (Finished(),)

    def finish(self) -> list[Frame]:
        frames = [self._frame(event) for event in self._splitter.flush()]
        if not self._done:
            choices = self._decoder.choices.values()
            if choices and all(choice.ended for choice in choices):
                frames.append(Frame(b"", self._finished()))  # many services leave [DONE] out
            else:
                frames.append(Frame(b"", (Failed(self._cut()),)))
            self._done = True
        return frames

    def _cut(self) -> UpstreamError:
        if self._garbage and not self._decoder.started:
            return _no_completion(self._garbage)
        return UpstreamError("the provider's stream ended before the answer was complete")


class WholeReader(ReplyReader):
    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._body += data
        return []

    def finish(self) -> list[Frame]:
        body = bytes(self._body)
        try:
            completion = wire_json.loads(body)
        except ValueError:
            completion = None
        if not isinstance(completion, dict) or "choices" not in completion:
            return [Frame(body, (Failed(_no_completion(body)),))]
        decoder = _Decoder()
        events = decoder.chunk(completion, "message")
        return [Frame(body, (*events, Finished()))]
