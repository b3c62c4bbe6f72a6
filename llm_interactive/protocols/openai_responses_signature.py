"""Reasoning signatures of other vendors, carried through a Responses client inside `encrypted_content`.

Clients send reasoning items back as they came (TRAPS T97). What we hid starts with a mark, so that it is told from
OpenAI's own; a `call_id` says that the signature belongs to that tool call (Gemini signs calls, T56).
"""

import base64
import binascii
from typing import NamedTuple

from llm_interactive import wire_json

MARK = "llm-proxy."


class Hidden(NamedTuple):
    origin: str
    signature: str | None = None
    redacted: str | None = None
    item_id: str | None = None
    call_id: str | None = None


def wrap(hidden: Hidden) -> str:
    return MARK + base64.b64encode(wire_json.dumps(list(hidden))).decode()


def unwrap(value: str) -> Hidden | None:
    """None for a value that is OpenAI's own."""
    if not value.startswith(MARK):
        return None
    try:
        fields = wire_json.loads(base64.b64decode(value[len(MARK) :], validate=True))
    except (binascii.Error, ValueError):
        return None
    if not isinstance(fields, list) or len(fields) != len(Hidden._fields) or not isinstance(fields[0], str):
        return None
    return Hidden(*fields) if all(field is None or isinstance(field, str) for field in fields) else None
