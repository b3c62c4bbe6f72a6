"""Finds the commands in a text that a person wrote, and takes them out of it (SPEC 5.1).

A command is `PREFIX name` or `PREFIX name(args)`, at the start of the text or after white space. What remains stays as
it was, but for the command and the white space that it leaves on its own line: a line with nothing else goes whole.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from llm_interactive.commands.authorship import Unread

MOST_COMMANDS = 100
"""In one text; a message is no script."""
LONGEST_ARGUMENTS = 65_536
"""Characters between the parentheses."""
SHOWN = 60


@dataclass(frozen=True, slots=True)
class Found:
    """A command at [start, end) of its text. `arguments`: what stands between the parentheses, None without them.

    `problem`: why it cannot be run; it then ends with its line."""

    name: str
    arguments: str | None
    start: int
    end: int
    problem: str | None = None


def scan(text: str, prefix: str) -> list[Found]:
    """The commands of the text, in order."""
    if prefix not in text:
        return []
    found: list[Found] = []
    unread: Unread | None = None
    at = 0
    while (match := _pattern(prefix).search(text, at)) is not None:
        unread = unread if unread is not None else Unread(text, prefix)
        at = match.end()
        if match.start() in unread:
            continue
        found.append(_read(text, match))
        at = found[-1].end
        if len(found) > MOST_COMMANDS:
            last = found[-1]
            why = f"more than {MOST_COMMANDS} commands in one message: none was run"
            return [*found[:-1], Found(last.name, None, last.start, last.end, why)]
    return found


@lru_cache(maxsize=16)
def _pattern(prefix: str) -> re.Pattern[str]:
    """A name that a path goes on behind (`!/usr/bin`) is none. The prefix comes first, which `re` searches fastest."""
    literal = re.escape(prefix)
    return re.compile(rf"{literal}(?<!\S{literal})(?P<name>[^\W\d_][\w-]*)(?![\w/\\-])(?P<open>\()?")


def _read(text: str, match: re.Match[str]) -> Found:
    name, start = match["name"], match.start()
    if match["open"] is None:
        return Found(name, None, start, match.end())
    closed = closing_parenthesis(text, match.end())
    if closed is None:
        end = _line_end(text, start)
        shown = text[start:end] if end - start <= SHOWN else text[start : start + SHOWN] + "..."
        return Found(name, None, start, end, f"{name}: the parentheses of {printable(shown)} do not balance")
    if closed - match.end() > LONGEST_ARGUMENTS:
        problem = f"{name}: the arguments are longer than {LONGEST_ARGUMENTS} characters"
        return Found(name, None, start, closed + 1, problem)
    return Found(name, text[match.end() : closed], start, closed + 1)


def printable(text: str) -> str:
    """Control characters spelled out, for a line that a person reads."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _line_end(text: str, start: int) -> int:
    end = _BREAK.search(text, start)
    return end.start() if end else len(text)


_BREAK = re.compile(r"[\r\n]")
_MARKS = re.compile(r"[()\"'`]")
_OPENS_QUOTE = re.compile(r"[\s(,=:\[{]")
"""A quotation mark opens a quotation behind one of these; elsewhere it is an apostrophe or an inch."""


def closing_parenthesis(text: str, start: int) -> int | None:
    """Of the one that was opened right before `start`; those in quotations do not count."""
    quotes = Quotes(text)
    depth, at = 1, start
    while (mark := _MARKS.search(text, at)) is not None:
        at = mark.end()
        char = mark.group()
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return mark.start()
        else:
            at = quotes.end(mark.start()) or at
    return None


class Quotes:
    """Where quotations of a text end. Looking for all of them costs no more than reading the text a few times."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._unclosed: set[str] = set()

    def end(self, start: int) -> int | None:
        """Behind the quotation that begins at `start`; None where none begins, or none ends."""
        text, mark = self._text, self._text[start]
        if mark not in "\"'" or mark in self._unclosed:
            return None
        if start > 0 and not _OPENS_QUOTE.match(text, start - 1):
            return None
        at = start + 1
        while (at := text.find(mark, at)) >= 0:
            if not _is_escaped(text, at):
                return at + 1
            at += 1
        self._unclosed.add(mark)
        return None


def _is_escaped(text: str, at: int) -> bool:
    slashes = 0
    while slashes < at and text[at - 1 - slashes] == "\\":
        slashes += 1
    return slashes % 2 == 1


def remainder(text: str, found: Sequence[Found], instead: Mapping[int, str] | None = None) -> str:
    """The text without the commands. `instead`: what to put in the place of one, by its number in `found`."""
    kept: list[str] = []
    at = 0
    for number, (start, end) in _with_neighbours(text, found, instead or {}):
        if number is not None:
            kept += (text[at:start], (instead or {})[number])
            at = end
        elif end < len(text) and text[end] not in "\r\n":
            kept.append(text[at:start])
            at = end
        else:
            before = _before_blanks(text, start, at)
            kept.append(text[at:before])
            alone = before == 0 or text[before - 1] in "\r\n"
            at = _behind_break(text, end) if alone else end
    kept.append(text[at:])
    return "".join(kept)


def _with_neighbours(
    text: str, found: Sequence[Found], instead: Mapping[int, str]
) -> Iterator[tuple[int | None, tuple[int, int]]]:
    """Commands with only blanks between and behind them as one stretch; those with a replacement by themselves."""
    pending: tuple[int, int] | None = None
    for number, command in enumerate(found):
        if pending is not None and (number in instead or command.start != pending[1]):
            yield None, pending
            pending = None
        if number in instead:
            yield number, (command.start, command.end)
        else:
            pending = (pending[0] if pending else command.start), _skip_blanks(text, command.end)
    if pending is not None:
        yield None, pending


def _is_blank(char: str) -> bool:
    return char.isspace() and char not in "\r\n"


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and _is_blank(text[at]):
        at += 1
    return at


def _before_blanks(text: str, at: int, least: int) -> int:
    while at > least and _is_blank(text[at - 1]):
        at -= 1
    return at


def _behind_break(text: str, at: int) -> int:
    if text.startswith("\r\n", at):
        return at + 2
    return min(at + 1, len(text))
