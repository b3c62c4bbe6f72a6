"""Gemini's errors and model lists, both directions."""

import math
from collections.abc import Mapping, Sequence

from llm_interactive import wire_json
from llm_interactive.errors import ProxyError, UpstreamError
from llm_interactive.protocols.base import Json, ModelEntry

NAME = "gemini"

STATUS_NAMES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
KEPT_HEADERS = ("retry-after", "x-ratelimit-", "x-should-retry")
METHODS = ["generateContent", "countTokens"]
MAX_MESSAGE = 2000


def status_name(status: int) -> str:
    return STATUS_NAMES.get(status, "INVALID_ARGUMENT" if 400 <= status < 500 else "INTERNAL")


def write_error(error: ProxyError) -> dict[str, Json]:
    written: dict[str, Json] = {"code": error.status, "message": error.message, "status": status_name(error.status)}
    if isinstance(error, UpstreamError) and error.protocol == NAME:
        written |= {key: error.details[key] for key in ("status", "details") if error.details.get(key)}
    return {"error": written}


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Also the list that Google wraps around an error of a stream (TRAPS T92)."""
    details = _error_object(body)
    kept = [(name.lower(), value) for name, value in headers.items() if name.lower().startswith(KEPT_HEADERS)]
    delay = _retry_delay(details)
    if delay is not None and not any(name.startswith("retry-after") for name, _ in kept):
        kept.append(("retry-after", str(delay)))
    kind = details.get("status")
    return UpstreamError(
        _message(details, body, status),
        status=status,
        kind=kind if isinstance(kind, str) else status_name(status),
        code=_reason(details),
        headers=tuple(kept),
        protocol=NAME,
        body=body,
        details=details,
    )


def error_of_chunk(error: Json) -> UpstreamError:
    """An error object where an answer should be; its own code is the status."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code <= 599 else 502
    return read_error(status, {}, wire_json.dumps({"error": error}))


def no_answer(body: bytes) -> UpstreamError:
    """For a reply that is no JSON of this protocol: a page, a cut body, nothing."""
    start = body[:200].decode("utf-8", "replace").strip()
    said = f": {start}" if start else " (it was empty)"
    return UpstreamError(f"the provider's reply is no Gemini response{said}", protocol=NAME, body=body[:MAX_MESSAGE])


def _error_object(body: bytes) -> dict[str, Json]:
    try:
        value = wire_json.loads(body)
    except ValueError:
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _message(details: dict[str, Json], body: bytes, status: int) -> str:
    message = details.get("message")
    if isinstance(message, str) and message:
        return message
    text = body.decode("utf-8", "replace").strip()
    return text[:MAX_MESSAGE] or f"the provider answered with status {status} and no words"


def _reason(details: dict[str, Json]) -> str | None:
    """Google's ErrorInfo: a wrong key is a 400 there, and only this says so (`API_KEY_INVALID`)."""
    found = details.get("details")
    reasons = (detail.get("reason") for detail in found if isinstance(detail, dict)) if isinstance(found, list) else ()
    return next((reason for reason in reasons if isinstance(reason, str)), None)


def _retry_delay(details: dict[str, Json]) -> int | None:
    """Whole seconds of Google's RetryInfo ("34.4s")."""
    found = details.get("details")
    for detail in found if isinstance(found, list) else ():
        match detail:
            case {"@type": str(kind), "retryDelay": str(delay)} if kind == RETRY_INFO:
                try:
                    seconds = float(delay.removesuffix("s"))
                except ValueError:
                    continue
                return math.ceil(seconds) if 0 <= seconds < 1e9 else None
    return None


def write_models(models: Sequence[ModelEntry]) -> dict[str, Json]:
    return {"models": [write_model(model) for model in models]}


def write_model(model: ModelEntry) -> dict[str, Json]:
    name = model.id if model.id.startswith("models/") else f"models/{model.id}"
    if model.origin == NAME and isinstance(model.raw, dict):
        return {**model.raw, "name": name}
    limits = {"inputTokenLimit": model.context, "outputTokenLimit": model.max_output}
    return {
        "name": name,
        "version": "001",
        "displayName": model.name or model.id,
        **{key: limit for key, limit in limits.items() if limit is not None},
        "supportedGenerationMethods": METHODS,
    }


def read_models(body: Json) -> list[ModelEntry]:
    found = body.get("models") if isinstance(body, dict) else None
    return [
        ModelEntry(
            id=entry["name"].removeprefix("models/"),
            name=entry.get("displayName"),
            owner="google",
            context=entry.get("inputTokenLimit"),
            max_output=entry.get("outputTokenLimit"),
            raw=entry,
            origin=NAME,
        )
        for entry in (found if isinstance(found, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    ]
