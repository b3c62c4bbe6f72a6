"""The walk of one request, without a socket."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.configuration import Configuration
from llm_interactive.errors import BadRequest, NotFound, UpstreamError
from llm_interactive.exchange import Exchange
from llm_interactive.protocols.base import Call

URL = "http://provider.test:8080/v1"
KEYS = ("sk-first-0123456789", "sk-second-0123456789")
BACKEND = ConfiguredBackend("openai", {"openai_chat": URL}, tuple(map(SecretStr, KEYS)))
BODY: dict[str, Any] = {"model": "openai:m", "messages": [{"role": "user", "content": "Hello?"}], "x-own": [1.0]}
ANSWER = b'{"id":"c1","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'


def exchange(headers: dict[str, str] | None = None, **more: Any) -> Exchange:
    call = Call("openai_chat", "generate", "/v1/chat/completions", headers=headers or {})
    return Exchange(call, Configuration({"openai": BACKEND}), clock=iter(range(1000)).__next__, **more)


def begun() -> Exchange:
    ours = exchange()
    ours.read(json.dumps(BODY).encode())
    ours.plan()
    ours.next_attempt()
    return ours


def test_an_attempt_is_the_clients_request_with_our_key() -> None:
    outgoing = begun().outgoing
    assert outgoing is not None
    assert (outgoing.scheme, outgoing.host, outgoing.port) == ("http", "provider.test", 8080)
    assert (outgoing.method, outgoing.path, outgoing.authority) == (
        "POST",
        "/v1/chat/completions",
        "provider.test:8080",
    )
    assert json.loads(outgoing.body) == BODY | {"model": "m"}
    assert dict(outgoing.headers)["authorization"] == f"Bearer {KEYS[0]}"
    assert dict(outgoing.headers)["accept-encoding"] == "identity"
    assert KEYS[0] not in repr(outgoing)


def test_a_refused_attempt_is_followed_by_the_next_key_and_then_by_the_error() -> None:
    ours = begun()
    ours.sent()
    ours.answered(429, [("retry-after", "7")])
    step = ours.feed(b'{"error": {"message": "slow down"}}')._replace()
    refused = ours.finish().refused
    assert step.refused is None
    assert refused is not None
    ours.refused(refused)
    ours.next_attempt()
    assert ours.outgoing is not None
    assert dict(ours.outgoing.headers)["authorization"] == f"Bearer {KEYS[1]}"
    ours.refused(UpstreamError("no connection"))
    ours.next_attempt()
    assert ours.local is not None
    assert (ours.local.status, json.loads(ours.local.body)["error"]["message"]) == (502, "no connection")
    attempts = dict(ours.local.headers)["x-llm-proxy-attempts"]
    assert attempts == "openai:m key 1: 429 slow down; openai:m key 2: 502 no connection"
    assert [(try_.status, try_.error) for try_ in ours.tries] == [(429, "slow down"), (502, "no connection")]


def test_the_clients_own_fault_is_not_tried_again() -> None:
    ours = begun()
    ours.answered(400, [])
    refused = ours.feed(b"x" * 300_000).refused
    assert refused is not None
    ours.refused(refused)
    ours.next_attempt()
    assert len(ours.tries) == 1
    assert ours.local is not None
    assert ours.local.status == 400


def test_an_answer_goes_on_as_it_came() -> None:
    ours = begun()
    ours.answered(200, [("content-type", "application/json"), ("x-request-id", "r1"), ("connection", "close")])
    ours.feed(ANSWER)
    step = ours.finish()
    assert (step.last, step.ended) == ((ANSWER,), True)
    headers = dict(ours.reply_headers())
    assert (headers["content-type"], headers["x-request-id"]) == ("application/json", "r1")
    assert headers["x-llm-proxy-backend"] == "openai:m"
    assert "connection" not in headers


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (302, [("location", "/login")], "the provider redirects to /login; is the base URL right?"),
        (304, [], "the provider answered with status 304, which is no answer"),
        (101, [], "the provider answered with status 101, which is no answer"),
    ],
)
def test_a_status_that_is_no_answer(status: int, headers: list[tuple[str, str]], words: str) -> None:
    ours = begun()
    ours.answered(status, headers)
    refused = ours.finish().refused
    assert refused is not None
    assert (refused.message, refused.status) == (words, 502)


def test_a_client_that_leaves_ends_the_attempt_once() -> None:
    ours = begun()
    ours.client_left()
    ended = ours.tries[0].ended
    ours.client_left()
    assert (ours.tries[0].error, ours.tries[0].ended) == ("the client disconnected", ended)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"[1]", "must be a JSON object, not list"),
        (b'{"model": "m", "x": ' + b"[" * 130 + b"]" * 130 + b"}", "levels deep"),
    ],
)
def test_a_bad_body_is_named(body: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        exchange().read(body)


def test_nothing_to_try_is_an_error() -> None:
    call = Call("gemini", "other", "/v1beta/files")
    with pytest.raises(NotFound, match="no backend that serves /v1beta/files"):
        Exchange(call, Configuration({"openai": BACKEND})).plan()


def test_header_values_are_one_line_of_ascii() -> None:
    ours = begun()
    ours.notes.add("Grüße\r\nset-cookie: x")
    assert dict(ours.reply_headers())["x-llm-proxy-notes"] == "Gr\\xfc\\xdfe set-cookie: x"
