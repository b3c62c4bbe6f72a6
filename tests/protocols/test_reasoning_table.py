"""Every model family of the facts table, asked in every way, at its own vendor: no request that the vendor refuses.

What is written is held against the vendors' own request types (their SDKs) and against `FAULTS`: what their
documentation and their errors say, written down here apart from the facts table.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from google.genai import types
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from llm_interactive.conversation import Conversation
from llm_interactive.models import ROWS, facts, vendor_of
from llm_interactive.protocols import named
from llm_interactive.protocols.base import Call, Notes, Target
from llm_interactive.protocols.efforts import says_how_hard, thinks
from llm_interactive.sessions import Session
from llm_interactive.tuning import tuned

type Json = dict[str, Any]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SPOKEN_BY = {"anthropic": ("anthropic_messages",), "gemini": ("gemini",), "openai": ("openai_chat", "openai_responses")}
"""Vendor -> what it speaks; all others Chat Completions."""
PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "gemini": "/v1beta/models/m:generateContent",
}

# Who is asked


def concrete(pattern: str) -> Iterator[str]:
    """Names that a pattern stands for."""
    if (choice := re.search(r"\[([^]]*)\]", pattern)) is None:
        short = re.sub(r"-?\*", "", pattern).rstrip("-.")
        yield short if fnmatchcase(short, pattern) else pattern.replace("*", "x")
        return
    for each in dict.fromkeys((choice[1][0], choice[1][-1])):
        yield from concrete(pattern.replace(choice[0], each, 1))


def families() -> list[tuple[str, str]]:
    """(vendor, model) for every row, at the model's own vendor or the row's backend, and at OpenRouter."""
    found = {("openai", "gpt-9.9-new"), ("anthropic", "claude-opus-9"), ("gemini", "gemini-9-pro"), ("ollama", "new")}
    for row in ROWS:
        for name in concrete(row.pattern):
            vendor = row.backend or vendor_of(name) or "ollama"
            if name and vendor in KNOWN_VENDORS:
                found |= {(vendor, name), ("openrouter", f"someone/{name}")}
    return sorted(found)


KNOWN_VENDORS = (
    "openai", "anthropic", "gemini", "openrouter", "qwen", "zai", "deepseek", "moonshot", "mistral", "xai", "groq",
    "ollama",
)  # fmt: skip

# How one may ask


@dataclass(frozen=True, slots=True)
class Ask:
    protocol: str
    body: Json
    session: Json | None = None


TEXT = {"openai_chat": {"messages": [{"role": "user", "content": "q"}]}, "openai_responses": {"input": "q"},
        "anthropic_messages": {"messages": [{"role": "user", "content": "q"}], "max_tokens": 4000},
        "gemini": {"contents": [{"role": "user", "parts": [{"text": "q"}]}]}}  # fmt: skip
FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
FORCED: dict[str, Json] = {
    "openai_chat": {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required"},
    "openai_responses": {
        "tools": [{"type": "function", **FUNCTION, "strict": False}],
        "tool_choice": {"type": "function", "name": "f"},
    },
    "anthropic_messages": {
        "tools": [{"name": "f", "input_schema": FUNCTION["parameters"]}],
        "tool_choice": {"type": "any"},
    },
    "gemini": {
        "tools": [{"functionDeclarations": [FUNCTION]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    },
}
LIMITS = {"openai_chat": "max_completion_tokens", "openai_responses": "max_output_tokens",
          "anthropic_messages": "max_tokens"}  # fmt: skip


def words() -> Iterator[tuple[str, Json]]:
    """Every field by which a client can speak of reasoning or sampling."""
    for effort in EFFORTS:
        yield "openai_chat", {"reasoning_effort": effort}
        yield "openai_chat", {"reasoning": {"effort": effort}}
        yield "openai_responses", {"reasoning": {"effort": effort, "summary": "auto"}}
    for tokens in (1, 600, 5000, 200_000):
        yield "openai_chat", {"reasoning": {"max_tokens": tokens, "exclude": True}}
        yield "openai_chat", {"enable_thinking": True, "thinking_budget": tokens}
        yield "gemini", {"generationConfig": {"thinkingConfig": {"thinkingBudget": tokens}}}
    for on in (True, False):
        yield "openai_chat", {"reasoning": {"enabled": on}}
        yield "openai_chat", {"thinking": {"type": "enabled" if on else "disabled"}}
        yield "openai_chat", {"enable_thinking": on}
        yield "openai_chat", {"chat_template_kwargs": {"enable_thinking": on, "other": 1}}
        yield "gemini", {"generationConfig": {"thinkingConfig": {"includeThoughts": on}}}
    yield "anthropic_messages", {"thinking": {"type": "disabled"}}
    yield "anthropic_messages", {"thinking": {"type": "between_tools"}}
    for tokens in (1024, 3000, 200_000):
        yield "anthropic_messages", {"thinking": {"type": "enabled", "budget_tokens": tokens}, "max_tokens": tokens + 9}
    for effort in EFFORTS[2:]:
        yield "anthropic_messages", {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}
        yield "anthropic_messages", {"output_config": {"effort": effort}}
    for level in ("MINIMAL", "LOW", "MEDIUM", "HIGH"):
        yield "gemini", {"generationConfig": {"thinkingConfig": {"thinkingLevel": level}}}
    for tokens in (-1, 0):
        yield "gemini", {"generationConfig": {"thinkingConfig": {"thinkingBudget": tokens}}}
    for heat in (0, 0.7, 2):
        yield "openai_chat", {"temperature": heat, "top_p": 0.5, "frequency_penalty": 1, "presence_penalty": 1}
        yield "openai_responses", {"temperature": heat, "top_p": 0.5}
        yield "anthropic_messages", {"temperature": heat / 2, "top_p": 0.5, "top_k": 3}
        config = {"temperature": heat, "topP": 0.5, "topK": 3, "frequencyPenalty": 1, "stopSequences": list("abcdefg")}
        yield "gemini", {"generationConfig": config}
    yield "openai_chat", {"stop": list("abcde"), "logprobs": True, "top_logprobs": 2, "logit_bias": {"1": 1}, "seed": 1}
    yield "openai_chat", {"max_tokens": 10**7}
    yield "openai_chat", {}


def commands() -> Iterator[Json]:
    """What a session can say."""
    yield from ({"reasoning_effort": effort} for effort in EFFORTS)
    yield from ({"thinking_budget": tokens} for tokens in (0, 128, 2048, 131_072))
    yield {"reasoning": {"effort": "high", "exclude": True}}
    yield {"reasoning": {"max_tokens": 3000}}
    yield {"temperature": 2.0}
    yield {"temperature": 0.3, "reasoning_effort": "low"}


def asks() -> Iterator[Ask]:
    for protocol, said in words():
        yield Ask(protocol, said)
        yield Ask(protocol, FORCED[protocol] | said)
        if (limit := LIMITS.get(protocol)) is not None and limit not in said and "max_tokens" not in said:
            yield Ask(protocol, said | {limit: 500})
    for protocol in PATHS:
        for session in commands():
            yield Ask(protocol, {}, session)
            yield Ask(protocol, FORCED[protocol], session)


@cache
def conversations() -> tuple[tuple[Ask, Conversation], ...]:
    found = []
    for ask in asks():
        body = {"model": "m", **TEXT[ask.protocol], **ask.body}
        call = Call(ask.protocol, "generate", PATHS[ask.protocol], model="m" if ask.protocol == "gemini" else None)
        conversation = named(ask.protocol).read_request(body, call)
        if ask.session is not None:
            conversation = tuned(conversation, session=Session("s", **ask.session), notes=Notes())
        found.append((ask, conversation))
    return tuple(found)


# What vendors refuse


ONLY_IN_RESPONSES = r"-pro|codex|gpt-6(?!-sol|-luna)|gpt-[789]"
"""OpenAI's models that cannot be told to think nothing: beside tools, they are not asked in Chat Completions."""


