"""A row for every ending, in every protocol: finished, cut, refused, failed in the middle, left by the client."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from kit.proxy import RunningProxy, running_proxy
from kit.replies import Fault, openai_error, sse, stream
from kit.upstream import Upstream

WORDS = "one two three four"
HELLO = [{"role": "user", "content": "Hello?"}]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A protocol as a provider speaks it. `events`: what is sent up to the words; `end`: the rest, with usage 7 and 4;
    `failure`: an error in the middle."""

    path: str
    body: dict[str, Any]
    events: tuple[Any, ...]
    end: tuple[Any, ...]
    failure: Any
    named: bool = False
    """Events have names."""

    def pieces(self, *events: Any) -> list[str]:
        return [
            (f"event: {each['type']}\n" if self.named else "") + f"data: {json.dumps(each)}\n\n"
            if isinstance(each, dict)
            else each
            for each in events
        ]


def chunk(delta: Any, reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def item(**more: Any) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": [], **more}


RESPONSE = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "in_progress", "output": []}
PART = {"type": "output_text", "text": "", "annotations": []}
DONE = {"status": "completed", "content": [PART | {"text": WORDS}]}
GEMINI = {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": WORDS}]}}], "modelVersion": "m"}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
           "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1}}  # fmt: skip

PROTOCOLS = {
    "openai_chat": Spoken(
        "/v1/chat/completions",
        {"model": "openai_chat:m", "messages": HELLO, "stream": True},
        (chunk({"role": "assistant", "content": WORDS}),),
        (
            chunk({}, "stop"),
            chunk({}) | {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}},
            "data: [DONE]\n\n",
        ),
        {"error": {"message": "it broke", "type": "server_error"}},
    ),
    "openai_responses": Spoken(
        "/v1/responses",
        {"model": "openai_responses:m", "input": "Hello?", "stream": True},
        (
            {"type": "response.created", "sequence_number": 0, "response": RESPONSE},
            {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item()},
            {"type": "response.content_part.added", "sequence_number": 2, "item_id": "msg_1", "output_index": 0,
             "content_index": 0, "part": PART},
            {"type": "response.output_text.delta", "sequence_number": 3, "item_id": "msg_1", "output_index": 0,
             "content_index": 0, "delta": WORDS},
        ),
        (
            {"type": "response.output_item.done", "sequence_number": 4, "output_index": 0, "item": item(**DONE)},
            {"type": "response.completed", "sequence_number": 5, "response": RESPONSE | {
                "status": "completed", "output": [item(**DONE)],
                "usage": {"input_tokens": 7, "output_tokens": 4, "total_tokens": 11}}},
        ),
        {"type": "error", "sequence_number": 4, "code": "server_error", "message": "it broke", "param": None},
        named=True,
    ),
    "anthropic_messages": Spoken(
        "/anthropic/v1/messages",
        {"model": "anthropic_messages:m", "max_tokens": 99, "messages": HELLO, "stream": True},
        (
            {"type": "message_start", "message": MESSAGE},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}},
        ),
        (
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
             "usage": {"output_tokens": 4}},
            {"type": "message_stop"},
        ),
        {"type": "error", "error": {"type": "api_error", "message": "it broke"}},
        named=True,
    ),
    "gemini": Spoken(
        "/v1beta/models/gemini-here:m:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "Hello?"}]}]},
        (GEMINI,),
        (
            {"candidates": [{"index": 0, "content": {"role": "model", "parts": []}, "finishReason": "STOP"}],
             "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 4, "totalTokenCount": 11}},
        ),
        {"error": {"code": 500, "message": "it broke", "status": "INTERNAL"}},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    home = tmp_path_factory.mktemp("endings")
    names = {protocol: "gemini-here" if protocol == "gemini" else protocol for protocol in PROTOCOLS}
    served = {
        name: {"protocol": protocol, "base_url": f"{upstream.url}/v1", "api_key_env": "HERE_KEY"}
        for protocol, name in names.items()
    }
    (home / "config.yaml").write_text(json.dumps({"backends": served}))
    environment = {"HERE_KEY": "sk-here", "LLM_CONFIG": str(home / "config.yaml"), "PROXY_TIMEOUT": "5"}
    with running_proxy(environment, home=home) as proxy:
        yield proxy


pytestmark = pytest.mark.parametrize("name", PROTOCOLS)


def post(proxy: RunningProxy, name: str, session: str) -> httpx.Response:
    spoken = PROTOCOLS[name]
    return httpx.post(proxy.url + spoken.path, json=spoken.body, headers={"x-session-id": session}, timeout=20)


def row(proxy: RunningProxy, session: str) -> dict[str, Any]:
    for _ in range(100):
        data = httpx.get(f"{proxy.url}/usage/recent", params={"session": session}).json()["data"]
        if data:
            break
        time.sleep(0.05)
    [found] = data
    assert found["request_id"].startswith("req_")
    return dict(found)


def figures(found: dict[str, Any]) -> tuple[int, int, bool]:
    return found["prompt_tokens"], found["completion_tokens"], found["estimated"]


def test_finished(proxy: RunningProxy, upstream: Upstream, name: str) -> None:
    spoken = PROTOCOLS[name]
    upstream.enqueue(stream(*spoken.pieces(*spoken.events, *spoken.end)))
    assert post(proxy, name, f"{name} finished").status_code == 200
    found = row(proxy, f"{name} finished")
    assert figures(found) == (7, 4, False)
    assert (found["frontend"], found["status"], found["end_reason"], found["error"]) == (name, 200, "stop", None)
    assert found["stream"] is True
    assert 0 <= found["ttft"] <= found["execution_time"]


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.CLOSE])
def test_cut(proxy: RunningProxy, upstream: Upstream, name: str, fault: Fault) -> None:
    spoken = PROTOCOLS[name]
    upstream.enqueue(stream(*spoken.pieces(*spoken.events), fault))
    session = f"{name} cut {fault.name}"
    post(proxy, name, session)
    found = row(proxy, session)
    assert (found["completion_tokens"], found["estimated"]) == (4, True)
    assert 5 <= found["prompt_tokens"] <= 12
    assert (found["status"], found["end_reason"]) == (200, "error")
    assert found["error"]


