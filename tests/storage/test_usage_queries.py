import functools
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_interactive.storage.ledger import Ledger, UsageRow
from llm_interactive.storage.usage_queries import SHAPE, Filters, cursor, every, largest, recent, stats, today

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
type Fill = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "proxy.db"


@pytest.fixture
def fill(path: Path) -> Fill:
    async def fill(*rows: dict[str, Any]) -> None:
        ledger = Ledger(path)
        for number, changes in enumerate(rows):
            fields: dict[str, Any] = {
                "request_id": f"r{number}",
                "timestamp": NOW - timedelta(minutes=1),
                "session": "s",
                "username": "anonymous",
                "frontend": "openai_chat",
                "backend": "openai",
                "requested_model": "gpt-4o",
                "model": "gpt-4o",
                "stream": False,
                "status": 200,
            }
            ledger.record(UsageRow(**fields | changes))
        ledger.close()

    return fill


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["request_id"] for row in rows]


async def test_recent_rows_come_newest_first_in_the_shape_of_the_contract(path: Path, fill: Fill) -> None:
    await fill(
        {"timestamp": NOW, "stream": True, "cost": Decimal("0.5"), "prompt_tokens": 3, "completion_tokens": 4},
        {"timestamp": NOW - timedelta(hours=1), "estimated": True},
        {"timestamp": NOW},
    )
    rows = recent(path)
    assert ids(rows) == ["r2", "r0", "r1"]
    assert {tuple(row) for row in rows} == {SHAPE}
    assert rows[1] | {"id": 0} == {
        "id": 0,
        "request_id": "r0",
        "timestamp": "2026-11-23T12:00:00.000Z",
        "session": "s",
        "username": "anonymous",
        "project": None,
        "caller_name": None,
        "frontend": "openai_chat",
        "backend": "openai",
        "requested_model": "gpt-4o",
        "model": "gpt-4o",
        "key": None,
        "stream": True,
        "status": 200,
        "error": None,
        "prompt_tokens": 3,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "completion_tokens": 4,
        "reasoning_tokens": 0,
        "total_tokens": 7,
        "estimated": False,
        "cost": 0.5,
        "ttft": None,
        "execution_time": None,
        "end_reason": None,
        "notes": None,
        "flow_id": None,
    }
    assert [(row["stream"], row["estimated"]) for row in rows] == [(False, False), (True, False), (False, True)]
    assert all(type(row[name]) is bool for row in rows for name in ("stream", "estimated"))


async def test_recent_gives_as_many_as_asked(path: Path, fill: Fill) -> None:
    await fill(*[{"timestamp": NOW + timedelta(seconds=number)} for number in range(5)])
    assert ids(recent(path, 2)) == ["r4", "r3"]
    assert recent(path, 0) == []
    assert recent(path, -1) == []


@pytest.mark.parametrize("name", ["project", "backend", "model", "username", "session", "caller_name"])
async def test_every_filter_filters_rows_and_figures(path: Path, fill: Fill, name: str) -> None:
    await fill({name: "wanted"}, {name: "wanted' OR 1=1 --"}, {}, {name: "wanted"})
    assert ids(recent(path, filters=Filters(**{name: "wanted"}))) == ["r3", "r0"]
    assert ids(recent(path, filters=Filters(**{name: ""}))) == ["r3", "r2", "r1", "r0"]
    assert stats(path, 30, Filters(**{name: "wanted"}), NOW)["period_stats"]["requests"] == 2
    assert recent(path, filters=Filters(project="wanted", username="nobody")) == []


