"""Chat Completions replies, written: canonical events -> chunks or a whole completion."""

from typing import Any

from llm_interactive import sse, wire_json
from llm_interactive.events import (
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    Frame,
    LogProbs,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    UnifiedReason,
    Usage,
    Used,
)
from llm_interactive.protocols import openai_errors
from llm_interactive.protocols.base import Json, ReplyContext, ReplyWriter
from llm_interactive.protocols.openai_chat_reply import NAME

WORDS: dict[UnifiedReason, str] = {"error": "stop", "other": "stop"}
"""Unified reasons that are no word of this protocol (TRAPS T101); the others are."""


def write_usage(usage: Usage) -> dict[str, Json]:
    if usage.origin == NAME and usage.raw is not None:
        return dict(usage.raw)
    read, output = usage.input or 0, usage.output or 0
    prompt_details: dict[str, Json] = {"cached_tokens": usage.cached or 0}
    if usage.cache_write:
        prompt_details["cache_write_tokens"] = usage.cache_write
    return {
        "prompt_tokens": read,
        "completion_tokens": output,
        "total_tokens": read + output,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
    }


class StreamWriter(ReplyWriter):
    """Source chunks go on as they came; the usage that only the proxy asked for is hidden (TRAPS T87)."""

    content_type = "text/event-stream"

    def __init__(self, context: ReplyContext) -> None:
        self._same = context.backend_protocol == NAME and not context.rename
        self._context = context
        self._ask = context.conversation.include_usage
        self._id, self._created = "", context.now
        self._usage: Usage | None = None
        self._begun: set[int] = set()
        self._said: set[tuple[int, int]] = set()
        """Calls that have said something of their arguments, by choice and slot."""
        self._custom: set[tuple[int, int]] = set()
        self._over = False
        self._set_id("")

    def _set_id(self, id_: str) -> None:
        self._id = id_ or self._context.mint("chatcmpl-")
        model = wire_json.dumps(self._context.model)
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[{"index":' % (
            wire_json.dumps(self._id),
            self._created,
            model,
        )

    def write(self, frame: Frame) -> bytes:
        if self._over:
            return b""
        if self._same and not frame.edited:
            if frame.source:
                return self._pass(frame)
            if frame.events == (Finished(),):
                return b""  # the provider left [DONE] out, so it is left out here
        return b"".join([self._event(event) for event in frame.events])

    def _pass(self, frame: Frame) -> bytes:
        usage_only = False
        for event in frame.events:
            if isinstance(event, TextDelta | ThinkingDelta):
                self._begun.add(event.choice)
            elif isinstance(event, Started):
                self._created = event.created if event.created is not None else self._created
                self._set_id(event.id)
            elif isinstance(event, Used):
                usage_only = len(frame.events) == 1
        if self._ask:
            return frame.source
        if usage_only and b'"choices":[]' in frame.source.replace(b" ", b""):
            return b""
        return frame.source.replace(b',"usage":null', b"")

    def _delta(self, choice: int, delta: bytes, reason: bytes = b"null") -> bytes:
        if choice not in self._begun:
            self._begun.add(choice)
            opening = self._head + b'%d,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n' % choice
        else:
            opening = b""
        return opening + self._head + b'%d,"delta":{%b},"finish_reason":%b}]}\n\n' % (choice, delta, reason)

    def _event(self, event: Event) -> bytes:
        match event:
            case TextDelta(text=text, choice=choice):
                return self._delta(choice, b'"content":' + wire_json.dumps(text))
            case ThinkingDelta(text=text, choice=choice):
                return self._delta(choice, b'"reasoning_content":' + wire_json.dumps(text))
            case ToolCallDelta(slot=slot, arguments=arguments, choice=choice):
                return self._arguments(slot, arguments, choice)
            case ToolCallStarted(slot=slot, choice=choice):
                if event.custom:
                    self._custom.add((choice, slot))
                return self._delta(choice, b'"tool_calls":[' + wire_json.dumps(write_call(event)) + b"]")
            case ToolCallEnded(slot=slot, choice=choice):
                whole = {(choice, slot)} & (self._said | self._custom)
                return b"" if whole else self._arguments(slot, "{}", choice)  # T1
            case RefusalDelta(text=text, choice=choice):
                return self._delta(choice, b'"refusal":' + wire_json.dumps(text))
            case Cited(choice=choice):
                return self._delta(choice, b'"annotations":[' + wire_json.dumps(write_annotation(event)) + b"]")
            case LogProbs(tokens=tokens, choice=choice):
                logprobs = wire_json.dumps({"content": list(tokens), "refusal": None})
                return self._head + b'%d,"delta":{},"logprobs":%b,"finish_reason":null}]}\n\n' % (choice, logprobs)
            case Ended(reason=reason, choice=choice):
                return self._delta(choice, b"", wire_json.dumps(WORDS.get(reason.unified, reason.unified)))
            case Used(usage=usage):
                self._usage = usage
            case Finished():
                self._over = True
                return self._usage_chunk() + b"data: [DONE]\n\n"
            case Failed(error=error):
                self._over = True
                return sse.write(wire_json.dumps(openai_errors.write_error(error)))  # and no [DONE]: T79
        return b""

    def _arguments(self, slot: int, arguments: str, choice: int) -> bytes:
        self._said.add((choice, slot))
        where = b'"custom":{"input":%b}' if (choice, slot) in self._custom else b'"function":{"arguments":%b}'
        return self._delta(choice, b'"tool_calls":[{"index":%d,%b}]' % (slot, where % wire_json.dumps(arguments)))

    def _usage_chunk(self) -> bytes:
        if not self._ask or self._usage is None:
            return b""
        return self._head[: -len(b'{"index":')] + b'],"usage":' + wire_json.dumps(write_usage(self._usage)) + b"}\n\n"


def write_call(event: ToolCallStarted) -> dict[str, Json]:
    call: dict[str, Any] = {"index": event.slot, "id": event.id}
    if event.custom:
        return call | {"type": "custom", "custom": {"name": event.name, "input": ""}}
    call |= {"type": "function", "function": {"name": event.name, "arguments": ""}}
    if event.signature is not None:
        call["extra_content"] = {"google": {"thought_signature": event.signature}}
    return call


def write_annotation(cited: Cited) -> dict[str, Json]:
    """Offsets that are not known are left out, not invented (TRAPS T82)."""
    if cited.origin == NAME and cited.json is not None:
        return dict(cited.json)
    known = {"url": cited.url, "title": cited.title, "start_index": cited.start, "end_index": cited.end}
    return {"type": "url_citation", "url_citation": {key: value for key, value in known.items() if value is not None}}


class WholeWriter(ReplyWriter):
    content_type = "application/json"

    def __init__(self, context: ReplyContext) -> None:
        self._same = context.backend_protocol == NAME and not context.rename
        self._context = context
        self._id = ""
        self._created = context.now
        self._usage: Usage | None = None
        self._choices: dict[int, dict[str, Any]] = {}

    def write(self, frame: Frame) -> bytes:
        if self._same and frame.source and not frame.edited:
            return frame.source
        for event in frame.events:
            if isinstance(event, Finished):
                return wire_json.dumps(self._completion())
            if isinstance(event, Failed):
                return wire_json.dumps(openai_errors.write_error(event.error))
            self._event(event)
        return b""

    def _event(self, event: Event) -> None:
        match event:
            case Started(id=id_, created=created):
                self._created = created if created is not None else self._created
                self._id = id_ if self._same else ""
            case Used(usage=usage):
                self._usage = usage
            case Finished() | Failed():
                pass
            case _:
                self._add(self._choice(event.choice), event)

    def _choice(self, number: int) -> dict[str, Any]:
        if number not in self._choices:
            lists: dict[str, list[Any]] = {key: [] for key in ("text", "thinking", "refusal", "cited", "logprobs")}
            self._choices[number] = {**lists, "calls": {}, "reason": None}
        return self._choices[number]

    def _add(self, choice: dict[str, Any], event: Event) -> None:
        match event:
            case TextDelta(text=text):
                choice["text"].append(text)
            case ThinkingDelta(text=text):
                choice["thinking"].append(text)
            case RefusalDelta(text=text):
                choice["refusal"].append(text)
            case ToolCallStarted(slot=slot):
                choice["calls"][slot] = (write_call(event), [])
            case ToolCallDelta(slot=slot, arguments=arguments) if slot in choice["calls"]:
                choice["calls"][slot][1].append(arguments)
            case Cited():
                choice["cited"].append(write_annotation(event))
            case LogProbs(tokens=tokens):
                choice["logprobs"] += tokens
            case Ended(reason=reason):
                choice["reason"] = WORDS.get(reason.unified, reason.unified)

    def _completion(self) -> dict[str, Json]:
        choices = self._choices or {0: self._choice(0)}
        completion = {
            "id": self._id or self._context.mint("chatcmpl-"),
            "object": "chat.completion",
            "created": self._created,
            "model": self._context.model,
            "choices": [_write_choice(number, choice) for number, choice in sorted(choices.items())],
        }
        if self._usage is not None:
            completion["usage"] = write_usage(self._usage)
        return completion


def _write_choice(number: int, choice: dict[str, Any]) -> dict[str, Json]:
    calls = []
    for call, arguments in choice["calls"].values():
        del call["index"]
        if "custom" in call:
            call["custom"]["input"] = "".join(arguments)
        else:
            call["function"]["arguments"] = "".join(arguments) or "{}"
        calls.append(call)
    text = "".join(choice["text"])
    message: dict[str, Json] = {"role": "assistant", "content": text or (None if calls or choice["refusal"] else "")}
    message["refusal"] = "".join(choice["refusal"]) or None
    if choice["thinking"]:
        message["reasoning_content"] = "".join(choice["thinking"])
    if calls:
        message["tool_calls"] = calls
    if choice["cited"]:
        message["annotations"] = choice["cited"]
    logprobs = {"content": choice["logprobs"], "refusal": None} if choice["logprobs"] else None
    return {"index": number, "message": message, "logprobs": logprobs, "finish_reason": choice["reason"] or "stop"}
