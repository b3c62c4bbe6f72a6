"""generateContent replies written: source bytes go on as they came, other events become chunks or one response.

A stream is SSE, or a JSON array for clients without `alt=sse` (TRAPS T78). Calls are written whole. The reason to
finish, the usage and the sources go with the last chunk; a failure is an error object, which SDKs raise, and nothing
after it.
"""

from typing import Any

from llm_interactive import sse, wire_json
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
from llm_interactive.protocols import gemini_errors
from llm_interactive.protocols.base import Json, ReplyContext, ReplyWriter
from llm_interactive.protocols.foreign_signatures import Hidden, is_base64, wrap
from llm_interactive.protocols.gemini_chunks import object_in
from llm_interactive.protocols.gemini_errors import NAME
from llm_interactive.protocols.gemini_reply import REASONS

WORDS: dict[UnifiedReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "error": "OTHER",
    "other": "OTHER",
}


def write_reason(reason: Reason) -> str:
    if reason.origin == NAME and reason.raw in REASONS:
        return reason.raw
    return WORDS[reason.unified]


def write_usage(usage: Usage) -> dict[str, Json]:
    if usage.origin == NAME and usage.raw is not None:
        return dict(usage.raw)
    thoughts = usage.reasoning or 0
    written = {"promptTokenCount": usage.input or 0}
    if usage.output is not None:
        written["candidatesTokenCount"] = max(0, usage.output - thoughts)
    if thoughts:
        written["thoughtsTokenCount"] = min(thoughts, usage.output if usage.output is not None else thoughts)
    if usage.cached:
        written["cachedContentTokenCount"] = usage.cached
    written["totalTokenCount"] = (usage.input or 0) + (usage.output or 0)
    return written


def write_signature(event: ThinkingEnded) -> str | None:
    """Google's own as it is; another vendor's in a wrapping that comes back to us."""
    if event.origin == NAME:
        return event.signature if event.signature is not None and is_base64(event.signature) else None
    if event.signature is None and event.redacted is None:
        return None
    return wrap(Hidden(event.origin, event.signature, event.redacted, event.item_id))


def signature_part(event: ThinkingEnded) -> dict[str, Json] | None:
    signature = write_signature(event)
    if signature is None:
        return None
    if event.origin == NAME:
        return {"text": "", "thoughtSignature": signature}
    return {"text": "", "thought": True, "thoughtSignature": signature}


def call_part(started: ToolCallStarted, arguments: str, origin: str) -> dict[str, Json]:
    """`args` must be an object: what is none is kept as text (TRAPS T3). A call that Google did not make is marked, so
    that it is known when the client sends it back and the next turn goes to Google (T56)."""
    args: Json = {}
    if arguments.strip():
        try:
            args = {"input": arguments} if started.custom else wire_json.loads(arguments)
        except ValueError:
            args = None
        if not isinstance(args, dict):
            args = {"_raw": arguments}
    part: dict[str, Json] = {"functionCall": {"id": started.id, "name": started.name, "args": args}}
    if started.signature is not None and is_base64(started.signature):
        part["thoughtSignature"] = started.signature
    elif origin != NAME:
        part["thoughtSignature"] = wrap(Hidden(origin))
    return part


def write_logprobs(tokens: tuple[Json, ...]) -> dict[str, Json]:
    def written(token: Json) -> dict[str, Json]:
        return {"token": token.get("token"), "logProbability": token.get("logprob")}

    return {
        "chosenCandidates": [written(token) for token in tokens],
        "topCandidates": [
            {"candidates": [written(top) for top in token.get("top_logprobs") or ()]} for token in tokens
        ],
    }


