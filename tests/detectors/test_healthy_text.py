"""Texts that repeat themselves for good reasons, as models write them: none is a loop, however it is cut (SPEC 7)."""

import itertools
import json
import random
from collections.abc import Callable

import pytest

from llm_interactive.detectors.repeated_text import RepeatedText, TextLoopLimits

FIELDS = ("name", "street", "city", "country", "phone", "mail", "birthday", "language", "currency", "comment")
PLACES = ("Oslo", "Lima", "Kyoto", "Accra", "Perth", "Quito", "Riga", "Sofia", "Tunis", "Turin", "Minsk", "Hanoi")
CHOICE = random.Random(7)


def code() -> str:
    """Getters and setters, one like the other, and a table of constants."""
    accessors = "\n".join(
        f"    def get_{field}(self) -> str | None:\n        return self._{field}\n\n"
        f"    def set_{field}(self, value: str | None) -> None:\n"
        f"        if value is not None and not isinstance(value, str):\n"
        f'            raise TypeError("{field} must be a string or None")\n        self._{field} = value\n'
        for field in FIELDS
    )
    constants = "\n".join(f"    0x{n:02x}, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00," for n in range(32))
    closing = "\n".join(" " * 4 * depth + "}" for depth in range(12, 0, -1))
    return f"class Person:\n{accessors}\n\nstatic const unsigned char TABLE[] = {{\n{constants}\n}};\n{closing}\n"


def assertions() -> str:
    """A test that a model writes in a fence: many calls, each a little different."""
    lines = (f'assert client.get("/items/{n}").json()["id"] == {n}' for n in range(60))
    return "Here are the tests:\n```python\n" + "\n".join(lines) + "\n```\nAll of them pass."


def table() -> str:
    rows = (f"| {place} | {'yes' if n % 3 else 'no'} | n/a | n/a | n/a |" for n, place in enumerate(PLACES * 5))
    return "| City | Port | Q1 | Q2 | Q3 |\n|---|:---:|---:|---:|---:|\n" + "\n".join(rows)


def empty_table() -> str:
    """A form to be filled in."""
    return "| Day | Morning | Noon | Evening |\n" + "|-----|---------|------|---------|\n" * 1 + "|  |  |  |  |\n" * 30


def lists() -> str:
    checks = "\n".join(f"- [ ] Check the lights of car no. {n}" for n in range(1, 41))
    nested = "\n".join(f"{n}. Step {n}\n   - Open the lid\n   - Close the lid" for n in range(1, 25))
    return f"{checks}\n\n{nested}\n"


def log() -> str:
    return "\n".join(
        f"2026-03-0{1 + n // 40} 12:{n % 60:02}:07.{n * 37 % 1000:03} WARN  [pool-1-thread-{n % 4}] "
        f"c.e.net.Client - connection refused, next attempt in 5000 ms"
        for n in range(150)
    )


def progress() -> str:
    return "\n".join(f"[{'#' * (n // 2)}{'.' * (50 - n // 2)}] {n:3}%" for n in range(101))


def rulers() -> str:
    parts = (f"{'=' * 78}\n{place:^78}\n{'=' * 78}\n\n{'-' * 40}\n" for place in PLACES)
    return "\n".join(parts) + "*" * 200 + "\n" + "\n" * 60 + " " * 300 + "_" * 120 + "\n"


def nested_json() -> str:
    places = [{"place": place, "open": None, "tags": [], "at": {"x": 0, "y": 0, "z": 0}} for place in PLACES * 3]
    return json.dumps({"version": 1, "places": places}, indent=2)


def zeros() -> str:
    return json.dumps({"weights": [0.0] * 60, "mask": [True, False] * 15, "hash": "0" * 64})


def csv() -> str:
    rows = (f"{n},{place},,,,0,0,0,{CHOICE.random():.2f},,,,\n" for n, place in enumerate(PLACES * 8))
    return "id,place,a,b,c,d,e,f,g,h,i,j,k\n" + "".join(rows)


