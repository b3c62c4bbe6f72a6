"""What a model says in one turn, as each vendor's service sends it: whole or as a stream, whichever was asked for.

    upstream.script = Turns(Turn("Let me look.", Called("look", '{"at": 1}')), Turn("Done."))

The last turn is said again and again. `Turn(again="...")` repeats these words for ever, and `thinks_again` these
thoughts: a stream waits before every further piece once it has said them `TIMES` times, so that a test can count what
was sent after a loop was clear.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from kit.exchange import Request
from kit.replies import EVENT_STREAM, Pause, Reply, answer

TIMES = 12
PIECE = 7
PAUSE = Pause(0.1)
"""Shorter than the second that the proxy gives a reply which has ended by itself."""

type Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Called:
    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Turn:
    text: str = ""
    call: Called | None = None
    thinking: str = ""
    again: str = ""
    thinks_again: str = ""

    @property
    def thinks(self) -> bool:
        return bool(self.thinking or self.thinks_again)

    def whole(self) -> "Turn":
        """Of what has no end, a lot."""
        return Turn(self.text + self.again * 100, self.call, self.thinking + self.thinks_again * 100)


class Turns:
    """A script for an `Upstream`."""

    def __init__(self, *turns: Turn) -> None:
        self._turns = turns
        self._number = count()

    def __call__(self, request: Request) -> Reply:
        number = next(self._number)
        return reply(request, self._turns[min(number, len(self._turns) - 1)], number)


def reply(request: Request, turn: Turn, number: int = 0) -> Reply:
    """`number` makes the ids of this turn its own."""
    for end, (whole, stream) in PROTOCOLS.items():
        if request.path.partition("?")[0].endswith(end):
            streams = "stream" in end or (request.body.startswith(b"{") and request.json.get("stream"))
            if not streams:
                return answer(whole(turn.whole(), number))
            return Reply(_bytes(stream(turn, number)), headers=EVENT_STREAM)
    raise AssertionError(f"no protocol of {request.path}")


def _bytes(events: Iterator[Json | Pause]) -> Iterator[bytes | Pause]:
    for event in events:
        if isinstance(event, Pause):
            yield event
            continue
        name = f"event: {event['type']}\n" if "type" in event else ""
        yield f"{name}data: {json.dumps(event)}\n\n".encode()


def _cut(text: str) -> Iterator[str]:
    for at in range(0, len(text), PIECE):
        yield text[at : at + PIECE]


def _words(turn: Turn) -> Iterator[str | Pause]:
    return _said(turn.text, turn.again)


def _thoughts(turn: Turn) -> Iterator[str | Pause]:
    return _said(turn.thinking, turn.thinks_again)


def _said(text: str, again: str) -> Iterator[str | Pause]:
    yield from _cut(text)
    yield from _cut(again * TIMES)
    while again:
        for piece in _cut(again):
            yield PAUSE
            yield piece


def _halves(call: Called) -> tuple[str, str]:
    middle = len(call.arguments) // 2
    return call.arguments[:middle], call.arguments[middle:]


def chat(turn: Turn, number: int) -> Json:
    message: Json = {"role": "assistant", "content": turn.text or None}
    if turn.thinking:
        message["reasoning_content"] = turn.thinking
    if turn.call:
        function = {"name": turn.call.name, "arguments": turn.call.arguments}
        message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if turn.call else "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1_750_000_000, "model": "m"}
    return {**head, "choices": [choice], "usage": usage}


def chat_stream(turn: Turn, number: int) -> Iterator[Json | Pause]:
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1_750_000_000, "model": "m"}

    def chunk(delta: Json, reason: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for each in _thoughts(turn):
        yield each if isinstance(each, Pause) else chunk({"reasoning_content": each})
    for each in _words(turn):
        yield each if isinstance(each, Pause) else chunk({"content": each})
    if turn.call:
        function = {"name": turn.call.name, "arguments": ""}
        yield chunk({"tool_calls": [{"index": 0, "id": f"call_{number}", "type": "function", "function": function}]})
        for half in _halves(turn.call):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": half}}]})
    yield chunk({}, "tool_calls" if turn.call else "stop")


def _message_blocks(turn: Turn, number: int) -> list[Json]:
    blocks: list[Json] = []
    if turn.thinking:
        blocks.append({"type": "thinking", "thinking": turn.thinking, "signature": "c2lnbmVk"})
    if turn.text:
        blocks.append({"type": "text", "text": turn.text})
    if turn.call:
        call = {"type": "tool_use", "id": f"toolu_{number}", "name": turn.call.name}
        blocks.append({**call, "input": json.loads(turn.call.arguments)})
    return blocks


def _message(number: int, content: list[Json], reason: str | None, output: int) -> Json:
    head = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "m", "content": content}
    usage = {"input_tokens": 7, "output_tokens": output}
    return {**head, "stop_reason": reason, "stop_sequence": None, "usage": usage}


def message(turn: Turn, number: int) -> Json:
    return _message(number, _message_blocks(turn, number), "tool_use" if turn.call else "end_turn", 3)


def message_stream(turn: Turn, number: int) -> Iterator[Json | Pause]:
    yield {"type": "message_start", "message": _message(number, [], None, 1)}
    index = count()

    def block(seed: Json, kind: str, pieces: Iterator[str | Pause]) -> Iterator[Json | Pause]:
        at, key = next(index), kind.removesuffix("_delta")
        yield {"type": "content_block_start", "index": at, "content_block": seed}
        for each in pieces:
            delta = {"type": kind, "partial_json" if key == "input_json" else key: each}
            yield each if isinstance(each, Pause) else {"type": "content_block_delta", "index": at, "delta": delta}
        if key == "thinking":
            signed = {"type": "signature_delta", "signature": "c2lnbmVk"}
            yield {"type": "content_block_delta", "index": at, "delta": signed}
        yield {"type": "content_block_stop", "index": at}

    if turn.thinks:
        seed = {"type": "thinking", "thinking": "", "signature": ""}
        yield from block(seed, "thinking_delta", _thoughts(turn))
    if turn.text or turn.again:
        yield from block({"type": "text", "text": ""}, "text_delta", _words(turn))
    if turn.call:
        call = {"type": "tool_use", "id": f"toolu_{number}", "name": turn.call.name, "input": {}}
        yield from block(call, "input_json_delta", iter(_halves(turn.call)))
    delta = {"stop_reason": "tool_use" if turn.call else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}}
    yield {"type": "message_stop"}


def _gemini_parts(turn: Turn) -> list[Json]:
    parts: list[Json] = [{"text": turn.thinking, "thought": True}] if turn.thinking else []
    parts += [{"text": turn.text}] if turn.text else []
    return parts + _gemini_call(turn)


def _gemini_call(turn: Turn) -> list[Json]:
    if turn.call is None:
        return []
    call = {"name": turn.call.name, "args": json.loads(turn.call.arguments)}
    return [{"functionCall": call, "thoughtSignature": "c2lnbmVk"}]


def _candidate(parts: list[Json], number: int, reason: str | None = None) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": f"r{number}"}


def generated(turn: Turn, number: int) -> Json:
    return _candidate(_gemini_parts(turn), number, "STOP")


def generated_stream(turn: Turn, number: int) -> Iterator[Json | Pause]:
    for each in _thoughts(turn):
        yield each if isinstance(each, Pause) else _candidate([{"text": each, "thought": True}], number)
    for each in _words(turn):
        yield each if isinstance(each, Pause) else _candidate([{"text": each}], number)
    yield _candidate(_gemini_call(turn) or [{"text": ""}], number, "STOP")


def _items(turn: Turn, number: int) -> list[Json]:
    items: list[Json] = []
    if turn.thinks:
        summary = [{"type": "summary_text", "text": turn.thinking}]
        items.append({"id": f"rs_{number}", "type": "reasoning", "summary": summary, "encrypted_content": "c2lnbmVk"})
    if turn.text or turn.again:
        part = {"type": "output_text", "text": turn.text, "annotations": []}
        items.append(
            {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        )
    if turn.call:
        said = {"call_id": f"call_{number}", "name": turn.call.name, "arguments": turn.call.arguments}
        items.append({"id": f"fc_{number}", "type": "function_call", "status": "completed", **said})
    return items


def _response(number: int, status: str, output: list[Json]) -> Json:
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10, **details} if output else None
    head = {"id": f"resp_{number}", "object": "response", "created_at": 1_750_000_000, "model": "m"}
    rest = {"error": None, "incomplete_details": None, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    return {**head, "status": status, "output": output, "usage": usage, **rest}


def response(turn: Turn, number: int) -> Json:
    return _response(number, "completed", _items(turn, number))


def response_stream(turn: Turn, number: int) -> Iterator[Json | Pause]:
    sequence = count(1)
    yield {"type": "response.created", "response": _response(number, "in_progress", []), "sequence_number": 0}
    items = _items(turn, number)
    for index, item in enumerate(items):
        for event in _item_events(turn, item):
            if isinstance(event, Pause):
                yield event
            else:
                yield {"output_index": index, **event, "sequence_number": next(sequence)}
    yield {
        "type": "response.completed",
        "response": _response(number, "completed", items),
        "sequence_number": next(sequence),
    }


def _item_events(turn: Turn, item: Json) -> Iterator[Json | Pause]:
    kind, id_ = item["type"], {"item_id": item["id"]}
    empty = {"message": {"content": []}, "reasoning": {"summary": []}, "function_call": {"arguments": ""}}[kind]
    status = {"status": "in_progress"} if "status" in item else {}
    yield {"type": "response.output_item.added", "item": {**item, **empty, **status}}
    if kind == "message":
        place = {**id_, "content_index": 0}
        part = item["content"][0]
        yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
        for each in _words(turn):
            delta = {"type": "response.output_text.delta", **place, "delta": each, "logprobs": []}
            yield each if isinstance(each, Pause) else delta
        yield {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": part}
    elif kind == "reasoning":
        place = {**id_, "summary_index": 0}
        part = item["summary"][0]
        yield {"type": "response.reasoning_summary_part.added", **place, "part": {**part, "text": ""}}
        for each in _thoughts(turn):
            delta = {"type": "response.reasoning_summary_text.delta", **place, "delta": each}
            yield each if isinstance(each, Pause) else delta
        yield {"type": "response.reasoning_summary_text.done", **place, "text": part["text"]}
        yield {"type": "response.reasoning_summary_part.done", **place, "part": part}
    elif turn.call:
        for half in _halves(turn.call):
            yield {"type": "response.function_call_arguments.delta", **id_, "delta": half}
        done = {"name": turn.call.name, "arguments": turn.call.arguments}
        yield {"type": "response.function_call_arguments.done", **id_, **done}
    yield {"type": "response.output_item.done", "item": item}


type _Whole = Callable[[Turn, int], Json]
type _Stream = Callable[[Turn, int], Iterator[Json | Pause]]

PROTOCOLS: dict[str, tuple[_Whole, _Stream]] = {
    "/chat/completions": (chat, chat_stream),
    "/responses": (response, response_stream),
    "/messages": (message, message_stream),
    ":generateContent": (generated, generated_stream),
    ":streamGenerateContent": (generated, generated_stream),
}
"""By the end of a request's path."""
