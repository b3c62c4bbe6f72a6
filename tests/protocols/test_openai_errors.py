"""OpenAI's error shape: a provider's words stay whole, whatever it wrapped them in."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import corpus

from llm_interactive.errors import BadRequest, NotAuthenticated, UpstreamError
from llm_interactive.protocols import openai_errors

REFUSALS = [each for each in corpus.everything() if each.response.status >= 400]


def read(body: Any, status: int = 400, headers: dict[str, str] | None = None) -> UpstreamError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return openai_errors.read_error("openai_chat", status, headers or {}, data)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "no such model", "type": "invalid_request_error"}}, "no such model"),
        ([{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}], "overloaded"),
        ({"detail": "Invalid API Key"}, "Invalid API Key"),
        ({"detail": [{"loc": ["body", "top_p"], "msg": "too large"}]}, "body.top_p: too large"),
        ({"code": "invalid-argument", "error": "Incorrect API key"}, "Incorrect API key"),
        ({"message": "Unauthorized", "request_id": "1"}, "Unauthorized"),
        ({"object": "error", "message": {"detail": [{"loc": ["n"], "msg": "bad"}]}}, "n: bad"),
        ({"error": {"message": '{"error": {"message": "inner words"}}'}}, "inner words"),
        ({"success": False, "errors": [{"message": "a"}, {"message": "b"}]}, "a; b"),
        (b"upstream connect error", "upstream connect error"),
        (b"<html><head><title>502 Bad Gateway</title></head><body>x</body></html>", "502 Bad Gateway"),
        (b'event: error\ndata: {"error": {"message": "in a stream"}}\n\n', "in a stream"),
        (b"", "no words"),
    ],
)
def test_t92_the_words_are_found(body: Any, message: str) -> None:
    assert message in read(body).message


def test_openrouters_inner_error_is_told_too() -> None:
    raw = json.dumps({"error": {"message": "slow down"}})
    body = {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": raw}}}
    assert read(body, 429).message == "Provider returned error: slow down"


def test_t91_headers_that_a_client_acts_on_are_kept() -> None:
    headers = {
        "Retry-After": "7",
        "x-ratelimit-reset-tokens": "1s",
        "anthropic-ratelimit-unified-reset": "9",
        "x-should-retry": "false",
        "x-request-id": "r",
        "set-cookie": "secret",
    }
    kept = dict(read({"error": {"message": "m"}}, 429, headers).headers)
    assert kept == {name.lower(): value for name, value in headers.items() if name != "set-cookie"}


def test_t91_headers_inside_the_body_are_kept() -> None:
    metadata = {"headers": {"X-RateLimit-Reset": "1759845420000"}}
    assert ("x-ratelimit-reset", "1759845420000") in read({"error": {"message": "m", "metadata": metadata}}).headers
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}]
    assert ("retry-after", "35") in read([{"error": {"message": "m", "details": details}}]).headers


def test_written_as_read_for_a_client_of_openai() -> None:
    error = {"message": "m", "type": "tokens", "param": None, "code": "rate_limit_exceeded", "extra": 1}
    assert openai_errors.write_error(read({"error": error}, 429)) == {"error": error}


def test_foreign_errors_get_openais_words() -> None:
    error = UpstreamError("Overloaded", status=529, kind="overloaded_error", protocol="anthropic_messages")
    written = {"message": "Overloaded", "type": "service_unavailable_error", "param": None, "code": None}
    assert openai_errors.write_error(error) == {"error": written}
    limited = UpstreamError("wait", status=429, kind="RESOURCE_EXHAUSTED", protocol="gemini")
    assert openai_errors.write_error(limited)["error"]["code"] == "rate_limit_exceeded"


def test_the_proxys_own_errors() -> None:
    written = openai_errors.write_error(BadRequest("'n' must be int", param="n"))["error"]
    assert written == {"message": "'n' must be int", "type": "invalid_request_error", "param": "n", "code": None}
    assert openai_errors.write_error(NotAuthenticated("no"))["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429}, 429),
        ({"code": "503"}, 503),
        ({"type": "server_error", "code": None}, 500),
        ({"code": "rate_limit_exceeded"}, 429),
        ({"type": "overloaded_error"}, 529),
        ({"message": "x"}, 502),
        ("words", 502),
    ],
)
def test_t79_the_status_of_an_error_in_a_stream(error: Any, status: int) -> None:
    assert openai_errors.read_stream_error("openai_chat", error).status == status


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", REFUSALS, ids=lambda e: e.id)
def test_recorded_errors_keep_their_words(exchange: corpus.Recorded) -> None:
    body = exchange.response.body
    holder = body[0] if isinstance(body, list) else body
    said = holder.get("error", holder.get("detail")) if isinstance(holder, dict) else holder
    words = said.get("message") if isinstance(said, dict) else said
    assert words in read(body, exchange.response.status).message


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_any_body_gives_words(body: bytes) -> None:
    error = openai_errors.read_error("openai_chat", 500, {}, body)
    assert error.message
    assert set(openai_errors.write_error(error)["error"]) >= {"message", "type", "param", "code"}
