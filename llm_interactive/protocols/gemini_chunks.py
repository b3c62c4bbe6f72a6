"""A JSON array of objects (or objects one after another) that arrives in pieces, split into its objects.

This is Gemini's stream without `alt=sse` (TRAPS T78). Bytes between objects belong to the object after them, so that
the pieces are the same however the stream is cut and put together they are the body.
"""

import re

from llm_interactive.errors import UpstreamError
from llm_interactive.sse import MAX_EVENT_BYTES

_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


class ObjectSplitter:
    __slots__ = ("_buffer", "_depth", "_in_string", "_position")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> list[bytes]:
        """The objects that are complete, each with what stood before it."""
        self._buffer += data
        pieces: list[bytes] = []
        buffer, start = self._buffer, 0
        while match := (_INSIDE if self._in_string else _OUTSIDE).search(buffer, self._position):
            self._position = match.end()
            token = match.group()
            if token == b"\\":
                self._position += 1
            elif token == b'"':
                self._in_string = not self._in_string
            elif token == b"{":
                self._depth += 1
            elif self._depth:
                self._depth -= 1
                if not self._depth:
                    pieces.append(bytes(buffer[start : self._position]))
                    start = self._position
        self._position = max(self._position, len(buffer)) - start
        del buffer[:start]
        if len(buffer) > MAX_EVENT_BYTES:
            raise UpstreamError("the provider sent an object that never ends")
        return pieces

    def flush(self) -> bytes:
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._position = self._depth = 0
        self._in_string = False
        return rest


def object_in(piece: bytes) -> bytes:
    """A piece without what stands before its object."""
    start = piece.find(b"{")
    return piece[start:] if start >= 0 else b""