def openai_faults(model: str, body: Json) -> Iterator[str]:
    """`body`: of either protocol."""
    reasons = re.match(r"(gpt-[5-9]|o\d|codex-mini)", model) and not re.match(r"gpt-5(\.3)?-chat", model)
    effort = body.get("reasoning_effort", (body.get("reasoning") or {}).get("effort"))
    if not reasons:
        yield from ["a model that does not reason is asked to"] * (effort is not None)
        return
    calm = effort == "none" or (effort is None and re.match(r"gpt-5\.[124]", model))
    for key in ("temperature", "top_p", "logprobs", "top_logprobs"):
        if key in body and not (calm and re.fullmatch(r"gpt-5\.(1|2|4.*)", model)):
            yield f"{key} is refused"
    for key in ("frequency_penalty", "presence_penalty", "logit_bias", "stop", "max_tokens", "top_k"):
        yield from [f"{key} is refused"] * (key in body)
    if effort == "none" and re.match(r"(gpt-5(-|$)|o\d|gpt-6-astra|gpt-[789]|.*-pro|.*codex)", model):
        yield "it cannot be told none"
    if effort == "minimal" and not re.fullmatch(r"gpt-5(-mini|-nano)?", model):
        yield "minimal is of GPT-5 alone"
    if effort in ("xhigh", "max") and re.match(r"(o\d|gpt-5(-|$)|gpt-5\.1$)", model):
        yield f"{effort} is of later models"
    beside_tools = "messages" in body and body.get("tools") and re.match(r"gpt-(5\.[4-9]|[6-9])", model)
    if beside_tools and effort != "none" and not (effort is None and "5.4" in model) and "chat" not in model:
        yield from ["tools beside an effort"] * (not re.search(ONLY_IN_RESPONSES, model))


