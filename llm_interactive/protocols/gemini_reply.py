"""generateContent replies read: SSE chunks, pieces of a JSON array or one object -> canonical events.

Whether a stream is SSE or JSON is seen from its first byte (TRAPS T78). Gemini names no end: the body's end is one, if
a reason to finish was told; the reason is held back till then, since some models repeat it with every chunk.
"""

import hashlib
import re
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
    LogProbs,
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
from llm_interactive.protocols import gemini_errors
from llm_interactive.protocols.base import Json, ReplyReader
from llm_interactive.protocols.gemini_chunks import ObjectSplitter, object_in
from llm_interactive.protocols.gemini_errors import NAME
from llm_interactive.protocols.gemini_partial import PartialArguments

REASONS: dict[str, UnifiedReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
    "MALFORMED_RESPONSE": "error",
    "LANGUAGE": "other",
    "OTHER": "other",
    "IMAGE_OTHER": "other",
    "NO_IMAGE": "other",
    "ESCALATION": "other",
    "CONTINUATION": "other",
    "PUP_LIMITED_DISABLED": "other",
}
NUMBERS = (
    "FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "LANGUAGE", "BLOCKLIST",
    "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY",
)  # fmt: skip
"""What the reasons are called that come as numbers (`enum-encoding=int`)."""

ANSWER_KEYS = ("candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId")


def read_usage(usage: dict[str, Json]) -> Usage | None:
    """Thoughts are counted beside the answer (TRAPS T86), cached tokens inside the prompt (T84), and beside it what
    Google's own tools gave the model to read."""
    names = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount")
    read, answer, thoughts, cached = (v if isinstance(v := usage.get(name), int) else None for name in names)
    if read is None and answer is None and thoughts is None:
        return None
    tools = usage.get("toolUsePromptTokenCount")
    if read is not None and isinstance(tools, int):
        read += tools
    output = None if answer is None and thoughts is None else (answer or 0) + (thoughts or 0)
    return Usage(read, output, cached, None, thoughts, raw=usage, origin=NAME)


class _Candidate:
    """What has been read of one candidate."""

    __slots__ = ("ascii", "calls", "cited", "partial", "reason", "slot")

    def __init__(self) -> None:
        self.slot = -1
        self.partial: PartialArguments | None = None
        self.reason: Reason | None = None
        self.ascii = True
        self.cited: set[tuple[Any, ...]] = set()
        self.calls: set[str] = set()


