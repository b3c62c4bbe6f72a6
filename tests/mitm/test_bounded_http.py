"""Bounds on what either side may send over HTTP/1, seen from raw sockets."""

import contextlib
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from kit.certificates import Authority
from kit.http2_client import Http2Client
from kit.proxy import RunningProxy
from kit.replies import Fault, Instead, chat
from kit.upstream import Upstream

from llm_interactive.mitm.bounded_http import MAX_UNREAD

type Start = Callable[..., RunningProxy]

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\ncontent-type: application/json\r\n"
IMPATIENT = """
from llm_interactive.mitm.bounded_http import BoundedHttpLayer
BoundedHttpLayer.head_seconds = BoundedHttpLayer.request_seconds = 0.3
"""


def environment(upstream: Upstream) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url}


def answered(proxy: RunningProxy, *sent: bytes) -> bytes:
    """All that comes back until the proxy closes the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        try:
            for each in sent:
                client.sendall(each)
            while data := client.recv(65536):
                received += data
        except ConnectionError:
            pass  # it was closed while we were sending
    return received


def is_well(proxy: RunningProxy) -> bool:
    return httpx.get(f"{proxy.url}/health").status_code == 200 and "Traceback" not in proxy.log()


@pytest.mark.parametrize(
    "piece", [b"GET / HTTP/1.1\r\nx: ", b"GET /", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000], ids=len
)
def test_a_head_without_end(start_proxy: Start, piece: bytes) -> None:
    proxy = start_proxy()
    reply = answered(proxy, piece + b"x" * (MAX_UNREAD + 1))
    assert reply.startswith(b"HTTP/1.1 431 ")
    assert is_well(proxy)


def test_a_line_without_end_before_a_chunk(start_proxy: Start, upstream: Upstream) -> None:
    proxy = start_proxy(environment(upstream))
    chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    reply = answered(proxy, chunked + b"1;" + b"x" * (MAX_UNREAD + 1))
    assert reply.startswith(b"HTTP/1.1 431 ")
    assert upstream.requests == []
    assert is_well(proxy)


def test_requests_without_end_before_their_turn(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(Instead(Fault.STALL))
    proxy = start_proxy(environment(upstream))
    body = json.dumps(BODY).encode()
    request = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        client.sendall(request)
        upstream.wait_until(lambda it: len(it.requests) == 1)
        with contextlib.suppress(ConnectionError):
            client.sendall(b"x" * (MAX_UNREAD * 4))
        upstream.wait_ended()
    assert upstream.exchanges[0].cancelled
    assert is_well(proxy)


@pytest.mark.parametrize("start", [b"", b"POST /v1/chat", HEAD + b"content-length: 10\r\n\r\n{"], ids=len)
def test_who_sends_too_slowly_is_sent_away(start_proxy: Start, tmp_path: Path, start: bytes) -> None:
    script = tmp_path / "impatient.py"
    script.write_text(IMPATIENT)
    proxy = start_proxy(args=["-s", str(script)])
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        client.sendall(start + b" ")
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert is_well(proxy)


@pytest.mark.parametrize("piece", [b"", b'{"model":'], ids=len)
def test_who_sends_too_slowly_over_http2_is_told_and_others_are_not(
    start_proxy: Start, authority: Authority, tmp_path: Path, piece: bytes
) -> None:
    script = tmp_path / "impatient.py"
    script.write_text(IMPATIENT)
    host = "api.openai.com"
    with Upstream(chat("still"), authority=authority, http2=True, names=(host,)) as provider:
        proxy = start_proxy(hosts={host: provider.port}, authority=authority, args=["-s", str(script)])
        context = ssl.create_default_context(cafile=str(proxy.ca_path))
        with Http2Client(443, context, host=host, through=proxy.port) as client:
            slow = client.read(client.begin("POST", "/v1/chat/completions", piece))
            assert (slow.status, b"did not come in time" in slow.body) == (400, True)
            body = json.dumps(BODY).encode()
            assert b"still" in client.read(client.ask("POST", "/v1/chat/completions", body=body)).body
        assert len(provider.requests) == 1
    assert is_well(proxy)


def test_who_sends_nothing_may_stay(start_proxy: Start, tmp_path: Path) -> None:
    script = tmp_path / "impatient.py"
    script.write_text(IMPATIENT)
    proxy = start_proxy(args=["-s", str(script)])
    with httpx.Client() as client, socket.create_connection(("127.0.0.1", proxy.port), timeout=0.7) as idle:
        assert client.get(f"{proxy.url}/health").status_code == 200
        with pytest.raises(TimeoutError):
            idle.recv(1)
        assert client.get(f"{proxy.url}/health").status_code == 200


def test_a_providers_head_without_end(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(Instead(Fault.STALL, b"HTTP/1.1 200 OK\r\nx: " + b"x" * (MAX_UNREAD * 2)))
    proxy = start_proxy(environment(upstream))
    reply = httpx.post(f"{proxy.url}/v1/chat/completions", json=BODY)
    assert reply.status_code == 502
    assert "more than 256 KiB of headers, or a line without end" in reply.json()["error"]["message"]
    upstream.wait_ended()
    assert is_well(proxy)


def test_a_providers_chunk_line_without_end(start_proxy: Start, upstream: Upstream) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    upstream.enqueue(Instead(Fault.STALL, head + b"1;" + b"x" * (MAX_UNREAD * 2)))
    proxy = start_proxy(environment(upstream))
    reply = httpx.post(f"{proxy.url}/v1/chat/completions", json=BODY)
    assert reply.status_code == 502
    assert "a line without end" in reply.json()["error"]["message"]
    assert is_well(proxy)


def test_trailers_from_either_side(start_proxy: Start, upstream: Upstream) -> None:
    message = {"role": "assistant", "content": "with trailers"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    said = json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": choices}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    whole = head + b"%x\r\n%s\r\n0\r\nx-checksum: 1\r\n\r\n" % (len(said), said)
    upstream.enqueue(Instead(Fault.STALL, whole), chat("again"))
    proxy = start_proxy(environment(upstream))
    body = json.dumps(BODY).encode()
    request = HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nx-checksum: 1\r\n\r\n" % (len(body), body)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        for words in (b"with trailers", b"again"):
            client.sendall(request)
            received = b""
            while words not in received:
                received += client.recv(65536)
    assert is_well(proxy)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nAuthorization: Bearer half-a-secret",
        b"GET / HTTP/1.1\r\nAuthorization Bearer half-a-secret\r\n\r\n",
        b"GET /v1/models?key=half-a-secret\r\n\r\n",
        b"GET /?it's=&key=half-a-secret\r\n\r\n",
    ],
)
def test_a_head_that_cannot_be_read_is_not_logged(start_proxy: Start, head: bytes) -> None:
    proxy = start_proxy(args=["--set", "termlog_verbosity=debug"])
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        client.sendall(head)
        client.shutdown(socket.SHUT_WR)
        client.recv(1000)
    assert is_well(proxy)
    assert "client disconnect" in proxy.log()
    assert "half-a-secret" not in proxy.log()
