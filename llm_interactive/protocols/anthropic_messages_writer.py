"""Messages replies written: source bytes go on as they came, other events become blocks of a stream or of a message.

One block is open at a time and indexes only grow (TRAPS T70). While a tool call is open, what belongs to another block
waits until the call has ended or its arguments are a whole object. Once the proxy has written a block of its own into
a stream, the rest of that stream is written from events too.
"""

from collections import deque
from dataclasses import dataclass, field

from llm_interactive import sse, wire_json
from llm_interactive.events import (
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    Foreign,
    Frame,
    Reason,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    Used,
)
from llm_interactive.protocols.anthropic_messages_blocks import (
    empty_message,
    is_complete,
    unsigned,
    write_citation,
    write_signature,
    write_stop,
    write_usage,
)
from llm_interactive.protocols.anthropic_messages_errors import NAME, write_error
from llm_interactive.protocols.anthropic_messages_history import arguments_object, clean_id
from llm_interactive.protocols.base import Json, ReplyContext, ReplyWriter

MAX_CHECKS = 8
"""How often an open call's arguments are tried for being whole: each try reads all of them."""

_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":'
_TEXT = _DELTA + b'"text_delta","text":%b}}\n\n'
_THINKING = _DELTA + b'"thinking_delta","thinking":%b}}\n\n'
_SIGNATURE = _DELTA + b'"signature_delta","signature":%b}}\n\n'
_ARGUMENTS = _DELTA + b'"input_json_delta","partial_json":%b}}\n\n'
_CITATION = _DELTA + b'"citations_delta","citation":%b}}\n\n'
_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_SEEDS: dict[str, Json] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}
"""How a block begins: with every field that deltas are added to (TRAPS T71)."""


def _call_block(event: ToolCallStarted, context: ReplyContext) -> dict[str, Json]:
    id_ = clean_id(event.id) if event.id else context.mint("toolu_")
    return {"type": "tool_use", "id": id_, "name": event.name, "input": {}}


@dataclass(slots=True)
class _Call:
    started: ToolCallStarted
    pieces: list[str] = field(default_factory=list)
    ended: bool = False
    checks: int = 0
    wrote: bool = False

    def is_whole(self) -> bool:
        if self.ended:
            return True
        self.checks += 1
        return not self.started.custom and self.checks <= MAX_CHECKS and is_complete("".join(self.pieces))


