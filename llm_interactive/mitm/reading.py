"""What a flow says, read from the flow alone: as it was seen, or loaded from a file that another program saved."""

from collections.abc import Iterable

from mitmproxy import http

from llm_interactive import entry, protocols, wire_json
from llm_interactive.conversation import Conversation
from llm_interactive.errors import BadRequest
from llm_interactive.events import Event
from llm_interactive.headers import streams
from llm_interactive.protocols.base import Call, Notes, Protocol, Target
from llm_interactive.transcript import Answer, put_together

WORDS = ("messages", "system", "input", "instructions", "contents", "systemInstruction", "system_instruction")
"""Keys of a body in which a conversation stands; an edit leaves all others as they are."""


def call_of(flow: http.HTTPFlow) -> Call | None:
    """None where the flow's body is no conversation."""
    request = flow.request
    headers = {name.lower(): value for name, value in request.headers.items()}
    call = entry.recognise_on_host(request.method, request.path, headers)
    return call if entry.is_read(call) else None


def conversation_of(flow: http.HTTPFlow, call: Call) -> Conversation:
    """Raises `BadRequest`, `ValueError`."""
    body = wire_json.loads(flow.request.content or b"")
    if not isinstance(body, dict) or wire_json.depth_exceeds(body):
        raise BadRequest("the body is no conversation")
    return protocols.named(call.protocol).read_request(body, call)


def body_with(flow: http.HTTPFlow, call: Call, edited: Conversation) -> bytes:
    """The flow's body with the words of `edited`, which is what `conversation_of` gave, edited. Raises `ProxyError`."""
    body = flow.request.content or b""
    if not edited.changed:
        return body
    written = (
        protocols.named(call.protocol).write_request(edited, Target("", edited.model, call.protocol), Notes()).body
    )
    parsed = wire_json.loads(body)
    return wire_json.dumps({key: written[key] if key in WORDS and key in written else parsed[key] for key in parsed})


def answer_of(flow: http.HTTPFlow, call: Call) -> Answer:
    """Of a flow with a response; as much as there is of it."""
    response = flow.response
    assert response is not None
    protocol, body = protocols.named(call.protocol), response.content or b""
    headers = {name.lower(): value for name, value in response.headers.items()}
    if response.status_code >= 400:
        error = protocol.read_error(response.status_code, headers, body)
        return Answer("", (), (str(response.status_code),), error=error.message)
    is_stream = streams(headers.get("content-type", ""), call.protocol, bool(call.stream))
    return put_together(_events(protocol, body, is_stream))


def _events(protocol: Protocol, body: bytes, is_stream: bool) -> Iterable[Event]:
    reader = protocol.reply_reader(is_stream)
    for frame in (*reader.feed(body), *reader.finish()):
        yield from frame.events
