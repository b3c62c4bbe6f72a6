"""Messages replies read: stream events or a whole message -> canonical events.

What only Anthropic can say (its own tools' calls and results, and every block that is not known here) is `Foreign`,
whole, when its block ends. Usage at the start is what was read; later figures are totals and the last ones hold
(TRAPS T85). Nothing here raises, whatever the bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_interactive import sse, wire_json
from llm_interactive.errors import UpstreamError
from llm_interactive.events import (
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    Foreign,
    Frame,
    Reason,
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
from llm_interactive.protocols.anthropic_messages_errors import CUT, NAME, no_answer, read_stream_error
from llm_interactive.protocols.base import Json, ReplyReader

REASONS: Mapping[str, UnifiedReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "compaction": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_usage(usage: dict[str, Json]) -> Usage:
    """Anthropic's `input_tokens` leaves out what was read from and written to the cache (TRAPS T84)."""
    fresh, output = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    cached, written = _count(usage.get("cache_read_input_tokens")), _count(usage.get("cache_creation_input_tokens"))
    details = usage.get("output_tokens_details")
    reasoning = _count(details.get("thinking_tokens")) if isinstance(details, dict) else None
    read = None if fresh is None else fresh + (cached or 0) + (written or 0)
    return Usage(read, output, cached, written, reasoning, raw=usage, origin=NAME)


def read_reason(holder: dict[str, Json]) -> Reason | None:
    """`holder`: the message, or the delta of a `message_delta`."""
    raw = holder.get("stop_reason")
    if not isinstance(raw, str):
        return None
    stop = holder.get("stop_sequence")
    return Reason(
        REASONS.get(raw, "other"), raw, NAME, stop if isinstance(stop, str) else None, holder.get("stop_details")
    )


def read_citation(citation: Json) -> Cited:
    if not isinstance(citation, dict):
        return Cited(origin=NAME, json=citation)
    url = _text(citation.get("url")) or _text(citation.get("source")) or None
    return Cited(
        url=url if url and url.startswith(("http://", "https://")) else None,
        title=_text(citation.get("title")) or _text(citation.get("document_title")) or None,
        cited_text=_text(citation.get("cited_text")) or None,
        origin=NAME,
        json=citation,
    )


@dataclass(slots=True)
class _Block:
    """An open block: `json` as it started, and what its deltas have brought."""

    kind: str
    json: dict[str, Json]
    slot: int = -1
    signature: str = ""
    arguments: str = ""
    heard: bool = False
    cited: list[Event] = field(default_factory=list)
    """Sources of a text, which come before its words or among them; they are told after it."""


class Decoder:
    """Stream events -> canonical events. A whole message is read as the stream that would have brought it."""

    def __init__(self) -> None:
        self.started = False
        self.over = False
        self._ended = False
        self._usage: dict[str, Json] = {}
        self._open: dict[int, _Block] = {}
        self._slots = 0

    def event(self, event: dict[str, Json]) -> list[Event]:
        kind = event.get("type")
        if self.over or not isinstance(kind, str):
            return []
        if kind == "content_block_delta":
            return self._delta(event)
        read = _READERS.get(kind)
        return read(self, event) if read is not None else []

    def message(self, message: dict[str, Json]) -> list[Event]:
        events = self._start({"message": message})
        for index, block in enumerate(message.get("content") or ()):
            if isinstance(block, dict):
                events += self._block_start({"index": index, "content_block": block})
                events += self._block_stop({"index": index})
        return [*events, *self._end({"delta": message}), *self._stop({})]

    def _start(self, event: dict[str, Json]) -> list[Event]:
        message = event.get("message")
        if self.started or not isinstance(message, dict):
            return []
        self.started = True
        return [Started(_text(message.get("id")), _text(message.get("model"))), *self._used(message.get("usage"))]

    def _used(self, usage: Json) -> list[Event]:
        if not isinstance(usage, dict):
            return []
        self._usage = {**self._usage, **{key: value for key, value in usage.items() if value is not None}}
        return [Used(read_usage(self._usage))]

    def _block_start(self, event: dict[str, Json]) -> list[Event]:
        block, index = event.get("content_block"), event.get("index")
        if not isinstance(block, dict) or not isinstance(index, int):
            return []
        events = self._block_stop(event) if index in self._open else []
        kind = _text(block.get("type"))
        opened = self._open[index] = _Block(kind, block)
        if kind == "text":
            if text := _text(block.get("text")):
                events.append(TextDelta(text))
            citations = block.get("citations")
            opened.cited += [read_citation(cited) for cited in (citations if isinstance(citations, list) else ())]
        elif kind == "thinking":
            opened.signature = _text(block.get("signature"))
            if text := _text(block.get("thinking")):
                events.append(ThinkingDelta(text))
        elif kind == "tool_use":
            opened.slot, self._slots = self._slots, self._slots + 1
            id_ = _text(block.get("id")) or f"toolu_{opened.slot}"
            events.append(ToolCallStarted(opened.slot, id_, _text(block.get("name"))))
        return events

    def _delta(self, event: dict[str, Json]) -> list[Event]:
        delta, index = event.get("delta"), event.get("index")
        block = self._open.get(index) if isinstance(index, int) else None
        if not isinstance(delta, dict) or block is None:
            return []
        match delta:
            case {"type": "text_delta", "text": str(text)} if block.kind == "text":
                return [TextDelta(text)] if text else []
            case {"type": "input_json_delta", "partial_json": str(piece)}:
                return self._piece(block, piece)
            case {"type": "thinking_delta", "thinking": str(text)} if block.kind == "thinking":
                return [ThinkingDelta(text)] if text else []
            case {"type": "signature_delta", "signature": str(signature)}:
                block.signature += signature
            case {"type": "citations_delta", "citation": citation} if block.kind == "text":
                block.cited.append(read_citation(citation))
            case {"type": "compaction_delta"}:
                block.json = {**block.json, **{key: value for key, value in delta.items() if key != "type"}}
        return []

    def _piece(self, block: _Block, piece: str) -> list[Event]:
        """The first piece is often empty (TRAPS T2)."""
        if block.kind != "tool_use":
            block.arguments += piece
            return []
        if not piece:
            return []
        block.heard = True
        return [ToolCallDelta(block.slot, piece)]

    def _block_stop(self, event: dict[str, Json]) -> list[Event]:
        index = event.get("index")
        block = self._open.pop(index, None) if isinstance(index, int) else None
        if block is None or block.kind == "text":
            return block.cited if block is not None else []
        if block.kind == "thinking":
            return [ThinkingEnded(NAME, block.signature or None)]
        if block.kind == "redacted_thinking":
            return [ThinkingEnded(NAME, redacted=_text(block.json.get("data")))]
        if block.kind == "tool_use":
            given = block.json.get("input")
            whole = [ToolCallDelta(block.slot, wire_json.text(given))] if given and not block.heard else []
            return [*whole, ToolCallEnded(block.slot)]
        return [Foreign(NAME, block.kind, _with_input(block))]

    def _end(self, event: dict[str, Json]) -> list[Event]:
        delta = event.get("delta")
        reason = read_reason(delta) if isinstance(delta, dict) else None
        events: list[Event] = []
        if reason is not None and not self._ended:
            self._ended = True
            events = [*self._close(), Ended(reason)]
        return [*events, *self._used(event.get("usage"))]

    def _close(self) -> list[Event]:
        return [ended for index in list(self._open) for ended in self._block_stop({"index": index})]

    def _stop(self, event: dict[str, Json]) -> list[Event]:
        self.over = True
        events = self._close()
        if not self._ended:
            events.append(Ended(Reason("stop")))
        return [*events, Finished()]

    def _error(self, event: dict[str, Json]) -> list[Event]:
        return self.fail(read_stream_error(event))

    def fail(self, error: UpstreamError) -> list[Event]:
        self.over = True
        return [Failed(error)]


