"""Chat Completions requests written: what came in this protocol goes on as it came, the rest is built from meaning."""

import hashlib
import re
from collections.abc import Iterable, Mapping

from llm_interactive import wire_json
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_interactive.errors import CannotExpress
from llm_interactive.protocols.base import Json, Notes, Target, WireRequest
from llm_interactive.protocols.efforts import with_forced_tool, with_stream_limits
from llm_interactive.protocols.openai_chat_config import (
    FIELD_KEYS,
    NAME,
    misfits,
    write_output,
    write_reasoning,
    write_sampling,
)

VENDOR_HEADERS = ("openai-organization", "openai-project", "openai-beta", "http-referer", "x-title")

CAPABILITIES: Mapping[str, str] = {
    "system": "carried",
    "mid_system": "carried",
    "images": "carried where the model sees, else noted",
    "image_url": "carried",
    "pdf": "carried (`file` part)",
    "audio": "carried (wav, mp3)",
    "video": "mapped: `video_url` part",
    "file_id": "refused unless it is OpenAI's own",
    "tools": "carried",
    "custom_tools": "carried",
    "server_tools": "noted beside functions, refused alone or when forced",
    "tool_choice": "carried, as in Anthropic Messages where a model cannot be forced",
    "parallel_tool_calls": "carried",
    "tool_result_images": "mapped: a user message after the results",
    "tool_result_error": 'mapped: `{"error": ...}` as the result',
    "structured_output": "carried",
    "stop": "carried, the first 4",
    "max_tokens": "carried",
    "temperature": "carried, noted where the model refuses it",
    "top_p": "carried, noted where the model refuses it",
    "top_k": "noted on OpenAI, carried elsewhere",
    "seed": "carried",
    "penalties": "carried",
    "n": "carried",
    "logprobs": "carried",
    "logit_bias": "carried",
    "reasoning_effort": "carried in the service's own words",
    "reasoning_budget": "carried to Qwen and OpenRouter, mapped: effort by size of the budget",
    "reasoning_signatures": "remembered by tool-call id and given back to their owner",
    "citations": "noted in history",
    "refusal": "carried",
    "user": "carried",
    "metadata": "carried",
    "service_tier": "noted",
    "stored_state": "refused",
    "prompt_cache_marks": "noted",
}

SENDS_REASONING_BACK: Mapping[str, str] = {
    "deepseek": "reasoning_content",
    "moonshot": "reasoning_content",
    "zai": "reasoning_content",
    "qwen": "reasoning_content",
    "openrouter": "reasoning",
}
"""Services that want the reasoning of earlier turns back, and the key they read it from (TRAPS T57)."""

NO_RESULT = "(no result was recorded)"


