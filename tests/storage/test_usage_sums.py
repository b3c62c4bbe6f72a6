"""The sums against the rows themselves."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llm_interactive.storage import usage_sums
from llm_interactive.storage.migrations import connect
from llm_interactive.storage.usage_queries import stats

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
COLUMNS = ("timestamp", "session", "project", "username", "backend", "model", "caller_name", "stream", "status",
           "error", "total_tokens", "cost", "ttft", "execution_time")  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "proxy.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path)) as connection:
        yield connection


def add(connection: sqlite3.Connection, number: int, seed: int = 1) -> None:
    """Rows of all kinds, missing values among them; times whose sums are exact in any order."""
    chance = random.Random(seed)

    def any_row() -> tuple[Any, ...]:
        day = NOW - timedelta(hours=chance.randrange(100))
        status, error = chance.choice([(200, None), (200, None), (429, "quota"), (None, "no answer")])
        return (
            f"{day:%Y-%m-%dT%H:%M:%S.000Z}", chance.choice("abc"), chance.choice([None, "p"]), "u",
            chance.choice(["openai", "gemini"]), chance.choice(["m1", "m2"]), chance.choice([None, "Codex"]),
            chance.randrange(2), status, error, chance.choice([None, 5, 2**63 - 1]), chance.choice([None, 0.25]),
            chance.choice([None, chance.randrange(64) / 64]), chance.choice([None, chance.randrange(6400) / 64]),
        )  # fmt: skip

    insert = f"INSERT INTO usage ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    connection.executemany(insert, [any_row() for _ in range(number)])


def left(connection: sqlite3.Connection) -> int:
    return len(list(usage_sums.unsummed(connection)))


def test_it_does_not_matter_in_which_steps_rows_are_summed(path: Path, connection: sqlite3.Connection) -> None:
    add(connection, 500)
    unsummed = stats(path, 30, now=NOW)
    assert unsummed["period_stats"]["requests"] == 500
    steps = 0
    while usage_sums.sum_up(connection, 37):
        steps += 1
        assert stats(path, 30, now=NOW) == unsummed
    assert steps == 500 // 37
    assert left(connection) == 0
    assert stats(path, 30, now=NOW) == unsummed


def test_new_rows_count_before_and_after_they_are_summed(path: Path, connection: sqlite3.Connection) -> None:
    add(connection, 50)
    usage_sums.sum_up(connection, 1000)
    add(connection, 50, seed=2)
    assert left(connection) > 0
    assert stats(path, 30, now=NOW)["period_stats"]["requests"] == 100
    assert not usage_sums.sum_up(connection, 1000)
    assert stats(path, 30, now=NOW)["period_stats"]["requests"] == 100


def test_a_row_is_summed_once_by_whoever_does_it(path: Path, connection: sqlite3.Connection) -> None:
    add(connection, 20)
    with closing(connect(path)) as other:
        usage_sums.sum_up(other, 1000)
    usage_sums.sum_up(connection, 1000)
    assert stats(path, 30, now=NOW)["period_stats"]["requests"] == 20


def test_old_days_are_forgotten_with_their_sums_step_by_step(path: Path, connection: sqlite3.Connection) -> None:
    add(connection, 300)
    usage_sums.sum_up(connection, 1000)
    first = f"{NOW - timedelta(days=2):%Y-%m-%d}"
    days = {day["date"]: day for day in stats(path, 30, now=NOW)["by_day"]}
    steps = 1
    while usage_sums.forget(connection, first, 10):
        steps += 1
    assert steps > 5
    assert {day["date"]: day for day in stats(path, 30, now=NOW)["by_day"]} == {
        date: day for date, day in days.items() if date >= first
    }
    assert connection.execute("SELECT min(substr(timestamp, 1, 10)) FROM usage").fetchone() == (first,)


def test_rows_are_summed_whose_numbers_were_given_out_before(path: Path, connection: sqlite3.Connection) -> None:
    add(connection, 30)
    usage_sums.sum_up(connection, 1000)
    usage_sums.forget(connection, "2030-01-01", 1000)
    assert stats(path, 30, now=NOW)["period_stats"]["requests"] == 0
    add(connection, 3)
    assert connection.execute("SELECT min(id) FROM usage").fetchone() == (1,)
    assert stats(path, 30, now=NOW)["period_stats"]["requests"] == 3
    usage_sums.sum_up(connection, 1000)
    assert stats(path, 30, now=NOW)["period_stats"]["requests"] == 3


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 0.001, 0.01, 0.4999, 1.0, 59.9, 3600.0, 10_000.0, 1e9])
def test_a_time_comes_back_nearly(seconds: float) -> None:
    counts = usage_sums.read(usage_sums.stored(usage_sums.counted([seconds])))
    expected = min(max(seconds, 0.001), 0.001 * 10 ** (255 / 36))
    assert usage_sums.percentile(counts, 50) == pytest.approx(expected, rel=0.034)


def test_histograms_add_up() -> None:
    chance = random.Random(7)
    times = [chance.expovariate(0.2) for _ in range(3000)]
    counts = usage_sums.counted(times)
    parts = [usage_sums.stored(usage_sums.counted(times[start::7])) for start in range(7)]
    assert sum(map(usage_sums.read, parts)) == counts
    for percent in (1, 50, 95, 99, 100):
        exact = sorted(times)[-(-len(times) * percent // 100) - 1]
        found = usage_sums.percentile(counts, percent)
        assert found == pytest.approx(max(exact, 0.001), rel=0.034)


def test_nothing_has_no_percentile() -> None:
    assert usage_sums.stored(usage_sums.counted([])) == b""
    assert usage_sums.read(b"") == usage_sums.read(None) == 0
    assert usage_sums.percentile(0, 50) is None