class _Candidate:
    """What the last chunk must know of a candidate: its open calls, its sources, its end. `ascii`: whether characters
    of its text are bytes, which Gemini counts."""

    __slots__ = ("arguments", "ascii", "calls", "cited", "origin", "reason")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.calls: dict[int, ToolCallStarted] = {}
        self.arguments: dict[int, list[str]] = {}
        self.cited: list[Cited] = []
        self.reason: Reason | None = None
        self.ascii = True

    def call_of(self, slot: int) -> dict[str, Json] | None:
        started = self.calls.pop(slot, None)
        return None if started is None else call_part(started, "".join(self.arguments.pop(slot, ())), self.origin)

    def take(self, event: Event) -> None:
        match event:
            case ToolCallStarted(slot=slot):
                self.calls[slot] = event
            case ToolCallDelta(slot=slot, arguments=arguments):
                self.arguments.setdefault(slot, []).append(arguments)
            case Cited(url=str()):
                self.cited.append(event)
            case Ended(reason=reason):
                self.reason = reason

    def grounding(self) -> dict[str, Json]:
        """Offsets that are not known are left out (TRAPS T82)."""
        if not self.cited:
            return {}
        urls = list(dict.fromkeys(cited.url for cited in self.cited))
        titles = {cited.url: cited.title for cited in self.cited if cited.title}
        chunks = [{"web": {"uri": url, **({"title": titles[url]} if url in titles else {})}} for url in urls]
        supports = [
            {
                "segment": {"startIndex": cited.start, "endIndex": cited.end},
                "groundingChunkIndices": [urls.index(cited.url)],
            }
            for cited in self.cited
            if self.ascii and cited.start is not None and cited.end is not None
        ]
        metadata = {"groundingChunks": chunks} | ({"groundingSupports": supports} if supports else {})
        return {"groundingMetadata": metadata}


class _Reply:
    """Candidates by number, and what belongs to the whole reply."""

    def __init__(self, context: ReplyContext) -> None:
        self.candidates: dict[int, _Candidate] = {}
        self.usage: Usage | None = None
        self._origin = context.backend_protocol
        self.id = context.mint("")
        self.model = context.model

    def candidate(self, number: int) -> _Candidate:
        state = self.candidates.get(number)
        if state is None:
            state = self.candidates[number] = _Candidate(self._origin)
        return state

    def tail(self) -> dict[str, Json]:
        usage = {} if self.usage is None else {"usageMetadata": write_usage(self.usage)}
        return {**usage, "modelVersion": self.model, "responseId": self.id}

    def last_candidate(self, number: int, parts: list[Json]) -> dict[str, Json]:
        state = self.candidate(number)
        return {
            "content": {"parts": parts, "role": "model"},
            "finishReason": "STOP" if state.reason is None else write_reason(state.reason),
            "index": number,
            **state.grounding(),
        }


