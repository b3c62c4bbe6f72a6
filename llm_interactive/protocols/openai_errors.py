"""OpenAI's error shape, written and read; Chat Completions and Responses share it.

Reading takes what compatible services really send: Google's list, FastAPI's `detail`, errors that are plain strings,
OpenRouter's errors inside errors, pages of HTML. A provider's own words stay whole.
"""

import math
import re
from collections.abc import Mapping

from llm_interactive import wire_json
from llm_interactive.errors import ProxyError, UpstreamError
from llm_interactive.protocols.base import Json

PROTOCOLS = ("openai_chat", "openai_responses")

TYPE_OF_STATUS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
    503: "service_unavailable_error",
    504: "timeout_error",
    529: "service_unavailable_error",
}
CODE_OF_STATUS: Mapping[int, str] = {401: "invalid_api_key", 402: "insufficient_quota", 429: "rate_limit_exceeded"}
"""The codes that OpenAI's clients look for, where a foreign provider said none."""

STATUS_OF_WORD: Mapping[str, int] = {
    "authentication_error": 401,
    "context_length_exceeded": 400,
    "insufficient_quota": 429,
    "internal_error": 500,
    "internal_server_error": 500,
    "invalid_api_key": 401,
    "invalid_image": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "requests": 429,
    "server_error": 500,
    "server_is_overloaded": 503,
    "service_unavailable": 503,
    "slow_down": 503,
    "timeout_error": 504,
    "tokens": 429,
    "usage_limit_reached": 429,
    "vector_store_timeout": 504,
}
"""What an error inside a stream (HTTP 200 long since sent) means as an HTTP status."""

KEPT_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry", "request-id", "x-request-id")
KEPT_PREFIXES = ("x-ratelimit-", "ratelimit", "anthropic-ratelimit-")
MAX_PLAIN = 2000
MAX_DEPTH = 6
_TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_MESSAGE_KEYS = ("message", "error", "detail", "msg", "errors", "Message", "error_message", "error_msg", "raw")


def write_error(error: ProxyError) -> dict[str, Json]:
    """`{"error": {message, type, param, code}}`, with what else an OpenAI-like provider said in its own object."""
    own = isinstance(error, UpstreamError) and error.protocol in PROTOCOLS
    details = error.details if isinstance(error, UpstreamError) and own else {}
    kind = error.kind
    if isinstance(error, UpstreamError) and not own:
        kind = type_of(error.status)
    return {
        "error": {
            "message": error.message,
            "type": kind,
            "param": error.param,
            "code": error.code or (None if own else CODE_OF_STATUS.get(error.status)),
            **{key: value for key, value in details.items() if key not in ("message", "type")},
        }
    }


def type_of(status: int) -> str:
    return TYPE_OF_STATUS.get(status, "invalid_request_error" if 400 <= status < 500 else "server_error")


