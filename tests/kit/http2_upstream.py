"""HTTP/2 as an `Upstream` speaks it: one connection, its streams at the same time, flow control respected."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from kit.exchange import End, Exchange, Request, play
from kit.http1_upstream import READ_SIZE, reset
from kit.http2_client import decoded
from kit.replies import Fault, Instead, Reply


@dataclass(slots=True)
class Incoming:
    headers: tuple[tuple[str, str], ...]
    body: bytearray


@dataclass(slots=True)
class Playing:
    exchange: Exchange
    task: asyncio.Task[None]


class Http2Connection:
    def __init__(
        self,
        number: int,
        opened: Callable[[Request], tuple[Exchange, Reply | Instead]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.number = number
        self.opened = opened
        self.reader = reader
        self.writer = writer
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.window = asyncio.Event()
        """Set whenever a window may have grown."""
        self.incoming: dict[int, Incoming] = {}
        self.playing: dict[int, Playing] = {}

    async def serve(self) -> None:
        self.http.initiate_connection()
        try:
            await self.flush()
            while data := await self.reader.read(READ_SIZE):
                for event in self.http.receive_data(data):
                    self.saw(event)
                await self.flush()
        except (h2.exceptions.ProtocolError, OSError):
            pass
        finally:
            for playing in self.playing.values():
                playing.exchange.ended(End.CANCELLED)
                playing.task.cancel()
            await asyncio.gather(*(playing.task for playing in self.playing.values()), return_exceptions=True)

    def saw(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self.incoming[event.stream_id] = Incoming(decoded(event.headers), bytearray())
            case h2.events.DataReceived():
                self.incoming[event.stream_id].body += event.data
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.begin(event.stream_id)
            case h2.events.StreamReset():
                self.incoming.pop(event.stream_id, None)
                if playing := self.playing.pop(event.stream_id, None):
                    playing.exchange.ended(End.CANCELLED, int(event.error_code))
                    playing.task.cancel()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self.window.set()

    def begin(self, stream: int) -> None:
        incoming = self.incoming.pop(stream)
        pseudo = {name: value for name, value in incoming.headers if name.startswith(":")}
        request = Request(
            method=pseudo[":method"],
            path=pseudo[":path"],
            headers=tuple((name, value) for name, value in incoming.headers if not name.startswith(":")),
            body=bytes(incoming.body),
            http_version="2",
            host=pseudo.get(":authority", ""),
            connection=self.number,
        )
        exchange, reply = self.opened(request)
        task = asyncio.get_running_loop().create_task(self.reply(reply, stream, exchange))
        self.playing[stream] = Playing(exchange, task)

    async def reply(self, reply: Reply | Instead, stream: int, exchange: Exchange) -> None:
        try:
            await play(reply, Http2Channel(self, stream), exchange)
        except (h2.exceptions.ProtocolError, OSError):
            exchange.ended(End.CANCELLED)
        finally:
            self.playing.pop(stream, None)

    async def flush(self) -> None:
        self.writer.write(self.http.data_to_send())
        await self.writer.drain()


@dataclass(frozen=True, slots=True)
class Http2Channel:
    connection: Http2Connection
    stream: int

    async def send_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.connection.http.send_headers(
            self.stream, [(":status", str(status)), *((name.lower(), value) for name, value in headers)]
        )
        await self.connection.flush()

    async def send_data(self, data: bytes) -> None:
        http = self.connection.http
        while data:
            room = min(http.local_flow_control_window(self.stream), http.max_outbound_frame_size)
            if room <= 0:
                self.connection.window.clear()
                await self.connection.window.wait()
                continue
            http.send_data(self.stream, data[:room])
            data = data[room:]
            await self.connection.flush()

    async def send_end(self) -> None:
        self.connection.http.end_stream(self.stream)
        await self.connection.flush()

    async def send_raw(self, data: bytes) -> None:
        self.connection.writer.write(data)
        await self.connection.writer.drain()

    def fail(self, fault: Fault) -> None:
        match fault:
            case Fault.CLOSE:
                self.connection.writer.close()
            case Fault.RESET_STREAM:
                self.connection.http.reset_stream(self.stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
                self.connection.writer.write(self.connection.http.data_to_send())
            case _:
                reset(self.connection.writer)