class StreamWriter(ReplyWriter):
    def __init__(self, context: ReplyContext) -> None:
        self._same = context.backend_protocol == NAME
        self._rename = context.rename
        self._array = context.call.array
        self._reply = _Reply(context)
        self._begun = False
        self._over = False
        self._told_end = False
        """The source said how it finished: nothing is to be added at its end."""
        self.content_type = "application/json; charset=UTF-8" if self._array else "text/event-stream"
        self._tail = self._write_tail()

    def _write_tail(self) -> bytes:
        return b'"modelVersion":%b,"responseId":%b}' % (
            wire_json.dumps(self._reply.model),
            wire_json.dumps(self._reply.id),
        )

    def write(self, frame: Frame) -> bytes:
        if self._over:
            return b""
        if self._same and frame.source and not frame.edited:
            return self._pass(frame)
        return b"".join([self._event(event) for event in frame.events])

    def _pass(self, frame: Frame) -> bytes:
        source = frame.source
        for event in frame.events:
            match event:
                case Started(id=id_) if id_:
                    self._reply.id = id_
                    self._tail = self._write_tail()
                case Used(usage=usage):
                    self._reply.usage = usage
                case Finished() | Failed():
                    self._over = True
        self._told_end = self._told_end or b'"finishReason"' in source or b'"blockReason"' in source
        sent = self._source(source)
        if self._over and not sent.rstrip().endswith(b"]"):
            return sent + self._close()
        return sent

    def _source(self, source: bytes) -> bytes:
        """As it came where the form is the client's and the model's name may stay; else the same JSON framed anew."""
        first = source.lstrip(b"\xef\xbb\xbf \r\n\t")[:1]
        if not self._rename and self._array and first in (b"[", b",", b"]", b""):
            self._begun = self._begun or first == b"["
            return source
        if first in (b"[", b",", b"]", b"{"):
            data: bytes | None = object_in(source)
        elif self._array or self._rename:
            data = sse.parse(source).data
        else:
            return source
        if not data:
            return b""
        try:
            chunk = wire_json.loads(data)
        except ValueError:
            return b""
        if self._rename and isinstance(chunk, dict) and "modelVersion" in chunk:
            chunk["modelVersion"] = self._reply.model
        return self._framed(wire_json.dumps(chunk))

    def _framed(self, chunk: bytes) -> bytes:
        if not self._array:
            return b"data: " + chunk + b"\r\n\r\n"
        opening = b",\r\n" if self._begun else b"["
        self._begun = True
        return opening + chunk

    def _close(self) -> bytes:
        if not self._array:
            return b""
        return b"]" if self._begun else b"[]"

    def _parts(self, parts: bytes, choice: int) -> bytes:
        self._told_end = False  # something after the end needs an end of its own
        head = b'{"candidates":[{"content":{"parts":[%b],"role":"model"},"index":%d}],' % (parts, choice)
        return self._framed(head + self._tail)

    def _event(self, event: Event) -> bytes:
        match event:
            case TextDelta(text=text, choice=choice) | RefusalDelta(text=text, choice=choice):
                state = self._reply.candidate(choice)
                state.ascii = state.ascii and text.isascii()
                return self._parts(b'{"text":' + wire_json.dumps(text) + b"}", choice) if text else b""
            case ThinkingDelta(text=text, choice=choice):
                return self._parts(b'{"text":' + wire_json.dumps(text) + b',"thought":true}', choice) if text else b""
            case ToolCallDelta(choice=choice) | ToolCallStarted(choice=choice) | Cited(choice=choice):
                self._reply.candidate(choice).take(event)
            case Ended(choice=choice):
                self._reply.candidate(choice).take(event)
            case Used(usage=usage):
                self._reply.usage = usage
            case Finished():
                self._over = True
                return (b"" if self._told_end else self._last()) + self._close()
            case Failed(error=error):
                self._over = True
                return self._framed(wire_json.dumps(gemini_errors.write_error(error))) + self._close()  # T79
            case _:
                return self._seldom(event)
        return b""

    def _seldom(self, event: Event) -> bytes:
        part: Json = None
        match event:
            case ToolCallEnded(slot=slot, choice=choice):
                part = self._reply.candidate(choice).call_of(slot)
            case ThinkingEnded(choice=choice):
                part = signature_part(event)
            case Foreign(origin=origin, json=json, choice=choice) if origin == NAME:
                part = json
            case LogProbs(tokens=tokens, choice=choice):
                candidate = {"index": choice, "logprobsResult": write_logprobs(tokens)}
                return self._framed(wire_json.dumps({"candidates": [candidate], **self._names()}))
            case _:
                return b""
        return b"" if part is None else self._parts(wire_json.dumps(part), choice)

    def _names(self) -> dict[str, Json]:
        return {"modelVersion": self._reply.model, "responseId": self._reply.id}

    def _last(self) -> bytes:
        """Calls that nobody ended, then the end of every candidate with the usage."""
        reply = self._reply
        ends = []
        for number in sorted(reply.candidates) or [0]:
            state = reply.candidate(number)
            calls = [state.call_of(slot) for slot in list(state.calls)]
            ends.append(reply.last_candidate(number, calls or [{"text": ""}]))
        return self._framed(wire_json.dumps({"candidates": ends, **reply.tail()}))


