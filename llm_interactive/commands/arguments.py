"""Reads what stands between a command's parentheses (SPEC 5.1).

Arguments split on commas outside quotes, brackets and braces; `key=value` splits on the first `=`; matching quotes are
removed; an argument without `=` is positional. Brackets count only in pairs, so that a smiley hides no comma.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llm_interactive.commands.scanner import Quotes

KEY = re.compile(r"\s*(?P<key>[\w.-]+)\s*=", re.ASCII)
CLOSING = {"]": "[", "}": "{", ")": "("}
_MARKS = re.compile(r"[\[\]{}()\"',]")


@dataclass(frozen=True, slots=True)
class Argument:
    """`key` is None for a positional one."""

    key: str | None
    value: str


def parse(raw: str) -> tuple[Argument, ...]:
    return tuple(_argument(piece) for piece in _split(raw) if piece.strip())


def unquoted(text: str) -> str:
    """Without white space around it and without the quotes that enclose it. A backslash before such a quote goes."""
    text = text.strip()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "\"'":
        return text
    end = Quotes(text).end(0)
    if end is not None and end < len(text):
        return text  # two quotations
    return text[1:-1].replace("\\" + text[0], text[0])


def _argument(piece: str) -> Argument:
    match = KEY.match(piece)
    if match is None:
        return Argument(None, unquoted(piece))
    return Argument(match["key"], unquoted(piece[match.end() :]))


def _split(raw: str) -> Iterator[str]:
    start = 0
    for comma in _commas(raw):
        yield raw[start:comma]
        start = comma + 1
    yield raw[start:]


def _commas(raw: str) -> list[int]:
    """Those that separate. Commas between brackets are dropped once the pair is whole."""
    quotes = Quotes(raw)
    commas: list[int] = []
    opened: list[tuple[str, int]] = []  # the bracket, and how many commas stood before it
    at = 0
    while (mark := _MARKS.search(raw, at)) is not None:
        at, char = mark.end(), mark.group()
        if char == ",":
            commas.append(mark.start())
        elif char in "\"'":
            at = quotes.end(mark.start()) or at
        elif char in CLOSING:
            if opened and opened[-1][0] == CLOSING[char]:
                del commas[opened.pop()[1] :]
        else:
            opened.append((char, len(commas)))
    return commas
