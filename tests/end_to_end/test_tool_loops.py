"""Repeated tool calls through the running proxy: every vendor's SDK, every vendor's service (SPEC 8)."""

import json
import ssl
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.certificates import Authority
from kit.clients import CLIENTS, Answer, ask_anthropic, ask_chat
from kit.http2_client import Http2Client
from kit.proxy import RunningProxy, running_proxy
from kit.replies import EVENT_STREAM, Pause, Reply, openai_error
from kit.turns import PAUSE, Called, Turn, Turns, chat_stream
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]
type Ask = Callable[..., Answer]

BREAK = (
    "Tool call loop detected: 'look' invoked with identical parameters 4 times within 120s. "
    "Session stopped to prevent unintended looping. Try changing your inputs or approach."
)
LOOK = Turn("Let me look. ", Called("look", '{"at": "the stars"}'))
AGAIN = Turn("Once more. ", Called("look", '{"at":"the stars"}'))
AWAY = Turn("Or there? ", Called("look", '{"at": "the sea"}'))
DONE = Turn("Never mind.")
A_FEW = 5
"""Events that a provider may still send after those that made a loop."""

BACKENDS = ("openai", "openai-responses", "anthropic", "gemini")
STOPPED = {"openai_chat": "stop", "openai_responses": "completed", "anthropic_messages": "end_turn", "gemini": "STOP"}
CALLED = STOPPED | {"openai_chat": "tool_calls", "anthropic_messages": "tool_use"}

SCHEMA: Any = {"type": "object", "properties": {"at": {"type": "string"}}}
LOOKS: dict[str, Any] = {"name": "look", "description": "Looks."}
TOOLS: dict[str, dict[str, Any]] = {
    "openai_chat": {"tools": [{"type": "function", "function": {**LOOKS, "parameters": SCHEMA}}]},
    "openai_responses": {"tools": [{"type": "function", **LOOKS, "parameters": SCHEMA}]},
    "anthropic_messages": {"tools": [{**LOOKS, "input_schema": SCHEMA}]},
    "gemini": {"config": {"tools": [{"function_declarations": [{**LOOKS, "parameters": SCHEMA}]}]}},
}

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


def asking(proxy: RunningProxy, client: str, model: str, stream: bool, session: str) -> Ask:
    def ask(said: str = "Look.", session: str = session) -> Answer:
        return CLIENTS[client](proxy, said, model=model, stream=stream, session=session, **TOOLS[client])

    return ask


def arguments(answer: Answer) -> list[Any]:
    assert all(name == "look" for name, _ in answer.calls)
    return [json.loads(given) if isinstance(given, str) else given for _, given in answer.calls]


def looked(proxy: RunningProxy, provider: Upstream, *sessions: str, times: int = 3) -> None:
    """Sessions that have made the call so often already; without an SDK, since that is slow."""
    provider.script = Turns(LOOK)
    body = {"model": "openai:m", "messages": [{"role": "user", "content": "Look."}], **TOOLS["openai_chat"]}
    with httpx.Client(base_url=proxy.url, headers={"authorization": "Bearer none"}, verify=False) as http:
        for session in sessions:
            for _ in range(times):
                told = http.post("/v1/chat/completions", json=body, headers={"x-session-id": session})
                assert told.json()["choices"][0]["finish_reason"] == "tool_calls"


def rows(proxy: RunningProxy, session: str) -> list[dict[str, Any]]:
    newest_first: list[dict[str, Any]] = httpx.get(f"{proxy.url}/usage/recent?session={session}").json()["data"]
    return newest_first


