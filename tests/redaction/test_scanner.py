"""Finding secrets costs time in proportion to the text; keys are found in every spelling."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest

from llm_interactive.redaction import scanner
from llm_interactive.redaction.formats import FORMATS
from llm_interactive.redaction.scanner import Cut, Memory, Scanner, digest

KEY = 'k3y"with/odd\\and ümlaut'


@pytest.mark.parametrize(
    "spelling",
    [KEY, json.dumps(KEY)[1:-1], json.dumps(KEY, ensure_ascii=False)[1:-1], quote(KEY, safe="")],
)
def test_a_key_is_found_however_it_is_written(spelling: str) -> None:
    text = f"in{spelling}side {spelling}"
    found = Scanner([KEY]).spans(text)
    assert [text[begin:end] for begin, end in found] == [spelling, spelling]


def test_keys_that_are_words_are_not_looked_for() -> None:
    assert Scanner(["ollama", "x", ""]).spans("ollama x") == []
    assert Scanner(["12345678"]).spans("a12345678b") == [(1, 9)]


def test_what_overlaps_is_one_secret() -> None:
    text = "postgres://u:sk-a1B2c3D4e5F6g7H8i9J0a1B2c3D4@host and Bearer sk-a1B2c3D4e5F6g7H8i9J0a1B2c3D4"
    assert [text[begin:end] for begin, end in Scanner(["c3D4@host"]).spans(text)] == [
        "sk-a1B2c3D4e5F6g7H8i9J0a1B2c3D4@host",
        "sk-a1B2c3D4e5F6g7H8i9J0a1B2c3D4",
    ]


def test_a_secret_among_two_of_another_format_is_found() -> None:
    keys = ["gsk_" + "a1B2" * 13, "hf_" + "Zz9y" * 8 + "Qw", "AKIAABCDEFGH23456789"]
    text = ",".join(keys * 3)
    assert [text[begin:end] for begin, end in Scanner([]).spans(text)] == keys * 3


def test_a_narrowed_scanner_finds_the_same_in_parts_of_what_it_was_narrowed_to() -> None:
    parts = [
        "nothing",
        "gsk_" + "a1B2" * 13,
        "the-own-key-1",
        "postgres://u:secret1@h",
        "AQ.a1B2c3D4e5F6g7H8i9J0a1B2c3D4",
    ]
    whole = Scanner(["the-own-key-1", "another-key-2"])
    narrowed = whole.narrowed("\n".join(parts).encode())
    for part in parts:
        assert narrowed.spans(part) == whole.spans(part)
        assert narrowed.may_hold(part.encode()) == whole.may_hold(part.encode()) == (part != "nothing")


def hostile(length: int) -> Iterator[str]:
    """What makes patterns go back and forth: their beginnings and their characters, over and over."""
    pieces = [anchor for each in FORMATS for anchor in each.anchors]
    pieces += [anchor + filler for anchor in pieces for filler in ("a1" * 40, "a" * 700, ".a1b2c3d4" * 6, "=:" * 9)]
    pieces += [
        "://a:",
        "://a:b",
        "-----BEGIN PRIVATE KEY-----" + "aA1+" * 50,
        "eyJ" + "a" * 50 + ".",
        "MTI" + "a" * 23 + ".",
    ]
    for piece in pieces:
        yield (piece * (length // len(piece) + 1))[:length]


@contextmanager
def counted_matches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts how often a pattern is tried."""
    tried: list[int] = []
    match = scanner._Look._match

    def counting(self: object, text: str, at: int, done: int) -> object:
        tried.append(at)
        return match(self, text, at, done)  # type: ignore[arg-type]

    monkeypatch.setattr(scanner._Look, "_match", counting)
    yield tried
    monkeypatch.undo()


def test_twice_the_text_is_at_most_twice_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = Scanner([])
    with counted_matches(monkeypatch) as tried:
        for short, long in zip(hostile(8_000), hostile(16_000), strict=True):
            del tried[:]
            looking.spans(short)
            first = len(tried)
            del tried[:]
            looking.spans(long)
            assert len(tried) <= 2 * first + 500


def test_patterns_have_no_unbounded_repetition() -> None:
    for each in FORMATS:
        bare = each.pattern.replace("\\+", "").replace("\\*", "").replace("}+", "}")
        inside_classes_removed = "".join(_outside_classes(bare))
        assert "+" not in inside_classes_removed, each.name
        assert "*" not in inside_classes_removed, each.name


def _outside_classes(pattern: str) -> Iterator[str]:
    depth = False
    escaped = False
    for character in pattern:
        if escaped:
            escaped = False
            continue
        if character == "\\":
            escaped = True
        elif character == "[":
            depth = True
        elif character == "]":
            depth = False
        elif not depth:
            yield character


def test_memory_is_bounded_and_keeps_what_was_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "MOST_KNOWN", 3)
    monkeypatch.setattr(scanner, "MOST_CUT_BYTES", 1000)
    memory = Memory()
    for number in range(4):
        memory.note(digest(str(number)), clean=number != 3)
        assert memory.is_clean(digest("0"))
    assert memory.is_clean(digest("1")) is None
    assert memory.is_clean(digest("3")) is False
    for number in range(4):
        memory.note_cut(digest(str(number)), "all", Cut(("x" * 100, ""), (b"",)))
        assert memory.cut(digest("0"), "all") is not None
    assert memory.cut(digest("1"), "all") is None
    assert memory.cut(digest("0"), "address") is None
