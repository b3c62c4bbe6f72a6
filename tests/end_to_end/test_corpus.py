"""Recorded exchanges with OpenAI-compatible services, replayed through one running proxy: only the model changes.

The client asks for usage, so that nothing of a stream is hidden from it; what the proxy asks for by itself has its own
test. A row must hold exactly the figures of the recording.
"""

import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.certificates import Authority
from kit.corpus import Recorded, exchanges, requires_corpus
from kit.proxy import RunningProxy, running_proxy
from kit.replies import Reply, text
from kit.upstream import Request, Upstream

pytestmark = requires_corpus

HOST = "api.openai.com"
CHAT = [recorded for recorded in exchanges(api="chat") if recorded.response.body]
REFUSED = [recorded for recorded in CHAT if recorded.response.status >= 400]
REFUSED_IN_STREAM = [
    recorded for recorded in CHAT if recorded.stream and re.match(r"event: error\n", str(recorded.response.body))
]
ANSWERED = [recorded for recorded in CHAT if recorded not in REFUSED and recorded not in REFUSED_IN_STREAM]
OWN_NAME = {"openai-chat": "openai"}
"""Backends that go by another name here."""


def backend(recorded: Recorded) -> str:
    return OWN_NAME.get(recorded.provider, recorded.provider)


class Player:
    """Answers every request with the reply of the recording whose turn it is."""

    def __init__(self) -> None:
        self.turn: Recorded | None = None

    def __call__(self, request: Request) -> Reply:
        assert self.turn is not None
        response = self.turn.response
        headers = {"content-type": response.content_type} if response.content_type else {}
        return text(response.data, response.status, response.headers | headers)


class Replay:
    """A running proxy, the provider behind it, and a client in front."""

    def __init__(self, upstream: Upstream, player: Player, proxy: RunningProxy, client: httpx.Client) -> None:
        self.upstream, self.proxy, self.client = upstream, proxy, client
        self._player = player

    def play(self, recorded: Recorded, url: str, body: dict[str, Any]) -> tuple[Request, httpx.Response]:
        self._player.turn = recorded
        reply = self.client.post(url, json=body, headers={"x-session-id": recorded.id})
        return self.upstream.requests[-1], reply

    def row(self, recorded: Recorded) -> dict[str, Any]:
        recent = httpx.get(f"{self.proxy.url}/usage/recent", params={"session": recorded.id, "limit": "1"})
        [row] = recent.json()["data"]
        return row


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    home = tmp_path_factory.mktemp("replay")
    player = Player()
    with Upstream(answer=player) as upstream:
        config = home / "config.yaml"
        names = sorted({backend(recorded) for recorded in CHAT})
        served = {"protocol": "openai_chat", "base_url": f"{upstream.url}/v1", "api_key_env": "REPLAY_KEY"}
        config.write_text(json.dumps({"backends": dict.fromkeys(names, served)}))
        environment = {"REPLAY_KEY": "sk-replay", "LLM_CONFIG": str(config)}
        with running_proxy(environment, home=home) as proxy, httpx.Client(base_url=proxy.url, timeout=20) as client:
            yield Replay(upstream, player, proxy, client)


@pytest.fixture(scope="module")
def caught(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Replay]:
    """Over HTTP/2 on both sides, caught on the provider's own host."""
    player = Player()
    with Upstream(answer=player, authority=authority, http2=True, names=(HOST,)) as upstream:
        home = tmp_path_factory.mktemp("caught")
        with running_proxy(home=home, hosts={HOST: upstream.port}, authority=authority) as proxy:
            context = ssl.create_default_context(cafile=str(proxy.ca_path))
            with httpx.Client(proxy=proxy.url, verify=context, http2=True, timeout=20) as client:
                yield Replay(upstream, player, proxy, client)


def asked(recorded: Recorded) -> dict[str, Any]:
    """The recorded request, from a client that wants to see the usage of a stream."""
    body = dict(recorded.request.body or {"model": "unknown", "messages": [{"role": "user", "content": "Hello?"}]})
    body.setdefault("model", "unknown")  # Azure's paths carry it
    body.pop("stream", None)
    if not recorded.stream:
        return body
    return body | {"stream": True, "stream_options": dict(body.get("stream_options") or {}) | {"include_usage": True}}


def objects(recorded: Recorded) -> list[dict[str, Any]]:
    """The completion, or the chunks of one."""
    body = recorded.response.body
    if isinstance(body, dict):
        return [body]
    lines = [line[5:].strip() for line in body.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line.startswith("{")]


