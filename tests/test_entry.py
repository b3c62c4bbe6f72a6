"""SPEC 1, the table of paths: which call a request is, by its head alone."""

import pytest

from llm_interactive import entry


@pytest.mark.parametrize(
    ("method", "target", "protocol", "operation"),
    [
        ("POST", "/v1/chat/completions", "openai_chat", "generate"),
        ("POST", "/v1/v1/chat/completions", "openai_chat", "generate"),
        ("POST", "/chat/completions", "openai_chat", "generate"),
        ("POST", "/v1/responses", "openai_responses", "generate"),
        ("POST", "/v1/responses/input_tokens", "openai_responses", "count_tokens"),
        ("POST", "/v1/messages?beta=true", "anthropic_messages", "generate"),
        ("POST", "/anthropic/v1/messages", "anthropic_messages", "generate"),
        ("POST", "/anthropic/v1/v1/messages", "anthropic_messages", "generate"),
        ("POST", "/v1/messages/count_tokens?beta=true", "anthropic_messages", "count_tokens"),
        ("POST", "/anthropic/v1/v1/messages/count_tokens", "anthropic_messages", "count_tokens"),
        ("POST", "/v1beta/models/m:countTokens", "gemini", "count_tokens"),
        ("GET", "/v1/models", "openai_chat", "models"),
        ("GET", "/models", "openai_chat", "models"),
        ("GET", "/v1/models/gpt-4o", "openai_chat", "model"),
        ("GET", "/anthropic/v1/models", "anthropic_messages", "models"),
        ("GET", "/v1beta/models", "gemini", "models"),
        ("GET", "/v1beta/models/gemini-2.5-pro", "gemini", "model"),
        ("POST", "/v1/embeddings", "openai_chat", "other"),
        ("POST", "/v1/audio/transcriptions", "openai_chat", "other"),
        ("GET", "/v1/files/file-1/content", "openai_chat", "other"),
        ("POST", "/v1/messages/batches", "anthropic_messages", "other"),
        ("POST", "/v1beta/models/m:embedContent", "gemini", "other"),
    ],
)
def test_paths(method: str, target: str, protocol: str, operation: str) -> None:
    call = entry.recognise(method, target, {})
    assert call is not None
    assert (call.protocol, call.operation) == (protocol, operation)


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha", "v1beta1", "v1beta/v1beta"])
@pytest.mark.parametrize("model", ["gemini-2.5-flash", "openai:gpt-4o", "openrouter:a/b", "ollama:llama3:8b"])
def test_gemini_paths_carry_model_and_stream(version: str, model: str) -> None:
    plain = entry.recognise("POST", f"/{version}/models/{model}:generateContent", {})
    stream = entry.recognise("POST", f"/{version}/models/{model}:streamGenerateContent?alt=sse", {})
    array = entry.recognise("POST", f"/{version}/models/{model}:streamGenerateContent", {})
    assert [(c.model, c.stream, c.array) for c in (plain, stream, array) if c] == [
        (model, False, False),
        (model, True, False),
        (model, True, True),
    ]


@pytest.mark.parametrize(
    ("headers", "query", "protocol"),
    [
        ({"anthropic-version": "2023-06-01"}, "", "anthropic_messages"),
        ({"x-goog-api-key": "k"}, "", "gemini"),
        ({}, "?key=k", "gemini"),
        ({"authorization": "Bearer k"}, "", "openai_chat"),
    ],
)
def test_the_models_list_is_in_the_askers_shape(headers: dict[str, str], query: str, protocol: str) -> None:
    call = entry.recognise("GET", f"/v1/models{query}", headers)
    assert call is not None
    assert call.protocol == protocol


def test_no_credential_stays_in_the_call() -> None:
    headers = {"authorization": "Bearer a", "x-api-key": "b", "x-goog-api-key": "c", "x-own": "d"}
    call = entry.recognise("POST", "/v1/embeddings?key=e&x=1", headers)
    assert call is not None
    assert call.headers == {"x-own": "d"}
    assert call.query == "x=1"
    assert entry.credentials_of(headers, "key=e&x=1") == ["a", "b", "c", "e"]


@pytest.mark.parametrize("target", ["/", "/health", "/usage/recent", "/favicon.ico", "/v1", "/v1/../etc"])
def test_other_paths_are_no_calls(target: str) -> None:
    assert entry.recognise("GET", target, {}) is None
