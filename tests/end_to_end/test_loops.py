"""Loops through the running proxy: every vendor's SDK, and providers that would go on for ever (SPEC 7 and 8)."""

import json
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import httpx
import openai
from kit.proxy import RunningProxy
from kit.replies import EVENT_STREAM, Pause, Reply, chat, chat_chunk
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]

MESSAGES: Any = [{"role": "user", "content": "Count the stars."}]
SENTENCE = "I will look at the file again. "
A_FEW = 5
"""Events that a provider may still send after the one that made a loop."""
NOTICE = "[Response cancelled: Loop detected - Pattern '"


def openai_at(upstream: Upstream, **more: str) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": f"{upstream.url}/v1", **more}


def sdk(proxy: RunningProxy) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0, timeout=20)


def row(proxy: RunningProxy) -> dict[str, Any]:
    newest: dict[str, Any] = httpx.get(f"{proxy.url}/usage/recent").json()["data"][0]
    return newest


def for_ever(*events: dict[str, Any], first: tuple[dict[str, Any], ...] = (), times: int = 12) -> Reply:
    """A stream that says `first`, and then these again and again. After so many `times`, enough for a loop, it waits
    before every further event until the proxy has had time to hang up."""

    def pieces() -> Iterator[bytes | Pause]:
        yield from map(_data, first)
        yield from map(_data, events * times)
        for event in cycle(events):
            yield Pause(1)
            yield _data(event)

    return Reply(pieces(), headers=EVENT_STREAM)


def _data(event: dict[str, Any]) -> bytes:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def test_a_stream_is_stopped_and_ends_well(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(for_ever(*(chat_chunk(word) for word in SENTENCE.split(" ") if word)))
    proxy = start_proxy(openai_at(upstream))
    stream = sdk(proxy).chat.completions.create(model="m", messages=MESSAGES, stream=True)
    chunks = [chunk.choices[0] for chunk in stream]
    said = "".join(chunk.delta.content or "" for chunk in chunks)
    assert said.startswith("Iwilllookatthefileagain.")
    assert NOTICE in said
    assert said.endswith(" repeated 11 times]")  # the words came without blanks: a pattern of 24 characters
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    [exchange] = upstream.wait_ended()
    assert exchange.cancelled
    assert exchange.pieces_sent <= 12 * 7 + A_FEW
    assert (row(proxy)["end_reason"], row(proxy)["error"], row(proxy)["estimated"]) == ("loop", None, True)
    assert "repeated 11 times" in row(proxy)["notes"]
    assert row(proxy)["completion_tokens"] > 10
    assert "repeated 11 times" in proxy.log()


def test_a_whole_reply_keeps_its_text_up_to_the_loop(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("Well. " + SENTENCE * 100))
    proxy = start_proxy(openai_at(upstream))
    answer = sdk(proxy).chat.completions.create(model="m", messages=MESSAGES)
    [choice] = answer.choices
    assert choice.message.content is not None
    kept, found, _ = choice.message.content.partition(NOTICE)
    assert found
    assert ("Well. " + SENTENCE * 11).startswith(kept)
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert (row(proxy)["end_reason"], row(proxy)["estimated"]) == ("loop", False)