def _with_input(block: _Block) -> Json:
    """The block as a whole reply would hold it."""
    if not block.arguments:
        return block.json
    try:
        return {**block.json, "input": wire_json.loads(block.arguments)}
    except ValueError:
        return {**block.json, "input": {"_raw": block.arguments}}


_READERS: Mapping[str, Callable[[Any, dict[str, Json]], list[Event]]] = {
    "message_start": Decoder._start,
    "content_block_start": Decoder._block_start,
    "content_block_stop": Decoder._block_stop,
    "message_delta": Decoder._end,
    "message_stop": Decoder._stop,
    "error": Decoder._error,
}


class StreamReader(ReplyReader):
    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._decoder = Decoder()
        self._garbage = b""

    def feed(self, data: bytes) -> list[Frame]:
        try:
            return [self._frame(event) for event in self._splitter.feed(data)]
        except UpstreamError as error:
            return [Frame(b"", tuple(self._decoder.fail(error)))]

    def _frame(self, event: sse.ServerSentEvent) -> Frame:
        value = _parsed(event.data) if event.data else None
        if value is None:
            if not event.raw.lstrip(b"\r\n").startswith(b":"):
                self._garbage = (self._garbage + event.raw)[:2000]
            return Frame(event.raw)
        if "type" not in value and "error" in value:
            value = {"type": "error", **value}
        return Frame(event.raw, tuple(self._decoder.event(value)))

    def finish(self) -> list[Frame]:
        frames = [self._last(event) for event in self._splitter.flush()]
        if not self._decoder.over:
            started = self._decoder.started or not self._garbage.strip()
            error = UpstreamError(CUT, protocol=NAME) if started else no_answer(self._garbage)
            frames.append(Frame(b"", tuple(self._decoder.fail(error))))
        return frames

    def _last(self, event: sse.ServerSentEvent) -> Frame:
        """What stood at the end. Some servers answer with a whole message though a stream was asked for; its bytes are
        none for a client that waits for events."""
        if event.data is None and event.raw.lstrip().startswith((b"{", b"[")) and not self._decoder.started:
            return Frame(event.raw, tuple(_whole(event.raw, self._decoder)), edited=True)
        return self._frame(event)


class WholeReader(ReplyReader):
    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._body += data
        return []

    def finish(self) -> list[Frame]:
        body = bytes(self._body)
        return [Frame(body, tuple(_whole(body, Decoder())))]


def _whole(body: bytes, decoder: Decoder) -> list[Event]:
    message = _parsed(body)
    if message is not None and isinstance(message.get("content"), list):
        return decoder.message(message)
    if message is not None and message.get("error"):
        return decoder.fail(read_stream_error(message))
    return decoder.fail(no_answer(body))


def _parsed(data: bytes) -> dict[str, Json] | None:
    try:
        value = wire_json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