def read_error(protocol: str, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    value = _parsed(body)
    if isinstance(value, list) and value:  # Google wraps errors of streams in a list (TRAPS T92)
        value = value[0]
    error = _error(protocol, status, value if isinstance(value, dict) else {}, message_of(body), headers)
    error.body = body
    return error


def read_stream_error(protocol: str, error: Json) -> UpstreamError:
    """An error object where a part of an answer should be; its own code or type says what status it would have had."""
    return _error(protocol, status_of(error), {"error": error}, _message(error, MAX_DEPTH), {})


def _error(
    protocol: str, status: int, holder: dict[str, Json], message: str, headers: Mapping[str, str]
) -> UpstreamError:
    details = holder.get("error")
    details = details if isinstance(details, dict) else {}
    kept = [(name.lower(), text) for name, text in headers.items() if _is_kept(name.lower())]
    kept += [hint for hint in _hints(details) if hint[0] not in {name for name, _ in kept}]
    kind = details.get("type") or (holder.get("type") if not details else None)
    return UpstreamError(
        message or f"the provider answered with status {status} and no words",
        status=status,
        kind=kind if isinstance(kind, str) and kind != "error" else type_of(status),
        code=_word(details.get("code") if details else holder.get("code")),
        param=_word(details.get("param")),
        headers=tuple(kept),
        protocol=protocol,
        details=details,
    )


def status_of(error: Json) -> int:
    for key in ("code", "status", "status_code", "type"):
        word = error.get(key) if isinstance(error, dict) else None
        if isinstance(word, str):
            word = int(word) if word.isdecimal() and len(word) == 3 else STATUS_OF_WORD.get(word)
        if isinstance(word, int) and 400 <= word <= 599:
            return word
    return 502


def message_of(body: bytes) -> str:
    """The words for a person in an error's body, "" where there are none."""
    value = _parsed(body)
    if value is None:
        return _plain(body)
    return _message(value, MAX_DEPTH) or body.decode("utf-8", "replace").strip()[:MAX_PLAIN]


def _parsed(body: bytes) -> Json:
    """JSON, or the first JSON of an event stream; None for anything else."""
    lines = [body, *(line[5:] for line in body.splitlines() if line.startswith(b"data:"))]
    for text in lines:
        try:
            return wire_json.loads(text)
        except ValueError:
            continue
    return None


def _message(value: Json, depth: int) -> str:
    if isinstance(value, str):
        return _nested(value, depth)
    if not depth:
        return ""
    if isinstance(value, list):
        return "; ".join(words for item in value if (words := _message(item, depth - 1)))
    if not isinstance(value, dict):
        return ""
    words = next((words for key in _MESSAGE_KEYS if key in value and (words := _message(value[key], depth - 1))), "")
    return _with_place(words, value) + _raw(value, words, depth)


def _nested(text: str, depth: int) -> str:
    """A string that is itself an error in JSON gives that error's words."""
    if depth and text.lstrip().startswith(("{", "[")):
        try:
            inner = wire_json.loads(text)
        except ValueError:
            return text
        return _message(inner, depth - 1) or text
    return text


def _with_place(words: str, value: dict[str, Json]) -> str:
    """FastAPI's errors say in `loc` which field they mean."""
    place = value.get("loc")
    return f"{'.'.join(map(str, place))}: {words}" if words and isinstance(place, list) else words


def _raw(value: dict[str, Json], words: str, depth: int) -> str:
    """OpenRouter says "Provider returned error" and keeps the provider's own words in `metadata.raw`."""
    metadata = value.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    said = _message(raw, depth - 1) if raw else ""
    if not said or said in words:
        return ""
    return f": {said}" if words else said


def _plain(body: bytes) -> str:
    text = body.decode("utf-8", "replace").strip()
    if not text.startswith("<"):
        return text[:MAX_PLAIN]
    title = _TITLE.search(text[:20_000])
    said = " ".join(_TAG.sub(" ", title.group(2)).split()) if title else ""
    return f"the provider answered with a web page{f': {said[:200]}' if said else ''}"


def _word(value: Json) -> str | None:
    return None if value is None or isinstance(value, (dict, list, bool)) else str(value)


def _is_kept(name: str) -> bool:
    return name in KEPT_HEADERS or name.startswith(KEPT_PREFIXES)


def _hints(details: dict[str, Json]) -> list[tuple[str, str]]:
    """Headers that stand in the body: OpenRouter's `metadata.headers`, Google's RetryInfo ("34.4s")."""
    found: list[tuple[str, str]] = []
    metadata = details.get("metadata")
    hidden = metadata.get("headers") if isinstance(metadata, dict) else None
    if isinstance(hidden, dict):
        found += [(name.lower(), str(text)) for name, text in hidden.items() if _is_kept(name.lower())]
    inner = details.get("details")
    for detail in inner if isinstance(inner, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and re.fullmatch(r"\d{1,7}(\.\d+)?s", delay):
            found.append(("retry-after", str(math.ceil(float(delay[:-1])))))
    return found