def test_failed_in_the_middle(proxy: RunningProxy, upstream: Upstream, name: str) -> None:
    spoken = PROTOCOLS[name]
    upstream.enqueue(stream(*spoken.pieces(*spoken.events, spoken.failure)))
    post(proxy, name, f"{name} failed")
    found = row(proxy, f"{name} failed")
    assert (found["completion_tokens"], found["estimated"]) == (4, True)
    assert (found["status"], found["end_reason"]) == (200, "error")
    assert "it broke" in found["error"]


def test_refused(proxy: RunningProxy, upstream: Upstream, name: str) -> None:
    upstream.enqueue(openai_error(400, "no such thing"))
    assert post(proxy, name, f"{name} refused").status_code == 400
    found = row(proxy, f"{name} refused")
    assert figures(found) == (0, 0, False)
    assert (found["status"], found["end_reason"], found["cost"]) == (400, "error", None)
    assert "no such thing" in found["error"]


def test_a_first_event_that_is_an_error(proxy: RunningProxy, upstream: Upstream, name: str) -> None:
    spoken = PROTOCOLS[name]
    upstream.enqueue(stream(*spoken.pieces(spoken.failure)))
    reply = post(proxy, name, f"{name} began badly")
    found = row(proxy, f"{name} began badly")
    assert found["status"] == reply.status_code >= 400
    assert "it broke" in found["error"]
    assert figures(found) == (0, 0, False)


def test_left_by_the_client(proxy: RunningProxy, upstream: Upstream, name: str) -> None:
    spoken = PROTOCOLS[name]
    upstream.enqueue(stream(*spoken.pieces(*spoken.events), Fault.STALL))
    headers = {"x-session-id": f"{name} left"}
    with httpx.stream("POST", proxy.url + spoken.path, json=spoken.body, headers=headers, timeout=20) as reply:
        seen = ""
        for text in reply.iter_text():
            seen += text
            if WORDS in seen:
                break
    found = row(proxy, f"{name} left")
    assert (found["completion_tokens"], found["estimated"]) == (4, True)
    assert (found["end_reason"], found["error"]) == ("cancelled", "the client disconnected")


def test_an_answer_that_is_no_stream(proxy: RunningProxy, upstream: Upstream, name: str) -> None:
    """Asked for as a stream, and the row says so."""
    upstream.enqueue(sse({"nothing": "of that kind"}))
    reply = post(proxy, name, f"{name} nonsense")
    found = row(proxy, f"{name} nonsense")
    assert reply.status_code in (200, 502)
    assert found["end_reason"] == "error"
    assert found["error"]
