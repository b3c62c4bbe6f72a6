"""Free-form tools (Codex' `apply_patch`) with models whose vendor knows functions only."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from kit.proxy import RunningProxy, running_proxy
from kit.turns import Called, Turn, Turns
from kit.upstream import Upstream

PATCH = "*** Begin Patch\n+ é\n*** End Patch"
TURNS = Turn("I patch.", Called("apply_patch", '{"input": "*** Begin Patch\\n+ é\\n*** End Patch"}')), Turn("Done.")
MODELS = ["anthropic:claude-opus-4-7", "gemini:gemini-3-pro-preview"]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(upstream: Upstream) -> Iterator[RunningProxy]:
    keys = {"ANTHROPIC_API_KEY": "sk-x", "GEMINI_API_KEY": "x"}
    with running_proxy({**keys, "ANTHROPIC_API_BASE_URL": upstream.url, "GEMINI_API_BASE_URL": upstream.url}) as proxy:
        yield proxy


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", MODELS)
def test_through_responses(proxy: RunningProxy, upstream: Upstream, model: str, stream: bool) -> None:
    upstream.script = Turns(*TURNS)
    client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0, timeout=20)
    tools: Any = [{"type": "custom", "name": "apply_patch", "description": "Patches files."}]
    asked: Any = {"model": model, "tools": tools, "extra_headers": {"x-session-id": f"{model}-{stream}"}}
    items: list[Any] = [{"role": "user", "content": "Patch it."}]

    def ask() -> Any:
        if not stream:
            return client.responses.create(input=items, **asked)
        with client.responses.stream(input=items, **asked) as events:
            return events.get_final_response()

    first = ask()
    [call] = [item for item in first.output if item.type == "custom_tool_call"]
    assert (call.name, call.input) == ("apply_patch", PATCH)
    items += [item.model_dump(exclude_none=True) for item in first.output]
    items.append({"type": "custom_tool_call_output", "call_id": call.call_id, "output": "ok"})
    assert ask().output_text == "Done."
    sent = upstream.requests[-1].body.decode()
    assert sent.count("*** Begin Patch\\\\n") + sent.count("*** Begin Patch\\n") == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", MODELS)
def test_through_chat_completions(proxy: RunningProxy, upstream: Upstream, model: str, stream: bool) -> None:
    upstream.script = Turns(*TURNS)
    client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0, timeout=20)
    tools: Any = [{"type": "custom", "custom": {"name": "apply_patch"}}]
    messages: Any = [{"role": "user", "content": "Patch it."}]
    asked: Any = {"model": model, "tools": tools, "messages": messages}
    asked["extra_headers"] = {"x-session-id": f"chat-{model}-{stream}"}
    if stream:
        pieces = list(client.chat.completions.create(stream=True, **asked))
        said = [
            each.choices[0].delta.tool_calls for each in pieces if each.choices and each.choices[0].delta.tool_calls
        ]
        found = "".join((call.model_extra or {})["custom"].get("input") or "" for calls in said for call in calls)
    else:
        message = client.chat.completions.create(**asked).choices[0].message
        assert message.tool_calls is not None
        found = message.tool_calls[0].custom.input  # type: ignore[union-attr]
    assert found == PATCH
