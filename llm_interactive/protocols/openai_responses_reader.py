"""Responses replies read: bytes of a stream or of a whole body -> frames; openai_responses_decoder.py reads events."""

from llm_interactive import sse, wire_json
from llm_interactive.errors import UpstreamError
from llm_interactive.events import Event, Failed, Frame
from llm_interactive.protocols import openai_errors
from llm_interactive.protocols.base import Json, ReplyReader
from llm_interactive.protocols.openai_responses_decoder import NAME, Decoder

ODD_LIMIT = 4 * 1024 * 1024


class StreamReader(ReplyReader):
    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._decoder = Decoder()
        self._odd = bytearray()
        """What came before the first event and is none: perhaps a whole answer, or a page."""
        self._read_any = False

    def feed(self, data: bytes) -> list[Frame]:
        try:
            return self._frames(self._splitter.feed(data))
        except UpstreamError as error:
            return [Frame(b"", self._failed(error))]

    def _frames(self, events: list[sse.ServerSentEvent]) -> list[Frame]:
        frames: list[Frame] = []
        for event in events:
            value = _json(event)
            if value is None and not self._read_any and len(self._odd) < ODD_LIMIT and not _is_comment(event):
                self._odd += event.raw
                continue
            if self._odd:
                frames.append(Frame(bytes(self._odd)))
                self._odd.clear()
            self._read_any = self._read_any or value is not None
            said = self._decoder.event(value, event.name) if isinstance(value, dict) else ()
            frames.append(Frame(event.raw, tuple(said)))
        return frames

    def _failed(self, error: UpstreamError) -> tuple[Event, ...]:
        if self._decoder.over:
            return ()
        self._decoder.over = True
        return (Failed(error),)

    def finish(self) -> list[Frame]:
        frames = self._frames(self._splitter.flush())
        if self._decoder.over:
            return frames
        if self._odd.strip() and not self._read_any:
            self._decoder.over = True
            source = bytes(self._odd)
            return [*frames, Frame(source, _read_whole(source), edited=True)]  # its source is no event stream
        cut = UpstreamError("the provider's stream ended before the answer was complete")  # T80
        return [*frames, Frame(bytes(self._odd), self._failed(cut))]


def _json(event: sse.ServerSentEvent) -> Json:
    if not event.data:
        return None
    try:
        return wire_json.loads(event.data)
    except ValueError:
        return None


def _is_comment(event: sse.ServerSentEvent) -> bool:
    return event.data is None and event.raw.lstrip(b"\r\n").startswith(b":")


class WholeReader(ReplyReader):
    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._body += data
        return []

    def finish(self) -> list[Frame]:
        body = bytes(self._body)
        return [Frame(body, _read_whole(body))]


def _read_whole(body: bytes) -> tuple[Event, ...]:
    try:
        response = wire_json.loads(body)
    except ValueError:
        response = None
    if not isinstance(response, dict) or not ("output" in response or response.get("object") == "response"):
        status = openai_errors.status_of(response.get("error")) if isinstance(response, dict) else 502
        return (Failed(openai_errors.read_error(NAME, status, {}, body)),)
    return tuple(Decoder().whole(response))
