"""An answer in the making: canonical events -> the Responses events that say them, and the response they make."""

from collections.abc import Mapping
from typing import Any

from llm_interactive import wire_json
from llm_interactive.events import (
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    Foreign,
    LogProbs,
    Reason,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    UnifiedReason,
    Usage,
    Used,
)
from llm_interactive.protocols.base import Json, ReplyContext
from llm_interactive.protocols.foreign_signatures import Hidden, wrap
from llm_interactive.protocols.openai_responses_object import NAME, new_response, write_failure, write_usage

INCOMPLETE: Mapping[UnifiedReason, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Item:
    """An output item being written. `json` is as it was announced; `pieces` make up its open part."""

    __slots__ = ("cited", "index", "json", "logprobs", "part", "pieces", "prefix")

    def __init__(self, index: int, json: dict[str, Json]) -> None:
        self.index = index
        self.json = json
        self.part: str | None = None
        self.pieces: list[str] = []
        self.logprobs: list[Json] = []
        self.cited: list[Json] = []
        self.prefix = b""

    def delta_prefix(self, kind: str, **place: Json) -> bytes:
        """The start of a delta event, up to its text: made once for each part."""
        head = {"type": kind, "item_id": self.json["id"], "output_index": self.index, **place}
        return b"event: " + kind.encode() + b"\ndata: " + wire_json.dumps(head)[:-1] + b',"delta":'


PARTS: Mapping[str, str] = {"output_text": "text", "refusal": "refusal"}
"""Types of a message's parts -> the key of their text."""

CALL_EVENTS: Mapping[str, tuple[str, str]] = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
}


