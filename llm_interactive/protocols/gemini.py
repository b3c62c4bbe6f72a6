"""Gemini's generateContent: `POST /models/{model}:generateContent`, `:streamGenerateContent`, `:countTokens`.

Facts: the google-genai SDK's types and recorded exchanges. Model and stream are in the path; keys are taken in
camelCase and in snake_case, and one thing where a list of things is meant. Requests are read here; gemini_request.py
writes them, gemini_reply.py and gemini_writer.py read and write replies, gemini_schema.py has the schema dialect.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, Literal

from llm_interactive import wire_json
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
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
from llm_interactive.protocols import gemini_errors, gemini_reply, gemini_request, gemini_writer
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
from llm_interactive.protocols.foreign_signatures import standard_base64, unwrap
from llm_interactive.protocols.gemini_contents import media_kind, type_of_url
from llm_interactive.protocols.gemini_errors import NAME
from llm_interactive.protocols.gemini_request import CAPABILITIES, VENDOR_HEADERS
from llm_interactive.protocols.gemini_schema import camel, to_json_schema

__all__ = ["CAPABILITIES", "NAME", "PROTOCOL", "Gemini"]

ROLES: Mapping[str, Literal["user", "assistant"]] = {"user": "user", "model": "assistant", "function": "user"}
MODES: Mapping[str, Literal["auto", "none", "required"]] = {
    "AUTO": "auto",
    "VALIDATED": "auto",
    "ANY": "required",
    "NONE": "none",
}
SAMPLING_KEYS: Mapping[str, tuple[str, type]] = {
    "temperature": ("temperature", float),
    "topP": ("top_p", float),
    "topK": ("top_k", int),
    "maxOutputTokens": ("max_tokens", int),
    "candidateCount": ("n", int),
    "seed": ("seed", int),
    "presencePenalty": ("presence_penalty", float),
    "frequencyPenalty": ("frequency_penalty", float),
    "logprobs": ("top_logprobs", int),
}
CONTENT_KEYS = ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig")
CANONICAL_CONFIG = {
    *SAMPLING_KEYS,
    *("stopSequences", "responseLogprobs", "thinkingConfig", "responseMimeType", "responseSchema"),
    "responseJsonSchema",
}
PART_NOTES = frozenset({"thought", "thoughtSignature", "partMetadata", "videoMetadata", "mediaResolution"})
"""Keys that describe a part and are none by themselves."""
ENUM_TYPE = "text/x.enum"
"""One bare word out of a list: nobody else has it."""
RESULT_KEYS = ("output", "result", "error")
"""Documented wrappers of a tool's result, `result` being the SDK's."""
OWN_FILES = ("https://generativelanguage.googleapis.com/", "gs://")


class Gemini(Protocol):
    name = NAME
    counts_tokens = True

    def read_request(self, body: dict[str, Json], call: Call) -> Conversation:
        return _read_request(body, call)

    def write_request(self, conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
        return gemini_request.write_request(conversation, target, notes)

    def reply_reader(self, stream: bool) -> ReplyReader:
        return gemini_reply.StreamReader() if stream else gemini_reply.WholeReader()

    def reply_writer(self, context: ReplyContext) -> ReplyWriter:
        return gemini_writer.StreamWriter(context) if context.stream else gemini_writer.WholeWriter(context)

    def write_error(self, error: ProxyError) -> dict[str, Json]:
        return gemini_errors.write_error(error)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return gemini_errors.read_error(status, headers, body)

    def write_models(self, models: Sequence[ModelEntry]) -> dict[str, Json]:
        return gemini_errors.write_models(models)

    def write_model(self, model: ModelEntry) -> dict[str, Json]:
        return gemini_errors.write_model(model)

    def read_models(self, body: Json) -> list[ModelEntry]:
        return gemini_errors.read_models(body)

    def models_path(self) -> str:
        return "/models?pageSize=1000"

    def write_count(self, tokens: int) -> dict[str, Json]:
        return {"totalTokens": tokens}

    def write_count_request(self, conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
        return gemini_request.write_count_request(conversation, target, notes)

    def read_count(self, body: Json) -> int | None:
        count = body.get("totalTokens") if isinstance(body, dict) else None
        return count if isinstance(count, int) else None

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"x-goog-api-key": key}


def _read_request(body: dict[str, Json], call: Call) -> Conversation:
    """The marks of the call that only this protocol's own writer needs travel in `client_headers` (`alt`)."""
    fields = _fields(gemini_request.own_body(body), "generateContentRequest")
    config = _fields(fields.get("generationConfig", {}), "generationConfig")
    messages = _read_contents(fields)
    foreign = any(message.source is None for message in messages)
    headers = {name: call.headers[name] for name in VENDOR_HEADERS if name in call.headers}
    return Conversation(
        model=_model(call, fields),
        messages=tuple(messages),
        system=_read_system(fields.get("systemInstruction")),
        tools=tuple(_read_tools(fields.get("tools"))),
        tool_choice=_read_tool_choice(fields),
        sampling=_read_sampling(config),
        reasoning=_read_reasoning(config),
        output=_read_output(config),
        stream=bool(call.stream),
        owned=_owned(fields, config),
        client_headers=headers | ({"alt": "json"} if call.array else {}),
        source=Source(NAME, body),
        changed=frozenset({"messages"}) if foreign else frozenset(),
    )


