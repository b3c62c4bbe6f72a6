"""Reported bugs of other gateways that only show on the wire; numbered as in docs/traps.md."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import zstandard
from kit.proxy import RunningProxy
from kit.replies import Gate, chat, chat_chunk, chat_end, openai_error, sse
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]

BODY: Any = {"model": "openai:m", "messages": [{"role": "user", "content": "hi"}]}
CLAUDE: Any = {"model": "openai:m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def at(upstream: Upstream) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url}


def test_t83_the_upstream_is_asked_for_uncompressed_replies(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("a"))
    proxy = start_proxy(at(upstream))
    httpx.post(f"{proxy.url}/v1/chat/completions", json=BODY, headers={"accept-encoding": "gzip, br, zstd"})
    assert upstream.requests[0].header("accept-encoding") == "identity"


def test_t88_usage_is_asked_for_once(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(sse(chat_chunk("a"), *chat_end(1), done=True))
    proxy = start_proxy(at(upstream))
    asked = BODY | {"stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False}}
    httpx.post(f"{proxy.url}/v1/chat/completions", json=asked)
    assert upstream.requests[0].body.count(b"include_usage") == 1
    wanted = {"include_usage": True, "include_obfuscation": False}
    assert upstream.requests[0].json["stream_options"] == wanted


def test_t94_t95_beta_flags_and_transport_headers_stay_behind(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("a"))
    proxy = start_proxy(at(upstream))
    headers = {
        "x-api-key": "client",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "context-management-2025-06-27",
        "x-stainless-lang": "python",
        "x-claude-code-session-id": "s",
    }
    body = CLAUDE | {"context_management": {"edits": []}}
    reply = httpx.post(f"{proxy.url}/anthropic/v1/messages?beta=true", json=body, headers=headers)
    assert reply.status_code == 200
    [request] = upstream.requests
    assert not [name for name, _ in request.headers if name in headers]
    assert request.path == "/v1/chat/completions"
    assert "context_management" not in request.json
    assert "context_management" in reply.headers["x-llm-proxy-notes"]


def test_t103_names_beyond_ascii_do_not_break_headers(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("a"))
    proxy = start_proxy(at(upstream))
    reply = httpx.post(f"{proxy.url}/v1/chat/completions", json=BODY | {"model": "openai:模型-é"})
    assert reply.status_code == 200
    assert upstream.requests[0].json["model"] == "模型-é"


def test_t105_the_first_event_is_not_held_back(start_proxy: Start, upstream: Upstream) -> None:
    gate = Gate()
    upstream.enqueue(sse(chat_chunk("first"), gate, *chat_end(1), done=True))
    proxy = start_proxy(at(upstream))
    with httpx.stream("POST", f"{proxy.url}/v1/chat/completions", json=BODY | {"stream": True}) as reply:
        lines = reply.iter_lines()
        assert "first" in next(lines)
        gate.set()
        assert "[DONE]" in "".join(lines)


def test_t106_compressed_requests_up_to_a_limit(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("a"))
    proxy = start_proxy(at(upstream))
    url = f"{proxy.url}/v1/chat/completions"

    def post(body: bytes, encoding: str) -> httpx.Response:
        return httpx.post(url, content=body, headers={"content-encoding": encoding}, timeout=30)

    assert post(zstandard.compress(json.dumps(BODY).encode()), "zstd").status_code == 200
    assert upstream.requests[0].header("content-encoding") is None
    assert post(zstandard.compress(bytes(70 * 1024 * 1024)), "zstd").status_code == 413
    assert post(b"x", "lzma").status_code == 415
    assert post(b"no zstd", "zstd").status_code == 400


def test_t92_a_providers_400_stays_a_400_in_the_clients_shape(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(openai_error(400, "no such parameter"))
    proxy = start_proxy(at(upstream))
    reply = httpx.post(f"{proxy.url}/v1/messages", json=CLAUDE, headers={"anthropic-version": "2023-06-01"})
    assert reply.status_code == 400
    assert reply.json()["error"] | {"message": "no such parameter"} == reply.json()["error"]


def test_t107_a_websocket_is_refused_at_once(start_proxy: Start) -> None:
    proxy = start_proxy()
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}
    assert httpx.get(f"{proxy.url}/v1/responses", headers=upgrade).status_code == 426