class _Decoder:
    def __init__(self) -> None:
        self.started = False
        self.failed = False
        self._response_id = ""
        self._candidates: dict[int, _Candidate] = {}

    def read(self, data: bytes) -> tuple[Event, ...]:
        """Events of one chunk; of none that is no chunk."""
        if self.failed:
            return ()
        try:
            chunk = wire_json.loads(data)
        except ValueError:
            return ()
        if data.count(b"{") + data.count(b"[") > wire_json.MAX_DEPTH and wire_json.depth_exceeds(chunk):
            self.failed = True
            return (Failed(UpstreamError("the provider's reply is nested too deeply")),)
        chunks = chunk if isinstance(chunk, list) else [chunk]
        return tuple(event for inner in chunks for event in self._chunk(inner))

    def _chunk(self, chunk: Json) -> tuple[Event, ...]:
        if not isinstance(chunk, dict) or self.failed:
            return ()
        if chunk.get("error"):
            self.failed = True
            return (Failed(gemini_errors.error_of_chunk(chunk["error"])),)
        if not any(key in chunk for key in ANSWER_KEYS):
            return ()
        events: list[Event] = [] if self.started else [self._start(chunk)]
        self._read(chunk, events)
        return tuple(events)

    def _start(self, chunk: dict[str, Json]) -> Started:
        self.started = True
        self._response_id = str(chunk.get("responseId") or "")
        return Started(self._response_id, str(chunk.get("modelVersion") or ""))

    def _read(self, chunk: dict[str, Json], events: list[Event]) -> None:
        candidates = chunk.get("candidates")
        for position, candidate in enumerate(candidates if isinstance(candidates, list) else ()):
            if isinstance(candidate, dict):
                index = candidate.get("index")
                number = index if isinstance(index, int) and index >= 0 else position
                self._candidate(candidate, number, self._candidates.setdefault(number, _Candidate()), events)
        match chunk.get("promptFeedback"):
            case {"blockReason": blocked} as feedback if blocked:
                state = self._candidates.setdefault(0, _Candidate())
                state.reason = Reason("content_filter", str(blocked), NAME, details=feedback)  # T99
        usage = chunk.get("usageMetadata")
        if isinstance(usage, dict) and (read := read_usage(usage)) is not None:
            events.append(Used(read))

    def _candidate(self, candidate: dict[str, Json], number: int, state: _Candidate, events: list[Event]) -> None:
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None  # T100: content may be empty
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                self._part(part, number, state, events)
        if "logprobsResult" in candidate and (tokens := _read_logprobs(candidate["logprobsResult"])):
            events.append(LogProbs(tokens, number))
        for key in ("citationMetadata", "groundingMetadata"):
            if isinstance(candidate.get(key), dict):
                _read_citations(candidate[key], number, state, events)
        reason = candidate.get("finishReason")
        if reason not in (None, "", 0, "0", NUMBERS[0]):
            state.reason = _read_reason(reason, candidate.get("finishMessage"))

    def _part(self, part: dict[str, Json], number: int, state: _Candidate, events: list[Event]) -> None:
        text, signature = part.get("text"), part.get("thoughtSignature")
        signature = signature if isinstance(signature, str) and signature else None
        if isinstance(part.get("functionCall"), dict):
            self._call(part, part["functionCall"], signature, number, state, events)
            return
        if isinstance(text, str):
            if text and part.get("thought") is True:
                events.append(ThinkingDelta(text, number))
            elif text:
                state.ascii = state.ascii and text.isascii()
                events.append(TextDelta(text, number))
        else:
            kind = next((key for key in part if key not in ("thought", "thoughtSignature", "partMetadata")), None)
            if kind is not None:
                events.append(Foreign(NAME, kind, part, number))
                return
        if signature is not None:
            events.append(ThinkingEnded(NAME, signature, choice=number))

    def _call(
        self,
        part: dict[str, Json],
        call: dict[str, Json],
        signature: str | None,
        number: int,
        state: _Candidate,
        events: list[Event],
    ) -> None:
        """A whole call, or a piece of one whose arguments are streamed (`partialArgs`, `willContinue`)."""
        name = call.get("name")
        if (isinstance(name, str) and name) or state.partial is None:
            self._close(number, state, events)
            state.slot += 1
            id_ = self._call_id(part, call, number, state)
            events.append(ToolCallStarted(state.slot, id_, str(name or ""), signature, choice=number))
            state.partial = PartialArguments()
        state.partial.add(call.get("args"), call.get("partialArgs"))
        if call.get("willContinue") is not True:
            self._close(number, state, events)

    def _close(self, number: int, state: _Candidate, events: list[Event]) -> None:
        if state.partial is None:
            return
        events.append(ToolCallDelta(state.slot, state.partial.json(), number))
        events.append(ToolCallEnded(state.slot, number))
        state.partial = None

    def _call_id(self, part: dict[str, Json], call: dict[str, Json], number: int, state: _Candidate) -> str:
        """The provider's, or one that no other call of any turn has (TRAPS T13, T14)."""
        id_ = call.get("id")
        if not isinstance(id_, str) or not id_ or id_ in state.calls:
            unique = re.sub(r"[^a-zA-Z0-9_-]", "", self._response_id)
            unique = unique or hashlib.sha256(repr(part).encode("utf-8", "surrogatepass")).hexdigest()[:16]
            id_ = f"call_{unique[:26]}_{number}_{state.slot}"
        state.calls.add(id_)
        return id_

    def end(self, whole: bool) -> tuple[Event, ...]:
        """The body has ended: what was held back, if the answer is complete (a whole reply always is)."""
        if self.failed:
            return ()
        if not self._candidates and whole:
            self._candidates[0] = _Candidate()
        states = sorted(self._candidates.items())
        events: list[Event] = []
        for number, state in states:
            self._close(number, state, events)
        if not states or (not whole and any(state.reason is None for _, state in states)):
            self.failed = True
            return (*events, Failed(UpstreamError("the provider's stream ended before the answer was complete")))
        events += [Ended(_final(state), number) for number, state in states]
        return (*events, Finished())


def _final(state: _Candidate) -> Reason:
    """Calls are told as STOP too, in whatever chunk they came (TRAPS T16); nothing else is overridden."""
    called = state.slot >= 0
    if state.reason is None:
        return Reason("tool_calls" if called else "other", None, NAME)
    if called and state.reason.unified == "stop":
        return Reason("tool_calls", state.reason.raw, NAME, details=state.reason.details)
    return state.reason


def _read_reason(reason: Json, message: Json) -> Reason:
    word = str(reason)
    if word.isdecimal() and int(word) < len(NUMBERS):
        word = NUMBERS[int(word)]
    return Reason(REASONS.get(word, "other"), word, NAME, details={"finishMessage": message} if message else None)


def _read_logprobs(result: Json) -> tuple[Json, ...]:
    if not isinstance(result, dict):
        return ()
    chosen, tops = result.get("chosenCandidates"), result.get("topCandidates")
    chosen, tops = (value if isinstance(value, list) else [] for value in (chosen, tops))
    tokens = []
    for position, token in enumerate(chosen):
        if not isinstance(token, dict):
            continue
        top = tops[position] if position < len(tops) else None
        others = top.get("candidates") if isinstance(top, dict) else None
        others = others if isinstance(others, list) else []
        read = _token(token)
        tokens.append({**read, "top_logprobs": [_token(other) for other in others if isinstance(other, dict)]})
    return tuple(tokens)


