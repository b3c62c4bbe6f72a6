"""Anthropic Messages: `POST /messages` and `/messages/count_tokens`.

Facts: the anthropic SDK's types (those of `beta` too), and what Claude Code was seen to send. Requests are read here;
anthropic_messages_request.py and _history.py write them, _reply.py reads replies, _writer.py writes them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qsl

from llm_interactive import wire_json
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Role,
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
    anthropic_messages_errors,
    anthropic_messages_reply,
    anthropic_messages_request,
    anthropic_messages_writer,
)
from llm_interactive.protocols.anthropic_messages_errors import NAME
from llm_interactive.protocols.anthropic_messages_request import (
    BETA_QUERY,
    CANONICAL_KEYS,
    CAPABILITIES,
    VENDOR_HEADERS,
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
from llm_interactive.protocols.foreign_signatures import unwrap

__all__ = ["CAPABILITIES", "NAME", "PROTOCOL", "AnthropicMessages"]

ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
MODES: Mapping[str, Literal["auto", "none", "required", "named"]] = {
    "auto": "auto",
    "any": "required",
    "tool": "named",
    "none": "none",
}
SAMPLING_KEYS: Mapping[str, tuple[type, ...]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "top_k": (int,),
    "max_tokens": (int,),
}


class AnthropicMessages(Protocol):
    name = NAME
    counts_tokens = True

    def read_request(self, body: dict[str, Json], call: Call) -> Conversation:
        messages = _expect(body.get("messages"), list, "messages")
        return Conversation(
            model=_expect(body.get("model"), str, "model"),
            messages=tuple(_read_message(message, f"messages[{i}]") for i, message in enumerate(messages)),
            system=tuple(_read_content(body.get("system"), "system")),
            tools=tuple(_read_tool(tool, f"tools[{i}]") for i, tool in enumerate(_optional(body, "tools", list) or ())),
            tool_choice=_read_tool_choice(_optional(body, "tool_choice", dict)),
            sampling=_read_sampling(body),
            reasoning=_read_reasoning(body),
            output=_read_output(body),
            stream=bool(body.get("stream")),
            user=_read_user(body),
            owned={key: value for key, value in body.items() if key not in CANONICAL_KEYS},
            client_headers=_vendor_headers(call),
            source=Source(NAME, body),
        )

    def write_request(self, conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
        return anthropic_messages_request.write_request(conversation, target, notes)

    def reply_reader(self, stream: bool) -> ReplyReader:
        return anthropic_messages_reply.StreamReader() if stream else anthropic_messages_reply.WholeReader()

    def reply_writer(self, context: ReplyContext) -> ReplyWriter:
        if context.stream:
            return anthropic_messages_writer.StreamWriter(context)
        return anthropic_messages_writer.WholeWriter(context)

    def write_error(self, error: ProxyError) -> dict[str, Json]:
        return anthropic_messages_errors.write_error(error)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return anthropic_messages_errors.read_error(status, headers, body)

    def write_models(self, models: Sequence[ModelEntry]) -> dict[str, Json]:
        return anthropic_messages_errors.write_models(models)

    def write_model(self, model: ModelEntry) -> dict[str, Json]:
        return anthropic_messages_errors.write_model(model)

    def read_models(self, body: Json) -> list[ModelEntry]:
        return anthropic_messages_errors.read_models(body)

    def models_path(self) -> str:
        return "/models?limit=1000"  # a page has 20 otherwise

    def write_count(self, tokens: int) -> dict[str, Json]:
        return {"input_tokens": tokens}

    def write_count_request(self, conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
        return anthropic_messages_request.write_count_request(conversation, target, notes)

    def read_count(self, body: Json) -> int | None:
        count = body.get("input_tokens") if isinstance(body, dict) else None
        return count if isinstance(count, int) else None

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"x-api-key": key}


def _expect(value: Any, kinds: tuple[type, ...] | type, param: str) -> Any:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise BadRequest(f"'{param}' must be {wanted}, not {type(value).__name__}", param=param)
    return value


def _optional(body: Mapping[str, Json], key: str, kinds: tuple[type, ...] | type) -> Any:
    value = body.get(key)
    return None if value is None else _expect(value, kinds, key)


def _vendor_headers(call: Call) -> dict[str, str]:
    found = {name: call.headers[name] for name in VENDOR_HEADERS if name in call.headers}
    return found | ({BETA_QUERY: "true"} if (BETA_QUERY, "true") in parse_qsl(call.query) else {})


def _read_message(message: Json, param: str) -> Message:
    _expect(message, dict, param)
    role = ROLES.get(role) if isinstance(role := message.get("role"), str) else None
    if role is None:
        raise BadRequest(f"'{param}.role' must be one of {', '.join(ROLES)}", param=f"{param}.role")
    if message.get("content") is None:
        raise BadRequest(f"'{param}.content' is missing", param=f"{param}.content")
    parts = tuple(_read_content(message["content"], f"{param}.content"))
    # what the proxy itself put there must not go back to Anthropic: such a message is written anew
    ours = any(_is_ours(part) for part in parts)
    return Message(role=role, parts=parts, source=None if ours else Source(NAME, message))


def _is_ours(part: Part) -> bool:
    return part.source is None and (isinstance(part, Thinking) or (isinstance(part, Text) and bool(part.text)))


def _read_content(content: Json, param: str) -> Iterator[Part]:
    match content:
        case None | "":
            return
        case str():
            yield Text(text=content, source=Source(NAME, {"type": "text", "text": content}))
        case list():
            for i, block in enumerate(content):
                yield _read_block(block, f"{param}[{i}]")
        case _:
            raise BadRequest(f"'{param}' must be a string or a list of blocks", param=param)


def _read_block(block: Json, param: str) -> Part:
    source = Source(NAME, block)
    match block:
        case str():
            return Text(text=block, source=Source(NAME, {"type": "text", "text": block}))
        case {"type": "text", "text": str(text)}:
            return Text(text=text, source=None if _cites_foreign(block) else source)
        case {"type": "thinking", "thinking": str(text)}:
            return _read_thinking(text, block.get("signature"), source)
        case {"type": "redacted_thinking", "data": str(data)}:
            return Thinking(redacted=data, origin=NAME, source=source)
        case {"type": "tool_use", "id": str(id_), "name": str(name)}:
            return ToolCall(id=id_, name=name, arguments=wire_json.text(block.get("input") or {}), source=source)
        case {"type": "tool_result", "tool_use_id": str(call_id)}:
            parts = tuple(_read_content(block.get("content"), f"{param}.content"))
            return ToolResult(call_id=call_id, parts=parts, is_error=block.get("is_error") is True, source=source)
        case {"type": "image" | "document" as kind, "source": dict(where)}:
            return _read_media(kind, block, where, source)
        case {"type": "search_result", "content": list(found)}:
            return Media(
                kind="document",
                text=_texts(found),
                name=_text(block.get("title")),
                media_type="text/plain",
                source=source,
            )
        case {"type": str(kind)} if kind not in REQUIRED:
            return Opaque(what=kind, source=source)
        case {"type": str(kind)}:
            raise BadRequest(f"'{param}' is no {kind} block: it needs {REQUIRED[kind]}", param=param)
    raise BadRequest(f"'{param}' is no content block: it needs a 'type'", param=param)


REQUIRED: Mapping[str, str] = {
    "text": "a 'text'",
    "thinking": "a 'thinking'",
    "redacted_thinking": "a 'data'",
    "tool_use": "an 'id' and a 'name'",
    "tool_result": "a 'tool_use_id'",
    "image": "a 'source'",
    "document": "a 'source'",
}


def _read_thinking(text: str, signature: Json, source: Source) -> Thinking:
    signature = signature if isinstance(signature, str) else None
    hidden = unwrap(signature) if signature else None
    if hidden is not None:
        return hidden.thinking(text)
    return Thinking(text=text, signature=signature, origin=NAME, source=source)


def _cites_foreign(block: dict[str, Json]) -> bool:
    """Citations that the proxy wrote for another vendor have an empty index, which Anthropic could not resolve."""
    citations = block.get("citations")
    return isinstance(citations, list) and any(
        isinstance(cited, dict) and cited.get("encrypted_index") == "" for cited in citations
    )


def _read_media(kind: Any, block: dict[str, Json], where: dict[str, Json], source: Source) -> Part:
    name = _text(block.get("title"))
    media_type = _text(where.get("media_type"))
    match where:
        case {"type": "base64", "data": str(data)}:
            return Media(kind=kind, media_type=media_type, data=data, name=name, source=source)
        case {"type": "url", "url": str(url)} if url.startswith("data:"):
            head, _, data = url[5:].partition(",")
            return Media(kind=kind, media_type=head.partition(";")[0] or None, data=data, name=name, source=source)
        case {"type": "url", "url": str(url)}:
            return Media(kind=kind, url=url, name=name, source=source)
        case {"type": "file", "file_id": str(file_id)}:
            return Media(kind=kind, file_id=file_id, origin=NAME, name=name, source=source)
        case {"type": "text", "data": str(text)}:
            return Media(kind=kind, text=text, media_type="text/plain", name=name, source=source)
        case {"type": "content", "content": str() | list() as inner} if not _has_pictures(inner):
            return Media(kind=kind, text=_texts(inner), media_type="text/plain", name=name, source=source)
    return Opaque(what=f"{kind} of type {where.get('type')}", source=source)


def _has_pictures(content: Json) -> bool:
    return isinstance(content, list) and any(isinstance(b, dict) and b.get("type") != "text" for b in content)


def _texts(content: Json) -> str:
    if isinstance(content, str):
        return content
    return "".join(_text(block.get("text")) or "" for block in content if isinstance(block, dict))


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _read_tool(tool: Json, param: str) -> Tool | Opaque:
    source = Source(NAME, tool)
    match tool:
        case {"type": str(kind)} if kind != "custom":
            return Opaque(what=kind, source=source)
        case {"name": str(name), "input_schema": dict(schema)}:
            description, strict = _text(tool.get("description")), tool.get("strict")
            strict = strict if isinstance(strict, bool) else None
            return Tool(name=name, description=description, schema=schema, strict=strict, source=source)
    raise BadRequest(f"'{param}' needs a 'name' and an 'input_schema'", param=param)


def _read_tool_choice(choice: dict[str, Json] | None) -> ToolChoice | None:
    if choice is None:
        return None
    mode = MODES.get(kind) if isinstance(kind := choice.get("type"), str) else None
    name = _text(choice.get("name"))
    if mode is None or (mode == "named" and name is None):
        raise BadRequest("'tool_choice.type' must be auto, any, none, or tool with a 'name'", param="tool_choice")
    one = choice.get("disable_parallel_tool_use")
    parallel = not one if isinstance(one, bool) else None
    return ToolChoice(mode=mode, name=name, parallel=parallel, source=Source(NAME, choice))


def _read_sampling(body: dict[str, Json]) -> Sampling:
    values = {key: _expect(body[key], kinds, key) for key, kinds in SAMPLING_KEYS.items() if body.get(key) is not None}
    stops = _optional(body, "stop_sequences", list) or ()
    return Sampling(stop=tuple(_expect(stop, str, "stop_sequences") for stop in stops), **values)


def _read_reasoning(body: dict[str, Json]) -> Reasoning:
    config = _optional(body, "output_config", dict) or {}
    effort = _text(config.get("effort"))
    thinking = _optional(body, "thinking", dict) or {}
    display = thinking.get("display")
    summary = display == "summarized" if isinstance(display, str) else None
    match thinking:
        case {"type": "enabled"}:
            budget = _optional(thinking, "budget_tokens", int)
            return Reasoning(enabled=True, effort=effort, budget=budget, summary=summary)
        case {"type": "adaptive"}:
            return Reasoning(enabled=True, effort=effort, adaptive=True, summary=summary)
        case {"type": "disabled" | "between_tools"}:  # the latter turns thinking off where the former is refused
            return Reasoning(enabled=False, effort=effort)
    return Reasoning(effort=effort)


def _read_output(body: dict[str, Json]) -> OutputFormat | None:
    """`output_format` is the older spelling (TRAPS T49)."""
    config = body.get("output_config")
    format_ = (config.get("format") if isinstance(config, dict) else None) or body.get("output_format")
    match format_:
        case {"type": "json_schema", "schema": dict(schema)}:
            return OutputFormat(kind="json_schema", schema=schema, source=Source(NAME, format_))
    return None


def _read_user(body: dict[str, Json]) -> str | None:
    metadata = _optional(body, "metadata", dict) or {}
    return _text(metadata.get("user_id"))


PROTOCOL = AnthropicMessages()
