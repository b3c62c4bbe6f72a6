"""Finding secrets costs time in proportion to the text; keys are found in every spelling."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from redaction.test_formats import SECRETS

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


def test_data_that_holds_a_secret_may_hold_one() -> None:
    """JSON around a text, or the text alone: nothing is passed by that would be found inside."""
    looking = Scanner(["the-own-key-1"])
    for secret in [*SECRETS.values(), "the-own-key-1"]:
        for before, behind in itertools.product(
            ["", "é", "a ", "=", "\n", "\t", '"', "/", "\\n", "%20"], ["", "\n", "é", '"']
        ):
            text = f"{before}{secret}{behind}"
            if looking.spans(text):
                assert looking.may_hold(text.encode())
                assert looking.may_hold(json.dumps({"a": text}, ensure_ascii=False).encode()), text
    assert not looking.may_hold(b"nothing, even for the sk-learn of a task-force with a keyboard: MTIzNDU2")


def test_where_the_pieces_end_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"é {secret} \ud800\n" for secret in SECRETS.values())
    looking = Scanner([])
    whole = looking.spans(text)
    assert len(whole) >= len(SECRETS)
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(scanner, "PIECE", size)
        assert looking.spans(text) == whole


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
    match = scanner._Look.match

    def counting(self: object, text: str, at: int, done: int) -> object:
        tried.append(at)
        return match(self, text, at, done)  # type: ignore[arg-type]

    monkeypatch.setattr(scanner._Look, "match", counting)
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
