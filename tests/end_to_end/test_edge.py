"""What providers do wrong, and what must hold when things go wrong: each gets the client words, and a row."""

import gzip
import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from kit.proxy import RunningProxy, running_proxy
from kit.replies import (
    CLOSED_AT_ONCE,
    EVENT_STREAM,
    GARBAGE,
    RESET_AT_ONCE,
    Fault,
    Gate,
    Instead,
    Reply,
    answer,
    chat,
    chat_chunk,
    chat_end,
    chat_stream,
    sse,
    stream,
    text,
)
from kit.upstream import Upstream
from kit.wire import WireClient, request

type Start = Callable[..., RunningProxy]

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}
COMPLETION = b"".join(piece for piece in chat("zipped").pieces if isinstance(piece, bytes))
ZIPPED = {"content-type": "application/json", "content-encoding": "gzip"}
WORDS_OF_NO_HTTP = "the provider's answer is no HTTP (is the base URL right, http or https?)"
CUT_OFF = "the provider closed the connection in the middle of its reply"


def head(*lines: str, body: bytes = b"") -> Instead:
    return Instead(Fault.CLOSE, "\r\n".join([*lines, "", ""]).encode() + body)


def endless(*first: bytes) -> Iterator[bytes]:
    return itertools.chain(first, itertools.repeat(b"x" * 65_536))


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(provider: Upstream) -> Iterator[RunningProxy]:
    environment = {"OPENAI_API_KEY": "sk-1", "OPENAI_API_BASE_URL": provider.url, "PROXY_TIMEOUT": "1"}
    with running_proxy(environment) as proxy:
        yield proxy


def last_row(proxy: RunningProxy) -> dict[str, Any]:
    row: dict[str, Any] = httpx.get(f"{proxy.url}/usage/recent?limit=1").json()["data"][0]
    return row


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (GARBAGE, 502, WORDS_OF_NO_HTTP),
        (CLOSED_AT_ONCE, 502, "the provider closed the connection without an answer"),
        (RESET_AT_ONCE, 502, "the provider closed the connection without an answer"),
        (stream(Fault.STALL), 504, "the provider sent nothing for too long"),
        (Instead(Fault.STALL), 504, "the provider sent nothing for too long"),
        (text(b""), 502, "the provider's answer is empty"),
        (text(b"\x00\x01 what?\n"), 502, "the provider's answer is no chat completion:    what?"),
        (answer({"fine": True}), 502, 'the provider\'s answer is no chat completion: {"fine": true}'),
        (
            text("<html><title>Sign in</title><body>...", headers={"content-type": "text/html"}),
            502,
            "the provider answered with a web page: Sign in",
        ),
        (
            text("moved", 301, {"location": "https://elsewhere.example/"}),
            502,
            "the provider redirects to https://elsewhere.example/; is the base URL right?",
        ),
        (text("", 204), 502, "the provider answered with status 204, which is no answer"),
        (
            head("HTTP/1.1 103 Early Hints", "link: </a>", body=b"HTTP/1.1 200 OK\r\n\r\n"),
            502,
            "the provider answered with status 103, which is no answer",
        ),
        (head("HTTP/1.1 200 OK", "content-length: 9", body=b"{}"), 502, CUT_OFF),
        (head("HTTP/1.1 200 OK", "transfer-encoding: chunked", body=b"2\r\n{}\r\n"), 502, CUT_OFF),
        (
            head("HTTP/1.1 200 OK", "transfer-encoding: chunked", body=b"zz\r\n{}\r\n"),
            502,
            "the provider's reply breaks the rules of HTTP",
        ),
        (head("HTTP/1.1 200 OK", "content-length: 2", "content-length: 3", body=b"{}"), 502, WORDS_OF_NO_HTTP),
        (
            head("HTTP/1.1 200 OK", "content-length: 2", body=b"{} and more"),
            502,
            "the provider's answer is no chat completion: {}",
        ),
        (
            text(b"not gzip", headers=ZIPPED),
            502,
            "the provider's reply cannot be decompressed: Error -3 while decompressing data: incorrect header check",
        ),
        (
            text(b"?", headers={"content-encoding": "lzma"}),
            502,
            "the provider's reply cannot be read: content-encoding 'lzma' is not known; use gzip, deflate, br or zstd",
        ),
        (text(gzip.compress(b'{"error": {"message": "zipped words"}}'), 400, ZIPPED), 400, "zipped words"),
        (Reply(endless(b"too much "), 500), 500, ("too much " + "x" * 2000)[:2000]),
        (
            Reply(endless(b"data: "), headers=EVENT_STREAM),
            502,
            "the provider sent an event that never ends",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_a_provider_does_wrong(
    proxy: RunningProxy, provider: Upstream, reply: Any, status: int, words: str, streamed: bool
) -> None:
    if isinstance(reply, Reply) and isinstance(reply.pieces, Iterator) and streamed == (status == 500):
        pytest.skip("an endless reply can be played once")
    if words.endswith("is empty") and streamed:
        words = "the provider's stream ended before the answer was complete"
    provider.enqueue(reply)
    got = httpx.post(proxy.url + PATH, json=BODY | {"stream": streamed}, timeout=20)
    assert (got.status_code, got.headers["content-type"]) == (status, "application/json")
    assert got.json()["error"]["message"] == words
    assert set(got.json()["error"]) >= {"message", "type", "param", "code"}
    row = last_row(proxy)
    assert (row["error"], row["end_reason"], row["stream"]) == (words, "error", streamed)
    provider.wait_until(lambda provider: provider.exchanges[-1].end is not None)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.CLOSE, CUT_OFF),
        (Fault.RESET, CUT_OFF),
        (Fault.STALL, "the provider sent nothing for too long"),
        (None, "the provider's stream ended before the answer was complete"),
    ],
)
def test_a_stream_that_ends_badly_says_so(
    proxy: RunningProxy, provider: Upstream, fault: Fault | None, words: str
) -> None:
    provider.enqueue(sse(chat_chunk("half an "), *([fault] if fault else [])))
    lines = httpx.post(proxy.url + PATH, json=BODY | {"stream": True}, timeout=20).text.split("\n\n")
    assert [json.loads(line[6:])["choices"][0]["delta"]["content"] for line in lines[:1]] == ["half an "]
    assert json.loads(lines[1].removeprefix("data: "))["error"]["message"] == words
    assert lines[2:] == [""]
    row = last_row(proxy)
    assert (row["error"], row["end_reason"], row["estimated"]) == (words, "error", True)
    assert row["completion_tokens"] > 0