def anthropic_faults(model: str, body: Json) -> Iterator[str]:
    thinking, choice = body.get("thinking") or {}, (body.get("tool_choice") or {}).get("type")
    effort = (body.get("output_config") or {}).get("effort")
    kind, old = thinking.get("type"), re.search(r"(-3|-4)(-[0-5])?$|-3-7|claude-v?[12]|instant", model)
    none = re.search(r"-3(-5)?$|claude-v?[12]|instant", model)
    if not body.get("max_tokens"):
        yield "max_tokens is missing"
    if kind == "adaptive" and old:
        yield "adaptive came with 4.6"
    if kind == "enabled":
        if none or not (old or "-4-6" in model):
            yield "no budgets here"
        if not 1024 <= thinking["budget_tokens"] < body["max_tokens"]:
            yield f"a budget of {thinking['budget_tokens']} with max_tokens {body['max_tokens']}"
        if choice in ("any", "tool"):
            yield "a forced tool beside a budget"
    bent = "top_k" in body or body.get("temperature", 1) != 1 or body.get("top_p", 1) < 0.95
    if kind in ("enabled", "adaptive") and bent:
        yield "sampling beside thinking"
    if choice in ("any", "tool") and re.search(r"(fable|mythos)-5-\d|(opus|sonnet)-5-5", model):
        yield "no forced tools at all"
    if kind == "disabled" and re.search("fable|mythos|opus-5-5|sonnet-5-5", model):
        yield "it cannot be disabled"
    if effort and old and "opus-4-5" not in model:
        yield "no effort here"
    if effort == "xhigh" and "-4-6" in model:
        yield "xhigh came with 4.7"
    if not 0 <= body.get("temperature", 0) <= 1:
        yield "too hot"
    if not old and "-4-6" not in model and {"temperature", "top_p", "top_k"} & body.keys():
        yield "no sampling any more"
    if re.search("-4-[156]$", model) and {"temperature", "top_p"} <= body.keys():
        yield "temperature beside top_p"