def write_request(conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
    own = conversation.read_by(NAME)
    conversation = with_stream_limits(with_forced_tool(conversation, target, notes), target, notes)
    names: dict[str, str] = {}
    if own is not None:
        body = dict(own)
        fields: Iterable[str] = conversation.changed | misfits(body, conversation, target)
    else:
        body, fields = {}, FIELD_KEYS
        names = _short_names(conversation)
        _note_foreign(conversation, notes)
    for field in fields:
        for key in FIELD_KEYS[field]:
            body.pop(key, None)
        body |= _WRITERS[field](conversation, target, notes)
    body["model"] = target.model
    if conversation.stream:
        body["stream"] = True
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    headers = conversation.client_headers if own is not None else {}
    if names:
        _rename_tools(body, names)
    return WireRequest(
        path="/chat/completions",
        body={"model": body.pop("model"), **body} if own is None else body,
        headers=headers,
        tool_names={short: name for name, short in names.items()},
    )


def _note_foreign(conversation: Conversation, notes: Notes) -> None:
    for key in conversation.owned:
        notes.add(
            f"{key}: not sent, it belongs to {conversation.source.protocol if conversation.source else 'another'}"
        )


def _write_messages(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    if conversation.read_by(NAME) is not None:
        return {"messages": [m.read_by(NAME) or _write_turn(m.role, [m], target, notes) for m in conversation.messages]}
    written: list[Json] = []
    if system := "\n\n".join(_texts(conversation.system)):
        written.append({"role": "system", "content": system})
    for role, turn in _turns(conversation.messages):
        if role == "user":
            written += _write_user(turn, target, notes)
        else:
            written.append(_write_turn(role, turn, target, notes))
    return {"messages": _paired(written, notes)}


def _texts(parts: Iterable[Part]) -> list[str]:
    return [part.text for part in parts if isinstance(part, Text) and part.text]


def _turns(messages: Iterable[Message]) -> list[tuple[str, list[Message]]]:
    """Consecutive messages of one side together: an assistant turn can be many items elsewhere (Responses)."""
    turns: list[tuple[str, list[Message]]] = []
    for message in messages:
        role = "user" if message.role == "tool" else message.role
        if turns and turns[-1][0] == role and role in ("assistant", "user"):
            turns[-1][1].append(message)
        else:
            turns.append((role, [message]))
    return turns


def _write_user(turn: list[Message], target: Target, notes: Notes) -> list[Json]:
    """Results first, each a message of its own; then what the user said; pictures out of results go there too (T23)."""
    written: list[Json] = []
    said: list[Json] = []
    for message in turn:
        for part in message.parts:
            if isinstance(part, ToolResult):
                written.append({"role": "tool", "tool_call_id": part.call_id, "content": _result_text(part)})
                pictures = [p for p in part.parts if isinstance(p, Media) and p.text is None]
                if pictures:
                    said.append({"type": "text", "text": f"From the result of tool call {part.call_id}:"})
                    said += [_write_media(picture, notes) for picture in pictures]
            elif (content := _write_part(part, notes)) is not None:
                said.append(content)
    if said:
        plain = len(said) == 1 and said[0]["type"] == "text"
        written.append({"role": "user", "content": said[0]["text"] if plain else said})
    return written


def _result_text(result: ToolResult) -> str:
    text = "".join(
        part.text or "" for part in result.parts if isinstance(part, Text) or (isinstance(part, Media) and part.text)
    )
    if result.is_error and not text.lstrip().startswith('{"error"'):
        return wire_json.text({"error": text})
    return text


def _write_turn(role: str, turn: list[Message], target: Target, notes: Notes) -> Json:
    parts = [part for message in turn for part in message.parts]
    if role == "tool":
        result = next(part for part in parts if isinstance(part, ToolResult))
        return {"role": "tool", "tool_call_id": result.call_id, "content": _result_text(result)}
    if role != "assistant":
        content = [each for part in parts if (each := _write_part(part, notes)) is not None]
        plain = len(content) == 1 and content[0]["type"] == "text"
        return {"role": role, "content": content[0]["text"] if plain else content}
    text = "".join(part.text for part in parts if isinstance(part, Text))
    refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
    calls = [_write_call(part) for part in parts if isinstance(part, ToolCall)]
    written: dict[str, Json] = {"role": "assistant", "content": text or (None if calls or refusal else "")}
    if refusal:
        written["refusal"] = refusal
    if calls:
        written["tool_calls"] = calls
    thinking = "".join(part.text for part in parts if isinstance(part, Thinking))
    if thinking and target.vendor in SENDS_REASONING_BACK:
        written[SENDS_REASONING_BACK[target.vendor]] = thinking
    elif any(isinstance(part, Thinking) for part in parts):
        notes.add("reasoning of earlier turns: not sent, the protocol has no place for it")
    for part in parts:
        if isinstance(part, Opaque):
            notes.add(f"{part.what} in history: not sent, only its own protocol can say it")
    return written


def _write_part(part: Part, notes: Notes) -> Json | None:
    own = part.read_by(NAME)
    if own is not None:
        return own if isinstance(own, dict) else {"type": "text", "text": own}
    match part:
        case Text(text=text):
            return {"type": "text", "text": text} if text else None
        case Refusal(text=text):
            return {"type": "text", "text": text}
        case Media():
            return _write_media(part, notes)
        case Opaque(what=what):
            raise CannotExpress(f"'{what}' content cannot be sent to a Chat Completions backend", param=what)
    return None


def _write_media(media: Media, notes: Notes) -> Json:
    if media.text is not None:
        return {"type": "text", "text": media.text}
    if media.file_id is not None:
        raise CannotExpress("a file id is only known to the provider that holds the file", param="file_id")
    url = media.url or f"data:{media.media_type or DEFAULT_TYPES[media.kind]};base64,{media.data}"
    match media.kind:
        case "image":
            detail = {"detail": media.detail} if media.detail else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case "video":
            return {"type": "video_url", "video_url": {"url": url}}
        case "audio":
            format_ = (media.media_type or "audio/wav").partition("/")[2]
            return {"type": "input_audio", "input_audio": {"data": media.data, "format": AUDIO.get(format_, format_)}}
    return {"type": "file", "file": {"filename": media.name or "document.pdf", "file_data": url}}


DEFAULT_TYPES = {"image": "image/png", "document": "application/pdf", "audio": "audio/wav", "video": "video/mp4"}
AUDIO = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}


def _write_call(call: ToolCall) -> Json:
    own = call.read_by(NAME)
    if own is not None:
        return own
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    arguments = call.arguments if call.arguments.strip() else "{}"
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _paired(written: list[Json], notes: Notes) -> list[Json]:
    """Each call gets its result right after it and no result stands alone: histories that clients cut stay legal."""
    paired: list[Json] = []
    open_calls: list[str] = []
    for message in written:
        if message["role"] == "tool":
            if message["tool_call_id"] in open_calls:
                open_calls.remove(message["tool_call_id"])
                paired.append(message)
            else:
                notes.add("a tool result without its call: sent as the user's words")
                paired.append({"role": "user", "content": message["content"]})
            continue
        paired += _stand_ins(open_calls, notes)
        open_calls = [call["id"] for call in message.get("tool_calls") or ()]
        paired.append(message)
    return paired + _stand_ins(open_calls, notes)


def _stand_ins(open_calls: list[str], notes: Notes) -> list[Json]:
    if open_calls:
        notes.add("a tool call without its result: sent with an empty one")
    return [{"role": "tool", "tool_call_id": id_, "content": NO_RESULT} for id_ in open_calls]


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
        raise CannotExpress(f"the tool {_opaque_name(conversation)} is run by its own provider only", param="tools")
    return {"tools": tools} if tools else {}


def _opaque_name(conversation: Conversation) -> str:
    return ", ".join(tool.what for tool in conversation.tools if isinstance(tool, Opaque))


def _write_tool(tool: Tool) -> Json:
    described = {"description": tool.description} if tool.description is not None else {}
    if tool.custom:
        format_ = {"format": tool.format} if tool.format is not None else {}
        return {"type": "custom", "custom": {"name": tool.name, **described, **format_}}
    function: dict[str, Json] = {"name": tool.name, **described}
    function["parameters"] = dict(tool.schema) if tool.schema else {"type": "object", "properties": {}}
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _write_tool_choice(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    choice = conversation.tool_choice
    if choice is None or not conversation.tools:
        return {}
    written: dict[str, Json] = {}
    if choice.mode is not None:
        own = choice.read_by(NAME)
        written["tool_choice"] = own if own is not None else _choice(choice)
    if choice.parallel is not None:
        written["parallel_tool_calls"] = choice.parallel
    return written


def _choice(choice: ToolChoice) -> Json:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    if choice.allowed:
        tools = [{"type": "function", "function": {"name": name}} for name in choice.allowed]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tools}}
    return choice.mode


