"""What an `Upstream` saw: a request, and how far its reply came."""

import asyncio
import enum
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from kit.replies import Fault, Gate, Instead, Pause, Reply

GATE_POLL = 0.005


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    """With the query."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order sent, without HTTP/2 pseudo-headers."""
    body: bytes
    http_version: str
    """`1.0`, `1.1` or `2`."""
    host: str
    connection: int
    """The number of the connection, counted from 1."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class End(enum.Enum):
    FINISHED = "the whole reply was sent"
    CANCELLED = "the client closed the connection, or reset the stream"
    FAULT = "the script wanted it to end badly"


@dataclass(slots=True)
class Exchange:
    request: Request
    changed: Callable[[], None] = field(repr=False)
    pieces_sent: int = 0
    """Writes of the body that have left this process; counted a moment after the client may have seen them."""
    bytes_sent: int = 0
    """Bytes of the body, without framing."""
    end: End | None = None
    """None while the reply goes on, or is stalled."""
    reset_code: int | None = None
    """HTTP/2: the error code of the client's RST_STREAM."""

    @property
    def cancelled(self) -> bool:
        return self.end is End.CANCELLED

    def sent(self, size: int) -> None:
        self.pieces_sent += 1
        self.bytes_sent += size
        self.changed()

    def ended(self, end: End, reset_code: int | None = None) -> None:
        """The first end counts: what follows a fault is its consequence."""
        if self.end is None:
            self.end, self.reset_code = end, reset_code
            self.changed()


class Channel(Protocol):
    """One reply's way to the client, over HTTP/1 or HTTP/2."""

    def send_head(self, status: int, headers: list[tuple[str, str]]) -> Awaitable[None]: ...
    def send_data(self, data: bytes) -> Awaitable[None]: ...
    def send_end(self) -> Awaitable[None]: ...
    def send_raw(self, data: bytes) -> Awaitable[None]: ...
    def fail(self, fault: Fault) -> None:
        """Any fault but STALL."""


async def play(reply: Reply | Instead, channel: Channel, exchange: Exchange) -> None:
    if isinstance(reply, Instead):
        await channel.send_raw(reply.garbage)
        return await _fail(reply.fault, channel, exchange)
    length = [] if reply.length is None else [("content-length", str(reply.length))]
    await channel.send_head(reply.status, [*reply.headers.items(), *length])
    for piece in reply.pieces:
        match piece:
            case bytes():
                await channel.send_data(piece)
                exchange.sent(len(piece))
                await asyncio.sleep(0)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Gate():
                while not piece.is_set():
                    await asyncio.sleep(GATE_POLL)
            case Fault():
                return await _fail(piece, channel, exchange)
    await channel.send_end()
    exchange.ended(End.FINISHED)


async def _fail(fault: Fault, channel: Channel, exchange: Exchange) -> None:
    if fault is Fault.STALL:
        await asyncio.Event().wait()
    exchange.ended(End.FAULT)
    channel.fail(fault)


async def until_client_leaves(playing: Awaitable[None], leaving: Awaitable[None]) -> None:
    """Plays, and stops at once when `leaving` returns; both have ended afterwards."""
    tasks = (asyncio.ensure_future(playing), asyncio.ensure_future(leaving))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()
