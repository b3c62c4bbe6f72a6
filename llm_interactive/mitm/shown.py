"""What mitmproxy shows, saves and logs of a client's request: nothing that redaction takes out of it (SPEC 9).

Call these as soon as the part is known: while anything is awaited, others may look.
"""

from mitmproxy import http

from llm_interactive.exchange import Exchange
from llm_interactive.redaction.passed import redacted_body
from llm_interactive.redaction.redactor import Redaction


def hide_in_head(request: http.Request, redaction: Redaction) -> None:
    for name, value in list(request.headers.items(multi=True)):
        if redaction.text(value) is not value:
            request.headers.set_all(name, [redaction.text(each) for each in request.headers.get_all(name)])
    if (path := redaction.text(request.path)) is not request.path:
        request.path = path


def hide_in_body(request: http.Request, redaction: Redaction) -> None:
    """Of a request that is no exchange."""
    body = request.raw_content or b""
    if (shown := redacted_body(redaction, body, request.headers.get("content-type", ""))) is not body:
        request.content = shown


def hide_in_exchange(request: http.Request, exchange: Exchange) -> None:
    """The body, when it was read or could not be."""
    body = exchange.shown_body()
    if body is not exchange.body or not body:  # one that could not be decompressed is not known
        request.headers.pop("content-encoding", None)
        request.content = body
