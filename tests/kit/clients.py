"""The vendors' SDKs behind one function each: what was said so far in, the answer out.

ask = CLIENTS["anthropic_messages"]
ask(proxy, "Hello?", stream=True, session="mine").text
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import types
from kit.proxy import RunningProxy

type Said = str | Sequence[tuple[str, str]]
"""One prompt, or the turns so far as (role, text), "user" and "assistant" in turn."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`usage`: tokens in and out as the SDK tells them; `calls`: names and arguments, parsed or not as in the SDK."""

    text: str
    id: str = ""
    reason: str = ""
    usage: tuple[int, int] | None = None
    calls: list[tuple[str, Any]] = field(default_factory=list)
    model: str = ""


# An SDK's client takes long to make.


@cache
def _openai(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20)


@cache
def _anthropic(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"{url}/anthropic", api_key="none", max_retries=0, timeout=20)


@cache
def _gemini(url: str) -> genai.Client:
    return genai.Client(api_key="none", http_options=types.HttpOptions(base_url=url, timeout=20_000))


def ask_chat(
    proxy: RunningProxy, said: Said, *, model: str = "demo:echo", stream: bool = False, session: str = "s", **more: Any
) -> Answer:
    client = _openai(proxy.url)
    messages: Any = [{"role": role, "content": text} for role, text in turns(said)]
    asked: Any = {"model": model, "messages": messages, "extra_headers": {"x-session-id": session}, **more}
    completions = client.chat.completions
    if stream:
        with completions.stream(**asked, stream_options={"include_usage": True}) as events:
            answer: Any = events.get_final_completion()
    else:
        answer = completions.create(**asked)
    [choice] = answer.choices
    usage = (answer.usage.prompt_tokens, answer.usage.completion_tokens) if answer.usage else None
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
    return Answer(choice.message.content or "", answer.id, choice.finish_reason, usage, calls, answer.model)


def ask_responses(
    proxy: RunningProxy, said: Said, *, model: str = "demo:echo", stream: bool = False, session: str = "s", **more: Any
) -> Answer:
    client = _openai(proxy.url)
    messages: Any = [{"role": role, "content": text} for role, text in turns(said)]
    asked: Any = {"model": model, "input": messages, "extra_headers": {"x-session-id": session}, **more}
    if stream:
        with client.responses.stream(**asked) as events:
            answer: Any = events.get_final_response()
    else:
        answer = client.responses.create(**asked)
    calls = [(item.name, item.arguments) for item in answer.output if item.type == "function_call"]
    usage = (answer.usage.input_tokens, answer.usage.output_tokens)
    return Answer(answer.output_text, answer.id, answer.status, usage, calls, answer.model)


def ask_anthropic(
    proxy: RunningProxy, said: Said, *, model: str = "demo:echo", stream: bool = False, session: str = "s", **more: Any
) -> Answer:
    client = _anthropic(proxy.url)
    messages: Any = [{"role": role, "content": text} for role, text in turns(said)]
    asked: Any = {"model": model, "messages": messages, "max_tokens": 4000, **more}
    asked["extra_headers"] = {"x-session-id": session}
    if stream:
        with client.messages.stream(**asked) as events:
            answer: Any = events.get_final_message()
    else:
        answer = client.messages.create(**asked)
    text = "".join(block.text for block in answer.content if block.type == "text")
    calls = [(block.name, block.input) for block in answer.content if block.type == "tool_use"]
    usage = (answer.usage.input_tokens, answer.usage.output_tokens)
    return Answer(text, answer.id, answer.stop_reason, usage, calls, answer.model)


def ask_gemini(
    proxy: RunningProxy, said: Said, *, model: str = "demo:echo", stream: bool = False, session: str = "s", **more: Any
) -> Answer:
    contents: Any = [
        {"role": "model" if role == "assistant" else role, "parts": [{"text": text}]} for role, text in turns(said)
    ]
    options = types.HttpOptions(headers={"x-session-id": session})
    config = {"http_options": options, **more.pop("config", {})}
    asked: Any = {"model": model, "contents": contents, "config": config, **more}
    models = _gemini(proxy.url).models
    answers = [*models.generate_content_stream(**asked)] if stream else [models.generate_content(**asked)]
    parts = [
        part for each in answers if each.candidates and each.candidates[0].content
        for part in each.candidates[0].content.parts or ()
    ]  # fmt: skip
    last: Any = answers[-1]
    calls = [(part.function_call.name or "", part.function_call.args) for part in parts if part.function_call]
    text = "".join(part.text or "" for part in parts if not part.thought)
    told = last.usage_metadata
    usage = (told.prompt_token_count or 0, told.candidates_token_count or 0) if told else None
    return Answer(text, last.response_id, last.candidates[0].finish_reason.value, usage, calls, last.model_version)


CLIENTS: dict[str, Callable[..., Answer]] = {
    "openai_chat": ask_chat,
    "openai_responses": ask_responses,
    "anthropic_messages": ask_anthropic,
    "gemini": ask_gemini,
}


def turns(said: Said) -> Sequence[tuple[str, str]]:
    return [("user", said)] if isinstance(said, str) else said
