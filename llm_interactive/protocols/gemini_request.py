"""generateContent requests written: what came in this protocol goes on as it came, the rest is built from meaning.

gemini_contents.py writes what was said, gemini_config.py tools and settings.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote

from llm_interactive.conversation import Conversation, Tool
from llm_interactive.errors import CannotExpress
from llm_interactive.protocols import efforts
from llm_interactive.protocols.base import Json, Notes, Target, WireRequest
from llm_interactive.protocols.gemini_config import MAX_STOPS, SAMPLING, ConfigWriter
from llm_interactive.protocols.gemini_contents import ContentsWriter, mid_system
from llm_interactive.protocols.gemini_errors import NAME
from llm_interactive.protocols.gemini_schema import camel

VENDOR_HEADERS = ("x-goog-api-client", "x-goog-user-project")

FIELD_KEYS: Mapping[str, tuple[str | None, tuple[str, ...]]] = {
    "system": (None, ("systemInstruction",)),
    "messages": (None, ("contents",)),
    "tools": (None, ("tools",)),
    "tool_choice": ("toolConfig", ("functionCallingConfig",)),
    "sampling": ("generationConfig", tuple(SAMPLING.values())),
    "reasoning": ("generationConfig", ("thinkingConfig",)),
    "output": ("generationConfig", ("responseMimeType", "responseSchema", "responseJsonSchema")),
}
"""Which wire keys a field of the conversation owns, and in which object; other fields have no key here."""

CAPABILITIES: Mapping[str, str] = {
    "system": "carried (`systemInstruction`)",
    "mid_system": "mapped: moved to `systemInstruction`",
    "images": "carried where the model sees, else noted (`inlineData`)",
    "image_url": "mapped: `fileData` with the URL",
    "pdf": "carried (`inlineData`)",
    "audio": "carried (`inlineData`)",
    "video": "carried (`inlineData`, `fileData`)",
    "file_id": "refused unless it is Gemini's own",
    "tools": "carried (`parametersJsonSchema`)",
    "custom_tools": "mapped: a function with one string, `input`, and back",
    "server_tools": "mapped: web search to `googleSearch`; others noted beside functions, refused alone",
    "tool_choice": "carried",
    "parallel_tool_calls": "noted",
    "tool_result_images": "carried in the result (Gemini 3), mapped: beside the result (older)",
    "tool_result_error": 'mapped: `{"error": ...}` as the response',
    "structured_output": "carried (`responseJsonSchema`)",
    "stop": "carried, the first 5",
    "max_tokens": "carried",
    "temperature": "carried, noted where the model refuses it",
    "top_p": "carried, noted where the model refuses it",
    "top_k": "carried",
    "seed": "carried, the lower 31 bits",
    "penalties": "carried",
    "n": "carried (`candidateCount`)",
    "logprobs": "carried",
    "logit_bias": "noted",
    "reasoning_effort": "mapped: `thinkingLevel` (Gemini 3) or a budget (older)",
    "reasoning_budget": "carried (`thinkingBudget`), mapped: `thinkingLevel` (Gemini 3)",
    "reasoning_signatures": "Gemini's own carried, others stay with their owner",
    "citations": "noted in history",
    "refusal": "mapped: text",
    "user": "noted",
    "metadata": "noted",
    "service_tier": "noted",
    "stored_state": "refused",
    "prompt_cache_marks": "noted",
}

REFUSED = ("previous_response_id", "conversation", "background", "prompt")
"""Request fields of others without which the request would mean something else (TRAPS T96)."""


def own_body(body: dict[str, Json]) -> dict[str, Json]:
    """The request itself, which countTokens may wrap."""
    for key in ("generateContentRequest", "generate_content_request"):
        if isinstance(body.get(key), dict):
            inner: dict[str, Json] = body[key]
            return inner
    return body


def write_request(conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
    body, names = _body(conversation, target, notes)
    headers = dict(conversation.client_headers) if conversation.read_by(NAME) is not None else {}
    array = headers.pop("alt", None) == "json"
    method = "streamGenerateContent" if conversation.stream else "generateContent"
    return WireRequest(
        path=_path(target.model, method),
        query="alt=sse" if conversation.stream and not array else "",
        body=body,
        headers=headers,
        tool_names=names,
    )


def write_count_request(conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
    """In the form that came; a request of another protocol whole, so that tools and instructions count."""
    own = conversation.read_by(NAME)
    body, names = _body(conversation, target, notes)
    if own is None or own is not own_body(own):
        body = {"generateContentRequest": {"model": _resource(target.model), **body}}
    return WireRequest(path=_path(target.model, "countTokens"), body=body, tool_names=names)


def _resource(model: str) -> str:
    return model if "/" in model else f"models/{model}"


def _path(model: str, method: str) -> str:
    return f"/{quote(_resource(model), safe='/:@')}:{method}"


def _body(conversation: Conversation, target: Target, notes: Notes) -> tuple[dict[str, Json], dict[str, str]]:
    own = conversation.read_by(NAME)
    names: dict[str, str] = {}
    if own is not None:
        body = dict(own_body(own))
        wanted = conversation.changed | _misfits(conversation, target)
        fields = [field for field in FIELD_KEYS if field in wanted]
        if "model" in body and target.model != conversation.model:
            body["model"] = _resource(target.model)
        if "messages" in fields and "system" not in fields and mid_system(conversation):
            fields.append("system")
    else:
        body, fields = {}, list(FIELD_KEYS)
        names = _short_names(conversation)
        _note_foreign(conversation, notes)
    write = _writers(conversation, target, notes, names) if fields else {}
    for field in fields:
        holder, keys = FIELD_KEYS[field]
        _put(body, holder, keys, write[field]())
    if conversation.generation_config:
        own_words = {camel(key): value for key, value in conversation.generation_config.items()}
        _put(body, "generationConfig", own_words, own_words)
        notes.add(f"generationConfig {', '.join(own_words)}: set in this session")
    return body, {short: name for name, short in names.items()}


def _misfits(conversation: Conversation, target: Target) -> frozenset[str]:
    """Fields of the client's own request that the model is known to refuse as they are (TRAPS T60)."""
    reasoning, kind = conversation.reasoning, target.facts.reasoning
    other_words = (kind == "budget" and reasoning.effort is not None) or (kind == "level" and reasoning.budget == 0)
    too_many = len(conversation.sampling.stop) > MAX_STOPS
    shown = kind == "none" and reasoning.summary is not None
    misses = {
        "sampling": too_many or efforts.does_not_fit(conversation, target),
        "reasoning": other_words or shown or efforts.misses(reasoning, target.facts),
    }
    return frozenset(field for field, it_does in misses.items() if it_does)


