"""A provider's WebSocket endpoint over TLS: answers each text message with what `answer` makes of it.

`messages` are those it got, `headers` those of the upgrade requests. Needs the package `websockets`.
"""

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from kit.certificates import Authority
from websockets.sync.server import ServerConnection, serve

type Answer = Callable[[str], Iterable[str | bytes]]


class SocketServer:
    def __init__(self, answer: Answer, authority: Authority, names: tuple[str, ...]) -> None:
        self.messages: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self._answer = answer
        self._server = serve(self._serve, "127.0.0.1", 0, ssl=authority.server_context(names, ("http/1.1",)))
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.headers.append({name.lower(): value for name, value in connection.request.headers.raw_items()})
        for message in connection:
            self.messages.append(message)
            for piece in self._answer(str(message)):
                connection.send(piece)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(10)
