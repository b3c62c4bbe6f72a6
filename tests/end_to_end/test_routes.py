"""What a model name may be, and where commands, files and sign-ins send a request (SPEC 2, 5.3, 6, 12)."""

import json
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from kit.clients import CLIENTS, ask_chat
from kit.providers import Providers, key_of
from kit.proxy import RunningProxy
from kit.replies import Gate, answer, chat, chat_chunk, chat_end, openai_error, sse
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]

LIMITED = openai_error(429, "no", {"retry-after": "60"})
FILE = {
    "failover_routes": {"cheap": {"policy": "m", "elements": ["p1:small?temperature=0.5", "p2:small"]}},
    "aliases": {
        "fast": "p3:quick",
        "any": "fast|cheap",
        "/^claude-.*-haiku/": "gem0:flash",
        r"/^gpt-(\d)-mini$/": r"p4:mini-\1",
    },
}


@pytest.fixture
def providers() -> Iterator[Providers]:
    with Providers() as providers:
        yield providers


@pytest.fixture
def proxy(start_proxy: Start, providers: Providers, tmp_path: Path) -> RunningProxy:
    return start_proxy(providers.environment(tmp_path, FILE, LLM_BACKEND="p9"))


def models_of(providers: Providers) -> list[tuple[str, str]]:
    """Provider and model of each request."""
    return [
        (asked.path.split("/")[1], asked.json["model"] if "model" in asked.json else asked.path.partition("models/")[2])
        for asked in providers.requests
    ]


def test_what_a_model_name_may_be(proxy: RunningProxy, providers: Providers) -> None:
    """And the client always gets back the name it asked for."""
    for asked, expected in (
        ("p5:a/b:free", ("p5", "a/b:free")),
        ("ft:gpt-4o:org", ("p9", "ft:gpt-4o:org")),
        ("meta-llama/llama-3", ("p9", "meta-llama/llama-3")),
        ("gpt-4o", ("p9", "gpt-4o")),
        ("fast", ("p3", "quick")),
        ("any", ("p3", "quick")),
        ("cheap", ("p1", "small")),
        ("gpt-5-mini", ("p4", "mini-5")),
        ("claude-3-5-haiku-20241022", ("gem0", "flash:generateContent")),
        ("p6:x|p7:y", ("p6", "x")),
        ("[weight=1000000]p7:y^[weight=0.000001]p6:x", ("p7", "y")),
    ):
        providers.say({})
        assert ask_chat(proxy, "Hello?", model=asked).text == "yes"
        assert models_of(providers) == [expected]
    providers.say({})
    assert ask_chat(proxy, "Hello?", model="fast").model == "fast"


