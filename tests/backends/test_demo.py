import asyncio
import itertools
import re
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from llm_interactive.backends import demo
from llm_interactive.backends.demo import MAX_PLAIN, MODELS, DemoServer

TOKEN = "only-the-proxy-knows"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["celsius", "kelvin"]},
                "days": {"type": ["integer", "null"]},
                "area": {"type": "object", "properties": {"radius": {"type": "number"}}, "required": ["radius"]},
                "note": {"type": "string"},
            },
            "required": ["city", "unit", "days", "area"],
        },
    },
}
WEATHER_ARGUMENTS = '{"city":"demo","unit":"celsius","days":1,"area":{"radius":1.5}}'


class Naps:
    """A sleep that only yields, and remembers for how long it was asked."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
async def server(naps: Naps) -> AsyncIterator[DemoServer]:
    server = DemoServer(TOKEN, sleep=naps, clock=lambda: 1_750_000_000.9)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: DemoServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url, api_key=TOKEN, max_retries=0) as client:
        yield client


@pytest.fixture
async def http(server: DemoServer) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as http:
        yield http


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


async def all_closed(server: DemoServer) -> None:
    async with asyncio.timeout(5):
        while server.connections:
            await asyncio.sleep(0.005)


async def text_of(client: openai.AsyncOpenAI, model: str, prompt: str, **more: object) -> str:
    reply = await client.chat.completions.create(model=model, messages=user(prompt), **more)
    return reply.choices[0].message.content


async def test_echo_answers_the_newest_user_message_exactly(client: openai.AsyncOpenAI) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        *user("old"),
        {"role": "assistant", "content": "old"},
        *user("  a  b\n\tc \n"),
    ]
    reply = await client.chat.completions.create(model="echo", messages=messages)
    assert reply.choices[0].message.content == "  a  b\n\tc \n"
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.object, reply.model, reply.created) == ("chat.completion", "echo", 1_750_000_000)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (26, 4, 30)


async def test_a_stream_has_the_same_text_and_usage_only_when_asked(client: openai.AsyncOpenAI) -> None:
    for options in ({}, {"stream_options": {"include_usage": True}}):
        stream = await client.chat.completions.create(model="echo", messages=user("one two\n"), stream=True, **options)
        *chunks, last = [chunk async for chunk in stream]
        if options:
            assert last.choices == []
            assert last.usage.total_tokens == last.usage.prompt_tokens + 3
            last = chunks.pop()
        assert last.choices[0].finish_reason == "stop"
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(chunk.choices[0].delta.content for chunk in chunks) == "one two\n"
        assert {chunk.id for chunk in chunks} == {last.id}
        assert all(chunk.usage is None for chunk in chunks)


async def test_the_bytes_of_a_stream(http: httpx.AsyncClient) -> None:
    reply = await http.post("/chat/completions", json={"model": "echo", "stream": True, "messages": user("hi")})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, done, end = reply.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    identity = re.search(r'"id":"(chatcmpl-\w+)"', events[1])[1]
    assert events[1] == (
        f'data: {{"id":"{identity}","object":"chat.completion.chunk","created":1750000000,"model":"echo","choices":'
        '[{"index":0,"delta":{"content":"hi"},"logprobs":null,"finish_reason":null}],'
        '"service_tier":"default","system_fingerprint":"fp_demo"}'
    )


async def test_parts_that_are_no_text_are_named(client: openai.AsyncOpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "see"}, image]}]
    reply = await client.chat.completions.create(model="echo", messages=messages)
    assert reply.choices[0].message.content == "see\n[image_url]"


async def test_story_depends_on_the_prompt_alone(client: openai.AsyncOpenAI) -> None:
    stories = [await text_of(client, "story", prompt) for prompt in ("bees", "bees", "snow")]
    assert stories[0] == stories[1] != stories[2]
    assert all(150 <= len(text.split()) <= 250 for text in stories)


async def test_a_streamed_story_rests_between_words(client: openai.AsyncOpenAI, naps: Naps) -> None:
    async with client.chat.completions.stream(model="story", messages=user("bees")) as stream:
        reply = await stream.get_final_completion()
    assert len(naps.seconds) == len(reply.choices[0].message.content.split())


async def test_max_tokens_cuts_a_reply(client: openai.AsyncOpenAI) -> None:
    for limit in ("max_tokens", "max_completion_tokens"):
        reply = await client.chat.completions.create(model="story", messages=user("bees"), **{limit: 5})
        assert len(reply.choices[0].message.content.split()) == reply.usage.completion_tokens == 5
        assert reply.choices[0].finish_reason == "length"
    whole = await client.chat.completions.create(model="echo", messages=user("a b"), max_tokens=2)
    assert whole.choices[0].finish_reason == "stop"


async def test_loop_goes_on_until_the_client_closes(server: DemoServer, naps: Naps) -> None:
    async with openai.AsyncOpenAI(base_url=server.url, api_key=TOKEN) as client:
        stream = await client.chat.completions.create(model="loop", messages=user("go"), stream=True)
        text = ""
        async for chunk in stream:
            text += chunk.choices[0].delta.content
            if len(text) > 20_000:
                break
        assert text.count("I have said this before") > 300
        await stream.close()
    await all_closed(server)
    said = len(naps.seconds)
    await asyncio.sleep(0.02)
    assert len(naps.seconds) == said


async def test_a_plain_loop_ends_at_its_ceiling(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="loop", messages=user("go"))
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens) == ("length", MAX_PLAIN)


async def test_tool_loop_calls_the_first_tool_the_same_way_in_every_turn(client: openai.AsyncOpenAI) -> None:
    messages = user("weather?")
    for _ in range(3):
        reply = await client.chat.completions.create(model="tool-loop", messages=messages, tools=[WEATHER])
        [call] = reply.choices[0].message.tool_calls
        assert (call.function.name, call.function.arguments) == ("weather", WEATHER_ARGUMENTS)
        assert (reply.choices[0].finish_reason, reply.choices[0].message.content) == ("tool_calls", None)
        messages += [reply.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert len({message.tool_calls[0].id for message in messages[1::2]}) == 3


async def test_tool_loop_streams_its_call(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="tool-loop", messages=user("go"), tools=[WEATHER]) as stream:
        reply = await stream.get_final_completion()
    [call] = reply.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", WEATHER_ARGUMENTS)
    assert reply.choices[0].finish_reason == "tool_calls"


async def test_tool_loop_without_tools_says_how(client: openai.AsyncOpenAI) -> None:
    assert "tool" in await text_of(client, "tool-loop", "go")
    assert "tool" in await text_of(client, "tool-loop", "go", tools=[WEATHER], tool_choice="none")


async def test_flaky_refuses_each_conversation_once(client: openai.AsyncOpenAI) -> None:
    for prompt in ("one", "two"):
        with pytest.raises(openai.RateLimitError) as refusal:
            await text_of(client, "flaky", prompt)
        assert refusal.value.response.headers["retry-after"] == "1"
        assert refusal.value.code == "rate_limit_exceeded"
        assert prompt in await text_of(client, "flaky", prompt)
        assert prompt in await text_of(client, "flaky", prompt)


@pytest.mark.parametrize(
    ("prompt", "delay"), [("hello", 5), ("delay=2 please", 2), ("delay=0.1", 0.1), ("delay=9999", 600)]
)
async def test_slow_waits_before_its_first_word(
    client: openai.AsyncOpenAI, naps: Naps, prompt: str, delay: float
) -> None:
    async with client.chat.completions.stream(model="slow", messages=user(prompt)) as stream:
        reply = await stream.get_final_completion()
    assert naps.seconds[0] == delay
    assert len(naps.seconds) == len(reply.choices[0].message.content.split())
    assert reply.choices[0].message.content.startswith(f"Good things take time: {delay:g} seconds")


async def test_a_client_that_leaves_before_the_first_word_is_not_waited_for() -> None:
    started, endless = asyncio.Event(), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        started.set()
        await endless.wait()

    server = DemoServer(TOKEN, sleep=sleep)
    await server.start()
    async with openai.AsyncOpenAI(base_url=server.url, api_key=TOKEN) as client:
        asking = asyncio.create_task(text_of(client, "slow", "hello"))
        await started.wait()
        asking.cancel()
    await all_closed(server)
    await server.stop()


async def test_models_are_listed_and_described(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == list(MODELS)
    assert (await client.models.retrieve("story")).owned_by == "demo"
    with pytest.raises(openai.NotFoundError, match="no-such"):
        await client.models.retrieve("no-such")


async def test_an_unknown_model_is_a_404_that_names_the_models(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        await text_of(client, "gpt-4o", "hi")
    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")
    assert all(name in refusal.value.message for name in MODELS)


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", TOKEN, f"bearer {TOKEN}x"])
async def test_without_the_token_nothing_is_served(http: httpx.AsyncClient, authorization: str | None) -> None:
    http.headers.pop("authorization")
    headers = {"authorization": authorization} if authorization else {}
    for method, path in itertools.product(("GET", "POST"), ("/models", "/chat/completions", "/nowhere")):
        reply = await http.request(method, path, headers=headers, json={})
        assert reply.status_code == 401
        assert reply.json()["error"]["code"] == "invalid_api_key"
        assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "object"),
        (b'{"messages":[{"role":"user","content":"x"}]}', "model"),
        (b'{"model":"echo"}', "messages"),
        (b'{"model":"echo","messages":[]}', "messages"),
        (b'{"model":"echo","messages":["x"]}', "messages"),
        (b'{"model":"echo","messages":[{}],"n":2}', "n must be 1"),
        (b'{"model":"echo","messages":[{}],"max_tokens":0}', "max_tokens"),
        (b'{"model":"echo","messages":[{}],"max_tokens":true}', "max_tokens"),
        (b'{"model":"echo","messages":[{}],"max_tokens":"9"}', "max_tokens"),
    ],
)
async def test_a_bad_request_is_a_400_that_says_what_is_wrong(http: httpx.AsyncClient, body: bytes, named: str) -> None:
    reply = await http.post("/chat/completions", content=body)
    assert reply.status_code == 400
    assert named in reply.json()["error"]["message"]


async def test_unknown_paths_are_404_and_the_connection_goes_on(http: httpx.AsyncClient, server: DemoServer) -> None:
    for method, path in (("GET", "/chat/completions"), ("POST", "/embeddings"), ("GET", "/models/a/b")):
        reply = await http.request(method, path)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_url")
    assert (await http.get("/models")).status_code == 200
    assert len(server.connections) == 1


async def test_requests_sent_ahead_are_answered_in_turn(server: DemoServer) -> None:
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
    writer.write(f"GET /v1/models/story {head}\r\nGET /v1/models/echo {head}connection: close\r\n\r\n".encode())
    answer = await reader.read()
    assert re.findall(rb'"id":"(\w+)"', answer) == [b"story", b"echo"]
    writer.close()


async def test_strangers_are_refused_before_their_body_is_read(server: DemoServer) -> None:
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_a_body_that_is_too_large_is_refused(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MAX_BODY", 1_000)
    assert (await http.post("/chat/completions", content=b"{" * 1_001)).status_code == 413
    assert (await http.post("/chat/completions", content=b"{" * 1_000)).status_code == 400


async def test_garbage_closes_the_connection(server: DemoServer) -> None:
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    assert await reader.read() == b""
    writer.close()


async def test_starting_twice_keeps_the_port_and_stopping_ends_replies(naps: Naps) -> None:
    server = DemoServer(TOKEN, sleep=naps)
    assert server.url == ""
    await asyncio.gather(server.start(), server.start())
    url = server.url
    await server.start()
    assert server.url == url
    async with openai.AsyncOpenAI(base_url=url, api_key=TOKEN, max_retries=0) as client:
        stream = await client.chat.completions.create(model="loop", messages=user("go"), stream=True)
        await server.stop()
        with pytest.raises(openai.APIConnectionError):
            async for _ in stream:
                pass
        with pytest.raises(openai.APIConnectionError):
            await client.models.list()
    assert server.url == ""
