"""OpenAI Chat Completions, as spoken by OpenAI and by the many services compatible with it.

Facts: the openai SDK's types; extensions of compatible services as they were recorded (`reasoning_content`,
`reasoning`, Mistral's content parts, Gemini's `extra_content`). Requests are read here; openai_chat_request.py writes
them, openai_chat_reply.py reads replies, openai_chat_writer.py writes them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_interactive import wire_json
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Sampling,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_interactive.errors import BadRequest, ProxyError, UpstreamError
from llm_interactive.protocols import (
    openai_chat_reply,
    openai_chat_request,
    openai_chat_writer,
    openai_errors,
    openai_models,
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
from llm_interactive.protocols.openai_chat_config import CANONICAL_KEYS, NAME
from llm_interactive.protocols.openai_chat_request import CAPABILITIES, VENDOR_HEADERS

__all__ = ["CAPABILITIES", "NAME", "PROTOCOL", "OpenAIChat"]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

SAMPLING_KEYS = {
    "temperature": (int, float),
    "top_p": (int, float),
    "top_k": (int,),
    "seed": (int,),
    "frequency_penalty": (int, float),
    "presence_penalty": (int, float),
    "n": (int,),
    "logprobs": (bool,),
    "top_logprobs": (int,),
    "logit_bias": (dict,),
}


def _expect(value: Any, kinds: tuple[type, ...] | type, param: str) -> Any:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise BadRequest(f"'{param}' must be {wanted}, not {type(value).__name__}", param=param)
    return value


class OpenAIChat(Protocol):
    name = NAME

    def read_request(self, body: dict[str, Json], call: Call) -> Conversation:
        messages = _expect(body.get("messages"), list, "messages")
        format_ = body.get("response_format")
        return Conversation(
            model=_expect(body.get("model"), str, "model"),
            messages=tuple(_read_message(message, f"messages[{i}]") for i, message in enumerate(messages)),
            tools=tuple(_read_tool(tool, f"tools[{i}]") for i, tool in enumerate(_list(body, "tools"))),
            tool_choice=_read_tool_choice(body),
            sampling=_read_sampling(body),
            reasoning=_read_reasoning(body),
            output=_read_format(_expect(format_, dict, "response_format")) if format_ is not None else None,
            stream=bool(body.get("stream")),
            include_usage=bool((_optional(body, "stream_options", dict) or {}).get("include_usage")),
            user=_optional(body, "safety_identifier", str) or _optional(body, "user", str),
            metadata=body.get("metadata"),
            owned={key: value for key, value in body.items() if key not in CANONICAL_KEYS},
            client_headers={name: call.headers[name] for name in VENDOR_HEADERS if name in call.headers},
            source=Source(NAME, body),
        )

    def write_request(self, conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
        return openai_chat_request.write_request(conversation, target, notes)

    def reply_reader(self, stream: bool) -> ReplyReader:
        return openai_chat_reply.StreamReader() if stream else openai_chat_reply.WholeReader()

    def reply_writer(self, context: ReplyContext) -> ReplyWriter:
        return openai_chat_writer.StreamWriter(context) if context.stream else openai_chat_writer.WholeWriter(context)

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
        return {"object": "token_count", "input_tokens": tokens}

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {key}"}


def _list(body: dict[str, Json], key: str) -> list[Json]:
    value = body.get(key)
    return [] if value is None else list(_expect(value, list, key))


def _optional(holder: dict[str, Json], key: str, kind: type, inside: str = "") -> Any:
    value = holder.get(key)
    return None if value is None else _expect(value, kind, f"{inside}.{key}" if inside else key)


def _read_message(message: Json, param: str) -> Message:
    _expect(message, dict, param)
    role, name = message.get("role"), _optional(message, "name", str, param)
    if role not in ROLES:
        raise BadRequest(f"'{param}.role' must be one of {', '.join(ROLES)}, not {role!r}", param=f"{param}.role")
    parts = list(_read_content(message.get("content"), f"{param}.content"))
    if role in ("tool", "function"):
        call_id = _optional(message, "tool_call_id", str, param) or name or ""
        result = ToolResult(call_id=call_id, parts=tuple(parts), name=name)
        return Message(role="tool", parts=(result,), source=Source(NAME, message))
    if role == "assistant":
        parts = [*_read_thinking(message), *parts, *_read_calls(message, param)]
        if refusal := _optional(message, "refusal", str, param):
            parts.append(Refusal(text=refusal))
        if message.get("audio"):
            parts.append(Opaque(what="audio", source=Source(NAME, message["audio"])))
    return Message(role=role, parts=tuple(parts), name=name, source=Source(NAME, message))


def _read_content(content: Json, param: str) -> list[Part]:
    match content:
        case None | "":
            return []
        case str():
            return [Text(text=content)]
        case list():
            return [_read_part(part, f"{param}[{i}]") for i, part in enumerate(content)]
    raise BadRequest(f"'{param}' must be a string or a list of parts", param=param)


def _read_part(part: Json, param: str) -> Part:
    source = Source(NAME, part)
    match part:
        case str():
            return Text(text=part, source=source)
        case {"type": "text" | "input_text" | "output_text", "text": str(text)}:
            return Text(text=text, source=source)
        case {"type": "refusal", "refusal": str(text)}:
            return Refusal(text=text, source=source)
        case {"type": "image_url", "image_url": {"url": str(url)} as image}:
            return _media("image", url, source, detail=image.get("detail"))
        case {"type": "image_url", "image_url": str(url)}:
            return _media("image", url, source)
        case {"type": "video_url", "video_url": {"url": str(url)}}:
            return _media("video", url, source)
        case {"type": "input_audio", "input_audio": {"data": str(data)} as audio}:
            return Media(kind="audio", data=data, media_type=f"audio/{audio.get('format', 'wav')}", source=source)
        case {"type": "file", "file": {"file_data": str(data)} as file}:
            return _media("document", data, source, name=file.get("filename"))
        case {"type": "file", "file": {"file_id": str(file_id)}}:
            return Media(kind="document", file_id=file_id, origin=NAME, source=source)
        case {"type": "thinking", "thinking": thinking}:
            return Thinking(text=openai_chat_reply.thinking_text(thinking), origin=NAME, source=source)
        case {"type": "tool_use" | "tool_result"}:
            return _read_anthropic_block(part, source)
        case {"type": str(kind)}:
            return Opaque(what=kind, source=source)
    raise BadRequest(f"'{param}' is no content part: it needs a 'type'", param=param)


def _read_anthropic_block(part: dict[str, Json], source: Source) -> Part:
    """Some agents send Anthropic's tool blocks to this endpoint (TRAPS T9)."""
    if part["type"] == "tool_use":
        arguments = wire_json.text(part.get("input") or {})
        return ToolCall(id=str(part.get("id") or ""), name=str(part.get("name") or ""), arguments=arguments)
    content = _read_content(part.get("content"), "content")
    return ToolResult(
        call_id=str(part.get("tool_use_id") or ""), parts=tuple(content), is_error=bool(part.get("is_error"))
    )


