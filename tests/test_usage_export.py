import csv
import io
import json
from typing import Any

import pytest

from llm_interactive.usage_export import PIECE, pieces


def read_csv(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(pieces("csv", rows, ("a", "b"))).decode())))


@pytest.mark.parametrize(
    "value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=cmd|"/C calc"!A0', "＝1", "\n=1", "=a,b\n=c"]
)
def test_no_name_is_a_formula(value: str) -> None:
    [row] = read_csv([{"a": value, "b": "x"}])
    assert row["a"] == f"'{value}"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, ""),
        (True, "true"),
        (-1.5, "-1.5"),
        (12, "12"),
        ("a,b", "a,b"),
        ('"q"', '"q"'),
        ("a=b", "a=b"),
        ("é", "é"),
    ],
)
def test_all_else_stays(value: Any, written: str) -> None:
    [row] = read_csv([{"a": value, "b": "x"}])
    assert row == {"a": written, "b": "x"}


@pytest.mark.parametrize("number", [0, 1, PIECE, 2 * PIECE + 1])
def test_files_come_in_pieces(number: int) -> None:
    rows = [{"a": n, "b": None} for n in range(number)]
    assert [row["a"] for row in read_csv(rows)] == [str(n) for n in range(number)]
    assert len(list(pieces("csv", rows, ("a", "b")))) == number // PIECE + 1
    assert json.loads(b"".join(pieces("json", rows, ()))) == {"object": "usage_entries", "data": rows}
