"""Reasoning signatures of one vendor, carried through a client that speaks another's protocol, in the place where that
has its own: Anthropic's `signature`, Gemini's `thoughtSignature`, Responses' `encrypted_content`.

All three are base64 on the wire (TRAPS T56); Gemini's SDKs give it back in the URL-safe alphabet. Ours starts with a
mark, so that it is told from the vendor's own when it comes back (T97). Reasoning that nobody signed is marked too:
without, the vendor would be asked to verify it.
"""

import base64
import binascii
from typing import NamedTuple

from llm_interactive import wire_json
from llm_interactive.conversation import Thinking

MARK = b"llm-proxy"
_PREFIX = base64.b64encode(MARK).decode()
_STANDARD = str.maketrans("-_", "+/")


class Hidden(NamedTuple):
    """`call_id`: the signature belongs to that tool call (Gemini signs calls, T56)."""

    origin: str
    signature: str | None = None
    redacted: str | None = None
    item_id: str | None = None
    call_id: str | None = None

    def thinking(self, text: str) -> Thinking:
        return Thinking(
            text=text, origin=self.origin, signature=self.signature, redacted=self.redacted, item_id=self.item_id
        )


def wrap(hidden: Hidden) -> str:
    return base64.b64encode(MARK + wire_json.dumps(list(hidden))).decode()


def is_wrapped(value: str) -> bool:
    return value.startswith(_PREFIX)


def unwrap(value: str) -> Hidden | None:
    """None for a value that is the vendor's own."""
    if not is_wrapped(value):
        return None
    try:
        fields = wire_json.loads(base64.b64decode(standard_base64(value), validate=True)[len(MARK) :])
    except (binascii.Error, ValueError):
        return None
    if not isinstance(fields, list) or len(fields) != len(Hidden._fields) or not isinstance(fields[0], str):
        return None
    return Hidden(*fields) if all(field is None or isinstance(field, str) for field in fields) else None


def standard_base64(data: str) -> str:
    """The standard alphabet with padding, whatever the spelling: other vendors take nothing else."""
    data = data.strip().translate(_STANDARD).rstrip("=")
    return data + "=" * (-len(data) % 4)


def is_base64(text: str) -> bool:
    try:
        base64.b64decode(standard_base64(text), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
