"""The layer below the hooks. The first tests say what broke when a new mitmproxy comes; the others how it behaves."""

import asyncio
import itertools
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.certificates import Authority
from kit.http2_client import Http2Client
from kit.proxy import ADDONS, REPOSITORY, RunningProxy
from kit.replies import (
    EVENT_STREAM,
    Fault,
    Gate,
    Instead,
    Pause,
    Reply,
    answer,
    chat,
    chat_chunk,
    chat_stream,
    openai_error,
    sse,
    stream,
    text,
)
from kit.upstream import Upstream
from kit.wire import WireClient, exchange, request
from mitmproxy import options
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.test import tflow

from llm_interactive.mitm import upstream as layers
from llm_interactive.mitm.gateway import LayerSwap

type Start = Callable[..., RunningProxy]

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}
ASK = request("POST", PATH, body=BODY)
STREAM = request("POST", PATH, body=BODY | {"stream": True})

HOOKS = """
import json, pathlib
from mitmproxy import ctx

LOG = pathlib.Path({log!r})

def note(hook, flow):
    with LOG.open("a") as log:
        log.write(json.dumps([hook, flow.id, flow.request.path]) + "\\n")

def requestheaders(flow): note("requestheaders", flow)
def request(flow): note("request", flow)
def responseheaders(flow): note("responseheaders", flow)
def response(flow): note("response", flow)
def error(flow): note("error", flow)

def memory():
    from llm_interactive.mitm.gateway import NAME
    gateway = ctx.master.addons.get(NAME)
    names = [name for name in ctx.master.addons.lookup if name in ("layerswap", NAME)]
    swaps = [addon for addon in ctx.master.addons.chain if type(addon).__name__ == "LayerSwap"]
    return {{"exchanges": len(gateway.exchanges), "names": names, "swaps": len(swaps)}}

def server_connect(data):
    pathlib.Path({memory!r}).write_text(json.dumps(memory()))

def client_disconnected(client):
    pathlib.Path({memory!r}).write_text(json.dumps(memory()))
"""


def environment(upstream: Upstream, **more: str) -> dict[str, str]:
    return {"OPENAI_API_KEY_1": "sk-1", "OPENAI_API_KEY_2": "sk-2", "OPENAI_API_KEY_3": "sk-3"} | {
        "OPENAI_API_BASE_URL": upstream.url,
        **more,
    }


class Hooks:
    """A script that notes which hooks fired, and what the gateway remembers."""

    def __init__(self, folder: Path) -> None:
        self.log, self.memory_file = folder / "hooks.jsonl", folder / "memory.json"
        self.script = folder / "hooks.py"
        self.script.write_text(HOOKS.format(log=str(self.log), memory=str(self.memory_file)))

    @property
    def args(self) -> list[str]:
        return ["-s", str(self.script)]

    def of_calls(self) -> list[list[str]]:
        """The hooks of each call, in order."""
        calls: dict[str, list[str]] = {}
        for line in self.log.read_text().splitlines():
            hook, flow, path = json.loads(line)
            if path == PATH:
                calls.setdefault(flow, []).append(hook)
        return list(calls.values())

    def memory(self, proxy: RunningProxy) -> dict[str, Any]:
        """What is remembered when nothing goes on any more."""
        self.memory_file.unlink(missing_ok=True)
        with socket.create_connection(("127.0.0.1", proxy.port)):
            pass
        seen: dict[str, Any] = json.loads(wait_for(lambda: self.memory_file.is_file() and self.memory_file.read_text()))
        return seen


@pytest.fixture
def hooks(tmp_path: Path) -> Hooks:
    return Hooks(tmp_path)


def wait_for(ready: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while not (found := ready()):
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.02)
    return found


def rows(proxy: RunningProxy, number: int = 1) -> list[dict[str, Any]]:
    """The usage rows, newest first, when there are that many."""

    def recent() -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = exchange(proxy.port, request("GET", "/usage/recent")).json["data"]
        return data if len(data) >= number else []

    found: list[dict[str, Any]] = wait_for(recent)
    return found


def clean(proxy: RunningProxy) -> bool:
    return "Traceback" not in proxy.log() and "rror in script" not in proxy.log()


# What a new mitmproxy may have changed


