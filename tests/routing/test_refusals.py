"""Every vendor's way of saying no, read as its protocol reads it."""

import json
from typing import Any

import pytest
from kit import corpus
from kit.corpus import requires_corpus

from llm_interactive import protocols
from llm_interactive.errors import BadRequest, UpstreamError
from llm_interactive.routing import refusals
from llm_interactive.routing.refusals import DAY, HOUR, moment, moves_on, named_wait, rest_of

NOW = 1_759_845_400.0
"""2025-10-07 13:56:40 UTC"""
PROTOCOL_OF = {
    "chat": "openai_chat",
    "responses": "openai_responses",
    "messages": "anthropic_messages",
    "generateContent": "gemini",
}


def refused(protocol: str, status: int, body: Any = None, headers: dict[str, str] | None = None) -> UpstreamError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return protocols.named(protocol).read_error(status, headers or {}, data)


def chat(status: int, message: str = "no", headers: dict[str, str] | None = None, **more: Any) -> UpstreamError:
    return refused("openai_chat", status, {"error": {"message": message, **more}}, headers)


def test_what_moves_on() -> None:
    moving = {status for status in range(400, 600) if moves_on(UpstreamError("x", status=status))}
    assert moving == {401, 402, 403, 404, 408, 409, 425, 429, *range(500, 600)}


@pytest.mark.parametrize(
    ("error", "moves"),
    [
        (chat(404, "The model `x` does not exist or you do not have access to it.", code="model_not_found"), True),
        (chat(404, "No endpoints found for deepseek/deepseek-v3-base:free.", code=404), True),
        (refused("gemini", 404, {"error": {"code": 404, "message": "models/x is not found for API version"}}), True),
        (
            refused("anthropic_messages", 404, {"error": {"type": "not_found_error", "message": "model: claude-9"}}),
            True,
        ),
        (refused("openai_chat", 404, b"404 page not found"), True),
        (refused("openai_chat", 404, b"<html><title>Not Found</title></html>"), True),
        (chat(404, "No such File object: file-abc", param="id"), False),
        (chat(404, "Previous response with id 'resp_1' not found.", code="previous_response_not_found"), False),
        (refused("gemini", 404, {"error": {"code": 404, "message": "CachedContent not found"}}), False),
        (chat(400, "The requested model 'o1' is not supported.", code="model_not_found"), True),
        (chat(400, "The model `x` has been decommissioned", code="model_decommissioned"), True),
        (chat(400, "Unsupported parameter: 'stop' is not supported with this model.", param="stop"), False),
        (chat(422, "no"), False),
        (refused("gemini", 400, {"error": {"message": "API key not valid. Please pass a valid API key."}}), True),
        (BadRequest("the target has no words for it"), False),
    ],
)
def test_whether_another_attempt_may_do_better(error: UpstreamError, moves: bool) -> None:
    assert moves_on(error) is moves


API_KEY_INVALID = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
LOW_BALANCE = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."


@pytest.mark.parametrize(
    ("error", "seconds", "whole_key"),
    [
        (chat(401, "Incorrect API key provided", code="invalid_api_key"), HOUR, True),
        (
            refused("openai_responses", 400, {"code": "invalid-argument", "error": "Incorrect API key provided."}),
            HOUR,
            True,
        ),
        (refused("gemini", 400, {"error": {"message": "no", "details": API_KEY_INVALID}}), HOUR, True),
        (chat(403, "Your project is not allowed"), HOUR, True),
        (chat(403, "You are not allowed to sample from this model"), HOUR, False),
        (chat(402, "Insufficient Balance"), 6 * HOUR, True),
        (chat(402, "This request requires more credits, or fewer max_tokens."), HOUR, False),
        (chat(429, "You exceeded your current quota", code="insufficient_quota"), 6 * HOUR, True),
        (chat(429, "Insufficient balance or no resource package", code="1113"), 6 * HOUR, True),
        (refused("anthropic_messages", 400, {"error": {"message": LOW_BALANCE}}), 6 * HOUR, True),
    ],
)
def test_a_key_is_put_aside(error: UpstreamError, seconds: float, whole_key: bool) -> None:
    rest = rest_of(error, NOW)
    assert rest is not None
    assert (rest.seconds, rest.whole_key, rest.aside) == (seconds, whole_key, True)
    assert moves_on(error)


