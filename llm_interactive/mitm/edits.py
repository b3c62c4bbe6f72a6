"""What a person changes in a request that mitmproxy holds (an `intercept` filter): what is edited is what is read."""

from dataclasses import replace

from mitmproxy import http

from llm_interactive import entry
from llm_interactive.errors import BadRequest
from llm_interactive.exchange import Exchange
from llm_interactive.protocols.base import Call

type Seen = tuple[bytes | None, str, tuple[tuple[bytes, bytes], ...]]


class Edits:
    def __init__(self) -> None:
        self._shown: dict[str, Seen] = {}

    def shown(self, flow: http.HTTPFlow) -> None:
        """From now on the flow may be changed by others than us."""
        self._shown[flow.id] = _seen(flow.request)

    def changed(self, flow: http.HTTPFlow) -> bool:
        return flow.id in self._shown and self._shown.pop(flow.id) != _seen(flow.request)

    def forget(self, flow: http.HTTPFlow) -> None:
        self._shown.pop(flow.id, None)


def _seen(request: http.Request) -> Seen:
    return request.raw_content, request.path, request.headers.fields


def edited_call(exchange: Exchange, request: http.Request) -> Call:
    """Raises `BadRequest` where the path has become another kind of call."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    call = exchange.call
    if entry.is_read(call):
        now = entry.recognise_on_host(request.method, request.path, headers)
        if now is None or (now.protocol, now.operation) != (call.protocol, call.operation):
            raise BadRequest("the edited path is another kind of call: only the model may be changed there")
        return now
    path, _, query = request.path.partition("?")
    return replace(call, path=path, query=query, headers=headers)