def licence() -> str:
    """One clause for each kind of work, as lawyers like it."""
    clauses = (
        f"{n}. You may copy, change and pass on the {field} of the Work, provided that this notice stays with it. THE "
        f"{field.upper()} IS GIVEN AS IT IS, WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, AND IN NO EVENT SHALL "
        f"THE AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY THAT ARISES FROM THE {field.upper()}.\n"
        for n, field in enumerate(FIELDS, 1)
    )
    return "".join(clauses)


def ascii_art() -> str:
    wall = "".join("|___|___|___|___|___|___|___|___|\n|_|___|___|___|___|___|___|___|_|\n" for _ in range(8))
    sea = "\n".join(" " * (n % 5) + "~^~^~^~^~^~^~^~^~^~^~^~^~^~^~^~^~^~" for n in range(12))
    tree = "\n".join(" " * (15 - n) + "*" * (2 * n + 1) for n in range(15))
    board = "\n".join(" ".join("░▓"[(x + y) % 2] for x in range(8)) for y in range(8))
    return f"```\n{wall}{sea}\n{tree}\n{board}\n```\nand without a fence:\n{wall}\n{sea}\n{board}\n"


def song() -> str:
    """A refrain of several lines after every verse."""
    refrain = "Heave away, my bonny boys, heave away, heave away,\nand it's home to the harbour at the break of day!\n"
    la = "La la la la la, la la la la la la,\n"
    verses = (f"The wind came up from {place} and we set the sail once more,\n" for place in PLACES)
    return "".join(f"{verse}{refrain}{refrain}{la}\n" for verse in verses)


def counting_rhyme() -> str:
    return "".join(
        f"{n} green bottles hanging on the wall,\n{n} green bottles hanging on the wall,\n"
        f"and if one green bottle should accidentally fall,\nthere'll be {n - 1} green bottles hanging on the wall.\n\n"
        for n in range(20, 0, -1)
    )


def translation() -> str:
    """Sentence by sentence, the two languages with the same labels."""
    pairs = (
        f"**English:** The train to {place} leaves at {n % 12 + 1} o'clock.\n"
        f"**Deutsch:** Der Zug nach {place} fährt um {n % 12 + 1} Uhr ab.\n**Русский:** Поезд в {place} отходит.\n\n"
        for n, place in enumerate(PLACES * 2)
    )
    return "".join(pairs)


def conjugation() -> str:
    forms = itertools.product(("I", "you", "we", "they"), ("walk", "talk", "look", "cook"), ("", "ed"))
    return "\n".join(f"{who} {verb}{ending}, {who} {verb}{ending}" for who, verb, ending in forms)


def svg() -> str:
    cells = (
        f'  <rect x="{x * 10}" y="{y * 10}" width="10" height="10" fill="#fff" stroke="#000"/>\n'
        for y in range(12) for x in range(12)
    )  # fmt: skip
    return f'<svg viewBox="0 0 120 120">\n{"".join(cells)}</svg>\n' + "&#160;" * 25


def emphasis() -> str:
    return "No, no, no, no, no! Ha ha ha ha ha ha! Waaaaaaaaaaaaaaaaaaaaaaaait... " + "Very " * 9 + "nice!!!!!!!!!!"


KINDS = (
    code, assertions, table, empty_table, lists, log, progress, rulers, nested_json, zeros, csv, licence, ascii_art,
    song, counting_rhyme, translation, conjugation, svg, emphasis,
)  # fmt: skip


def is_loop(text: str, piece: int) -> bool:
    watcher = RepeatedText(TextLoopLimits())
    return any(watcher.saw(text[at : at + piece]) for at in range(0, len(text), piece))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_is_no_loop(kind: Callable[[], str]) -> None:
    text = kind()
    assert [piece for piece in (1, 4, 50, 1_000_000) if is_loop(text, piece)] == []
    in_a_fence = f"As you wished:\n\n```\n{text}\n```\n"
    assert not is_loop(in_a_fence, 4)


def test_all_of_them_after_each_other_are_no_loop() -> None:
    for order in range(3):
        kinds = random.Random(order).sample(KINDS, len(KINDS))
        assert not is_loop("\n\n".join(kind() for kind in kinds), 4)
