"""The threats of docs/security.md, each a test through the running proxy. Secrets: test_redaction.py."""

import base64
import contextlib
import gzip
import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import httpx
import pytest
import zstandard
from kit.certificates import Authority
from kit.clients import ask_chat
from kit.proxy import RunningProxy
from kit.replies import Fault, Gate, Pause, Reply, answer, chat, chat_chunk, chat_end, sse
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]

KEY = "client-key-0123456789"
HOST = "api.openai.com"
BODY: dict[str, Any] = {"model": "openai:m", "messages": [{"role": "user", "content": "hi"}]}
SAME_SESSION = {"authorization": "Bearer none", "x-session-id": "s"}
"""As that of `ask_chat`."""
FROM_THE_NETWORK = """
def client_connected(client):
    client.peername = ("192.0.2.9", 4711)
"""
REBOUND = """
import asyncio
answers = {answers!r}
loops = asyncio.BaseEventLoop
real = loops.getaddrinfo

async def getaddrinfo(self, host, port, **named):
    if host == "rebound.wild.example":
        host = answers.pop(0) if len(answers) > 1 else answers[0]
    return await real(self, host, port, **named)

loops.getaddrinfo = getaddrinfo
"""


def environment(upstream: Upstream, **more: str) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-configured-0123456789", "OPENAI_API_BASE_URL": upstream.url, **more}


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "scenario.py"
    path.write_text(text)
    return ["-s", str(path)]


def post(proxy: RunningProxy, body: Any = BODY, **more: Any) -> httpx.Response:
    return httpx.post(f"{proxy.url}/v1/chat/completions", json=body, timeout=20, **more)


def is_well(proxy: RunningProxy) -> bool:
    return httpx.get(f"{proxy.url}/health").status_code == 200 and "Traceback" not in proxy.log()


def resident(proxy: RunningProxy) -> int:
    """MiB that the proxy has ever held."""
    status = Path(f"/proc/{proxy.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


# A page in the user's browser


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/models", "/usage/recent", "/usage/stats", "/health", "/"]
)
def test_a_page_can_ask_for_nothing(start_shared: RunningProxy, method: str, path: str) -> None:
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "rebound.example"},
        {"origin": "https://evil.example", "access-control-request-method": "POST",
         "access-control-request-private-network": "true"},
    ):  # fmt: skip
        reply = httpx.request(method, start_shared.url + path, headers=headers)
        assert reply.status_code == 403
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_page_cannot_open_a_websocket(start_shared: RunningProxy) -> None:
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}
    for more, status in (({"origin": "https://evil.example"}, 403), ({}, 426)):
        assert httpx.get(f"{start_shared.url}/v1/responses", headers=upgrade | more).status_code == status


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from kit.proxy import running_proxy

    with running_proxy(home=tmp_path_factory.mktemp("shared")) as proxy:
        yield proxy


def caught(proxy: RunningProxy, body: Any, **headers: str) -> httpx.Response:
    """A call to the provider's own host through the proxy."""
    context = ssl.create_default_context(cafile=str(proxy.ca_path))
    with httpx.Client(proxy=proxy.url, verify=context, timeout=20) as client:
        own = {"authorization": "Bearer sk-of-the-page", **headers}
        return client.post(f"https://{HOST}/v1/chat/completions", json=body, headers=own)


@pytest.mark.parametrize("key", ["", KEY])
def test_a_page_that_calls_a_provider_runs_no_command_and_spends_no_key(
    start_proxy: Start, authority: Authority, upstream: Upstream, key: str
) -> None:
    """Nor does a local program where a key is set that it did not show."""
    page = {} if key else {"origin": "https://evil.example"}
    given = {"OPENROUTER_API_KEY": "sk-spent-0123456789", "OPENROUTER_API_BASE_URL": upstream.url}
    given |= {"LLM_INTERACTIVE_PROXY_API_KEY": key} if key else {}
    with Upstream(authority=authority, names=(HOST,)) as provider:
        provider.enqueue(chat("theirs"), chat("theirs"))
        proxy = start_proxy(given, hosts={HOST: provider.port}, authority=authority)
        caught(proxy, BODY | {"model": "openrouter:m"}, **page)
        typed = [{"role": "user", "content": "!/set(default-backend=openrouter) !/oneoff(openrouter:m) hi"}]
        caught(proxy, BODY | {"messages": typed}, **page)
        assert [request.json["model"] for request in provider.requests] == ["openrouter:m", "m"]
        assert "!/oneoff" in str(provider.requests[1].json)
    assert upstream.requests == []


