"""Models that OpenAI serves in Responses only, or with tools only there, answer clients of every protocol."""

from collections.abc import Iterator

import httpx
import pytest
from kit.clients import CLIENTS
from kit.proxy import RunningProxy, running_proxy
from kit.turns import Called, Turn, Turns
from kit.upstream import Upstream

CONFIG = "backends: {openai: {protocol: [openai_chat, openai_responses]}}"
SCHEMA = {"type": "object", "properties": {"at": {"type": "integer"}}}
TOOLS = {
    "openai_chat": {"tools": [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]},
    "openai_responses": {"tools": [{"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}]},
    "anthropic_messages": {"tools": [{"name": "look", "input_schema": SCHEMA}]},
    "gemini": {"config": {"tools": [{"function_declarations": [{"name": "look", "parameters": SCHEMA}]}]}},
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(answer=Turns(Turn("Let me look.", Called("look", '{"at": 1}'), thinking="Hm."))) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[RunningProxy]:
    config = tmp_path_factory.mktemp("world") / "config.yaml"
    config.write_text(CONFIG)
    settings = {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": f"{upstream.url}/v1", "LLM_CONFIG": str(config)}
    with running_proxy(settings) as proxy:
        yield proxy


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("protocol", list(CLIENTS))
def test_tools_beside_thinking_go_to_responses(
    proxy: RunningProxy, upstream: Upstream, protocol: str, stream: bool
) -> None:
    ask, session = CLIENTS[protocol], f"{protocol}-{stream}"
    answer = ask(proxy, "Look.", model="openai:gpt-6-astra", stream=stream, session=session, **TOOLS[protocol])
    assert (answer.text, [name for name, _ in answer.calls]) == ("Let me look.", ["look"])
    assert upstream.requests[-1].path == "/v1/responses"
    assert upstream.requests[-1].json["tools"][0]["name"] == "look"
    ask(proxy, "Look.", model="openai:gpt-6-astra", stream=stream, session=session)
    wanted = "/v1/responses" if protocol == "openai_responses" else "/v1/chat/completions"
    assert upstream.requests[-1].path == wanted


def test_that_another_protocol_is_spoken_is_told(proxy: RunningProxy, upstream: Upstream) -> None:
    for model, path, notes in (
        ("gpt-5-codex", "/v1/responses", "asked in openai_responses: gpt-5-codex takes such a request there only"),
        ("gpt-5", "/v1/chat/completions", None),
    ):
        body = {"model": f"openai:{model}", "messages": [{"role": "user", "content": "Why?"}]}
        answer = httpx.post(f"{proxy.url}/v1/chat/completions", json=body)
        assert (answer.status_code, upstream.requests[-1].path) == (200, path)
        assert answer.headers.get("x-llm-proxy-notes") == notes
        assert answer.json()["choices"][0]["message"]["content"] == "Let me look."
