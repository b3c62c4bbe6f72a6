"""Responses that a client may go on from (`previous_response_id`), kept for backends that keep none (TRAPS T96).

Entries are plain JSON; the oldest go when there are too many or they are too large. Nothing here does I/O.
"""

from collections import OrderedDict
from collections.abc import Iterable

from llm_interactive import wire_json
from llm_interactive.errors import BadRequest
from llm_interactive.protocols.base import Json

KEPT_ITEM_IDS = ("item_reference", "mcp_approval_request", "mcp_list_tools")
"""Items whose id says something to the next turn; others' ids would be looked up where nobody knows them."""


class ResponseStore:
    def __init__(self, max_entries: int = 1000, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[str, tuple[int, dict[str, Json]]] = OrderedDict()

    def remember(
        self,
        response_id: str,
        input_items: str | Iterable[Json],
        output_items: Iterable[Json],
        response: dict[str, Json] | None = None,
        *,
        before: Json = None,
    ) -> None:
        """`input_items`: all that was said to the model, as `expand` gave it. `response`: for `GET /responses/{id}`.
        `before`: the id of the response that all this followed, where its provider keeps it."""
        entry = {"input": as_items(input_items), "output": list(output_items), "response": response, "before": before}
        self.forget(response_id)
        size = len(wire_json.dumps(entry))
        self._entries[response_id] = size, entry
        self._bytes += size
        while len(self._entries) > self._max_entries or (self._bytes > self._max_bytes and len(self._entries) > 1):
            _, (size, _) = self._entries.popitem(last=False)
            self._bytes -= size

    def knows(self, response_id: Json) -> bool:
        return isinstance(response_id, str) and response_id in self._entries

    def forget(self, response_id: str) -> bool:
        found = self._entries.pop(response_id, None)
        self._bytes -= found[0] if found is not None else 0
        return found is not None

    def expand(self, body: dict[str, Json]) -> dict[str, Json]:
        """The request with all that was said before in its `input`, in place of `previous_response_id`; that is then
        the id of what a provider keeps, if any."""
        previous = body.get("previous_response_id")
        if previous is None:
            return body
        found = self._entries.get(previous) if isinstance(previous, str) else None
        if found is None:
            raise BadRequest(
                f"Previous response with id '{previous}' not found.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        entry = found[1]
        said = [*entry["input"], *map(_said_before, entry["output"])]
        expanded = {key: value for key, value in body.items() if key != "previous_response_id"}
        if entry["before"] is not None:
            expanded["previous_response_id"] = entry["before"]
        return {**expanded, "input": [*said, *as_items(body.get("input") or [])]}

    def response(self, response_id: str) -> dict[str, Json] | None:
        """The body of `GET /v1/responses/{id}`."""
        found = self._entries.get(response_id)
        return found[1]["response"] if found is not None else None

    def input_items(self, response_id: str) -> dict[str, Json] | None:
        """The body of `GET /v1/responses/{id}/input_items`."""
        found = self._entries.get(response_id)
        if found is None:
            return None
        items = [{"id": f"item_{i}", **item} for i, item in enumerate(found[1]["input"])]
        ends = {"first_id": items[0]["id"] if items else None, "last_id": items[-1]["id"] if items else None}
        return {"object": "list", "data": items, **ends, "has_more": False}

    def entries(self) -> dict[str, Json]:
        """All of it as JSON, oldest first, for whoever writes it down."""
        return {response_id: entry for response_id, (_, entry) in self._entries.items()}

    def restore(self, entries: dict[str, Json]) -> None:
        for response_id, entry in entries.items():
            self.remember(
                response_id, entry["input"], entry["output"], entry.get("response"), before=entry.get("before")
            )


def as_items(value: str | Iterable[Json]) -> list[Json]:
    return [{"type": "message", "role": "user", "content": value}] if isinstance(value, str) else list(value)


def write_deleted(response_id: str) -> dict[str, Json]:
    """The body of `DELETE /v1/responses/{id}`."""
    return {"id": response_id, "object": "response", "deleted": True}


def _said_before(item: Json) -> Json:
    """An output item as it is said again."""
    if not isinstance(item, dict) or item.get("type") in KEPT_ITEM_IDS:
        return item
    return {key: value for key, value in item.items() if key not in ("id", "status")}
