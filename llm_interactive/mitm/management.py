"""What the proxy answers about itself: `/`, `/health`, `/usage/recent`, and 404s that name the paths there are."""

from urllib.parse import parse_qsl

from mitmproxy import http

from llm_interactive import __version__, entry, wire_json
from llm_interactive.errors import BadRequest, NotFound, ProxyError
from llm_interactive.mitm.recorder import Recorder
from llm_interactive.protocols.base import Json, Protocol
from llm_interactive.settings import Settings

JSON_TYPE = {"content-type": "application/json"}
FILTERS = ("project", "backend", "model", "username", "session")


def json_response(status: int, body: Json) -> http.Response:
    return http.Response.make(status, wire_json.dumps(body), JSON_TYPE)


def error_response(protocol: Protocol, error: ProxyError) -> http.Response:
    headers = {**JSON_TYPE, **dict(error.headers)}
    return http.Response.make(error.status, wire_json.dumps(protocol.write_error(error)), headers)


async def answer(
    request: http.Request, protocol: Protocol, settings: Settings, recorder: Recorder | None
) -> http.Response:
    path, _, query = request.path.partition("?")
    if "upgrade" in request.headers:
        raise ProxyError("WebSocket is not served here: use HTTP with server-sent events", status=426)
    match request.method, path:
        case "GET" | "HEAD", "/" | "/anthropic":
            return json_response(200, _about())
        case "GET" | "HEAD", "/health":
            return json_response(200, {"status": "ok", "version": __version__})
        case "GET", "/usage/recent":
            return await _recent(query, recorder)
        case "GET", "/usage/stats":
            return await _stats(query, recorder)
    paths = ", ".join(entry.KNOWN_PATHS)
    raise NotFound(f"{request.method} {path} does not exist here; there are {paths}")


def _about() -> Json:
    return {
        "name": "LLM Interactive Proxy",
        "version": __version__,
        "paths": [*entry.KNOWN_PATHS, "/usage/recent", "/usage/stats"],
    }


async def _recent(query: str, recorder: Recorder | None) -> http.Response:
    given = dict(parse_qsl(query))
    limit = _whole(given, "limit", 100, 10_000)
    rows = await recorder.recent(limit, _filters(given)) if recorder is not None else []
    return json_response(200, {"object": "usage_entries", "data": rows})


async def _stats(query: str, recorder: Recorder | None) -> http.Response:
    given = dict(parse_qsl(query))
    days = _whole(given, "days", 30, 36_500)
    data = await recorder.stats(days, _filters(given)) if recorder is not None else {}
    return json_response(200, {"object": "usage_stats", "data": data})


def _filters(given: dict[str, str]) -> dict[str, str]:
    return {name: given[name] for name in FILTERS if given.get(name)}


def _whole(given: dict[str, str], name: str, default: int, most: int) -> int:
    text = given.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise BadRequest(f"{name} must be a whole number from 1 to {most}, not {text!r}", param=name)
    return int(text)
