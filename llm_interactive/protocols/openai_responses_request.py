"""Responses requests written: what came in this protocol goes on as it came, the rest is built from meaning.

Translated requests keep no state at the provider (`store: false`): reasoning comes back encrypted instead (TRAPS T97).
openai_responses_input.py writes the items.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llm_interactive.conversation import Conversation, Opaque, OutputFormat, Text, Thinking, Tool, ToolChoice
from llm_interactive.errors import CannotExpress
from llm_interactive.protocols import efforts
from llm_interactive.protocols.base import Json, Notes, Target, WireRequest
from llm_interactive.protocols.efforts import with_forced_tool
from llm_interactive.protocols.openai_responses_input import VENDORS, write_input, write_own_input

NAME = "openai_responses"

VENDOR_HEADERS = ("openai-organization", "openai-project", "openai-beta", "http-referer", "x-title")
LOGPROBS = "message.output_text.logprobs"
SIGNATURES = "reasoning.encrypted_content"

FIELD_KEYS: Mapping[str, tuple[str, ...]] = {
    "model": ("model",),
    "messages": ("input",),
    "system": ("instructions",),
    "tools": ("tools",),
    "tool_choice": ("tool_choice", "parallel_tool_calls"),
    "sampling": ("temperature", "top_p", "top_logprobs", "max_output_tokens"),
    "reasoning": ("reasoning",),
    "output": ("text",),
    "stream": ("stream",),
    "user": ("user", "safety_identifier"),
    "metadata": ("metadata",),
}
"""Which wire keys a field of the conversation owns; `text` and `include` hold more and are put together again."""

CANONICAL_KEYS = frozenset(key for keys in FIELD_KEYS.values() for key in keys) | {"include"}

CAPABILITIES: Mapping[str, str] = {
    "system": "carried (`instructions`)",
    "mid_system": "carried",
    "images": "carried where the model sees, else noted",
    "image_url": "carried",
    "pdf": "carried (`input_file`)",
    "audio": "refused",
    "video": "refused",
    "file_id": "refused unless it is OpenAI's own",
    "tools": "carried",
    "custom_tools": "carried",
    "server_tools": "noted beside functions, refused alone",
    "tool_choice": "carried",
    "parallel_tool_calls": "carried",
    "tool_result_images": "carried",
    "tool_result_error": 'mapped: `{"error": ...}` as the result',
    "structured_output": "carried",
    "stop": "noted",
    "max_tokens": "carried, at least 16 (noted)",
    "temperature": "carried, noted where the model refuses it",
    "top_p": "carried, noted where the model refuses it",
    "top_k": "noted",
    "seed": "noted",
    "penalties": "noted",
    "n": "noted: one answer",
    "logprobs": "carried",
    "logit_bias": "noted",
    "reasoning_effort": "carried in words that the model takes",
    "reasoning_budget": "mapped: effort by size of the budget",
    "reasoning_signatures": "carried to their owner, others' noted",
    "citations": "noted in history",
    "refusal": "carried",
    "user": "carried, as a hash where it is longer than 64 characters",
    "metadata": "carried to OpenAI, else noted",
    "service_tier": "carried between OpenAI's own protocols, else noted",
    "stored_state": "carried",
    "prompt_cache_marks": "noted",
}

COUNTED_KEYS = (
    "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text", "truncation",
    "previous_response_id", "conversation", "personality",
)  # fmt: skip

SHARED_KEYS = ("moderation", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "service_tier")
"""Fields that mean the same in both of OpenAI's protocols."""

UNSAID = {
    "top_k": "top_k", "seed": "seed", "frequency_penalty": "frequency_penalty", "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias", "stop": "stop",
}  # fmt: skip
"""Fields of `Sampling` that the protocol has no words for."""

MIN_TOKENS = 16
MAX_USER = 64
MAX_METADATA = (16, 64, 512)
"""Pairs, characters of a key, characters of a value."""

type _Write = Callable[[Conversation, Target, Notes], dict[str, Json]]


