"""Loops in text and reasoning through the running proxy: every vendor's SDK, every vendor's service (SPEC 7)."""

import json
import ssl
from collections.abc import Callable, Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest
from h2.errors import ErrorCodes
from kit.certificates import Authority
from kit.clients import CLIENTS, ask_anthropic, ask_chat
from kit.exchange import Exchange
from kit.http2_client import Http2Client
from kit.proxy import RunningProxy, running_proxy
from kit.replies import Pause
from kit.turns import Turn, Turns, reply
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]

SENTENCE = "I will look at the file again. "
NOTICE = "[Response cancelled: Loop detected - Pattern '"
A_FEW = 5
"""Events that a provider may still send after those that made a loop."""

BACKENDS = ("openai", "openai-responses", "anthropic", "gemini")
STOPPED = {"openai_chat": "stop", "openai_responses": "completed", "anthropic_messages": "end_turn", "gemini": "STOP"}

every_client = pytest.mark.parametrize("client", CLIENTS)
every_backend = pytest.mark.parametrize("backend", BACKENDS)
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
numbers = count()


def environment(upstream: Upstream, **more: str) -> dict[str, str]:
    urls = {f"{name}_API_BASE_URL": upstream.url for name in ("OPENAI", "ANTHROPIC", "GEMINI")}
    keys = {f"{name}_API_KEY": "sk-x" for name in ("OPENAI", "ANTHROPIC", "GEMINI")}
    return {**urls, **keys, **more}


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    """For all tests in turn; each gives it a script of its own."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(provider: Upstream) -> Iterator[RunningProxy]:
    with running_proxy(environment(provider)) as proxy:
        yield proxy


@pytest.fixture
def session() -> str:
    """One of the test's own, since the proxy is shared."""
    return f"session-{next(numbers)}"


def rows(proxy: RunningProxy, session: str) -> list[dict[str, Any]]:
    newest_first: list[dict[str, Any]] = httpx.get(f"{proxy.url}/usage/recent?session={session}").json()["data"]
    return newest_first


def cancelled_early(exchange: Exchange, turn: Turn) -> bool:
    """Whether the stream was cancelled at once. After what makes a loop the provider takes its time."""
    loop = takewhile(lambda piece: not isinstance(piece, Pause), reply(exchange.request, turn).pieces)
    return exchange.cancelled and exchange.pieces_sent <= len(list(loop)) + A_FEW


@every_client
@every_backend
def test_text_that_repeats_itself(
    proxy: RunningProxy, provider: Upstream, session: str, client: str, backend: str
) -> None:
    before = len(provider.exchanges)
    turn = Turn("Well. ", again=SENTENCE)
    provider.script = Turns(turn)
    streamed = CLIENTS[client](proxy, "Count.", model=f"{backend}:m", stream=True, session=session)
    assert cancelled_early(provider.wait_ended(before + 1)[before], turn)
    whole = CLIENTS[client](proxy, "Count.", model=f"{backend}:m", stream=False, session=session)
    for answer in (streamed, whole):
        kept, found, rest = answer.text.partition(NOTICE)
        assert found
        assert ("Well. " + SENTENCE * 11).startswith(kept)
        assert rest == f". {SENTENCE[:-2]}' repeated 10 times]"
        assert (answer.calls, answer.reason) == ([], STOPPED[client])
    assert streamed.text == whole.text
    of_whole, of_stream = rows(proxy, session)
    assert (of_stream["end_reason"], of_stream["error"], of_stream["estimated"]) == ("loop", None, True)
    assert 60 < of_stream["completion_tokens"] < 120
    assert "loop in the text" in of_stream["notes"]
    assert (of_whole["end_reason"], of_whole["estimated"]) == ("loop", False)
    [line] = [each for each in proxy.log().splitlines() if f"{session}: loop in" in each and "cancelled" in each]
    assert "repeated 10 times" in line


@every_client
@every_backend
def test_reasoning_that_repeats_itself(
    proxy: RunningProxy, provider: Upstream, session: str, client: str, backend: str
) -> None:
    before = len(provider.exchanges)
    turn = Turn("Done.", thinks_again=SENTENCE)
    provider.script = Turns(turn)
    streamed = CLIENTS[client](proxy, "Count.", model=f"{backend}:m", stream=True, session=session)
    assert cancelled_early(provider.wait_ended(before + 1)[before], turn)
    whole = CLIENTS[client](proxy, "Count.", model=f"{backend}:m", stream=False, session=session)
    for answer in (streamed, whole):
        assert answer.text.removeprefix("Done.") == f"{NOTICE}{SENTENCE}' repeated 10 times]"
        assert answer.reason == STOPPED[client]
    assert not streamed.text.startswith("Done.")  # OpenAI's whole replies have the text in front of the reasoning
    for row in rows(proxy, session):
        assert row["end_reason"] == "loop"
        assert "loop in the reasoning" in row["notes"]