LAYER = ("make_stream", "event_to_child", "_handle_event", "get_connection")
STREAM_NAMES = ("_handle_event", "check_body_size", "check_invalid", "check_killed", "handle_protocol_error",
                "make_server_connection", "send_response", "state_done", "state_errored",
                "state_wait_for_response_headers")  # fmt: skip


@pytest.mark.parametrize(("owner", "names"), [(http_layers.HttpLayer, LAYER), (http_layers.HttpStream, STREAM_NAMES)])
def test_what_is_overridden_exists(owner: type, names: tuple[str, ...]) -> None:
    assert [name for name in names if not callable(getattr(owner, name, None))] == []


def test_what_is_overridden_overrides() -> None:
    own = {name for name in vars(layers.LlmStream) if not name.startswith("__")}
    stock = {name for name in dir(http_layers.HttpStream) if not name.startswith("__")}
    assert own & stock >= {"check_body_size", "check_invalid", "handle_protocol_error", "make_server_connection"}
    assert "make_stream" in vars(layers.LlmHttpLayer)


def stock_layer() -> http_layers.HttpLayer:
    return http_layers.HttpLayer(layers.Context(tflow.tclient_conn(), options.Options()), HTTPMode.regular)


def test_a_layer_is_taken_over_with_its_state() -> None:
    stock = stock_layer()
    asked = layers.layer.NextLayer(stock.context)
    asked.layer = stock
    swap = LayerSwap()
    swap.ready.set()
    for _ in range(2):
        asyncio.run(swap.next_layer(asked))
        assert type(stock) is layers.LlmHttpLayer
        assert stock.mode is HTTPMode.regular


def test_make_stream_is_called_and_attempts_have_even_ids() -> None:
    stock = stock_layer()
    layers.LlmHttpLayer.take_over(stock, dict)
    assert isinstance(stock, layers.LlmHttpLayer)
    assert list(stock.make_stream(1)) == []
    stream = stock.streams[1]
    assert isinstance(stream, layers.LlmStream)
    assert [stock.register_attempt(stream) for _ in range(3)] == [2, 4, 6]
    assert stock.streams[6] is stream


# Hooks


def test_each_hook_fires_once_for_three_attempts(start_proxy: Start, upstream: Upstream, hooks: Hooks) -> None:
    upstream.enqueue(openai_error(429, "one"), openai_error(500, "two"), chat_stream("three"))
    proxy = start_proxy(environment(upstream), args=hooks.args)
    with WireClient(proxy.port) as client:
        client.send(STREAM)
        assert b"three" in client.read_answer().body
    assert hooks.of_calls() == [["requestheaders", "request", "responseheaders", "response"]]
    assert len(rows(proxy, 3)) == 3
    assert hooks.memory(proxy)["exchanges"] == 0


def test_each_hook_fires_once_when_all_attempts_fail(start_proxy: Start, upstream: Upstream, hooks: Hooks) -> None:
    upstream.enqueue(*(openai_error(429, "full", {"retry-after": "5"}) for _ in range(3)))
    proxy = start_proxy(environment(upstream), args=hooks.args)
    assert exchange(proxy.port, ASK).status == 429
    assert hooks.of_calls() == [["requestheaders", "request", "responseheaders", "response"]]
    assert hooks.memory(proxy)["exchanges"] == 0


def test_the_script_can_be_reloaded_while_it_serves(start_proxy: Start, upstream: Upstream, hooks: Hooks) -> None:
    script = hooks.script.with_name("llm.py")
    script.write_text(ADDONS.read_text().replace("Path(__file__).resolve().parent.parent", f"{str(REPOSITORY)!r}"))
    gate = Gate()
    upstream.enqueue(chat("before"), sse(chat_chunk("half"), gate, chat_chunk(" whole"), done=True), chat("after"))
    proxy = start_proxy(environment(upstream), script=script, args=hooks.args)
    with WireClient(proxy.port) as kept, WireClient(proxy.port) as streaming:
        kept.send(ASK)
        assert b"before" in kept.read_answer().body
        streaming.send(STREAM)
        streaming.read_head()
        pieces = streaming.pieces()
        assert b"half" in next(pieces).data
        for seconds in (10, 20):
            seen = proxy.log().count(f"Loading script {script}")
            os.utime(script, (time.time() + seconds, time.time() + seconds))
            wait_for(lambda seen=seen: proxy.log().count(f"Loading script {script}") > seen)
        kept.send(ASK)
        assert b"after" in kept.read_answer().body
        gate.set()
        assert b"".join(piece.data for piece in pieces).endswith(b"data: [DONE]\n\n")
    assert exchange(proxy.port, request("POST", PATH, body=BODY | {"model": "demo:echo"})).status == 200
    assert [row["status"] for row in rows(proxy, 4)] == [200] * 4
    assert hooks.memory(proxy) == {"exchanges": 0, "names": ["llm-interactive-proxy", "layerswap"], "swaps": 1}
    assert clean(proxy)