def test_an_event_that_never_ends_in_mid_stream(proxy: RunningProxy, provider: Upstream) -> None:
    first = f"data: {json.dumps(chat_chunk('w'))}\n\ndata: ".encode()
    provider.enqueue(Reply(endless(first), headers=EVENT_STREAM))
    lines = httpx.post(proxy.url + PATH, json=BODY | {"stream": True}, timeout=20).text.split("\n\n")
    assert json.loads(lines[1].removeprefix("data: "))["error"]["message"] == (
        "the provider sent an event that never ends"
    )
    assert provider.wait_ended(len(provider.exchanges))[-1].cancelled


def test_compressed_though_identity_was_asked_for(proxy: RunningProxy, provider: Upstream) -> None:
    events = b"".join(piece for piece in chat_stream("zipped").pieces if isinstance(piece, bytes))
    provider.enqueue(
        text(gzip.compress(COMPLETION), headers=ZIPPED),
        Reply([gzip.compress(events)], headers=EVENT_STREAM | {"content-encoding": "gzip"}),
    )
    plain = httpx.post(proxy.url + PATH, json=BODY)
    assert "content-encoding" not in plain.headers
    assert plain.content == COMPLETION
    body = BODY | {"stream": True, "stream_options": {"include_usage": True}}
    assert httpx.post(proxy.url + PATH, json=body).content == events
    assert provider.requests[-1].header("accept-encoding") == "identity"


def test_an_answer_of_the_other_kind_is_what_was_asked_for(proxy: RunningProxy, provider: Upstream) -> None:
    provider.enqueue(chat("at once"), chat_stream("in ", "pieces"))
    streamed = httpx.post(proxy.url + PATH, json=BODY | {"stream": True})
    assert streamed.headers["content-type"] == "text/event-stream"
    assert '"content":"at once"' in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")
    whole = httpx.post(proxy.url + PATH, json=BODY)
    assert whole.headers["content-type"] == "application/json"
    assert whole.json()["choices"][0]["message"]["content"] == "in pieces"
    assert last_row(proxy)["completion_tokens"] == 2


