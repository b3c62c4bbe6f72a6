"""SPEC 1: base URL, system-wide proxy, reverse mode; with mitmdump and mitmweb, HTTP/1.1 and HTTP/2."""

import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from kit.certificates import Authority
from kit.http2_client import Http2Client
from kit.proxy import ADDONS, RunningProxy
from kit.replies import Fault, answer, chat, chat_chunk, chat_end, chat_stream, sse, text
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]

HOST = "api.openai.com"
MESSAGES: Any = [{"role": "user", "content": "Hello?"}]
BODY = {"model": "gpt-4o", "messages": MESSAGES}


@pytest.fixture(params=["http1", "http2"])
def provider(request: pytest.FixtureRequest, authority: Authority) -> Any:
    with Upstream(authority=authority, http2=request.param == "http2", names=(HOST, "other.example")) as upstream:
        yield upstream


def through(proxy: RunningProxy, *, http2: bool, authority: Authority | None = None) -> httpx.Client:
    """A client that knows nothing of us but the proxy and its CA, beside the world's."""
    context = ssl.create_default_context(cafile=str(proxy.ca_path))
    if authority is not None:
        context.load_verify_locations(authority.path)
    return httpx.Client(proxy=proxy.url, verify=context, http2=http2, timeout=20)


@pytest.mark.parametrize("http2", [False, True], ids=["client-http1", "client-http2"])
def test_a_call_caught_on_its_providers_host(
    start_proxy: Start, authority: Authority, provider: Upstream, http2: bool
) -> None:
    provider.enqueue(chat_stream("from ", "there"), chat("again"))
    proxy = start_proxy(hosts={HOST: provider.port, "other.example": provider.port}, authority=authority)
    with through(proxy, http2=http2) as client:
        own = {"authorization": "Bearer sk-the-clients-own"}
        reply = client.post(f"https://{HOST}/v1/chat/completions", json=BODY | {"stream": True}, headers=own)
        assert reply.text.count('"content"') == 2
        assert reply.text.endswith("data: [DONE]\n\n")
        again = client.post(f"https://{HOST}/v1/chat/completions", json=BODY, headers=own)
        assert again.json()["choices"][0]["message"]["content"] == "again"
    first = provider.requests[0]
    assert first.header("authorization") == own["authorization"]
    assert first.path == "/v1/chat/completions"
    assert first.host == HOST
    rows = httpx.get(f"{proxy.url}/usage/recent").json()["data"]
    assert [(row["backend"], row["status"]) for row in rows] == [("openai", 200)] * 2


def test_other_traffic_passes_untouched(start_proxy: Start, authority: Authority, provider: Upstream) -> None:
    body = bytes(range(256)) * 100
    provider.enqueue(text(body), text(b"models"))
    proxy = start_proxy(hosts={HOST: provider.port, "other.example": provider.port}, authority=authority)
    with through(proxy, http2=False, authority=authority) as client:
        reply = client.post("https://other.example/v1/chat/completions", content=body, headers={"x-own": "1"})
        assert reply.content == body
        assert client.get(f"https://{HOST}/some/page?key=1").content == b"models"
    assert provider.requests[0].body == body
    assert provider.requests[0].header("x-own") == "1"
    assert provider.requests[1].path == "/some/page?key=1"


