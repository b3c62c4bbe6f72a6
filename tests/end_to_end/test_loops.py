"""Loops through the running proxy: every vendor's SDK against every vendor's service (SPEC 7 and 8)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import openai
import pytest
from google import genai
from kit.proxy import RunningProxy
from kit.replies import openai_error
from kit.turns import TIMES, Called, Turn, Turns, reply
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]

SENTENCE = "I will look at the file again. "
NOTICE = "[Response cancelled: Loop detected - Pattern '"
BREAK = "Tool call loop detected: 'look' invoked with identical parameters 4 times within 120s."
LOOK = Called("look", '{"at": "the stars"}')
AWAY = Called("look", '{"at": "the sea"}')
A_FEW = 5
"""Events that a provider may still send after those that made a loop."""

BACKENDS = ("openai", "openai-responses", "anthropic", "gemini")


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    calls: list[tuple[str, Any]]
    reason: str | None


def environment(upstream: Upstream, **more: str) -> dict[str, str]:
    urls = {f"{name}_API_BASE_URL": upstream.url for name in ("OPENAI", "ANTHROPIC", "GEMINI")}
    keys = {f"{name}_API_KEY": "sk-x" for name in ("OPENAI", "ANTHROPIC", "GEMINI")}
    return {**urls, **keys, **more}


def sdk(proxy: RunningProxy) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0, timeout=20)


TOOL = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}


def ask_chat(proxy: RunningProxy, model: str, stream: bool, session: str = "s") -> Answer:
    asked: Any = {
        "model": model,
        "messages": [{"role": "user", "content": "Count."}],
        "tools": [{"type": "function", "function": TOOL}],
        "extra_headers": {"x-session-id": session},
    }
    completions = sdk(proxy).chat.completions
    if stream:
        with completions.stream(**asked) as events:
            answer: Any = events.get_final_completion()
    else:
        answer = completions.create(**asked)
    [choice] = answer.choices
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
    return Answer(choice.message.content or "", calls, choice.finish_reason)


def ask_responses(proxy: RunningProxy, model: str, stream: bool, session: str = "s") -> Answer:
    asked: Any = {
        "model": model,
        "input": "Count.",
        "tools": [{"type": "function", **TOOL}],
        "extra_headers": {"x-session-id": session},
    }
    if stream:
        with sdk(proxy).responses.stream(**asked) as events:
            answer: Any = events.get_final_response()
    else:
        answer = sdk(proxy).responses.create(**asked)
    calls = [(item.name, item.arguments) for item in answer.output if item.type == "function_call"]
    return Answer(answer.output_text, calls, answer.status)


def ask_anthropic(proxy: RunningProxy, model: str, stream: bool, session: str = "s") -> Answer:
    client = anthropic.Anthropic(base_url=f"{proxy.url}/anthropic", api_key="none", max_retries=0, timeout=20)
    schema: Any = {"type": "object", "properties": {}}
    asked: Any = {
        "model": model,
        "max_tokens": 4000,
        "messages": [{"role": "user", "content": "Count."}],
        "tools": [{"name": "look", "input_schema": schema}],
        "extra_headers": {"x-session-id": session},
    }
    if stream:
        with client.messages.stream(**asked) as events:
            answer = events.get_final_message()
    else:
        answer = client.messages.create(**asked)
    text = "".join(block.text for block in answer.content if block.type == "text")
    calls = [(block.name, block.input) for block in answer.content if block.type == "tool_use"]
    return Answer(text, calls, answer.stop_reason)


def ask_gemini(proxy: RunningProxy, model: str, stream: bool, session: str = "s") -> Answer:
    options: Any = {"base_url": proxy.url, "headers": {"x-session-id": session}, "timeout": 20_000}
    client = genai.Client(api_key="none", http_options=options)
    config: Any = {"tools": [{"function_declarations": [{"name": "look", "description": "Looks."}]}]}
    asked: Any = {"model": model, "contents": "Count.", "config": config}
    models = client.models
    chunks: list[Any] = [*models.generate_content_stream(**asked)] if stream else [models.generate_content(**asked)]
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts or ()]
    calls = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
    reasons = [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates[0].finish_reason]
    return Answer("".join(part.text or "" for part in parts if not part.thought), calls, reasons[-1].value)


ASK: dict[str, Callable[..., Answer]] = {
    "openai_chat": ask_chat,
    "openai_responses": ask_responses,
    "anthropic_messages": ask_anthropic,
    "gemini": ask_gemini,
}
STOPPED = {"openai_chat": "stop", "openai_responses": "completed", "anthropic_messages": "end_turn", "gemini": "STOP"}

every_client = pytest.mark.parametrize("client", ASK)
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def rows(proxy: RunningProxy) -> list[dict[str, Any]]:
    newest_first: list[dict[str, Any]] = httpx.get(f"{proxy.url}/usage/recent").json()["data"]
    return newest_first


@every_client
@pytest.mark.parametrize("backend", BACKENDS)
def test_text_that_repeats_itself(start_proxy: Start, upstream: Upstream, client: str, backend: str) -> None:
    proxy = start_proxy(environment(upstream))
    upstream.script = Turns(Turn("Well. ", again=SENTENCE))
    answer = ASK[client](proxy, f"{backend}:m", True)
    kept, found, rest = answer.text.partition(NOTICE)
    assert found
    assert ("Well. " + SENTENCE * 11).startswith(kept)
    assert rest == f". {SENTENCE[:-2]}' repeated 10 times]"
    assert (answer.calls, answer.reason) == ([], STOPPED[client])
    [exchange] = upstream.wait_ended()
    assert exchange.cancelled
    assert exchange.pieces_sent <= 10 + len(SENTENCE * TIMES) / PIECE + A_FEW
    [row] = rows(proxy)
    assert (row["end_reason"], row["error"], row["estimated"]) == ("loop", None, True)
    assert 60 < row["completion_tokens"] < 120
    assert "repeated 10 times" in row["notes"]
    assert "repeated 10 times" in proxy.log()
    assert ASK[client](proxy, f"{backend}:m", False) == answer
    assert (rows(proxy)[0]["end_reason"], rows(proxy)[0]["estimated"]) == ("loop", False)


@both_ways
def test_the_raw_notice_is_a_line_of_openais_stream_alone(start_proxy: Start, upstream: Upstream, stream: bool) -> None:
    proxy = start_proxy(environment(upstream, LOOP_DETECTION_NOTICE="raw"))
    upstream.script = Turns(Turn(again=SENTENCE))
    body = {"model": "anthropic:m", "messages": [{"role": "user", "content": "Count."}], "stream": stream}
    told = httpx.post(f"{proxy.url}/v1/chat/completions", json=body).text
    assert (f"\n\ndata: {NOTICE}" in told) == stream
    assert told.endswith("data: [DONE]\n\n") == stream
    assert NOTICE in told
    assert NOTICE in ask_anthropic(proxy, "anthropic:m", stream).text


def look_again(start_proxy: Start, upstream: Upstream, **more: str) -> RunningProxy:
    proxy = start_proxy(environment(upstream, **more))
    upstream.script = Turns(*[Turn("Let me look. ", LOOK)] * 3, Turn("Once more. ", LOOK), Turn("Never mind."))
    return proxy


@every_client
@both_ways
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_call_that_repeats_itself_is_not_delivered(
    start_proxy: Start, upstream: Upstream, client: str, backend: str, stream: bool
) -> None:
    proxy = look_again(start_proxy, upstream)
    ask = ASK[client]
    for _ in range(3):
        answer = ask(proxy, f"{backend}:m", stream)
        assert answer.text == "Let me look. "
        assert len(answer.calls) == 1
        assert ask(proxy, f"{backend}:m", stream, session=f"other {_}").calls == answer.calls
    assert rows(proxy)[0]["end_reason"] == "tool_calls"
