"""Recorded exchanges through a running proxy: a row holds the very figures of the recording (SPEC 10).

Chat Completions are in test_corpus.py, which replays them all; here are the other three protocols.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from kit.corpus import Recorded, exchanges, requires_corpus
from kit.proxy import RunningProxy, running_proxy
from kit.replies import Reply, text
from kit.upstream import Request, Upstream

pytestmark = requires_corpus

PROTOCOLS = {
    "messages": "anthropic_messages",
    "responses": "openai_responses",
    "generateContent": "gemini",
}
"""The corpus' names for them."""
type Figures = dict[str, int]


def objects(recorded: Recorded) -> list[Any]:
    """The answer, or the events or pieces of one, which may come as an array."""
    body = recorded.response.body
    if isinstance(body, str) and not body.lstrip().startswith(("[", "{")):
        lines = [line[5:].strip() for line in body.splitlines() if line.startswith("data:")]
        return [json.loads(line) for line in lines if line.startswith("{")]
    body = json.loads(body) if isinstance(body, str) else body
    return body if isinstance(body, list) else [body]


def anthropic(said: list[Any]) -> Figures | None:
    """What was read from and written to the cache is beside the input."""
    usage: dict[str, Any] = {}
    for each in said:
        for found in (each.get("usage"), (each.get("message") or {}).get("usage")):
            usage |= {name: value for name, value in (found or {}).items() if value is not None}
    if "output_tokens" not in usage:
        return None
    read, written = usage.get("cache_read_input_tokens", 0), usage.get("cache_creation_input_tokens", 0)
    return {
        "prompt_tokens": usage.get("input_tokens", 0) + read + written,
        "cached_tokens": read,
        "cache_write_tokens": written,
        "completion_tokens": usage["output_tokens"],
    }


def responses(said: list[Any]) -> Figures | None:
    usage = (said[-1].get("response") or said[-1]).get("usage")
    if not usage:
        return None
    return {
        "prompt_tokens": usage["input_tokens"],
        "cached_tokens": (usage.get("input_tokens_details") or {}).get("cached_tokens") or 0,
        "completion_tokens": usage["output_tokens"],
        "reasoning_tokens": (usage.get("output_tokens_details") or {}).get("reasoning_tokens") or 0,
    }


def gemini(said: list[Any]) -> Figures | None:
    """Thoughts are beside the answer, and what tools read beside the prompt."""
    usage = next((each["usageMetadata"] for each in reversed(said) if "usageMetadata" in each), None)
    if usage is None or "promptTokenCount" not in usage:
        return None
    thoughts = usage.get("thoughtsTokenCount", 0)
    return {
        "prompt_tokens": usage["promptTokenCount"] + usage.get("toolUsePromptTokenCount", 0),
        "cached_tokens": usage.get("cachedContentTokenCount", 0),
        "completion_tokens": usage.get("candidatesTokenCount", 0) + thoughts,
        "reasoning_tokens": thoughts,
    }


FIGURES = {"messages": anthropic, "responses": responses, "generateContent": gemini}


def failed(recorded: Recorded) -> bool:
    """In a stream that began well."""
    return any(each.get("type") in ("error", "response.failed") for each in objects(recorded))


ANSWERED = [
    recorded
    for api in PROTOCOLS
    for recorded in exchanges(api=api)
    if recorded.response.status == 200 and recorded.response.body and not failed(recorded)
]


class Replay:
    def __init__(self, upstream: Upstream, proxy: RunningProxy) -> None:
        self.upstream, self.proxy = upstream, proxy
        self.turn: Recorded | None = None

    def answer(self, request: Request) -> Reply:
        assert self.turn is not None
        response = self.turn.response
        kind = "text/event-stream" if response.data.startswith((b"event:", b"data:")) else "application/json"
        return text(response.data, response.status, {"content-type": response.content_type or kind})

    def play(self, recorded: Recorded) -> Mapping[str, Any]:
        """The row of it."""
        self.turn = recorded
        path, body = asked(recorded)
        reply = httpx.post(self.proxy.url + path, json=body, headers={"x-session-id": recorded.id}, timeout=20)
        assert reply.status_code == 200, reply.text
        recent = httpx.get(f"{self.proxy.url}/usage/recent", params={"session": recorded.id})
        [row] = recent.json()["data"]
        return dict(row)


def asked(recorded: Recorded) -> tuple[str, dict[str, Any]]:
    body = dict(recorded.request.body or {})
    if recorded.api == "generateContent":
        model = recorded.request.path.rpartition("/models/")[2].partition(":")[0] or "m"
        is_array = recorded.stream and str(recorded.response.body).lstrip().startswith("[")
        action = "streamGenerateContent" if recorded.stream else "generateContent"
        sse = "?alt=sse" if recorded.stream and not is_array else ""
        body.setdefault("contents", [{"role": "user", "parts": [{"text": "Hello?"}]}])
        return f"/v1beta/models/{recorded.api.lower()}:{model}:{action}{sse}", body
    body["model"] = f"{recorded.api}:{body.get('model') or 'm'}"
    if recorded.stream:
        body["stream"] = True
    if recorded.api == "messages":
        body.setdefault("max_tokens", 99)
        body.setdefault("messages", [{"role": "user", "content": "Hello?"}])
        return "/anthropic/v1/messages", body
    body.setdefault("input", "Hello?")
    for name in ("previous_response_id", "conversation"):  # of other recordings
        body.pop(name, None)
    return "/v1/responses", body


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    home = tmp_path_factory.mktemp("replay")
    playing: list[Replay] = []
    with Upstream(answer=lambda request: playing[0].answer(request)) as upstream:
        served = {
            api: {"protocol": protocol, "base_url": f"{upstream.url}/v1", "api_key_env": "REPLAY_KEY"}
            for api, protocol in PROTOCOLS.items()
        }
        config = home / "config.yaml"
        config.write_text(json.dumps({"backends": {api.lower(): row for api, row in served.items()}}))
        with running_proxy({"REPLAY_KEY": "sk-replay", "LLM_CONFIG": str(config)}, home=home) as proxy:
            playing.append(Replay(upstream, proxy))
            yield playing[0]


@pytest.mark.parametrize("recorded", ANSWERED, ids=lambda recorded: recorded.id)
def test_a_row_holds_the_figures_of_the_recording(replay: Replay, recorded: Recorded) -> None:
    row = replay.play(recorded)
    expected = FIGURES[recorded.api](objects(recorded))
    assert (row["status"], row["stream"]) == (200, recorded.stream)
    if expected is not None:
        assert {name: row[name] for name in expected} == expected
        assert row["estimated"] is False


def test_the_recordings_are_all_there() -> None:
    assert len(ANSWERED) > 350
    told = [recorded for recorded in ANSWERED if FIGURES[recorded.api](objects(recorded)) is not None]
    assert len(told) > 0.9 * len(ANSWERED)