class WholeWriter(ReplyWriter):
    content_type = "application/json"

    def __init__(self, context: ReplyContext) -> None:
        self._same = context.backend_protocol == NAME
        self._rename = context.rename
        self._reply = _Reply(context)
        self._parts: dict[int, list[dict[str, Any]]] = {}
        self._slots: dict[tuple[int, int], int] = {}
        self._logprobs: dict[int, list[Json]] = {}

    def write(self, frame: Frame) -> bytes:
        if self._same and frame.source and not frame.edited:
            return self._named(frame.source) if self._rename else frame.source
        for event in frame.events:
            if isinstance(event, Finished):
                return wire_json.dumps(self._response())
            if isinstance(event, Failed):
                return wire_json.dumps(gemini_errors.write_error(event.error))
            self._event(event)
        return b""

    def _named(self, source: bytes) -> bytes:
        try:
            response = wire_json.loads(source)
        except ValueError:
            return source
        if not isinstance(response, dict) or "modelVersion" not in response:
            return source
        return wire_json.dumps({**response, "modelVersion": self._reply.model})

    def _event(self, event: Event) -> None:
        match event:
            case Started(id=id_):
                self._reply.id = id_ if self._same and id_ else self._reply.id
            case Used(usage=usage):
                self._reply.usage = usage
            case Finished() | Failed():
                pass
            case _:
                self._reply.candidate(event.choice).take(event)
                self._add(event, self._parts.setdefault(event.choice, []))

    def _add(self, event: Event, parts: list[dict[str, Any]]) -> None:
        match event:
            case TextDelta(text=text, choice=choice) | RefusalDelta(text=text, choice=choice):
                state = self._reply.candidate(choice)
                state.ascii = state.ascii and text.isascii()
                _append_text(parts, text, {})
            case ThinkingDelta(text=text):
                _append_text(parts, text, {"thought": True})
            case ThinkingEnded():
                _append_signature(parts, event)
            case ToolCallStarted(slot=slot, choice=choice):
                self._slots[choice, slot] = len(parts)
                parts.append({})
            case ToolCallEnded(slot=slot, choice=choice):
                self._end_call(choice, slot)
            case Foreign(origin=origin, json=json) if origin == NAME:
                parts.append(json)
            case LogProbs(tokens=tokens, choice=choice):
                self._logprobs.setdefault(choice, []).extend(tokens)

    def _end_call(self, choice: int, slot: int) -> None:
        part = self._reply.candidate(choice).call_of(slot)
        if part is not None:
            self._parts[choice][self._slots[choice, slot]] = part

    def _response(self) -> dict[str, Json]:
        for choice, slot in self._slots:
            self._end_call(choice, slot)
        candidates = []
        for number in sorted(self._reply.candidates) or [0]:
            written = [
                {**part, "text": "".join(part["text"])} if isinstance(part.get("text"), list) else part
                for part in self._parts.get(number, ())
            ]
            candidate = self._reply.last_candidate(number, written or [{"text": ""}])
            if number in self._logprobs:
                candidate["logprobsResult"] = write_logprobs(tuple(self._logprobs[number]))
            candidates.append(candidate)
        return {"candidates": candidates, **self._reply.tail()}


def _append_text(parts: list[dict[str, Any]], text: str, marks: dict[str, Json]) -> None:
    """To the part before, if it is of the same kind and unsigned; texts are lists of pieces until the end."""
    last = parts[-1] if parts else {}
    if isinstance(last.get("text"), list) and "thoughtSignature" not in last and ("thought" in last) == bool(marks):
        last["text"].append(text)
    elif text:
        parts.append({"text": [text], **marks})


def _append_signature(parts: list[dict[str, Any]], event: ThinkingEnded) -> None:
    """On the part that it belongs to: Google's on text of either kind, another vendor's on a thought."""
    part = signature_part(event)
    if part is None:
        return
    last = parts[-1] if parts else {}
    fits = isinstance(last.get("text"), list) and "thoughtSignature" not in last
    if fits and (event.origin == NAME or "thought" in last):
        last["thoughtSignature"] = part["thoughtSignature"]
    else:
        parts.append(part)
