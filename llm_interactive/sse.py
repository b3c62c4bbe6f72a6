"""Server-sent events on bytes: a splitter that gives the same events however the stream is cut, and a writer.

Lines end in LF, CRLF or CR (also mixed, also cut between CR and LF); nothing else is a line end (TRAPS T76, T77).
An event keeps the bytes it was read from, so that it can be passed on untouched; comments travel with the next event
or as an event of their own without data.
"""

import re
from typing import NamedTuple

from llm_interactive.errors import UpstreamError

MAX_EVENT_BYTES = 64 * 1024 * 1024

_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r(?!\n)|\r\n\r(?!\n)|\n\r\n|\r\n\n|\n\r(?!\n)|\r\r\n")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """`data` is None when the block had no data line (a comment, a ping); `raw` is the whole block with its end."""

    raw: bytes
    data: bytes | None
    name: str | None = None


class Splitter:
    """`feed(data)` gives the events that are complete; `flush()` what stood at the end without an empty line."""

    __slots__ = ("_buffer", "_scanned", "_started")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._started = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        whole = data.endswith(b"\n\n") and not data.endswith(b"\n\n\n") and b"\r" not in data
        if whole and self._started and not self._buffer:
            return [parse(block + b"\n\n") for block in data[:-2].split(b"\n\n")]  # whole events, as most come
        buffer = self._buffer
        buffer += data
        if not self._started and len(buffer) >= len(_BOM):
            self._started = True
            if buffer.startswith(_BOM):
                del buffer[: len(_BOM)]
        events = []
        start, search = 0, self._scanned
        while match := _EVENT_END.search(buffer, search):
            end = match.end()
            if end == len(buffer) and buffer[end - 1] == 0x0D:
                break  # a CR at the very end: its LF may still come
            events.append(parse(bytes(buffer[start:end])))
            start = search = end
        del match
        del buffer[:start]
        self._scanned = max(0, len(buffer) - 3)
        if len(buffer) > MAX_EVENT_BYTES:
            raise UpstreamError("the provider sent an event that never ends")
        return events

    def flush(self) -> list[ServerSentEvent]:
        rest, self._buffer, self._scanned = bytes(self._buffer), bytearray(), 0
        return [parse(rest)] if rest.strip(b"\r\n") else []


def parse(block: bytes) -> ServerSentEvent:
    """One block of lines. The common shapes, `data:` alone or after `event:`, are read without splitting."""
    body = block.rstrip(b"\r\n")
    name: str | None = None
    if body.startswith(b"event: "):
        first, _, rest = body.partition(b"\n")
        if rest.startswith(b"data:") and b"\r" not in first:
            name, body = first[7:].decode("utf-8", "replace"), rest
    if body.startswith(b"data:") and b"\n" not in body and b"\r" not in body:
        return ServerSentEvent(block, body[6:] if body[5:6] == b" " else body[5:], name)
    name = None
    data: list[bytes] = []
    for line in _LINE_END.split(block):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return ServerSentEvent(block, b"\n".join(data) if data else None, name)


def write(data: bytes, name: str | None = None) -> bytes:
    if name is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
