"""What a person does with conversations in mitmweb: looks, edits, sends again, compares, exports, saves."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from contracts.samples import REPLIES
from kit.mitmweb import MitmWeb
from kit.proxy import RunningProxy
from kit.replies import chat, chat_stream, openai_error, stream
from kit.upstream import Upstream
from mitmproxy.io import FlowReader

type Start = Callable[..., RunningProxy]
type Post = Callable[..., httpx.Response]

KEYS = {"OPENAI_API_KEY": "sk-openai-key-of-the-proxy", "ANTHROPIC_API_KEY": "sk-ant-key-of-the-proxy"}


@pytest.fixture
def proxy(start_proxy: Start, upstream: Upstream) -> RunningProxy:
    urls = {"OPENAI_API_BASE_URL": upstream.url, "ANTHROPIC_API_BASE_URL": upstream.url}
    return start_proxy({**KEYS, **urls}, mode="mitmweb")


@pytest.fixture
def web(proxy: RunningProxy) -> Iterator[MitmWeb]:
    with MitmWeb(proxy) as web:
        yield web


@pytest.fixture
def post(proxy: RunningProxy) -> Post:
    def post(words: str, **more: Any) -> httpx.Response:
        body = {"model": "openai:gpt-4o", "messages": [{"role": "user", "content": words}], **more}
        headers = {"authorization": "Bearer sk-the-clients-own-credential", "x-session-id": "tea"}
        return httpx.post(f"{proxy.url}/v1/chat/completions", json=body, headers=headers, timeout=20)

    return post


def test_a_conversation_goes_to_another_model_beside_the_first(web: MitmWeb, post: Post, upstream: Upstream) -> None:
    upstream.enqueue(chat_stream("Tea", "."), stream(REPLIES["anthropic_messages"][0]))
    post("What do you drink? !/set(temperature=0.5)", stream=True)
    [first] = web.answered(1)
    assert web.command("llm.replay.with", f"@{first['id']}", "anthropic:claude-x") is None
    again = web.answered(2)[1]
    assert web.shown(again, "request") == web.shown(first, "request").replace(" !/set(temperature=0.5)", "")
    assert "[assistant]\n  Tea." in web.shown(first, "response")
    assert "Let me look" in web.shown(again, "response")
    assert "anthropic/claude-x" in again["comment"]
    assert again["id"] != first["id"]
    [asked, asked_again] = upstream.requests
    assert asked_again.path == "/v1/messages"
    assert asked_again.header("x-api-key") == KEYS["ANTHROPIC_API_KEY"]
    assert asked_again.json["model"] == "claude-x"
    assert asked_again.json["messages"][0]["content"] == "What do you drink?"
    assert "temperature" not in asked_again.json  # what was set belongs to the session, not to the replay
    assert asked.json["temperature"] == 0.5


def test_the_same_model_is_asked_again(web: MitmWeb, post: Post, upstream: Upstream) -> None:
    upstream.enqueue(chat("one"), chat("two"))
    post("Say a number.")
    [first] = web.answered(1)
    web.command("llm.replay", f"@{first['id']}")
    again = web.answered(2)[1]
    assert "two" in web.shown(again, "response")
    assert upstream.requests[0].json == upstream.requests[1].json


def test_mitmproxys_own_replay_says_what_to_use(web: MitmWeb, post: Post, upstream: Upstream) -> None:
    upstream.enqueue(chat("one"))
    post("Say a number.")
    [flow] = web.answered(1)
    web.command("replay.client", f"@{flow['id']}")
    [flow] = web.when(lambda flows: flows[0].get("response", {}).get("status_code") == 501)
    assert "llm.replay" in web.shown(flow, "response")
    assert len(upstream.requests) == 1


def test_a_replay_that_fails_shows_why(web: MitmWeb, post: Post, upstream: Upstream) -> None:
    upstream.enqueue(chat("one"), openai_error(400, "no such thing"))
    post("Say a number.")
    [first] = web.answered(1)
    web.command("llm.replay", f"@{first['id']}")
    assert "no such thing" in web.shown(web.answered(2)[1], "response")


def test_what_cannot_be_sent_again_is_said(web: MitmWeb, post: Post, proxy: RunningProxy, upstream: Upstream) -> None:
    upstream.enqueue(chat("one"))
    post("Hi.")
    post("!/help")
    httpx.get(f"{proxy.url}/health")
    flows = web.answered(3)
    chosen = [f"@{flow['id']}" for flow in flows]
    assert (
        "no backend:model; the backends are openai, " in web.command("llm.replay.with", chosen[0], "nowhere:x")["error"]
    )
    assert "it was all commands" in web.command("llm.replay.with", chosen[1], "openai:x")["error"]
    assert "nobody answered" in web.command("llm.replay", chosen[1])["error"]
    assert "no conversation" in web.command("llm.replay", chosen[2])["error"]
    assert len(web.flows()) == 3


def test_two_conversations_are_compared(web: MitmWeb, post: Post, upstream: Upstream) -> None:
    upstream.enqueue(chat("Tea."), chat("Coffee."))
    post("Which?")
    post("Which?")
    for flow in web.answered(2):
        web.mark(flow)
    lines = [line for [line] in web.command("llm.diff", "@marked")]
    assert lines[0].startswith("--- openai_chat → openai/gpt-4o")
    assert [line for line in lines[2:] if line[0] in "+-"] == ["-  Tea.", "+  Coffee."]
    assert {"llm.replay_with", "llm.export_conversation"} <= set(web.commands())
    assert "two flows" in web.command("llm.diff", "~comment nothing")["error"]


def test_a_conversation_is_exported(web: MitmWeb, post: Post, upstream: Upstream, tmp_path: Path) -> None:
    upstream.enqueue(chat_stream("Tea", "."))
    post("Which?", stream=True)
    [flow] = web.answered(1)
    chosen = f"@{flow['id']}"
    assert web.command("llm.export.conversation", chosen, str(tmp_path / "out.md")) is None
    assert "## user\n\nWhich?\n" in (tmp_path / "out.md").read_text()
    assert "## assistant\n\nTea.\n" in (tmp_path / "out.md").read_text()
    web.command("llm.export.conversation", chosen, str(tmp_path / "out.json"))
    exported = json.loads((tmp_path / "out.json").read_text())
    assert exported["messages"] == [{"role": "user", "parts": [{"text": "Which?"}]}]
    assert exported["answer"]["messages"][0]["parts"] == [{"text": "Tea."}]
    assert "must end in .json or .md" in web.command("llm.export.conversation", chosen, "out.txt")["error"]
    nowhere = str(tmp_path / "nowhere/out.md")
    assert "cannot be written" in web.command("llm.export.conversation", chosen, nowhere)["error"]


def test_what_is_edited_while_it_is_held_is_what_is_read(web: MitmWeb, post: Post, upstream: Upstream) -> None:
    upstream.enqueue(chat("one"), chat("two"))
    web.command("set", "intercept", '~meta "llm_asked: openai:gpt"')
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(post("Say one.")))
    asking.start()
    [held] = web.when(lambda flows: any(flow["intercepted"] for flow in flows))
    assert upstream.requests == []
    body = json.loads(web.body(held, "request"))
    body["messages"][0]["content"] = "!/set(project=moon) Say two."
    body["model"] = "openai:gpt-5"
    web.edit(held, content=json.dumps(body))
    web.resume(held)
    asking.join(20)
    assert answers[0].json()["choices"][0]["message"]["content"] == "one"
    assert answers[0].headers["x-llm-proxy-commands"] == "project set to moon"
    assert upstream.requests[0].json["model"] == "gpt-5"
    assert upstream.requests[0].json["messages"][0]["content"] == "Say two."


def test_a_broken_edit_is_told_to_the_client(web: MitmWeb, post: Post, upstream: Upstream) -> None:
    web.command("set", "intercept", "~q")
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(post("Say one.")))
    asking.start()
    [held] = web.when(lambda flows: any(flow["intercepted"] for flow in flows))
    web.edit(held, content="{")
    web.resume(held)
    asking.join(20)
    assert answers[0].status_code == 400
    assert "no JSON" in answers[0].text
    assert upstream.requests == []


def test_saved_flows_load_without_the_addon_and_hold_no_key(web: MitmWeb, post: Post, upstream: Upstream) -> None:
    upstream.enqueue(chat_stream("Tea", "."))
    post("My key is sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD, keep it.", stream=True)
    web.answered(1)
    saved = web.saved()
    for secret in (*KEYS.values(), "sk-the-clients-own-credential", "sk-proj-abcdefghij"):
        assert secret.encode() not in saved
    [flow] = FlowReader(io.BytesIO(saved)).stream()
    assert flow.metadata["llm_session"] == "tea"
    assert flow.metadata["llm_backend"] == "openai"
    assert flow.metadata["llm_output"] == 2
    assert all(isinstance(value, str | int | float) for value in flow.metadata.values())
    assert "openai/gpt-4o" in flow.comment


def test_flows_are_found_by_comment_and_metadata(web: MitmWeb, post: Post, upstream: Upstream) -> None:
    upstream.enqueue(chat("one"), stream(REPLIES["anthropic_messages"][0]))
    post("Hi.")
    post("Hi.", model="anthropic:claude-x")
    flows = web.answered(2)
    for chosen in ('~meta "llm_backend: anthropic"', "~comment anthropic/claude-x", '~meta "llm_asked: anthropic:"'):
        web.command("flow.mark", chosen, ":rocket:")
        assert [bool(flow["marked"]) for flow in web.flows()] == [False, True]
        web.command("flow.mark", "@all", "")
    rows = httpx.get(f"{web.proxy.url}/usage/recent").json()["data"]
    assert [row["flow_id"] for row in reversed(rows)] == [flow["id"] for flow in flows]