# Another machine of the network


@pytest.mark.parametrize("key", ["", KEY])
def test_another_machine_gets_nothing_without_the_key(
    start_proxy: Start, upstream: Upstream, tmp_path: Path, key: str
) -> None:
    more = {"LLM_INTERACTIVE_PROXY_API_KEY": key} if key else {}
    proxy = start_proxy(environment(upstream, **more), args=script(tmp_path, FROM_THE_NETWORK))
    for path in ("/v1/models", "/usage/recent", "/health", "/"):
        assert httpx.get(proxy.url + path).status_code == (401 if key else 403)
    assert post(proxy).status_code == (401 if key else 403)
    with httpx.Client(proxy=proxy.url) as client:
        assert client.get(f"{upstream.url}/inside").status_code == (407 if key else 403)
        with pytest.raises(httpx.ProxyError, match="407" if key else "403"):
            client.get("https://127.0.0.1:1/inside")
    assert upstream.requests == []


def test_another_machine_passes_through_with_the_key_which_goes_no_further(
    start_proxy: Start, authority: Authority, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.enqueue(answer({"plain": 1}), answer({"plain": 2}))
    given = environment(upstream, LLM_INTERACTIVE_PROXY_API_KEY=KEY)
    with Upstream(authority=authority, names=(HOST,)) as provider:
        provider.enqueue(chat("caught"))
        arguments = script(tmp_path, FROM_THE_NETWORK)
        proxy = start_proxy(given, args=arguments, hosts={HOST: provider.port}, authority=authority)
        context = ssl.create_default_context(cafile=str(proxy.ca_path))
        with httpx.Client(proxy=f"http://me:{KEY}@127.0.0.1:{proxy.port}", verify=context) as client:
            assert client.get(f"{upstream.url}/inside").json() == {"plain": 1}
            reply = client.post(f"https://{HOST}/v1/chat/completions", json=BODY | {"model": "m"})
            assert reply.json()["choices"][0]["message"]["content"] == "caught"
        bearer = {"proxy-authorization": f"Bearer {KEY}"}
        with httpx.Client(proxy=httpx.Proxy(proxy.url, headers=bearer)) as client:
            assert client.get(f"{upstream.url}/inside").json() == {"plain": 2}
        sent = str([*upstream.requests, *provider.requests])
    encoded = base64.b64encode(f"me:{KEY}".encode()).decode()
    assert "proxy-authorization" not in sent.lower()
    for secret in (KEY, encoded):
        assert secret not in sent + proxy.log()


def test_mitmproxys_own_authentication_is_left_to_it(start_proxy: Start, upstream: Upstream, tmp_path: Path) -> None:
    upstream.enqueue(answer({"plain": 1}))
    arguments = [*script(tmp_path, FROM_THE_NETWORK), "--set", "proxyauth=ann:hidden"]
    proxy = start_proxy(environment(upstream), args=arguments)
    with httpx.Client(proxy=f"http://ann:hidden@127.0.0.1:{proxy.port}") as client:
        assert client.get(f"{upstream.url}/inside").json() == {"plain": 1}
    with httpx.Client(proxy=f"http://ann:wrong@127.0.0.1:{proxy.port}") as client:
        assert client.get(f"{upstream.url}/inside").status_code == 407


def test_socks_is_no_open_proxy_either(start_proxy: Start, upstream: Upstream, tmp_path: Path) -> None:
    proxy = start_proxy(environment(upstream), args=[*script(tmp_path, FROM_THE_NETWORK), "--mode", "socks5"])
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        client.sendall(b"\x05\x01\x00")
        assert client.recv(2) == b"\x05\x00"
        client.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + upstream.port.to_bytes(2))
        with contextlib.suppress(ConnectionError):
            client.recv(100)
            client.sendall(b"GET /inside HTTP/1.1\r\nHost: x\r\n\r\n")
            while client.recv(100):
                pass
    assert upstream.requests == []


