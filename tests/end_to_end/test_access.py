"""SPEC 3 through the running proxy: keys on every path, and no web page gets in."""

from collections.abc import Callable

import httpx
import pytest
from kit.proxy import RunningProxy
from kit.replies import answer, chat
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]

KEY = "client-key-0123456789"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PATHS = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/usage/recent"),
    ("GET", "/nowhere"),
)


def test_every_path_wants_the_key(start_proxy: Start, upstream: Upstream) -> None:
    environment = {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url}
    proxy = start_proxy(environment | {"LLM_INTERACTIVE_PROXY_API_KEY": f"other-key, {KEY}"})
    for method, path in PATHS:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": KEY + "x"}):
            reply = httpx.request(method, proxy.url + path, json=BODY, headers=headers)
            assert reply.status_code == 401, path
            assert reply.json()["error"]["code"] == "invalid_api_key"
            assert KEY not in reply.text
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"authorization": f"Bearer {KEY}"}, ""),
        ({"x-api-key": KEY}, ""),
        ({"x-goog-api-key": KEY}, ""),
        ({}, f"?key={KEY}"),
    ],
)
def test_the_key_in_any_of_its_places(
    start_proxy: Start, upstream: Upstream, headers: dict[str, str], query: str
) -> None:
    upstream.enqueue(chat("hi"))
    environment = {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url, "LLM_INTERACTIVE_PROXY_API_KEY": KEY}
    proxy = start_proxy(environment)
    reply = httpx.post(f"{proxy.url}/v1/chat/completions{query}", json=BODY, headers=headers)
    assert reply.status_code == 200
    [request] = upstream.requests
    assert KEY not in str(request)


def test_a_web_page_is_refused(start_proxy: Start, upstream: Upstream) -> None:
    proxy = start_proxy({"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url})
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"host": "rebound.example:8000"},
    ):
        reply = httpx.post(f"{proxy.url}/v1/chat/completions", json=BODY, headers=headers)
        assert reply.status_code == 403, headers
    assert upstream.requests == []


def test_other_paths_pass_on_with_any_body(start_proxy: Start, upstream: Upstream) -> None:
    vector = {"object": "list", "data": [{"embedding": [0.5], "index": 0}], "usage": {"prompt_tokens": 3}}
    upstream.enqueue(answer(vector), answer({"text": "words"}), answer({"id": "file-1"}))
    proxy = start_proxy({"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": f"{upstream.url}/v1"})
    assert httpx.post(f"{proxy.url}/v1/embeddings?x=1", json={"input": "x"}).json() == vector
    sound = bytes(range(256)) * 10
    files = {"file": ("a.wav", sound, "audio/wav")}
    httpx.post(f"{proxy.url}/v1/audio/transcriptions", files=files, data={"model": "w"})
    assert httpx.post(f"{proxy.url}/v1/files", content=sound).status_code == 200
    first, second, third = upstream.requests
    assert (first.path, first.json) == ("/v1/embeddings?x=1", {"input": "x"})
    assert first.header("authorization") == "Bearer sk-x"
    assert sound in second.body
    assert (second.header("content-type") or "").startswith("multipart/form-data; boundary=")
    assert third.body == sound


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "no JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"messages": []}', "model"),
        (b"[" * 100_000, "no JSON"),
        (b'{"model": "m", "messages": ' + b'[{"content": ' * 120 + b"1" + b"}]" * 120 + b"}", "deep"),
        (b"\xff\xfe", "no JSON"),
    ],
)
def test_bad_bodies_are_named(start_proxy: Start, body: bytes, words: str) -> None:
    proxy = start_proxy({"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": "http://127.0.0.1:9"})
    reply = httpx.post(f"{proxy.url}/v1/chat/completions", content=body)
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]


def test_the_root_and_health_and_unknown_paths(start_proxy: Start) -> None:
    proxy = start_proxy()
    assert httpx.get(proxy.url).json()["name"] == "LLM Interactive Proxy"
    assert httpx.head(proxy.url).status_code == 200
    assert httpx.get(f"{proxy.url}/health").status_code == 200
    missing = httpx.get(f"{proxy.url}/nowhere")
    assert missing.status_code == 404
    assert "/v1/chat/completions" in missing.json()["error"]["message"]
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}
    assert httpx.get(f"{proxy.url}/v1/responses", headers=upgrade).status_code == 426
