"""OpenAI's models list, written and read; Chat Completions and Responses share it."""

from collections.abc import Sequence

from llm_interactive.protocols.base import Json, ModelEntry

PROTOCOLS = ("openai_chat", "openai_responses")
CONTEXT_KEYS = ("context_length", "context_window", "max_context_length", "max_model_len")


def write_models(models: Sequence[ModelEntry]) -> dict[str, Json]:
    return {"object": "list", "data": [write_model(model) for model in models]}


def write_model(model: ModelEntry) -> dict[str, Json]:
    if model.origin in PROTOCOLS and isinstance(model.raw, dict):
        return {**model.raw, "id": model.id, "object": "model"}
    written: dict[str, Json] = {
        "id": model.id,
        "object": "model",
        "created": model.created or 0,
        "owned_by": model.owner or "unknown",
    }
    if model.context is not None:
        written["context_length"] = model.context
    return written


def read_models(body: Json, protocol: str) -> list[ModelEntry]:
    """A bare list and a list under `models` are read too: some compatible services answer so."""
    found = body
    if isinstance(body, dict):
        found = body.get("data") if isinstance(body.get("data"), list) else body.get("models")
    return [
        ModelEntry(
            id=entry["id"],
            name=entry.get("display_name") or entry.get("name"),
            created=_whole(entry.get("created")),
            owner=entry.get("owned_by"),
            context=next((size for key in CONTEXT_KEYS if (size := _whole(entry.get(key)))), None),
            max_output=_whole(entry.get("max_completion_tokens")),
            raw=entry,
            origin=protocol,
        )
        for entry in (found if isinstance(found, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    ]


def _whole(value: Json) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
