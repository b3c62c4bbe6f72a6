"""Errors in OpenAI's shape, written, and read from whatever compatible services send in its place (TRAPS T91, T92)."""

import re
from collections.abc import Mapping
from typing import Any

from llm_interactive import wire_json
from llm_interactive.errors import ProxyError, UpstreamError
from llm_interactive.protocols.base import Json

KINDS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
KEPT_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry", "x-request-id", "request-id")
KEPT_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
MAX_MESSAGE = 4000
MAX_PLAIN = 300

_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def write_error(error: ProxyError) -> dict[str, Json]:
    written: dict[str, Json] = dict(error.details) if isinstance(error, UpstreamError) and error.details else {}
    written |= {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
    return {"error": written}


def read_error(protocol: str, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Never raises; the provider's own words stay whole."""
    details = _error_object(body)
    code, param, kind = details.get("code"), details.get("param"), details.get("type")
    return UpstreamError(
        _message(details, body, status),
        status=status,
        kind=kind if isinstance(kind, str) else KINDS.get(status, "api_error"),
        code=None if code is None else str(code),
        param=param if isinstance(param, str) else None,
        headers=kept_headers(headers),
        protocol=protocol,
        body=body,
        details=details,
    )


def kept_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Those that a client may act on."""
    lower = ((name.lower(), value) for name, value in headers.items())
    return tuple((name, value) for name, value in lower if name in KEPT_HEADERS or name.startswith(KEPT_PREFIXES))


def message_of(body: bytes) -> str:
    """The words for a person in an error body of any shape."""
    return _message(_error_object(body), body, 0)


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        parsed = wire_json.loads(body)
    except ValueError:
        return {}
    if isinstance(parsed, list) and parsed:  # Gemini's OpenAI-compatible service wraps it
        parsed = parsed[0]
    match parsed:
        case {"error": {**error}}:
            return error
        case {"error": str(message), **rest}:  # xAI, Hugging Face
            return {
                "message": message,
                **{key: rest[key] for key in ("code", "type") if isinstance(rest.get(key), str)},
            }
        case {"detail": str(message)} | {"message": str(message)}:  # Mistral, FastAPI services
            return {**{k: parsed[k] for k in ("code", "type", "param") if k in parsed}, "message": message}
        case {"detail": detail}:
            return {"message": wire_json.text(detail)}
    return {}


def _message(details: Mapping[str, Any], body: bytes, status: int) -> str:
    message = details.get("message")
    if isinstance(message, str) and message:
        return message[:MAX_MESSAGE]
    if details:
        return wire_json.text(dict(details))[:MAX_MESSAGE]
    text = " ".join(_TAG.sub(" ", body[:20_000].decode("utf-8", "replace")).split())
    return text[:MAX_PLAIN] or f"the provider answered {status} without a word"