@every_client
@every_backend
@both_ways
def test_a_call_that_repeats_itself_is_not_delivered(
    proxy: RunningProxy, provider: Upstream, session: str, client: str, backend: str, stream: bool
) -> None:
    ask = asking(proxy, client, f"{backend}:m", stream, session)
    looked(proxy, provider, session, f"not {session}", times=2)
    answer = ask()
    assert (answer.text, arguments(answer)) == ("Let me look. ", [{"at": "the stars"}])
    assert answer.reason == CALLED[client]
    provider.script = Turns(AGAIN, AWAY, LOOK)
    stopped = ask()
    assert (stopped.text, stopped.calls, stopped.reason) == (f"Once more. {BREAK}", [], STOPPED[client])
    [row] = rows(proxy, session)[:1]
    assert (row["end_reason"], row["status"], row["error"]) == ("loop", 200, None)
    assert row["notes"].startswith("tool call loop: 'look' called 4 times within 120s, the call was not delivered")
    assert any(f"{session}: tool call loop" in line for line in proxy.log().splitlines())
    assert arguments(ask()) == [{"at": "the sea"}]
    assert arguments(ask()) == [{"at": "the stars"}]  # counted anew, since another call came between
    assert arguments(ask(session=f"not {session}")) == [{"at": "the stars"}]  # the third one there


@every_client
@every_backend
@both_ways
def test_a_model_that_mends_itself_goes_on(
    proxy: RunningProxy, provider: Upstream, session: str, client: str, backend: str, stream: bool
) -> None:
    ask = asking(proxy, client, f"{backend}:m", stream, session)
    for last, text, calls, reason in (
        (DONE, "Never mind.", [], STOPPED[client]),
        (AWAY, "Or there? ", [{"at": "the sea"}], CALLED[client]),
    ):
        mine = f"{session}-{len(calls)}"
        looked(proxy, provider, mine)
        assert ask("!/set(tool-loop-mode=chance)", session=mine).text == "tool-loop-mode set to chance_then_break"
        provider.script = Turns(AGAIN, last)
        before = len(provider.requests)
        answer = ask(session=mine)
        assert answer.text == ("Once more. " if stream else "") + text  # a stream had begun
        assert (arguments(answer), answer.reason) == (calls, reason)
        first, second = provider.requests[before:]
        assert second.path == first.path
        assert "Tool call loop warning" not in first.body.decode()
        assert "Tool call loop warning" in second.body.decode()
        asked_again, stopped = rows(proxy, mine)[:2]
        assert (stopped["end_reason"], asked_again["end_reason"]) == ("loop", "tool_calls" if calls else "stop")
        assert stopped["notes"].endswith("the model was told")
        assert stopped["request_id"] == asked_again["request_id"]


@every_client
@every_backend
@both_ways
def test_a_model_that_does_not_mend_itself_is_stopped(
    proxy: RunningProxy, provider: Upstream, session: str, client: str, backend: str, stream: bool
) -> None:
    ask = asking(proxy, client, f"{backend}:m", stream, session)
    ask("!/set(tool-loop-mode=chance_then_break)")
    looked(proxy, provider, session)
    before = len(provider.requests)
    answer = ask()
    told = "After guidance, " + BREAK.replace("4 times", "5 times")
    assert answer.text == "Let me look. " * (2 if stream else 1) + told
    assert (answer.calls, answer.reason) == ([], STOPPED[client])
    assert len(provider.requests) == before + 2
    assert [row["end_reason"] for row in rows(proxy, session)[:2]] == ["loop", "loop"]
    later = ask()  # guided once is enough
    assert later.text == "Let me look. After guidance, " + BREAK.replace("4 times", "6 times")
    assert len(provider.requests) == before + 3


@every_client
@both_ways
def test_calls_in_turn_are_a_loop_too(
    proxy: RunningProxy, provider: Upstream, session: str, client: str, stream: bool
) -> None:
    ask = asking(proxy, client, "openai:m", stream, session)
    provider.script = Turns(*[LOOK, AWAY] * 4)
    for _ in range(7):
        assert len(ask().calls) == 1
    answer = ask()
    assert (answer.text, answer.calls) == (f"Or there? {BREAK}", [])


