"""The vendors' own SDKs → one running proxy → a provider that speaks Chat, and one that speaks Anthropic Messages.

Every SDK, whole and streamed, sync and async, gets the same answers from both; nothing here is in a provider's shape
but what the providers say.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types
from kit.proxy import RunningProxy, running_proxy
from kit.replies import Reply, answer, openai_error, sse, stream
from kit.upstream import Request, Upstream

WORDS = "It is raining in Köln 🌧, all day."
SIGNATURE = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk"
QUESTION = "How is the weather?"
FAILING = "Please fail."
NAME, ARGUMENTS = "weather", {"city": "Köln", "days": 2}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
REFUSED = "The request was refused on purpose."
INPUT, OUTPUT, CACHED = 20, 9, 8
THOUGHT = "Where is that?"
COUNTED = 42
MODELS = {"chat": "openai:gpt-4o", "anthropic": "anthropic:claude-sonnet-4-5"}

# The provider that speaks Chat


def chat_provider(request: Request) -> Reply:
    if request.path.endswith("/models"):
        return answer({"object": "list", "data": [{"id": "gpt-4o", "object": "model", "created": 1, "owned_by": "o"}]})
    body = request.json
    if FAILING in json.dumps(body):
        return openai_error(400, REFUSED)
    calls = bool(body.get("tools")) and body["messages"][-1]["role"] != "tool"
    own = {"id": "chatcmpl-1", "created": 1_750_000_000, "model": "gpt-4o-2024-08-06"}
    usage = {"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT}
    usage |= {"prompt_tokens_details": {"cached_tokens": CACHED}}
    call = {"id": "call_1", "type": "function", "function": {"name": NAME, "arguments": json.dumps(ARGUMENTS)}}
    reason = "tool_calls" if calls else "stop"
    if not body.get("stream"):
        message = {"role": "assistant", "content": None if calls else WORDS} | ({"tool_calls": [call]} if calls else {})
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return answer({**own, "object": "chat.completion", "choices": [choice], "usage": usage})

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {**own, "object": "chat.completion.chunk", "choices": [choice]}

    arguments = json.dumps(ARGUMENTS)
    started = {"index": 0, "id": "call_1", "type": "function", "function": {"name": NAME, "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": each}} for each in (arguments[:7], arguments[7:])]
    deltas = [{"tool_calls": [each]} for each in (started, *pieces)] if calls else [{"content": w} for w in cut(WORDS)]
    last = {**chunk({}), "choices": [], "usage": usage}
    return sse(chunk({"role": "assistant"}), *map(chunk, deltas), chunk({}, reason), last, done=True)


# The provider that speaks Anthropic Messages


def anthropic_provider(request: Request) -> Reply:
    if "/models" in request.path:
        model = {"id": "claude-sonnet-4-5", "type": "model", "display_name": "C", "created_at": "2025-09-29T00:00:00Z"}
        ids = {"first_id": model["id"], "last_id": model["id"], "has_more": False}
        return answer({"data": [model], **ids})
    if request.path.partition("?")[0].endswith("/count_tokens"):
        return answer({"input_tokens": COUNTED})
    body = request.json
    if FAILING in json.dumps(body):
        return anthropic_error(REFUSED)
    thinks = body.get("thinking", {"type": "disabled"})["type"] != "disabled"
    results = [block for block in blocks_of(body["messages"][-1]) if block["type"] == "tool_result"]
    if results and thinks and not signed(body["messages"]):
        return anthropic_error("Expected `thinking`, but found `tool_use`")
    calls = bool(body.get("tools")) and not results
    own = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5"}
    usage = {"input_tokens": INPUT - CACHED, "cache_read_input_tokens": CACHED, "output_tokens": OUTPUT}
    thought = [{"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}] if thinks else []
    said = {"type": "tool_use", "id": "toolu_1", "name": NAME, "input": ARGUMENTS}
    content = [*thought, said if calls else {"type": "text", "text": WORDS}]
    reason = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    if not body.get("stream"):
        return answer({**own, "content": content, **reason, "usage": usage})
    start = {**own, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    events = [
        {"type": "message_start", "message": start},
        {"type": "ping"},
        *(event for index, block in enumerate(content) for event in block_events(index, block)),
        {"type": "message_delta", "delta": reason, "usage": {"output_tokens": OUTPUT}},
        {"type": "message_stop"},
    ]
    return stream(*(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events))


def block_events(index: int, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    empty: dict[str, Any] = {"thinking": "", "signature": "", "text": "", "input": {}}
    started = {key: empty.get(key, value) for key, value in block.items()}
    yield {"type": "content_block_start", "index": index, "content_block": started}
    match block:
        case {"type": "thinking"}:
            deltas = [
                {"type": "thinking_delta", "thinking": THOUGHT},
                {"type": "signature_delta", "signature": SIGNATURE},
            ]
        case {"type": "text"}:
            deltas = [{"type": "text_delta", "text": each} for each in cut(WORDS)]
        case _:
            deltas = [{"type": "input_json_delta", "partial_json": each} for each in cut(json.dumps(ARGUMENTS))]
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def anthropic_error(message: str) -> Reply:
    return answer({"type": "error", "error": {"type": "invalid_request_error", "message": message}}, 400)


def blocks_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def signed(messages: list[dict[str, Any]]) -> bool:
    """Whether the turn that called the tool opens with its thinking, as Anthropic wants it."""
    last = next(message for message in reversed(messages) if message["role"] == "assistant")
    return blocks_of(last)[0] == {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}


def cut(text: str) -> list[str]:
    return [text[:5], text[5:23], text[23:]]


# The SDKs


@dataclass(slots=True)
class Told:
    """What a program that uses an SDK gets to know."""

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    reason: object = None
    usage: tuple[Any, Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Sdk:
    """`open(url)` makes a client, to be closed; `ask(client, model, prompt, tools, stream)` calls it; `read` sums up a
    whole answer, or the list of all chunks. `reasons`: of an answer, and of a call. `error`: what a 400 raises."""

    open: Callable[[str], Any]
    open_async: Callable[[str], Any]
    ask: Callable[..., Any]
    read: Callable[[Any], Told]
    reasons: tuple[object, object]
    error: type[Exception]


def ask_chat(client: Any, model: str, prompt: str, *, tools: bool, stream: bool) -> Any:
    tool = {"type": "function", "function": {"name": NAME, "parameters": SCHEMA}}
    more: dict[str, Any] = {"tools": [tool]} if tools else {}
    more |= {"stream_options": {"include_usage": True}} if stream else {}
    messages = [{"role": "user", "content": prompt}]
    return client.chat.completions.create(model=model, messages=messages, stream=stream, **more)


def openai_at(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20)


def async_openai_at(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20)


def read_chat(reply: Any) -> Told:
    told = Told()
    arguments: dict[int, list[str]] = {}
    for each in reply if isinstance(reply, list) else [reply]:
        if each.usage is not None:
            cached = each.usage.prompt_tokens_details.cached_tokens
            told.usage = (each.usage.prompt_tokens, each.usage.completion_tokens, cached)
        for choice in each.choices:
            said = choice.delta if isinstance(reply, list) else choice.message
            told.text += said.content or ""
            told.reason = choice.finish_reason or told.reason
            for position, call in enumerate(said.tool_calls or ()):
                piece = arguments.setdefault(call.index if isinstance(reply, list) else position, ["", ""])
                piece[0] += call.function.name or ""
                piece[1] += call.function.arguments or ""
    told.calls = [(name, json.loads(text)) for name, text in arguments.values()]
    return told


def ask_responses(client: Any, model: str, prompt: str, *, tools: bool, stream: bool) -> Any:
    tool = {"type": "function", "name": NAME, "parameters": SCHEMA, "strict": False}
    more: dict[str, Any] = {"tools": [tool]} if tools else {}
    return client.responses.create(model=model, input=prompt, stream=stream, **more)


def read_responses(reply: Any) -> Told:
    if isinstance(reply, list):
        assert [each.sequence_number for each in reply] == list(range(len(reply)))
        spoken = "".join(each.delta for each in reply if each.type == "response.output_text.delta")
        reply = reply[-1].response
        assert spoken == reply.output_text
    usage = reply.usage
    return Told(
        reply.output_text,
        [(item.name, json.loads(item.arguments)) for item in reply.output if item.type == "function_call"],
        reply.status,
        (usage.input_tokens, usage.output_tokens, usage.input_tokens_details.cached_tokens),
    )


def ask_anthropic(client: Any, model: str, prompt: str, *, tools: bool, stream: bool) -> Any:
    more: dict[str, Any] = {"tools": [{"name": NAME, "input_schema": SCHEMA}]} if tools else {}
    messages = [{"role": "user", "content": prompt}]
    return client.messages.create(model=model, max_tokens=500, messages=messages, stream=stream, **more)


def anthropic_at(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"{url}/anthropic", api_key="none", max_retries=0, timeout=20)


def async_anthropic_at(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=f"{url}/anthropic", api_key="none", max_retries=0, timeout=20)


def read_anthropic(reply: Any) -> Told:
    if isinstance(reply, list):
        return read_anthropic_events(reply)
    usage = reply.usage
    return Told(
        "".join(block.text for block in reply.content if block.type == "text"),
        [(block.name, block.input) for block in reply.content if block.type == "tool_use"],
        reply.stop_reason,
        (usage.input_tokens + usage.cache_read_input_tokens, usage.output_tokens, usage.cache_read_input_tokens),
    )


def read_anthropic_events(events: list[Any]) -> Told:
    told = Told()
    names, arguments = {}, {}
    for event in events:
        match event.type:
            case "content_block_start" if event.content_block.type == "tool_use":
                names[event.index], arguments[event.index] = event.content_block.name, ""
            case "content_block_delta" if event.delta.type == "text_delta":
                told.text += event.delta.text
            case "content_block_delta" if event.delta.type == "input_json_delta":
                arguments[event.index] += event.delta.partial_json
            case "message_delta":
                cached = event.usage.cache_read_input_tokens or 0
                told.usage = ((event.usage.input_tokens or 0) + cached, event.usage.output_tokens, cached)
                told.reason = event.delta.stop_reason
            case "message_start":
                begun = event.message.usage
    if told.usage is not None and not told.usage[0]:  # told at the start alone
        cached = begun.cache_read_input_tokens
        told.usage = (begun.input_tokens + cached, told.usage[1], cached)
    told.calls = [(names[index], json.loads(text)) for index, text in arguments.items()]
    return told


def ask_gemini(client: Any, model: str, prompt: str, *, tools: bool, stream: bool) -> Any:
    declared = types.FunctionDeclaration(name=NAME, parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])]) if tools else None
    generate = client.models.generate_content_stream if stream else client.models.generate_content
    return generate(model=model, contents=prompt, config=config)


@contextmanager
def gemini_at(url: str) -> Iterator[Any]:
    with genai.Client(api_key="none", http_options=types.HttpOptions(base_url=url, timeout=20_000)) as client:
        yield client


@asynccontextmanager
async def async_gemini_at(url: str) -> AsyncIterator[Any]:
    with gemini_at(url) as client:  # it closes the other one's connections when it is forgotten
        async with client.aio as asynchronous:
            yield asynchronous


def read_gemini(reply: Any) -> Told:
    told = Told()
    for each in reply if isinstance(reply, list) else [reply]:
        usage = each.usage_metadata
        if usage is not None and usage.candidates_token_count is not None:
            told.usage = (usage.prompt_token_count, usage.candidates_token_count, usage.cached_content_token_count)
        for candidate in each.candidates or ():
            told.reason = candidate.finish_reason or told.reason
            for part in (candidate.content and candidate.content.parts) or ():
                told.text += part.text or ""
                if part.function_call is not None:
                    told.calls.append((part.function_call.name, part.function_call.args))
    return told


STOP = types.FinishReason.STOP
SDKS: Mapping[str, Sdk] = {
    "chat": Sdk(openai_at, async_openai_at, ask_chat, read_chat, ("stop", "tool_calls"), openai.BadRequestError),
    "responses": Sdk(
        openai_at, async_openai_at, ask_responses, read_responses, ("completed", "completed"), openai.BadRequestError
    ),
    "anthropic": Sdk(
        anthropic_at,
        async_anthropic_at,
        ask_anthropic,
        read_anthropic,
        ("end_turn", "tool_use"),
        anthropic.BadRequestError,
    ),
    "gemini": Sdk(gemini_at, async_gemini_at, ask_gemini, read_gemini, (STOP, STOP), genai_errors.ClientError),
}


@dataclass(frozen=True, slots=True)
class World:
    chat: Upstream
    anthropic: Upstream
    proxy: RunningProxy

    @property
    def url(self) -> str:
        return self.proxy.url


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home: Path = tmp_path_factory.mktemp("sdks")
    with Upstream(answer=chat_provider) as chat, Upstream(answer=anthropic_provider) as claude:
        environment = {
            "OPENAI_API_KEY": "sk-one",
            "OPENAI_API_BASE_URL": chat.url,
            "ANTHROPIC_API_KEY": "sk-two",
            "ANTHROPIC_API_BASE_URL": claude.url,
            "TOOL_LOOP_DETECTION_ENABLED": "false",  # every test makes the same call
        }
        with running_proxy(environment, home=home) as proxy:
            yield World(chat, claude, proxy)


def call(sdk: Sdk, url: str, is_async: bool, *args: Any, **options: Any) -> Told:
    if is_async:
        return asyncio.run(call_async(sdk, url, *args, **options))
    with sdk.open(url) as client:
        reply = sdk.ask(client, *args, **options)
        return sdk.read(list(reply) if options["stream"] else reply)


async def call_async(sdk: Sdk, url: str, *args: Any, **options: Any) -> Told:
    async with sdk.open_async(url) as client:
        reply = await sdk.ask(client, *args, **options)
        return sdk.read([each async for each in reply] if options["stream"] else reply)


def in_every_way(test: Callable[..., None]) -> Callable[..., None]:
    for mark in (
        pytest.mark.parametrize("backend", MODELS),
        pytest.mark.parametrize("name", SDKS),
        pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"]),
        pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"]),
    ):
        test = mark(test)
    return test


@in_every_way
def test_an_answer(world: World, backend: str, name: str, is_async: bool, stream: bool) -> None:
    sdk = SDKS[name]
    told = call(sdk, world.url, is_async, MODELS[backend], QUESTION, tools=False, stream=stream)
    assert told == Told(WORDS, [], sdk.reasons[0], (INPUT, OUTPUT, CACHED))


@in_every_way
def test_a_tool_call(world: World, backend: str, name: str, is_async: bool, stream: bool) -> None:
    sdk = SDKS[name]
    told = call(sdk, world.url, is_async, MODELS[backend], QUESTION, tools=True, stream=stream)
    assert told == Told("", [(NAME, ARGUMENTS)], sdk.reasons[1], (INPUT, OUTPUT, CACHED))


@in_every_way
def test_an_error(world: World, backend: str, name: str, is_async: bool, stream: bool) -> None:
    sdk = SDKS[name]
    with pytest.raises(sdk.error, match=REFUSED) as caught:
        call(sdk, world.url, is_async, MODELS[backend], FAILING, tools=False, stream=stream)
    assert getattr(caught.value, "status_code", getattr(caught.value, "code", None)) == 400


def test_the_tools_schema_reaches_both_providers(world: World) -> None:
    for name, sdk in SDKS.items():
        for model in MODELS.values():
            call(sdk, world.url, False, model, QUESTION, tools=True, stream=False)
        chat, claude = world.chat.requests[-1].json, world.anthropic.requests[-1].json
        for schema in (chat["tools"][0]["function"]["parameters"], claude["tools"][0]["input_schema"]):
            assert {key: schema[key] for key in SCHEMA} == SCHEMA, name


# Tokens and models


def test_counting_is_asked_of_anthropic_where_it_is_the_backend(world: World) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    with anthropic_at(world.url) as client:
        assert client.messages.count_tokens(model=MODELS["anthropic"], messages=messages).input_tokens == COUNTED


@pytest.mark.parametrize("backend", MODELS)
def test_counting_elsewhere_is_an_estimate(world: World, backend: str) -> None:
    model = MODELS[backend]
    messages: Any = [{"role": "user", "content": QUESTION}]
    with gemini_at(world.url) as gemini, openai_at(world.url) as responses, anthropic_at(world.url) as claude:
        counts = [
            gemini.models.count_tokens(model=model, contents=QUESTION).total_tokens,
            responses.responses.input_tokens.count(model=model, input=QUESTION).input_tokens,
        ]
        if backend == "chat":
            counts.append(claude.messages.count_tokens(model=model, messages=messages).input_tokens)
    assert all(3 <= count <= 30 for count in counts), counts


def test_models_lists_in_every_shape(world: World) -> None:
    with gemini_at(world.url) as gemini, openai_at(world.url) as chat, anthropic_at(world.url) as claude:
        listed = (
            [model.id for model in chat.models.list()],
            [model.id for model in claude.models.list()],
            [model.name.removeprefix("models/") for model in gemini.models.list()],
        )
    for names in listed:
        assert set(MODELS.values()) <= set(names)


def test_one_model_in_every_shape(world: World) -> None:
    model = MODELS["chat"]
    with gemini_at(world.url) as gemini, openai_at(world.url) as chat, anthropic_at(world.url) as claude:
        assert chat.models.retrieve(model).id == model
        assert claude.models.retrieve(model).id == model
        assert gemini.models.get(model=model).name == f"models/{model}"


# Conversations of more than one turn


def test_a_response_is_continued_by_its_id_at_a_chat_backend(world: World) -> None:
    with openai_at(world.url) as client:
        first = client.responses.create(model=MODELS["chat"], input=QUESTION, instructions="Be brief.")
        client.responses.create(model=MODELS["chat"], input="And tomorrow?", previous_response_id=first.id)
    messages = world.chat.requests[-1].json["messages"]
    assert [(m["role"], m["content"]) for m in messages if m["role"] not in ("system", "developer")] == [
        ("user", QUESTION),
        ("assistant", WORDS),
        ("user", "And tomorrow?"),
    ]


def test_a_streamed_response_is_continued_with_its_tools_result(world: World) -> None:
    tools: Any = [{"type": "function", "name": NAME, "parameters": SCHEMA, "strict": False}]
    asked: Any = {"model": MODELS["chat"], "tools": tools}
    with openai_at(world.url) as client:
        done = list(client.responses.create(input=QUESTION, stream=True, **asked))[-1].response
        [item] = [item for item in done.output if item.type == "function_call"]
        result = {"type": "function_call_output", "call_id": item.call_id, "output": "rain"}
        last = client.responses.create(input=[result], previous_response_id=done.id, **asked)
    assert last.output_text == WORDS
    sent = world.chat.requests[-1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_t52_anthropics_signature_comes_back_through_a_chat_client(world: World, stream: bool) -> None:
    tool = {"type": "function", "function": {"name": NAME, "parameters": SCHEMA}}
    asked: Any = {"model": MODELS["anthropic"], "tools": [tool], "reasoning_effort": "low", "max_tokens": 4000}
    made = {"name": NAME, "arguments": json.dumps(ARGUMENTS)}
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    with openai_at(world.url) as client:
        reply = client.chat.completions.create(messages=messages, stream=stream, **asked)
        told = read_chat(list(reply) if stream else reply)
        calls = [{"id": "toolu_1", "type": "function", "function": made}]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages.append({"role": "tool", "tool_call_id": "toolu_1", "content": "rain"})
        last = client.chat.completions.create(messages=messages, **asked)
    assert told.calls == [(NAME, ARGUMENTS)]
    assert last.choices[0].message.content == WORDS
    sent = world.anthropic.requests[-1].json
    assert signed(sent["messages"])
    assert [block["type"] for block in blocks_of(sent["messages"][1])] == ["thinking", "tool_use"]