class Answer:
    """`event` gives the bytes of the events that a canonical event becomes; `response` is the object so far."""

    def __init__(self, context: ReplyContext) -> None:
        self._context = context
        self.id = ""
        self.response: dict[str, Json] = {}
        self.sequence = 0
        self.items: list[Item] = []
        self.done: dict[int, Json] = {}
        self.next_index = 0
        self.spoken: Item | None = None
        """The open message."""
        self.thought: Item | None = None
        """The open reasoning item."""
        self.calls: dict[int, Item] = {}
        self.length = 0
        """Characters of text before the open message: citations count from the start of the answer."""
        self._usage: Usage | None = None
        self._reason: Reason | None = None

    @property
    def output(self) -> list[Json]:
        return [self.done[index] for index in sorted(self.done)]

    def event(self, event: Event) -> bytes:
        write = _WRITERS.get(type(event))
        if write is None:
            return b""
        opening = b"" if self.response else self._begin()
        written: bytes = write(self, event)
        return opening + written

    # --- framing ---

    def _write(self, kind: str, **fields: Json) -> bytes:
        data = wire_json.dumps({"type": kind, **fields, "sequence_number": self.sequence})
        self.sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def _delta(self, item: Item, text: str) -> bytes:
        item.pieces.append(text)
        self.sequence += 1
        return item.prefix + wire_json.dumps(text) + b',"sequence_number":%d}\n\n' % (self.sequence - 1)

    # --- the response ---

    def _begin(self) -> bytes:
        self.id = self.id or self._context.mint("resp_")
        self.response = new_response(self.id, self._context)
        return self._write("response.created", response=self.response) + self._write(
            "response.in_progress", response=self.response
        )

    def _started(self, event: Started) -> bytes:
        return b""  # `event` has begun the response

    def _used(self, event: Used) -> bytes:
        self._usage = event.usage
        return b""

    def _ended(self, event: Ended) -> bytes:
        if event.choice == 0:
            self._reason = event.reason
        return b""

    def _finished(self, event: Finished) -> bytes:
        reason = self._reason or Reason("stop")
        incomplete = INCOMPLETE.get(reason.unified)
        status = "completed" if incomplete is None else "incomplete"
        closing = self._close_all(status)
        self.response |= {"status": status, "output": self.output}
        if incomplete is not None:
            self.response["incomplete_details"] = {"reason": incomplete}
        else:
            self.response["completed_at"] = self._context.now
        self.response["usage"] = write_usage(self._usage or Usage())
        return closing + self._write(f"response.{status}", response=self.response)

    def _failed(self, event: Failed) -> bytes:
        self.response |= {"status": "failed", "output": self.output, "error": write_failure(event.error)}
        if self._usage is not None:
            self.response["usage"] = write_usage(self._usage)
        return self._write("response.failed", response=self.response)

    # --- items ---

    def _add(self, json: dict[str, Json]) -> tuple[Item, bytes]:
        item = Item(self.next_index, json)
        self.next_index += 1
        self.items.append(item)
        return item, self._write("response.output_item.added", output_index=item.index, item=json)

    def _close(self, item: Item, **said: Json) -> bytes:
        json = {**item.json, **said}
        if "status" in json:
            json["status"] = said.get("status", "completed")
        self.done[item.index] = json
        self.items.remove(item)
        return self._write("response.output_item.done", output_index=item.index, item=json)

    def _close_said(self, status: str = "completed") -> bytes:
        return self._close_message(status) + self._close_thought()

    def _close_all(self, status: str) -> bytes:
        closing = self._close_said(status)
        for slot in list(self.calls):
            closing += self._close_call(slot, status)
        return closing + b"".join([self._close(item) for item in list(self.items)])

    # --- text ---

    def _text(self, event: TextDelta) -> bytes:
        if event.choice or not event.text:
            return b""
        opening = self._open_part("output_text")
        assert self.spoken is not None
        return opening + self._delta(self.spoken, event.text)

    def _refusal(self, event: RefusalDelta) -> bytes:
        if event.choice or not event.text:
            return b""
        opening = self._open_part("refusal")
        assert self.spoken is not None
        return opening + self._delta(self.spoken, event.text)

    def _open_part(self, kind: str) -> bytes:
        item = self.spoken
        if item is not None and item.part == kind:
            return b""
        written = self._close_thought()
        if item is None:
            message = {
                "id": self._context.mint("msg_"),
                "type": "message",
                "status": "in_progress",
                "role": "assistant",
            }
            item, added = self._add({**message, "content": []})
            self.spoken = item
            written += added
        else:
            written += self._close_part(item)
        self.begin_part(item, kind)
        place = {"item_id": item.json["id"], "output_index": item.index, "content_index": len(item.json["content"])}
        return written + self._write("response.content_part.added", **place, part=_part(kind, "", [], []))

    def begin_part(self, item: Item, kind: str) -> None:
        item.part = kind
        place: dict[str, Json] = {"content_index": len(item.json["content"])}
        if kind == "output_text":
            place["logprobs"] = []
        item.prefix = item.delta_prefix(f"response.{kind}.delta", **place)

    def _close_part(self, item: Item) -> bytes:
        kind = item.part
        if kind is None:
            return b""
        text = "".join(item.pieces)
        content = item.json["content"]
        place = {"item_id": item.json["id"], "output_index": item.index, "content_index": len(content)}
        part = _part(kind, text, item.cited, item.logprobs)
        logprobs = {"logprobs": item.logprobs} if kind == "output_text" else {}
        item.json = {**item.json, "content": [*content, part]}
        self.length += len(text) if kind == "output_text" else 0
        item.part, item.pieces, item.logprobs, item.cited = None, [], [], []
        return self._write(f"response.{kind}.done", **place, **{PARTS[kind]: text}, **logprobs) + self._write(
            "response.content_part.done", **place, part=part
        )

    def _close_message(self, status: str = "completed") -> bytes:
        item, self.spoken = self.spoken, None
        return self._close_part(item) + self._close(item, status=status) if item is not None else b""

    def _cited(self, event: Cited) -> bytes:
        annotation = _annotation(event, self.length)
        if event.choice or annotation is None:
            return b""
        opening = self._open_part("output_text")
        item = self.spoken
        assert item is not None
        item.cited.append(annotation)
        return opening + self._write(
            "response.output_text.annotation.added",
            item_id=item.json["id"],
            output_index=item.index,
            content_index=len(item.json["content"]),
            annotation_index=len(item.cited) - 1,
            annotation=annotation,
        )

    def _logprobs(self, event: LogProbs) -> bytes:
        """Of the text just written: an empty delta carries them."""
        item = self.spoken
        if event.choice or item is None or item.part != "output_text":
            return b""
        item.logprobs += event.tokens
        return self._write(
            "response.output_text.delta",
            item_id=item.json["id"],
            output_index=item.index,
            content_index=len(item.json["content"]),
            logprobs=list(event.tokens),
            delta="",
        )

    # --- reasoning ---

    def _thinking(self, event: ThinkingDelta) -> bytes:
        if event.choice or not event.text:
            return b""
        written = b""
        if self.thought is None:
            written = self._close_message()
            self.thought, added = self._add({"id": self._context.mint("rs_"), "type": "reasoning", "summary": []})
            written += added
        item = self.thought
        if item.part is None:
            self.begin_summary(item)
            part = {"type": "summary_text", "text": ""}
            written += self._write("response.reasoning_summary_part.added", **_summary_place(item), part=part)
        return written + self._delta(item, event.text)

    def begin_summary(self, item: Item) -> None:
        item.part = "summary_text"
        place = _summary_place(item)
        item.prefix = item.delta_prefix("response.reasoning_summary_text.delta", summary_index=place["summary_index"])

    def _thinking_ended(self, event: ThinkingEnded) -> bytes:
        if event.choice:
            return b""
        signature = event.signature
        if event.origin != NAME and (event.signature is not None or event.redacted is not None):
            signature = wrap(Hidden(event.origin, event.signature, event.redacted, event.item_id))
        if self.thought is None and signature is None:
            return b""
        return self._close_thought(signature) if self.thought is not None else self._signed(signature)

    def _signed(self, signature: str | None) -> bytes:
        """Reasoning of which only the signature is given."""
        item, added = self._add({"id": self._context.mint("rs_"), "type": "reasoning", "summary": []})
        return added + self._close(item, encrypted_content=signature)

    def _close_thought(self, signature: str | None = None) -> bytes:
        item, self.thought = self.thought, None
        if item is None:
            return b""
        written = b""
        if item.part is not None:
            place, part = _summary_place(item), {"type": "summary_text", "text": "".join(item.pieces)}
            item.json = {**item.json, "summary": [*item.json["summary"], part]}
            item.part = None
            written = self._write("response.reasoning_summary_text.done", **place, text=part["text"])
            written += self._write("response.reasoning_summary_part.done", **place, part=part)
        signature = signature or item.json.get("encrypted_content")
        if signature is None and self._context.backend_protocol != NAME:
            signature = wrap(Hidden(self._context.backend_protocol))  # whose it is: OpenAI finds no such item (T97)
        return written + self._close(item, encrypted_content=signature)

    # --- calls ---

    def _call_started(self, event: ToolCallStarted) -> bytes:
        if event.choice:
            return b""
        written = self._close_said()
        if event.signature is not None:  # an item of its own carries it: calls have no place for it (T56)
            written += self._signed(wrap(Hidden("gemini", event.signature, call_id=event.id)))
        kind = "custom_tool_call" if event.custom else "function_call"
        said = "input" if event.custom else "arguments"
        id_ = self._context.mint("ctc_" if event.custom else "fc_")
        status = {} if event.custom else {"status": "in_progress"}
        json = {"id": id_, "type": kind, **status, "call_id": event.id, "name": event.name, said: ""}
        item, added = self._add(json)
        self.begin_call(event.slot, item)
        return written + added

    def begin_call(self, slot: int, item: Item) -> None:
        self.calls[slot] = item
        item.prefix = item.delta_prefix(CALL_EVENTS[item.json["type"]][0] + ".delta")

    def _call_delta(self, event: ToolCallDelta) -> bytes:
        item = self.calls.get(event.slot)
        return self._delta(item, event.arguments) if item is not None and not event.choice and event.arguments else b""

    def _call_ended(self, event: ToolCallEnded) -> bytes:
        return self._close_call(event.slot, "completed") if not event.choice else b""

    def _close_call(self, slot: int, status: str) -> bytes:
        item = self.calls.pop(slot, None)
        if item is None:
            return b""
        kind, key = CALL_EVENTS[item.json["type"]]
        said = "".join(item.pieces)
        written = b""
        if not said.strip() and key == "arguments":
            said = "{}"  # T1
            written = self._delta(item, said)
        place = {"item_id": item.json["id"], "output_index": item.index}
        name = {"name": item.json["name"]} if key == "arguments" else {}
        written += self._write(f"{kind}.done", **place, **name, **{key: said})
        return written + self._close(item, **{key: said, "status": status} if key == "arguments" else {key: said})

    def _foreign(self, event: Foreign) -> bytes:
        if event.origin != NAME or not isinstance(event.json, dict) or event.choice:
            return b""
        written = self._close_said()
        item, added = self._add(event.json)
        self.items.remove(item)
        self.done[item.index] = event.json
        return written + added + self._write("response.output_item.done", output_index=item.index, item=event.json)


