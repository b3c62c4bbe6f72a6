"""How much a request may hold, besides its bytes and its nesting (SPEC 9): far more than any client sends, and few
enough that every step of the walk stays a matter of milliseconds for each thousand."""

from collections.abc import Mapping
from typing import Any

from llm_interactive.errors import BadRequest

MAX_MESSAGES = 100_000
"""Messages, input items or contents."""
MAX_PARTS = 200_000
"""Parts of all messages together."""
MAX_TOOLS = 4096
"""Tools; the providers take 128 to 512."""

_MESSAGES = (("messages", "content"), ("input", "content"), ("contents", "parts"))
_DECLARATIONS = ("functionDeclarations", "function_declarations")


def check(body: Mapping[str, Any]) -> None:
    """Raises `BadRequest`. `body`: a request as parsed, in any protocol."""
    for key, parts in _MESSAGES:
        messages = _list(body.get(key))
        _refuse(key, len(messages), MAX_MESSAGES)
        held = sum(len(_list(each.get(parts))) for each in messages if isinstance(each, dict))
        _refuse(f"{key}[].{parts}", held, MAX_PARTS)
    tools = _list(body.get("tools"))
    declared = (len(_list(each.get(key))) for each in tools if isinstance(each, dict) for key in _DECLARATIONS)
    _refuse("tools", len(tools) + sum(declared), MAX_TOOLS)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _refuse(name: str, number: int, most: int) -> None:
    if number > most:
        raise BadRequest(f"'{name}' holds {number}, at most {most} are taken", param=name.partition("[")[0])
