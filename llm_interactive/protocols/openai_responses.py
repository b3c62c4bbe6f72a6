"""OpenAI Responses, as spoken by OpenAI and compatible services.

Facts: the openai SDK's types and recorded exchanges. Requests are read in openai_responses_items.py (items) and here
(the rest); openai_responses_request.py writes them, openai_responses_reader.py and openai_responses_writer.py have
replies. Every input item is a message of its own; writers of other protocols put the pieces of a turn together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_interactive.conversation import (
    Conversation,
    Opaque,
    OutputFormat,
    Reasoning,
    Sampling,
    Source,
    Text,
    Tool,
    ToolChoice,
)
from llm_interactive.errors import BadRequest, ProxyError, UpstreamError
from llm_interactive.protocols import (
    openai_errors,
    openai_models,
    openai_responses_reader,
    openai_responses_request,
    openai_responses_writer,
)
from llm_interactive.protocols.base import (
    Call,
    Json,
    ModelEntry,
    Notes,
    Protocol,
    ReplyContext,
    ReplyReader,
    ReplyWriter,
    Target,
    WireRequest,
)
from llm_interactive.protocols.openai_responses_items import expect, read_input
from llm_interactive.protocols.openai_responses_request import (
    CANONICAL_KEYS,
    CAPABILITIES,
    LOGPROBS,
    NAME,
    SIGNATURES,
    VENDOR_HEADERS,
)

__all__ = ["CAPABILITIES", "NAME", "PROTOCOL", "OpenAIResponses"]

SAMPLING_KEYS: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "temperature": ("temperature", (int, float)),
    "top_p": ("top_p", (int, float)),
    "top_logprobs": ("top_logprobs", (int,)),
    "max_output_tokens": ("max_tokens", (int,)),
}
"""Wire key -> field and types."""

NO_OPS: Mapping[str, Json] = {"background": False, "store": False, "truncation": "disabled", "service_tier": "auto"}
"""Values that ask for nothing: other protocols need not say that they leave them out."""


class OpenAIResponses(Protocol):
    name = NAME

    def read_request(self, body: dict[str, Json], call: Call) -> Conversation:
        instructions = _optional(body, "instructions", (str, list))
        return Conversation(
            model=_read_model(body),
            messages=read_input(_read_input_value(body, call)),
            system=_read_instructions(instructions),
            tools=tuple(_read_tool(tool, f"tools[{i}]") for i, tool in enumerate(_optional(body, "tools", list) or ())),
            tool_choice=_read_tool_choice(body),
            sampling=_read_sampling(body),
            reasoning=_read_reasoning(_optional(body, "reasoning", dict)),
            output=_read_format(_optional(body, "text", dict)),
            stream=bool(body.get("stream")),
            user=_optional(body, "safety_identifier", str) or _optional(body, "user", str),
            metadata=_optional(body, "metadata", dict),
            owned=_read_owned(body),
            client_headers={name: call.headers[name] for name in VENDOR_HEADERS if name in call.headers},
            source=Source(NAME, body),
        )

    def write_request(self, conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
        return openai_responses_request.write_request(conversation, target, notes)

    def write_count_request(self, conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
        return openai_responses_request.write_count_request(conversation, target, notes)

    def reply_reader(self, stream: bool) -> ReplyReader:
        return openai_responses_reader.StreamReader() if stream else openai_responses_reader.WholeReader()

    def reply_writer(self, context: ReplyContext) -> ReplyWriter:
        if context.stream:
            return openai_responses_writer.StreamWriter(context)
        return openai_responses_writer.WholeWriter(context)

    def write_error(self, error: ProxyError) -> dict[str, Json]:
        return openai_errors.write_error(error)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return openai_errors.read_error(NAME, status, headers, body)

    def write_models(self, models: Sequence[ModelEntry]) -> dict[str, Json]:
        return openai_models.write_models(models)

    def write_model(self, model: ModelEntry) -> dict[str, Json]:
        return openai_models.write_model(model)

    def read_models(self, body: Json) -> list[ModelEntry]:
        return openai_models.read_models(body, NAME)

    def write_count(self, tokens: int) -> dict[str, Json]:
        return {"object": "response.input_tokens", "input_tokens": tokens}

    def read_count(self, body: Json) -> int | None:
        count = body.get("input_tokens") if isinstance(body, dict) else None
        return count if isinstance(count, int) else None

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {key}"}


def _optional(body: dict[str, Json], key: str, kinds: tuple[type, ...] | type, place: str = "") -> Any:
    value = body.get(key)
    return None if value is None else expect(value, kinds, place + key)


def _read_model(body: dict[str, Json]) -> str:
    if body.get("model") is None and body.get("prompt") is not None:
        return ""  # the stored prompt names it
    model: str = expect(body.get("model"), str, "model")
    return model


def _read_input_value(body: dict[str, Json], call: Call) -> Json:
    """What was said before can stand elsewhere, so that nothing need be said now."""
    value = body.get("input")
    elsewhere = any(body.get(key) for key in ("prompt", "previous_response_id", "conversation"))
    if value is None and (elsewhere or call.operation == "count_tokens"):
        return []
    return expect(value, (str, list), "input")


def _read_instructions(instructions: Json) -> tuple[Text | Opaque, ...]:
    if isinstance(instructions, list):
        return (Opaque(what="instructions", source=Source(NAME, instructions)),)
    return (Text(text=instructions),) if instructions else ()


def _read_tool(tool: Json, param: str) -> Tool | Opaque:
    source = Source(NAME, expect(tool, dict, param))
    match tool:
        case {"type": "function", "name": str(name)}:
            return Tool(
                name=name,
                description=_optional(tool, "description", str, f"{param}."),
                schema=_optional(tool, "parameters", dict, f"{param}."),
                strict=_optional(tool, "strict", bool, f"{param}."),
                source=source,
            )
        case {"type": "custom", "name": str(name)}:
            description = _optional(tool, "description", str, f"{param}.")
            format_ = _nested_grammar(_optional(tool, "format", dict, f"{param}."))
            return Tool(name=name, description=description, custom=True, format=format_, source=source)
        case {"type": str(kind)} if kind not in ("function", "custom"):
            return Opaque(what=kind, source=source)  # run by OpenAI itself (TRAPS T25, T26)
    raise BadRequest(f"'{param}' needs a 'type', and a 'name' where it is a function", param=param)


def _nested_grammar(format_: Json) -> Json:
    """As Chat Completions writes it, which is how a conversation holds it."""
    if isinstance(format_, dict) and format_.get("type") == "grammar":
        return {"type": "grammar", "grammar": {key: value for key, value in format_.items() if key != "type"}}
    return format_


def _read_tool_choice(body: dict[str, Json]) -> ToolChoice | None:
    choice, parallel = body.get("tool_choice"), _optional(body, "parallel_tool_calls", bool)
    source = Source(NAME, choice)
    match choice:
        case "auto" | "none" | "required":
            return ToolChoice(mode=choice, parallel=parallel, source=source)
        case {"type": "function" | "custom", "name": str(name)}:
            return ToolChoice(mode="named", name=name, parallel=parallel, source=source)
        case {"type": "function", "function": {"name": str(name)}}:  # as Chat Completions says it
            return ToolChoice(mode="named", name=name, parallel=parallel)
        case {"type": "allowed_tools", "mode": ("auto" | "required") as mode, "tools": list(tools)}:
            names = tuple(
                tool["name"] for tool in tools if isinstance(tool, dict) and isinstance(tool.get("name"), str)
            )
            return ToolChoice(mode=mode, allowed=names, parallel=parallel, source=source)
        case None | {"type": str()}:  # a tool of OpenAI's own is forced: see _read_owned
            return None if parallel is None else ToolChoice(parallel=parallel)
    raise BadRequest("'tool_choice' must be auto, none, required or name a tool", param="tool_choice")


def _read_sampling(body: dict[str, Json]) -> Sampling:
    values = {
        field: expect(body[key], kinds, key)
        for key, (field, kinds) in SAMPLING_KEYS.items()
        if body.get(key) is not None
    }
    wants_logprobs = LOGPROBS in (_optional(body, "include", list) or ()) or values.get("top_logprobs")
    return Sampling(**values, logprobs=True if wants_logprobs else None)


def _read_reasoning(reasoning: dict[str, Json] | None) -> Reasoning:
    if reasoning is None:
        return Reasoning()
    effort = _optional(reasoning, "effort", str, "reasoning.")
    wants_summary = reasoning.get("summary") or reasoning.get("generate_summary")
    return Reasoning(
        enabled=None if effort is None else effort != "none",
        effort=effort,
        summary=True if wants_summary else None,
        source=Source(NAME, reasoning),
    )


def _read_format(text: dict[str, Json] | None) -> OutputFormat | None:
    format_ = _optional(text, "format", dict, "text.") if text is not None else None
    source = Source(NAME, format_)
    match format_:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return OutputFormat(kind="json_object", source=source)
        case {"type": "json_schema", "schema": dict(schema)}:
            return OutputFormat(
                kind="json_schema",
                schema=schema,
                name=_optional(format_, "name", str, "text.format."),
                description=_optional(format_, "description", str, "text.format."),
                strict=_optional(format_, "strict", bool, "text.format."),
                source=source,
            )
    raise BadRequest("'text.format' must be of type text, json_object or json_schema", param="text.format")


def _read_owned(body: dict[str, Json]) -> dict[str, Json]:
    owned = {
        key: value
        for key, value in body.items()
        if key not in CANONICAL_KEYS and value is not None and NO_OPS.get(key, ...) != value
    }
    if isinstance(body.get("text"), dict) and body["text"].get("verbosity"):
        owned["text.verbosity"] = body["text"]["verbosity"]
    include = [name for name in body.get("include") or () if name not in (LOGPROBS, SIGNATURES)]
    if include:
        owned["include"] = include
    match body.get("tool_choice"):
        case {"type": str(kind)} if kind not in ("function", "custom", "allowed_tools"):
            owned["tool_choice"] = body["tool_choice"]
    return owned


PROTOCOL = OpenAIResponses()
