"""Input items of Responses requests, written from messages."""

from collections.abc import Iterable, Iterator

from llm_interactive import wire_json
from llm_interactive.conversation import (
    Media,
    Message,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from llm_interactive.errors import CannotExpress
from llm_interactive.protocols.base import Json, Notes, Target
from llm_interactive.protocols.foreign_signatures import is_wrapped

NAME = "openai_responses"
VENDORS = ("openai", "openai-responses")
OWNERS_OF_FILES = ("openai_chat", NAME)
"""Both of OpenAI's protocols name the same files."""

MEDIA_TYPES = {"image": "image/png", "document": "application/pdf"}
EXTENSIONS = {"application/pdf": "pdf", "text/plain": "txt", "text/markdown": "md", "text/csv": "csv"}
OUTPUT_OF = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
OUTPUTS = frozenset(OUTPUT_OF.values())
NO_RESULT = "(no result was recorded)"


def write_own_input(messages: Iterable[Message], items: list[Json]) -> list[Json] | None:
    """The client's items without reasoning that the proxy hid in them for other providers; None if there is none."""
    foreign = [_is_foreign_reasoning(item) for item in items]
    if not any(foreign):
        return None
    return [item for item, hidden in zip(items, foreign, strict=True) if not hidden]


def _is_foreign_reasoning(item: Json) -> bool:
    encrypted = item.get("encrypted_content") if isinstance(item, dict) else None
    return isinstance(encrypted, str) and is_wrapped(encrypted)


def write_input(messages: Iterable[Message], target: Target, notes: Notes, *, own: bool) -> list[Json]:
    """`own`: the messages were read by this protocol, so that only the edited ones are written anew."""
    items: list[Json] = []
    for message in messages:
        item = message.read_by(NAME)
        if isinstance(item, dict) and not _is_foreign_reasoning(item):
            items.append(item)
        elif item is None:
            items += _write_message(message, target, notes)
    return items if own else _paired(_followed(items, notes), notes)


def _write_message(message: Message, target: Target, notes: Notes) -> Iterator[Json]:
    """Results stand before what is said beside them (TRAPS T6); the rest keeps its order."""
    said: list[Json] = []
    for part in sorted(message.parts, key=lambda part: not isinstance(part, ToolResult)):
        if isinstance(part, ToolCall | ToolResult | Thinking | Opaque):
            if said:
                yield _message(message, said)
                said = []
            yield from _write_item(part, target, notes)
        elif message.role == "assistant" and isinstance(part, Media):
            if said:
                yield _message(message, said)
                said = []
            yield {"type": "message", "role": "user", "content": [_write_media(part, target)]}
        elif (content := _write_content(part, message.role == "assistant", target)) is not None:
            said.append(content)
    if said:
        yield _message(message, said)


def _message(message: Message, said: list[Json]) -> Json:
    role = "user" if message.role == "tool" else message.role
    only = said[0] if len(said) == 1 else {}
    if role != "assistant" and only.keys() == {"type", "text"}:
        return {"type": "message", "role": role, "content": only["text"]}
    return {"type": "message", "role": role, "content": said}


def _write_content(part: Part, spoken: bool, target: Target) -> Json | None:
    own = part.read_by(NAME)
    if own is not None:
        return own
    match part:
        case Text(text=text):
            if not text:
                return None  # T34
            return {"type": "output_text", "text": text, "annotations": []} if spoken else _input_text(text)
        case Refusal(text=text):
            return {"type": "refusal", "refusal": text} if spoken else _input_text(text)
        case Media():
            return _write_media(part, target)
    return None


def _input_text(text: str) -> Json:
    return {"type": "input_text", "text": text}


def _write_item(part: ToolCall | ToolResult | Thinking | Opaque, target: Target, notes: Notes) -> Iterator[Json]:
    own = part.read_by(NAME)
    if own is not None:
        if not _is_foreign_reasoning(own):
            yield own if "type" in own else {"type": "message", **own}
        return
    match part:
        case ToolCall():
            yield _write_call(part)
        case ToolResult():
            kind = "custom_tool_call_output" if part.custom else "function_call_output"
            yield {"type": kind, "call_id": part.call_id, "output": _write_output(part, target)}
        case Thinking(origin=origin, signature=signature) if origin == NAME and signature:
            summary = [{"type": "summary_text", "text": part.text}] if part.text else []
            yield {"type": "reasoning", "summary": summary, "encrypted_content": signature}  # and no id: T97
        case Thinking():
            notes.add("reasoning of earlier turns: not sent, only the model it came from can read it")
        case Opaque(what=what):
            raise CannotExpress(f"'{what}' content cannot be sent to a Responses backend", param=what)


def _write_call(call: ToolCall) -> Json:
    if call.custom:
        return {"type": "custom_tool_call", "call_id": call.id, "name": call.name, "input": call.arguments}
    arguments = call.arguments if call.arguments.strip() else "{}"  # T1
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}


