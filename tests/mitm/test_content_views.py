import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from contracts.samples import REPLIES, REQUESTS
from mitmproxy import contentviews, http
from mitmproxy.contentviews import ContentviewRegistry
from mitmproxy.test import taddons, tflow

from llm_interactive.mitm.content_views import NAME, LlmConversation

PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/anthropic/v1/messages",
    "gemini": "/v1beta/models/m:streamGenerateContent?alt=sse",
}
protocols = pytest.mark.parametrize("name", PATHS)


@pytest.fixture
async def views() -> AsyncIterator[ContentviewRegistry]:
    """Those of mitmproxy and ours; `prettify_message` asks the running master for an option."""
    registry = ContentviewRegistry()
    for view in contentviews.registry.values():
        registry.register(view)
    registry.register(LlmConversation())
    with taddons.context():
        yield registry


def flow_of(name: str, body: Any = None, reply: str | None = None, status: int = 200) -> http.HTTPFlow:
    flow = tflow.tflow()
    content = json.dumps(REQUESTS[name][0] if body is None else body)
    flow.request = http.Request.make(
        "POST", f"http://127.0.0.1:8000{PATHS[name]}", content, {"content-type": "application/json"}
    )
    if reply is not None:
        kind = "text/event-stream" if reply.startswith(("data", "event")) else "application/json"
        flow.response = http.Response.make(status, reply, {"content-type": kind})
    return flow


def shown(flow: http.HTTPFlow, message: http.Message | None, views: ContentviewRegistry) -> str:
    assert message is not None
    result = contentviews.prettify_message(message, flow, registry=views)
    assert result.view_name == NAME
    return result.text


@protocols
def test_mitmproxy_shows_the_conversation_by_itself(name: str, views: ContentviewRegistry) -> None:
    flow = flow_of(name, reply=REPLIES[name][0])
    assert "[user]\n  Weather here?" in shown(flow, flow.request, views)
    assert "Let me look" in shown(flow, flow.response, views)
    assert '"city": "Köln"' in shown(flow, flow.response, views)


@protocols
def test_a_reply_that_was_kept_in_part_is_shown_in_part(name: str, views: ContentviewRegistry) -> None:
    reply = REPLIES[name][0]
    flow = flow_of(name, reply=reply[: len(reply) // 2])
    assert "[failed]" in shown(flow, flow.response, views)


def test_an_error_is_shown_with_its_words(views: ContentviewRegistry) -> None:
    flow = flow_of("openai_chat", reply='{"error": {"message": "no such model"}}', status=404)
    assert "404" in shown(flow, flow.response, views)
    assert "no such model" in shown(flow, flow.response, views)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/models", "/"])
def test_other_calls_have_mitmproxys_own_views(path: str, views: ContentviewRegistry) -> None:
    flow = flow_of("openai_chat", body={"input": "x"})
    flow.request.path = path
    assert contentviews.prettify_message(flow.request, flow, registry=views).view_name == "JSON"


def test_what_cannot_be_read_is_shown_raw(views: ContentviewRegistry) -> None:
    flow = flow_of("openai_chat", body=["no", "object"])
    result = contentviews.prettify_message(flow.request, flow, registry=views)
    assert result.text == '["no", "object"]'


@protocols
def test_an_edit_of_the_words_changes_nothing_else_in_the_body(name: str) -> None:
    flow = flow_of(name, body=REQUESTS[name][0] | {"unknown": {"b": 1, "a": [None]}})
    view = LlmConversation()
    metadata = contentviews.Metadata(flow=flow, http_message=flow.request)
    text = view.prettify(flow.request.content or b"", metadata)
    assert view.reencode(text, metadata) == flow.request.content
    edited = json.loads(view.reencode(text.replace("And tomorrow?", "And “yesterday”?"), metadata))
    before = json.dumps(json.loads(flow.request.content or b""), ensure_ascii=False)
    for item in edited.get("input", ()):  # Responses may call a message so, or not
        if item.get("type") == "message":
            del item["type"]
    assert edited == json.loads(before.replace("And tomorrow?", "And “yesterday”?"))
    assert list(edited) == list(json.loads(before))


def test_an_edit_that_cannot_be_said_is_refused() -> None:
    flow = flow_of("openai_chat", reply=REPLIES["openai_chat"][0])
    view = LlmConversation()
    metadata = contentviews.Metadata(flow=flow, http_message=flow.request)
    text = view.prettify(flow.request.content or b"", metadata)
    with pytest.raises(ValueError, match="edit the JSON"):
        view.reencode(text.replace("[user]", "[system]"), metadata)
    reply = contentviews.Metadata(flow=flow, http_message=flow.response)
    with pytest.raises(ValueError, match="only requests"):
        view.reencode(view.prettify(b"", reply), reply)
