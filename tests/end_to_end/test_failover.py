"""Keys, routes and failover through the running proxy (SPEC 6): what providers saw, and what the clients' SDKs did.

The tests share one proxy, so that each uses providers of its own: what it learnt of their keys stays with it.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import anthropic
import httpx
import openai
import pytest
from kit import corpus
from kit.clients import CLIENTS
from kit.corpus import requires_corpus
from kit.exchange import Request
from kit.providers import Providers
from kit.proxy import RunningProxy, running_proxy
from kit.replies import (
    CLOSED_AT_ONCE,
    GARBAGE,
    HTML_500,
    NO_ANSWER,
    RESET_AT_ONCE,
    Fault,
    Gate,
    Instead,
    Reply,
    answer,
    chat_chunk,
    chat_stream,
    openai_error,
    sse,
    text,
)
from kit.turns import Turn
from kit.upstream import closed_port

POLICIES = ("k", "m", "km", "mk")
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@dataclass(frozen=True, slots=True)
class Setup:
    proxy: RunningProxy
    providers: Providers
    _numbers: Any

    def fresh(self) -> str:
        """A provider that no test has used."""
        return f"p{next(self._numbers)}"


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    folder = tmp_path_factory.mktemp("failover")
    routes = {f"by-{policy}": {"policy": policy, "elements": ["p0:m", "claude0:n"]} for policy in POLICIES}
    routes["across"] = {"policy": "m", "elements": ["claude1:opus", "gem1:flash", "p1:local"]}
    with ExitStack() as stack:
        dead = stack.enter_context(closed_port())
        providers = stack.enter_context(Providers())
        file = {"failover_routes": routes}
        environment = providers.environment(
            folder, file, PROXY_TIMEOUT="2", OLLAMA_API_BASE_URL=f"http://127.0.0.1:{dead}"
        )
        proxy = stack.enter_context(running_proxy(environment, home=folder))
        yield Setup(proxy, providers, count(2))


def post(proxy: RunningProxy, model: str, *, stream: bool = False, said: str = "Hello?") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": said}], "stream": stream}
    return httpx.post(f"{proxy.url}/v1/chat/completions", json=body, timeout=40)


def ask(setup: Setup, model: str, stream: bool = False) -> str:
    return CLIENTS["openai_chat"](setup.proxy, "Hello?", model=model, stream=stream).text


@streamed
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("k", ["p0 1", "p0 2", "p0 3"]),
        ("m", ["p0 1", "claude0 1"]),
        ("km", ["p0 1", "p0 2", "p0 3", "claude0 1", "claude0 2", "claude0 3"]),
        ("mk", ["p0 1", "claude0 1", "p0 2", "claude0 2", "p0 3", "claude0 3"]),
    ],
)
def test_the_order_of_each_policy(setup: Setup, policy: str, expected: list[str], stream: bool) -> None:
    broken = openai_error(500, "broken")
    setup.providers.say({"": broken})
    reply = post(setup.proxy, f"by-{policy}", stream=stream)
    assert setup.providers.asked == expected
    assert (reply.status_code, reply.json()["error"]["message"]) == (500, "broken")
    assert len(reply.headers["x-llm-proxy-attempts"].split("; ")) == len(expected)
    for successful in range(len(expected)):
        setup.providers.say({"": [*[broken] * successful, Turn("yes")]})
        assert ask(setup, f"by-{policy}", stream) == "yes"
        assert len(setup.providers.asked) == successful + 1


def error(status: int, **more: Any) -> Reply:
    return openai_error(status, "no", **more)


LIMITED = sse({"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}})

MOVING: dict[str, Reply | Instead] = {
    **{str(status): error(status) for status in (401, 402, 403, 408, 409, 425, 429, 500, 502, 503, 504, 529, 599)},
    "quota": error(429, code="insufficient_quota"),
    "wrong key, as a 400": openai_error(400, "Incorrect API key provided."),
    "page": HTML_500,
    "closed": CLOSED_AT_ONCE,
    "reset": RESET_AT_ONCE,
    "garbage": GARBAGE,
    "silent": NO_ANSWER,
    "redirect": text("", 302, {"location": "/login"}),
    "first event": LIMITED,
    "nothing in the stream": sse(),
    "broken before content": sse(Fault.CLOSE),
}


@streamed
@pytest.mark.parametrize("refusal", MOVING.values(), ids=MOVING)
def test_what_moves_on_to_the_next_key(setup: Setup, refusal: Reply | Instead, stream: bool) -> None:
    place = setup.fresh()
    setup.providers.say({f"{place} 1": refusal})
    assert ask(setup, f"{place}:m", stream) == "yes"
    assert setup.providers.asked == [f"{place} 1", f"{place} 2"]


@streamed
def test_a_model_that_is_not_there_is_not_asked_of_other_keys(setup: Setup, stream: bool) -> None:
    place, other = setup.fresh(), setup.fresh()
    setup.providers.say({place: openai_error(404, "The model `m` does not exist", code="model_not_found")})
    assert ask(setup, f"{place}:m|{other}:m", stream) == "yes"
    assert setup.providers.asked == [f"{place} 1", f"{other} 1"]


def test_a_provider_that_is_not_there(setup: Setup) -> None:
    setup.providers.say({})
    reply = post(setup.proxy, "ollama:m|p1:m")
    assert reply.status_code == 200
    first, second = reply.headers["x-llm-proxy-attempts"].split("; ")
    assert "no connection" in first
    assert second == "p1:m key 1: 200"


@streamed
@pytest.mark.parametrize(
    ("status", "message"),
    [(400, "bad"), (413, "large"), (422, "no"), (404, "No such File object: file-1"), (451, "no")],
)
def test_what_is_the_clients_own_fault(setup: Setup, status: int, message: str, stream: bool) -> None:
    setup.providers.say({"": openai_error(status, message)})
    reply = post(setup.proxy, "p1:own-fault", stream=stream)
    assert (reply.status_code, reply.json()["error"]["message"]) == (status, message)
    assert setup.providers.asked == ["p1 1"]


def test_a_key_is_used_until_it_is_refused(setup: Setup) -> None:
    place = setup.fresh()
    setup.providers.say({f"{place} 1": [Turn("yes"), error(429, headers={"retry-after": "60"})]})
    for _ in range(4):
        assert ask(setup, f"{place}:m") == "yes"
    assert setup.providers.asked == [f"{place} {key}" for key in (1, 1, 2, 2, 2)]
    assert ask(setup, f"{place}:another-model") == "yes"
    assert setup.providers.asked[-2:] == [f"{place} 1", f"{place} 2"]


def test_a_wrong_key_is_put_aside_for_every_model_but_asked_where_nothing_else_is_left(setup: Setup) -> None:
    place = setup.fresh()
    setup.providers.say({f"{place} 1": error(401)})
    for model in ("m", "n"):
        assert ask(setup, f"{place}:{model}") == "yes"
    assert setup.providers.asked == [f"{place} 1", f"{place} 2", f"{place} 2"]
    setup.providers.say({place: [error(401), error(401), Turn("yes")]})
    assert post(setup.proxy, f"{place}:m").status_code == 401
    assert post(setup.proxy, f"{place}:m").status_code == 200
    assert setup.providers.asked == [f"{place} 2", f"{place} 3", f"{place} 2"]


def test_all_keys_rest_for_long(setup: Setup) -> None:
    place = setup.fresh()
    waits = {f"{place} {key}": error(429, headers={"retry-after": str(60 * key)}) for key in (3, 2, 1)}
    setup.providers.say(waits)
    first = post(setup.proxy, f"{place}:m")
    assert (first.status_code, first.headers["retry-after"]) == (429, "60")
    second = post(setup.proxy, f"{place}:m")
    assert second.status_code == 429
    assert 0 < int(second.headers["retry-after"]) <= 60
    assert "the first is ready in" in second.json()["error"]["message"]
    assert second.headers["x-llm-proxy-attempts"].count("not tried, it rests for") == 3
    assert len(setup.providers.asked) == 3
    with pytest.raises(anthropic.RateLimitError, match="every key that could answer rests"):
        CLIENTS["anthropic_messages"](setup.proxy, "Hello?", model=f"{place}:m")


@streamed
def test_a_key_that_is_soon_ready_is_waited_for(setup: Setup, stream: bool) -> None:
    place = setup.fresh()
    soon = error(429, headers={"retry-after": "1"})
    setup.providers.say({place: [soon, soon, soon, Turn("yes")]})
    assert post(setup.proxy, f"{place}:m").status_code == 429
    assert ask(setup, f"{place}:m", stream) == "yes"
    assert len(setup.providers.asked) == 4


def test_a_client_that_leaves_while_it_waits_is_forgotten(setup: Setup) -> None:
    place = setup.fresh()
    setup.providers.say({place: [error(429, headers={"retry-after": "3"})] * 3 + [Turn("yes")]})
    assert post(setup.proxy, f"{place}:m").status_code == 429
    body = {"model": f"{place}:m", "messages": [{"role": "user", "content": "impatient"}]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{setup.proxy.url}/v1/chat/completions", json=body, timeout=0.5)
    assert ask(setup, f"{place}:m") == "yes"
    said = [asked.json["messages"][0]["content"] for asked in setup.providers.requests]
    assert said == ["Hello?"] * 4


@pytest.mark.parametrize("client", CLIENTS)
def test_all_failed(setup: Setup, client: str) -> None:
    setup.providers.say({"": [openai_error(500, "first"), openai_error(503, "second"), openai_error(502, "the last")]})
    kinds = (openai.InternalServerError, anthropic.InternalServerError, Exception)
    with pytest.raises(kinds, match="the last"):
        CLIENTS[client](setup.proxy, "Hello?", model="p1:all-failed")
    reply = post(setup.proxy, "p1:all-failed")
    assert reply.headers["x-llm-proxy-attempts"] == "; ".join(
        f"p1:all-failed key {key}: 502 the last" for key in (1, 2, 3)
    )


@streamed
@pytest.mark.parametrize("client", CLIENTS)
def test_a_route_goes_across_protocols(setup: Setup, client: str, stream: bool) -> None:
    overloaded = answer({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 500)
    busy = answer([{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}], 503)
    setup.providers.say({"claude1": overloaded, "gem1": busy, "p1": Turn("as if nothing had happened")})
    said = [("user", "Hello?"), ("assistant", "Hi."), ("user", "And now?")]
    reply = CLIENTS[client](setup.proxy, said, model="across", stream=stream)
    assert (reply.text, reply.model) == ("as if nothing had happened", "across")
    assert setup.providers.asked == ["claude1 1", "gem1 1", "p1 1"]
    claude, gem, chat = setup.providers.requests
    assert [claude.json["model"], chat.json["model"]] == ["opus", "local"]
    assert "/models/flash:" in gem.path
    assert len(claude.json["messages"]) == len(gem.json["contents"]) == len(chat.json["messages"]) == 3


def test_t55_signatures_of_one_vendor_are_not_sent_to_another(setup: Setup) -> None:
    setup.providers.say({"claude1": openai_error(500, "broken"), "gem1": openai_error(500, "broken")})
    thinking = {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVkIGJ5IEFudGhyb3BpYw=="}
    body = {
        "model": "across",
        "max_tokens": 2048,
        "messages": [
            {"role": "user", "content": "Hello?"},
            {"role": "assistant", "content": [thinking, {"type": "text", "text": "Hi."}]},
            {"role": "user", "content": "And now?"},
        ],
    }
    reply = httpx.post(f"{setup.proxy.url}/anthropic/v1/messages", json=body, timeout=20)
    assert reply.status_code == 200
    claude, gem, chat = setup.providers.requests
    signed = b"c2lnbmVkIGJ5IEFudGhyb3BpYw"
    assert signed in claude.body
    assert signed not in gem.body + chat.body


def test_t55_reasoning_that_a_provider_refuses_is_left_out(setup: Setup) -> None:
    refused = "messages.1.content.0: Invalid `signature` in `thinking` block"
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": refused}}
    place = "claude3"
    setup.providers.say({place: [answer(error, 400), Turn("yes"), answer(error, 400)]})
    thinking = {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"}
    body = {
        "model": f"{place}:opus",
        "max_tokens": 2048,
        "messages": [
            {"role": "user", "content": "Hello?"},
            {"role": "assistant", "content": [thinking, {"type": "text", "text": "Hi."}]},
            {"role": "user", "content": "And now?"},
        ],
    }
    reply = httpx.post(f"{setup.proxy.url}/anthropic/v1/messages", json=body, timeout=20)
    assert (reply.status_code, reply.json()["content"][0]["text"]) == (200, "yes")
    first, second = setup.providers.requests
    assert b"c2lnbmVk" in first.body
    assert b"thinking" not in second.body
    assert setup.providers.asked == [f"{place} 1"] * 2
    again = httpx.post(f"{setup.proxy.url}/anthropic/v1/messages", json=body, timeout=20)
    assert (again.status_code, again.json()["error"]["message"]) == (400, refused)
    assert len(setup.providers.asked) == 4


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.CLOSE, Fault.STALL])
def test_after_content_nothing_is_tried_again(setup: Setup, fault: Fault) -> None:
    setup.providers.say({"": sse(chat_chunk("Once upon"), fault)})
    client = openai.OpenAI(base_url=f"{setup.proxy.url}/v1", api_key="none", max_retries=0, timeout=20)
    said = []
    with pytest.raises(openai.APIError, match="provider"):  # noqa: PT012
        for chunk in client.chat.completions.create(
            model="p1:dies", messages=[{"role": "user", "content": "A story!"}], stream=True
        ):
            said += [choice.delta.content for choice in chunk.choices]
    assert said == ["Once upon"]
    assert setup.providers.asked == ["p1 1"]


CONCURRENT = 200


def test_two_hundred_at_once_on_three_keys_of_which_two_run_dry(setup: Setup) -> None:
    place = setup.fresh()
    left = {"1": 20, "2": 30}

    def limited(asked: Request) -> Reply:
        number = asked.header("authorization").rpartition("-")[2]  # type: ignore[union-attr]
        if left.get(number) == 0:
            return error(429, headers={"retry-after": "60"})
        left[number] = left.get(number, 0) - 1
        return chat_stream(asked.json["messages"][0]["content"])

    async def run() -> list[str]:
        limits = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(limits=limits, timeout=60) as http,
            openai.AsyncOpenAI(
                base_url=f"{setup.proxy.url}/v1", api_key="none", max_retries=0, http_client=http
            ) as client,
        ):
            return await asyncio.gather(*(one(client, f"request {number}") for number in range(CONCURRENT)))

    async def one(client: openai.AsyncOpenAI, said: str) -> str:
        async with client.chat.completions.stream(
            model=f"{place}:m", messages=[{"role": "user", "content": said}]
        ) as events:
            return (await events.get_final_completion()).choices[0].message.content or ""

    setup.providers.say({place: limited})
    assert asyncio.run(run()) == [f"request {number}" for number in range(CONCURRENT)]
    made = [(asked.json["messages"][0]["content"], asked.header("authorization")) for asked in setup.providers.requests]
    assert len(set(made)) == len(made)
    setup.providers.say({place: limited})
    for _ in range(10):
        assert post(setup.proxy, f"{place}:m").status_code == 200
    assert setup.providers.asked == [f"{place} 3"] * 10


def test_a_key_that_rests_meanwhile_is_not_asked_by_a_request_that_was_on_its_way(setup: Setup) -> None:
    """The other request was planned for the same key, and waited for its first one to fail."""
    first, second, gate = setup.fresh(), setup.fresh(), Gate()
    held = Reply([gate], 500, {"content-type": "application/json"})
    setup.providers.say({first: held, f"{second} 1": error(429, headers={"retry-after": "60"})})

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30) as client:
            body = {"messages": [{"role": "user", "content": "Hello?"}]}
            url = f"{setup.proxy.url}/v1/chat/completions"
            slow = asyncio.create_task(client.post(url, json={**body, "model": f"{first}:m|{second}:m"}))
            await asyncio.to_thread(setup.providers.wait_until, lambda upstream: f"{first} 1" in upstream.asked)
            quick = await client.post(url, json={**body, "model": f"{second}:m"})
            gate.set()
            return [quick, await slow]

    assert [each.status_code for each in asyncio.run(run())] == [200, 200]
    assert setup.providers.asked.count(f"{second} 1") == 1


PLACES = {"chat": "p99", "messages": "claude2", "generateContent": "gem2"}


def recorded_refusals() -> list[Any]:
    found = [
        each for api in PLACES for each in corpus.exchanges(api=api) if each.response.status in (429, 500, 503, 529)
    ]
    return [pytest.param(each, id=each.id) for each in found]


@requires_corpus
@streamed
@pytest.mark.parametrize("recorded", recorded_refusals())
def test_recorded_refusals(setup: Setup, recorded: corpus.Recorded, stream: bool) -> None:
    """Each vendor's own words, to a client of another protocol."""
    place, response = PLACES[recorded.api], recorded.response
    kept = {name: value for name, value in response.headers.items() if name != "content-type"}
    refusal = text(response.data, response.status, {"content-type": "application/json", **kept})
    setup.providers.say({f"{place} 1": refusal, place: Turn("yes")})
    model = f"{place}:{recorded.id[-6:]}-{stream}"
    assert CLIENTS["anthropic_messages"](setup.proxy, "Hello?", model=model, stream=stream).text == "yes"
    assert setup.providers.asked == [f"{place} 1", f"{place} 2"]


def test_every_attempt_has_its_row(setup: Setup) -> None:
    setup.providers.say({"p1 1": openai_error(500, "broken"), "p1 2": openai_error(503, "busy")})
    assert post(setup.proxy, "p1:rows").status_code == 200
    [third, second, first] = [
        row
        for row in httpx.get(f"{setup.proxy.url}/usage/recent?limit=10").json()["data"]
        if row["requested_model"] == "p1:rows"
    ]
    assert [(row["key"], row["status"], row["error"]) for row in (first, second, third)] == [
        (1, 500, "broken"),
        (2, 503, "busy"),
        (3, 200, None),
    ]
    assert len({row["request_id"] for row in (first, second, third)}) == 1
    assert json.dumps(first).count("p1-1") == 0


def test_no_key_is_in_the_log(setup: Setup) -> None:
    assert "p1-1" not in setup.proxy.log()
    assert "Traceback" not in setup.proxy.log()
