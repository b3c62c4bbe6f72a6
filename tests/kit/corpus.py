"""Recorded provider exchanges beside the repository (`../shared/corpus`), which are never part of it.

`exchanges(api="messages", stream=True)` is empty where there is no corpus; mark tests that need it `@requires_corpus`.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2].parent / "shared" / "corpus"
APIS = ("chat", "responses", "messages", "generateContent", "count_tokens", "models")

requires_corpus = pytest.mark.skipif(not (FOLDER / "INDEX.tsv").is_file(), reason="no recorded exchanges in ../shared")


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    """JSON as parsed; None where none was recorded."""


@dataclass(frozen=True, slots=True)
class RecordedResponse:
    status: int
    content_type: str
    headers: dict[str, str]
    body: Any
    """The text of a stream, else JSON as parsed."""

    @property
    def data(self) -> bytes:
        """The body's bytes, to be sent again."""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@dataclass(frozen=True, slots=True)
class Recorded:
    id: str
    provider: str
    api: str
    stream: bool
    tags: frozenset[str]
    exact_response: bool
    """A stream's text is as it was sent, framing included."""
    request: RecordedRequest
    response: RecordedResponse


def exchanges(
    *, api: str | None = None, provider: str | None = None, stream: bool | None = None, tag: str | None = None
) -> list[Recorded]:
    """The recorded exchanges that are all of this, sorted by id."""
    return [
        recorded
        for recorded in everything()
        if (api is None or recorded.api == api)
        and (provider is None or recorded.provider == provider)
        and (stream is None or recorded.stream == stream)
        and (tag is None or tag in recorded.tags)
    ]


@functools.cache
def everything() -> tuple[Recorded, ...]:
    read = (_recorded(json.loads(path.read_bytes())) for path in FOLDER.glob("*/*.json"))
    return tuple(sorted(read, key=lambda recorded: recorded.id))


def _recorded(record: dict[str, Any]) -> Recorded:
    request, response = record["request"], record["response"]
    return Recorded(
        id=record["id"],
        provider=record["provider"],
        api=record["api"],
        stream=bool(record["stream"]),
        tags=frozenset(record["tags"]),
        exact_response=bool((record.get("exact") or {}).get("response")),
        request=RecordedRequest(
            method=request.get("method") or "POST",
            host=request.get("host") or "",
            path=request.get("path") or "",
            query=request.get("query") or {},
            headers=request.get("headers") or {},
            body=request.get("body"),
        ),
        response=RecordedResponse(
            status=response["status"],
            content_type=response.get("content_type") or "",
            headers=response.get("headers") or {},
            body=response.get("body"),
        ),
    )