def write_request(conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
    conversation = with_forced_tool(conversation, target, notes)
    own = conversation.read_by(NAME)
    if own is not None:
        return _write_own(own, conversation, target, notes)
    body: dict[str, Json] = {"model": target.model}
    for write in _WRITERS.values():
        body |= write(conversation, target, notes)
    body |= _write_state(conversation, target)
    body |= _write_owned(conversation, target, notes)
    if conversation.stream:
        body["stream"] = True
    names = _short_names(conversation)
    if names:
        _rename_tools(body, names)
    return WireRequest("/responses", body, tool_names={short: name for name, short in names.items()})


def _write_own(own: dict[str, Json], conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
    body = dict(own)
    for field in conversation.changed | _misfits(conversation, target):
        for key in FIELD_KEYS[field]:
            body.pop(key, None)
        body |= _WRITERS[field](conversation, target, notes) if field in _WRITERS else {}
    if "stream" in conversation.changed:
        body["stream"] = conversation.stream
    if "messages" not in conversation.changed and isinstance(own.get("input"), list):
        kept = write_own_input(conversation.messages, own["input"])
        if kept is not None:
            body["input"] = kept
            notes.add("reasoning of other models: not sent, only they can read it")
    if target.model or "model" in own:
        body["model"] = target.model
    return WireRequest("/responses", body, headers=conversation.client_headers)


def _misfits(conversation: Conversation, target: Target) -> frozenset[str]:
    """Fields of the client's own request that the model is known to refuse as they are."""
    misses = {
        "sampling": efforts.does_not_fit(conversation, target),
        "reasoning": efforts.misses(conversation.reasoning, target.facts),
    }
    return frozenset(field for field, it_does in misses.items() if it_does)


def write_count_request(conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
    wire = write_request(conversation, target, notes)
    body = {key: wire.body[key] for key in COUNTED_KEYS if key in wire.body}
    return WireRequest("/responses/input_tokens", body, headers=wire.headers)


def _write_owned(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    """OpenAI's other protocol says some things just so; all else belongs to its owner."""
    owner = conversation.source.protocol if conversation.source is not None else "another protocol"
    shared = SHARED_KEYS if owner == "openai_chat" and target.vendor in VENDORS else ()
    for key in conversation.owned:
        if key not in shared:
            notes.add(f"{key}: not sent, it belongs to {owner}")
    return {key: value for key, value in conversation.owned.items() if key in shared}


def _write_messages(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    own = conversation.read_by(NAME)
    items = write_input(conversation.messages, target, notes, own=own is not None)
    if own is not None and isinstance(own.get("input"), str):
        match conversation.messages:
            case (only,) if only.role == "user" and all(isinstance(part, Text) for part in only.parts):
                return {"input": only.text}
    if not items and own is None:  # a request of instructions only is refused: they become what is said (T31)
        return {"input": [{"type": "message", "role": "user", "content": _instructions(conversation)}]}
    return {"input": items}


def _instructions(conversation: Conversation) -> str:
    return "\n\n".join(part.text for part in conversation.system if isinstance(part, Text) and part.text)


def _write_system(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    match conversation.system:
        case (Opaque() as only,) if (own := only.read_by(NAME)) is not None:
            return {"instructions": own}
    text = _instructions(conversation)
    return {"instructions": text} if text else {}


def _write_state(conversation: Conversation, target: Target) -> dict[str, Json]:
    """Models that do not reason refuse to be asked for encrypted reasoning."""
    reasons = target.facts.reasoning not in ("none", "unknown") or any(
        isinstance(part, Thinking) and part.origin == NAME
        for message in conversation.messages
        for part in message.parts
    )
    include = [SIGNATURES] if reasons else []
    logprobs = {"logprobs", "top_logprobs"} - efforts.refused(target.facts, conversation.reasoning)
    if any(getattr(conversation.sampling, name) for name in logprobs):
        include.append(LOGPROBS)
    return {"store": False, **({"include": include} if include else {})}


def _write_tools(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    tools: list[Json] = []
    for tool in conversation.tools:
        own = tool.read_by(NAME)
        if own is not None:
            tools.append(own)
        elif isinstance(tool, Opaque):
            notes.add(f"tool {tool.what}: not sent, only its own provider runs it")
        else:
            tools.append(_write_tool(tool))
    if conversation.tools and not tools:
        names = ", ".join(tool.what for tool in conversation.tools if isinstance(tool, Opaque))
        raise CannotExpress(f"the tool {names} is run by its own provider only", param="tools")
    return {"tools": tools} if tools else {}


def _write_tool(tool: Tool) -> Json:
    described = {"description": tool.description} if tool.description is not None else {}
    if tool.custom:
        format_ = {"format": _flat_grammar(tool.format)} if tool.format is not None else {}
        return {"type": "custom", "name": tool.name, **described, **format_}
    return {
        "type": "function",
        "name": tool.name,
        **described,
        "parameters": dict(tool.schema) if tool.schema else {"type": "object", "properties": {}},
        "strict": bool(tool.strict),  # unsaid means true here, and false everywhere else
    }


def _flat_grammar(format_: Json) -> Json:
    if isinstance(format_, dict) and isinstance(format_.get("grammar"), dict):
        return {"type": "grammar", **format_["grammar"]}
    return format_


def _write_tool_choice(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    choice = conversation.tool_choice
    if choice is None or not conversation.tools:
        return {}
    written: dict[str, Json] = {}
    own = choice.read_by(NAME)
    if own is not None:
        written["tool_choice"] = own
    elif choice.mode is not None:
        custom = {tool.name for tool in conversation.tools if isinstance(tool, Tool) and tool.custom}
        written["tool_choice"] = _choice(choice, custom)
    if choice.parallel is not None:
        written["parallel_tool_calls"] = choice.parallel
    return written


def _choice(choice: ToolChoice, custom: set[str]) -> Json:
    def named(name: str | None) -> dict[str, Json]:
        return {"type": "custom" if name in custom else "function", "name": name}

    if choice.mode == "named":
        return named(choice.name)
    if choice.allowed:
        return {"type": "allowed_tools", "mode": choice.mode, "tools": [named(name) for name in choice.allowed]}
    return choice.mode


def _write_sampling(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    sampling, facts = conversation.sampling, target.facts
    for field, key in UNSAID.items():
        if getattr(sampling, field) not in (None, ()):
            notes.add(f"{key}: not sent, the Responses API has no such parameter")
    if (sampling.n or 1) > 1:
        notes.add("n: not sent, the Responses API gives one answer")
    values: dict[str, Any] = {
        key: value
        for key in ("temperature", "top_p", "top_logprobs", "max_tokens")
        if (value := getattr(sampling, key)) is not None
    }
    if sampling.logprobs and "logprobs" in efforts.refused(facts, conversation.reasoning):
        notes.add(f"logprobs: not sent, {target.model} refuses it")
    efforts.fit_sampling(values, conversation, target, notes)
    if "max_tokens" in values:
        most = values.pop("max_tokens")
        if most < MIN_TOKENS:
            notes.add(f"max_tokens {most} -> {MIN_TOKENS}: the least that the Responses API takes")
        values["max_output_tokens"] = max(MIN_TOKENS, most)
    return values


def _write_reasoning(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    reasoning, facts = conversation.reasoning, target.facts
    own = reasoning.read_by(NAME)
    if own is not None and not efforts.misses(reasoning, facts):
        return {"reasoning": own}
    asked = efforts.thinks(reasoning)
    if asked and facts.reasoning == "none":
        notes.add(f"reasoning: not sent, {target.model} does not reason")
    if facts.reasoning == "none":
        return {}
    if asked is False and facts.reasoning == "unknown":  # who cannot reason refuses the parameter, whatever it says
        notes.add(f"reasoning: not switched off, it is not known whether {target.model} can")
        return {}
    written: dict[str, Json] = {}
    if asked is False:
        written["effort"] = efforts.lowest(facts, facts.efforts, target, notes)
    elif asked and not (reasoning.adaptive and not efforts.says_how_hard(reasoning)):
        written["effort"] = efforts.effort(reasoning, facts.efforts, target, notes)
    if asked is not False and reasoning.summary:
        written["summary"] = "auto"
    return {"reasoning": written} if written else {}


def _write_output(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    """`text` holds the verbosity too, which stays as it was."""
    own = conversation.read_by(NAME)
    held = own.get("text") if own is not None else None
    rest = {key: value for key, value in held.items() if key != "format"} if isinstance(held, dict) else {}
    output = conversation.output
    if output is None or output.kind == "text":
        return {"text": rest} if rest else {}
    own_format = output.read_by(NAME)
    return {"text": {"format": own_format if own_format is not None else _format(output), **rest}}


def _format(output: OutputFormat) -> Json:
    if output.kind == "json_object":
        return {"type": "json_object"}
    format_: dict[str, Any] = {"type": "json_schema", "name": short_name(output.name or "answer")}
    format_["schema"] = dict(output.schema or {})
    if output.description is not None:
        format_["description"] = output.description
    if output.strict is not None:
        format_["strict"] = output.strict
    return format_


def _write_user(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    user = conversation.user
    if not user:
        return {}
    if len(user) > MAX_USER:
        user = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
    return {"safety_identifier" if target.vendor in VENDORS else "user": user}


def _write_metadata(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    metadata = conversation.metadata
    if not metadata:
        return {}
    if target.vendor not in VENDORS:
        notes.add("metadata: not sent, it belongs to OpenAI")
        return {}
    pairs, key_length, value_length = MAX_METADATA
    fits = {
        key: value
        for key, value in metadata.items()
        if isinstance(value, str) and len(key) <= key_length and len(value) <= value_length
    }
    fits = dict(list(fits.items())[:pairs])
    if len(fits) < len(metadata):
        notes.add("metadata: only what fits OpenAI's limits is sent")
    return {"metadata": fits} if fits else {}


_WRITERS: Mapping[str, _Write] = {
    "messages": _write_messages,
    "system": _write_system,
    "tools": _write_tools,
    "tool_choice": _write_tool_choice,
    "sampling": _write_sampling,
    "reasoning": _write_reasoning,
    "output": _write_output,
    "user": _write_user,
    "metadata": _write_metadata,
}

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def short_name(name: str) -> str:
    """A name this protocol takes, the same for the same name; a hash keeps shortened ones apart (TRAPS T19)."""
    if _NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:55] + "_" + digest


def _short_names(conversation: Conversation) -> dict[str, str]:
    names = [tool.name for tool in conversation.tools if isinstance(tool, Tool)]
    names += conversation.call_names().values()
    return {name: short for name in names if (short := short_name(name)) != name}


def _rename_tools(body: dict[str, Json], names: Mapping[str, str]) -> None:
    """In the freshly built body (never in what a client sent)."""
    holders: Iterable[dict[str, Json]] = [
        *body.get("tools", ()),
        *(item for item in body["input"] if item["type"] in ("function_call", "custom_tool_call")),
        *_chosen(body.get("tool_choice")),
    ]
    for holder in holders:
        if holder.get("name") in names:
            holder["name"] = names[holder["name"]]


def _chosen(choice: Json) -> list[dict[str, Json]]:
    if not isinstance(choice, dict):
        return []
    return [choice, *choice.get("tools", ())]
