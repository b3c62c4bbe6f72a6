from collections.abc import Iterator, Mapping
from typing import Any

from llm_interactive.commands.command import command
from llm_interactive.commands.context import Context
from llm_interactive.commands.set_keys import KEYS


@command()
def status(context: Context) -> str:
    """Show what this session has set, the route and keys that apply, and what was used today.

    Format: status
    Example: status
    """
    return "\n".join(_lines(context))


def _lines(context: Context) -> Iterator[str]:
    session = context.session
    yield f"Session: {session.name}"
    for key in KEYS:
        value = getattr(session, key.field, None) if not key.server else None
        if value is not None:
            yield f"{key.name}: {value}"
    if session.oneoff is not None:
        yield f"next prompt: {session.oneoff}"
    yield f"default backend: {context.default_backend or 'by model name'}"
    yield f"redact-api-keys-in-prompts: {context.redact}"
    if session.model in context.routes:
        route = context.routes[session.model]
        yield f"route {session.model}: policy {route.policy}, {', '.join(route.elements) or '<empty>'}"
    yield f"keys: {'; '.join(context.key_states()) or 'all ready'}"
    yield f"today: {_usage(context.usage())}"


def _usage(totals: Mapping[str, Any]) -> str:
    if not totals.get("requests"):
        return "no usage recorded"
    cost = totals.get("cost")
    said = "unknown cost" if cost is None else f"${cost:.4f}"
    unpriced = totals.get("unpriced") or 0
    more = f" and {unpriced} requests of unknown cost" if cost is not None and unpriced else ""
    prompt, completion = totals.get("prompt_tokens", 0), totals.get("completion_tokens", 0)
    return f"{prompt + completion} tokens ({prompt} in, {completion} out), {said}{more}"
