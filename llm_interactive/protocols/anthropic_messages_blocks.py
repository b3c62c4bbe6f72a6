"""Pieces of a Messages reply as JSON, shared by the writers of streams and of whole messages."""

from collections.abc import Mapping

from llm_interactive import wire_json
from llm_interactive.events import Cited, Reason, ThinkingEnded, UnifiedReason, Usage
from llm_interactive.protocols.anthropic_messages_errors import NAME
from llm_interactive.protocols.anthropic_messages_reply import REASONS
from llm_interactive.protocols.base import Json, ReplyContext
from llm_interactive.protocols.foreign_signatures import Hidden, wrap

WORDS: Mapping[UnifiedReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "error": "end_turn",
    "other": "end_turn",
}


def write_usage(usage: Usage) -> dict[str, Json]:
    """`input_tokens` leaves out what came from the cache or went there (TRAPS T84)."""
    if usage.origin == NAME and isinstance(usage.raw, dict):
        return {"input_tokens": 0, "output_tokens": 0, **usage.raw}
    cached, written = usage.cached or 0, usage.cache_write or 0
    counts: dict[str, Json] = {
        "input_tokens": max(0, (usage.input or 0) - cached - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output or 0,
    }
    if usage.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts


def write_stop(reason: Reason, refused: bool) -> dict[str, Json]:
    """`stop_reason` and what belongs to it."""
    if reason.origin == NAME and reason.raw in REASONS:
        word = reason.raw
    elif reason.stop_sequence is not None and reason.unified == "stop":
        word = "stop_sequence"
    else:
        word = WORDS[reason.unified]
    if refused and word == "end_turn":
        word = "refusal"  # T99
    written: dict[str, Json] = {"stop_reason": word, "stop_sequence": reason.stop_sequence}
    if reason.origin == NAME and reason.details is not None:
        written["stop_details"] = reason.details
    return written


def write_signature(event: ThinkingEnded) -> str:
    """Anthropic's own as it is; another vendor's in a wrapping that comes back to us (so does that there is none)."""
    if event.origin == NAME:
        return event.signature or ""
    return wrap(Hidden(event.origin, event.signature, event.redacted, event.item_id))


def unsigned(context: ReplyContext) -> str:
    """The signature of thinking that ended without a word."""
    return "" if context.backend_protocol == NAME else wrap(Hidden(context.backend_protocol))


def write_citation(cited: Cited) -> dict[str, Json] | None:
    """None where there is nothing to point to. Offsets are not invented (TRAPS T82)."""
    if cited.origin == NAME and isinstance(cited.json, dict):
        return dict(cited.json)
    if not cited.url:
        return None
    return {
        "type": "web_search_result_location",
        "cited_text": cited.cited_text or "",
        "encrypted_index": "",
        "title": cited.title,
        "url": cited.url,
    }


def is_complete(arguments: str) -> bool:
    """Whether a call's arguments need no further piece."""
    if not arguments.rstrip().endswith("}"):
        return False
    try:
        wire_json.loads(arguments)
    except ValueError:
        return False
    return True


def empty_message(context: ReplyContext, id_: str, usage: Usage) -> dict[str, Json]:
    return {
        "id": id_ or context.mint("msg_"),
        "type": "message",
        "role": "assistant",
        "model": context.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": write_usage(usage),
    }