def _write_output(result: ToolResult, target: Target) -> Json:
    """Text as a string; a list of parts where it holds media (TRAPS T23); `{"error": ...}` for failures (T24)."""
    text = "".join(part.text for part in result.parts if isinstance(part, Text))
    if result.is_error and not text.lstrip().startswith('{"error"'):
        text = wire_json.text({"error": text})
    media = [part for part in result.parts if isinstance(part, Media)]
    opaque = next((part for part in result.parts if isinstance(part, Opaque)), None)
    if opaque is not None and opaque.read_by(NAME) is None:
        raise CannotExpress(
            f"'{opaque.what}' in a tool result cannot be sent to a Responses backend", param=opaque.what
        )
    if not media:
        return text
    return [*([_input_text(text)] if text else []), *(_write_media(part, target) for part in media)]


def _write_media(media: Media, target: Target) -> Json:
    if media.text is not None:
        return _input_text(media.text)
    if media.kind not in MEDIA_TYPES:
        raise CannotExpress(f"{media.kind} cannot be sent to a Responses backend", param=media.kind)
    if media.file_id is not None:
        if media.origin not in OWNERS_OF_FILES or target.vendor not in VENDORS:
            raise CannotExpress("a file id is only known to the provider that holds the file", param="file_id")
        return {"type": "input_image" if media.kind == "image" else "input_file", "file_id": media.file_id}
    if media.url is not None and not media.url.startswith(("http://", "https://")):
        raise CannotExpress(f"{media.url[:40]!r} cannot be read by a Responses backend", param="url")
    media_type = media.media_type or MEDIA_TYPES[media.kind]
    data = f"data:{media_type};base64,{media.data}"
    if media.kind == "image":
        return {"type": "input_image", "image_url": media.url or data, "detail": media.detail or "auto"}
    if media.url is not None:
        return {"type": "input_file", "file_url": media.url}
    name = media.name or f"document.{EXTENSIONS.get(media_type, 'pdf')}"
    return {"type": "input_file", "filename": name, "file_data": data}


def _followed(items: list[Json], notes: Notes) -> list[Json]:
    """Without reasoning that nothing follows: OpenAI refuses it."""
    kept: list[Json] = []
    follows = False
    for item in reversed(items):
        if item["type"] == "reasoning":
            if not follows:
                notes.add("reasoning without the answer it led to: not sent")
                continue
        else:
            spoken = item["type"] == "message" and item["role"] == "assistant"
            follows = spoken or item["type"] in OUTPUT_OF
        kept.append(item)
    return kept[::-1]


def _paired(items: list[Json], notes: Notes) -> list[Json]:
    """Each call has one result after it and no result stands alone: histories that clients cut stay legal (T98)."""
    call_of = _calls_of_results(items)
    answered = set(call_of.values())
    paired: list[Json] = []
    for position, item in enumerate(items):
        kind = item["type"]
        if kind not in OUTPUTS:
            paired.append(item)
        elif position in call_of:
            paired.append({**item, "type": OUTPUT_OF[items[call_of[position]]["type"]]})
        else:
            notes.add("a tool result without its call: sent as the user's words")
            paired.append({"type": "message", "role": "user", "content": item["output"]})
        if kind in OUTPUT_OF and position not in answered:
            notes.add("a tool call without its result: sent with an empty one")
            paired.append({"type": OUTPUT_OF[kind], "call_id": item["call_id"], "output": NO_RESULT})
    return paired


def _calls_of_results(items: list[Json]) -> dict[int, int]:
    """Position of each result -> position of the call before it that it answers."""
    open_calls: dict[str, int] = {}
    found: dict[int, int] = {}
    for position, item in enumerate(items):
        if item["type"] in OUTPUT_OF:
            open_calls[item["call_id"]] = position
        elif item["type"] in OUTPUTS and item["call_id"] in open_calls:
            found[position] = open_calls.pop(item["call_id"])
    return found
