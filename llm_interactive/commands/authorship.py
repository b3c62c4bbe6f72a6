"""Which stretches of a text commands are not read in (SPEC 5.1), and what in it counts as content.

Not read: code fences and spans, comments (lines starting with `#`), quotations (lines starting with `>`), and the
blocks that clients put around or beside what the user wrote. Spans and fences are told as CommonMark does, fences also
inside lists and quotations.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache

type Span = tuple[int, int]

CLIENT_BLOCKS = (
    "system-reminder",
    "environment_details",
    "environment_context",
    "user_instructions",
    "command-message",
    "local-command-stdout",
    "session_context",
    "hook_context",
)
"""Tags of Claude Code, Cline, Roo, Codex and Gemini CLI: what the client wrote between them is no content."""
WRAPPERS = ("task", "feedback", "user_message", "answer", "user_query")
"""Tags that clients put around what the user wrote."""

_BLOCK = re.compile(rf"<({'|'.join(CLIENT_BLOCKS)})>")
_WRAPPER = re.compile(rf"</?(?:{'|'.join(WRAPPERS)})>")
_FENCE = re.compile(r"^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(?P<mark>`{3,}|~{3,})(?P<info>.*)$", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_TICKS = re.compile(r"`+")
_PARAGRAPH_END = re.compile(r"\n[ \t]*\r?\n")


class Unread:
    """The stretches of one text. Made only where a command may be: it looks at the whole text."""

    def __init__(self, text: str, prefix: str) -> None:
        fences = list(_fences(text))
        found = [*fences, *_spans(text, fences)]
        found += (line.span() for line in _lines_not_read(prefix).finditer(text))
        found += _blocks(text)
        self._spans = list(_merged(sorted(found)))
        self._starts = [start for start, _ in self._spans]

    def __contains__(self, place: int) -> bool:
        before = bisect_right(self._starts, place) - 1
        return before >= 0 and place < self._spans[before][1]


def is_content(text: str) -> bool:
    """Whether there is something for a model in it: more than white space, comments and what the client added."""
    if not text or text.isspace():
        return False
    rest = _WRAPPER.sub("", _COMMENT.sub("", without_client_blocks(text)))
    return bool(rest.strip())


def without_client_blocks(text: str) -> str:
    kept: list[str] = []
    at = 0
    for start, end in _blocks(text):
        kept.append(text[at:start])
        at = end
    return "".join([*kept, text[at:]])


@lru_cache(maxsize=16)
def _lines_not_read(prefix: str) -> re.Pattern[str]:
    """A prefix may itself begin with one of these characters."""
    return re.compile(rf"^[ \t]*(?!{re.escape(prefix)})[#>].*$", re.MULTILINE)


def _blocks(text: str) -> Iterator[Span]:
    """An unclosed tag is only text."""
    if "</" not in text:
        return
    at, unclosed = 0, set()
    while (opened := _BLOCK.search(text, at)) is not None:
        at = opened.end()
        closing = f"</{opened[1]}>"
        end = text.find(closing, at) if closing not in unclosed else -1
        if end < 0:
            unclosed.add(closing)
        else:
            at = end + len(closing)
            yield opened.start(), at


def _fences(text: str) -> Iterator[Span]:
    """An unclosed fence goes to the end of the text."""
    opened: re.Match[str] | None = None
    for line in _FENCE.finditer(text):
        mark = line["mark"]
        if opened is None:
            if not (mark[0] == "`" and "`" in line["info"]):  # that is a span in its own line
                opened = line
        elif mark[0] == opened["mark"][0] and len(mark) >= len(opened["mark"]) and not line["info"].strip():
            yield opened.start(), line.end()
            opened = None
    if opened is not None:
        yield opened.start(), len(text)


def _spans(text: str, fences: list[Span]) -> Iterator[Span]:
    at = 0
    for start, end in [*fences, (len(text), len(text))]:
        for paragraph_start, paragraph_end in _paragraphs(text, at, start):
            yield from _spans_of_paragraph(text, paragraph_start, paragraph_end)
        at = end


def _paragraphs(text: str, start: int, end: int) -> Iterator[Span]:
    for gap in _PARAGRAPH_END.finditer(text, start, end):
        yield start, gap.start()
        start = gap.end()
    yield start, end


def _spans_of_paragraph(text: str, start: int, end: int) -> Iterator[Span]:
    """From a run of backticks to the next run of the same length; a run without one is only text."""
    runs = [run.span() for run in _TICKS.finditer(text, start, end)]
    last_of_length = {stop - begin: begin for begin, stop in runs}
    closing: tuple[int, int] | None = None  # where the span began, and its length
    for begin, stop in runs:
        length = stop - begin
        if closing is None:
            closing = (begin, length) if last_of_length[length] > begin else None
        elif closing[1] == length:
            yield closing[0], stop
            closing = None


def _merged(spans: list[Span]) -> Iterator[Span]:
    current: Span | None = None
    for start, end in spans:
        if current is None or start > current[1]:
            if current is not None:
                yield current
            current = start, end
        else:
            current = current[0], max(current[1], end)
    if current is not None:
        yield current
