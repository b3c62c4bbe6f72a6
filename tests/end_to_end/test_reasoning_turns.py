"""Tools in many turns with thinking: providers that refuse missing and foreign reasoning, as the real ones do.

Each provider thinks before every call, signs it, and wants it back. The vendors' SDKs keep their history as their users
do, whole and streamed; a Chat client sends back only what the SDK's types know.
"""

import base64
import json
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from kit import turns
from kit.exchange import Request
from kit.proxy import RunningProxy, running_proxy
from kit.replies import EVENT_STREAM, Reply, answer
from kit.upstream import Upstream

type Json = dict[str, Any]

CALLS = 2
"""So many calls a model makes before it answers."""
SCHEMA: Json = {"type": "object", "properties": {"at": {"type": "integer"}}}
ANSWER = "All seen."
QUESTIONS = ("Look.", "Really?")
NOBODYS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
"""Signatures that Gemini takes for calls that it did not make (ai.google.dev, thought signatures)."""


def signature(vendor: str, number: int) -> str:
    return base64.b64encode(f"{vendor} signed {number}".encode()).decode()


def thought(number: int) -> str:
    return f"Thought {number}."


class Refused(Exception):
    """What the provider has against a request."""


# The providers


def anthropic_results(body: Json) -> int:
    """How many results the request holds. Thinking before each call, and nobody else's (TRAPS T52, T55)."""
    results = 0
    thinks = (body.get("thinking") or {}).get("type") not in (None, "disabled")
    for message in body["messages"]:
        blocks = message["content"] if isinstance(message["content"], list) else []
        for block in blocks:
            if block["type"] == "thinking" and not genuine(block["signature"], "anthropic", block["thinking"]):
                raise Refused("messages: Invalid `signature` in `thinking` block")
        kinds = [block["type"] for block in blocks]
        own = any(block["type"] == "tool_use" and block["id"].startswith("toolu_") for block in blocks)
        if thinks and own and kinds[0] != "thinking":
            raise Refused("Expected `thinking` or `redacted_thinking`, but found `tool_use`")
        results += kinds.count("tool_result")
    return results


def genuine(signed: str, vendor: str, text: str | None = None) -> bool:
    numbers = [number for number in range(CALLS) if signed == signature(vendor, number)]
    return bool(numbers) and text in (None, thought(numbers[0]))


def gemini_results(body: Json) -> int:
    results = 0
    for content in body["contents"]:
        for part in content["parts"]:
            signed = part.get("thoughtSignature", "")
            if "functionCall" in part and signed not in NOBODYS and not genuine(signed, "gemini"):
                raise Refused("Function call is missing a thought_signature in functionCall parts")
            results += "functionResponse" in part
    return results


def deepseek_results(body: Json) -> int:
    results = 0
    for message in body["messages"]:
        if message.get("tool_calls") and not message.get("reasoning_content"):
            raise Refused("Missing `reasoning_content` field in the assistant message")
        results += message["role"] == "tool"
    return results


def responses_results(body: Json) -> int:
    results, before = 0, ""
    for item in body["input"] if isinstance(body["input"], list) else []:
        kind = item.get("type", "message")
        if kind == "reasoning":
            if not genuine(item.get("encrypted_content") or "", "openai"):
                raise Refused(f"Item with id '{item.get('id')}' not found")
            if item.get("id") and body.get("store") is not False:
                raise Refused("Item not found: nothing is stored")
        if kind == "function_call" and "openai" in item.get("call_id", "openai") and before != "reasoning":
            raise Refused("Item of type 'function_call' was provided without its required 'reasoning' item")
        results += kind == "function_call_output"
        before = kind
    return results


RESULTS: dict[str, Callable[[Json], int]] = {
    "/chat/completions": deepseek_results,
    "/responses": responses_results,
    "/messages": anthropic_results,
    ":generateContent": gemini_results,
    ":streamGenerateContent": gemini_results,
}
SIGNERS = {"/messages": "anthropic", "/responses": "openai"}