# Connections


def test_fifty_requests_share_one_connection_upstream(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = lambda asked: (
        openai_error(429, "no") if asked.header("authorization") == "Bearer sk-1" else chat_stream("yes")
    )
    proxy = start_proxy(environment(upstream))
    with WireClient(proxy.port) as client:
        for _ in range(50):
            client.send(STREAM)
            assert client.read_answer().complete
    assert {asked.connection for asked in upstream.requests} == {1}
    assert len(upstream.requests) == 51  # the first key rests from then on


def test_pipelined_requests_are_answered_in_order(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(*(chat(word) for word in ("one", "two", "three")))
    proxy = start_proxy(environment(upstream))
    with WireClient(proxy.port) as client:
        client.send(ASK * 3)
        replies = [client.read_answer().json for _ in range(3)]
    assert [reply["choices"][0]["message"]["content"] for reply in replies] == ["one", "two", "three"]


def test_a_body_sent_byte_by_byte(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("patient"))
    proxy = start_proxy(environment(upstream))
    with WireClient(proxy.port) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(ASK)):
            client.send(ASK[at : at + 1])
        assert client.read_answer().status == 200
    assert upstream.requests[0].json == BODY


def test_expect_100_continue(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("go on"))
    proxy = start_proxy(environment(upstream))
    head, _, body = request("POST", PATH, {"expect": "100-continue"}, BODY).partition(b"\r\n\r\n")
    with WireClient(proxy.port) as client:
        client.send(head + b"\r\n\r\n")
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        assert client.read_answer().status == 200
    assert upstream.requests[0].header("expect") is None


@pytest.mark.parametrize("stream", [False, True])
def test_an_http_1_0_client_gets_no_chunks(start_proxy: Start, upstream: Upstream, stream: bool) -> None:
    upstream.enqueue(chat_stream("old") if stream else chat("old"))
    proxy = start_proxy(environment(upstream))
    asked = (STREAM if stream else ASK).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with WireClient(proxy.port) as client:
        client.send(asked)
        head, _, body = client.rest().partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body.startswith(b"data: {" if stream else b"{")
    assert body.endswith(b"data: [DONE]\n\n" if stream else b"}")
    assert upstream.requests[0].http_version == "1.1"


def test_head_and_options_pass_on(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(Reply((), length=17), text(b"", 204, {"allow": "GET"}), chat("alive"))
    proxy = start_proxy(environment(upstream))
    with httpx.Client(base_url=proxy.url) as client:
        head = client.head("/v1/files/f1/content")
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "17", b"")
        allowed = client.options("/v1/files")
        assert (allowed.status_code, allowed.headers["allow"]) == (204, "GET")
        assert "transfer-encoding" not in allowed.headers
        assert client.post(PATH, json=BODY).status_code == 200


def test_a_reply_that_is_passed_on_and_breaks_off_is_no_whole_one(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(text(b"all of it"), sse(b"half of", Fault.CLOSE))
    proxy = start_proxy(environment(upstream))
    assert exchange(proxy.port, request("GET", "/v1/files/f1/content")).complete
    reply = exchange(proxy.port, request("GET", "/v1/files/f1/content"))
    assert (reply.status, reply.body, reply.complete) == (200, b"half of", False)
    assert rows(proxy, 2)[0]["end_reason"] == "error"


# Limits


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_users_limit_is_refused_in_words(
    start_proxy: Start, upstream: Upstream, hooks: Hooks, chunked: bool
) -> None:
    upstream.enqueue(chat("small enough"))
    proxy = start_proxy(environment(upstream), args=["--set", "body_size_limit=100k", *hooks.args])
    body = json.dumps(BODY | {"user": "x" * 3_000_000}).encode()
    with httpx.Client(base_url=proxy.url) as client:
        reply = client.post(PATH, content=iter([body]) if chunked else body)
        assert reply.status_code == 413
        assert "larger than 102400 bytes" in reply.json()["error"]["message"]
        assert client.post(PATH, json=BODY).status_code == 200
    assert len(upstream.requests) == 1
    assert hooks.memory(proxy)["exchanges"] == 0


def test_who_has_no_key_cannot_fill_the_memory(start_proxy: Start, upstream: Upstream) -> None:
    proxy = start_proxy(environment(upstream, LLM_INTERACTIVE_PROXY_API_KEY="client-key-0123456789"))
    before = resident(proxy)
    reply = httpx.post(proxy.url + PATH, content=(bytes(1_000_000) for _ in range(200)), timeout=30)
    assert reply.status_code == 401
    assert resident(proxy) - before < 100_000_000


def resident(proxy: RunningProxy) -> int:
    pages = int(Path(f"/proc/{proxy.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_an_upstream_that_stays_open_after_the_end_is_not_waited_for(start_proxy: Start, upstream: Upstream) -> None:
    first = [f"data: {json.dumps(chat_chunk('all'))}\n\n", "data: [DONE]\n\n"]
    babbling = itertools.chain((each.encode() for each in first), itertools.cycle((b": more\n\n", Pause(0.01))))
    upstream.enqueue(stream(*first, Fault.STALL), Reply(babbling, headers=EVENT_STREAM), chat("next"))
    proxy = start_proxy(environment(upstream, PROXY_TIMEOUT="60"))
    with WireClient(proxy.port) as client:
        for number in (1, 2):
            client.send(STREAM)
            reply = client.read_answer()
            assert reply.complete
            assert reply.body.endswith(b"data: [DONE]\n\n")
            assert upstream.wait_ended(number)[-1].cancelled
        client.send(ASK)
        assert b"next" in client.read_answer().body


# Clients that leave


@pytest.fixture
def blackhole() -> Iterator[int]:
    """A port that never answers a SYN: its queue is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(4):
            waiting.append(filler := socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for filler in waiting:
            filler.close()


def test_who_leaves_while_the_body_is_sent(start_proxy: Start, upstream: Upstream, hooks: Hooks) -> None:
    proxy = start_proxy(environment(upstream), args=hooks.args)
    with WireClient(proxy.port) as client:
        client.send(ASK[:-5])
        wait_for(lambda: hooks.log.is_file() and hooks.of_calls())
    wait_for(lambda: "error" in hooks.of_calls()[0])
    assert hooks.of_calls() == [["requestheaders", "error"]]
    assert hooks.memory(proxy)["exchanges"] == 0
    assert upstream.requests == []
    assert clean(proxy)


def test_who_leaves_while_connecting(start_proxy: Start, upstream: Upstream, hooks: Hooks, blackhole: int) -> None:
    url = f"http://127.0.0.1:{blackhole}"
    proxy = start_proxy(environment(upstream, OPENAI_API_BASE_URL=url), args=hooks.args)
    with WireClient(proxy.port) as client:
        client.send(STREAM)
        wait_for(lambda: hooks.log.is_file() and hooks.of_calls() == [["requestheaders", "request"]])
    [row] = rows(proxy)
    assert (row["end_reason"], row["error"], row["key"]) == ("cancelled", "the client disconnected", 1)
    assert hooks.of_calls() == [["requestheaders", "request", "error"]]
    assert hooks.memory(proxy)["exchanges"] == 0
    assert clean(proxy)


def test_a_connection_that_never_comes_is_given_up(start_proxy: Start, upstream: Upstream, blackhole: int) -> None:
    url = f"http://127.0.0.1:{blackhole}"
    proxy = start_proxy({"OPENAI_API_KEY": "sk-1", "OPENAI_API_BASE_URL": url, "PROXY_TIMEOUT": "1"})
    reply = exchange(proxy.port, ASK)
    assert reply.status == 504
    assert f"no connection to 127.0.0.1:{blackhole}" in reply.json["error"]["message"]
    assert rows(proxy)[0]["end_reason"] == "error"


def test_a_fast_upstream_is_cancelled_too(start_proxy: Start, upstream: Upstream) -> None:
    """Bytes are waiting at every moment when the reply is given up: mitmproxy leaves such a socket open."""
    upstream.script = lambda asked: Reply(itertools.repeat(b"x" * 65_536), 500)
    proxy = start_proxy(environment(upstream))
    for number in range(3, 13, 3):
        assert exchange(proxy.port, ASK).status == 500
        assert all(seen.cancelled for seen in upstream.wait_ended(number))


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("words", [0, 2], ids=["before the first byte", "in mid-stream"])
def test_who_leaves_cancels_the_upstream(
    start_proxy: Start, upstream: Upstream, hooks: Hooks, words: int, reset: bool
) -> None:
    upstream.enqueue(sse(*(chat_chunk(f"word{n}") for n in range(words)), Fault.STALL))
    proxy = start_proxy(environment(upstream), args=hooks.args)
    with WireClient(proxy.port) as client:
        client.send(STREAM)
        upstream.wait_until(lambda upstream: bool(upstream.exchanges))
        if words:
            client.read_head()
            pieces = client.pieces()
            seen = b""
            while b"word1" not in seen:
                seen += next(pieces).data
        if reset:
            client.reset()
    assert upstream.wait_ended()[0].cancelled
    [row] = rows(proxy)
    assert (row["end_reason"], row["status"], row["estimated"]) == ("cancelled", row["status"], bool(words))
    assert (row["completion_tokens"] > 0) == bool(words)
    [fired] = hooks.of_calls()
    assert fired.count("error") == 1
    assert "response" not in fired
    assert hooks.memory(proxy)["exchanges"] == 0
    assert clean(proxy)


def test_what_came_with_a_loop_in_one_burst_is_left(start_proxy: Start, upstream: Upstream, hooks: Hooks) -> None:
    """All of it waits in the stream's queue while the hook for the headers runs."""
    again = sse(*[chat_chunk("I say it again. ")] * 60).pieces
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in again if isinstance(each, bytes))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    upstream.enqueue(Instead(Fault.STALL, head + chunks))
    proxy = start_proxy(environment(upstream), args=hooks.args)
    reply = httpx.post(f"{proxy.url}{PATH}", json=BODY | {"stream": True}, timeout=10)
    assert "Loop detected" in reply.text
    assert reply.text.endswith("data: [DONE]\n\n")
    assert upstream.wait_ended()[0].cancelled
    assert hooks.memory(proxy)["exchanges"] == 0
    assert clean(proxy)


def test_who_leaves_after_the_last_byte(start_proxy: Start, upstream: Upstream, hooks: Hooks) -> None:
    upstream.enqueue(sse(chat_chunk("all"), "data: [DONE]\n\n", Fault.STALL))
    proxy = start_proxy(environment(upstream), args=hooks.args)
    with WireClient(proxy.port) as client:
        client.send(STREAM)
        client.read_head()
        pieces = client.pieces()
        while b"[DONE]" not in next(pieces).data:
            pass
    assert upstream.wait_ended()[0].cancelled
    [row] = rows(proxy)
    assert (row["end_reason"], row["error"]) == ("stop", None)
    wait_for(lambda: len(hooks.of_calls()[0]) == 4)
    assert hooks.of_calls() == [["requestheaders", "request", "responseheaders", "response"]]
    assert hooks.memory(proxy)["exchanges"] == 0
    assert clean(proxy)


def test_an_http2_client_leaves_one_stream_and_keeps_the_other(
    start_proxy: Start, authority: Authority, hooks: Hooks
) -> None:
    host = "api.openai.com"
    with Upstream(authority=authority, http2=True, names=(host,)) as provider:
        provider.enqueue(sse(chat_chunk("one"), Fault.STALL), answer({"error": "no"}, 404), chat("still"))
        proxy = start_proxy(hosts={host: provider.port}, authority=authority, args=hooks.args)
        context = ssl.create_default_context(cafile=str(proxy.ca_path))
        with Http2Client(443, context, host=host, through=proxy.port) as client:
            streamed = client.ask("POST", PATH, body=json.dumps(BODY | {"stream": True}).encode())
            assert b"one" in client.read_piece(streamed)
            client.cancel(streamed)
            provider.wait_until(lambda provider: provider.exchanges[0].cancelled)
            assert client.read(client.ask("POST", PATH, body=json.dumps(BODY).encode())).status == 404
            assert b"still" in client.read(client.ask("POST", PATH, body=json.dumps(BODY).encode())).body
        assert {asked.connection for asked in provider.requests} == {1}
    assert [row["end_reason"] for row in rows(proxy, 3)] == ["stop", "error", "cancelled"]
    assert hooks.memory(proxy)["exchanges"] == 0
    assert clean(proxy)
