"""A client on a bare socket: sends bytes as they are, and reads a reply as it arrives.

`exchange(port, request("POST", "/v1/messages", body=...))` for one request; `WireClient` to act in between.
"""

import json
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import h11

READ_SIZE = 65_536


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the body that came in one read."""

    data: bytes
    at: float
    """Seconds since the client connected; only good for putting arrivals in order."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    pieces: tuple[Piece, ...]
    complete: bool
    """Whether the body ended as HTTP says it must."""

    @property
    def body(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


def request(
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | dict[str, Any] = b"",
    host: str = "127.0.0.1",
) -> bytes:
    """The bytes of a request; a dictionary becomes JSON."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    own = {"host": host} | ({"content-type": "application/json"} if isinstance(body, dict) else {})
    length = {"content-length": str(len(data))} if data or method in ("POST", "PUT") else {}
    lines = [f"{name}: {value}\r\n" for name, value in (own | length | dict(headers or {})).items()]
    return f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + data


class WireClient:
    def __init__(
        self, port: int, *, host: str = "127.0.0.1", timeout: float = 10, tls: ssl.SSLContext | None = None
    ) -> None:
        plain = socket.create_connection((host, port), timeout)
        self.socket = tls.wrap_socket(plain, server_hostname=host) if tls else plain
        self.received = bytearray()
        """Everything that came, framing included."""
        self.was_reset = False
        """Whether the other side closed with TCP RST."""
        self._since = time.monotonic()
        self._http = h11.Connection(h11.CLIENT)
        self._asked = False

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_head(self) -> h11.Response:
        """Skips informational responses."""
        self._expect()
        event = self._next()
        while isinstance(event, h11.InformationalResponse):
            event = self._next()
        assert isinstance(event, h11.Response), f"no response head: {bytes(self.received)!r}"
        return event

    def pieces(self) -> Iterator[Piece]:
        """The body's pieces as they come; ends quietly where the body ends, well or badly."""
        while isinstance(event := self._next(), h11.Data):
            if event.data:
                yield Piece(bytes(event.data), time.monotonic() - self._since)

    def read_answer(self) -> Answer:
        head = self.read_head()
        headers = tuple((name.decode(), value.decode("latin-1")) for name, value in head.headers)
        pieces = tuple(self.pieces())
        complete = self._http.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
        return Answer(head.status_code, headers, pieces, complete)

    def rest(self) -> bytes:
        """What still comes until the other side closes: must be nothing after a whole answer."""
        ahead, _ = self._http.trailing_data
        rest = bytearray(ahead)
        while data := self._receive():
            rest += data
        return bytes(rest)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Closes with TCP RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _expect(self) -> None:
        """Readies the parser for the reply to whatever was sent (h11 wants to know of a request first)."""
        if self._asked:
            self._http.start_next_cycle()
        self._asked = True
        self._http.send(h11.Request(method="GET", target="/", headers=[("host", "unused")]))
        self._http.send(h11.EndOfMessage())

    def _next(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(self._receive())
        except h11.RemoteProtocolError as error:
            return error
        return event

    def _receive(self) -> bytes:
        try:
            data = self.socket.recv(READ_SIZE)
        except ConnectionResetError:
            self.was_reset = True
            return b""
        self.received += data
        return data


def exchange(port: int, data: bytes, *, timeout: float = 10) -> Answer:
    """Sends these bytes on a connection of their own and reads one answer."""
    with WireClient(port, timeout=timeout) as client:
        client.send(data)
        return client.read_answer()