def _token(token: dict[str, Json]) -> dict[str, Json]:
    text = str(token.get("token") or "")
    logprob = token.get("logProbability")
    return {
        "token": text,
        "logprob": logprob if isinstance(logprob, (int, float)) else 0.0,
        "bytes": list(text.encode("utf-8", "surrogatepass")),
    }


def _read_citations(metadata: dict[str, Json], number: int, state: _Candidate, events: list[Event]) -> None:
    """Each source once, however often the stream repeats it; one event for each (TRAPS T82)."""
    for source, segment in _sources(metadata):
        url, title = source.get("uri"), source.get("title")
        start, end = _offsets(segment, state.ascii)
        key = (str(url), str(title), start, end)
        if key in state.cited:
            continue
        state.cited.add(key)
        events.append(
            Cited(
                url=url if isinstance(url, str) else None,
                title=title if isinstance(title, str) else None,
                start=start,
                end=end,
                origin=NAME,
                json=source,
                choice=number,
            )
        )


def _offsets(segment: dict[str, Json], plain: bool) -> tuple[int | None, int | None]:
    """Gemini counts bytes: the same as characters only where all text so far is ASCII."""
    start, end = segment.get("startIndex"), segment.get("endIndex")
    if not plain or not isinstance(end, int):
        return None, None
    return (start if isinstance(start, int) else 0), end


def _sources(metadata: dict[str, Json]) -> list[tuple[dict[str, Json], dict[str, Json]]]:
    """(source, segment of the text) of both kinds of metadata; sources that no segment names stand alone."""
    found: list[tuple[dict[str, Json], dict[str, Json]]] = []
    for citation in _dicts(metadata.get("citations")) + _dicts(metadata.get("citationSources")):
        found.append((citation, citation))
    chunks = [
        next((inner for key in ("web", "retrievedContext", "maps") if isinstance(inner := chunk.get(key), dict)), {})
        for chunk in _dicts(metadata.get("groundingChunks"))
    ]
    named: set[int] = set()
    for support in _dicts(metadata.get("groundingSupports")):
        segment, indices = support.get("segment"), support.get("groundingChunkIndices")
        for index in indices if isinstance(indices, list) else ():
            if isinstance(index, int) and 0 <= index < len(chunks) and chunks[index]:
                named.add(index)
                found.append((chunks[index], segment if isinstance(segment, dict) else {}))
    return found + [(chunk, {}) for index, chunk in enumerate(chunks) if chunk and index not in named]


def _dicts(value: Json) -> list[dict[str, Json]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


class StreamReader(ReplyReader):
    def __init__(self) -> None:
        self._decoder = _Decoder()
        self._head = b""
        self._sse: sse.Splitter | None = None
        self._objects: ObjectSplitter | None = None
        self._garbage = b""
        self._endless = False

    def feed(self, data: bytes) -> list[Frame]:
        if self._sse is None and self._objects is None:
            data = self._head + data
            first = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
            if not first or first == b"\xef":
                self._head = data
                return []
            self._head = b""
            if first in b"[{":
                self._objects = ObjectSplitter()
            else:
                self._sse = sse.Splitter()
        if self._endless:
            return [Frame(data)]
        try:
            return self._split(data)
        except UpstreamError as error:
            self._decoder.failed = self._endless = True
            return [Frame(b"", (Failed(error),))]

    def _split(self, data: bytes) -> list[Frame]:
        if self._objects is not None:
            return [Frame(piece, self._decoder.read(object_in(piece))) for piece in self._objects.feed(data)]
        return [self._frame(event) for event in self._sse.feed(data)] if self._sse is not None else []

    def _frame(self, event: sse.ServerSentEvent) -> Frame:
        data = event.data
        if data is None:
            data = event.raw.strip()  # an error may stand between events as bare JSON
            if not data.startswith((b"{", b"[")):
                self._garbage = (self._garbage + event.raw)[: gemini_errors.MAX_MESSAGE]
                return Frame(event.raw)
        return Frame(event.raw, self._decoder.read(data))

    def finish(self) -> list[Frame]:
        frames = [self._frame(event) for event in self._sse.flush()] if self._sse is not None else []
        rest = self._head
        if self._objects is not None:
            rest = self._objects.flush()
        if not self._decoder.started and not self._decoder.failed:
            self._decoder.failed = True
            return [*frames, Frame(rest, (Failed(gemini_errors.no_answer(self._garbage or rest)),))]
        events = self._decoder.end(whole=False)
        return [*frames, Frame(rest, events)] if events or rest else frames


class WholeReader(ReplyReader):
    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._body += data
        return []

    def finish(self) -> list[Frame]:
        body = bytes(self._body)
        decoder = _Decoder()
        events = decoder.read(body.removeprefix(b"\xef\xbb\xbf"))
        if not decoder.started and not decoder.failed:
            return [Frame(body, (Failed(gemini_errors.no_answer(body)),))]
        return [Frame(body, (*events, *decoder.end(whole=True)))]
