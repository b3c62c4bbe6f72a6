"""Reasoning signatures of other vendors, carried through an Anthropic client inside a thinking block's `signature`.

The value is base64, as Anthropic's own are; ours starts with a mark, so that it is told from those when it comes back.
Reasoning that nobody signed is marked too: without, Anthropic would be asked to verify it.
"""

import base64
import binascii

from llm_interactive import wire_json
from llm_interactive.conversation import Thinking

MARK = b"llm-proxy"
_PREFIX = base64.b64encode(MARK).decode()


def wrap(origin: str, signature: str | None = None, redacted: str | None = None, item_id: str | None = None) -> str:
    return base64.b64encode(MARK + wire_json.dumps([origin, signature, redacted, item_id])).decode()


def unwrap(value: str) -> Thinking | None:
    """The reasoning (without its text) that `wrap` hid; None for a signature that is Anthropic's own."""
    if not value.startswith(_PREFIX):
        return None
    try:
        fields = wire_json.loads(base64.b64decode(value, validate=True)[len(MARK) :])
    except (binascii.Error, ValueError):
        return None
    match fields:
        case [str(origin), str() | None as signature, str() | None as redacted, str() | None as item_id]:
            return Thinking(origin=origin, signature=signature, redacted=redacted, item_id=item_id)
    return None
