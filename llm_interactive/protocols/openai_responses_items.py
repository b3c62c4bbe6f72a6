"""Input items of Responses requests, read: each becomes one message, what only OpenAI understands stays opaque."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from llm_interactive import wire_json
from llm_interactive.conversation import (
    Media,
    Message,
    Opaque,
    Part,
    Refusal,
    Role,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from llm_interactive.errors import BadRequest
from llm_interactive.protocols.base import Json
from llm_interactive.protocols.foreign_signatures import Hidden, unwrap

NAME = "openai_responses"

ROLES: Mapping[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "user",
    "critic": "user",
    "discriminator": "user",
}

CLIENTS_ITEMS = frozenset(
    [
        "additional_tools",
        "apply_patch_call_output",
        "compaction_trigger",
        "computer_call_output",
        "configuration_update",
        "local_shell_call_output",
        "mcp_approval_response",
        "shell_call_output",
        "tool_search_output",
    ]
)
"""Opaque items that come from the client; the others are the model's or the provider's."""


def expect(value: Any, kinds: tuple[type, ...] | type, param: str) -> Any:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise BadRequest(f"'{param}' must be {wanted}, not {type(value).__name__}", param=param)
    return value


def read_input(value: str | list[Json]) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message(role="user", parts=(Text(text=value),) if value else ()),)
    signatures: dict[str, str] = {}
    return tuple(_read_item(item, f"input[{i}]", signatures) for i, item in enumerate(value))


def _read_item(item: Json, param: str, signatures: dict[str, str]) -> Message:
    expect(item, dict, param)
    source = Source(NAME, item)
    match item.get("type"):
        case "message" | None:
            return _read_message(item, param)
        case "function_call" | "custom_tool_call":
            call = _read_call(item, param)
            return Message(role="assistant", parts=(replace(call, signature=signatures.get(call.id)),), source=source)
        case "function_call_output" | "custom_tool_call_output":
            return Message(role="tool", parts=(_read_result(item, param),), source=source)
        case "reasoning":
            return _read_reasoning(item, param, signatures)
        case str(kind):
            role: Role = "user" if kind in CLIENTS_ITEMS else "assistant"
            return Message(role=role, parts=(Opaque(what=kind, source=source),), source=source)
    raise BadRequest(f"'{param}.type' must be str", param=f"{param}.type")


def _read_message(item: dict[str, Json], param: str) -> Message:
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise BadRequest(f"'{param}.role' must be one of {', '.join(ROLES)}, not {role!r}", param=f"{param}.role")
    parts = _read_content(item.get("content"), f"{param}.content")
    return Message(role=ROLES[role], parts=parts, source=Source(NAME, item))


def _read_content(content: Json, param: str) -> tuple[Part, ...]:
    match content:
        case None | "":
            return ()
        case str():
            return (Text(text=content),)
        case list():
            return tuple(_read_part(part, f"{param}[{i}]") for i, part in enumerate(content))
    raise BadRequest(f"'{param}' must be a string or a list of parts", param=param)


def _read_part(part: Json, param: str) -> Part:
    if isinstance(part, str):
        return Text(text=part)
    source = Source(NAME, expect(part, dict, param))
    match part:
        case {"type": "input_text" | "output_text" | "text" | "summary_text", "text": str(text)}:
            return Text(text=text, source=source)
        case {"type": "refusal", "refusal": str(text)}:
            return Refusal(text=text, source=source)
        case {"type": "input_image"}:
            return _read_image(part, param, source)
        case {"type": "input_file"}:
            return _read_file(part, param, source)
        case {"type": "input_audio", "input_audio": {"data": str(data)} as audio}:
            return Media(kind="audio", data=data, media_type=f"audio/{audio.get('format', 'wav')}", source=source)
        case {"type": str(kind)} if kind not in ("input_text", "output_text", "text"):
            return Opaque(what=kind, source=source)
    raise BadRequest(f"'{param}' is no content part: it needs a 'type' and what belongs to it", param=param)


def _read_image(part: dict[str, Json], param: str, source: Source) -> Media:
    match part:
        case {"image_url": str(url)} | {"image_url": {"url": str(url)}}:
            media = media_of_url("image", url, source)
            return replace(media, detail=_word(part.get("detail")))
        case {"file_id": str(file_id)}:
            return Media(kind="image", file_id=file_id, origin=NAME, detail=_word(part.get("detail")), source=source)
    raise BadRequest(f"'{param}' needs an 'image_url' or a 'file_id'", param=param)


def _read_file(part: dict[str, Json], param: str, source: Source) -> Media:
    name = _word(part.get("filename"))
    match part:
        case {"file_data": str(data)}:
            return replace(media_of_url("document", data, source), name=name)
        case {"file_url": str(url)}:
            return replace(media_of_url("document", url, source), name=name)
        case {"file_id": str(file_id)}:
            return Media(kind="document", file_id=file_id, origin=NAME, name=name, source=source)
    raise BadRequest(f"'{param}' needs 'file_data', 'file_url' or a 'file_id'", param=param)


def media_of_url(kind: Literal["image", "document"], url: str, source: Source | None) -> Media:
    """A data URI, a URL, or (some clients) bare base64."""
    if url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        media_type = head.partition(";")[0] or None
        if kind == "document" and media_type is not None and media_type.startswith("image/"):
            kind = "image"
        return Media(kind=kind, media_type=media_type, data=data, source=source)
    if "://" in url[:12]:
        return Media(kind=kind, url=url, source=source)
    return Media(kind=kind, data=url, source=source)


def _word(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _read_call(item: dict[str, Json], param: str) -> ToolCall:
    custom = item["type"] == "custom_tool_call"
    said = item.get("input" if custom else "arguments")
    return ToolCall(
        id=str(item.get("call_id") or item.get("id") or ""),
        name=expect(item.get("name"), str, f"{param}.name"),
        arguments=said if isinstance(said, str) else wire_json.text({} if said is None else said),
        custom=custom,
        source=Source(NAME, item),
    )


def _read_result(item: dict[str, Json], param: str) -> ToolResult:
    output = item.get("output")
    if isinstance(output, (dict, int, float)):  # some clients leave the result's JSON as it is
        output = wire_json.text(output)
    return ToolResult(
        call_id=expect(item.get("call_id"), str, f"{param}.call_id"),
        parts=_read_content(output, f"{param}.output"),
        name=_word(item.get("name")),
        custom=item["type"] == "custom_tool_call_output",
        source=Source(NAME, item),
    )


def _read_reasoning(item: dict[str, Json], param: str, signatures: dict[str, str]) -> Message:
    source = Source(NAME, item)
    texts = [*_texts(item.get("summary")), *_texts(item.get("content"))]
    text = "\n\n".join(texts)
    encrypted = item.get("encrypted_content")
    encrypted = encrypted if isinstance(encrypted, str) and encrypted else None
    hidden = unwrap(encrypted) if encrypted is not None else None
    if hidden is not None and hidden.call_id is not None and hidden.signature is not None:
        signatures[hidden.call_id] = hidden.signature
        return Message(role="assistant", parts=(), source=source)
    hidden = hidden or Hidden(NAME, encrypted, None, _word(item.get("id")))
    thinking = Thinking(
        text=text,
        signature=hidden.signature,
        redacted=hidden.redacted,
        origin=hidden.origin,
        item_id=hidden.item_id,
        source=source,
    )
    return Message(role="assistant", parts=(thinking,), source=source)


def _texts(parts: Json) -> list[str]:
    return [
        part["text"]
        for part in (parts if isinstance(parts, list) else ())
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