def _write_user_name(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    return {"user": conversation.user} if conversation.user else {}


def _write_metadata(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    if not conversation.metadata:
        return {}
    if target.vendor != "openai":
        notes.add("metadata: not sent, it belongs to OpenAI")
        return {}
    return {"metadata": dict(conversation.metadata)}


def _nothing(conversation: Conversation, target: Target, notes: Notes) -> dict[str, Json]:
    return {}


_WRITERS = {
    "model": _nothing,
    "messages": _write_messages,
    "system": _nothing,
    "tools": _write_tools,
    "tool_choice": _write_tool_choice,
    "sampling": write_sampling,
    "reasoning": write_reasoning,
    "output": write_output,
    "stream": _nothing,  # set for every request, see write_request
    "user": _write_user_name,
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
    return {name: short_name(name) for name in names if short_name(name) != name}


def _rename_tools(body: dict[str, Json], names: Mapping[str, str]) -> None:
    """In the freshly built body (never in what a client sent)."""
    holders = [tool.get("function") or tool.get("custom") for tool in body.get("tools") or ()]
    for message in body["messages"]:
        holders += [call.get("function") or call.get("custom") for call in message.get("tool_calls") or ()]
    match body.get("tool_choice"):
        case {"function": dict(function)}:
            body["tool_choice"] = {"type": "function", "function": (chosen := dict(function))}
            holders.append(chosen)
        case {"allowed_tools": {"tools": list(tools)}}:
            holders += [tool["function"] for tool in tools]
    for holder in holders:
        holder["name"] = names.get(holder["name"], holder["name"])