def reported(recorded: Recorded) -> dict[str, Any] | None:
    """The last usage object of a recording."""
    found = [chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage") for chunk in objects(recorded)]
    return next((usage for usage in reversed(found) if usage), None)


def failure(recorded: Recorded) -> str:
    """The words of an error in the middle, or beside an answer."""
    holders = [holder for chunk in objects(recorded) for holder in (chunk, *chunk.get("choices", ()))]
    errors = [holder["error"] for holder in holders if holder.get("error")]
    return errors[0]["message"] if errors else ""


def figures(usage: dict[str, Any]) -> dict[str, Any]:
    """What a row must say; all that was written is output, reasoning too, however a service counts it."""
    details = usage.get("prompt_tokens_details") or {}
    hits = (details.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens"))
    cached = next((hit for hit in hits if hit is not None), 0)
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    beside = thought if usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] + thought else 0
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"] + beside,
        "reasoning_tokens": thought,
        "cached_tokens": cached if cached <= usage["prompt_tokens"] else 0,
        "estimated": False,
    }


def in_words_of_zai(body: dict[str, Any]) -> dict[str, Any]:
    """Z.ai passes over OpenAI's word for thinking, which the proxy says in Z.ai's own."""
    rest = {key: value for key, value in body.items() if key != "reasoning_effort"}
    return rest | {"thinking": {"type": "enabled"}}


@pytest.mark.parametrize("recorded", ANSWERED, ids=lambda recorded: recorded.id)
def test_nothing_changes_but_the_models_name(replay: Replay, recorded: Recorded) -> None:
    body = asked(recorded)
    named = body | {"model": f"{backend(recorded)}:{body['model']}"}
    request, reply = replay.play(recorded, "/v1/chat/completions", named)
    if recorded.provider == "zai" and "reasoning_effort" in body:
        assert request.json == in_words_of_zai(body)
    else:
        assert request.json == body
        assert list(request.json) == list(body)
    assert reply.status_code == 200, reply.text
    assert reply.content == recorded.response.data
    row = replay.row(recorded)
    assert (row["status"], row["stream"]) == (200, recorded.stream)
    assert (row["error"] or "").startswith(words := failure(recorded))
    assert (row["end_reason"] == "error") == bool(row["error"]) == bool(words)
    usage = reported(recorded)
    if usage is not None:
        expected = figures(usage)
        assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize("recorded", REFUSED, ids=lambda recorded: recorded.id)
def test_a_refusal_keeps_its_status_and_words(replay: Replay, recorded: Recorded) -> None:
    body = asked(recorded)
    _, reply = replay.play(recorded, "/v1/chat/completions", body | {"model": f"{backend(recorded)}:{body['model']}"})
    assert reply.status_code == recorded.response.status
    error = reply.json()["error"]
    match recorded.response.body:
        case {"error": {"message": str(message), **own}}:
            assert message in error["message"]
            assert {key: error[key] for key in own if key != "code"} == {k: v for k, v in own.items() if k != "code"}
        case {"detail": str(message)} | {"message": str(message)} | {"error": str(message)}:
            assert error["message"] == message
    row = replay.row(recorded)
    assert row["status"] == recorded.response.status
    assert row["error"] == error["message"]


@pytest.mark.parametrize("recorded", REFUSED_IN_STREAM, ids=lambda recorded: recorded.id)
def test_a_stream_that_begins_with_an_error_is_an_error(replay: Replay, recorded: Recorded) -> None:
    body = asked(recorded)
    _, reply = replay.play(recorded, "/v1/chat/completions", body | {"model": f"{backend(recorded)}:{body['model']}"})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == failure(recorded)
    assert replay.row(recorded)["status"] == 400


@pytest.mark.parametrize("recorded", ANSWERED[::12], ids=lambda recorded: recorded.id)
def test_nothing_changes_at_all_over_http2(caught: Replay, recorded: Recorded) -> None:
    body = asked(recorded)
    request, reply = caught.play(recorded, f"https://{HOST}/v1/chat/completions", body)
    assert (request.http_version, reply.http_version) == ("2", "HTTP/2")
    assert request.json == body
    assert reply.content == recorded.response.data
    usage = reported(recorded)
    if usage is not None:
        assert caught.row(recorded)["completion_tokens"] == figures(usage)["completion_tokens"]


@pytest.mark.parametrize(
    "recorded", [each for each in ANSWERED if each.stream and reported(each)][::8], ids=lambda recorded: recorded.id
)
def test_t87_usage_that_only_the_proxy_asked_for_is_hidden(replay: Replay, recorded: Recorded) -> None:
    body = {key: value for key, value in asked(recorded).items() if key != "stream_options"}
    named = body | {"model": f"{backend(recorded)}:{body['model']}"}
    request, reply = replay.play(recorded, "/v1/chat/completions", named)
    assert request.json == body | {"stream_options": {"include_usage": True}}
    usage = reported(recorded)
    assert usage is not None
    assert replay.row(recorded)["prompt_tokens"] == usage["prompt_tokens"]
    for line in reply.text.splitlines():
        if line.startswith("data: {"):
            assert json.loads(line[6:])["choices"], "a chunk without choices holds nothing but usage"


def test_the_recordings_are_all_there(tmp_path: Path) -> None:
    assert len(ANSWERED) > 200
    assert len(REFUSED) > 30
