"""WebSocket traffic of Responses and Realtime on the providers' own hosts: passed on, redacted, counted (SPEC 9, 10).

Its messages are not a conversation to this proxy: commands in them are text, and nothing is translated or stopped.
Of what mitmproxy keeps of them the oldest are let go, so that hours of speech fit into memory.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mitmproxy import http

from llm_interactive import wire_json
from llm_interactive.backends import catalog
from llm_interactive.events import Usage
from llm_interactive.protocols.openai_responses_decoder import read_usage
from llm_interactive.redaction.passed import redacted_body
from llm_interactive.redaction.redactor import Redactor
from llm_interactive.sessions import session_id
from llm_interactive.storage.ledger import UsageRow

KEPT = 2 * 1024 * 1024
"""Bytes of messages that are kept of a connection, and the last message."""
FRONTENDS = {"/responses": "openai_responses", "/realtime": "openai_realtime"}
"""End of the path -> what is spoken there."""
ENDS = ("response.completed", "response.done", "response.incomplete", "response.failed")
"""Events with the usage of one response."""
REASONS = {"completed": "stop", "incomplete": "length", "failed": "error", "cancelled": "cancelled"}
"""Status of a response -> how a usage row calls its end."""
JSON = "application/json"

type Record = Callable[[UsageRow], None]


@dataclass(slots=True)
class _Open:
    """A connection: what is spoken, with whom, and what of it is kept."""

    frontend: str
    backend: str
    session: str
    headers: dict[str, str]
    begun: float
    model: str = ""
    kept: int = 0
    responses: int = 0


class Sockets:
    """The addon. `redactor`: None where secrets may go on."""

    def __init__(
        self,
        provider: Callable[[http.HTTPFlow], catalog.Backend | None],
        redactor: Callable[[], Redactor | None],
        record: Record,
    ) -> None:
        self._provider = provider
        self._redactor = redactor
        self._record = record
        self._open: dict[str, _Open] = {}

    def websocket_start(self, flow: http.HTTPFlow) -> None:
        backend = self._provider(flow)
        path = flow.request.path.partition("?")[0]
        frontend = next((name for end, name in FRONTENDS.items() if path.endswith(end)), None)
        if backend is None or frontend is None:
            return
        headers = {name.lower(): value for name, value in flow.request.headers.items()}
        session = session_id(headers, {}).partition("/")[2]
        model = flow.request.query.get("model", "")
        self._open[flow.id] = _Open(frontend, backend.name, session, headers, time.monotonic(), model)
        flow.metadata |= {"llm_protocol": frontend, "llm_backend": backend.name, "llm_session": session}

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        connection, socket = self._open.get(flow.id), flow.websocket
        if connection is None or socket is None:
            return
        message = socket.messages[-1]
        if message.from_client:
            redactor = self._redactor()
            if redactor is not None and message.is_text:
                message.content = redacted_body(redactor.begin(), message.content, JSON)
        elif message.is_text and b'"response.' in message.content[:200]:
            self._heard(flow, connection, message.content)
        connection.kept += len(message.content)
        while connection.kept > KEPT and len(socket.messages) > 1:
            connection.kept -= len(socket.messages.pop(0).content)

    def _heard(self, flow: http.HTTPFlow, connection: _Open, content: bytes) -> None:
        try:
            event = wire_json.loads(content)
        except ValueError:
            return
        response = event.get("response") if isinstance(event, dict) else None
        if not isinstance(response, dict):
            return
        connection.model = str(response.get("model") or connection.model)
        if event.get("type") == "response.created":
            connection.begun = time.monotonic()
        elif event.get("type") in ENDS:
            connection.responses += 1
            self._record(replace(_row(connection, response), flow_id=flow.id))
            there = f"{connection.backend}/{connection.model}"
            flow.comment = f"{connection.frontend} → {there} · {connection.responses} responses over WebSocket"

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        self._open.pop(flow.id, None)


def _in_responses_words(usage: dict[str, Any]) -> dict[str, Any]:
    """Realtime says `input_token_details` where Responses says `input_tokens_details`."""
    return {key.replace("_token_details", "_tokens_details"): value for key, value in usage.items()}


def _row(connection: _Open, response: dict[str, Any]) -> UsageRow:
    told = response.get("usage")
    usage = read_usage(_in_responses_words(told)) if isinstance(told, dict) else Usage()
    headers, error = connection.headers, response.get("error")
    now = time.monotonic()
    return UsageRow(
        request_id=str(response.get("id") or ""),
        timestamp=datetime.now(UTC),
        session=connection.session,
        username=headers.get("x-user-id", "").strip() or "anonymous",
        project=headers.get("x-project", "").strip() or None,
        frontend=connection.frontend,
        backend=connection.backend,
        requested_model=connection.model,
        model=connection.model,
        stream=True,
        status=101,
        error=str(error.get("message")) if isinstance(error, dict) else None,
        prompt_tokens=usage.input or 0,
        cached_tokens=usage.cached or 0,
        completion_tokens=usage.output or 0,
        reasoning_tokens=usage.reasoning or 0,
        execution_time=now - connection.begun,
        end_reason=REASONS.get(str(response.get("status")), "other"),
        notes="over WebSocket",
        raw_usage=usage.raw,
    )