def test_a_large_header_and_an_old_http_pass(proxy: RunningProxy, provider: Upstream) -> None:
    length = f"content-length: {len(COMPLETION)}"
    provider.enqueue(
        head("HTTP/1.1 200 OK", f"x-large: {'a' * 60_000}", length, body=COMPLETION),
        head("HTTP/1.0 200 OK", body=COMPLETION),
    )
    for _ in range(2):
        got = httpx.post(proxy.url + PATH, json=BODY)
        assert (got.content, got.http_version) == (COMPLETION, "HTTP/1.1")


@pytest.mark.parametrize("header", [("Origin", "http://["), ("Host", "[::1"), ("Origin", "null")])
def test_what_cannot_be_checked_is_refused(start_proxy: Start, upstream: Upstream, header: tuple[str, str]) -> None:
    key = {"LLM_INTERACTIVE_PROXY_API_KEY": "client-key-0123456789"}
    proxy = start_proxy({"OPENAI_API_KEY": "sk-1", "OPENAI_API_BASE_URL": upstream.url} | key)
    for method, path in (("GET", "/usage/recent"), ("POST", PATH), ("GET", "/v1/models")):
        with WireClient(proxy.port) as client:
            body = json.dumps(BODY).encode() if method == "POST" else b""
            target = f"http://127.0.0.1:{proxy.port}{path}"
            client.send(request(method, target, {header[0].lower(): header[1]}, body))
            assert client.read_answer().status in (400, 401, 403), path
    assert upstream.requests == []
    assert "Traceback" not in proxy.log()


def test_a_row_survives_kill_9_when_the_client_has_seen_the_end(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = lambda asked: chat_stream(*"abc") if asked.json.get("stream") else chat("whole")
    port = None
    for round_ in range(1, 7):
        proxy = start_proxy({"OPENAI_API_KEY": "sk-1", "OPENAI_API_BASE_URL": upstream.url}, port=port)
        port = proxy.port
        with WireClient(proxy.port) as client:
            client.send(request("POST", PATH, body=BODY | {"stream": bool(round_ % 2)}))
            client.read_head()
            seen = b""
            for piece in client.pieces():
                seen += piece.data
                if seen.endswith((b"data: [DONE]\n\n", b"}}")):
                    proxy.kill()
        with closing(sqlite3.connect(proxy.data / "proxy.db")) as database:
            [(count,)] = database.execute("SELECT count(*) FROM usage WHERE completion_tokens = 3")
        assert count == round_


@pytest.mark.parametrize("mode", ["mitmdump", "serve"])
def test_many_streams_at_once(start_proxy: Start, mode: str) -> None:
    """All are open at the same time: none of the replies goes on before all have begun."""
    number = 150
    gate = Gate()

    def script(_: object) -> Reply:
        def pieces() -> Iterator[Any]:
            yield f"data: {json.dumps(chat_chunk('first'))}\n\n".encode()
            yield gate
            for chunk in (chat_chunk(" last"), *chat_end(2)):
                yield f"data: {json.dumps(chunk)}\n\n".encode()
            yield b"data: [DONE]\n\n"

        return Reply(pieces(), headers=EVENT_STREAM)

    with Upstream(answer=script) as upstream:
        proxy = start_proxy({"OPENAI_API_KEY": "sk-1", "OPENAI_API_BASE_URL": upstream.url}, mode=mode)
        clients = [WireClient(proxy.port, timeout=60) for _ in range(number)]
        for client in clients:
            client.send(request("POST", PATH, body=BODY | {"stream": True}))
        upstream.wait_until(lambda upstream: len(upstream.exchanges) == number, timeout=60)
        gate.set()
        for client in clients:
            got = client.read_answer()
            client.close()
            assert got.complete
            assert got.body.endswith(b"data: [DONE]\n\n")
            assert got.body.count(b'"content"') == 2
        deadline = time.monotonic() + 10
        recent = f"{proxy.url}/usage/recent?limit=1000"
        while len(rows := httpx.get(recent).json()["data"]) < number and time.monotonic() < deadline:
            time.sleep(0.05)
    assert [row["end_reason"] for row in rows] == ["stop"] * number
    assert "Traceback" not in proxy.log()
