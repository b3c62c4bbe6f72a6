"""Settings of a Chat Completions request: sampling, reasoning in each service's own words, structured output."""

from collections.abc import Mapping
from typing import Any

from llm_interactive.conversation import Conversation, OutputFormat, Reasoning
from llm_interactive.protocols import efforts
from llm_interactive.protocols.base import Json, Notes, Target

NAME = "openai_chat"

FIELD_KEYS: Mapping[str, tuple[str, ...]] = {
    "model": ("model",),
    "messages": ("messages",),
    "system": (),
    "tools": ("tools",),
    "tool_choice": ("tool_choice", "parallel_tool_calls"),
    "sampling": (
        "temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty", "n", "logprobs",
        "top_logprobs", "logit_bias", "stop", "max_tokens", "max_completion_tokens",
    ),
    "reasoning": (
        "reasoning_effort", "reasoning", "thinking", "enable_thinking", "thinking_budget", "chat_template_kwargs",
    ),
    "output": ("response_format",),
    "stream": ("stream", "stream_options"),
    "user": ("user", "safety_identifier"),
    "metadata": ("metadata",),
}  # fmt: skip
"""Which wire keys a field of the conversation owns."""

CANONICAL_KEYS = frozenset(key for keys in FIELD_KEYS.values() for key in keys) - {"chat_template_kwargs"}
BOTH_LIMITS = ("openai", "azure", "openrouter", "groq", "xai")
"""Services that know `max_tokens` and `max_completion_tokens`."""
STRICT = ("openai", "azure", "mistral", "groq", "xai")
"""Services that refuse fields which they do not know."""
MAX_STOPS = 4


def misfits(body: Mapping[str, Json], conversation: Conversation, target: Target) -> frozenset[str]:
    """Fields of the client's own request that the model is known to refuse or to misunderstand as they are."""
    found = set()
    too_many = target.vendor == "openai" and len(conversation.sampling.stop) > MAX_STOPS
    if too_many or efforts.does_not_fit(conversation, target) or _other_limit(body, target):
        found.add("sampling")
    if _misses_reasoning(body, conversation, target):
        found.add("reasoning")
    return frozenset(found)


def _misses_reasoning(body: Mapping[str, Json], conversation: Conversation, target: Target) -> bool:
    facts = target.facts
    said = {key for key in FIELD_KEYS["reasoning"] if body.get(key) is not None}
    if "enable_thinking" not in _held(conversation):
        said.discard("chat_template_kwargs")
    if _thinks_beside_tools(conversation, target):
        return True
    if not said:
        return False
    left_out = target.vendor == "openrouter" and facts.reasoning == "none"  # it does so by itself
    return bool(said - _words(said, target)) or (not left_out and efforts.misses(conversation.reasoning, facts))


def _thinks_beside_tools(conversation: Conversation, target: Target) -> bool:
    """What the model refuses here, but could do without."""
    facts = target.facts
    if facts.chat == "always" or "none" not in facts.efforts or not conversation.tools:
        return False
    return efforts.reasons(conversation.reasoning, facts)


def _other_limit(body: Mapping[str, Json], target: Target) -> bool:
    """OpenAI's reasoning models refuse `max_tokens`; others do not know the newer name (TRAPS T65)."""
    known = target.facts.max_tokens_key
    if known == "max_completion_tokens":
        return body.get("max_tokens") is not None and target.facts.reasoning == "effort"
    return body.get("max_completion_tokens") is not None and target.vendor not in BOTH_LIMITS


def _words(said: set[str], target: Target) -> set[str]:
    """Those that the target understands; all that were `said` where that is not known."""
    facts = target.facts
    if target.vendor == "openrouter":
        return {"reasoning", "reasoning_effort"}
    if facts.reasoning == "toggle":
        words = {"enable_thinking", "thinking_budget"} if facts.switch == "enable_thinking" else {facts.switch}
        return words | ({"reasoning_effort"} if facts.efforts else set())
    return {"reasoning_effort"} if facts.reasoning == "effort" or target.vendor in STRICT else said


