"""What Responses replies say: an event of a stream, or a whole response object -> canonical events.

Deltas count; what was never streamed is taken from the events that end a part, an item or the response, each thing
once (some services send no deltas, some no items at the end). Events that say nothing canonical pass as bare frames.
"""

from collections.abc import Callable, Mapping

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
from llm_interactive.protocols import openai_errors
from llm_interactive.protocols.base import Json

NAME = "openai_responses"

REASONS: Mapping[str, UnifiedReason] = {
    "completed": "stop",
    "max_output_tokens": "length",
    "max_tokens": "length",
    "max_messages": "length",
    "content_filter": "content_filter",
    "steered": "other",
    "incomplete": "length",
}
FAILURES = ("failed", "cancelled")
CALLS: Mapping[str, str] = {"function_call": "arguments", "custom_tool_call": "input"}
"""Items that are calls of the client's tools -> the key of what they are called with."""


def read_usage(usage: dict[str, Json], tier: Json = None) -> Usage:
    read, output = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    details, output_details = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    cached, written = _count(details, "cached_tokens"), _count(details, "cache_write_tokens")
    reasoning = _count(output_details, "reasoning_tokens")
    if cached and read is not None and cached > read:
        cached = None  # impossible numbers
    return Usage(read, output, cached, written, reasoning, raw=usage, origin=NAME, tier=tier)


def _count(holder: Json, key: str) -> int | None:
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class _Item:
    """What has been read of one output item."""

    __slots__ = ("base", "begun", "cited", "done", "ended", "kind", "said", "slot")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.slot = -1
        self.done = self.ended = self.begun = False
        self.said: dict[Json, bool] = {}  # parts whose text was streamed
        self.cited: dict[Json, int] = {}  # annotations by part
        self.base: dict[Json, int] = {}  # where in the answer's text a part begins


