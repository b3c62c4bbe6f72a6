"""Model lists in OpenAI's shape; compatible services add fields of their own, which a list of theirs keeps."""

from collections.abc import Sequence

from llm_interactive.protocols.base import Json, ModelEntry

OWN = ("openai_chat", "openai_responses")


def write_models(models: Sequence[ModelEntry]) -> dict[str, Json]:
    return {"object": "list", "data": [write_model(model) for model in models]}


def write_model(model: ModelEntry) -> dict[str, Json]:
    own = dict(model.raw) if model.origin in OWN and isinstance(model.raw, dict) else {}
    basic = {"id": model.id, "object": "model", "created": model.created or 0, "owned_by": model.owner or "unknown"}
    return own | basic


def read_models(body: Json, origin: str) -> list[ModelEntry]:
    """`data` of the answer, or the answer itself where it is a list; what is no model is left out."""
    entries = body.get("data", body.get("models")) if isinstance(body, dict) else body
    return [
        ModelEntry(
            id=entry["id"],
            name=entry.get("name"),
            created=entry.get("created") if isinstance(entry.get("created"), int) else None,
            owner=entry.get("owned_by"),
            context=entry.get("context_length"),
            raw=entry,
            origin=origin,
        )
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    ]
