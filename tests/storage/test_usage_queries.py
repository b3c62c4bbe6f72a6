from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_interactive.storage.ledger import Ledger, UsageRow
from llm_interactive.storage.usage_queries import SHAPE, Filters, recent, stats, today

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
    }
    assert [(row["stream"], row["estimated"]) for row in rows] == [(False, False), (True, False), (False, True)]
    assert all(type(row[name]) is bool for row in rows for name in ("stream", "estimated"))


async def test_recent_gives_as_many_as_asked(path: Path, fill: Fill) -> None:
    await fill(*[{"timestamp": NOW + timedelta(seconds=number)} for number in range(5)])
    assert ids(recent(path, 2)) == ["r4", "r3"]
    assert recent(path, 0) == []
    assert recent(path, -1) == []


@pytest.mark.parametrize("name", ["project", "backend", "model", "username", "session"])
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
    assert list(found) == ["period_stats", "model_rankings", "by_day", "by_project", "days"]
    assert found["days"] == 30
    period = found["period_stats"]
    assert {name: period[name] for name in ("requests", "errors", "unpriced")} == {
        "requests": 4,
        "errors": 1,
        "unpriced": 2,
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


async def test_times_are_those_of_replies(path: Path, fill: Fill) -> None:
    times = [{"execution_time": float(number), "ttft": number / 10} for number in range(100, 0, -1)]
    refused = [{"status": 429, "error": "quota", "execution_time": 0.001}] * 50
    await fill(*times, *refused, {"execution_time": None, "ttft": None})
    period = stats(path, 1, now=NOW)["period_stats"]
    assert (period["p50_execution_time"], period["p95_execution_time"]) == (50.0, 95.0)
    assert (period["p50_ttft"], period["p95_ttft"]) == (5.0, 9.5)
    assert period["avg_execution_time"] == 50.5
    assert period["sum_execution_time"] == 5050.0


async def test_one_time_is_every_percentile(path: Path, fill: Fill) -> None:
    await fill({"execution_time": 2.0})
    period = stats(path, 1, now=NOW)["period_stats"]
    assert (period["p50_execution_time"], period["p95_execution_time"]) == (2.0, 2.0)
    assert (period["avg_ttft"], period["p50_ttft"], period["p95_ttft"]) == (None, None, None)


async def test_a_period_of_days_goes_back_as_many_times_24_hours(path: Path, fill: Fill) -> None:
    await fill({"timestamp": NOW - timedelta(hours=23)}, {"timestamp": NOW - timedelta(hours=25)})
    assert [stats(path, days, now=NOW)["period_stats"]["requests"] for days in (-1, 0, 1, 2, 10**12)] == [0, 0, 1, 2, 2]


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
