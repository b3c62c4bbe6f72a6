"""What mitmproxy shows, saves and logs of a client's request: nothing that redaction takes out of it (SPEC 9)."""

from mitmproxy import http

from llm_interactive.exchange import Exchange


def hide_secrets(flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Call it as soon as the body is read, or could not be: while anything is awaited, others may look."""
    redaction, request = exchange.redaction, flow.request
    if redaction is None:
        return
    for name, value in list(request.headers.items(multi=True)):
        if redaction.text(value) is not value:
            request.headers.set_all(name, [redaction.text(each) for each in request.headers.get_all(name)])
    if (path := redaction.text(request.path)) is not request.path:
        request.path = path
    body = exchange.shown_body()
    if body is not exchange.body or not body:  # one that could not be decompressed is not known
        request.headers.pop("content-encoding", None)
        request.content = body