def provider(request: Request) -> Reply:
    end = next(end for end in RESULTS if request.path.partition("?")[0].endswith(end))
    try:
        number = RESULTS[end](request.json)
    except Refused as error:
        return answer({"type": "error", "error": {"type": "invalid_request_error", "message": str(error)}}, 400)
    if number >= CALLS:
        return turns.reply(request, turns.Turn(ANSWER), number)
    turn = turns.Turn(call=turns.Called("look", json.dumps({"at": number})), thinking=thought(number))
    signed = signature(SIGNERS.get(end, "gemini"), number)
    whole, stream = turns.PROTOCOLS[end]

    def sign(event: Any) -> Any:
        text = json.dumps(event).replace("c2lnbmVk", signed)
        return json.loads(text.replace(f'"call_{number}"', f'"call_openai_{number}"') if end == "/responses" else text)

    if "stream" not in end and not request.json.get("stream"):
        return answer(sign(whole(turn, number)))
    events = (sign(event) for event in stream(turn, number))
    named = ((f"event: {e['type']}\n" if "type" in e else "") + f"data: {json.dumps(e)}\n\n" for e in events)
    return Reply([line.encode() for line in named], headers=EVENT_STREAM)


# The clients: each runs the tool until there is an answer, and asks once more; returns both answers


def use_chat(url: str, models: tuple[str, str], stream: bool, session: str) -> list[str]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20)
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
    asked: Any = {"tools": tools, "extra_headers": {"x-session-id": session}, "max_tokens": 4000}
    asked["reasoning_effort"] = "low"
    messages: list[Any] = []
    answers = []
    for question, asked["model"] in zip(QUESTIONS, models, strict=True):
        messages.append({"role": "user", "content": question})
        while True:
            if stream:
                with client.chat.completions.stream(messages=messages, **asked) as events:
                    message: Any = events.get_final_completion().choices[0].message
            else:
                message = client.chat.completions.create(messages=messages, **asked).choices[0].message
            calls = [
                {
                    "id": c.id,
                    "type": "function",
                    "function": {"name": c.function.name, "arguments": c.function.arguments},
                }
                for c in message.tool_calls or ()
            ]
            messages.append(
                {"role": "assistant", "content": message.content} | ({"tool_calls": calls} if calls else {})
            )
            if not calls:
                break
            messages += [{"role": "tool", "tool_call_id": call["id"], "content": "seen"} for call in calls]
        answers.append(message.content)
    return answers