def _part(kind: str, text: str, cited: list[Json], logprobs: list[Json]) -> dict[str, Json]:
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": cited, "logprobs": logprobs}


def _summary_place(item: Item) -> dict[str, Json]:
    return {"item_id": item.json["id"], "output_index": item.index, "summary_index": len(item.json["summary"])}


def _annotation(cited: Cited, before: int) -> dict[str, Json] | None:
    """Offsets count from the start of the part; those not known are left out, not invented (TRAPS T82)."""
    if cited.origin == NAME and isinstance(cited.json, dict):
        return cited.json
    if cited.url is None:
        return None
    written: dict[str, Json] = {"type": "url_citation", "url": cited.url, "title": cited.title or cited.url}
    if cited.start is not None and cited.end is not None and cited.start >= before:
        written |= {"start_index": cited.start - before, "end_index": cited.end - before}
    return written


_WRITERS: Mapping[type, Any] = {
    Started: Answer._started,
    TextDelta: Answer._text,
    ThinkingDelta: Answer._thinking,
    ThinkingEnded: Answer._thinking_ended,
    RefusalDelta: Answer._refusal,
    ToolCallStarted: Answer._call_started,
    ToolCallDelta: Answer._call_delta,
    ToolCallEnded: Answer._call_ended,
    Cited: Answer._cited,
    LogProbs: Answer._logprobs,
    Foreign: Answer._foreign,
    Ended: Answer._ended,
    Used: Answer._used,
    Finished: Answer._finished,
    Failed: Answer._failed,
}