class Decoder:
    """Events and response objects -> canonical events. Never raises on JSON of any shape."""

    def __init__(self) -> None:
        self.over = False
        self._started = False
        self._items: dict[Json, _Item] = {}
        self._order: list[_Item] = []
        self._last_key: Json = None
        self._calls = 0
        self._length = 0
        self._events: list[Event] = []

    def event(self, event: dict[str, Json], name: str | None = None) -> list[Event]:
        if self.over:
            return []
        kind = event.get("type") or name
        read = _READERS.get(kind) if isinstance(kind, str) else None
        if read is not None:
            read(self, event)
        elif event.get("object") == "response" or (kind is None and "output" in event):
            self._lifecycle({"response": event})
        elif event.get("error"):
            self._fail(event["error"])
        return self._taken()

    def whole(self, response: dict[str, Json]) -> list[Event]:
        self._ended({"response": response})
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # --- the response ---

    def _begin(self, response: Json) -> None:
        if self._started:
            return
        self._started = True
        holder = response if isinstance(response, dict) else {}
        created = holder.get("created_at")
        created = int(created) if isinstance(created, int | float) and abs(created) < 1e12 else None
        self._events.append(Started(str(holder.get("id") or ""), str(holder.get("model") or ""), created))

    def _lifecycle(self, event: dict[str, Json]) -> None:
        response = event.get("response")
        self._begin(response)
        status = response.get("status") if isinstance(response, dict) else None
        if status in ("completed", "incomplete", *FAILURES) and not str(event.get("type")).endswith("created"):
            self._ended(event)

    def _ended(self, event: dict[str, Json]) -> None:
        response = event.get("response")
        response = response if isinstance(response, dict) else {}
        self._begin(response)
        self._rest(response.get("output"))
        if isinstance(response.get("usage"), dict):
            self._events.append(Used(read_usage(response["usage"], response.get("service_tier"))))
        status = str(response.get("status") or str(event.get("type") or "").rpartition(".")[2] or "completed")
        if response.get("error") or status in FAILURES:
            self._fail(response.get("error") or {"message": f"the response was {status}"})
            return
        self._close_calls()
        details = response.get("incomplete_details")
        raw = details.get("reason") if isinstance(details, dict) and status != "completed" else None
        raw = str(raw or status)
        unified = REASONS.get(raw, "other")
        if unified == "stop" and self._calls:
            unified = "tool_calls"  # T17
        self._events += [Ended(Reason(unified, raw, NAME)), Finished()]
        self.over = True

    def _fail(self, error: Json) -> None:
        self._begin(None)
        self._events.append(Failed(openai_errors.read_stream_error(NAME, error)))
        self.over = True

    def _error(self, event: dict[str, Json]) -> None:
        inner = event.get("error")
        said = (
            inner if inner else {key: value for key, value in event.items() if key not in ("type", "sequence_number")}
        )
        self._fail(said)

    def _rest(self, output: Json) -> None:
        """Items that the stream did not hold, or left open: the nth of a kind here is the nth of that kind there."""
        counts: dict[str, int] = {}
        for item in output if isinstance(output, list) else ():
            if not isinstance(item, dict):
                continue
            kind = str(item.get("type"))
            nth = counts[kind] = counts.get(kind, 0) + 1
            known = [seen for seen in self._order if seen.kind == kind][nth - 1 : nth]
            self._finish_item(known[0] if known else self._add(("rest", kind, nth), kind), item)

    # --- items ---

    def _add(self, key: Json, kind: str) -> _Item:
        item = _Item(kind)
        self._items[key] = item
        self._order.append(item)
        return item

    def _item(self, event: dict[str, Json], kind: str) -> _Item:
        key = _key(event)
        key = key if key is not None else self._last_key
        self._last_key = key
        item = self._items.get(key)
        if item is None or item.kind != kind:
            item = self._add(key, kind)
        return item

    def _item_added(self, event: dict[str, Json]) -> None:
        self._begin(None)
        item = event.get("item")
        if isinstance(item, dict):
            state = self._item(event, str(item.get("type")))
            if state.kind in CALLS:
                self._open_call(state, item)

    def _item_done(self, event: dict[str, Json]) -> None:
        self._begin(None)
        item = event.get("item")
        if isinstance(item, dict):
            self._finish_item(self._item(event, str(item.get("type"))), item)

    def _finish_item(self, state: _Item, item: dict[str, Json]) -> None:
        if state.done:
            return
        state.done = True
        if state.kind == "message":
            self._finish_message(state, item)
        elif state.kind == "reasoning":
            self._finish_reasoning(state, item)
        elif state.kind in CALLS:
            self._open_call(state, item)
            self._call_said(state, item.get(CALLS[state.kind]))
            self._end_call(state)
        else:
            self._events.append(Foreign(NAME, state.kind, item))

    def _finish_message(self, state: _Item, item: dict[str, Json]) -> None:
        content = item.get("content")
        if isinstance(content, str):
            content = [{"type": "output_text", "text": content}]
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict):
                self._part(state, index, part)

    def _part(self, state: _Item, index: Json, part: dict[str, Json]) -> None:
        refusal = part.get("refusal")
        self._say_once(
            state, index, refusal if isinstance(refusal, str) else part.get("text"), isinstance(refusal, str)
        )
        logprobs = part.get("logprobs")
        if isinstance(logprobs, list) and logprobs and not state.said.get(("logprobs", index)):
            state.said["logprobs", index] = True
            self._events.append(LogProbs(tuple(logprobs)))
        annotations = part.get("annotations")
        known = state.cited.get(index, 0)
        for annotation in annotations[known:] if isinstance(annotations, list) else ():
            self._cite(state, index, annotation)

    def _say_once(self, state: _Item, index: Json, text: Json, refusal: bool = False) -> None:
        if not isinstance(text, str) or not text or state.said.get(index):
            return
        self._say(state, index, text, refusal)

    def _say(self, state: _Item, index: Json, text: str, refusal: bool) -> None:
        state.said[index] = True
        if refusal:
            self._events.append(RefusalDelta(text))
            return
        if index not in state.base:
            state.base[index] = self._length
        self._length += len(text)
        self._events.append(TextDelta(text))

    def _cite(self, state: _Item, index: Json, annotation: Json) -> None:
        if not isinstance(annotation, dict):
            return
        state.cited[index] = state.cited.get(index, 0) + 1
        base = state.base.get(index, 0)
        start, end = _count(annotation, "start_index"), _count(annotation, "end_index")
        title = annotation.get("title") or annotation.get("filename")
        self._events.append(
            Cited(
                url=annotation["url"] if isinstance(annotation.get("url"), str) else None,
                title=title if isinstance(title, str) else None,
                start=None if start is None else start + base,
                end=None if end is None else end + base,
                origin=NAME,
                json=annotation,
            )
        )

    # --- deltas ---

    def _text_delta(self, event: dict[str, Json]) -> None:
        state, delta, index = self._item(event, "message"), event.get("delta"), _index(event)
        if isinstance(delta, str) and delta:
            self._begin(None)
            self._say(state, index, delta, False)
        logprobs = event.get("logprobs")
        if isinstance(logprobs, list) and logprobs:
            state.said["logprobs", index] = True
            self._events.append(LogProbs(tuple(logprobs)))

    def _refusal_delta(self, event: dict[str, Json]) -> None:
        delta = event.get("delta")
        if isinstance(delta, str) and delta:
            self._begin(None)
            self._say(self._item(event, "message"), _index(event), delta, True)

    def _text_done(self, event: dict[str, Json]) -> None:
        self._begin(None)
        state = self._item(event, "message")
        self._part(state, _index(event), {key: event.get(key) for key in ("text", "refusal", "logprobs")})

    def _part_done(self, event: dict[str, Json]) -> None:
        part = event.get("part")
        if isinstance(part, dict) and part.get("type") in ("output_text", "refusal", "text"):
            self._begin(None)
            self._part(self._item(event, "message"), _index(event), part)

    def _annotation(self, event: dict[str, Json]) -> None:
        self._begin(None)
        self._cite(self._item(event, "message"), _index(event), event.get("annotation"))

    # --- reasoning ---

    def _think(self, state: _Item, part: Json, text: Json) -> None:
        """Parts of one item are apart by a blank line."""
        if not isinstance(text, str) or not text:
            return
        self._begin(None)
        if part not in state.said and state.begun:
            text = "\n\n" + text
        state.said[part] = state.begun = True
        self._events.append(ThinkingDelta(text))

    def _think_once(self, state: _Item, part: Json, text: Json) -> None:
        if part not in state.said:
            self._think(state, part, text)

    def _summary_delta(self, event: dict[str, Json]) -> None:
        state = self._item(event, "reasoning")
        self._think(state, ("summary", _index(event, "summary_index")), event.get("delta"))

    def _summary_done(self, event: dict[str, Json]) -> None:
        part = event.get("part")
        text = part.get("text") if isinstance(part, dict) else event.get("text")
        self._think_once(self._item(event, "reasoning"), ("summary", _index(event, "summary_index")), text)

    def _reasoning_delta(self, event: dict[str, Json]) -> None:
        state = self._item(event, "reasoning")
        self._think(state, ("content", _index(event)), event.get("delta"))

    def _reasoning_done(self, event: dict[str, Json]) -> None:
        self._think_once(self._item(event, "reasoning"), ("content", _index(event)), event.get("text"))

    def _finish_reasoning(self, state: _Item, item: dict[str, Json]) -> None:
        for key in ("summary", "content"):
            parts = item.get(key)
            for index, part in enumerate(parts if isinstance(parts, list) else ()):
                if isinstance(part, dict):
                    self._think_once(state, (key, index), part.get("text"))
        signature, item_id = item.get("encrypted_content"), item.get("id")
        signature = signature if isinstance(signature, str) and signature else None
        if state.begun or signature is not None:
            item_id = item_id if isinstance(item_id, str) else None
            self._events.append(ThinkingEnded(NAME, signature, item_id=item_id))

    # --- calls ---

    def _open_call(self, state: _Item, item: dict[str, Json]) -> None:
        name = item.get("name")
        if state.slot >= 0 or not ((isinstance(name, str) and name) or state.done):
            return
        self._begin(None)
        state.slot = self._calls
        self._calls += 1
        call_id = item.get("call_id") or item.get("id") or f"call_{state.slot}"
        custom = state.kind == "custom_tool_call"
        self._events.append(ToolCallStarted(state.slot, str(call_id), str(name or ""), custom=custom))

    def _call_delta(self, event: dict[str, Json]) -> None:
        kind = "custom_tool_call" if "custom" in str(event.get("type")) else "function_call"
        state, delta = self._item(event, kind), event.get("delta")
        if state.slot >= 0 and isinstance(delta, str) and delta:
            state.said[0] = True
            self._events.append(ToolCallDelta(state.slot, delta))

    def _call_done(self, event: dict[str, Json]) -> None:
        kind = "custom_tool_call" if "custom" in str(event.get("type")) else "function_call"
        state = self._item(event, kind)
        self._open_call(state, event)
        self._call_said(state, event.get(CALLS[kind]))

    def _call_said(self, state: _Item, said: Json) -> None:
        if state.slot < 0 or state.said.get(0) or state.ended or said is None or said == "":
            return
        state.said[0] = True
        self._events.append(ToolCallDelta(state.slot, said if isinstance(said, str) else wire_json.text(said)))

    def _end_call(self, state: _Item) -> None:
        if state.slot >= 0 and not state.ended:
            state.ended = True
            self._events.append(ToolCallEnded(state.slot))

    def _close_calls(self) -> None:
        for state in self._order:
            self._end_call(state)


