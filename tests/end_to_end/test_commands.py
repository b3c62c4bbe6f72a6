"""Commands in the chat, through the vendors' SDKs and the running proxy (SPEC 4 and 5)."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from kit.clients import CLIENTS
from kit.proxy import RunningProxy, running_proxy
from kit.replies import Reply, chat, chat_stream
from kit.upstream import Request, Upstream

from llm_interactive import __version__

type Start = Callable[..., RunningProxy]

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
EVERY = pytest.mark.parametrize("protocol", list(CLIENTS))

COMMANDS = "alias, create-failover-route, delete-failover-route, hello, help, list-failover-routes, oneoff, pwd, \
route-append, route-clear, route-list, route-prepend, set, status, unset"

ROWS = [
    ("!/help", f"available commands: {COMMANDS}"),
    ("!/help(nothing)", "unknown command: nothing"),
    ("!/pwd", "Project directory not set."),
    ("!/oneoff", "oneoff command requires a backend/model argument."),
    ("!/one-off(demo/echo)", "One-off route set to demo/echo."),
    ("!/unset", "unset: nothing to do"),
    ("!/set", "set: no valid parameters provided or action taken"),
    ("!/create-failover-route(name=r)", "create-failover-route requires name and valid policy"),
    ("!/create-failover-route(name=r, policy=km)", "failover route r created with policy km"),
    ("!/list-failover-routes", "r:km"),
    ("!/route-append(name=r, demo:echo)", "elements appended to r"),
    ("!/route-prepend(name=r, demo/story)", "elements prepended to r"),
    ("!/route-append(name=q, demo:echo)", "route q not found"),
    ("!/route-append(name=r)", "no route elements specified"),
    ("!/route-list(name=r)", "demo:story, demo:echo"),
    ("!/route-clear(name=r)", "route r cleared"),
    ("!/route-list(name=r)", "<empty>"),
    ("!/set(model=r)", "model set to r"),
    ("!/delete-failover-route(name=r)", "failover route r deleted"),
    ("!/delete-failover-route(name=r)", "route r not found"),
    ("!/list-failover-routes", "no failover routes defined"),
    ("!/set(model=demo/story)", "model set to demo:story"),
    ("!/set(backend=demo)", "backend set to demo"),
    ("!/set(backend=none)", "backend none not supported"),
    ("!/set(default-backend=demo)", "default backend set to demo"),
    ("!/set(project-name=p)", "project set to p"),
    ("!/set(dir=/)", "project-dir set to /"),
    ("!/pwd", "/"),
    ("!/set(project-directory=/no/such/place)", "Directory '/no/such/place' not found."),
    ("!/set(interactive-mode=yes)", "interactive set to True"),
    ("!/set(temperature=0.7)", "temperature set to: 0.7"),
    ("!/set(temperature=3)", "Temperature must be between 0.0 and 2.0"),
    ("!/set(reasoning-effort=high)", "reasoning-effort set to high"),
    ("!/set(reasoning=effort=low, max_tokens=2000)", 'reasoning set to {"effort": "low", "max_tokens": 2000}'),
    ("!/set(thinking-budget=2048)", "thinking-budget set to 2048"),
    (
        '!/set(gemini-generation-config={"topK": 1, "topP": 0.5})',
        'gemini generation config set to: {"topK": 1, "topP": 0.5}',
    ),
    ("!/set(openai-url=http://127.0.0.1:9/v1)", "OpenAI URL set to: http://127.0.0.1:9/v1"),
    ("!/set(loop=off)", "loop-detection set to False"),
    ("!/set(tool_loop=1)", "tool-loop-detection set to True"),
    ("!/set(tool-loop-repeats=5)", "tool-loop-max-repeats set to 5"),
    ("!/set(tool-loop-ttl-seconds=60)", "tool-loop-ttl set to 60"),
    ("!/set(tool_loop_mode=chance)", "tool-loop-mode set to chance_then_break"),
    ("!/set(redact-api-keys-in-prompts=false)", "redact-api-keys-in-prompts set to False"),
    ("!/set(command-prefix=//$)", "command-prefix set to //$"),
    ("//$unset(command-prefix)", "command-prefix unset"),
    ("!/set(project=a, temperature=0.1)\n!/pwd\n# !/hello", "project set to a; temperature set to: 0.1\n/"),
    ("!/unset(project, dir)", "project unset; project-dir unset"),
    ("!/nonsense(1)", "cmd not found: nonsense"),
    ("!/set(project=x", "set: the parentheses of !/set(project=x do not balance"),
    ("!/alias(fast=demo:echo)", "alias fast set to demo:echo"),
    ("!/fast", "model set to demo:echo"),
    ("!/alias(fast=)", "alias fast removed"),
]


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningProxy]:
    with running_proxy() as proxy:
        yield proxy


@EVERY
@BOTH
def test_every_command_and_key(demo: RunningProxy, protocol: str, stream: bool) -> None:
    session = f"rows-{protocol}-{stream}"
    for typed, expected in ROWS:
        assert CLIENTS[protocol](demo, typed, stream=stream, session=session).text == expected


@EVERY
@BOTH
def test_the_proxys_own_answer_looks_like_a_models(demo: RunningProxy, protocol: str, stream: bool) -> None:
    answer = CLIENTS[protocol](demo, "!/hello", stream=stream, session="mine")
    assert answer.text == (
        f"LLM Interactive Proxy {__version__}\nSession: mine\ndemo: 1 key, models not asked yet\n"
        "Type !/help for list of available commands"
    )
    ids = {"openai_responses": "resp_proxy_cmd_processed_", "anthropic_messages": "msg_proxy_cmd_processed"}
    assert answer.id.startswith(ids.get(protocol, "proxy_cmd_processed"))
    assert answer.reason in ("stop", "completed", "end_turn", "STOP")
    assert (answer.usage, answer.model) == ((0, 0), "demo:echo")
    assert httpx.get(f"{demo.url}/usage/recent?session=mine").json()["data"] == []


TOOLS: dict[str, Any] = {
    "openai_chat": [{"type": "function", "function": {"name": "attempt_completion", "parameters": {"type": "object"}}}],
    "openai_responses": [{"type": "function", "name": "attempt_completion", "parameters": {"type": "object"}}],
    "anthropic_messages": [{"name": "attempt_completion", "input_schema": {"type": "object"}}],
}


@pytest.mark.parametrize("protocol", list(TOOLS))
@BOTH
def test_cline_and_roo_get_what_they_wait_for(demo: RunningProxy, protocol: str, stream: bool) -> None:
    answer = CLIENTS[protocol](demo, "!/set(project=p)", stream=stream, session="cline", tools=TOOLS[protocol])
    [(name, arguments)] = answer.calls
    assert name == "attempt_completion"
    assert (json.loads(arguments) if isinstance(arguments, str) else arguments) == {"result": "project set to p"}
    assert (answer.text, answer.reason in ("tool_calls", "completed", "tool_use")) == ("", True)


def test_cline_is_known_by_its_system_prompt_too(demo: RunningProxy) -> None:
    said = [("system", "Use attempt_completion when you are done."), ("user", "!/set(project=p)")]
    answer = CLIENTS["openai_chat"](demo, said, session="roo")
    assert [(name, json.loads(text)) for name, text in answer.calls] == [
        ("attempt_completion", {"result": "project set to p"})
    ]


# What goes on to a model


def at(upstream: Upstream, **more: str) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": f"{upstream.url}/v1", **more}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def post(proxy: RunningProxy, messages: list[dict[str, Any]], session: str = "s", **more: Any) -> httpx.Response:
    body = {"model": "gpt-4o", "messages": messages, **more}
    headers = {"x-session-id": session} | more.pop("headers", {})
    return httpx.post(f"{proxy.url}/v1/chat/completions", json=body, headers=headers, timeout=20)


def said(response: httpx.Response) -> str:
    return str(response.json()["choices"][0]["message"]["content"])


@BOTH
def test_commands_beside_a_prompt_run_and_the_rest_goes_on(
    start_proxy: Start, upstream: Upstream, stream: bool
) -> None:
    upstream.enqueue(chat_stream("Yes.") if stream else chat("Yes."))
    proxy = start_proxy(at(upstream))
    prompt = "!/set(project=p) !/set(temperature=0.5)\n  What is `!/pwd`?\n\n```\n!/hello\n```\nend!/x "
    answer = post(proxy, [user(prompt)], stream=stream)
    assert answer.headers["x-llm-proxy-commands"] == "project set to p; temperature set to: 0.5"
    [request] = upstream.requests
    assert request.json["messages"] == [user("  What is `!/pwd`?\n\n```\n!/hello\n```\nend!/x ")]
    assert "Yes." in answer.text
    assert httpx.get(f"{proxy.url}/usage/recent").json()["data"][0]["project"] == "p"


def test_a_failed_command_stops_the_prompt(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("Fine."))
    proxy = start_proxy(at(upstream))
    turns = [user("!/set(backend=nowhere) Are you there?")]
    refused = post(proxy, turns)
    assert (refused.status_code, said(refused)) == (200, "backend nowhere not supported")
    assert upstream.requests == []
    turns += [assistant(said(refused)), user("So?")]
    assert said(post(proxy, turns)) == "Fine."
    assert upstream.requests[0].json["messages"] == [user("Are you there?"), user("So?")]


def test_text_that_is_no_command_passes_untouched(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = lambda request: chat("ok")
    proxy = start_proxy(at(upstream))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,IS9oZWxsbw=="}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":"!/hello"}'}}
    turns = [
        {"role": "system", "content": "!/hello"},
        user("a!/hello"),
        {"role": "assistant", "content": "!/hello", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "!/hello"},
        {"role": "user", "content": [{"type": "text", "text": "`!/hello`"}, picture]},
    ]
    body = json.dumps({"model": "gpt-4o", "messages": turns}).encode()
    answer = httpx.post(f"{proxy.url}/v1/chat/completions", content=body)
    assert answer.status_code == 200
    assert upstream.requests[0].json == json.loads(body)


def test_a_command_beside_a_picture_is_a_prompt(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("A cat."))
    proxy = start_proxy(at(upstream))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    turn = {"role": "user", "content": [{"type": "text", "text": "!/set(project=p)"}, picture]}
    assert said(post(proxy, [turn])) == "A cat."
    assert upstream.requests[0].json["messages"] == [{"role": "user", "content": [picture]}]


TEN_TURNS = [
    "!/hello",
    "My name is Ada.",
    "!/set(project=tea)",
    "!/set(temperature=0.5) What is my name?",
    "!/set(backend=nowhere) Is this lost?",
    "!/status",
    "Why?",
    "!/nonsense",
    "!/unset(temperature) And now?",
    "Goodbye.",
]
TEXTS = ["My name is Ada.", "What is my name?", "Is this lost?", "Why?", "And now?", "Goodbye."]


def test_ten_turns_with_commands(tmp_path: Path, upstream: Upstream) -> None:
    """No byte of a command or of the proxy's own answers reaches the model, and each request begins with the last one's
    messages, so that prompt caches keep working. In the middle the proxy is killed and started again."""
    asking: list[Any] = []

    def answer(request: Request) -> Reply:
        asking.append(request)
        return chat(f"Answer {len(asking)}.")

    upstream.script = answer
    histories: dict[str, list[tuple[str, str]]] = {protocol: [] for protocol in CLIENTS}
    requests: dict[str, list[Any]] = {protocol: [] for protocol in CLIENTS}
    port = None
    for half in (TEN_TURNS[:5], TEN_TURNS[5:]):
        with running_proxy(at(upstream), home=tmp_path, port=port) as proxy:
            port = proxy.port
            for protocol, history in histories.items():
                asking = requests[protocol]
                for text in half:
                    history.append(("user", text))
                    text_of_answer = CLIENTS[protocol](proxy, history, model="openai:gpt-4o", session=protocol).text
                    history.append(("assistant", text_of_answer))
            proxy.kill()
    for each in requests.values():
        look_at_ten_turns([request.json["messages"] for request in each])
        body = b"".join(request.body for request in each)
        assert not any(word in body for word in (b"!/", b"Proxy", b"set to", b"cmd not found", b"nowhere", b"Session"))


def look_at_ten_turns(requests: list[list[dict[str, Any]]]) -> None:
    assert len(requests) == 5
    answers = [assistant(f"Answer {number}.") for number in range(1, 6)]
    ada, name, lost, why, now, bye = map(user, TEXTS)
    expected = [ada, answers[0], name, answers[1], lost, why, answers[2], now, answers[3], bye]
    assert flat(requests[-1]) == flat(expected)
    for earlier, later in pairwise(requests):
        assert later[: len(earlier)] == earlier


def flat(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Roles and texts, neighbours of one role together: protocols that want turns to alternate join them."""
    joined: list[tuple[str, str]] = []
    for message in messages:
        content = message["content"]
        text = content if isinstance(content, str) else "\n".join(part["text"] for part in content)
        if joined and joined[-1][0] == message["role"]:
            joined[-1] = (message["role"], f"{joined[-1][1]}\n{text}")
        else:
            joined.append((message["role"], text))
    return joined


