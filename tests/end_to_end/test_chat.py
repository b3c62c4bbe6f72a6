"""The openai SDK → the running proxy → a scripted provider, over real sockets."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from kit.proxy import RunningProxy
from kit.replies import (
    CLOSED_AT_ONCE,
    GARBAGE,
    HTML_500,
    NO_ANSWER,
    RESET_AT_ONCE,
    Fault,
    Gate,
    chat,
    chat_chunk,
    chat_end,
    chat_stream,
    openai_error,
    sse,
)
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]

MESSAGES: Any = [{"role": "user", "content": "Hello?"}]
KEY = "sk-backend-0123456789abcdef"


def openai_at(upstream: Upstream, **more: str) -> dict[str, str]:
    return {"OPENAI_API_KEY": KEY, "OPENAI_API_BASE_URL": f"{upstream.url}/v1", **more}


def sdk(proxy: RunningProxy, **options: Any) -> openai.OpenAI:
    options = {"api_key": "none", "max_retries": 0, "timeout": 20} | options
    return openai.OpenAI(base_url=f"{proxy.url}/v1", **options)


def rows(proxy: RunningProxy, number: int = 1) -> list[dict[str, Any]]:
    """The usage rows, newest first; the row of a reply that the client did not wait for comes a moment later."""
    for _ in range(100):
        data: list[dict[str, Any]] = httpx.get(f"{proxy.url}/usage/recent").json()["data"]
        if len(data) >= number:
            break
        time.sleep(0.05)
    return data


def test_a_plain_answer_and_its_usage_row(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("Good day."))
    proxy = start_proxy(openai_at(upstream))
    answer = sdk(proxy).chat.completions.create(model="openai:gpt-4o", messages=MESSAGES)
    assert answer.choices[0].message.content == "Good day."
    [request] = upstream.requests
    assert request.json == {"model": "gpt-4o", "messages": MESSAGES}
    assert request.header("authorization") == f"Bearer {KEY}"
    [row] = rows(proxy)
    assert (row["backend"], row["model"], row["requested_model"]) == ("openai", "gpt-4o", "openai:gpt-4o")
    assert (row["prompt_tokens"], row["completion_tokens"], row["estimated"]) == (7, 3, False)
    assert (row["status"], row["end_reason"], row["key"]) == (200, "stop", 1)


def test_a_stream_arrives_piece_by_piece(start_proxy: Start, upstream: Upstream) -> None:
    gate = Gate()
    upstream.enqueue(sse(chat_chunk("one "), gate, chat_chunk("two"), *chat_end(2), done=True))
    proxy = start_proxy(openai_at(upstream))
    chunks = sdk(proxy).chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    assert next(chunks).choices[0].delta.content == "one "
    gate.set()
    rest = list(chunks)
    assert [c.choices[0].delta.content for c in rest] == ["two", None]
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
    assert rows(proxy)[0]["completion_tokens"] == 2


def test_t87_usage_reaches_only_the_client_that_asked(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat_stream("a"), chat_stream("a"))
    proxy = start_proxy(openai_at(upstream))
    create = sdk(proxy).chat.completions.create
    asked = list(create(model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}))
    assert asked[-1].choices == []
    assert asked[-1].usage is not None
    assert asked[-1].usage.completion_tokens == 1
    assert all(chunk.choices for chunk in create(model="m", messages=MESSAGES, stream=True))


async def test_the_async_client_streams_in_parallel(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(*(chat_stream("a", "b", "c") for _ in range(20)))
    proxy = start_proxy(openai_at(upstream))
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="x", max_retries=0) as client:

        async def ask() -> str:
            stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        assert await asyncio.gather(*(ask() for _ in range(20))) == ["abc"] * 20


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (openai_error(400, "no such parameter"), 400),
        (openai_error(429, "slow down", {"retry-after": "7"}), 429),
        (HTML_500, 500),
        (CLOSED_AT_ONCE, 502),
        (RESET_AT_ONCE, 502),
        (GARBAGE, 502),
    ],
    ids=["400", "429", "html", "closed", "reset", "garbage"],
)
def test_what_a_provider_does_wrong_is_an_error_in_the_clients_shape(
    start_proxy: Start, upstream: Upstream, reply: Any, status: int, stream: bool
) -> None:
    upstream.enqueue(reply)
    proxy = start_proxy(openai_at(upstream))
    with pytest.raises(openai.APIStatusError) as caught:
        list(sdk(proxy).chat.completions.create(model="m", messages=MESSAGES, stream=stream))
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"]
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"
    [row] = rows(proxy)
    assert row["status"] == status
    assert row["error"]


def test_a_provider_that_is_not_there(start_proxy: Start) -> None:
    with Upstream() as gone:
        environment = openai_at(gone)
    proxy = start_proxy(environment)
    with pytest.raises(openai.InternalServerError, match="no connection"):
        sdk(proxy).chat.completions.create(model="m", messages=MESSAGES)
    assert rows(proxy)[0]["status"] == 502


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_says_nothing(start_proxy: Start, upstream: Upstream, stream: bool) -> None:
    upstream.enqueue(NO_ANSWER)
    proxy = start_proxy(openai_at(upstream, PROXY_TIMEOUT="1"))
    with pytest.raises(openai.InternalServerError) as caught:
        sdk(proxy).chat.completions.create(model="m", messages=MESSAGES, stream=stream)
    assert caught.value.status_code == 504
    upstream.wait_ended()
    assert upstream.exchanges[0].cancelled


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.CLOSE, Fault.STALL])
def test_t80_a_stream_that_breaks_off_ends_with_an_error(start_proxy: Start, upstream: Upstream, fault: Fault) -> None:
    upstream.enqueue(sse(chat_chunk("half an "), fault))
    proxy = start_proxy(openai_at(upstream, PROXY_TIMEOUT="1"))
    seen = []
    with pytest.raises(openai.APIError):  # noqa: PT012 the error comes while reading
        for chunk in sdk(proxy).chat.completions.create(model="m", messages=MESSAGES, stream=True):
            seen.append(chunk.choices[0].delta.content)
    assert seen == ["half an "]
    [row] = rows(proxy)
    assert row["estimated"]
    assert row["completion_tokens"] > 0
    assert row["end_reason"] == "error"


def test_t81_the_upstream_is_cancelled_when_the_client_leaves(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(sse(chat_chunk("one"), Fault.STALL))
    proxy = start_proxy(openai_at(upstream))
    stream = sdk(proxy).chat.completions.create(model="m", messages=MESSAGES, stream=True)
    next(stream)
    stream.close()
    upstream.wait_ended()
    assert upstream.exchanges[0].cancelled
    assert rows(proxy)[0]["end_reason"] == "cancelled"


def test_tools_go_through_unchanged(start_proxy: Start, upstream: Upstream) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a": 1}'}}
    chunks = [chat_chunk("") | {"choices": [{"index": 0, "delta": {"tool_calls": [c]}}]} for c in (call, more)]
    upstream.enqueue(sse(*chunks, *chat_end(1), done=True))
    proxy = start_proxy(openai_at(upstream))
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "x-own": [1.0]}}]
    stream = sdk(proxy).chat.completions.create(model="m", messages=MESSAGES, tools=tools, stream=True)
    deltas = [chunk.choices[0].delta.tool_calls for chunk in stream if chunk.choices[0].delta.tool_calls]
    assert [delta[0].function.arguments for delta in deltas if delta and delta[0].function] == ["", '{"a": 1}']
    assert upstream.requests[0].json["tools"] == tools


def test_the_next_key_is_tried_when_one_is_refused(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(openai_error(429, "quota"), chat("from the second key"))
    proxy = start_proxy(
        {"OPENAI_API_BASE_URL": upstream.url, "OPENAI_API_KEY_1": "sk-first", "OPENAI_API_KEY_2": "sk-2"}
    )
    answer = sdk(proxy).chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert answer.parse().choices[0].message.content == "from the second key"
    assert [r.header("authorization") for r in upstream.requests] == ["Bearer sk-first", "Bearer sk-2"]
    assert "429" in answer.headers["x-llm-proxy-attempts"]
    assert [(row["key"], row["status"]) for row in rows(proxy)] == [(2, 200), (1, 429)]


def test_a_stream_whose_first_event_is_an_error_moves_on(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(sse({"error": {"message": "overloaded", "code": 529}}), chat_stream("fine"))
    proxy = start_proxy(
        {"OPENAI_API_BASE_URL": upstream.url, "OPENAI_API_KEY_1": "sk-first", "OPENAI_API_KEY_2": "sk-2"}
    )
    stream = sdk(proxy).chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "fine"


def test_no_saved_flow_holds_a_key(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat_stream("a"), chat("b"))
    client_key = "client-key-0123456789"
    environment = openai_at(upstream, LLM_INTERACTIVE_PROXY_API_KEY=client_key)
    proxy = start_proxy(environment, args=["-w", "flows.mitm", "--set", "termlog_verbosity=debug"])
    create = sdk(proxy, api_key=client_key).chat.completions.create
    list(create(model="m", messages=MESSAGES, stream=True))
    create(model="m", messages=MESSAGES)
    proxy.stop()
    saved = (proxy.home / "flows.mitm").read_bytes()
    assert b"Hello?" in saved
    kept = [saved, proxy.log().encode(), *(path.read_bytes() for path in proxy.data.iterdir())]
    assert not any(key.encode() in text for text in kept for key in (KEY, client_key))
