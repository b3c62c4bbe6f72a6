"""An HTTP/2 client on one TLS connection, for what `httpx` does not do: it resets streams, and sees resets."""

import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.errors
import h2.events

READ_SIZE = 65_536


def decoded(headers: Iterable[tuple[str | bytes, str | bytes]]) -> tuple[tuple[str, str], ...]:
    """As h2 gives them with `header_encoding`, where its types say either."""
    return tuple((str(name), str(value)) for name, value in headers)


@dataclass(slots=True)
class Stream:
    """What has come of one reply so far."""

    id: int
    headers: tuple[tuple[str, str], ...] = ()
    pieces: list[bytes] = field(default_factory=list)
    ended: bool = False
    reset_code: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.headers)[":status"])

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


class Http2Client:
    """`through`: an HTTP proxy's port on loopback, to which CONNECT is said first."""

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext,
        *,
        host: str = "127.0.0.1",
        through: int | None = None,
        timeout: float = 10,
    ) -> None:
        tls.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", through or port), timeout)
        if through:
            plain.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
            answer = plain.recv(READ_SIZE)
            assert b" 200 " in answer, answer
        self.authority = host if port == 443 else f"{host}:{port}"
        self.socket = tls.wrap_socket(plain, server_hostname=host)
        assert self.socket.selected_alpn_protocol() == "h2", "the server does not speak HTTP/2"
        self.streams: dict[int, Stream] = {}
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.http.initiate_connection()
        self._flush()

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Stream:
        """Sends a request and does not wait; the body must fit the first window (64 KiB)."""
        stream = Stream(self.http.get_next_available_stream_id())
        self.streams[stream.id] = stream
        pseudo = {":method": method, ":path": path, ":scheme": "https", ":authority": self.authority}
        self.http.send_headers(stream.id, [*pseudo.items(), *(headers or {}).items()], end_stream=not body)
        if body:
            self.http.send_data(stream.id, body, end_stream=True)
        self._flush()
        return stream

    def begin(self, method: str, path: str, piece: bytes = b"") -> Stream:
        """Sends the beginning of a request."""
        stream = Stream(self.http.get_next_available_stream_id())
        self.streams[stream.id] = stream
        pseudo = {":method": method, ":path": path, ":scheme": "https", ":authority": self.authority}
        self.http.send_headers(stream.id, [*pseudo.items()])
        if piece:
            self.http.send_data(stream.id, piece)
        self._flush()
        return stream

    def read_piece(self, stream: Stream) -> bytes:
        """The next piece of its body; empty at its end."""
        seen = len(stream.pieces)
        while len(stream.pieces) == seen and not stream.ended:
            self._read()
        return stream.pieces[seen] if len(stream.pieces) > seen else b""

    def read(self, stream: Stream) -> Stream:
        """Until its end, or its reset."""
        while not stream.ended:
            self._read()
        return stream

    def cancel(self, stream: Stream) -> None:
        self.http.reset_stream(stream.id, h2.errors.ErrorCodes.CANCEL)
        self._flush()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _read(self) -> None:
        data = self.socket.recv(READ_SIZE)
        assert data, "the server closed the connection"
        for event in self.http.receive_data(data):
            self._saw(event)
        self._flush()

    def _saw(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.streams[event.stream_id].headers = decoded(event.headers)
            case h2.events.DataReceived():
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if event.data:
                    self.streams[event.stream_id].pieces.append(event.data)
            case h2.events.StreamEnded():
                self.streams[event.stream_id].ended = True
            case h2.events.StreamReset():
                stream = self.streams[event.stream_id]
                stream.ended, stream.reset_code = True, int(event.error_code)

    def _flush(self) -> None:
        self.socket.sendall(self.http.data_to_send())
