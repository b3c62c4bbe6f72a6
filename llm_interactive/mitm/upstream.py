"""The layer below the hooks: sends an exchange's attempts, one after the other, until one answers.

`LlmStream` stands in for mitmproxy's `HttpStream`. For flows that are no LLM call it is the stock stream. For an
exchange it (1) puts the credentials of an attempt into a copy of the request, on the wire only; (2) sends the next
attempt where one was refused, before the client has seen anything; (3) gives the reply's bytes to the exchange and
sends what the exchange makes of them; (4) can end the client's reply early while the upstream is cancelled. Each
attempt has a fresh stream id upstream, so that late events of an abandoned one are ignored and HTTP/2 connections are
shared safely.

This file alone uses unexported names of mitmproxy (12.2); tests/mitm/test_upstream.py says what broke when they change.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mitmproxy import flow as mitm_flow
from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpErrorHook,
    HttpEvent,
    HttpLayer,
    HTTPMode,
    HttpResponseHeadersHook,
    HttpResponseHook,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
    StreamId,
)
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.utils import human

from llm_interactive.errors import UpstreamError
from llm_interactive.exchange import Exchange
from llm_interactive.mitm.bounded_http import TOO_SLOW, BoundedHttpLayer
from llm_interactive.mitm.broken import what_broke
from llm_interactive.mitm.hooks import LlmNextAttemptHook, LlmReplyEndedHook, LlmRequestHook
from llm_interactive.mitm.joined_writes import joined
from llm_interactive.reply import NOTHING, Step

NO_CONNECTION_YET = "timed out"

LINGER = 1.0
"""Seconds that an upstream has to end its reply after its last event; ending it keeps the connection alive."""

KEPT_BODY = 2 * 1024 * 1024
"""Bytes of a streamed reply that are kept for the flow views."""

OWN_PATHS_BODY = 1024 * 1024
"""Bytes of a body sent to a path where none is wanted."""

NO_BODY = (204, 205, 304)

type Commands = layer.CommandGenerator[None]
type Exchanges = Callable[[], Mapping[str, Exchange]]
"""Gives the exchanges that are under way, by the id of their flow."""


@dataclass
class Stalled(HttpEvent):
    """No byte came from the upstream for too long."""


class LlmHttpLayer(BoundedHttpLayer):
    """An `HttpLayer` of `LlmStream`s. It watches over stalled upstreams and slow HTTP/2 requests with one timer."""

    exchanges: Exchanges
    _last_attempt_id: int = 0
    _timers: dict[commands.RequestWakeup, float]
    """When each of them goes off."""

    @classmethod
    def take_over(cls, http_layer: HttpLayer, exchanges: Exchanges) -> None:
        """Turn a layer that has not started yet into one of these, at its place in the stack."""
        http_layer.__class__ = cls
        assert isinstance(http_layer, LlmHttpLayer)
        http_layer.exchanges = exchanges
        http_layer._timers = {}

    def is_bounded(self, stream: HttpStream) -> bool:
        return isinstance(stream, LlmStream) and stream.is_llm

    def make_stream(self, stream_id: int) -> Commands:
        stream = LlmStream(self.context.fork(), stream_id, self)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def register_attempt(self, stream: "LlmStream") -> StreamId:
        """A fresh id for an attempt's stream upstream: even, since clients' own ids are odd."""
        self._last_attempt_id += 2
        self.streams[self._last_attempt_id] = stream
        return self._last_attempt_id

    def watch(self, period: float) -> Commands:
        """Look for stalls after `period` seconds at the latest; timers that are due sooner are shared."""
        due = time.monotonic() + period
        if not any(other <= due for other in self._timers.values()):
            timer = commands.RequestWakeup(period)
            self._timers[timer] = due
            yield timer

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup) and event.command in self._timers:
            del self._timers[event.command]
            self.command_sources.pop(event.command, None)
            yield from self._look_for_stalls()
        else:
            yield from joined(super()._handle_event(event))

    def _look_for_stalls(self) -> Commands:
        waiting = {stream for stream in self.streams.values() if isinstance(stream, LlmStream) and stream.waits}
        for stream in waiting:
            if stream.is_stalled():
                yield from self._wake(stream)
        if waiting:
            yield from self.watch(min(stream.watch_period for stream in waiting))

    def _wake(self, stream: "LlmStream") -> Commands:
        if stream.is_coming:
            refused = ResponseProtocolError(stream.stream_id, TOO_SLOW, ErrorCode.REQUEST_VALIDATION_FAILED)
            yield from self.event_to_child(self.connections[self.context.client], refused)
            gone = RequestProtocolError(stream.stream_id, TOO_SLOW, ErrorCode.CLIENT_DISCONNECTED)
            yield from self.event_to_child(stream, gone)
            return
        connecting = stream.connecting
        if connecting is None:
            yield from self.event_to_child(stream, Stalled(stream.stream_id))
            return
        self.command_sources.pop(connecting, None)
        for queue in self.waiting_for_establishment.values():
            if connecting in queue:
                queue.remove(connecting)
        gave_up = GetHttpConnectionCompleted(connecting, (None, NO_CONNECTION_YET))
        yield from self.event_to_child(stream, gave_up)


class LlmStream(HttpStream):
    def __init__(self, context: Context, stream_id: int, http_layer: LlmHttpLayer) -> None:
        super().__init__(context, stream_id)
        self._layer = http_layer
        self._exchange: Exchange | None = None
        self._attempt_id: StreamId | None = None
        self._last_byte = 0.0
        self._headers_sent = False
        self._kept = bytearray()
        self._drops_body = False
        self.connecting: GetHttpConnection | None = None

    @property
    def exchange(self) -> Exchange | None:
        if self._exchange is None:
            self._exchange = self._layer.exchanges().get(self.flow.id)
        return self._exchange

    @property
    def is_llm(self) -> bool:
        return self.exchange is not None or bool(self.flow.metadata.get("llm_gateway"))

    @property
    def waits(self) -> bool:
        """For the rest of the request, for a connection or for bytes of an attempt."""
        return self.is_coming or self.connecting is not None or self._attempt_id is not None

    @property
    def is_coming(self) -> bool:
        """The request is not whole yet. In HTTP/1 that is the connection's affair (bounded_http.py)."""
        coming = self.client_state == self.state_consume_request_body and self._last_byte > 0
        return coming and self.flow.request.is_http2 and self.is_llm

    @property
    def patience(self) -> float:
        """Seconds without a byte that are borne, or for all of a request. A reply that is over need not wait for its
        upstream to close."""
        if self.is_coming:
            return self._layer.request_seconds
        exchange = self.exchange
        if exchange is None:
            return math.inf
        return LINGER if exchange.reply_is_over else exchange.timeout

    @property
    def watch_period(self) -> float:
        return min(60.0, max(0.05, self.patience / 8))

    def is_stalled(self) -> bool:
        return time.monotonic() - self._last_byte > self.patience

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, Stalled):
            yield from self._upstream_broke(UpstreamError("the provider sent nothing for too long", status=504))
        elif not isinstance(event, HttpEvent) or event.stream_id in (self.stream_id, self._attempt_id):
            yield from super()._handle_event(event)  # others waited in the queue while their attempt was abandoned

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        """Stock, but notes first what is lost right after: whether the request was sent to the proxy itself, and what
        the client called it in reverse mode."""
        if request and self.mode is HTTPMode.regular and not self.flow.request.data.host:
            self.flow.metadata["llm_gateway"] = True
        elif request and isinstance(self.context.client.proxy_mode, ReverseMode):
            self.flow.metadata["llm_host"] = self.flow.request.authority or self.flow.request.headers.get("host", "")
        return (yield from super().check_invalid(request))

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        """For the gateway's calls, `stream_large_bodies` must not stream a request past the pipeline, and a body that
        is refused, or larger than `body_size_limit` or our own limit, is read to its end but not kept: only then do
        clients read the answer."""
        if request and not self._last_byte:
            self._last_byte = time.monotonic()
            yield from self._layer.watch(self._layer.request_seconds / 8)
        if not request or not self.is_llm:
            return (yield from super().check_body_size(request))
        if self._drops_body or self.flow.response is not None:
            self._drops_body = True
            self.request_body_buf.clear()
        elif len(self.request_body_buf) > self._body_limit:
            self._drops_body = True
            self.request_body_buf.clear()
            if (exchange := self.exchange) is not None:
                exchange.too_large(self._body_limit)
        return False

    @property
    def _body_limit(self) -> int:
        given = human.parse_size(self.context.options.body_size_limit)
        own = self.exchange.body_limit if self.exchange is not None else OWN_PATHS_BODY
        return own if given is None else min(given, own)

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Stock mitmproxy calls this when the request is complete; for an exchange everything else happens here."""
        if self.exchange is None:
            return (yield from super().make_server_connection())
        self.exchange.has_client_left = self._client_left
        yield LlmRequestHook(self.flow)
        yield from self._run_attempts(self.exchange)
        return False

    def _run_attempts(self, exchange: Exchange) -> Commands:
        while True:
            if exchange.outgoing is None and exchange.local is None:
                yield LlmNextAttemptHook(exchange)
            if self._client_left():
                return
            if exchange.outgoing is None and exchange.is_cut:
                yield from self._take(exchange, exchange.give_up(), over=True)
                return
            if exchange.outgoing is None:
                yield from self._reply_locally()
                return
            if (yield from self._send_attempt(exchange)):
                return

    def _client_left(self) -> bool:
        return any(isinstance(event, RequestProtocolError) for event in self._paused_event_queue)

    def _send_attempt(self, exchange: Exchange) -> layer.CommandGenerator[bool]:
        outgoing = exchange.outgoing
        assert outgoing is not None
        self._last_byte = time.monotonic()
        yield from self._layer.watch(self.watch_period)
        self.connecting = GetHttpConnection(
            (outgoing.host, outgoing.port), outgoing.scheme == "https", self.flow.server_conn.via, "tcp"
        )
        connection, error = yield self.connecting
        self.connecting = None
        if self._client_left():
            return True  # the event that says so is next in the queue
        if error:
            status = 504 if error == NO_CONNECTION_YET else 502
            exchange.refused(UpstreamError(f"no connection to {outgoing.host}:{outgoing.port}: {error}", status=status))
            return False
        if exchange.is_late():
            return False
        self.context.server = self.flow.server_conn = connection
        self._last_byte = time.monotonic()
        self._attempt_id = id_ = self._layer.register_attempt(self)
        exchange.sent()
        request = _wire_request(self.flow.request, exchange)
        yield SendHttp(RequestHeaders(id_, request, end_stream=not outgoing.body), connection)
        if outgoing.body:
            yield SendHttp(RequestData(id_, outgoing.body), connection)
        yield SendHttp(RequestEndOfMessage(id_), connection)
        self.server_state = self.state_wait_for_response_headers
        return True

    def state_wait_for_response_headers(self, event: HttpEvent) -> Commands:
        exchange = self.exchange
        if exchange is None:
            yield from super().state_wait_for_response_headers(event)
        elif isinstance(event, ResponseHeaders):
            self._last_byte = time.monotonic()
            self._upstream_response = event.response
            exchange.answered(event.response.status_code, _plain(event.response.headers))
            self.server_state = self.state_read_reply

    def state_read_reply(self, event: HttpEvent) -> Commands:
        exchange = self.exchange
        if exchange is None:
            return
        if not exchange.reply_is_over:
            self._last_byte = time.monotonic()
        if isinstance(event, ResponseData):
            yield from self._take(exchange, exchange.feed(event.data), over=False)
        elif isinstance(event, ResponseEndOfMessage):
            yield from self._take(exchange, exchange.finish(), over=True)

    def _take(self, exchange: Exchange, step: Step, over: bool) -> Commands:
        """Do what a step says. `over`: the upstream has nothing more to send."""
        if step.refused is not None:
            yield from (self._forget_attempt() if over else self._cancel_upstream("refused"))
            exchange.refused(step.refused)
            yield from self._run_attempts(exchange)
            return
        if (step.chunks or step.ended) and not self._headers_sent:
            whole = sum(map(len, step.chunks)) + sum(map(len, step.last)) if step.ended else None
            if not (yield from self._send_headers(exchange, whole)):
                return
        for chunk in step.chunks:
            yield from self._send_chunk(chunk)
        if step.again:
            yield from (self._forget_attempt() if over else self._cancel_upstream("asked again"))
            exchange.ask_again()
            yield from self._run_attempts(exchange)
            return
        if step.cancel and not over:
            yield from self._cancel_upstream("the reply was ended")
            over = True
        if step.ended:
            yield LlmReplyEndedHook(exchange)
            for chunk in step.last:
                yield from self._send_chunk(chunk)
        if over and (step.ended or exchange.reply_ended):
            yield from self._forget_attempt()
            yield from (self._break_off() if step.cut else self._finish())
        elif exchange.reply_is_over:
            yield from self._layer.watch(LINGER)

    def _send_headers(self, exchange: Exchange, whole: int | None) -> layer.CommandGenerator[bool]:
        self._headers_sent = True
        upstream, request = self._upstream_response, self.flow.request
        has_frames = request.is_http2 or request.is_http3
        response = http.Response(
            request.data.http_version if has_frames else b"HTTP/1.1",
            upstream.status_code,
            upstream.data.reason,
            http.Headers(
                [(name.encode(), value.encode("latin-1", "replace")) for name, value in exchange.reply_headers()]
            ),
            None,
            None,
            upstream.timestamp_start,
            None,
        )
        if request.method == "HEAD":
            if length := upstream.headers.get("content-length"):
                response.headers["content-length"] = length
        elif upstream.status_code in NO_BODY:
            pass
        elif whole is not None:
            response.headers["content-length"] = str(whole)
        elif not has_frames and request.http_version != "HTTP/1.0":  # there the end of the connection is the end
            response.headers["transfer-encoding"] = "chunked"
        response.stream = True
        self.flow.response = response
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            yield from self._cancel_upstream("killed")
            exchange.client_left()
            yield LlmReplyEndedHook(exchange)
            return False
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), self.context.client)
        return True

    def _break_off(self) -> Commands:
        """The client must not take what it has for the whole."""
        self._keep_reply()
        self.flow.error = mitm_flow.Error("the provider broke off")
        yield HttpErrorHook(self.flow)
        broken = ResponseProtocolError(self.stream_id, self.flow.error.msg, ErrorCode.GENERIC_SERVER_ERROR)
        yield SendHttp(broken, self.context.client)
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield DropStream(self.stream_id)

    def _send_chunk(self, chunk: bytes) -> Commands:
        if len(self._kept) < KEPT_BODY:
            self._kept += chunk
        if chunk:
            yield SendHttp(ResponseData(self.stream_id, chunk), self.context.client)

    def _keep_reply(self) -> None:
        if self.flow.response is not None and self.exchange is not None:
            self.flow.response.data.content = self.exchange.shown_reply(self._kept)

    def _finish(self) -> Commands:
        self._keep_reply()
        yield from self.send_response(already_streamed=True)

    def _reply_locally(self) -> Commands:
        """The exchange's own answer: an error, or what a command said."""
        exchange = self.exchange
        assert exchange is not None
        assert exchange.local is not None
        yield LlmReplyEndedHook(exchange)
        local = exchange.local
        self.flow.response = http.Response.make(local.status, local.body, dict(local.headers))
        self.flow.response.timestamp_start = time.time()
        yield HttpResponseHeadersHook(self.flow)
        yield from self.send_response()

    def _cancel_upstream(self, reason: str) -> Commands:
        if self._attempt_id is not None:
            cancel = RequestProtocolError(self._attempt_id, reason, ErrorCode.CANCEL)
            yield SendHttp(cancel, self.context.server)
        yield from self._forget_attempt()

    def _forget_attempt(self) -> Commands:
        if self._attempt_id is not None:
            yield DropStream(self._attempt_id)
            self._attempt_id = None

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> Commands:
        exchange = self.exchange
        if exchange is None or self.client_state != self.state_done:
            yield from super().handle_protocol_error(event)
        elif isinstance(event, ResponseProtocolError):
            if self._attempt_id is not None:
                yield from self._upstream_broke(UpstreamError(what_broke(event.message)))
        else:
            yield from self._client_went(exchange, event.message)

    def _upstream_broke(self, error: UpstreamError) -> Commands:
        exchange = self.exchange
        if exchange is None or self._attempt_id is None:
            return
        yield from self._cancel_upstream(error.message)
        step = exchange.broken(error)
        yield from self._take(exchange, step if step is not NOTHING else Step(), over=True)

    def _client_went(self, exchange: Exchange, message: str) -> Commands:
        yield from self._cancel_upstream("the client disconnected")
        if self.server_state == self.state_done:
            return
        exchange.client_left()
        yield LlmReplyEndedHook(exchange)
        self._keep_reply()
        if exchange.reply_ended and self.flow.response:
            self.flow.response.timestamp_end = time.time()
            yield HttpResponseHook(self.flow)
        else:
            self.flow.error = mitm_flow.Error(message)
            yield HttpErrorHook(self.flow)
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield DropStream(self.stream_id)


def _plain(headers: http.Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers.fields]


def _wire_request(shown: http.Request, exchange: Exchange) -> http.Request:
    """What goes on the wire: not what mitmproxy shows and saves, since it holds the backend's key."""
    outgoing = exchange.outgoing
    assert outgoing is not None
    authority = outgoing.authority.encode()
    is_http2 = shown.is_http2 or shown.is_http3
    headers = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in outgoing.headers]
    if not is_http2:
        headers.insert(0, (b"host", authority))
    if outgoing.body or outgoing.method not in ("GET", "HEAD", "DELETE"):
        headers.append((b"content-length", b"%d" % len(outgoing.body)))
    return http.Request(
        host=outgoing.host,
        port=outgoing.port,
        method=outgoing.method.encode(),
        scheme=outgoing.scheme.encode(),
        authority=authority if is_http2 else b"",
        path=outgoing.path.encode(),
        http_version=shown.data.http_version if is_http2 else b"HTTP/1.1",
        headers=http.Headers(headers),
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )
