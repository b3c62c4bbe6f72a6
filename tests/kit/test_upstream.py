import itertools
import socket
from collections.abc import Iterator

import httpx
import pytest
from kit.certificates import Authority
from kit.http2_client import Http2Client
from kit.replies import (
    CLOSED_AT_ONCE,
    GARBAGE,
    HTML_500,
    NO_ANSWER,
    RESET_AT_ONCE,
    Fault,
    Gate,
    Pause,
    Reply,
    answer,
    chat_stream,
    openai_error,
    sse,
    stream,
)
from kit.upstream import End, Upstream, closed_port
from kit.wire import WireClient, exchange, request

BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError)
INTERNAL_ERROR, CANCEL = 2, 8
ASK = request("POST", "/v1/x?a=1", {"X-Test": "1"}, {"hello": "you"})


@pytest.fixture(params=["http/1.1", "tls", "http/2"])
def any_upstream(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Upstream]:
    options = {"http/1.1": {}, "tls": {"authority": authority}, "http/2": {"authority": authority, "http2": True}}
    with Upstream(**options[request.param]) as upstream:
        yield upstream


@pytest.fixture
def http(any_upstream: Upstream, authority: Authority) -> Iterator[httpx.Client]:
    context = authority.client_context()
    with httpx.Client(base_url=any_upstream.url, verify=context, http2=True, trust_env=False, timeout=5) as http:
        yield http


def endless() -> Iterator[bytes | Pause]:
    return itertools.cycle((b"data: more\n\n", Pause(0.001)))


def test_it_answers_and_records(any_upstream: Upstream, http: httpx.Client) -> None:
    any_upstream.enqueue(answer({"n": 1}, 201, {"x-reply": "yes"}), chat_stream("a", "b"))
    first = http.post("/v1/x?a=1", json={"hello": "you"}, headers={"X-Test": "1"})
    assert (first.status_code, first.json(), first.headers["x-reply"]) == (201, {"n": 1}, "yes")
    second = http.get("/v1/y")
    assert '"prompt_tokens": 7' in second.text
    assert second.text.endswith("data: [DONE]\n\n")
    one, two = any_upstream.wait_ended(2)
    assert (one.request.method, one.request.path, one.request.json) == ("POST", "/v1/x?a=1", {"hello": "you"})
    assert (one.request.header("x-test"), one.request.host) == ("1", f"127.0.0.1:{any_upstream.port}")
    assert f"HTTP/{one.request.http_version}" == first.http_version
    assert one.request.connection == two.request.connection == 1
    assert (two.end, two.pieces_sent, two.bytes_sent) == (End.FINISHED, 5, len(second.content))


def test_http2_is_http2(http2_upstream: Upstream, authority: Authority) -> None:
    http2_upstream.enqueue(answer({}))
    with httpx.Client(verify=authority.client_context(), http2=True, trust_env=False) as http:
        assert http.get(http2_upstream.url).http_version == "HTTP/2"
    assert http2_upstream.requests[0].http_version == "2"


def test_a_client_that_leaves_is_seen(any_upstream: Upstream, http: httpx.Client) -> None:
    any_upstream.enqueue(Reply(endless()))
    with http.stream("GET", "/") as reply:
        next(pieces := reply.iter_bytes())
        assert any_upstream.exchanges[0].end is None
        http.close()
        del pieces
    [seen] = any_upstream.wait_ended()
    assert seen.cancelled
    any_upstream.wait_until(lambda upstream: not upstream.connections)
    sent = seen.pieces_sent
    any_upstream.enqueue(answer({}))
    httpx.get(any_upstream.url, verify=False, trust_env=False)
    assert seen.pieces_sent == sent > 0


def test_a_client_that_leaves_a_stalled_reply_is_seen(upstream: Upstream) -> None:
    upstream.enqueue(stream("data: 1\n\n", Fault.STALL), NO_ANSWER, stream("1", Fault.STALL))
    with WireClient(upstream.port) as one, WireClient(upstream.port) as two, WireClient(upstream.port) as three:
        one.send(ASK)
        one.read_head()
        assert next(one.pieces()).data == b"data: 1\n\n"
        two.send(ASK)
        upstream.wait_until(lambda upstream: len(upstream.exchanges) == 2)
        three.send(ASK)
        three.read_head()
        assert [each.end for each in upstream.exchanges] == [None, None, None]
        three.reset()
    assert all(exchange.cancelled for exchange in upstream.wait_ended(3))


def test_a_reset_of_one_http2_stream_is_seen(http2_upstream: Upstream, authority: Authority) -> None:
    http2_upstream.enqueue(Reply(endless()), stream("1", Fault.RESET_STREAM), NO_ANSWER, answer({}))
    with Http2Client(http2_upstream.port, authority.client_context()) as client:
        asked = client.ask("POST", "/", {"x-a": "b"}, b"{}")
        assert client.read_piece(asked) == b"data: more\n\n"
        client.cancel(asked)
        broken = client.read(client.ask("GET", "/"))
        assert (broken.status, broken.body, broken.reset_code) == (200, b"1", INTERNAL_ERROR)
        client.cancel(client.ask("GET", "/"))
        last = client.read(client.ask("GET", "/"))
        assert (last.status, last.body, last.reset_code) == (200, b"{}", None)
    ends = [(each.end, each.reset_code) for each in http2_upstream.wait_ended(4)]
    assert ends == [(End.CANCELLED, CANCEL), (End.FAULT, None), (End.CANCELLED, CANCEL), (End.FINISHED, None)]
    assert (http2_upstream.requests[0].header("x-a"), http2_upstream.requests[0].json) == ("b", {})


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.RESET_STREAM, Fault.CLOSE])
def test_a_reply_can_break_off(any_upstream: Upstream, http: httpx.Client, fault: Fault) -> None:
    any_upstream.enqueue(stream("data: 1\n\n", "data: 2\n\n", Pause(0.05), fault), answer({"still": "here"}))
    with http.stream("GET", "/") as reply, pytest.raises(BROKEN):
        for _ in reply.iter_bytes():
            pass
    [seen] = any_upstream.wait_ended()
    assert (seen.end, seen.pieces_sent) == (End.FAULT, 2)
    assert http.get("/").json() == {"still": "here"}


@pytest.mark.parametrize(("fault", "was_reset"), [(Fault.RESET, True), (Fault.CLOSE, False)])
def test_a_reset_is_a_reset(upstream: Upstream, fault: Fault, was_reset: bool) -> None:
    upstream.enqueue(stream("data: 1\n\n", Pause(0.05), fault))
    with WireClient(upstream.port) as client:
        client.send(ASK)
        reply = client.read_answer()
    assert (reply.body, reply.complete, client.was_reset) == (b"data: 1\n\n", False, was_reset)


@pytest.mark.parametrize("reply", [CLOSED_AT_ONCE, RESET_AT_ONCE, GARBAGE])
def test_there_may_be_no_reply_at_all(any_upstream: Upstream, http: httpx.Client, reply: Reply) -> None:
    any_upstream.enqueue(reply)
    with pytest.raises(BROKEN):
        http.get("/")
    [seen] = any_upstream.wait_ended()
    assert (seen.end, seen.pieces_sent) == (End.FAULT, 0)


def test_error_replies(any_upstream: Upstream, http: httpx.Client) -> None:
    any_upstream.enqueue(HTML_500, openai_error(429, "slow down", {"retry-after": "3"}, code="rate"))
    assert "<html>" in http.get("/").text
    refusal = http.get("/")
    assert (refusal.status_code, refusal.headers["retry-after"]) == (429, "3")
    assert refusal.json()["error"] == {
        "message": "slow down",
        "type": "invalid_request_error",
        "param": None,
        "code": "rate",
    }


def test_a_gate_holds_the_reply(any_upstream: Upstream, http: httpx.Client) -> None:
    gate = Gate()
    any_upstream.enqueue(stream("1", gate, "2"))
    with http.stream("GET", "/") as reply:
        pieces = reply.iter_bytes()
        assert next(pieces) == b"1"
        any_upstream.wait_until(lambda upstream: upstream.exchanges[0].pieces_sent == 1)
        assert any_upstream.exchanges[0].end is None
        gate.set()
        assert list(pieces) == [b"2"]


def test_large_bodies_pass(any_upstream: Upstream, http: httpx.Client) -> None:
    any_upstream.enqueue(answer("x" * 3_000_000))
    assert len(http.post("/", content=b"y" * 2_000_000).json()) == 3_000_000
    assert len(any_upstream.requests[0].body) == 2_000_000


def test_http2_streams_run_at_the_same_time(http2_upstream: Upstream, authority: Authority) -> None:
    gate = Gate()
    http2_upstream.enqueue(stream("1", gate, "2"), answer({"second": True}))
    client = httpx.Client(verify=authority.client_context(), http2=True, trust_env=False)
    with client as http, http.stream("GET", http2_upstream.url) as first:
        assert http.get(http2_upstream.url).json() == {"second": True}
        gate.set()
        assert first.read() == b"12"
    assert {each.connection for each in http2_upstream.requests} == {1}


def test_a_script_may_be_a_function() -> None:
    with Upstream(answer=lambda request: answer({"you": request.path})) as upstream:
        assert exchange(upstream.port, ASK).json == {"you": "/v1/x?a=1"}


def test_a_script_that_fails_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="no reply left for POST /v1/x"), Upstream() as upstream:
        assert exchange(upstream.port, ASK).status == 500


def test_every_piece_is_a_write_of_its_own(upstream: Upstream) -> None:
    upstream.enqueue(sse({"a": 1}, "data: half", Pause(0.02), " of it\n\n", done=True))
    with WireClient(upstream.port) as client:
        client.send(ASK)
        reply = client.read_answer()
        assert reply.body == b'data: {"a": 1}\n\ndata: half of it\n\ndata: [DONE]\n\n'
        assert b"\r\na\r\ndata: half\r\n" in client.received
        assert bytes(client.received).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_closed_port_refuses() -> None:
    with closed_port() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