def test_another_host_and_its_client_see_what_bare_mitmproxy_would_show_them(
    start_proxy: Start, upstream: Upstream, tmp_path: Path
) -> None:
    """Byte for byte, with odd headers, a secret, a chunked body, a stream, an error, and a stream that breaks off."""
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    head = (
        f"POST {upstream.url}/v1/chat/completions?b=%20&b&key={secret} HTTP/1.1\r\nHost: 127.0.0.1:{upstream.port}\r\n"
        f"X-Odd: two\r\nx-odd: \xe9\r\nAuthorization: Bearer {secret}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    sent = head.encode("latin-1") + b"8\r\n!/help \xff\r\n1\r\n!\r\n0\r\n\r\n"
    nothing = tmp_path / "nothing.py"
    nothing.write_text("")
    seen = []
    for script in (ADDONS, nothing):
        upstream.exchanges.clear()
        upstream.enqueue(
            chat_stream(*["I say it again. "] * 30),
            answer({"error": {"message": secret}}, 429, {"retry-after": "3", "X-Odd": "1"}),
            text(b"", 204),
            sse(chat_chunk("a"), Fault.CLOSE),
        )
        (home := tmp_path / script.stem).mkdir()
        proxy = start_proxy(script=script, home=home)
        got = []
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
                client.sendall(sent.replace(b"Transfer-E", b"Connection: close\r\nTransfer-E"))
                got.append(b"".join(iter(lambda: client.recv(65536), b"")))
        asked = [(each.method, each.path, each.headers, each.body) for each in upstream.requests]
        seen.append((asked, got))
    assert seen[0] == seen[1]
    assert len(seen[0][0]) == 4
    assert all(secret.encode() in reply for reply in seen[0][1][1:2])


def test_absolute_form_to_another_host_passes_untouched(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(answer({"mine": True}))
    proxy = start_proxy()
    with httpx.Client(proxy=proxy.url) as client:
        assert client.post(f"{upstream.url}/v1/chat/completions", json=BODY).json() == {"mine": True}
    assert upstream.requests[0].json == BODY


def test_http2_upstream_streams_are_cancelled_one_by_one(start_proxy: Start, authority: Authority) -> None:
    with Upstream(authority=authority, http2=True, names=(HOST,)) as provider:
        provider.enqueue(sse(chat_chunk("one"), Fault.STALL), chat("still here"))
        proxy = start_proxy(hosts={HOST: provider.port}, authority=authority)
        context = ssl.create_default_context(cafile=str(proxy.ca_path))
        with Http2Client(443, context, host=HOST, through=proxy.port) as client:
            path, headers = "/v1/chat/completions", {"content-type": "application/json"}
            streamed = client.ask("POST", path, headers, json.dumps(BODY | {"stream": True}).encode())
            assert b"one" in client.read_piece(streamed)
            client.cancel(streamed)
            provider.wait_until(lambda p: p.exchanges[0].cancelled)
            plain = client.read(client.ask("POST", path, headers, json.dumps(BODY).encode()))
            assert b"still here" in plain.body
        assert provider.exchanges[0].reset_code == 8  # CANCEL
        assert {request.connection for request in provider.requests} == {1}


def test_reverse_mode_serves_the_gateways_paths(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("through reverse"), answer({"plain": 1}))
    environment = {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url}
    proxy = start_proxy(environment, args=["--mode", f"reverse:{upstream.url}"])
    client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="x", max_retries=0)
    assert client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content == "through reverse"
    assert httpx.get(f"{proxy.url}/elsewhere").json() == {"plain": 1}


def test_large_bodies_are_not_streamed_past_the_pipeline(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("read"))
    environment = {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url}
    proxy = start_proxy(environment, args=["--set", "stream_large_bodies=1k"])
    long = BODY | {"model": "openai:m", "messages": [{"role": "user", "content": "x" * 100_000}]}
    reply = httpx.post(f"{proxy.url}/v1/chat/completions", json=long)
    assert reply.json()["choices"][0]["message"]["content"] == "read"
    assert upstream.requests[0].json["model"] == "m"

    def pieces() -> Any:
        yield json.dumps(long).encode()

    upstream.enqueue(chat("chunked"))
    reply = httpx.post(f"{proxy.url}/v1/chat/completions", content=pieces())
    assert reply.json()["choices"][0]["message"]["content"] == "chunked"


def test_mitmweb_shows_the_flow_with_its_summary_and_no_key(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat_stream(*"abc"))
    environment = {"OPENAI_API_KEY": "sk-backend-secret", "OPENAI_API_BASE_URL": upstream.url}
    proxy = start_proxy(environment, mode="mitmweb")
    reply = httpx.post(f"{proxy.url}/v1/chat/completions", json=BODY | {"stream": True})
    assert reply.text.endswith("[DONE]\n\n")
    with httpx.Client(base_url=proxy.web_url, params={"token": "test"}) as web:
        [flow] = web.get("/flows").json()
        assert "openai/gpt-4o" in flow["comment"]
        assert "sk-backend-secret" not in web.get("/flows").text
        kept = web.get(f"/flows/{flow['id']}/response/content.data")
        assert b"[DONE]" in kept.content


def test_the_script_cleans_up_after_itself(start_proxy: Start, upstream: Upstream) -> None:
    proxy = start_proxy({"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url})
    assert httpx.get(f"{proxy.url}/health").json()["status"] == "ok"
    assert proxy.stop() == 0
    assert "Traceback" not in proxy.log()
    assert "rror" not in proxy.log()


def test_a_broken_stream_keeps_its_end(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(sse(chat_chunk("half "), *chat_end(1)))
    proxy = start_proxy({"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url})
    reply = httpx.post(f"{proxy.url}/v1/chat/completions", json=BODY | {"stream": True})
    assert "half " in reply.text
    assert "error" not in reply.text


@pytest.mark.parametrize(
    ("headers", "query", "key"),
    [
        ({"authorization": "Bearer k"}, "", "object"),
        ({"x-api-key": "k", "anthropic-version": "2023-06-01"}, "", "has_more"),
        ({"x-goog-api-key": "k"}, "", "models"),
        ({}, "?key=k", "models"),
    ],
)
def test_t102_the_models_list_takes_the_shape_of_who_asks(
    start_proxy: Start, headers: dict[str, str], query: str, key: str
) -> None:
    proxy = start_proxy()
    listed = httpx.get(f"{proxy.url}/v1/models{query}", headers=headers).json()
    assert key in listed
    assert "demo:echo" in str(listed)


EARLY = """
import asyncio
from pathlib import Path
from mitmproxy import ctx

async def keep(reader):
    Path({found!r}).write_bytes(await reader.read(65536))

class Early:
    async def running(self):
        [server] = ctx.master.addons.get("proxyserver").servers
        reader, self.writer = await asyncio.open_connection(*server.listen_addrs[0][:2])
        self.writer.write(b"GET /health HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n")
        self.kept = asyncio.get_running_loop().create_task(keep(reader))
        await asyncio.sleep(0.2)  # all that is needed is that others run meanwhile

def load(loader):
    chain = ctx.master.addons.chain
    chain.insert(chain.index(ctx.master.addons.get("proxyserver")) + 1, Early())
"""


@pytest.mark.parametrize("mode", ["mitmdump", "serve"])
def test_who_connects_while_addons_are_still_starting_is_served(start_proxy: Start, tmp_path: Path, mode: str) -> None:
    found = tmp_path / "found"
    (tmp_path / "early.py").write_text(EARLY.format(found=str(found)))
    start_proxy(mode=mode, args=["-s", str(tmp_path / "early.py")])
    deadline = time.monotonic() + 20
    while not found.exists() or not found.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert found.read_bytes().startswith(b"HTTP/1.1 200 OK")