def gemini_faults(model: str, body: Json) -> Iterator[str]:
    config = body.get("generationConfig") or {}
    thinking = config.get("thinkingConfig") or {}
    budget, level = thinking.get("thinkingBudget"), thinking.get("thinkingLevel")
    if thinking and (re.match(r"gemini-(1|2\.0|pro-vision)|gemma", model) or re.search("image|tts", model)):
        yield "it does not think"
    if level is not None and model.startswith("gemini-2"):
        yield "levels came with Gemini 3"
    if level == "MINIMAL" and "flash" not in model:
        yield "minimal is of the Flash models"
    if level == "MEDIUM" and model.startswith("gemini-3-pro"):
        yield "low and high only"
    if budget is not None and level is not None:
        yield "a budget beside a level"
    ranges = {"gemini-2.5-pro": (128, 32768), "gemini-2.5-flash-lite": (512, 24576), "gemini-2.5-flash": (0, 24576)}
    least, most = next((span for name, span in ranges.items() if model.startswith(name)), (0, 10**6))
    if budget is not None and budget != -1 and not (least <= budget <= most or (budget == 0 and "flash" in model)):
        yield f"a budget of {budget}"
    if len(config.get("stopSequences", ())) > 5 or config.get("temperature", 0) > 2:
        yield "sampling out of range"


DIALECTS = {"reasoning", "enable_thinking", "thinking_budget", "thinking", "reasoning_effort", "chat_template_kwargs"}


def held(body: Json) -> Json:
    return body.get("chat_template_kwargs") or {}


def chat_faults(vendor: str) -> Callable[[str, Json], Iterator[str]]:
    """Of compatible services: words of others are unknown fields, for some a 422."""
    own = {
        "openrouter": {"reasoning", "reasoning_effort"},
        "qwen": {"enable_thinking", "thinking_budget"},
        "zai": {"thinking", "reasoning_effort"},
        "moonshot": {"thinking", "reasoning_effort"},
        "deepseek": {"thinking", "reasoning_effort"},
        "ollama": DIALECTS,  # a server of anybody's models
    }.get(vendor, {"reasoning_effort", "thinking"})
    hottest = {"mistral": 1.5, "zai": 1, "moonshot": 1, "qwen": 1.99}.get(vendor, 2)

    def faults(model: str, body: Json) -> Iterator[str]:
        told = body.keys() - ({"chat_template_kwargs"} if "enable_thinking" not in held(body) else set())
        yield from (f"{key} is unknown to {vendor}" for key in (DIALECTS - own) & told)
        yield from ["too hot"] * (body.get("temperature", 0) > hottest)
        open_qwen = vendor == "qwen" and re.match(r"qwen3-\d+b", model) and not re.search("instruct|thinking", model)
        if open_qwen and body.get("enable_thinking") is not False:
            yield "it thinks in streams only"
        on = body.get("enable_thinking") or (body.get("thinking") or {}).get("type") == "enabled"
        forced = body.get("tool_choice") not in (None, "auto", "none")
        yield from ["a forced tool while it thinks"] * bool(
            on and forced and vendor in ("qwen", "deepseek", "moonshot")
        )
        yield from ["an effort beside tokens"] * ({"effort", "max_tokens"} <= (body.get("reasoning") or {}).keys())
        yield from ["both limits"] * ({"max_tokens", "max_completion_tokens"} <= body.keys())
        yield from [f"{key} of {vendor}" for key in {"mistral": ("top_k", "seed"), "groq": ("top_k", "logprobs"),
                    "xai": ("top_k",)}.get(vendor, ()) if key in body]  # fmt: skip
        if vendor == "mistral" and body.get("reasoning_effort") not in (None, "none", "high"):
            yield "Mistral knows none and high"
        if vendor == "zai" and body.get("reasoning_effort") not in (None, "low", "high", "max"):
            yield "Z.ai knows low, high and max"

    return faults


FAULTS = {"openai": openai_faults, "anthropic": anthropic_faults, "gemini": gemini_faults}

# What the SDKs say

