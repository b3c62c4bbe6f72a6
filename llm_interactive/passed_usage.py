"""What calls that are passed on unread say of their model and usage: embeddings, images, transcripts and the like.

Of a reply only the beginning and the end are kept, since that is where vendors put their usage object. Nothing raises.
"""

import json
import re
from typing import Any

from llm_interactive.events import Usage

KEPT = 16 * 1024
"""Bytes of each end."""
MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,200})"|name="?model"?\r\n\r\n([^\r\n]{1,200})\r\n')
USAGE = re.compile(r'"usage(?:Metadata)?"\s*:\s*(?=\{)')
INPUT = ("prompt_tokens", "input_tokens", "promptTokenCount")
OUTPUT = ("completion_tokens", "output_tokens", "candidatesTokenCount")
DETAILS = ("prompt_tokens_details", "input_tokens_details")


def model_of(body: bytes) -> str | None:
    """The one that a request names, in JSON or in a form."""
    found = MODEL.search(body, 0, KEPT) or MODEL.search(body, max(len(body) - KEPT, 0))
    return (found[1] or found[2]).decode("utf-8", "replace") if found else None


class PassedUsage:
    def __init__(self) -> None:
        self._start, self._end = bytearray(), bytearray()

    def feed(self, data: bytes) -> None:
        room = KEPT - len(self._start)
        self._start += data[:room]
        self._end += data[room:]
        del self._end[:-KEPT]

    def found(self) -> Usage | None:
        """The last usage object there is."""
        for part in (self._end, self._start + self._end):
            text = part.decode("utf-8", "replace")
            for match in reversed(list(USAGE.finditer(text))):
                if (usage := _read(text, match.end())) is not None:
                    return usage
        return None


def _read(text: str, start: int) -> Usage | None:
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    read, output = _first(value, INPUT), _first(value, OUTPUT)
    if read is None and output is None:
        return None
    cached = _first(
        next((value[name] for name in DETAILS if isinstance(value.get(name), dict)), {}), ("cached_tokens",)
    )
    return Usage(read, output or 0, cached, raw=value)


def _first(value: Any, names: tuple[str, ...]) -> int | None:
    found = (value.get(name) for name in names)
    return next((each for each in found if isinstance(each, int) and not isinstance(each, bool)), None)
