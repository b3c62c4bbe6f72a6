"""Finds secrets in text: the keys that the proxy holds, and what looks like a secret (formats.py).

Everything here costs time in proportion to the text, whatever stands in it: a text is first searched for anchors only,
nearly all of them in the few runs of characters that are long enough for a token. `Memory` knows texts by digest, is
bounded, and keeps no secret. Both are bound to their keys: make new ones where keys change.
"""

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, quote_plus

from llm_interactive.redaction.formats import BOUNDARY, FORMATS, SHORTEST_TOKEN, TOKEN_CHARACTERS, Format

SHORTEST_KEY = 8
"""Characters; shorter "keys" of local services are words that prompts use."""

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
        self._all = looks = [_Look(each) for each in formats]
        self._token_anchors = _by_anchor(look for look in looks if look.format.token)
        self._text_anchors = _by_anchor(look for look in looks if not look.format.token)
        self._shapes = [(look.shape, look) for look in looks if not look.anchors]

    def may_hold(self, data: bytes) -> bool:
        """Whether `data` (text, or JSON with text in it) has a key or an anchor: False for nearly all."""
        if len(data) < self._shortest:
            return False
        return bool([key for key in self._key_bytes if key in data]) or bool(self._looks(data))

    def narrowed(self, data: bytes) -> "Scanner":
        """One that looks only for what `data` may hold: for the many parts of it, each of which costs a little."""
        looks = set(self._looks(data))
        narrowed = copy(self)
        here = [each for each in zip(self._keys, self._key_bytes, strict=True) if each[1] in data]
        narrowed._keys, narrowed._key_bytes = tuple(key for key, _ in here), tuple(key for _, key in here)
        narrowed._token_anchors = _by_anchor(look for look in self._all if look in looks and look.format.token)
        narrowed._text_anchors = _by_anchor(look for look in self._all if look in looks and not look.format.token)
        narrowed._shapes = [(shape, look) for shape, look in self._shapes if look in looks]
        return narrowed

    def _looks(self, data: bytes) -> list["_Look"]:
        """The formats of which there may be a secret, by their anchors. Lists, since this is where the time goes."""
        folded = data.translate(_FOLDED)
        found = [look for anchor, looks in self._text_anchors if anchor in folded for look in looks]
        if tokens := _tokens(data):
            folded = tokens.translate(_FOLDED)
            found += [look for anchor, looks in self._token_anchors if anchor in folded for look in looks]
            found += [look for shape, look in self._shapes if shape.search(tokens) is not None]
        return found

    def spans(self, text: str, rule: Rule = "all") -> list[Span]:
        """Where the secrets are, in order, without overlap."""
        if len(text) < self._shortest:
            return []
        found = [span for key in self._keys if key in text for span in _occurrences(text, key)]
        if rule != "credential":
            for look in dict.fromkeys(self._looks(_bytes(text))):
                if look.format.in_address or rule != "address":
                    found += look.spans(text)
        return _merged(found) if found else found


class _Look:
    """A format, ready to be looked for."""

    __slots__ = ("_pattern", "_strings", "anchors", "format", "shape")

    def __init__(self, format_: Format) -> None:
        self.format = format_
        self.anchors = tuple(anchor.encode() for anchor in format_.anchors)
        self._strings = format_.anchors
        self._pattern = format_.compiled()
        self.shape = re.compile(format_.pattern.replace(BOUNDARY, "").encode())  # what is around a run is cut off

    def spans(self, text: str) -> Iterator[Span]:
        if not self._strings:
            for match in self._pattern.finditer(text):
                yield match.span()
        for anchor in self._strings:
            yield from self._at(text, anchor)

    def _at(self, text: str, anchor: str) -> Iterator[Span]:
        at, done = text.find(anchor), 0
        while at >= 0:
            match = self._match(text, at, done)
            if match is None:
                done = at + 1
            else:
                yield match.span("secret" if "secret" in self._pattern.groupindex else 0)
                done = match.end()
            at = text.find(anchor, max(done, at + 1))

    def _match(self, text: str, at: int, done: int) -> re.Match[str] | None:
        if not self.format.before:
            return self._pattern.match(text, at)
        for start in range(max(done, at - self.format.before), at):
            if (match := self._pattern.match(text, start)) is not None and match.end() > at:
                return match
        return None


_FOLDED = bytes(ord("_") if chr(byte) == "-" else ord(chr(byte).lower()) if byte < 128 else byte for byte in range(256))
"""`API-KEY`, `api_key`: many anchors are one when case does not matter."""


def _by_anchor(looks: Iterable[_Look]) -> list[tuple[bytes, list[_Look]]]:
    """By each anchor as folded, those that have it."""
    found: dict[bytes, list[_Look]] = {}
    for look in looks:
        for anchor in look.anchors:
            found.setdefault(anchor.translate(_FOLDED), []).append(look)
    return list(found.items())


_RUNS = bytes(ord("a") if chr(byte) in TOKEN_CHARACTERS else ord(" ") for byte in range(256))
_LONG = b"a" * SHORTEST_TOKEN


def _tokens(data: bytes) -> bytes:
    """The runs of token characters that are long enough for a secret, separated by spaces: little of most texts."""
    shape = data.translate(_RUNS)
    runs: list[bytes] = []
    begin = shape.find(_LONG)
    while begin >= 0:
        end = shape.find(b" ", begin)
        end = end if end >= 0 else len(data)
        runs.append(data[begin:end])
        begin = shape.find(_LONG, end)
    return b" ".join(runs)


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