def test_guessing_keys_is_slow_and_disturbs_nobody_with_the_right_one(start_proxy: Start) -> None:
    proxy = start_proxy({"LLM_INTERACTIVE_PROXY_API_KEY": KEY})
    for guess in range(10):
        assert httpx.get(f"{proxy.url}/health", headers={"x-api-key": f"guess-{guess}"}).status_code == 401
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port))) for _ in range(6)]
        for client in waiting:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nx-api-key: guess\r\n\r\n")
        assert httpx.get(f"{proxy.url}/health", headers={"x-api-key": KEY}).status_code == 200
        waiting[-1].settimeout(0.1)
        with pytest.raises(TimeoutError):
            waiting[-1].recv(1)
        waiting[0].settimeout(20)
        assert waiting[0].recv(100).startswith(b"HTTP/1.1 401 ")


# A prompt that somebody else wrote


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1",
        "http://169.254.169.254/latest",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[::ffff:169.254.169.254]/",
        "https://allowed.example@evil.example/",
        "https://allowed.example.evil.example/",
        "http://①②⑦.0.0.1/",
    ],
)
def test_a_prompt_cannot_send_the_conversation_elsewhere(start_shared: RunningProxy, url: str) -> None:
    said = ask_chat(start_shared, f"!/set(openai_url={url})", session="prompted").text
    assert said.startswith("openai_url=")


def test_a_prompt_named_url_gets_no_configured_key(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("from elsewhere"))
    proxy = start_proxy({"OPENAI_API_KEY": "sk-configured-0123456789", "OPENAI_API_BASE_URL": "http://127.0.0.1:9"})
    ask_chat(proxy, f"!/set(openai_url={upstream.url}/v1)")
    assert ask_chat(proxy, "hi", model="openai:m").text == "from elsewhere"
    assert "sk-configured" not in str(upstream.requests)
    assert upstream.requests[0].header("authorization") is None


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"]], ids=["private", "rebound"])
def test_a_name_that_turns_out_to_be_private_is_not_asked(
    start_proxy: Start, upstream: Upstream, tmp_path: Path, answers: list[str]
) -> None:
    """At once, or between the check and the connection."""
    given = environment(upstream, LLM_ALLOWED_URLS="*.wild.example")
    proxy = start_proxy(given, args=script(tmp_path, REBOUND.format(answers=answers)))
    ask_chat(proxy, f"!/set(openai_url=http://rebound.wild.example:{upstream.port}/v1)")
    assert post(proxy, headers=SAME_SESSION).status_code == 502
    assert upstream.requests == []
    assert "prompts may not name" in proxy.log()


def test_the_proxy_does_not_call_itself(start_proxy: Start) -> None:
    proxy = start_proxy()
    for host in ("127.0.0.1", "[::ffff:127.0.0.1]", "localhost"):
        ask_chat(proxy, f"!/set(openai_url=http://{host}:{proxy.port}/v1)")
        assert post(proxy, headers=SAME_SESSION).status_code == 502
    assert is_well(proxy)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(start_proxy: Start, upstream: Upstream, status: int) -> None:
    with Upstream() as elsewhere:
        upstream.enqueue(answer({}, status, {"location": f"{elsewhere.url}/v1/chat/completions"}))
        proxy = start_proxy(environment(upstream))
        reply = post(proxy)
        assert reply.status_code == 502
        assert "redirects to" in reply.json()["error"]["message"]
        assert elsewhere.requests == []