def use_responses(url: str, models: tuple[str, str], stream: bool, session: str) -> list[str]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20)
    tools: Any = [{"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}]
    asked: Any = {"tools": tools, "extra_headers": {"x-session-id": session}, "store": False}
    asked |= {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
    items: list[Any] = []
    answers = []
    for question, asked["model"] in zip(QUESTIONS, models, strict=True):
        items.append({"role": "user", "content": question})
        while True:
            if stream:
                with client.responses.stream(input=items, **asked) as events:
                    reply: Any = events.get_final_response()
            else:
                reply = client.responses.create(input=items, **asked)
            items += [item.model_dump(exclude_none=True) for item in reply.output]
            for item in items:
                item.pop("parsed_arguments", None)
            calls = [item for item in reply.output if item.type == "function_call"]
            if not calls:
                break
            items += [{"type": "function_call_output", "call_id": call.call_id, "output": "seen"} for call in calls]
        answers.append(reply.output_text)
    return answers


def use_anthropic(url: str, models: tuple[str, str], stream: bool, session: str) -> list[str]:
    client = anthropic.Anthropic(base_url=f"{url}/anthropic", api_key="none", max_retries=0, timeout=20)
    tools: Any = [{"name": "look", "input_schema": SCHEMA}]
    asked: Any = {"tools": tools, "extra_headers": {"x-session-id": session}, "max_tokens": 4000}
    asked["thinking"] = {"type": "enabled", "budget_tokens": 2000}
    messages: list[Any] = []
    answers = []
    for question, asked["model"] in zip(QUESTIONS, models, strict=True):
        messages.append({"role": "user", "content": question})
        while True:
            if stream:
                with client.messages.stream(messages=messages, **asked) as events:
                    message: Any = events.get_final_message()
            else:
                message = client.messages.create(messages=messages, **asked)
            messages.append({"role": "assistant", "content": message.content})
            calls = [block for block in message.content if block.type == "tool_use"]
            if not calls:
                break
            results = [{"type": "tool_result", "tool_use_id": call.id, "content": "seen"} for call in calls]
            messages.append({"role": "user", "content": results})
        answers.append("".join(block.text for block in message.content if block.type == "text"))
    return answers


def use_gemini(url: str, models: tuple[str, str], stream: bool, session: str) -> list[str]:
    options = types.HttpOptions(base_url=url, headers={"x-session-id": session}, timeout=20_000)
    client = genai.Client(api_key="none", http_options=options)
    look = types.FunctionDeclaration(name="look", parameters_json_schema=SCHEMA)
    config: Any = {
        "tools": [types.Tool(function_declarations=[look])],
        "thinking_config": {"thinking_level": "LOW", "include_thoughts": True},
        "max_output_tokens": 4000,
    }
    contents: list[Any] = []
    answers = []
    for question, model in zip(QUESTIONS, models, strict=True):
        contents.append(types.Content(role="user", parts=[types.Part(text=question)]))
        while True:
            asked: Any = {"model": model, "contents": contents, "config": config}
            ask = client.models
            replies = [*ask.generate_content_stream(**asked)] if stream else [ask.generate_content(**asked)]
            parts: list[Any] = [
                part for each in replies if each.candidates and each.candidates[0].content
                for part in each.candidates[0].content.parts or ()
            ]  # fmt: skip
            contents.append(types.Content(role="model", parts=parts))
            calls = [part.function_call for part in parts if part.function_call]
            if not calls:
                break
            results = [
                types.Part(function_response=types.FunctionResponse(id=c.id, name=c.name, response={"output": "seen"}))
                for c in calls
            ]
            contents.append(types.Content(role="user", parts=results))
        answers.append("".join(part.text or "" for part in parts if not part.thought))
    return answers


USERS: dict[str, Callable[..., list[str]]] = {
    "openai_chat": use_chat,
    "openai_responses": use_responses,
    "anthropic_messages": use_anthropic,
    "gemini": use_gemini,
}
MODELS = (
    "anthropic:claude-opus-4-1",
    "anthropic:claude-opus-4-7",
    "gemini:gemini-3-pro-preview",
    "deepseek:deepseek-chat",
    "openai-responses:gpt-5",
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(answer=provider) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(upstream: Upstream) -> Iterator[RunningProxy]:
    names = ("OPENAI", "ANTHROPIC", "DEEPSEEK")
    keys = {f"{name}_API_KEY": "sk-x" for name in (*names, "GEMINI")}
    urls = {f"{name}_API_BASE_URL": f"{upstream.url}/v1" for name in names} | {"GEMINI_API_BASE_URL": upstream.url}
    with running_proxy(keys | urls) as proxy:
        yield proxy


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("protocol", list(USERS))
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_thinking_goes_back_with_its_calls(
    proxy: RunningProxy, upstream: Upstream, protocol: str, model: str, stream: bool
) -> None:
    before = len(upstream.requests)
    answers = USERS[protocol](proxy.url, (model, model), stream, f"{protocol}-{model}-{stream}")
    assert answers == [ANSWER, ANSWER]
    assert len(upstream.requests) - before == CALLS + 2  # and none was refused and made again


@pytest.mark.parametrize(("first", "second"), [pair for pair in permutations(MODELS, 2) if pair[0][:6] != pair[1][:6]])
@pytest.mark.parametrize("protocol", list(USERS))
def test_t55_another_model_is_not_shown_what_it_cannot_verify(
    proxy: RunningProxy, upstream: Upstream, protocol: str, first: str, second: str
) -> None:
    before = len(upstream.requests)
    answers = USERS[protocol](proxy.url, (first, second), False, f"{protocol}-{first}-{second}")
    assert answers == [ANSWER, ANSWER]
    assert len(upstream.requests) - before == CALLS + 2


def test_the_providers_do_refuse() -> None:
    called = {"role": "assistant", "tool_calls": [{}]}
    with pytest.raises(Refused):
        deepseek_results({"messages": [called]})
    with pytest.raises(Refused):
        gemini_results({"contents": [{"parts": [{"functionCall": {}, "thoughtSignature": signature("openai", 0)}]}]})
    with pytest.raises(Refused):
        responses_results({"input": [{"type": "function_call"}]})
    block = {"type": "thinking", "thinking": thought(1), "signature": signature("anthropic", 0)}
    with pytest.raises(Refused):
        anthropic_results({"messages": [{"content": [block]}]})
