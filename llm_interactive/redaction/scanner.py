"""Finds secrets in text: the keys that the proxy holds, and what looks like a secret (formats.py).

Everything here costs time in proportion to the text, whatever stands in it: a text is searched for the anchors of all
formats in one pass, and a pattern is matched at its own anchors only. `Memory` knows texts by digest, is bounded, and
keeps no secret. Both are bound to their keys: make new ones where keys change.
"""

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, quote_plus

from ahocorasick_rs import BytesAhoCorasick, Implementation

from llm_interactive.redaction.formats import BOUNDARY, FORMATS, SHORTEST_TOKEN, Format

SHORTEST_KEY = 8
"""Characters; shorter "keys" of local services are words that prompts use."""

PIECE = 65_536
"""Bytes that are searched for anchors at once."""

MOST_KNOWN = 65_536
MOST_CUT_BYTES = 16 * 1024 * 1024

type Rule = Literal["all", "address", "credential"]
"""What is looked for: in a URL that the provider fetches not what makes it fetchable; in a credential that is meant for
the provider (of an MCP server) only the proxy's own keys."""

type Digest = bytes
type Span = tuple[int, int]


def digest(text: str) -> Digest:
    return hashlib.sha256(_bytes(text)).digest()


class Scanner:
    """Finds secrets. Everything here costs time in proportion to the text, whatever stands in it."""

    def __init__(self, keys: Iterable[str], formats: Iterable[Format] = FORMATS) -> None:
        held = {key for key in keys if len(key) >= SHORTEST_KEY}
        self._keys = tuple(sorted({spelling for key in held for spelling in _spellings(key)}, key=len, reverse=True))
        self._key_bytes = tuple(_bytes(key) for key in self._keys)
        self._shortest = min((SHORTEST_TOKEN, *map(len, self._keys)))
        looks = [_Look(each) for each in formats]
        self._anchored = [(anchor.encode(), look) for look in looks for anchor in look.format.anchors]
        anchors = [anchor for anchor, _ in self._anchored]
        self._anchors = BytesAhoCorasick(anchors, implementation=Implementation.DFA)
        self._longest_anchor = max(map(len, anchors), default=1)

    def may_hold(self, data: bytes) -> bool:
        """Whether `data`, text or JSON with text in it, has a key or what begins like one: False for nearly all."""
        if len(data) < self._shortest:
            return False
        if any([key in data for key in self._key_bytes]):  # a list is faster
            return True
        return any(look.may_begin(data, at) for look, at in self._hits(data))

    def _hits(self, data: bytes) -> Iterator[tuple["_Look", int]]:
        """Where the anchors are; of a piece at a time, since a hostile text is all anchors."""
        for begin in range(0, len(data), PIECE):
            piece = data[begin : begin + PIECE + self._longest_anchor - 1]
            for number, at, _ in self._anchors.find_matches_as_indexes(piece, overlapping=True):
                if at < PIECE:
                    yield self._anchored[number][1], begin + at

    def spans(self, text: str, rule: Rule = "all") -> list[Span]:
        """Where the secrets are, in order, without overlap."""
        if len(text) < self._shortest:
            return []
        found = [span for key in self._keys if key in text for span in _occurrences(text, key)]
        if rule != "credential":
            done: dict[_Look, int] = {}
            for look, at in self._hits(text.encode("ascii", "replace")):  # a byte for each character
                if at < done.get(look, 0) or (rule == "address" and not look.format.in_address):
                    continue
                match = look.match(text, at, done.get(look, 0))
                if match is None:
                    done[look] = at + 1
                else:
                    found.append(match.span("secret" if "secret" in match.re.groupindex else 0))
                    done[look] = match.end()
        return _merged(found) if found else found


class _Look:
    """A format, ready to be looked for."""

    __slots__ = ("_pattern", "format")

    def __init__(self, format_: Format) -> None:
        self.format = format_
        self._pattern = format_.compiled()

    def may_begin(self, data: bytes, at: int) -> bool:
        """Whether a secret may be at the anchor in `data`, text or JSON."""
        return not self.format.token or self.format.before > 0 or _TOKEN.match(data, at) is not None

    def match(self, text: str, at: int, done: int) -> re.Match[str] | None:
        """At the anchor in `text`, and not from before `done`."""
        if not self.format.before:
            return self._pattern.match(text, at)
        for start in range(max(done, at - self.format.before), at):
            if (match := self._pattern.match(text, start)) is not None and match.end() > at:
                return match
        return None


_TOKEN = re.compile(rf"{BOUNDARY}[A-Za-z0-9_.+/=-]{{{SHORTEST_TOKEN}}}".encode())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _occurrences(text: str, key: str) -> Iterator[Span]:
    at = text.find(key)
    while at >= 0:
        yield at, at + len(key)
        at = text.find(key, at + len(key))


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _spellings(key: str) -> set[str]:
    """As it is, inside a JSON string, and in a URL."""
    escaped = {json.dumps(key)[1:-1], json.dumps(key, ensure_ascii=False)[1:-1]}
    return {key, *escaped, *(each.replace("/", "\\/") for each in escaped), quote(key, safe=""), quote_plus(key)}


@dataclass(frozen=True, slots=True)
class Cut:
    """A text without its secrets: what stood between them, and their digests."""

    pieces: tuple[str, ...]
    secrets: tuple[Digest, ...]


class Memory:
    """What is known of texts, by digest: that they are clean, or how they were cut. The longest unused goes first."""

    def __init__(self) -> None:
        self._clean: OrderedDict[Digest, bool] = OrderedDict()
        self._cuts: OrderedDict[tuple[Digest, Rule], Cut] = OrderedDict()
        self._cut_bytes = 0

    def is_clean(self, name: Digest) -> bool | None:
        """None where it was never seen, or long ago."""
        clean = self._clean.get(name)
        if clean is not None:
            self._clean.move_to_end(name)
        return clean

    def note(self, name: Digest, *, clean: bool) -> None:
        self._clean[name] = clean
        if len(self._clean) > MOST_KNOWN:
            self._clean.popitem(last=False)

    def cut(self, name: Digest, rule: Rule) -> Cut | None:
        cut = self._cuts.get((name, rule))
        if cut is not None:
            self._cuts.move_to_end((name, rule))
        return cut

    def note_cut(self, name: Digest, rule: Rule, cut: Cut) -> None:
        if (known := self._cuts.pop((name, rule), None)) is not None:
            self._cut_bytes -= _size(known)
        self._cuts[name, rule] = cut
        self._cut_bytes += _size(cut)
        while self._cut_bytes > MOST_CUT_BYTES:
            self._cut_bytes -= _size(self._cuts.popitem(last=False)[1])


def _size(cut: Cut) -> int:
    return 200 + sum(map(len, cut.pieces))