def _fields(value: Json, param: str) -> dict[str, Json]:
    """One level of an object with its keys in camelCase; null is what protobuf says for absent."""
    if not isinstance(value, dict):
        raise BadRequest(f"'{param}' must be an object, not {type(value).__name__}", param=param)
    return {camel(key): item for key, item in value.items() if item is not None}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _text(value: Json, param: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"'{param}' must be a string, not {type(value).__name__}", param=param)
    return value


def _number(value: Json, kind: type, param: str) -> Any:
    """Protobuf's JSON takes numbers in strings, and whole numbers with a point."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        number = float(value)
        if not isfinite(number) or (kind is int and not number.is_integer()):
            raise ValueError
    except (ValueError, OverflowError):
        wanted = "a whole number" if kind is int else "a number"
        raise BadRequest(f"'{param}' must be {wanted}, not {repr(value)[:100]}", param=param) from None
    return int(number) if kind is int else number if isinstance(value, str) else value


def _model(call: Call, fields: dict[str, Json]) -> str:
    model = call.model or _text(fields.get("model"), "model")
    return model.removeprefix("models/")


def _owned(fields: dict[str, Json], config: dict[str, Json]) -> dict[str, Json]:
    """What has no canonical form. Asking for text, as everybody gets it, is nothing special."""
    owned = {key: value for key, value in fields.items() if key not in (*CONTENT_KEYS, "model")}
    owned |= {f"generationConfig.{key}": value for key, value in config.items() if key not in CANONICAL_CONFIG}
    if [str(kind).upper() for kind in _list(config.get("responseModalities"))] == ["TEXT"]:
        del owned["generationConfig.responseModalities"]
    if config.get("responseMimeType") == ENUM_TYPE:
        owned["generationConfig.responseMimeType"] = ENUM_TYPE
    for key, value in _fields(fields.get("toolConfig", {}), "toolConfig").items():
        if key != "functionCallingConfig":
            owned[f"toolConfig.{key}"] = value
    return owned


def _read_system(system: Json) -> tuple[Part, ...]:
    match system:
        case None:
            return ()
        case str():
            return (Text(text=system),)
        case list():
            parts = system
        case _:
            parts = _list(_fields(system, "systemInstruction").get("parts"))
    reader = _Contents()
    return tuple(found for i, part in enumerate(parts) for found in reader.part(part, f"systemInstruction.parts[{i}]"))


def _read_contents(fields: dict[str, Json]) -> list[Message]:
    if fields.get("contents") is None:
        raise BadRequest("'contents' is missing: it holds the conversation", param="contents")
    reader = _Contents()
    read = [reader.message(content, f"contents[{i}]") for i, content in enumerate(_list(fields["contents"]))]
    return _with_foreign_thinking(read)


class _Contents:
    """Reading of all contents in order.

    Calls without an id get one that is unique in the conversation (TRAPS T13), and a result without one answers the
    first open call of its name (T15). What another vendor made, by the mark in its signature, has no source, and
    neither has its message, so that the mark never reaches Google.
    """

    def __init__(self) -> None:
        self._open: list[tuple[str | None, str, str]] = []  # id on the wire, name, id given
        self._ids: set[str] = set()
        self._count = 0

    def message(self, content: Json, param: str) -> Message:
        if isinstance(content, str):
            return Message(role="user", parts=(Text(text=content),), source=Source(NAME, content))
        fields = _fields(content, param)
        given = fields.get("role") or "user"
        role = ROLES.get(given) if isinstance(given, str) else None
        if role is None:
            raise BadRequest(f"'{param}.role' must be user or model, not {repr(given)[:100]}", param=f"{param}.role")
        parts = [
            found
            for i, part in enumerate(_list(fields.get("parts")))
            for found in self.part(part, f"{param}.parts[{i}]")
        ]
        own = all(part.source is not None for part in parts)
        return Message(role=role, parts=tuple(parts), source=Source(NAME, content) if own else None)

    def part(self, part: Json, param: str) -> Iterator[Part]:
        if isinstance(part, str):
            yield Text(text=part, source=Source(NAME, part))
            return
        fields = _fields(part, param)
        source = Source(NAME, part)
        signature = fields.get("thoughtSignature")
        signature = signature if isinstance(signature, str) and signature else None
        kind = next((key for key in fields if key not in PART_NOTES), None)
        if fields.get("thought") is True and kind in (None, "text"):
            yield _thinking(_text(fields.get("text", ""), f"{param}.text"), signature, source)
        elif kind == "text":
            yield Text(text=_text(fields["text"], f"{param}.text"), source=source)
        elif kind in ("inlineData", "fileData"):
            yield _media(_fields(fields[kind], f"{param}.{kind}"), f"{param}.{kind}", source)
        elif kind == "functionCall":
            yield self._call(_fields(fields[kind], f"{param}.{kind}"), signature, f"{param}.{kind}", source)
        elif kind == "functionResponse":
            yield self._result(_fields(fields[kind], f"{param}.{kind}"), f"{param}.{kind}", source)
        elif kind is not None:
            yield Opaque(what=kind, source=source)
        elif signature is not None:
            yield _thinking("", signature, source)

    def _call(self, call: dict[str, Json], signature: str | None, param: str, source: Source) -> ToolCall:
        name = _text(call.get("name"), f"{param}.name")
        arguments = call.get("args", {})
        if not isinstance(arguments, dict):
            raise BadRequest(f"'{param}.args' must be an object", param=f"{param}.args")
        given = call.get("id") if isinstance(call.get("id"), str) else None
        id_ = given if given and given not in self._ids else self._fresh(name)
        self._ids.add(id_)
        self._open.append((given, name, id_))
        called = ToolCall(id=id_, name=name, arguments=wire_json.text(arguments), signature=signature, source=source)
        marked = signature is not None and unwrap(signature) is not None
        return called.edit(signature=None) if marked else called

    def _fresh(self, name: str) -> str:
        while True:
            self._count += 1
            id_ = f"call_{self._count}_{re.sub(r'[^a-zA-Z0-9_-]', '_', name)[:24]}"
            if id_ not in self._ids:
                return id_

    def _answered(self, given: Json, name: str) -> str:
        for wanted in ((given, None), (None, name)):
            for position, (id_, called, canonical) in enumerate(self._open):
                if (wanted[0] and id_ == wanted[0]) or (wanted[1] is not None and called == wanted[1]):
                    del self._open[position]
                    return canonical
        return given if isinstance(given, str) and given else self._fresh(name)

    def _result(self, answer: dict[str, Json], param: str, source: Source) -> ToolResult:
        name = _text(answer.get("name", ""), f"{param}.name")
        response = answer.get("response", {})
        if not isinstance(response, dict):
            raise BadRequest(f"'{param}.response' must be an object", param=f"{param}.response")
        parts: list[Part] = [Text(text=_result_text(response))] if response else []
        for i, extra in enumerate(_list(answer.get("parts"))):
            parts += self.part(extra, f"{param}.parts[{i}]")
        return ToolResult(
            call_id=self._answered(answer.get("id"), name),
            parts=tuple(parts),
            name=name or None,
            is_error=list(response) == ["error"],
            source=source,
        )


def _result_text(response: dict[str, Json]) -> str:
    value: Json = response
    if len(response) == 1 and (key := next(iter(response))) in RESULT_KEYS:
        value = response[key]
    return value if isinstance(value, str) else wire_json.text(value)


def _thinking(text: str, signature: str | None, source: Source) -> Thinking:
    foreign = unwrap(signature) if signature is not None else None
    if foreign is not None:
        return foreign.thinking(text)
    return Thinking(text=text, signature=signature, origin=NAME, source=source)


def _with_foreign_thinking(messages: list[Message]) -> list[Message]:
    """Another vendor's reasoning that this protocol's client kept for us: its pieces, which a streaming client replays
    as many thoughts, become the one block that the signature at its end belongs to."""
    read: list[list[Part]] = [list(message.parts) for message in messages]
    pieces: list[tuple[int, Thinking]] = []
    touched: set[int] = set()
    for number, message in enumerate(messages):
        if message.role != "assistant":
            pieces = []
        for part in message.parts:
            if isinstance(part, Thinking) and part.source is not None and part.signature is None:
                pieces.append((number, part))
            elif isinstance(part, Thinking) and part.source is None:
                for where, piece in pieces:
                    read[where] = [kept for kept in read[where] if kept is not piece]
                whole = part.edit(text="".join(piece.text for _, piece in pieces) + part.text)
                read[number] = [whole if kept is part else kept for kept in read[number]]
                touched |= {number, *(where for where, _ in pieces)}
                pieces = []
            elif not isinstance(part, Thinking):
                pieces = []
    return [
        message.edit(parts=tuple(read[number])) if number in touched else message
        for number, message in enumerate(messages)
        if read[number] or number not in touched
    ]


def _media(fields: dict[str, Json], param: str, source: Source) -> Media:
    media_type = fields.get("mimeType")
    media_type = media_type if isinstance(media_type, str) and media_type else None
    name = fields.get("displayName")
    if "fileUri" in fields:
        uri = _text(fields["fileUri"], f"{param}.fileUri")
        kind = media_kind(media_type or type_of_url(uri))
        if "youtube.com/" in uri or "youtu.be/" in uri:
            kind = "video"
        media = Media(kind=kind, media_type=media_type, name=name, source=source)
        if uri.startswith(OWN_FILES) or "://" not in uri:
            return replace(media, file_id=uri, origin=NAME)
        return replace(media, url=uri)
    data = standard_base64(_text(fields.get("data", ""), f"{param}.data"))
    kind = media_kind(media_type)
    if kind == "document" and (media_type or "").startswith("text/"):
        try:
            text = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, ValueError):
            text = None
        if text is not None:
            return Media(kind=kind, media_type=media_type, text=text, name=name, source=source)
    return Media(kind=kind, media_type=media_type, data=data, name=name, source=source)


def _read_tools(tools: Json) -> Iterator[Tool | Opaque]:
    for i, tool in enumerate(_list(tools)):
        for key, value in _fields(tool, f"tools[{i}]").items():
            if key != "functionDeclarations":
                yield Opaque(what=key, source=Source(NAME, {key: value}))
                continue
            for j, declaration in enumerate(_list(value)):
                yield _read_declaration(declaration, f"tools[{i}].functionDeclarations[{j}]")


def _read_declaration(declaration: Json, param: str) -> Tool:
    fields = _fields(declaration, param)
    schema = fields.get("parametersJsonSchema")
    if schema is None:
        schema = to_json_schema(fields.get("parameters"))
    if schema is not None and not isinstance(schema, dict):
        raise BadRequest(f"'{param}.parameters' must be an object", param=f"{param}.parameters")
    description = fields.get("description")
    return Tool(
        name=_text(fields.get("name"), f"{param}.name"),
        description=None if description is None else _text(description, f"{param}.description"),
        schema=schema,
        source=Source(NAME, declaration),
    )


def _read_tool_choice(fields: dict[str, Json]) -> ToolChoice | None:
    config = _fields(fields.get("toolConfig", {}), "toolConfig")
    calling = config.get("functionCallingConfig")
    if calling is None:
        return None
    chosen = _fields(calling, "toolConfig.functionCallingConfig")
    mode = MODES.get(str(chosen.get("mode")).upper())
    allowed = tuple(name for name in _list(chosen.get("allowedFunctionNames")) if isinstance(name, str))
    source = Source(NAME, calling)
    if mode == "required" and len(allowed) == 1:
        return ToolChoice(mode="named", name=allowed[0], source=source)
    return ToolChoice(mode=mode, allowed=allowed if mode in ("required", "auto") else (), source=source)


def _read_sampling(config: dict[str, Json]) -> Sampling:
    values = {
        name: _number(config[key], kind, f"generationConfig.{key}")
        for key, (name, kind) in SAMPLING_KEYS.items()
        if key in config
    }
    stop = tuple(_text(word, "generationConfig.stopSequences") for word in _list(config.get("stopSequences")))
    logprobs = config.get("responseLogprobs")
    return Sampling(**values, stop=stop, logprobs=logprobs if isinstance(logprobs, bool) else None)


def _read_reasoning(config: dict[str, Json]) -> Reasoning:
    if config.get("thinkingConfig") is None:
        return Reasoning()
    thinking = _fields(config["thinkingConfig"], "generationConfig.thinkingConfig")
    shown = thinking.get("includeThoughts")
    summary = shown if isinstance(shown, bool) else None
    level = thinking.get("thinkingLevel")
    if isinstance(level, str) and not level.endswith("UNSPECIFIED"):
        return Reasoning(enabled=True, effort=level.lower(), summary=summary)
    if "thinkingBudget" not in thinking:
        return Reasoning(enabled=True, adaptive=True, summary=True) if summary else Reasoning(summary=summary)
    budget = _number(thinking["thinkingBudget"], int, "generationConfig.thinkingConfig.thinkingBudget")
    if budget < 0:
        return Reasoning(enabled=True, adaptive=True, summary=summary)
    return Reasoning(enabled=budget > 0, budget=budget or None, summary=summary)


def _read_output(config: dict[str, Json]) -> OutputFormat | None:
    schema = config.get("responseJsonSchema")
    if schema is None:
        schema = to_json_schema(config.get("responseSchema"))
    media_type = config.get("responseMimeType")
    if isinstance(schema, dict) and media_type != ENUM_TYPE:
        title = schema.get("title")
        return OutputFormat(kind="json_schema", schema=schema, name=title if isinstance(title, str) else None)
    return OutputFormat(kind="json_object") if media_type == "application/json" else None


PROTOCOL = Gemini()