def _media(kind: Any, url: str, source: Source, *, detail: str | None = None, name: str | None = None) -> Media:
    if url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        media_type = head.partition(";")[0] or None
        if kind == "document" and media_type and media_type.startswith("image/"):
            kind = "image"
        return Media(kind=kind, media_type=media_type, data=data, detail=detail, name=name, source=source)
    if url.startswith(("http://", "https://", "gs://", "s3://")):
        return Media(kind=kind, url=url, detail=detail, name=name, source=source)
    return Media(kind=kind, data=url, detail=detail, name=name, source=source)


def _read_thinking(message: dict[str, Json]) -> list[Part]:
    details = message.get("reasoning_details")
    if isinstance(details, list) and details:
        return [part for detail in details if (part := openai_chat_reply.read_reasoning_detail(detail)) is not None]
    text = message.get("reasoning_content") or message.get("reasoning")
    return [Thinking(text=text, origin=NAME)] if isinstance(text, str) and text else []


def _read_calls(message: dict[str, Json], param: str) -> list[Part]:
    calls = message.get("tool_calls")
    found = [
        _read_call(call, f"{param}.tool_calls[{i}]")
        for i, call in enumerate(_expect(calls, list, f"{param}.tool_calls") if calls is not None else ())
    ]
    match message.get("function_call"):
        case {"name": str(name), "arguments": str(arguments)}:
            found.append(ToolCall(id=name, name=name, arguments=arguments))
    return found


def _read_call(call: Json, param: str) -> Part:
    source = Source(NAME, call)
    match call:
        case {"custom": {"name": str(name), "input": str(text)}, "id": str(id_)}:
            return ToolCall(id=id_, name=name, arguments=text, custom=True, source=source)
        case {"function": {"name": str(name)} as function}:
            arguments = function.get("arguments")
            text = arguments if isinstance(arguments, str) else wire_json.text(arguments or {})
            return ToolCall(
                id=str(call.get("id") or name),
                name=name,
                arguments=text,
                signature=openai_chat_reply.read_signature(call),
                source=source,
            )
    raise BadRequest(f"'{param}' needs a 'function' with a 'name'", param=param)


