"""What is kept of a stream whose source events go on as they came, so that the proxy can take over at any point.

Only the events that begin and end items are parsed on the way; those since an item was begun are kept as bytes and read
when the proxy must close it.
"""

from llm_interactive import sse, wire_json
from llm_interactive.protocols.base import Json, ReplyContext
from llm_interactive.protocols.openai_responses_answer import CALL_EVENTS, PARTS, Answer, Item
from llm_interactive.protocols.openai_responses_object import new_response

_ENDS = (b'"response.completed"', b'"response.incomplete"', b'"response.failed"', b'"response.done"')


def parsed(source: bytes) -> dict[str, Json]:
    """The JSON of an event, {} where it holds none."""
    data = sse.parse(source).data
    try:
        value = wire_json.loads(data) if data else None
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def with_model(source: bytes, model: str) -> bytes:
    """The same event, with another name in the response it holds."""
    if b'"model"' not in source or b'"response"' not in source:
        return source
    event = parsed(source)
    response = event.get("response")
    if not isinstance(response, dict) or "model" not in response:
        return source
    changed = {**event, "response": {**response, "model": model}}
    return sse.write(wire_json.dumps(changed), sse.parse(source).name)


class Passed:
    def __init__(self) -> None:
        self._created: dict[str, Json] = {}
        self._final = b""
        self._done: dict[int, Json] = {}
        self._open: set[int] = set()
        self._kinds: dict[int, str] = {}
        self._recent: list[bytes] = []
        self._count = 0

    def note(self, source: bytes) -> None:
        self._count += 1
        self._recent.append(source)
        if b'"response.output_item.' in source:
            self._note_item(parsed(source))
        elif not self._created and b'"response.created"' in source:
            response = parsed(source).get("response")
            self._created = response if isinstance(response, dict) else {}
        elif any(kind in source for kind in _ENDS):
            self._final = source

    def _note_item(self, event: dict[str, Json]) -> None:
        kind, index, item = event.get("type"), event.get("output_index"), event.get("item")
        if not isinstance(index, int) or not isinstance(item, dict):
            return
        self._kinds[index] = str(item.get("type"))
        if kind == "response.output_item.added":
            self._open.add(index)
        elif kind == "response.output_item.done":
            self._open.discard(index)
            self._done[index] = item
            if not self._open:
                self._recent = self._recent[-1:]

    @property
    def response_id(self) -> str:
        return str(self._created.get("id") or self.response.get("id") or "")

    @property
    def response(self) -> dict[str, Json]:
        """The final response, or the one that was begun."""
        final = parsed(self._final).get("response") if self._final else None
        return final if isinstance(final, dict) else self._created

    @property
    def output(self) -> list[Json]:
        output = self.response.get("output")
        return output if isinstance(output, list) and output else [self._done[index] for index in sorted(self._done)]

    def taken_over(self, context: ReplyContext) -> Answer:
        """An answer that stands where the stream stands, with the same items open."""
        answer = Answer(context)
        if self._created:
            answer.id = str(self._created.get("id") or context.mint("resp_"))
            said = {"id": answer.id, "model": context.model, "output": []}
            answer.response = {**new_response(answer.id, context), **self._created, **said}
        answer.done = dict(self._done)
        answer.next_index = max(self._kinds, default=-1) + 1
        answer.length = sum(_length(item) for item in self._done.values())
        events = [parsed(source) for source in self._recent]
        numbers = [number for event in events if isinstance(number := event.get("sequence_number"), int)]
        answer.sequence = max(numbers) + 1 if numbers else self._count
        slots = [index for index, kind in self._kinds.items() if kind in CALL_EVENTS]
        _Restored(answer, {index: slot for slot, index in enumerate(slots)}).read(events)
        return answer


def _length(item: Json) -> int:
    content = item.get("content") if isinstance(item, dict) and item.get("type") == "message" else None
    parts = content if isinstance(content, list) else ()
    return sum(len(part["text"]) for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


class _Restored:
    """Reads source events into the open items of an answer."""

    def __init__(self, answer: Answer, slots: dict[int, int]) -> None:
        self._answer = answer
        self._slots = slots
        self._items: dict[int, Item] = {}

    def read(self, events: list[dict[str, Json]]) -> None:
        for event in events:
            index, kind = event.get("output_index"), str(event.get("type"))
            if not isinstance(index, int) or index in self._answer.done:
                continue
            if kind == "response.output_item.added" and isinstance(event.get("item"), dict):
                self._add(index, dict(event["item"]))
            elif (item := self._items.get(index)) is not None:
                self._event(item, kind, event)

    def _add(self, index: int, json: dict[str, Json]) -> None:
        kind = json.get("type")
        json["id"] = str(json.get("id") or f"item_{index}")
        item = self._items[index] = Item(index, json)
        self._answer.items.append(item)
        if kind == "message":
            json["content"] = []
            self._answer.spoken = item
        elif kind == "reasoning":
            json["summary"] = []
            self._answer.thought = item
        elif kind in CALL_EVENTS:
            self._answer.begin_call(self._slots[index], item)

    def _event(self, item: Item, kind: str, event: dict[str, Json]) -> None:
        delta, part = event.get("delta"), event.get("part")
        match kind:
            case "response.content_part.added" if item.json["type"] == "message" and isinstance(part, dict):
                if part.get("type") in PARTS:
                    self._answer.begin_part(item, part["type"])
            case "response.content_part.done" if item.json["type"] == "message":
                item.json = {**item.json, "content": [*item.json["content"], part]}
                item.part, item.pieces, item.cited, item.logprobs = None, [], [], []
            case "response.output_text.annotation.added":
                item.cited.append(event.get("annotation"))
            case "response.reasoning_summary_part.added" if item.json["type"] == "reasoning":
                self._answer.begin_summary(item)
            case "response.reasoning_summary_part.done" if item.json["type"] == "reasoning":
                item.json = {**item.json, "summary": [*item.json["summary"], part]}
                item.part, item.pieces = None, []
            case "response.reasoning_text.delta" if isinstance(delta, str):
                self._reasoned(item, delta)
            case _ if (
                kind.endswith(".delta") and isinstance(delta, str) and (item.part or item.json["type"] in CALL_EVENTS)
            ):
                item.pieces.append(delta)

    def _reasoned(self, item: Item, delta: str) -> None:
        """Reasoning in the clear stands in `content`, apart from its summary."""
        before = "".join(part["text"] for part in item.json.get("content") or ())
        item.json = {**item.json, "content": [{"type": "reasoning_text", "text": before + delta}]}
