"""Every reported bug has a test that carries its number, or a line in docs/traps.md that says why not."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "traps.md"
NUMBERS = range(1, 108)


def numbers_tested() -> set[int]:
    names = re.findall(r"def (test_\w+)", "\n".join(path.read_text() for path in TESTS.rglob("*.py")))
    return {int(number) for name in names for number in re.findall(r"(?<=_)t(\d+)(?=_)", name)}


def reasoned() -> set[int]:
    return {int(number) for number in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)}


def test_every_trap_is_tested_or_reasoned() -> None:
    assert sorted(set(NUMBERS) - numbers_tested() - reasoned()) == []


def test_no_reason_stands_beside_a_test() -> None:
    assert reasoned() & numbers_tested() == set()