# Hostile bodies


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", gzip.compress(bytes(1 << 30), 9)),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(1 << 30), 9))),
        ("br", brotli.compress(bytes(1 << 28), quality=1)),
        ("zstd", zstandard.compress(bytes(1 << 30))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bomb_in_a_request_does_not_go_off(start_shared: RunningProxy, encoding: str, bomb: bytes) -> None:
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    reply = httpx.post(f"{start_shared.url}/v1/chat/completions", content=bomb, headers=headers, timeout=30)
    assert reply.status_code == 413
    assert resident(start_shared) < 600
    assert is_well(start_shared)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_bomb_in_a_reply_does_not_go_off(start_proxy: Start, upstream: Upstream, encoding: str) -> None:
    zeros = bytes(1 << 28)
    compress: dict[str, Callable[[], bytes]] = {
        "gzip": lambda: gzip.compress(zeros),
        "br": lambda: brotli.compress(zeros, quality=1),
        "zstd": lambda: zstandard.compress(zeros),
    }
    headers = {"content-type": "application/json", "content-encoding": encoding}
    upstream.enqueue(Reply((compress[encoding](),), 200, headers))
    proxy = start_proxy(environment(upstream))
    reply = post(proxy)
    assert reply.status_code == 502
    assert resident(proxy) < 400
    assert is_well(proxy)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (BODY | {"messages": BODY["messages"] * 100_001}, "'messages' holds 100001"),
        (BODY | {"tools": [{"type": "function", "function": {"name": "f"}}] * 4097}, "'tools' holds 4097"),
        (BODY | {"messages": [{"role": {"user": 1}, "content": "hi"}]}, "role"),
        (BODY | {"stream_options": 7}, "stream_options"),
    ],
    ids=["messages", "tools", "a role of a wrong type", "an option of a wrong type"],
)
def test_too_much_and_wrong_types_are_refused_in_words(start_shared: RunningProxy, body: Any, words: str) -> None:
    reply = post(start_shared, body)
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]
    assert is_well(start_shared)


def test_a_reply_that_never_ends_its_event_ends_the_attempt(start_proxy: Start, upstream: Upstream) -> None:
    def endless() -> Any:
        yield b"data: "
        while True:
            yield b"x" * (1 << 20)

    upstream.enqueue(Reply(endless(), 200, {"content-type": "text/event-stream"}))
    proxy = start_proxy(environment(upstream))
    reply = post(proxy, BODY | {"stream": True})
    assert reply.status_code == 502
    assert "an event that never ends" in reply.text
    upstream.wait_ended()
    assert upstream.exchanges[0].cancelled
    assert resident(proxy) < 600


# Slow and many


def test_an_upstream_that_trickles_is_borne_and_one_that_stops_is_not(start_proxy: Start, upstream: Upstream) -> None:
    event = f"data: {json.dumps(chat_chunk('slow'))}\n\n".encode()
    drops = [piece for at in range(0, len(event), 40) for piece in (event[at : at + 40], Pause(0.2))]
    upstream.enqueue(sse(*drops, *chat_end(1), done=True), sse(chat_chunk("begun"), Fault.STALL))
    proxy = start_proxy(environment(upstream, PROXY_TIMEOUT="0.6"))
    assert '"slow"' in post(proxy, BODY | {"stream": True}).text
    assert "sent nothing for too long" in post(proxy, BODY | {"stream": True}).text
    assert is_well(proxy)


def test_many_idle_and_slow_connections_keep_nobody_out(start_proxy: Start, upstream: Upstream) -> None:
    gate = Gate()
    upstream.enqueue(sse(chat_chunk("one"), gate, *chat_end(1), done=True))
    proxy = start_proxy(environment(upstream))
    with contextlib.ExitStack() as stack:
        for number in range(300):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
            if number % 2:
                client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\ncontent-length: 100\r\n\r\n{")
        with httpx.stream("POST", f"{proxy.url}/v1/chat/completions", json=BODY | {"stream": True}) as reply:
            lines = reply.iter_lines()
            assert "one" in next(lines)
            assert is_well(proxy)
            gate.set()
            assert "data: [DONE]" in list(lines)


def test_nothing_in_the_log_tells_a_key(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("hi"), answer({"data": []}), answer({"data": []}))
    more = environment(upstream, LLM_INTERACTIVE_PROXY_API_KEY=KEY)
    proxy = start_proxy(more, args=["--set", "termlog_verbosity=debug", "--set", "flow_detail=4"])
    assert post(proxy, headers={"x-api-key": KEY}).status_code == 200
    post(proxy, headers={"x-api-key": "sk-somebodys-own-key-0123456789"})
    httpx.get(f"{proxy.url}/v1/models?key={KEY}")
    time.sleep(0.1)
    for secret in (KEY, "sk-configured-0123456789", "sk-somebodys-own-key-0123456789"):
        assert secret not in proxy.log()
