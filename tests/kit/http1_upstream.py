"""HTTP/1.1 as an `Upstream` speaks it: one connection, its requests in turn."""

import asyncio
import socket
import struct
from collections.abc import Callable

import h11
from kit.exchange import End, Exchange, Request, play, until_client_leaves
from kit.replies import Fault, Instead, Reply

READ_SIZE = 65_536


class Http1Connection:
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
        self.http = h11.Connection(h11.SERVER)

    async def serve(self) -> None:
        try:
            while request := await self.read_request():
                exchange, reply = self.opened(request)
                await self.reply(reply, exchange)
                if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
                    return
                self.http.start_next_cycle()
        except (h11.RemoteProtocolError, OSError):
            return  # the client left in the middle of a request

    async def reply(self, reply: Reply | Instead, exchange: Exchange) -> None:
        try:
            await until_client_leaves(play(reply, self, exchange), self.client_leaves())
        except OSError:  # a write found out first
            exchange.ended(End.CANCELLED)
        if self.http.our_state is not h11.DONE:
            exchange.ended(End.CANCELLED)

    async def client_leaves(self) -> None:
        try:
            while data := await self.reader.read(READ_SIZE):
                self.http.receive_data(data)
        except OSError:
            return

    async def read_request(self) -> Request | None:
        head = await self.next_event()
        if not isinstance(head, h11.Request):
            return None
        body = bytearray()
        while isinstance(event := await self.next_event(), h11.Data):
            body += event.data
        headers = tuple((name.decode(), value.decode("latin-1")) for name, value in head.headers)
        return Request(
            method=head.method.decode(),
            path=head.target.decode(),
            headers=headers,
            body=bytes(body),
            http_version=head.http_version.decode(),
            host=dict(headers).get("host", ""),
            connection=self.number,
        )

    async def next_event(self) -> object:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.reader.read(READ_SIZE))
        return event

    async def send_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        await self.send_raw(self.http.send(h11.Response(status_code=status, headers=headers)) or b"")

    async def send_data(self, data: bytes) -> None:
        await self.send_raw(self.http.send(h11.Data(data=data)) or b"")

    async def send_end(self) -> None:
        await self.send_raw(self.http.send(h11.EndOfMessage()) or b"")

    async def send_raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def fail(self, fault: Fault) -> None:
        if fault is Fault.CLOSE:
            self.writer.close()
        else:
            reset(self.writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes with TCP RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
