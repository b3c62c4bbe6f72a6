"""Anthropic's errors and models lists, both directions."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from llm_interactive import wire_json
from llm_interactive.errors import ProxyError, UpstreamError
from llm_interactive.protocols.base import Json, ModelEntry
from llm_interactive.protocols.openai_errors import message_of

NAME = "anthropic_messages"

TYPE_OF_STATUS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
STATUS_OF_TYPE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What an error inside a stream (HTTP 200 long since sent) means as an HTTP status."""

KEPT_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry", "request-id", "x-request-id")
KEPT_PREFIXES = ("anthropic-ratelimit-", "x-ratelimit-")
CUT = "the provider's stream ended before the answer was complete"


def type_of(status: int) -> str:
    return TYPE_OF_STATUS.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")


def write_error(error: ProxyError) -> dict[str, Json]:
    """An own provider's error keeps what else stood in it (`error.details`, `request_id`)."""
    if isinstance(error, UpstreamError) and error.protocol == NAME:
        inner = {"type": error.kind, **error.details, "message": error.message}
        return {**_own_body(error.body), "type": "error", "error": inner}
    return {"type": "error", "error": {"type": type_of(error.status), "message": error.message}, "request_id": None}


def _own_body(body: bytes) -> dict[str, Json]:
    parsed = _object(body)
    return parsed if parsed.get("type") == "error" else {}


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    holder = _object(body)
    inner = holder.get("error")
    details = inner if isinstance(inner, dict) else {}
    kind, more = details.get("type"), details.get("details")
    code = more.get("error_code") if isinstance(more, dict) else details.get("code")
    kept = [(name.lower(), value) for name, value in headers.items() if _is_kept(name.lower())]
    return UpstreamError(
        message_of(body) or f"the provider answered with status {status} and no words",
        status=status,
        kind=kind if isinstance(kind, str) else type_of(status),
        code=code if isinstance(code, str) else None,
        headers=tuple(kept),
        protocol=NAME,
        body=body,
        details=details,
    )


def read_stream_error(event: dict[str, Json]) -> UpstreamError:
    """An error event, or an error object where an answer should be; its type says what status it would have had."""
    inner = event.get("error")
    kind = inner.get("type") if isinstance(inner, dict) else None
    status = STATUS_OF_TYPE.get(kind, 502) if isinstance(kind, str) else 502
    return read_error(status, {}, wire_json.dumps(event))


def no_answer(body: bytes) -> UpstreamError:
    """For a reply that is no JSON of this protocol: a page, a cut body, nothing."""
    said = message_of(body[:2000])[:500]
    words = f"the provider's reply is no Anthropic message{f': {said}' if said else ' (it was empty)'}"
    return UpstreamError(words, protocol=NAME, body=body[:2000])


def _object(body: bytes) -> dict[str, Json]:
    try:
        value = wire_json.loads(body)
    except ValueError:
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, dict) else {}


def _is_kept(name: str) -> bool:
    return name in KEPT_HEADERS or name.startswith(KEPT_PREFIXES)


def write_models(models: Sequence[ModelEntry]) -> dict[str, Json]:
    """All on one page (TRAPS T102)."""
    return {
        "data": [write_model(model) for model in models],
        "has_more": False,
        "first_id": models[0].id if models else None,
        "last_id": models[-1].id if models else None,
    }


def write_model(model: ModelEntry) -> dict[str, Json]:
    if model.origin == NAME and isinstance(model.raw, dict):
        return {**model.raw, "id": model.id}
    limits = {"max_input_tokens": model.context, "max_tokens": model.max_output}
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.name or model.id,
        "created_at": datetime.fromtimestamp(model.created or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        **{key: limit for key, limit in limits.items() if limit is not None},
    }


def read_models(body: Json) -> list[ModelEntry]:
    found = body.get("data") if isinstance(body, dict) else None
    return [
        ModelEntry(
            id=entry["id"],
            name=_text(entry.get("display_name")),
            created=_seconds(entry.get("created_at")),
            owner="anthropic",
            context=_whole(entry.get("max_input_tokens")),
            max_output=_whole(entry.get("max_tokens")),
            raw=entry,
            origin=NAME,
        )
        for entry in (found if isinstance(found, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    ]


def _seconds(moment: Json) -> int | None:
    try:
        return int(datetime.fromisoformat(moment).timestamp()) if isinstance(moment, str) else None
    except (ValueError, OverflowError):
        return None


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