@every_client
@both_ways
def test_a_session_may_switch_it_off(
    proxy: RunningProxy, provider: Upstream, session: str, client: str, stream: bool
) -> None:
    provider.script = Turns(Turn(SENTENCE * 30, thinking=SENTENCE * 30))
    told = CLIENTS[client](proxy, "!/set(loop-detection=false)", session=session).text
    assert told == "loop-detection set to False"
    for backend in BACKENDS:
        here = CLIENTS[client](proxy, "Count.", model=f"{backend}:m", stream=stream, session=session)
        elsewhere = CLIENTS[client](proxy, "Count.", model=f"{backend}:m", stream=stream, session=f"not {session}")
        assert here.text == SENTENCE * 30
        assert NOTICE in elsewhere.text
    assert CLIENTS[client](proxy, "!/unset(loop)", session=session).text == "loop-detection unset"
    assert NOTICE in CLIENTS[client](proxy, "Count.", model="openai:m", session=session).text


@both_ways
def test_the_raw_notice_is_a_line_of_openais_stream_alone(start_proxy: Start, upstream: Upstream, stream: bool) -> None:
    proxy = start_proxy(environment(upstream, LOOP_DETECTION_NOTICE="raw"))
    turn = Turn(again=SENTENCE)
    upstream.script = Turns(turn)
    body = {"model": "anthropic:m", "messages": [{"role": "user", "content": "Count."}], "stream": stream}
    told = httpx.post(f"{proxy.url}/v1/chat/completions", json=body).text
    assert (f"\n\ndata: {NOTICE}{SENTENCE}' repeated 10 times]\n\n" in told) == stream
    assert told.endswith("data: [DONE]\n\n") == stream
    assert NOTICE in told
    assert not stream or cancelled_early(upstream.wait_ended()[0], turn)  # an SDK would have hung up at the notice
    assert NOTICE in ask_anthropic(proxy, "Count.", model="anthropic:m", stream=stream).text


CONFIG = """
model_defaults:
  "openai:quiet-*": {loop_detection_enabled: false}
  quiet-loud: {loop_detection_enabled: true}
  "anthropic:*": {loop_detection_enabled: true}
"""


def test_settings_and_model_defaults(start_proxy: Start, upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    upstream.script = Turns(Turn(SENTENCE * 30))
    proxy = start_proxy(environment(upstream, LLM_CONFIG="config.yaml", LOOP_DETECTION_CONTENT_LOOP_THRESHOLD="5"))

    def text(model: str) -> str:
        return ask_chat(proxy, "Count.", model=model, stream=True).text

    assert text("openai:m").endswith("repeated 5 times]")
    assert text("openai:quiet-1") == SENTENCE * 30
    assert text("openai:quiet-loud").endswith("repeated 5 times]")
    assert text("gemini:quiet-1").endswith("repeated 5 times]")
    proxy.stop()
    proxy = start_proxy(environment(upstream, LLM_CONFIG="config.yaml", LOOP_DETECTION_ENABLED="false"))
    assert text("openai:m") == SENTENCE * 30
    assert text("anthropic:m").endswith("repeated 10 times]")


def test_mitmweb_shows_which_flow_was_stopped(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = Turns(Turn(again=SENTENCE), Turn("Fine."))
    proxy = start_proxy(environment(upstream), "mitmweb")
    for _ in range(2):
        ask_chat(proxy, "Count.", model="openai:m", stream=True)
    with httpx.Client(base_url=proxy.web_url, params={"token": "test"}) as web:
        flows = web.get("/flows").json()
    stopped, healthy = [(flow["marked"], flow["comment"]) for flow in flows]
    assert stopped[0] == "🔁"
    assert "loop in the text: 'I will look at the file again. ' repeated 10 times" in stopped[1]
    assert healthy[0] == ""
    assert "loop" not in healthy[1]


HOST = "api.openai.com"


def test_an_http2_upstream_is_told_to_stop_that_stream_alone(start_proxy: Start, authority: Authority) -> None:
    with Upstream(authority=authority, http2=True, names=(HOST,)) as upstream:
        turn = Turn(again=SENTENCE)
        upstream.script = Turns(turn, Turn("Fine."))
        proxy = start_proxy({}, hosts={HOST: upstream.port}, authority=authority)
        trust = ssl.create_default_context(cafile=str(proxy.ca_path))
        body = {"model": "m", "messages": [{"role": "user", "content": "Count."}], "stream": True}
        with Http2Client(443, trust, host=HOST, through=proxy.port) as client:
            replies = []
            for _ in range(2):
                headers = {"content-type": "application/json"}
                asked = client.ask("POST", "/v1/chat/completions", headers, json.dumps(body).encode())
                replies.append(client.read(asked).body)
        assert NOTICE.encode() in replies[0]
        assert replies[0].endswith(b"data: [DONE]\n\n")
        assert b"Fine." in replies[1]
        stopped, healthy = upstream.wait_ended(2)
        assert stopped.reset_code == ErrorCodes.CANCEL
        assert cancelled_early(stopped, turn)
        assert not healthy.cancelled
        assert {each.request.connection for each in upstream.exchanges} == {1}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_the_demo_shows_a_loop_that_is_stopped(proxy: RunningProxy, session: str, stream: bool) -> None:
    text = ask_chat(proxy, "Go on.", model="demo:loop", stream=stream, session=session).text
    assert text.endswith("Pattern 'I have said this before and I will say it again. ' repeated 10 times]")
