"""What the proxy answers about itself: `/`, `/health`, the pages of usage, and 404s that name the paths there are."""

from mitmproxy import http

from llm_interactive import __version__, entry, wire_json
from llm_interactive.errors import NotFound, ProxyError
from llm_interactive.mitm import usage_pages
from llm_interactive.mitm.recorder import DATABASE
from llm_interactive.protocols.base import Json, Protocol
from llm_interactive.settings import Settings

JSON_TYPE = {"content-type": "application/json"}


def json_response(status: int, body: Json) -> http.Response:
    return http.Response.make(status, wire_json.dumps(body), JSON_TYPE)


def error_response(protocol: Protocol, error: ProxyError) -> http.Response:
    headers = {**JSON_TYPE, **dict(error.headers)}
    return http.Response.make(error.status, wire_json.dumps(protocol.write_error(error)), headers)


async def answer(request: http.Request, settings: Settings) -> http.Response:
    path, _, query = request.path.partition("?")
    if "upgrade" in request.headers:
        raise ProxyError("WebSocket is not served here: use HTTP with server-sent events", status=426)
    match request.method, path:
        case "GET" | "HEAD", "/" | "/anthropic":
            return json_response(200, _about())
        case "GET" | "HEAD", "/health":
            return json_response(200, {"status": "ok", "version": __version__})
        case "GET" | "HEAD", _ if (page := await usage_pages.answer(path, query, settings.home / DATABASE)) is not None:
            return page
    paths = ", ".join((*entry.KNOWN_PATHS, *usage_pages.PATHS))
    raise NotFound(f"{request.method} {path} does not exist here; there are {paths}")


def _about() -> Json:
    return {
        "name": "LLM Interactive Proxy",
        "version": __version__,
        "paths": [*entry.KNOWN_PATHS, *usage_pages.PATHS],
    }