def test_selectors_fall_back(proxy: RunningProxy, providers: Providers) -> None:
    broken = openai_error(500, "broken")
    providers.say({"p6": broken, "p3": broken, "p1": broken})
    assert ask_chat(proxy, "Hello?", model="p6:x|any", stream=True).text == "yes"
    assert providers.asked == ["p6 1", "p6 2", "p6 3", "p3 1", "p3 2", "p3 3", "p1 1", "p2 1"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_bad_selector_is_the_clients_fault(proxy: RunningProxy, client: str) -> None:
    with pytest.raises(
        (openai.BadRequestError, anthropic.BadRequestError, Exception), match="a name is missing"
    ) as raised:
        CLIENTS[client](proxy, "Hello?", model="p1:a||p2:b")
    assert getattr(raised.value, "status_code", None) or getattr(raised.value, "code", None) == 400


def test_selectors_in_geminis_path(proxy: RunningProxy, providers: Providers) -> None:
    providers.say({"p6": openai_error(500, "broken")})
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello?"}]}]}
    reply = httpx.post(f"{proxy.url}/v1beta/models/p6:x%7Cp7:y%3Ftemperature=0.5:generateContent", json=body)
    assert reply.status_code == 200
    assert models_of(providers)[-1] == ("p7", "y")


@pytest.mark.parametrize("list_models", ["/v1/models", "/anthropic/v1/models", "/v1beta/models"])
def test_routes_and_aliases_are_listed_though_providers_are_dead(
    start_proxy: Start, upstream: Upstream, tmp_path: Path, list_models: str
) -> None:
    upstream.script = lambda asked: answer({"object": "list", "data": [{"id": "m", "object": "model"}]})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "proxy.yaml").write_text(
            json.dumps({**FILE, "failover_routes": {"cheap": {"policy": "k", "elements": ["openai:m"]}}})
        )
        proxy = start_proxy(
            {
                "LLM_CONFIG": "proxy.yaml",
                "OPENAI_API_KEY": "sk-x",
                "OPENAI_API_BASE_URL": upstream.url,
                "GROQ_API_KEY": "gsk-x",
                "GROQ_API_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            }
        )
        listed = httpx.get(f"{proxy.url}{list_models}", timeout=20)
    assert listed.status_code == 200
    for name in ("cheap", "fast", "any", "openai:m", "demo:echo"):
        assert f'{name}"' in listed.text
    assert "haiku" not in listed.text
    assert httpx.get(f"{proxy.url}/v1/models/cheap", timeout=20).json()["owned_by"] == "route"


def test_routes_are_made_in_the_chat_and_survive_a_restart(
    start_proxy: Start, providers: Providers, tmp_path: Path
) -> None:
    environment = providers.environment(tmp_path, FILE)
    proxy = start_proxy(environment)
    made = ask_chat(proxy, "!/create-failover-route(name=mine, policy=mk)\n!/route-append(name=mine, p1:a, p2:b)")
    assert made.text.split("\n")[-1] == "elements appended to mine"
    ask_chat(proxy, "!/delete-failover-route(name=cheap)")
    proxy.kill()
    proxy = start_proxy(environment)
    providers.say({"": openai_error(500, "broken")})
    with pytest.raises(openai.InternalServerError):
        ask_chat(proxy, "Hello?", model="mine")
    assert providers.asked == ["p1 1", "p2 1", "p1 2", "p2 2", "p1 3", "p2 3"]
    providers.say({})
    assert ask_chat(proxy, "!/set(model=mine)").text == "model set to mine"
    assert ask_chat(proxy, "Hello?", model="p7:x").text == "yes"
    assert ask_chat(proxy, "Hello?", model="p7:x", session="another").text == "yes"
    assert providers.asked == ["p1 1", "p7 1"]
    ask_chat(proxy, "!/delete-failover-route(name=mine)")
    with pytest.raises(openai.BadRequestError, match="the route 'mine' is gone"):
        ask_chat(proxy, "Hello?", model="p7:x")


def test_a_one_off_route_is_for_one_prompt_though_it_fails(proxy: RunningProxy, providers: Providers) -> None:
    assert ask_chat(proxy, "!/oneoff(p5:once)").text == "One-off route set to p5/once."
    providers.say({"p5": openai_error(400, "no")})
    with pytest.raises(openai.BadRequestError):
        ask_chat(proxy, "Hello?", model="p6:always")
    assert ask_chat(proxy, "Hello?", model="p6:always").text == "yes"
    assert providers.asked == ["p5 1", "p6 1"]


def test_the_order_is_one_off_then_session_then_request(proxy: RunningProxy, providers: Providers) -> None:
    providers.say({})
    ask_chat(proxy, "!/set(model=p2:session) !/oneoff(p1:once)")
    for _ in range(2):
        ask_chat(proxy, "Hello?", model="p3:request")
    ask_chat(proxy, "!/set(backend=p4)")
    ask_chat(proxy, "Hello?", model="p3:request")
    ask_chat(proxy, "!/unset(backend)")
    ask_chat(proxy, "Hello?", model="p3:request")
    assert models_of(providers) == [("p1", "once"), ("p2", "session"), ("p4", "request"), ("p3", "request")]


def test_a_place_of_the_sessions_own_gets_no_configured_key(
    start_proxy: Start, providers: Providers, upstream: Upstream
) -> None:
    proxy = start_proxy({"OPENAI_API_KEY": "sk-configured", "OPENAI_API_BASE_URL": f"{providers.url}/p0/v1"})
    url = f"{upstream.url}/v1"
    assert ask_chat(proxy, f"!/set(openai_url={url})").text == f"OpenAI URL set to: {url}"
    upstream.enqueue(chat("from my own"), chat("again"))
    assert ask_chat(proxy, "Hello?", model="openai:m").text == "from my own"
    assert ask_chat(proxy, "Hello?", model="llama").text == "again"
    assert [key_of(asked) for asked in upstream.requests] == ["", ""]
    assert ask_chat(proxy, "Hello?", model="openai:m", session="another").text == "yes"
    assert key_of(providers.requests[0]) == "sk-configured"
    ask_chat(proxy, "!/unset(openai_url)")
    assert ask_chat(proxy, "Hello?", model="openai:m").text == "yes"


def test_the_configured_place_keeps_its_key(start_proxy: Start, providers: Providers) -> None:
    proxy = start_proxy({"OPENAI_API_KEY": "sk-configured", "OPENAI_API_BASE_URL": f"{providers.url}/p0/v1"})
    ask_chat(proxy, f"!/set(openai_url={providers.url}/p1/v1)")
    assert ask_chat(proxy, "Hello?", model="openai:m").text == "yes"
    assert (models_of(providers), key_of(providers.requests[0])) == ([("p1", "m")], "sk-configured")


def test_status_shows_the_keys_that_rest(proxy: RunningProxy, providers: Providers) -> None:
    assert "keys: all ready" in ask_chat(proxy, "!/status").text
    providers.say({"p1 1": LIMITED, "p2 1": openai_error(401, "no")})
    ask_chat(proxy, "Hello?", model="p1:m")
    ask_chat(proxy, "Hello?", model="p2:m")
    said = ask_chat(proxy, "!/status").text
    assert "p1 key 1 for m: in cool-down for 60 s (the rate limit is reached)" in said
    assert "p2 key 1: put aside for 60 min (the key was refused)" in said


def test_a_cool_down_survives_kill_and_restart_in_the_middle_of_a_stream(
    start_proxy: Start, providers: Providers, tmp_path: Path
) -> None:
    environment, gate = providers.environment(tmp_path), Gate()
    proxy = start_proxy(environment)
    providers.say({"p1 1": LIMITED, "p1 2": sse(chat_chunk("Once upon"), gate, *chat_end(2), done=True)})
    with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012
        body = {"model": "p1:m", "messages": [{"role": "user", "content": "A story!"}], "stream": True}
        with httpx.stream("POST", f"{proxy.url}/v1/chat/completions", json=body, timeout=20) as reply:
            for line in reply.iter_lines():
                if "Once upon" in line:
                    wait_for(lambda: kept(proxy) == 1)
                    proxy.kill()
    gate.set()
    proxy = start_proxy(environment)
    providers.say({"p1 1": LIMITED})
    wait_for(lambda: "p1 key 1 for m" in ask_chat(proxy, "!/status").text)
    assert ask_chat(proxy, "A story!", model="p1:m").text == "yes"
    assert providers.asked == ["p1 2"]


def wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.02)