def _read_tool(tool: Json, param: str) -> Tool | Opaque:
    source = Source(NAME, tool)
    match tool:
        case {"type": "custom", "custom": {"name": str(name)} as custom}:
            description, format_ = _optional(custom, "description", str, param), custom.get("format")
            return Tool(name=name, description=description, custom=True, format=format_, source=source)
        case {"function": {"name": str(name)} as function}:
            return Tool(
                name=name,
                description=_optional(function, "description", str, param),
                schema=_optional(function, "parameters", dict, param),
                strict=function.get("strict"),
                source=source,
            )
        case {"name": str(name), "input_schema": dict(schema)}:  # Anthropic's shape (T9)
            return Tool(name=name, description=_optional(tool, "description", str, param), schema=schema)
        case {"type": str(kind)} if kind != "function":
            return Opaque(what=kind, source=source)
    raise BadRequest(f"'{param}' needs a 'function' with a 'name'", param=param)


def _read_tool_choice(body: dict[str, Json]) -> ToolChoice | None:
    choice, parallel = body.get("tool_choice"), body.get("parallel_tool_calls")
    parallel = parallel if isinstance(parallel, bool) else None
    source = Source(NAME, choice)
    match choice:
        case None:
            return None if parallel is None else ToolChoice(parallel=parallel)
        case "auto" | "none" | "required":
            return ToolChoice(mode=choice, parallel=parallel, source=source)
        case {"type": "function", "function": {"name": str(name)}} | {"type": "custom", "custom": {"name": str(name)}}:
            return ToolChoice(mode="named", name=name, parallel=parallel, source=source)
        case {"type": "allowed_tools", "allowed_tools": {"mode": ("auto" | "required") as mode, "tools": list(tools)}}:
            names = tuple(tool["function"]["name"] for tool in tools if isinstance(tool, dict) and "function" in tool)
            return ToolChoice(mode=mode, allowed=names, parallel=parallel, source=source)
        case {"type": ("auto" | "none" | "required") as mode}:
            return ToolChoice(mode=mode, parallel=parallel, source=source)
    raise BadRequest("'tool_choice' must be auto, none, required or name a function", param="tool_choice")


def _read_sampling(body: dict[str, Json]) -> Sampling:
    values = {key: _expect(body[key], kinds, key) for key, kinds in SAMPLING_KEYS.items() if body.get(key) is not None}
    stop = body.get("stop")
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else _expect(stop, list, "stop")
        values["stop"] = tuple(_expect(text, str, "stop") for text in stops)
    for key in ("max_completion_tokens", "max_tokens"):
        if body.get(key) is not None:
            values["max_tokens"] = _expect(body[key], int, key)
            break
    return Sampling(**values)


def _read_reasoning(body: dict[str, Json]) -> Reasoning:
    effort = body.get("reasoning_effort")
    match body:
        case {"reasoning": dict(reasoning)} if reasoning:  # OpenRouter
            effort = reasoning.get("effort", effort)
            enabled = reasoning.get("enabled", effort != "none" if effort or reasoning.get("max_tokens") else None)
            exclude = reasoning.get("exclude")
            return Reasoning(
                enabled=enabled,
                effort=effort,
                budget=reasoning.get("max_tokens"),
                summary=None if exclude is None else not exclude,
            )
        case {"thinking": {"type": str(kind)} as thinking}:  # Z.ai, DeepSeek, Moonshot
            return Reasoning(enabled=kind != "disabled", effort=effort, budget=thinking.get("budget_tokens"))
        case {"enable_thinking": bool(enabled)}:  # Qwen
            return Reasoning(enabled=enabled, effort=effort, budget=body.get("thinking_budget"))
        case {"chat_template_kwargs": {"enable_thinking": bool(enabled)}}:  # vLLM, SGLang
            return Reasoning(enabled=enabled, effort=effort)
    return Reasoning(enabled=effort != "none" if isinstance(effort, str) else None, effort=effort)


def _read_format(format_: dict[str, Json]) -> OutputFormat | None:
    source = Source(NAME, format_)
    match format_:
        case {"type": "json_schema", "json_schema": dict(wrapped)}:
            return OutputFormat(
                kind="json_schema",
                schema=_optional(wrapped, "schema", dict, "response_format"),
                name=_optional(wrapped, "name", str, "response_format"),
                description=_optional(wrapped, "description", str, "response_format"),
                strict=wrapped.get("strict"),
                source=source,
            )
        case {"type": ("text" | "json_object") as kind}:
            return OutputFormat(kind=kind, source=source)
    return OutputFormat(kind="text", source=source)


PROTOCOL = OpenAIChat()