def test_what_nobody_touched_goes_on_byte_for_byte(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = lambda request: chat("ok")
    proxy = start_proxy(at(upstream))
    turns = [user("Ä \u2028 \U0001f327 !"), {**assistant("ok"), "name": "x"}, user("!/set(project=p)  two  blanks ")]
    sent = post(proxy, turns, seed=7, user="u", unknown={"b": 1, "a": [1.0, 2e3]})
    assert sent.status_code == 200
    expected = {"model": "gpt-4o", "messages": [*turns[:2], user("two  blanks ")], "seed": 7, "user": "u"}
    expected["unknown"] = {"b": 1, "a": [1.0, 2e3]}
    compact = json.dumps(expected, ensure_ascii=False, separators=(",", ":")).replace("2000.0", "2e3")
    assert upstream.requests[0].body.replace(b"2000.0", b"2e3") == compact.encode()


def test_inline_confirmations_are_told_from_the_models_words(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = lambda request: chat_stream("Yes", ".") if request.json.get("stream") else chat("Yes.")
    proxy = start_proxy(at(upstream))
    for protocol, ask in CLIENTS.items():
        upstream.requests.clear()
        history = [("user", "!/set(interactive=true) Are you there?")]
        first = ask(proxy, history, model="openai:m", stream=True, session=protocol).text
        assert first == "[interactive set to True]\n\nYes."
        history += [("assistant", first), ("user", "!/set(project=p) Still?")]
        second = ask(proxy, history, model="openai:m", session=protocol).text
        assert second == "[project set to p]\n\nYes."
        ask(proxy, [*history, ("assistant", second), ("user", "Bye")], model="openai:m", session=protocol)
        turns = ["Are you there?", "Yes.", "Still?", "Yes.", "Bye"]
        assert [text for _, text in flat(upstream.requests[-1].json["messages"])] == turns


# What `set` changes about requests


def test_model_backend_and_oneoff_decide_where_a_prompt_goes(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = lambda request: chat("ok")
    proxy = start_proxy(at(upstream, GROQ_API_KEY="gsk", GROQ_API_BASE_URL=f"{upstream.url}/groq"))

    def went(text: str, model: str = "gpt-4o", session: str = "s") -> tuple[str, str]:
        answer = post(proxy, [user(text)], session=session, model=model)
        if upstream.requests[-1].json["model"] != model.removeprefix("openai:"):
            assert answer.json()["model"] == model  # the client gets the name that it asked for
        return upstream.requests[-1].path, upstream.requests[-1].json["model"]

    chat_path, groq_path = "/v1/chat/completions", "/groq/v1/chat/completions"
    assert went("hi") == (chat_path, "gpt-4o")
    assert went("!/set(model=groq:llama-3) hi") == (groq_path, "llama-3")
    assert went("hi") == (groq_path, "llama-3")
    assert went("!/oneoff(openai/gpt-5) hi") == (chat_path, "gpt-5")
    assert went("hi") == (groq_path, "llama-3")
    assert went("hi", session="other") == (chat_path, "gpt-4o")
    assert went("!/set(backend=groq) hi") == (groq_path, "gpt-4o")
    assert went("hi", "openai:gpt-4o") == (groq_path, "gpt-4o")
    assert went("!/unset(backend) hi") == (chat_path, "gpt-4o")
    assert went("!/set(default-backend=groq) hi", "llama-3", "third") == (groq_path, "llama-3")
    assert went("hi", "llama-3", "fourth") == (groq_path, "llama-3")


def test_a_oneoff_is_gone_even_when_it_fails(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = lambda request: chat("ok")
    proxy = start_proxy(at(upstream, GROQ_API_KEY="gsk", GROQ_API_BASE_URL="http://127.0.0.1:9"))
    assert said(post(proxy, [user("!/oneoff(groq:m)")])) == "One-off route set to groq/m."
    assert post(proxy, [user("hi")]).status_code == 502
    assert said(post(proxy, [user("hi")])) == "ok"


# Settings


def test_disabled_commands_pass_untouched(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("ok"))
    proxy = start_proxy(at(upstream, DISABLE_INTERACTIVE_COMMANDS="true"))
    turns = [user("!/hello"), assistant("Hi."), user("!/set(project=p) there")]
    assert said(post(proxy, turns)) == "ok"
    assert upstream.requests[0].json["messages"] == turns


def test_a_project_can_be_demanded(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = lambda request: chat("ok")
    proxy = start_proxy(at(upstream, FORCE_SET_PROJECT="true", COMMAND_PREFIX="$/"))
    refused = post(proxy, [user("hi")])
    assert refused.status_code == 403
    assert "$/set(project=NAME)" in refused.json()["error"]["message"]
    assert said(post(proxy, [user("hi")], headers={"x-project": "p"})) == "ok"
    assert said(post(proxy, [user("$/set(project=p)")])) == "project set to p"
    assert said(post(proxy, [user("hi")])) == "ok"
    assert len(upstream.requests) == 2


def test_counting_tokens_runs_no_command(start_proxy: Start) -> None:
    proxy = start_proxy({})
    url = f"{proxy.url}/v1/messages/count_tokens"

    def count(text: str) -> int:
        body = {"model": "demo:echo", "messages": [user(text)]}
        return int(httpx.post(url, json=body, headers={"x-session-id": "s"}).json()["input_tokens"])

    assert count("!/set(project=p) Hello there") == count("Hello there")
    assert count("!/set(project=p)") > 0
    assert "project" not in CLIENTS["openai_chat"](proxy, "!/status").text


def test_a_responses_client_goes_on_from_the_proxys_own_answer(start_proxy: Start, upstream: Upstream) -> None:
    upstream.script = lambda request: chat("ok")
    proxy = start_proxy(at(upstream))
    client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0)
    first = client.responses.create(model="openai:m", input="Hello")
    command = client.responses.create(model="openai:m", input="!/set(project=p)", previous_response_id=first.id)
    assert command.output_text == "project set to p"
    client.responses.create(model="openai:m", input="Bye", previous_response_id=command.id)
    assert flat(upstream.requests[-1].json["messages"]) == [("user", "Hello"), ("assistant", "ok"), ("user", "Bye")]


# Sessions


def test_sessions_of_two_keys_never_meet(start_proxy: Start, upstream: Upstream) -> None:
    proxy = start_proxy(at(upstream, LLM_INTERACTIVE_PROXY_API_KEY="first-key,second-key"))

    def typed(key: str, text: str, session: str = "s") -> str:
        return said(post(proxy, [user(text)], session, headers={"authorization": f"Bearer {key}"}))

    assert typed("first-key", "!/set(project-dir=/)") == "project-dir set to /"
    assert typed("first-key", "!/pwd") == "/"
    assert typed("second-key", "!/pwd") == typed("first-key", "!/pwd", "other") == "Project directory not set."


def test_what_is_set_survives_kill_9(tmp_path: Path) -> None:
    with running_proxy(home=tmp_path) as proxy:
        for typed in (
            "!/set(project=kept)",
            "!/set(command-prefix=$$/x)",
            "$$/xcreate-failover-route(name=r,policy=m)",
        ):
            assert "set to" in (text := CLIENTS["openai_chat"](proxy, typed).text) or "created" in text
        proxy.kill()
    with running_proxy(home=tmp_path) as proxy:
        status = CLIENTS["anthropic_messages"](proxy, "$$/xstatus").text
        assert "project: kept" in status
        assert CLIENTS["gemini"](proxy, "$$/xlist-failover-routes").text == "r:m"


def test_two_clients_of_one_session_at_once(start_proxy: Start) -> None:
    proxy = start_proxy({})
    names = [f"r{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        texts = [*pool.map(lambda n: said(post(proxy, [user(f"!/create-failover-route(name={n},policy=k)")])), names)]
    assert texts == [f"failover route {name} created with policy k" for name in names]
    listed = said(post(proxy, [user("!/list-failover-routes")]))
    assert sorted(listed.split(", ")) == sorted(f"{name}:k" for name in names)


def test_a_locked_database_is_text_of_answerand_nothing_is_lost(start_proxy: Start) -> None:
    proxy = start_proxy({})
    assert said(post(proxy, [user("!/set(project=a)")])) == "project set to a"
    with closing(sqlite3.connect(proxy.data / "proxy.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = said(post(proxy, [user("!/set(project=b)")]))
        assert answer.startswith("project set to b\n(This is not saved yet and would not survive a restart: ")
        assert "project: b" in said(post(proxy, [user("!/status")]))
        other.execute("ROLLBACK")
    assert said(post(proxy, [user("!/set(temperature=1)")])) == "temperature set to: 1.0"
    with closing(sqlite3.connect(proxy.data / "proxy.db")) as other:
        states = [state for (state,) in other.execute("SELECT state FROM sessions")]
    assert [json.loads(state)["project"] for state in states] == ["b"]


def test_without_a_database_commands_still_work(start_proxy: Start, tmp_path: Path) -> None:
    (tmp_path / "llm" / "proxy.db").mkdir(parents=True)
    proxy = start_proxy({})
    answer = said(post(proxy, [user("!/set(project=a)")]))
    assert answer.startswith("project set to a\n(This is not saved yet and would not survive a restart: ")
    assert "project: a" in said(post(proxy, [user("!/status")]))
    assert said(post(proxy, [user("Hello")], model="demo:echo")) == "Hello"
    assert proxy.log().count("the database of sessions fails") == 1


# Odd input


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("!/set(project=" + "x" * 60_000 + ")", "project=xxx"),
        ("!/set(project=" + "x" * 70_000 + ")", "set: the arguments are longer than 65536 characters"),
        ("!/set(" + "(" * 5000, "set: "),
        ("!/set(project=a\x00b)", "project="),
        ("!/set(gemini-generation-config=" + '{"a":' * 500 + "1" + "}" * 500 + ")", "gemini-generation-config="),
        ("!/set(temperature=nan)", "Temperature must be between 0.0 and 2.0"),
        ("!/help(\x1b[31m)", "unknown command: "),
        ("!/" + "n" * 100_000, "cmd not found: nnn"),
    ],
    ids=["huge", "larger", "unbalanced", "control", "deep", "nan", "escape", "long"],
)
def test_odd_arguments_get_a_clear_answer(demo: RunningProxy, typed: str, answer: str) -> None:
    got = CLIENTS["openai_chat"](demo, typed, session="odd").text
    assert got.startswith(answer)
    assert len(got) < 1000
    assert got.replace("\n", "").isprintable()
