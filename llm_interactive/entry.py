"""Which call a request is, told by its method, path, query and headers alone (SPEC 1, the tables of paths)."""

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, unquote, urlencode

from llm_interactive.protocols.base import Call, Operation

ANTHROPIC_VERSION = "anthropic-version"

_GEMINI = r"(?:/(?:v1|v1beta|v1alpha|v1beta1))+"
_TABLE: tuple[tuple[str, str, str, Operation], ...] = (
    ("POST", r"(?:/v1)*/chat/completions", "openai_chat", "generate"),
    ("POST", r"(?:/v1)*/responses", "openai_responses", "generate"),
    ("POST", r"(?:/v1)*/responses/input_tokens", "openai_responses", "count_tokens"),
    ("POST", r"(?:/anthropic)?(?:/v1)+/messages", "anthropic_messages", "generate"),
    ("POST", r"(?:/anthropic)?(?:/v1)+/messages/count_tokens", "anthropic_messages", "count_tokens"),
    ("POST", _GEMINI + r"/models/(?P<model>[^:]+(?::[^:]+)*):(?:stream)?[gG]enerateContent", "gemini", "generate"),
    ("POST", _GEMINI + r"/models/(?P<model>.+):countTokens", "gemini", "count_tokens"),
    ("GET", r"/anthropic(?:/v1)+/models", "anthropic_messages", "models"),
    ("GET", r"/anthropic(?:/v1)+/models/(?P<model>.+)", "anthropic_messages", "model"),
    ("GET", r"(?:/v1beta|/v1alpha|/v1beta1)+/models", "gemini", "models"),
    ("GET", r"(?:/v1beta|/v1alpha|/v1beta1)+/models/(?P<model>.+)", "gemini", "model"),
    ("GET", r"(?:/v1)*/models", "", "models"),
    ("GET", r"(?:/v1)*/models/(?P<model>.+)", "", "model"),
    ("*", r"/anthropic(?:/v1)+/.+", "anthropic_messages", "other"),
    ("*", r"(?:/v1beta|/v1alpha|/v1beta1)+/.+", "gemini", "other"),
    ("*", r"(?:/v1)+/messages/batches(?:/.*)?", "anthropic_messages", "other"),
    ("*", r"(?:/v1)+/models/[^/]+:\w+", "gemini", "other"),
    ("*", r"(?:/v1)+/(?P<rest>[a-z_]+(?:/.*)?)", "openai_chat", "other"),
)
_PATHS = tuple((methods, re.compile(pattern), protocol, operation) for methods, pattern, protocol, operation in _TABLE)

KNOWN_PATHS = (
    "/v1/chat/completions", "/v1/responses", "/v1/messages", "/anthropic/v1/messages",
    "/v1beta/models/{model}:generateContent", "/v1/models", "/health",
)  # fmt: skip

CREDENTIAL_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")


def credentials_of(headers: Mapping[str, str], query: str) -> list[str]:
    """Every credential that a request carries (SPEC 3)."""
    found = [headers[name] for name in CREDENTIAL_HEADERS if name in headers]
    found = [value[7:].strip() if value[:7].lower() == "bearer " else value for value in found]
    return found + [value for name, value in parse_qsl(query) if name == "key"]


def without_key(query: str) -> str:
    if "key=" not in query:
        return query
    return urlencode([(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "key"])


def nearest_protocol(path: str, headers: Mapping[str, str], query: str = "") -> str:
    """Whose shape an answer takes where the path alone does not say: by what the vendors' SDKs send (SPEC 1)."""
    if path.startswith("/anthropic") or ANTHROPIC_VERSION in headers:
        return "anthropic_messages"
    if re.match(r"/v1(?:beta|alpha|beta1)\b", path) or "x-goog-api-key" in headers:
        return "gemini"
    if any(name == "key" for name, _ in parse_qsl(query)):
        return "gemini"
    return "openai_responses" if path.endswith("/responses") else "openai_chat"


def recognise(method: str, target: str, headers: Mapping[str, str]) -> Call | None:
    """`target` is the request's path with its query; `headers` have lower-case names. None: no call of any vendor."""
    path, _, query = target.partition("?")
    for methods, pattern, protocol, operation in _PATHS:
        if methods not in ("*", method):
            continue
        match = pattern.fullmatch(path)
        if match is None:
            continue
        if not protocol or (protocol == "openai_chat" and operation == "other"):
            protocol = nearest_protocol(path, headers, query) if not protocol else _owner(path, headers, query)
        streams = ":streamGenerateContent" in path
        return Call(
            protocol=protocol,
            operation=operation,
            path=path,
            query=without_key(query),
            model=_model(match),
            stream=streams if protocol == "gemini" and operation == "generate" else None,
            array=streams and ("alt", "sse") not in parse_qsl(query),
            headers={name: value for name, value in headers.items() if name not in CREDENTIAL_HEADERS},
        )
    return None


def recognise_on_host(method: str, target: str, headers: Mapping[str, str]) -> Call | None:
    """On a provider's own host, which may have a path of its own in front: `/api/paas/v4/chat/completions`."""
    call = recognise(method, target, headers)
    if is_read(call):
        return call
    path, mark, query = target.partition("?")
    for slash in re.finditer("/", path[1:]):
        below = recognise(method, path[slash.end() :] + mark + query, headers)
        if below is not None and is_read(below):
            return replace(below, path=path)
    return call


def is_read(call: Call | None) -> bool:
    """Whether the body of the call is a conversation."""
    return call is not None and call.operation in ("generate", "count_tokens")


def _model(match: re.Match[str]) -> str | None:
    groups = match.groupdict()
    return unquote(groups["model"]).removeprefix("models/") if groups.get("model") else None


def _owner(path: str, headers: Mapping[str, str], query: str) -> str:
    """The vendor of another path below /v1/: `/v1/files` and the like exist at OpenAI and at Anthropic."""
    nearest = nearest_protocol(path, headers, query)
    return "openai_chat" if nearest == "openai_responses" else nearest
