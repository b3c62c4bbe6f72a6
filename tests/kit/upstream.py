"""A provider that a test scripts: a real server on a free loopback port, in a thread with its own loop.

    with Upstream(chat("hello"), GARBAGE) as upstream: ...            # replies in turn, over HTTP/1.1
    with Upstream(answer=lambda request: chat(request.path)) as upstream: ...
    with Upstream(replies, authority=authority, http2=True) as upstream: ...   # TLS; without `http2` HTTP/1.1 in TLS

`exchanges` holds every request with what became of its reply. A script that raises, or has no reply left, answers 500,
and leaving the `with` raises what it raised.
"""

import asyncio
import itertools
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from kit.certificates import Authority
from kit.exchange import End, Exchange, Request
from kit.http1_upstream import Http1Connection
from kit.http2_upstream import Http2Connection
from kit.replies import Instead, Reply, openai_error

Script = Callable[[Request], Reply | Instead]
NAMES = ("127.0.0.1", "localhost")


class ServedConnection(Protocol):
    def serve(self) -> Awaitable[None]: ...


class Upstream:
    def __init__(
        self,
        *replies: Reply | Instead,
        answer: Script | None = None,
        authority: Authority | None = None,
        http2: bool = False,
        names: tuple[str, ...] = NAMES,
    ) -> None:
        self.exchanges: list[Exchange] = []
        self.errors: list[BaseException] = []
        self.script = answer or self._next_reply
        self.port = 0
        self._replies = deque(replies)
        self._tls = authority and authority.server_context(names, ("h2",) if http2 else ("http/1.1",))
        self._changes = threading.Condition()
        self._numbers = itertools.count(1)
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="upstream", daemon=True)
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        return [exchange.request for exchange in self.exchanges]

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    def enqueue(self, *replies: Reply | Instead) -> None:
        self._replies.extend(replies)

    def wait_until(self, seen: Callable[[Self], bool], timeout: float = 10) -> None:
        """Returns when `seen(upstream)` holds; it is asked again whenever anything happens."""
        with self._changes:
            assert self._changes.wait_for(lambda: seen(self), timeout), f"not seen in time: {self.exchanges}"

    def wait_ended(self, number: int = 1, timeout: float = 10) -> list[Exchange]:
        """The exchanges, when at least `number` of them have ended in some way."""
        self.wait_until(lambda _: sum(each.end is not None for each in self.exchanges) >= number, timeout)
        return self.exchanges

    def start(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the upstream did not start"
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)
            assert not self._thread.is_alive(), "the upstream did not stop"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()
        if self.errors and error is None:
            raise self.errors[0]

    # Called by the connections, in the upstream's own loop

    def opened(self, request: Request) -> tuple[Exchange, Reply | Instead]:
        exchange = Exchange(request, self._changed)
        self.exchanges.append(exchange)
        self._changed()
        try:
            return exchange, self.script(request)
        except Exception as error:  # the test's own script: raised again where the test can see it
            self.errors.append(error)
            return exchange, openai_error(500, f"The script failed: {error!r}")

    def _changed(self) -> None:
        with self._changes:
            self._changes.notify_all()

    def _next_reply(self, request: Request) -> Reply | Instead:
        assert self._replies, f"no reply left for {request.method} {request.path}"
        return self._replies.popleft()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        patience = 1.0 if self._tls else None
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls, ssl_shutdown_timeout=patience)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        await asyncio.sleep(0.01)  # one that came before `close` is accepted only now
        while self._connections:
            for connection in self._connections:
                connection.cancel()
            await asyncio.wait(self._connections)
            await asyncio.sleep(0)  # they are forgotten
        await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._gone)
        # also of one that is cancelled before it began
        connection.add_done_callback(lambda done: writer.transport.abort() if done.cancelled() else None)

    def _gone(self, connection: asyncio.Task[None]) -> None:
        self._connections.discard(connection)
        if not connection.cancelled() and (error := connection.exception()):
            self.errors.append(error)
        self._changed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # So that what is counted as sent has left this process (0 would stop TLS for ever).
        writer.transport.set_write_buffer_limits(high=1, low=0)
        tls = writer.get_extra_info("ssl_object")
        kind = Http2Connection if tls and tls.selected_alpn_protocol() == "h2" else Http1Connection
        connection: ServedConnection = kind(next(self._numbers), self.opened, reader, writer)
        try:
            await connection.serve()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


__all__ = ["End", "Exchange", "Request", "Upstream", "closed_port"]
