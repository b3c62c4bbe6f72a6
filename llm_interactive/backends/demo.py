"""The `demo` backend (SPEC 12): OpenAI Chat Completions over HTTP/1.1 on a free loopback port, without key or network.

The models are in `demo_models`; here their pieces become the wire format. A plain (not streamed) reply waits only for
its first piece. One piece of text is one token. A reply stops at once when its client goes away. Every request must
carry the bearer token, which only the proxy knows, so that a page in the user's browser cannot use the port.
"""

import asyncio
import hashlib
import hmac
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import h11

from llm_interactive import wire_json
from llm_interactive.backends.demo_models import MODELS, Ask, Model, Piece, Text, ToolCall

MAX_BODY = 64 * 2**20
"""Bytes of one request (SPEC 9)."""
MAX_STREAMED = 1_000_000
MAX_PLAIN = 4_096
"""Tokens of one reply; a plain one must end by itself, since nobody can watch it."""
READ_SIZE = 65_536
STARTED = 1_700_000_000
"""When the models were made, as far as `/v1/models` is concerned."""
REMEMBERED_CONVERSATIONS = 1_000
"""How many conversations `flaky` knows to have refused before."""

Json = dict[str, Any]
Sleep = Callable[[float], Awaitable[object]]


class Refused(Exception):
    """A request that gets an error in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def read_ask(body: bytes) -> Ask:
    try:
        request = wire_json.loads(body)
    except ValueError:
        raise Refused(400, "The body of the request is not valid JSON.") from None
    if not isinstance(request, dict):
        raise Refused(400, "The body of the request must be a JSON object.")
    model = request.get("model")
    if not isinstance(model, str):
        raise Refused(400, "A model is required.", param="model")
    if model not in MODELS:
        raise unknown_model(model)
    messages = read_messages(request.get("messages"))
    if request.get("n") not in (None, 1):
        raise Refused(400, "The demo models give one choice: n must be 1.", param="n")
    stream = request.get("stream") is True
    ceiling = MAX_STREAMED if stream else MAX_PLAIN
    return Ask(
        model=model,
        said=next((text_of(each) for each in reversed(messages) if each.get("role") == "user"), ""),
        tool=first_function(request),
        conversation=hashlib.sha256(wire_json.dumps(messages)).hexdigest(),
        prompt_tokens=3 + sum(4 + len(text_of(each).split()) for each in messages),
        max_tokens=min(ceiling, read_max_tokens(request) or ceiling),
        stream=stream,
        include_usage=asks_for_usage(request),
    )


def read_messages(value: object) -> list[Json]:
    if isinstance(value, list) and value and all(isinstance(message, dict) for message in value):
        return value
    raise Refused(400, "messages must be a list of at least one message object.", param="messages")


def read_max_tokens(request: Json) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        match request.get(name):
            case None:
                continue
            case int(number) if number >= 1 and number is not True:
                return number
            case value:
                raise Refused(400, f"{name} must be a positive integer, not {wire_json.text(value)}.", param=name)
    return None


def asks_for_usage(request: Json) -> bool:
    match request.get("stream_options"):
        case {"include_usage": True}:
            return True
    return False


def first_function(request: Json) -> Json | None:
    match request:
        case {"tool_choice": "none"}:
            return None
        case {"tools": list(tools)}:
            functions = (tool["function"] for tool in tools if isinstance(tool, dict) and "function" in tool)
            return next((function for function in functions if isinstance(function, dict)), None)
    return None


def text_of(message: Json) -> str:
    match message.get("content"):
        case str(text):
            return text
        case list(parts):
            return "\n".join(part_text(part) for part in parts)
    return ""


def part_text(part: object) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": str(kind)}:
            return f"[{kind}]"
    return ""


def unknown_model(name: str) -> Refused:
    known = ", ".join(MODELS)
    return Refused(
        404, f"The model `{name}` does not exist. The demo models are: {known}.", param="model", code="model_not_found"
    )


@dataclass(slots=True)
class Reply:
    """One reply in OpenAI's shapes, counting its tokens as its pieces pass."""

    ask: Ask
    id: str
    created: int
    completion_tokens: int = 0
    reason: str = "stop"

    def pieces(self, model: Model) -> Iterator[Piece]:
        """The model's pieces up to the limit of tokens."""
        for piece in model(self.ask):
            if self.completion_tokens >= self.ask.max_tokens:
                self.reason = "length"
                return
            match piece:
                case Text():
                    self.completion_tokens += 1
                case ToolCall():
                    self.completion_tokens += 8
                    self.reason = "tool_calls"
            yield piece

    def chunk(self, delta: Json, reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._envelope("chat.completion.chunk", [choice]) | ({"usage": None} if self.ask.include_usage else {})

    def deltas(self, piece: Piece) -> Iterator[Json]:
        """The chunks of one piece: a call opens with its name, then its arguments come in two parts, as at OpenAI."""
        match piece:
            case Text(text):
                yield {"content": text}
            case ToolCall(name, arguments):
                function = {"name": name, "arguments": ""}
                yield {"tool_calls": [{"index": 0, "id": call_id(), "type": "function", "function": function}]}
                middle = len(arguments) // 2
                for part in filter(None, (arguments[:middle], arguments[middle:])):
                    yield {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}

    def endings(self) -> Iterator[Json]:
        yield self.chunk({}, self.reason)
        if self.ask.include_usage:
            yield self._envelope("chat.completion.chunk", []) | {"usage": self.usage()}

    def whole(self, pieces: Iterable[Piece]) -> Json:
        text: list[str] = []
        calls: list[Json] = []
        for piece in pieces:
            match piece:
                case Text(part):
                    text.append(part)
                case ToolCall(name, arguments):
                    function = {"name": name, "arguments": arguments}
                    calls.append({"id": call_id(), "type": "function", "function": function})
        message: Json = {"role": "assistant", "content": "".join(text) or None, "refusal": None, "annotations": []}
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.reason}
        return self._envelope("chat.completion", [choice]) | {"usage": self.usage()}

    def usage(self) -> Json:
        return {
            "prompt_tokens": self.ask.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.ask.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def _envelope(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.ask.model,
            "choices": choices,
            "service_tier": "default",
            "system_fingerprint": "fp_demo",
        }


def call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


class Connection:
    """One client: requests in turn over a kept-alive connection."""

    def __init__(self, server: "DemoServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.http = h11.Connection(h11.SERVER)

    async def serve(self) -> None:
        while isinstance(request := await self.next_event(), h11.Request):
            try:
                await self.unless_gone(await self.answer(request))
            except Refused as refused:
                await self.send_json(refused.status, refused.body, refused.headers)
            if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
                return
            self.http.start_next_cycle()

    async def answer(self, request: h11.Request) -> Coroutine[Any, Any, None]:
        """What will send the reply; raises `Refused` before anything was sent."""
        if not self.server.knows(dict(request.headers).get(b"authorization", b"")):
            raise Refused(401, "The demo backend serves the proxy that started it only.", code="invalid_api_key")
        body = await self.read_body()
        path = request.target.decode("ascii").partition("?")[0]
        match request.method, path.removeprefix("/v1").split("/"):
            case b"POST", ["", "chat", "completions"]:
                return self.complete(read_ask(body))
            case b"GET", ["", "models"]:
                return self.send_json(200, {"object": "list", "data": [self.server.describe(name) for name in MODELS]})
            case b"GET", ["", "models", name] if name in MODELS:
                return self.send_json(200, self.server.describe(name))
            case b"GET", ["", "models", name]:
                raise unknown_model(name)
        raise Refused(404, f"Unknown request URL: {request.method.decode()} {path}.", code="unknown_url")

    async def complete(self, ask: Ask) -> None:
        self.server.refuse_first(ask)
        reply = Reply(ask, f"chatcmpl-{secrets.token_hex(12)}", int(self.server.clock()))
        pieces = reply.pieces(MODELS[ask.model])
        first = next(pieces, None)
        if first and first.pause:
            await self.server.sleep(first.pause)
        started = chain((first,) if first else (), pieces)
        if ask.stream:
            await self.stream(reply, started)
        else:
            await self.send_json(200, reply.whole(started))

    async def stream(self, reply: Reply, pieces: Iterator[Piece]) -> None:
        await self.send(h11.Response(status_code=200, headers=headers("text/event-stream; charset=utf-8")))
        await self.send_event(reply.chunk({"role": "assistant", "content": "", "refusal": None}))
        for number, piece in enumerate(pieces):
            if number and piece.pause:
                await self.server.sleep(piece.pause)
            for delta in reply.deltas(piece):
                await self.send_event(reply.chunk(delta))
        for ending in reply.endings():
            await self.send_event(ending)
        await self.send(h11.Data(data=b"data: [DONE]\n\n"))
        await self.send(h11.EndOfMessage())

    async def unless_gone(self, reply: Coroutine[Any, Any, None]) -> None:
        """Sends the reply, and drops it at once when the client closes the connection."""
        sending = asyncio.ensure_future(reply)
        gone = asyncio.ensure_future(self.gone())
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            sending.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def gone(self) -> None:
        """Returns when the client has closed; what it sends before is a next request."""
        while data := await self.reader.read(READ_SIZE):
            self.http.receive_data(data)
        self.http.receive_data(b"")

    async def read_body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self.next_event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise Refused(413, f"The body is larger than {MAX_BODY} bytes.")
        return bytes(body)

    async def next_event(self) -> object:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.reader.read(READ_SIZE))
        return event

    async def send_json(self, status: int, body: Json, extra: Mapping[str, str] | None = None) -> None:
        data = wire_json.dumps(body)
        length = {"content-length": str(len(data))}
        await self.send(
            h11.Response(status_code=status, headers=headers("application/json", length | dict(extra or {})))
        )
        await self.send(h11.Data(data=data))
        await self.send(h11.EndOfMessage())

    async def send_event(self, chunk: Json) -> None:
        await self.send(h11.Data(data=b"data: " + wire_json.dumps(chunk) + b"\n\n"))

    async def send(self, event: h11.Event) -> None:
        self.writer.write(self.http.send(event) or b"")
        await self.writer.drain()


def headers(content_type: str, extra: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    own = {"content-type": content_type, "cache-control": "no-store", "x-request-id": f"req_{secrets.token_hex(12)}"}
    return list((own | dict(extra or {})).items())


class DemoServer:
    """The server on its free port; `start` may be called again and does nothing then."""

    def __init__(self, token: str, *, sleep: Sleep = asyncio.sleep, clock: Callable[[], float] = time.time) -> None:
        self.sleep = sleep
        self.clock = clock
        self._authorization = f"Bearer {token}".encode()
        self._refused: dict[str, None] = {}
        self._server: asyncio.Server | None = None
        self._starting = asyncio.Lock()
        self.connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The base URL, with the version segment; empty while the server is not started."""
        if self._server is None:
            return ""
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}/v1"

    async def start(self, listening: socket.socket | None = None) -> None:
        """`listening`: a socket that is bound already; whoever connects before the start waits in its queue."""
        async with self._starting:
            if self._server is None:
                listening = listening or socket.create_server(("127.0.0.1", 0))
                self._server = await asyncio.start_server(self._accept, sock=listening)

    async def stop(self) -> None:
        """Ends replies that are under way too."""
        async with self._starting:
            server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in tuple(self.connections):
            connection.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)
        await server.wait_closed()

    def knows(self, authorization: bytes) -> bool:
        return hmac.compare_digest(authorization, self._authorization)

    def describe(self, model: str) -> Json:
        return {"id": model, "object": "model", "created": STARTED, "owned_by": "demo"}

    def refuse_first(self, ask: Ask) -> None:
        """`flaky` refuses every conversation once."""
        if ask.model != "flaky" or ask.conversation in self._refused:
            return
        self._refused[ask.conversation] = None
        if len(self._refused) > REMEMBERED_CONVERSATIONS:
            del self._refused[next(iter(self._refused))]
        message = "Rate limit reached for flaky. Please try again in 1s."
        raise Refused(429, message, kind="requests", code="rate_limit_exceeded", headers={"retry-after": "1"})

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.connections.add(connection)
        connection.add_done_callback(self.connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Connection(self, reader, writer).serve()
        except (OSError, h11.ProtocolError):
            pass  # the client is gone, or speaks something else: nobody is left to answer
        finally:
            writer.close()