def write_sampling(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    sampling, facts = conversation.sampling, target.facts
    values: dict[str, Any] = {
        key: value
        for key in FIELD_KEYS["sampling"]
        if key != "max_completion_tokens" and (value := getattr(sampling, key)) not in (None, ())
    }
    if "stop" in values:
        if len(sampling.stop) > MAX_STOPS:
            notes.add(f"stop: only the first {MAX_STOPS} of {len(sampling.stop)} sequences are sent")
        values["stop"] = list(sampling.stop[:MAX_STOPS])
    if target.vendor == "openai" and "top_k" in values:
        del values["top_k"]
        notes.add("top_k: not sent, OpenAI has no such parameter")
    efforts.fit_sampling(values, conversation, target, notes)
    if values.get("n") == 1:
        del values["n"]
    if "max_tokens" in values:
        values[facts.max_tokens_key] = values.pop("max_tokens")
    return values


def write_reasoning(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    written = _write_reasoning(conversation, target, notes)
    rest = {key: value for key, value in _held(conversation).items() if key != "enable_thinking"}
    return {"chat_template_kwargs": rest, **written} if rest and target.vendor not in STRICT else written


def _write_reasoning(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    reasoning, facts = conversation.reasoning, target.facts
    asked = efforts.thinks(reasoning)
    if asked and facts.reasoning == "none":
        notes.add(f"reasoning: not sent, {target.model} does not reason")
    if facts.reasoning == "none":
        return {}
    if target.vendor == "openrouter":
        return _openrouters(reasoning, asked, target, notes)
    if _thinks_beside_tools(conversation, target):
        notes.add(f"reasoning: off, {target.model} takes tools with it in the Responses API only (openai-responses)")
        return {"reasoning_effort": "none"}
    if asked is None:
        return {}
    if facts.reasoning == "toggle":
        return _toggle(reasoning, asked, target, notes, _held(conversation))
    if asked:
        return {"reasoning_effort": efforts.effort(reasoning, facts.efforts, target, notes)}
    if facts.reasoning == "unknown":  # a model that cannot reason refuses the parameter, whatever it says
        notes.add(f"reasoning: not switched off, it is not known whether {target.model} can")
        return {}
    return {"reasoning_effort": efforts.lowest(facts, facts.efforts, target, notes)}


def _openrouters(reasoning: Reasoning, asked: bool | None, target: Target, notes: Notes) -> dict[str, Json]:
    """It takes an effort or a number of tokens, and makes of them what the model takes."""
    written: dict[str, Json] = {}
    if asked is False:
        written["enabled"] = False
        if not target.facts.can_disable_reasoning:
            written = {"effort": efforts.lowest(target.facts, target.facts.efforts, target, notes)}
    elif (reasoning.budget or 0) > 0:
        written["max_tokens"] = efforts.budget(reasoning, target.facts, target, notes)
    elif asked and reasoning.effort:
        written["effort"] = efforts.effort(reasoning, target.facts.efforts, target, notes)
    elif asked:
        written["enabled"] = True
    if reasoning.summary is False and asked is not False:
        written["exclude"] = True
    return {"reasoning": written} if written else {}


def _held(conversation: Conversation) -> Mapping[str, Json]:
    """What else the client told the model's template."""
    own = conversation.read_by(NAME) or {}
    held = own.get("chat_template_kwargs")
    return held if isinstance(held, dict) else {}


def _toggle(reasoning: Reasoning, on: bool, target: Target, notes: Notes, held: Mapping[str, Json]) -> dict[str, Json]:
    facts = target.facts
    written: dict[str, Json] = {}
    if on and facts.efforts and efforts.says_how_hard(reasoning):
        written["reasoning_effort"] = efforts.effort(reasoning, facts.efforts, target, notes)
    elif on and facts.switch == "enable_thinking" and (budget := efforts.budget(reasoning, facts, target, notes)):
        written["thinking_budget"] = budget
    elif on and efforts.says_how_hard(reasoning):
        said = reasoning.effort or f"{reasoning.budget} tokens"
        notes.add(f"reasoning {said}: sent as on, {target.model} knows only on and off")
    switch: dict[str, Json] = {
        "enable_thinking": {"enable_thinking": on},
        "thinking": {"thinking": {"type": "enabled" if on else "disabled"}},
        "chat_template_kwargs": {"chat_template_kwargs": {**held, "enable_thinking": on}},
    }
    return {**switch[facts.switch], **written}


def write_output(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    output = conversation.output
    if output is None or (output.kind == "text" and output.read_by(NAME) is None):
        return {}
    own = output.read_by(NAME)
    return {"response_format": own if own is not None else _format(output)}


def _format(output: OutputFormat) -> Json:
    if output.kind == "json_object":
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": output.name or "answer", "schema": output.schema or {}}
    if output.description is not None:
        schema["description"] = output.description
    if output.strict is not None:
        schema["strict"] = output.strict
    return {"type": "json_schema", "json_schema": schema}
