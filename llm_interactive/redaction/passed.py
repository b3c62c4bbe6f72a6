"""Bodies that the proxy passes on without reading them as a conversation: JSON, text, and the text fields of forms.

Files in a form, pictures and sound go on as they are.
"""

import re

from llm_interactive import wire_json
from llm_interactive.redaction.redactor import Redaction, Redactor

TEXT = re.compile(
    r"text/|application/(?:[a-z.-]*\+)?(?:json|jsonl|x-ndjson|xml|x-www-form-urlencoded|yaml)\b", re.ASCII
)
BOUNDARY = re.compile(r'boundary="?([^";,]{1,200})', re.IGNORECASE)
IS_FILE = re.compile(
    rb"filename\*?=|^content-type:(?!\s*text/plain)|^content-transfer-encoding:", re.IGNORECASE | re.MULTILINE
)


def redacted_body(redaction: Redaction, body: bytes, content_type: str) -> bytes:
    """The same object where no secret is in it. A broken body is taken for text, so that it cannot get around this."""
    if content_type.lower().startswith("multipart/"):
        return _form(redaction, body, content_type)
    if body[:1] in b"{[" or "json" in content_type:
        try:
            parsed = wire_json.loads(body)
        except ValueError:
            return _text(redaction, body)
        if wire_json.depth_exceeds(parsed):
            return _text(redaction, body)
        new = redaction.body(parsed)
        return body if new is parsed else wire_json.dumps(new)
    return _text(redaction, body) if not content_type or TEXT.match(content_type.lower()) else body


def redacted_bytes(redactor: Redactor, data: bytes) -> bytes:
    """Text of a provider, as in an error that quotes a key."""
    return _text(redactor.begin(), data)


def _text(redaction: Redaction, data: bytes) -> bytes:
    text = data.decode("utf-8", "surrogateescape")
    new = redaction.text(text)
    return data if new is text else new.encode("utf-8", "surrogateescape")


def _form(redaction: Redaction, body: bytes, content_type: str) -> bytes:
    match = BOUNDARY.search(content_type)
    if match is None:
        return _text(redaction, body)
    mark = b"--" + match[1].strip().encode()
    fields = body.split(mark)
    new = [_field(redaction, field) for field in fields]
    return mark.join(new) if new != fields else body


def _field(redaction: Redaction, field: bytes) -> bytes:
    head, blank, value = field.partition(b"\r\n\r\n")
    return field if IS_FILE.search(head) else head + blank + _text(redaction, value)