def _writers(
    conversation: Conversation, target: Target, notes: Notes, names: Mapping[str, str]
) -> Mapping[str, Callable[[], dict[str, Json]]]:
    contents = ContentsWriter(conversation, target, notes, names)
    config = ConfigWriter(conversation, target, notes, names)
    return {
        "system": contents.system,
        "messages": contents.messages,
        "tools": config.tools,
        "tool_choice": config.tool_choice,
        "sampling": config.sampling,
        "reasoning": config.reasoning,
        "output": config.output,
    }


def _put(body: dict[str, Json], holder: str | None, keys: Iterable[str], values: dict[str, Json]) -> None:
    """Take these keys out, in either spelling, and put the values in; an object that ends up empty goes too."""
    if holder is None:
        for key in [key for key in body if camel(key) in keys]:
            del body[key]
        body |= values
        return
    spelling = next((key for key in body if camel(key) == holder), holder)
    inner = dict(body.get(spelling) or {})
    _put(inner, None, keys, values)
    if inner:
        body[spelling] = inner
    else:
        body.pop(spelling, None)


def _note_foreign(conversation: Conversation, notes: Notes) -> None:
    for key, value in conversation.owned.items():
        if key in REFUSED and value:
            raise CannotExpress(f"'{key}' needs state that a Gemini backend does not have", param=key)
        if value is not None:
            notes.add(f"{key}: not sent, Gemini has no such field")
    for key, said in (("user", conversation.user), ("metadata", conversation.metadata)):
        if said:
            notes.add(f"{key}: not sent, Gemini has no place for it")


_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")


def short_name(name: str) -> str:
    """A name this protocol takes, the same for the same name; a hash keeps changed ones apart (TRAPS T19)."""
    if _NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    legal = re.sub(r"[^a-zA-Z0-9_.:-]", "_", name)
    return ("" if re.match(r"[a-zA-Z_]", legal) else "_") + legal[:54] + "_" + digest


def _short_names(conversation: Conversation) -> dict[str, str]:
    names = [tool.name for tool in conversation.tools if isinstance(tool, Tool)]
    return {n: short_name(n) for n in (*names, *conversation.call_names().values()) if short_name(n) != n}