def _index(event: dict[str, Json], key: str = "content_index") -> int:
    return _count(event, key) or 0


def _key(event: dict[str, Json]) -> Json:
    """Items are told apart by `output_index`, else by `item_id`; None where a service says neither."""
    index = event.get("output_index")
    if isinstance(index, int):
        return index
    item_id = event.get("item_id")
    return item_id if isinstance(item_id, str) else None


_READERS: dict[str, Callable[[Decoder, dict[str, Json]], None]] = {
    "response.created": Decoder._lifecycle,
    "response.queued": Decoder._lifecycle,
    "response.in_progress": Decoder._lifecycle,
    "response.completed": Decoder._ended,
    "response.incomplete": Decoder._ended,
    "response.failed": Decoder._ended,
    "response.cancelled": Decoder._ended,
    "response.done": Decoder._ended,
    "error": Decoder._error,
    "response.error": Decoder._error,
    "response.output_item.added": Decoder._item_added,
    "response.output_item.done": Decoder._item_done,
    "response.content_part.done": Decoder._part_done,
    "response.output_text.delta": Decoder._text_delta,
    "response.output_text.done": Decoder._text_done,
    "response.output_text.annotation.added": Decoder._annotation,
    "response.refusal.delta": Decoder._refusal_delta,
    "response.refusal.done": Decoder._text_done,
    "response.reasoning_summary_text.delta": Decoder._summary_delta,
    "response.reasoning_summary_text.done": Decoder._summary_done,
    "response.reasoning_summary_part.done": Decoder._summary_done,
    "response.reasoning_text.delta": Decoder._reasoning_delta,
    "response.reasoning_text.done": Decoder._reasoning_done,
    "response.function_call_arguments.delta": Decoder._call_delta,
    "response.function_call_arguments.done": Decoder._call_done,
    "response.custom_tool_call_input.delta": Decoder._call_delta,
    "response.custom_tool_call_input.done": Decoder._call_done,
}
"""All others tell how OpenAI's own tools get on (web_search_call.searching, ...), announce what the events above say
(content_part.added), or are sound: their items arrive whole in output_item.done."""
