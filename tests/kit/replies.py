"""What a test tells an `Upstream` to answer, and what it may do wrong.

A reply is a status, headers and pieces of a body; a piece may also be a `Pause`, a wait for a `Gate`, or a `Fault`,
which ends the reply there. Pieces may come from a generator that never ends.
"""

import enum
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

EVENT_STREAM = {"content-type": "text/event-stream"}


class Fault(enum.Enum):
    """An end that is none."""

    RESET = "the connection is reset: TCP RST"
    RESET_STREAM = "HTTP/2: RST_STREAM(INTERNAL_ERROR) of this stream; HTTP/1: RESET"
    CLOSE = "the connection is closed in good order, but the body is not ended: a truncated chunked body on HTTP/1"
    STALL = "nothing more comes, and the connection stays open"


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


class Gate(threading.Event):
    """Holds a reply back until the test calls `set()`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Before the first piece the head is sent. `length`: HTTP/1 sends `content-length` and the body is not chunked."""

    pieces: Iterable[bytes | Pause | Gate | Fault]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Instead:
    """No head at all: raw bytes (on HTTP/2 below the framing), and then a fault."""

    fault: Fault
    garbage: bytes = b""


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """JSON with its length."""
    return text(json.dumps(body), status, {"content-type": "application/json"} | dict(headers or {}))


def text(body: str | bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    data = body.encode() if isinstance(body, str) else body
    return Reply((data,), status, {"content-type": "text/plain"} | dict(headers or {}), len(data))


def stream(*pieces: bytes | str | Pause | Gate | Fault, status: int = 200) -> Reply:
    """An event stream cut exactly like this: every piece is one write."""
    return Reply([each.encode() if isinstance(each, str) else each for each in pieces], status, EVENT_STREAM)


def sse(*events: Any, done: bool = False) -> Reply:
    """Server-sent events, one write each; what is no piece already becomes `data: <JSON>`. `done`: with `[DONE]`."""
    ready = (bytes, str, Pause, Gate, Fault)
    pieces = [each if isinstance(each, ready) else f"data: {json.dumps(each)}\n\n" for each in events]
    return stream(*pieces, *(["data: [DONE]\n\n"] if done else []))


def chat_stream(*words: str, model: str = "replayed") -> Reply:
    """An OpenAI Chat Completions stream that says these words, one chunk each, with usage at the end."""
    return sse(*(chat_chunk(each, model) for each in words), *chat_end(len(words), model), done=True)


def chat_chunk(content: str, model: str = "replayed") -> dict[str, Any]:
    return _chunk(model, [{"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": None}])


def chat_end(words: int, model: str = "replayed") -> list[dict[str, Any]]:
    usage = {"prompt_tokens": 7, "completion_tokens": words, "total_tokens": 7 + words}
    end = _chunk(model, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    return [end, _chunk(model, []) | {"usage": usage}]


def chat(content: str, model: str = "replayed") -> Reply:
    """A plain OpenAI Chat Completions reply."""
    message = {"role": "assistant", "content": content, "refusal": None}
    return answer(
        {
            "id": "chatcmpl-replayed",
            "object": "chat.completion",
            "created": 1_750_000_000,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
    )


def openai_error(status: int, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more
    return answer({"error": error}, status, headers)


HTML_500 = text("<html><body><h1>500 Internal Server Error</h1></body></html>", 500, {"content-type": "text/html"})
NO_ANSWER = Instead(Fault.STALL)
CLOSED_AT_ONCE = Instead(Fault.CLOSE)
RESET_AT_ONCE = Instead(Fault.RESET)
GARBAGE = Instead(Fault.CLOSE, b"\x00\x15\x03\x01 SSH-2.0-this is no HTTP\r\n\r\n")


def _chunk(model: str, choices: list[Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-replayed",
        "object": "chat.completion.chunk",
        "created": 1_750_000_000,
        "model": model,
        "choices": choices,
    }
