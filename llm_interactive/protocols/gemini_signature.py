"""Reasoning signatures of other vendors, carried through a Gemini client inside `thoughtSignature`.

The field is bytes, so the value is base64 on the wire (TRAPS T56); SDKs give it back in the URL-safe alphabet. Ours
starts with a mark, so that it is told from Google's own when it comes back.
"""

import base64
import binascii

from llm_interactive import wire_json
from llm_interactive.conversation import Thinking

MARK = b"llm-proxy"
_PREFIX = base64.b64encode(MARK).decode()
_STANDARD = str.maketrans("-_", "+/")


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


def wrap(origin: str, signature: str | None, redacted: str | None, item_id: str | None) -> str:
    return base64.b64encode(MARK + wire_json.dumps([origin, signature, redacted, item_id])).decode()


def unwrap(value: str) -> Thinking | None:
    """The reasoning (without its text) that `wrap` hid; None for a signature that is Google's own."""
    if not value.startswith(_PREFIX):
        return None
    try:
        fields = wire_json.loads(base64.b64decode(standard_base64(value), validate=True)[len(MARK) :])
    except (binascii.Error, ValueError):
        return None
    match fields:
        case [str(origin), signature, redacted, item_id]:
            return Thinking(origin=origin, signature=signature, redacted=redacted, item_id=item_id)
    return None