@pytest.mark.parametrize(
    "error",
    [
        *(chat(status) for status in (400, 404, 408, 409, 413, 422, 425, 500, 502, 503, 504)),
        refused("openai_chat", 403, b"<!DOCTYPE html><title>Attention Required! | Cloudflare</title>"),
        chat(403, "Your input was flagged", metadata={"reasons": ["violence"], "flagged_input": "x"}),
        BadRequest("the proxy's own"),
    ],
)
def test_what_says_nothing_of_the_key(error: UpstreamError) -> None:
    assert rest_of(error, NOW) is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (chat(400, "messages.1.content.0: Invalid `signature` in `thinking` block"), True),
        (
            chat(400, "messages.3: `thinking` or `redacted_thinking` blocks: the signature was made by another model"),
            True,
        ),
        (chat(400, "Expected `thinking`, but found `text`"), False),
        (chat(500, "Invalid `signature` in `thinking` block"), False),
    ],
)
def test_reasoning_that_was_refused(error: UpstreamError, expected: bool) -> None:
    assert refusals.is_about_thinking(error) is expected


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}
PER_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
PER_MINUTE = {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]}
OPENROUTER = {
    "headers": {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1759845420000"}
}
UNIFIED = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-reset": "1759849000",
    "anthropic-ratelimit-unified-7d-status": "allowed",
    "anthropic-ratelimit-unified-7d-reset": "1760000000",
}


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (chat(429, headers={"retry-after": "7"}), 7),
        (chat(429, headers={"retry-after": "1.5"}), 1.5),
        (chat(429, headers={"retry-after": "Tue, 07 Oct 2025 13:57:00 GMT"}), 20),
        (chat(429, headers={"retry-after-ms": "250", "retry-after": "1"}), 0.25),
        (chat(429, headers={"retry-after-ms": "0", "retry-after": "1"}), 1),
        (chat(429, headers={"retry-after": "0"}), 1),
        (chat(429, headers={"retry-after": "-5"}), None),
        (chat(429, headers={"retry-after": "99999999"}), DAY),
        (chat(429, headers={"retry-after": "soon"}), None),
        (chat(529, headers={"retry-after": "3"}), 3),
        (chat(429, headers={"x-ratelimit-reset-requests": "12ms", "x-ratelimit-reset-tokens": "6m0s"}), 360),
        (
            chat(
                429,
                headers={
                    "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": "8.64s",
                    "x-ratelimit-remaining-tokens": "500",
                    "x-ratelimit-reset-tokens": "1m30s",
                },
            ),
            8.64,
        ),
        (chat(429, headers={"x-ratelimit-reset": "1759845420000"}), 20),
        (chat(429, headers={"x-ratelimit-reset": "1759845420"}), 20),
        (chat(429, headers={"x-ratelimit-reset": "1759845000"}), None),
        (chat(429, headers={"ratelimit": '"default";r=0;t=30', "ratelimit-reset": "30"}), 30),
        (chat(429, metadata=OPENROUTER), 20),
        (refused("anthropic_messages", 429, {}, {"anthropic-ratelimit-tokens-reset": "2025-10-07T13:57:10Z"}), 30),
        (refused("anthropic_messages", 429, {}, UNIFIED), 3600),
        (refused("gemini", 429, {"error": {"message": "x", "details": [PER_MINUTE, RETRY_INFO]}}), 35),
        (refused("gemini", 429, {"error": {"message": "x", "details": [PER_DAY, RETRY_INFO]}}), 65_000),
        (chat(429, "Rate limit reached. Please try again in 1h2m3.5s. Visit"), 3723.5),
        (chat(429, "Please try again in 114h18m0s."), DAY),
        (chat(429, "Please try again in 20s."), 20),
        (chat(429, "Please retry in 48.939935699s."), 48.939935699),
        (chat(429, "Please wait 12 seconds before you go on"), 12),
        (chat(429, "try again in 250ms"), 0.25),
        (chat(429, "try again in 2 minutes"), 120),
        (chat(429, "Your limit will reset at 2025-10-07 21:56:50"), 10),
        (chat(429, "Your limit will reset at 2025-10-07 13:56:50"), 10),
        (chat(429, "Your limit will reset at 2020-10-07 13:56:50"), None),
        (chat(429, "High concurrency usage of this API"), None),
        (chat(529, "Overloaded"), None),
    ],
)
def test_how_long_a_provider_names(error: UpstreamError, seconds: float | None) -> None:
    assert named_wait(error, NOW) == pytest.approx(seconds)
    rest = rest_of(error, NOW)
    assert rest is not None
    guessed_or_long = seconds is None or seconds > HOUR
    assert (rest.seconds, rest.whole_key, rest.aside) == (pytest.approx(seconds), False, guessed_or_long)
    assert rest.longest == (30 if error.status == 529 else 300)


def test_a_status_that_says_otherwise_makes_it_a_guess() -> None:
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "35s"}
    body = {"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED", "details": [wait]}}
    for status, guessed in ((429, False), (400, True)):
        error = refused("gemini", status, body)
        rest = rest_of(error, NOW)
        assert rest is not None
        assert (rest.seconds, rest.aside) == (35, guessed)
        assert moves_on(error)


@pytest.mark.parametrize(
    "text",
    ["", "x", "1e400", "9" * 40, "inf", "nan", "-1", "0x10", "1s2", "T", "+", "٣", "Mon, 99 Foo 2025", "2025-99-99"],
)
def test_nonsense_names_no_moment(text: str) -> None:
    assert moment(text, NOW) is None


def test_a_quota_of_the_day_ends_at_midnight_in_california() -> None:
    error = refused("gemini", 429, {"error": {"message": "x", "details": [PER_DAY]}})
    for hour, left in ((7, 1), (8, 24), (9, 23)):
        assert named_wait(error, 20_000 * DAY + hour * HOUR) == left * HOUR


@requires_corpus
def test_recorded_refusals() -> None:
    """Whatever a provider refused with is either the client's fault or moves on, and limits name sane times."""
    seen = set()
    for recorded in corpus.everything():
        protocol = PROTOCOL_OF.get(recorded.api)
        if protocol is None or recorded.response.status < 400:
            continue
        response = recorded.response
        error = protocols.named(protocol).read_error(response.status, response.headers, response.data)
        rest = rest_of(error, NOW)
        status = refusals.status_of(error)
        seen.add(status)
        if status in (401, 429, 529):
            assert rest is not None, recorded.id
            assert moves_on(error), recorded.id
            assert rest.seconds is None or 0 < rest.seconds <= DAY, recorded.id
        elif status == 400:
            assert not moves_on(error), recorded.id
    assert {400, 401, 403, 404, 429, 500, 503, 529} <= seen