TYPES = {
    "openai_chat": CompletionCreateParamsNonStreaming,
    "openai_responses": ResponseCreateParamsNonStreaming,
    "anthropic_messages": MessageCreateParamsNonStreaming,
}
MORE_KEYS = {
    "anthropic_messages": {"temperature", "top_p", "top_k", "stop_sequences"},  # for its older models only
    "openai_chat": {"top_k"},
}


@cache
def adapter(protocol: str) -> TypeAdapter[Any]:
    return TypeAdapter(TYPES[protocol])


@cache
def config_fields() -> frozenset[str]:
    names = types.GenerationConfig.model_fields
    return frozenset(re.sub(r"_([a-z])", lambda found: found[1].upper(), name) for name in names)


def check_types(protocol: str, vendor: str, body: Json) -> None:
    if protocol == "gemini":
        config = body.get("generationConfig", {})
        assert config.keys() <= config_fields()
        types.GenerateContentConfig.model_validate(
            {key: value for key, value in config.items() if key != "responseFormat"}
        )
        return
    adapter(protocol).validate_python(body)
    if vendor in FAULTS:
        assert body.keys() <= {*TYPES[protocol].__annotations__, "model", *MORE_KEYS.get(protocol, ())}


def says_reasoning(body: Json) -> bool:
    return bool(
        body.keys() & {"reasoning", "reasoning_effort", "thinking", "enable_thinking", "chat_template_kwargs"}
        or (body.get("output_config") or {}).get("effort")
        or (body.get("generationConfig") or {}).get("thinkingConfig")
    )


def wanted(conversation: Conversation, style: str) -> bool:
    """Whether something was asked of the thinking, other than that there be none where there is none."""
    asked, reasoning = thinks(conversation.reasoning), conversation.reasoning
    if asked and reasoning.adaptive and not says_how_hard(reasoning):
        return False  # which is what models do by themselves
    return asked is not None and (asked or style != "none")


FAMILIES = families()


@pytest.mark.parametrize("vendor", KNOWN_VENDORS)
def test_no_model_is_asked_what_its_vendor_refuses(vendor: str) -> None:
    found: list[str] = []
    checked = 0
    typed: set[str] = set()
    for _, model in (each for each in FAMILIES if each[0] == vendor):
        plain = model.rpartition("/")[2]
        target = Target(vendor, model, vendor, facts(vendor, model))
        for protocol in SPOKEN_BY.get(vendor, ("openai_chat",)):
            for ask, conversation in conversations():
                notes = Notes()
                body = named(protocol).write_request(conversation, target, notes).body
                checked += 1
                where = f"{model} asked {ask}"
                found += [f"{where}: {fault}" for fault in FAULTS.get(vendor, chat_faults(vendor))(plain, body)]
                if wanted(conversation, target.facts.reasoning) and not says_reasoning(body) and not list(notes):
                    found.append(f"{where}: reasoning is gone without a word")
                shape = repr([(key, value) for key, value in body.items() if key not in ("messages", "input", "model")])
                if shape not in typed:
                    typed.add(shape)
                    check_types(protocol, vendor, body)
    assert checked > 600
    assert found == [], f"{len(found)} of {checked}: " + "\n".join(found[:30])


def test_the_judges_find_what_is_wrong() -> None:
    refused = {
        ("openai", "gpt-5"): {"temperature": 0.5, "reasoning_effort": "none"},
        ("anthropic", "claude-opus-4-1"): {"thinking": {"type": "enabled", "budget_tokens": 900}, "max_tokens": 800},
        ("gemini", "gemini-2.5-pro"): {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}},
    }
    for (vendor, model), body in refused.items():
        assert list(FAULTS[vendor](model, body)), model
    assert list(chat_faults("qwen")("qwen3", {"enable_thinking": True, "tool_choice": "required", "temperature": 2}))


def test_every_reasoning_style_of_the_table_is_among_the_families() -> None:
    styles = {facts(vendor, model).reasoning for vendor, model in FAMILIES}
    assert styles == {"none", "effort", "budget", "adaptive", "level", "toggle", "unknown"}
    assert len(FAMILIES) > 150