async def test_stats_sum_up_a_period(path: Path, fill: Fill) -> None:
    await fill(
        {"prompt_tokens": 100, "cached_tokens": 40, "completion_tokens": 10, "cost": Decimal("0.2"), "project": "p"},
        {"prompt_tokens": 300, "completion_tokens": 30, "reasoning_tokens": 20, "model": "gpt-5"},
        {"prompt_tokens": 1, "cost": Decimal("0.4"), "backend": "anthropic", "model": "claude", "project": "p"},
        {"status": 429, "error": "quota", "timestamp": NOW - timedelta(days=3)},
        {"prompt_tokens": 9999, "timestamp": NOW - timedelta(days=31)},
    )
    found = stats(path, 30, now=NOW)
    assert list(found)[:5] == ["period_stats", "model_rankings", "by_day", "by_project", "days"]
    assert found["days"] == 30
    period = found["period_stats"]
    assert {name: period[name] for name in ("requests", "errors", "unpriced")} == {
        "requests": 4,
        "errors": 1,
        "unpriced": 1,
    }
    assert period["sum_prompt_tokens"] == 401
    assert period["sum_cached_tokens"] == 40
    assert period["sum_completion_tokens"] == 40
    assert period["sum_reasoning_tokens"] == 20
    assert period["sum_total_tokens"] == 441
    assert period["sum_cost"] == pytest.approx(0.6)
    assert period["avg_prompt_tokens"] == 401 / 4
    assert period["avg_cost"] == pytest.approx(0.3), "rows without a price are not free"
    assert found["model_rankings"]["total_tokens"] == [
        {"model": "openai:gpt-5", "value": 330},
        {"model": "openai:gpt-4o", "value": 110},
        {"model": "anthropic:claude", "value": 1},
    ]
    assert found["model_rankings"]["requests"][0] == {"model": "openai:gpt-4o", "value": 2}
    assert found["model_rankings"]["cost"] == [
        {"model": "anthropic:claude", "value": 0.4},
        {"model": "openai:gpt-4o", "value": 0.2},
    ]
    assert [(day["date"], day["requests"], day["errors"]) for day in found["by_day"]] == [
        ("2026-11-20", 1, 1),
        ("2026-11-21", 0, 0),
        ("2026-11-22", 0, 0),
        ("2026-11-23", 3, 0),
    ]
    assert found["by_day"][1].keys() == found["by_day"][3].keys()
    assert [(entry["project"], entry["total_tokens"], entry["cost"]) for entry in found["by_project"]] == [
        (None, 330, None),
        ("p", 111, pytest.approx(0.6)),
    ]


async def test_times_are_those_of_replies_and_first_tokens_those_of_streams(path: Path, fill: Fill) -> None:
    times = [{"execution_time": float(number), "ttft": number / 10, "stream": True} for number in range(100, 0, -1)]
    refused = [{"status": 429, "error": "quota", "execution_time": 0.001, "ttft": 0.001, "stream": True}] * 50
    await fill(*times, *refused, {"ttft": 99.0}, {"execution_time": None, "ttft": None, "stream": True})
    found = stats(path, 1, now=NOW)
    period = found["period_stats"]
    near = functools.partial(pytest.approx, rel=0.033)
    assert (period["p50_execution_time"], period["p95_execution_time"]) == (near(50.0), near(95.0))
    assert (period["p50_ttft"], period["p95_ttft"]) == (near(5.0), near(9.5))
    assert period["avg_execution_time"] == 50.5
    assert period["sum_execution_time"] == 5050.0
    assert found["by_model"][0]["p95_ttft"] == near(9.5)


async def test_one_time_is_every_percentile(path: Path, fill: Fill) -> None:
    await fill({"execution_time": 2.0})
    period = stats(path, 1, now=NOW)["period_stats"]
    assert period["p50_execution_time"] == period["p95_execution_time"] == pytest.approx(2.0, rel=0.033)
    assert (period["avg_ttft"], period["p50_ttft"], period["p95_ttft"]) == (None, None, None)


async def test_a_period_is_today_and_the_days_before(path: Path, fill: Fill) -> None:
    await fill({"timestamp": NOW - timedelta(hours=11)}, {"timestamp": NOW - timedelta(hours=13)})
    assert [stats(path, days, now=NOW)["period_stats"]["requests"] for days in (-1, 0, 1, 2, 10**12)] == [0, 0, 1, 2, 2]
    assert [len(list(every(path, days, now=NOW))) for days in (0, 1, 2)] == [0, 1, 2]


async def test_what_was_stopped_moved_on_or_has_no_price_is_counted(path: Path, fill: Fill) -> None:
    await fill(
        {"end_reason": "loop", "notes": "a loop"},
        {"notes": "failover: openai:gpt-4o key 1: 429 quota; more"},
        {"notes": "no failover: at all", "estimated": True, "prompt_tokens": 1},
        {"status": 429, "error": "quota"},
    )
    period = stats(path, 1, now=NOW)["period_stats"]
    names = ("requests", "errors", "failovers", "loops", "estimated", "unpriced")
    assert [period[name] for name in names] == [4, 1, 1, 1, 1, 3], "what was refused costs nothing"