class StreamWriter(ReplyWriter):
    content_type = "text/event-stream"

    def __init__(self, context: ReplyContext) -> None:
        self._context = context
        self._same = context.backend_protocol == NAME
        self._spliced = False
        self._passed_open: dict[int, None] = {}
        """Blocks of the source that are open."""
        self._out: list[bytes] = []
        self._usage = Usage()
        self._reason = Reason("stop")
        self._refused = False
        self._started = self._delta_written = self._over = False
        self._count = 0
        self._cited = False
        self._kind: str | None = None
        """The block that is open, which is always the last one: `_count - 1` is its index."""
        self._call: _Call | None = None
        self._calls: dict[int, _Call] = {}
        self._waiting: deque[_Call | Event] = deque()

    def write(self, frame: Frame) -> bytes:
        if self._over:
            return b""
        if self._same and not self._spliced and frame.source and not frame.edited:
            return self._pass(frame)
        for event in frame.events:
            if isinstance(event, Used):
                self._usage = event.usage
        for event in frame.events:
            self._event(event)
        written = b"".join(self._out)
        self._out.clear()
        return written

    def _pass(self, frame: Frame) -> bytes:
        source = frame.source
        for event in frame.events:
            match event:
                case Started():
                    self._started = True
                    source = self._named(source)
                case Used(usage=usage):
                    self._usage = usage
                case Ended():
                    self._delta_written = True
                case Finished():
                    self._over = True
                case Failed(error=error):
                    self._over = True
                    if not source.lstrip(b"\r\n").startswith((b"event:", b"data:")):
                        return sse.write(wire_json.dumps(write_error(error)), "error")
        if b"content_block_st" in source:
            self._track(source)
        return source

    def _named(self, source: bytes) -> bytes:
        """The start of the message, under the model's name that the client asked for."""
        value = _value(source)
        message = value.get("message")
        if not self._context.rename or not isinstance(message, dict):
            return source
        renamed = {**value, "message": {**message, "model": self._context.model}}
        return sse.write(wire_json.dumps(renamed), "message_start")

    def _track(self, source: bytes) -> None:
        value = _value(source)
        kind, index = value.get("type"), value.get("index")
        if kind == "content_block_start" and isinstance(index, int):
            self._passed_open[index] = None
            self._count = max(self._count, index + 1)
        elif kind == "content_block_stop" and isinstance(index, int):
            self._passed_open.pop(index, None)

    def _event(self, event: Event) -> None:
        if self._over:
            return
        match event:
            case Started(id=id_):
                self._start(id_ if self._same else "")
            case Used():
                pass
            case Finished():
                self._finish()
            case Failed(error=error):
                self._over = True
                self._close_all()
                self._out.append(sse.write(wire_json.dumps(write_error(error)), "error"))
            case Ended(reason=reason, choice=0):
                self._end_calls()
                self._reason = reason
            case ToolCallDelta(slot=slot, arguments=arguments, choice=0):
                self._piece(slot, arguments)
            case ToolCallEnded(slot=slot, choice=0):
                self._end_call(slot)
            case _ if not event.choice:
                self._content(event)

    def _start(self, id_: str) -> None:
        if self._started:  # T72
            return
        self._started = True
        message = empty_message(self._context, id_, self._usage)
        self._out.append(sse.write(wire_json.dumps({"type": "message_start", "message": message}), "message_start"))

    def _content(self, event: Event) -> None:
        """Write what begins or goes on with a block, unless another one's call is open."""
        item: _Call | Event = event
        if isinstance(event, ToolCallStarted):
            item = self._calls[event.slot] = _Call(event)
        if self._call is not None and self._call.is_whole():
            self._close()
            self._drain()
        if self._call is not None:
            self._waiting.append(item)
        else:
            self._begin(item)

    def _begin(self, item: _Call | Event) -> None:
        match item:
            case _Call():
                self._begin_call(item)
            case TextDelta(text=text) if text:
                self._write_text(text)
            case ThinkingDelta(text=text) if text:
                self._open("thinking")
                self._out.append(_THINKING % (self._count - 1, wire_json.dumps(text)))
            case ThinkingEnded():
                self._end_thinking(item)
            case RefusalDelta(text=text) if text:
                self._refused = True
                self._write_text(text)
            case Cited() if self._kind == "text" and (citation := write_citation(item)) is not None:
                self._cited = True
                self._out.append(_CITATION % (self._count - 1, wire_json.dumps(citation)))
            case Foreign(origin=origin, json=block) if origin == NAME and isinstance(block, dict):
                self._whole_block(block)

    def _write_text(self, text: str) -> None:
        if self._cited:  # sources belong to a whole block
            self._close()
        self._open("text")
        self._out.append(_TEXT % (self._count - 1, wire_json.dumps(text)))

    def _open(self, kind: str, seed: Json = None) -> None:
        if self._kind == kind and seed is None:
            return
        self._close()
        self._start("")
        self._spliced = True
        self._out.append(_START % (self._count, wire_json.dumps(_SEEDS[kind] if seed is None else seed)))
        self._kind = kind
        self._count += 1

    def _whole_block(self, block: dict[str, Json]) -> None:
        self._open(str(block.get("type")), block)
        self._close()

    def _close(self, signature: str | None = None) -> None:
        """Close the open block, the source's too."""
        for index in self._passed_open:
            self._out.append(_STOP % index)
        self._passed_open.clear()
        if self._kind is None:
            return
        if self._kind == "thinking" and (signature := unsigned(self._context) if signature is None else signature):
            self._out.append(_SIGNATURE % (self._count - 1, wire_json.dumps(signature)))
        if self._call is not None:
            self._end_arguments(self._call)
            self._call = None
        self._kind = None
        self._cited = False
        self._out.append(_STOP % (self._count - 1))

    def _end_thinking(self, event: ThinkingEnded) -> None:
        if event.origin == NAME and event.redacted is not None:
            self._whole_block({"type": "redacted_thinking", "data": event.redacted})
            return
        if self._kind != "thinking" and not (event.signature or event.redacted):
            return
        self._open("thinking")
        self._close(write_signature(event))  # also where there was no text (T53)

    def _begin_call(self, call: _Call) -> None:
        self._open("tool_use", _call_block(call.started, self._context))
        self._call = call
        for piece in call.pieces:
            self._write_piece(call, piece)
        if call.ended:
            self._close()

    def _piece(self, slot: int, arguments: str) -> None:
        call = self._calls.get(slot)
        if call is None or call.ended:
            return
        call.pieces.append(arguments)
        if call is self._call:
            self._write_piece(call, arguments)

    def _write_piece(self, call: _Call, piece: str) -> None:
        if call.started.custom:
            piece = ("" if call.wrote else '{"input":"') + wire_json.text(piece)[1:-1]
        elif not call.wrote and not piece.strip():
            return
        call.wrote = True
        self._out.append(_ARGUMENTS % (self._count - 1, wire_json.dumps(piece)))

    def _end_arguments(self, call: _Call) -> None:
        if call.started.custom:
            self._write_piece(call, "")
            self._out.append(_ARGUMENTS % (self._count - 1, b'"\\"}"'))
        elif not call.wrote:
            self._write_piece(call, "{}")  # T1

    def _end_call(self, slot: int) -> None:
        call = self._calls.get(slot)
        if call is None:
            return
        call.ended = True
        if call is self._call:
            self._close()
            self._drain()

    def _drain(self) -> None:
        while self._waiting and self._call is None:
            self._begin(self._waiting.popleft())

    def _end_calls(self) -> None:
        for call in self._calls.values():
            call.ended = True
        if self._call is not None:
            self._close()
        self._drain()

    def _close_all(self) -> None:
        self._end_calls()
        self._close()

    def _finish(self) -> None:
        self._over = True
        self._start("")
        self._close_all()
        if not self._delta_written:
            delta = write_stop(self._reason, self._refused)
            ending = {"type": "message_delta", "delta": delta, "usage": write_usage(self._usage)}
            self._out.append(sse.write(wire_json.dumps(ending), "message_delta"))
        self._out.append(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


def _value(source: bytes) -> dict[str, Json]:
    data = sse.parse(source).data
    try:
        value = wire_json.loads(data) if data else None
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class WholeWriter(ReplyWriter):
    content_type = "application/json"

    def __init__(self, context: ReplyContext) -> None:
        self._context = context
        self._same = context.backend_protocol == NAME
        self._id = ""
        self._usage = Usage()
        self._reason = Reason("stop")
        self._refused = False
        self._blocks: list[dict[str, Json]] = []
        self._kind: str | None = None
        self._pieces: list[str] = []
        self._calls: dict[int, tuple[ToolCallStarted, dict[str, Json], list[str]]] = {}

    def write(self, frame: Frame) -> bytes:
        if self._same and frame.source and not frame.edited:
            return self._pass(frame)
        for event in frame.events:
            match event:
                case Finished():
                    return wire_json.dumps(self._message())
                case Failed(error=error):
                    return wire_json.dumps(write_error(error))
                case Started(id=id_):
                    self._id = id_ if self._same else ""
                case Used(usage=usage):
                    self._usage = usage
                case _ if not event.choice:
                    self._event(event)
        return b""

    def _pass(self, frame: Frame) -> bytes:
        if not self._context.rename or not isinstance(frame.events[0], Started):
            return frame.source
        return wire_json.dumps({**wire_json.loads(frame.source), "model": self._context.model})

    def _event(self, event: Event) -> None:
        match event:
            case TextDelta(text=text) if text:
                self._add("text", text)
            case RefusalDelta(text=text) if text:
                self._refused = True
                self._add("text", text)
            case ThinkingDelta(text=text) if text:
                self._add("thinking", text)
            case ThinkingEnded():
                self._end_thinking(event)
            case ToolCallStarted(slot=slot):
                block = _call_block(event, self._context)
                self._calls[slot] = (event, block, [])
                self._place(block)
            case ToolCallDelta(slot=slot, arguments=arguments) if slot in self._calls:
                self._calls[slot][2].append(arguments)
            case Cited() if self._kind == "text" and (citation := write_citation(event)) is not None:
                self._blocks[-1].setdefault("citations", []).append(citation)
            case Foreign(origin=origin, json=block) if origin == NAME and isinstance(block, dict):
                self._place(block)
            case Ended(reason=reason):
                self._reason = reason

    def _add(self, kind: str, text: str) -> None:
        if self._kind != kind or "citations" in self._blocks[-1]:
            self._place(dict(_SEEDS[kind]))
            self._kind = kind
        self._pieces.append(text)

    def _place(self, block: dict[str, Json]) -> None:
        self._close()
        self._blocks.append(block)

    def _close(self, signature: str | None = None) -> None:
        if self._kind is not None:
            self._blocks[-1][self._kind] = "".join(self._pieces)
        if self._kind == "thinking":
            self._blocks[-1]["signature"] = unsigned(self._context) if signature is None else signature
        self._kind = None
        self._pieces = []

    def _end_thinking(self, event: ThinkingEnded) -> None:
        if event.origin == NAME and event.redacted is not None:
            self._place({"type": "redacted_thinking", "data": event.redacted})
        elif self._kind == "thinking":
            self._close(write_signature(event))
        elif event.signature or event.redacted:
            self._place({**_SEEDS["thinking"], "signature": write_signature(event)})

    def _message(self) -> dict[str, Json]:
        self._close()
        for started, block, pieces in self._calls.values():
            block["input"] = arguments_object("".join(pieces), started.custom)
        message = empty_message(self._context, self._id, self._usage)
        return {**message, "content": self._blocks, **write_stop(self._reason, self._refused)}