def kept(proxy: RunningProxy) -> int:
    with closing(sqlite3.connect(f"file:{proxy.data}/proxy.db?mode=ro", uri=True)) as database:
        [[number]] = database.execute("SELECT count(*) FROM cooldowns")
    return int(number)


OLD, NEW = "token-of-old-0123456789abcdef", "token-of-new-0123456789abcdef"


def signed_in(home: Path, url: str, ends: float) -> Path:
    path = home / ".qwen" / "oauth_creds.json"
    path.parent.mkdir()
    stored = {"access_token": OLD, "refresh_token": "r1", "expiry_date": int(ends * 1000), "resource_url": url}
    path.write_text(json.dumps(stored))
    return path


def test_qwens_sign_in(start_proxy: Start, upstream: Upstream, tmp_path: Path) -> None:
    """A token that is refused is renewed, and the request made once more, as if nothing had happened."""
    path = signed_in(tmp_path, upstream.url, time.time() + 3600)

    def serve(asked: Any) -> Any:
        if asked.path == "/api/v1/oauth2/token":
            return answer({"access_token": NEW, "expires_in": 3600, "refresh_token": "r2"})
        if key_of(asked) == OLD:
            return openai_error(401, "invalid access token")
        return chat("signed in")

    upstream.script = serve
    proxy = start_proxy({"QWEN_OAUTH_API_BASE_URL": upstream.url})
    assert ask_chat(proxy, "Hello?", model="qwen-oauth:qwen3-coder-plus").text == "signed in"
    assert [(asked.path, key_of(asked)) for asked in upstream.requests] == [
        ("/v1/chat/completions", OLD),
        ("/api/v1/oauth2/token", ""),
        ("/v1/chat/completions", NEW),
    ]
    assert json.loads(path.read_text())["access_token"] == NEW
    assert upstream.requests[0].header("x-dashscope-authtype") == "qwen-oauth"
    ask_chat(proxy, f"My tokens are {OLD} and {NEW}.", model="qwen-oauth:qwen3-coder-plus")
    assert NEW.encode() not in upstream.requests[-1].body


def test_a_sign_in_that_was_revoked_is_said(start_proxy: Start, upstream: Upstream, tmp_path: Path) -> None:
    signed_in(tmp_path, upstream.url, time.time() - 1)
    upstream.script = lambda asked: answer({"error": "invalid_grant", "error_description": "revoked"}, 400)
    proxy = start_proxy({"QWEN_OAUTH_API_BASE_URL": upstream.url})
    with pytest.raises(openai.AuthenticationError, match="sign in again"):
        ask_chat(proxy, "Hello?", model="qwen-oauth:qwen3-coder-plus")
    assert ask_chat(proxy, "Hello?", model="qwen-oauth:qwen3-coder-plus|demo:echo").text == "Hello?"


def test_parameters_go_along_with_their_attempt_alone(proxy: RunningProxy, providers: Providers) -> None:
    providers.say({"p6": openai_error(500, "broken"), "p1": openai_error(500, "broken")})
    model = "p6:x?temperature=0.25&max_tokens=9|cheap|p7:y"
    assert ask_chat(proxy, "Hello?", model=model, temperature=1).text == "yes"
    told = [(asked.json["temperature"], asked.json.get("max_tokens")) for asked in providers.requests]
    assert told == [(0.25, 9)] * 3 + [(0.5, None), (1, None)]
    assert models_of(providers) == [("p6", "x")] * 3 + [("p1", "small"), ("p2", "small")]


def test_a_selector_is_of_a_sane_length(proxy: RunningProxy) -> None:
    with pytest.raises(openai.BadRequestError, match="more than 100 names"):
        ask_chat(proxy, "Hello?", model="|".join(["p6:x"] * 1000))