async def test_figures_by_model_client_user_and_session(path: Path, fill: Fill) -> None:
    await fill(
        {"caller_name": "Codex", "session": "a", "username": "u", "prompt_tokens": 1},
        {"caller_name": "Codex", "session": "b", "model": "m2", "prompt_tokens": 2},
        {"session": "b", "prompt_tokens": 4},
    )
    found = stats(path, 1, now=NOW)

    def tokens(table: list[dict[str, Any]], name: str) -> list[tuple[Any, int]]:
        return [(row[name], row["total_tokens"]) for row in table]

    assert tokens(found["by_model"], "model") == [("openai:gpt-4o", 5), ("openai:m2", 2)]
    assert tokens(found["by_client"], "caller_name") == [(None, 4), ("Codex", 3)]
    assert tokens(largest(path, "username", 1, now=NOW), "username") == [("anonymous", 6), ("u", 1)]
    assert tokens(largest(path, "session", 1, now=NOW), "session") == [("b", 6), ("a", 1)]
    only = Filters(session="b", caller_name="Codex")
    assert stats(path, 1, only, NOW)["period_stats"]["sum_total_tokens"] == 2
    assert tokens(largest(path, "session", 1, only, NOW), "session") == [("b", 2)]
    assert tokens(largest(path, "username", 1, only, NOW), "username") == [("anonymous", 2)]
    assert stats(path, 1, Filters(username="u"), NOW)["period_stats"]["sum_total_tokens"] == 1


async def test_pages_neither_repeat_nor_leave_out_rows(path: Path, fill: Fill) -> None:
    """Also among rows of one moment, and while others come and go."""
    await fill(*[{"timestamp": NOW - timedelta(seconds=number // 3)} for number in range(10)])
    everything = ids(recent(path))
    seen = []
    before = None
    while page := recent(path, 3, before=before):
        seen += ids(page)
        before = cursor(page[-1])
        await fill({"request_id": "newer", "timestamp": NOW + timedelta(days=1)})
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM usage WHERE id = ?", (page[-1]["id"],))
    assert seen == everything


@pytest.mark.parametrize("before", ["", "x", "2026-11-23T12:00:00.000Z", "2026-11-23T12:00:00.000Z_1 OR 1", "_1"])
def test_a_cursor_of_ones_own_making_is_refused(path: Path, before: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(before) + "$"):
        recent(path, before=before)


async def test_a_file_without_sums_tells_the_same(path: Path, fill: Fill) -> None:
    """As an older version leaves it."""
    await fill({"prompt_tokens": 3, "cost": Decimal("0.5")}, {"model": "m2"})
    found = stats(path, 30, now=NOW)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE usage_days")
        connection.execute("DROP TABLE usage_summed")
    assert stats(path, 30, now=NOW) == found


async def test_today_is_since_midnight_where_the_user_is(path: Path, fill: Fill) -> None:
    await fill(
        {"timestamp": datetime(2026, 11, 22, 21, 59, tzinfo=UTC), "prompt_tokens": 1000},
        {"timestamp": datetime(2026, 11, 22, 22, 1, tzinfo=UTC), "prompt_tokens": 10, "cost": Decimal("0.5")},
        {"prompt_tokens": 5},
        {"prompt_tokens": 7, "session": "other"},
    )
    helsinki = NOW.astimezone(timezone(timedelta(hours=2)))
    assert today(path, "s", helsinki) == {
        "requests": 2,
        "errors": 0,
        "failovers": 0,
        "loops": 0,
        "estimated": 0,
        "prompt_tokens": 15,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "completion_tokens": 0,
        "reasoning_tokens": 0,
        "total_tokens": 15,
        "cost": 0.5,
        "unpriced": 1,
    }


async def test_today_is_in_the_local_zone_by_default(path: Path, fill: Fill) -> None:
    await fill({"timestamp": datetime.now(UTC), "prompt_tokens": 5})
    assert today(path, "s")["total_tokens"] in (0, 5)
    assert today(path, "s", datetime.now(UTC) - timedelta(days=1))["total_tokens"] == 5


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_recorded_yet_is_no_usage(path: Path, exists: bool) -> None:
    if exists:
        path.touch()
    assert recent(path) == []
    assert today(path, "s")["requests"] == 0
    found = stats(path, 7, now=NOW)
    assert found["period_stats"]["requests"] == 0
    assert found["period_stats"]["p95_ttft"] is None
    assert found["by_day"] == []
    assert path.exists() is exists


async def test_rows_are_read_while_the_ledger_is_open(path: Path) -> None:
    ledger = Ledger(path)
    await ledger.record(
        UsageRow(
            request_id="live",
            timestamp=NOW,
            session="s",
            username="u",
            frontend="gemini",
            backend="gemini",
            requested_model="m",
            model="m",
            stream=True,
        )
    )
    assert ids(recent(path)) == ["live"]
    ledger.close()
    assert ids(recent(path)) == ["live"]
