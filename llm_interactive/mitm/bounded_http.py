"""Bounds that mitmproxy (12.2) does not set in HTTP/1. A head, or the line before a chunk, that never ends would be
kept for ever, as would what a client sends before its turn; a client could send one byte a minute; half a head, or
one that cannot be read, is written to the log, with the keys in it; and trailers behind a chunked body stop the
connection's whole machinery.
"""

import time

from h11._receivebuffer import ReceiveBuffer
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpLayer,
    HttpStream,
    RequestEndOfMessage,
    RequestProtocolError,
    ResponseEndOfMessage,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Connection, Http1Server, make_error_response

MAX_UNREAD = 256 * 1024
"""Bytes of a head, of a line, or of what comes before its turn."""

TOO_LONG = f"more than {MAX_UNREAD >> 10} KiB of headers, or a line without end"
TOO_SLOW = "the request did not come in time"

type Commands = layer.CommandGenerator[None]


class BoundedHttpLayer(HttpLayer):
    head_seconds = 60.0
    request_seconds = 600.0
    """From a request's first byte to the end of its head, and to its own end."""

    _began: float | None = None
    """When the first byte came of a request that is not whole yet."""
    _alarm: commands.RequestWakeup | None = None

    def is_bounded(self, stream: HttpStream) -> bool:
        """Whether this stream's request must be whole in time."""
        return True

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup) and event.command is self._alarm:
            self.command_sources.pop(event.command, None)
            self._alarm = None
            yield from self._look_at_the_clock()
            return
        connection = event.connection if isinstance(event, events.ConnectionEvent) else None
        if isinstance(event, events.ConnectionClosed):
            self._forget_half_a_head(event.connection)
        http1 = self._http1(event.connection) if isinstance(event, events.DataReceived) else None
        try:
            if http1 is not None and http1.state == http1.read_headers:
                for command in super()._handle_event(event):
                    yield _without_bytes(command)
            else:
                yield from super()._handle_event(event)
        except NotImplementedError:  # trailers
            if connection is None or (http1 := self._http1(connection)) is None:
                raise
            yield from self._end_message(http1)
        if isinstance(event, events.DataReceived):
            http1 = self._http1(event.connection)
            if http1 is not None and len(http1.buf) > MAX_UNREAD:
                yield from self._stop(http1, 431, TOO_LONG)
            if event.connection is self.context.client:
                yield from self._look_at_the_clock()

    def _look_at_the_clock(self) -> Commands:
        http1 = self._http1(self.context.client)
        limit = self._limit(http1) if isinstance(http1, Http1Server) else None
        if http1 is None or limit is None:
            self._began = None
            return
        now = time.monotonic()
        self._began = self._began or now
        left = self._began + limit - now
        if left <= 0:
            yield from self._stop(http1, 408, TOO_SLOW)
        elif self._alarm is None:
            self._alarm = commands.RequestWakeup(min(left, self.head_seconds))
            yield self._alarm

    def _limit(self, http1: Http1Server) -> float | None:
        """Seconds that the request may take. None: there is none under way, or it may take its time."""
        if http1.state == http1.read_headers:
            return self.head_seconds if http1.buf else None
        stream = self.streams.get(http1.stream_id)
        if http1.state == http1.read_body and stream is not None and self.is_bounded(stream):
            return self.request_seconds
        return None

    def _http1(self, connection: Connection) -> Http1Connection | None:
        """What reads a connection: below TLS and the like, once it is established."""
        found: layer.Layer | None = self.connections.get(connection)
        while found is not None and not isinstance(found, Http1Connection):
            found = getattr(found, "child_layer", None)  # layers have it or not; mitmproxy has no type for that
        return found

    def _forget_half_a_head(self, connection: Connection) -> None:
        http1 = self._http1(connection)
        if isinstance(http1, Http1Server) and http1.state == http1.read_headers:
            http1.buf = ReceiveBuffer()

    def _stop(self, http1: Http1Connection, status: int, words: str) -> Commands:
        http1.buf = ReceiveBuffer()
        if isinstance(http1, Http1Server) and http1.state in (http1.read_headers, http1.read_body):
            yield commands.SendData(http1.conn, make_error_response(status, words))
        http1.state = http1.done
        yield commands.CloseConnection(http1.conn)
        stream = self.streams.get(http1.stream_id) if http1.stream_id is not None else None
        if stream is None:
            return
        if isinstance(http1, Http1Server):
            gone = RequestProtocolError(stream.stream_id, words, ErrorCode.CLIENT_DISCONNECTED)
            yield from self.event_to_child(stream, gone)
        else:
            broken = ResponseProtocolError(stream.stream_id, words, ErrorCode.GENERIC_SERVER_ERROR)
            yield from self.event_to_child(stream, broken)

    def _end_message(self, http1: Http1Connection) -> Commands:
        """As if there had been no trailers."""
        assert http1.stream_id is not None
        stream = self.streams.get(http1.stream_id)
        if isinstance(http1, Http1Server):
            http1.request_done = True
            http1.state = http1.wait
            if stream is not None:
                yield from self.event_to_child(stream, RequestEndOfMessage(stream.stream_id))
        else:
            http1.state = http1.done
            yield commands.CloseConnection(http1.conn)
            if stream is not None:
                yield from self.event_to_child(stream, ResponseEndOfMessage(stream.stream_id))


def _without_bytes(command: commands.Command) -> commands.Command:
    """mitmproxy logs what it cannot read."""
    if isinstance(command, commands.Log):
        return commands.Log(command.message.partition(": b'")[0].partition(': b"')[0], command.level)
    return command