def test_a_session_has_values_of_its_own(proxy: RunningProxy, provider: Upstream, session: str) -> None:
    ask = asking(proxy, "anthropic_messages", "gemini:m", True, session)
    provider.script = Turns(LOOK)
    assert ask("!/set(tool-loop-max-repeats=2, tool-loop-ttl=60)").text
    assert len(ask().calls) == 1
    assert "2 times within 60s" in ask().text
    assert ask("!/set(tool-loop-detection=false)").text == "tool-loop-detection set to False"
    assert [len(ask().calls) for _ in range(6)] == [1] * 6
    ask("!/unset(tool-loop-detection, tool-loop-max-repeats, tool-loop-ttl)")
    assert [len(ask().calls) for _ in range(2)] == [1, 0]  # two were counted before it was switched off


CONFIG = """
model_defaults:
  "anthropic:calm-*": {tool_loop_max_repeats: 2, tool_loop_mode: chance_then_break, tool_loop_ttl_seconds: 50}
  "free": {tool_loop_detection_enabled: false}
"""


def test_settings_and_model_defaults(start_proxy: Start, upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    more = {"TOOL_LOOP_MAX_REPEATS": "3", "TOOL_LOOP_TTL_SECONDS": "70", "LLM_CONFIG": "config.yaml"}
    proxy = start_proxy(environment(upstream, **more))

    def answers(number: int, model: str) -> list[Answer]:
        upstream.script = Turns(LOOK)
        ask = asking(proxy, "openai_chat", model, False, f"{model} {number}")
        return [ask() for _ in range(number)]

    *delivered, last = answers(3, "anthropic:m")
    assert [len(answer.calls) for answer in delivered] == [1, 1]
    assert "3 times within 70s" in last.text
    first, second = answers(2, "anthropic:calm-1")
    assert len(first.calls) == 1
    assert "After guidance, " in second.text
    assert "within 50s" in second.text
    assert [len(answer.calls) for answer in answers(6, "openai:free")] == [1] * 6
    proxy.stop()
    proxy = start_proxy(environment(upstream, TOOL_LOOP_DETECTION_ENABLED="false"))
    assert [len(answer.calls) for answer in answers(6, "openai:m")] == [1] * 6


def test_the_count_survives_a_restart(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = Turns(LOOK)
    texts = []
    for requests in (4, 1):
        proxy = start_proxy(environment(upstream, TOOL_LOOP_MODE="chance_then_break"))
        ask = asking(proxy, "openai_chat", "openai:m", True, "s")
        texts += [ask().text for _ in range(requests)]
        proxy.stop()
    assert texts[2] == "Let me look. "
    assert texts[3] == "Let me look. " * 2 + "After guidance, " + BREAK.replace("4 times", "5 times")
    assert texts[4] == "Let me look. After guidance, " + BREAK.replace("4 times", "6 times")


def test_the_upstream_is_cancelled_when_the_call_is_whole(
    proxy: RunningProxy, provider: Upstream, session: str
) -> None:
    *call, _ = (b"data: %s\n\n" % json.dumps(event).encode() for event in chat_stream(LOOK, 0))
    more = b'data: {"choices":[{"index":0,"delta":{"content":"and so on"}}]}\n\n'

    def endless() -> Iterator[bytes | Pause]:
        yield from call
        while True:
            yield PAUSE
            yield more

    looked(proxy, provider, session)
    before = len(provider.exchanges)
    provider.script = lambda request: Reply(endless(), headers=EVENT_STREAM)
    assert asking(proxy, "openai_chat", "openai:m", True, session)().text == f"Let me look. {BREAK}"
    [exchange] = provider.wait_ended(before + 1)[before:]
    assert exchange.cancelled
    assert exchange.pieces_sent <= len(call) + A_FEW


@pytest.mark.parametrize(
    ("client", "backend"),
    [("openai_responses", "openai-responses"), ("anthropic_messages", "anthropic"), ("gemini", "gemini")],
)
@both_ways
def test_reasoning_goes_back_with_the_call(
    proxy: RunningProxy, provider: Upstream, session: str, client: str, backend: str, stream: bool
) -> None:
    ask = asking(proxy, client, f"{backend}:m", stream, session)
    looked(proxy, provider, session)
    ask("!/set(tool-loop-mode=chance)")
    provider.script = Turns(Turn("Once more. ", AGAIN.call, thinking="Hm, hm."), DONE)
    assert ask().text.endswith("Never mind.")
    asked_again = provider.requests[-1].body.decode()
    assert "Tool call loop warning" in asked_again
    assert "c2lnbmVk" in asked_again  # the signature, without which vendors refuse the call


@every_client
@both_ways
def test_a_second_chance_that_fails_is_an_error(
    proxy: RunningProxy, provider: Upstream, session: str, client: str, stream: bool
) -> None:
    ask = asking(proxy, client, "openai-responses:m", stream, session)
    looked(proxy, provider, session)
    ask("!/set(tool-loop-mode=chance)")
    answers = iter([Turns(AGAIN), lambda request: openai_error(400, "not again")])
    provider.script = lambda request: next(answers)(request)
    said = "response.completed" if stream and client == "openai_responses" else "not again"  # as the SDK has it
    with pytest.raises(Exception, match=said):
        ask()
    refused, stopped = rows(proxy, session)[:2]
    assert (refused["end_reason"], stopped["end_reason"]) == ("error", "loop")


HOST = "api.openai.com"


def test_an_http2_upstream_is_asked_again_over_the_same_connection(start_proxy: Start, authority: Authority) -> None:
    with Upstream(authority=authority, http2=True, names=(HOST,)) as upstream:
        upstream.script = Turns(LOOK, LOOK, LOOK, AGAIN, DONE)
        proxy = start_proxy({"TOOL_LOOP_MODE": "chance"}, hosts={HOST: upstream.port}, authority=authority)
        trust = ssl.create_default_context(cafile=str(proxy.ca_path))
        body = {"model": "m", "messages": [{"role": "user", "content": "Look."}], "stream": True}
        told = b""
        with Http2Client(443, trust, host=HOST, through=proxy.port) as client:
            for _ in range(4):
                headers = {"content-type": "application/json", "authorization": "Bearer mine", "x-session-id": "s"}
                asked = json.dumps(body | TOOLS["openai_chat"]).encode()
                told = client.read(client.ask("POST", "/v1/chat/completions", headers, asked)).body
        pieces = [json.loads(line[6:])["choices"][0] for line in told.splitlines() if line.startswith(b"data: {")]
        assert "".join(piece["delta"].get("content") or "" for piece in pieces) == "Once more. Never mind."
        assert [piece["finish_reason"] for piece in pieces if piece["finish_reason"]] == ["stop"]
        assert told.endswith(b"data: [DONE]\n\n")
        assert len(upstream.requests) == 5
        assert {request.connection for request in upstream.requests} == {1}
        assert [request.header("authorization") for request in upstream.requests] == ["Bearer mine"] * 5


def test_usage_of_a_stream_that_anthropic_did_not_come_to_end(
    proxy: RunningProxy, provider: Upstream, session: str
) -> None:
    provider.script = Turns(LOOK)
    answers = [
        ask_anthropic(proxy, "Look.", model="anthropic:m", stream=True, session=session, **TOOLS["anthropic_messages"])
        for _ in range(4)
    ]
    assert [answer.usage for answer in answers] == [(7, 3)] * 3 + [(7, 8)]


@both_ways
def test_the_demo_shows_a_call_that_is_stopped(proxy: RunningProxy, session: str, stream: bool) -> None:
    def ask() -> Answer:
        return ask_chat(proxy, "Go on.", model="demo:tool-loop", stream=stream, session=session, **TOOLS["openai_chat"])

    assert [len(ask().calls) for _ in range(3)] == [1, 1, 1]
    assert ask().text == BREAK
