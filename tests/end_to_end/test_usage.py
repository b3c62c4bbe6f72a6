"""Whatever becomes of a call, it is in the record, and what the record says is what the provider said (SPEC 10)."""

import csv
import io
import json
import re
import resource
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.proxy import RunningProxy
from kit.replies import Fault, answer, chat, chat_chunk, chat_stream, openai_error, sse, text
from kit.upstream import Upstream

type Start = Callable[..., RunningProxy]

MESSAGES = [{"role": "user", "content": "Hello?"}]
CHAT = "/v1/chat/completions"


def at(upstream: Upstream, **more: str) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-backend-0123456789", "OPENAI_API_BASE_URL": f"{upstream.url}/v1", **more}


def ask(proxy: RunningProxy, path: str = CHAT, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    whole = {"model": "openai:gpt-4o", "messages": MESSAGES} | body
    return httpx.post(proxy.url + path, json=whole, headers=headers, timeout=20)


def get(proxy: RunningProxy, path: str, **params: Any) -> httpx.Response:
    return httpx.get(proxy.url + path, params=params or None, timeout=20)


def rows(proxy: RunningProxy, number: int = 1, **params: Any) -> list[dict[str, Any]]:
    """Newest first; the row of a reply that the client did not wait for comes a moment later."""
    for _ in range(100):
        data: list[dict[str, Any]] = get(proxy, "/usage/recent", **params).json()["data"]
        if len(data) >= number:
            break
        time.sleep(0.05)
    return data


def test_a_row_says_who_asked_for_what_and_what_it_cost(start_proxy: Start, upstream: Upstream) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100,
             "prompt_tokens_details": {"cached_tokens": 600},
             "completion_tokens_details": {"reasoning_tokens": 40}}  # fmt: skip
    body = json.loads(b"".join(chat("Good day.").pieces)) | {"usage": usage}
    upstream.enqueue(answer(body))
    proxy = start_proxy(at(upstream))
    who = {"x-session-id": "s1", "x-user-id": "ann", "x-project": "tea", "user-agent": "OpenAI/Python 3.54.0"}
    ask(proxy, headers=who)
    [row] = rows(proxy)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row.pop("timestamp"))
    assert re.fullmatch(r"req_[0-9a-f]{24}", row.pop("request_id"))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", row.pop("flow_id"))
    assert 0 < row.pop("ttft") <= row.pop("execution_time") < 20
    assert row == {
        "id": 1,
        "session": "s1",
        "username": "ann",
        "project": "tea",
        "caller_name": "OpenAI SDK (Python)",
        "frontend": "openai_chat",
        "backend": "openai",
        "requested_model": "openai:gpt-4o",
        "model": "gpt-4o",
        "key": 1,
        "stream": False,
        "status": 200,
        "error": None,
        "prompt_tokens": 1000,
        "cached_tokens": 600,
        "cache_write_tokens": 0,
        "completion_tokens": 100,
        "reasoning_tokens": 40,
        "total_tokens": 1100,
        "estimated": False,
        "cost": pytest.approx((400 * 2.5 + 600 * 1.25 + 100 * 10) / 1e6),
        "end_reason": "stop",
        "notes": None,
    }


def test_the_project_of_the_session_goes_before_that_of_the_header(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("a"), chat("b"), answer({"data": []}))
    proxy = start_proxy(at(upstream))
    headers = {"x-project": "header"}
    ask(proxy, headers=headers)
    ask(proxy, headers=headers, messages=[{"role": "user", "content": "!/set(project=chat) Hello?"}])
    ask(proxy, "/v1/embeddings", headers, model="m", input="Hello")
    assert [row["project"] for row in rows(proxy, 3)] == ["chat", "chat", "header"]


def test_every_attempt_has_its_row_linked_by_the_request(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(openai_error(429, "quota"), openai_error(500, "broken"), chat("fine"))
    environment = {"OPENAI_API_BASE_URL": upstream.url, **{f"OPENAI_API_KEY_{n}": f"sk-{n}" for n in (1, 2, 3)}}
    proxy = start_proxy(environment)
    reply = ask(proxy)
    assert reply.status_code == 200
    third, second, first = rows(proxy, 3)
    assert {row["request_id"] for row in (first, second, third)} == {reply.headers["x-llm-proxy-request-id"]}
    assert [(row["key"], row["status"], row["end_reason"]) for row in (first, second, third)] == [
        (1, 429, "error"),
        (2, 500, "error"),
        (3, 200, "stop"),
    ]
    assert first["notes"] is None
    assert second["notes"] == "failover: openai:gpt-4o key 1: 429 quota"
    assert third["notes"] == "failover: openai:gpt-4o key 2: 500 broken"
    assert (first["cost"], first["total_tokens"]) == (None, 0)
    sums = get(proxy, "/usage/stats").json()["data"]["period_stats"]
    assert (sums["requests"], sums["errors"], sums["failovers"], sums["unpriced"]) == (3, 2, 2, 0)


def test_a_stream_that_begins_with_an_error_has_the_errors_status(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(sse({"error": {"message": "overloaded", "code": 529}}), chat_stream("fine"))
    proxy = start_proxy({"OPENAI_API_BASE_URL": upstream.url, "OPENAI_API_KEY_1": "sk-1", "OPENAI_API_KEY_2": "sk-2"})
    ask(proxy, stream=True)
    assert [(row["status"], row["error"]) for row in rows(proxy, 2)] == [(200, None), (529, "overloaded")]


def test_a_stream_that_was_cut_is_counted_here(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(sse(chat_chunk("one two three four"), Fault.RESET))
    proxy = start_proxy(at(upstream))
    ask(proxy, stream=True)
    [row] = rows(proxy)
    assert (row["estimated"], row["end_reason"], row["status"]) == (True, "error", 200)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (9, 4)
    assert row["cost"] == pytest.approx((9 * 2.5 + 4 * 10) / 1e6)


def test_a_provider_that_gives_no_figures_is_counted_for(start_proxy: Start, upstream: Upstream) -> None:
    body = json.loads(b"".join(chat("one two three four").pieces))
    del body["usage"]
    upstream.enqueue(answer(body))
    proxy = start_proxy(at(upstream))
    ask(proxy)
    [row] = rows(proxy)
    assert (row["estimated"], row["prompt_tokens"], row["completion_tokens"]) == (True, 9, 4)


def test_a_client_that_leaves_pays_for_what_it_got(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(sse(chat_chunk("one two three four"), Fault.STALL))
    proxy = start_proxy(at(upstream))
    body = {"model": "openai:gpt-4o", "messages": MESSAGES, "stream": True}
    with httpx.stream("POST", proxy.url + CHAT, json=body, timeout=20) as reply:
        next(reply.iter_lines())
    [row] = rows(proxy)
    assert (row["end_reason"], row["error"], row["estimated"]) == ("cancelled", "the client disconnected", True)
    assert row["completion_tokens"] == 4


def test_what_is_under_way_when_the_proxy_ends_is_recorded(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(sse(chat_chunk("one two three four"), Fault.STALL))
    proxy = start_proxy(at(upstream))
    body = {"model": "openai:gpt-4o", "messages": MESSAGES, "stream": True}
    with httpx.stream("POST", proxy.url + CHAT, json=body, timeout=20) as reply:
        next(reply.iter_lines())
        proxy.stop()
    with closing(sqlite3.connect(proxy.data / "proxy.db")) as connection:
        found = connection.execute("SELECT end_reason, completion_tokens, estimated FROM usage").fetchall()
    assert found == [("cancelled", 4, 1)]


def test_a_loop_that_was_stopped_is_noted_and_counted(start_proxy: Start) -> None:
    proxy = start_proxy({})
    ask(proxy, model="demo:loop", stream=True)
    [row] = rows(proxy)
    assert (row["end_reason"], row["status"], row["estimated"]) == ("loop", 200, True)
    assert row["completion_tokens"] > 50
    assert "loop" in row["notes"].lower()
    assert get(proxy, "/usage/stats").json()["data"]["period_stats"]["loops"] == 1


def test_a_tool_call_loop_keeps_the_providers_figures_where_they_came(start_proxy: Start) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    proxy = start_proxy({"TOOL_LOOP_MAX_REPEATS": "2"})
    for _ in range(2):
        reply = ask(proxy, headers={"x-session-id": "s1"}, model="demo:tool-loop", tools=[tool])
    assert "Tool call loop detected" in reply.text
    last, first = rows(proxy, 2)
    assert (first["end_reason"], last["end_reason"]) == ("tool_calls", "loop")
    assert (last["estimated"], last["completion_tokens"]) == (False, first["completion_tokens"])


def test_passed_calls_are_counted(start_proxy: Start, upstream: Upstream) -> None:
    vectors = {"object": "list", "data": [{"embedding": [0.5] * 20_000}], "model": "text-embedding-3-small",
               "usage": {"prompt_tokens": 1_000_000, "total_tokens": 1_000_000}}  # fmt: skip
    speech = text(b"\x00\x01" * 50_000, headers={"content-type": "audio/mpeg"})
    upstream.enqueue(answer(vectors), speech, openai_error(400, "no"))
    proxy = start_proxy(at(upstream))
    headers = {"x-session-id": "s9"}
    ask(proxy, "/v1/embeddings", headers, model="text-embedding-3-small", input="Hello")
    ask(proxy, "/v1/audio/speech", headers, model="tts-1", input="Hello")
    ask(proxy, "/v1/moderations", headers, model="omni", input="Hello")
    refused, spoken, embedded = rows(proxy, 3, session="s9")
    assert (embedded["model"], embedded["prompt_tokens"], embedded["completion_tokens"]) == (
        "text-embedding-3-small",
        1_000_000,
        0,
    )
    assert embedded["cost"] == pytest.approx(0.02)
    assert (spoken["model"], spoken["status"], spoken["total_tokens"], spoken["cost"]) == ("tts-1", 200, 0, None)
    assert (refused["status"], refused["end_reason"], refused["error"]) == (400, "error", "the provider answered 400")


def test_what_openrouter_says_it_cost_is_what_it_cost(start_proxy: Start, upstream: Upstream) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "cost": 0.0133176,
             "cost_details": {"upstream_inference_cost": None}}  # fmt: skip
    upstream.enqueue(answer(json.loads(b"".join(chat("a").pieces)) | {"usage": usage}))
    proxy = start_proxy({"OPENROUTER_API_KEY": "sk-or-1", "OPENROUTER_API_BASE_URL": upstream.url})
    ask(proxy, model="openrouter:anthropic/claude-sonnet-4.5")
    assert rows(proxy)[0]["cost"] == 0.0133176


def test_prices_of_ones_own_and_unknown_ones(start_proxy: Start, upstream: Upstream, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text("prices: {'openai:house-*': {input: 100000, output: 1000000}}")
    upstream.enqueue(chat("a"), chat("b"))
    proxy = start_proxy(at(upstream, LLM_CONFIG=str(config)))
    ask(proxy, model="openai:house-1")
    ask(proxy, model="openai:nobody-knows")
    assert [row["cost"] for row in rows(proxy, 2)] == [None, pytest.approx(0.7 + 3.0)]
    assert get(proxy, "/usage/stats").json()["data"]["period_stats"]["unpriced"] == 1


def test_names_that_hold_a_key_are_stored_without_it(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("a"))
    key = "sk-backend-0123456789"
    proxy = start_proxy(at(upstream, REDACT_API_KEYS_IN_PROMPTS="false"))
    ask(proxy, headers={"x-user-id": key, "x-project": key, "x-session-id": key, "user-agent": key, "x-title": key})
    assert key not in json.dumps(rows(proxy))
    assert rows(proxy)[0]["username"] == "(API_KEY_HAS_BEEN_REDACTED)"


def test_pages_filters_and_limits(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(*(chat(str(number)) for number in range(5)))
    proxy = start_proxy(at(upstream))
    for number in range(5):
        ask(proxy, headers={"x-project": "odd" if number % 2 else "even", "x-user-id": f"u{number}"})
    seen, before = [], {}
    while True:
        page = get(proxy, "/usage/recent", limit=2, **before).json()
        seen += [row["username"] for row in page["data"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == ["u4", "u3", "u2", "u1", "u0"]
    assert [row["username"] for row in rows(proxy, 2, project="odd")] == ["u3", "u1"]
    data = get(proxy, "/usage/stats", project="odd", days=1).json()["data"]
    assert (data["period_stats"]["requests"], data["days"]) == (2, 1)
    assert [row["username"] for row in get(proxy, "/usage/users", project="odd").json()["data"]] == ["u1", "u3"]
    assert [row["session"] for row in get(proxy, "/usage/sessions").json()["data"]] == ["default"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/usage/recent?limit=0", "limit"),
        ("/usage/recent?limit=100000", "limit"),
        ("/usage/recent?limit=" + "9" * 5000, "limit"),
        ("/usage/recent?limit=²", "limit"),
        ("/usage/recent?before=x", "before"),
        ("/usage/stats?days=-1", "days"),
        ("/usage/export.csv?days=many", "days"),
        ("/usage/export?format=xml", "format"),
        ("/usage/export?before=x", "before"),
    ],
)
def test_a_wrong_parameter_is_named(start_proxy: Start, path: str, named: str) -> None:
    reply = httpx.get(start_proxy({}).url + path)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(f"{named} must be ")


def test_exports_are_harmless_and_whole(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("a"), openai_error(400, '=HYPERLINK("http://evil")'))
    proxy = start_proxy(at(upstream))
    ask(proxy, headers={"x-project": '=cmd|" /C calc"!A0', "x-user-id": "@SUM(1)"})
    ask(proxy, headers={"x-project": "a,b"})
    reply = get(proxy, "/usage/export.csv")
    assert reply.headers["content-type"].startswith("text/csv")
    assert reply.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    found = list(csv.DictReader(io.StringIO(reply.text)))
    expected = rows(proxy, 2)
    assert [line["request_id"] for line in found] == [row["request_id"] for row in expected]
    assert list(found[0]) == list(expected[0])
    assert (found[1]["project"], found[1]["username"]) == ('\'=cmd|" /C calc"!A0', "'@SUM(1)")
    assert found[0]["error"] == '\'=HYPERLINK("http://evil")'
    assert (found[1]["prompt_tokens"], found[1]["stream"], found[1]["error"]) == ("7", "false", "")
    assert get(proxy, "/usage/export.json").json()["data"] == expected
    assert len(get(proxy, "/usage/export.json", limit=1, project="a,b").json()["data"]) == 1


def test_an_export_says_where_it_goes_on(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(*(chat(str(number)) for number in range(5)))
    proxy = start_proxy(at(upstream))
    for number in range(5):
        ask(proxy, headers={"x-project": "a&b", "x-user-id": f"u{number}"})
    seen, path = [], "/usage/export.csv?limit=2&project=a%26b"
    while path:
        reply = get(proxy, path)
        seen.append([line["username"] for line in csv.DictReader(io.StringIO(reply.text))])
        path = reply.links.get("next", {}).get("url")
    assert seen == [["u4", "u3"], ["u2", "u1"], ["u0"]]
    assert get(proxy, "/usage/export?format=json&limit=5").links == {}
    assert len(get(proxy, "/usage/export?format=json&limit=5").json()["data"]) == 5
    assert get(proxy, "/usage/export").text == get(proxy, "/usage/export.csv").text


def test_a_flow_says_what_it_cost(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat_stream("a"))
    proxy = start_proxy(at(upstream), args=["-w", "flows.mitm"])
    ask(proxy, stream=True)
    proxy.stop()
    saved = (proxy.home / "flows.mitm").read_bytes().decode("utf-8", "replace")
    found = re.search(r"openai_chat → openai/gpt-4o · 7 in / 1 out · \$0\.000028 · first token after \d", saved)
    assert found, saved[-2000:]


def test_old_rows_go_and_new_ones_stay(start_proxy: Start, upstream: Upstream) -> None:
    upstream.enqueue(chat("a"))
    first = start_proxy(at(upstream))
    ask(first)
    rows(first)
    first.stop()
    with closing(sqlite3.connect(first.data / "proxy.db")) as connection, connection:
        columns = "request_id, session, username, backend, model"
        connection.executemany(
            f"INSERT INTO usage (timestamp, {columns}) VALUES ('2020-01-01T00:00:00.000Z', ?, 's', 'u', 'b', 'm')",
            [(str(number),) for number in range(1200)],
        )
    proxy = start_proxy(at(upstream, USAGE_RETENTION_DAYS="7"), home=first.home)
    for _ in range(200):
        if len(found := rows(proxy, limit=10_000)) == 1:
            break
        time.sleep(0.05)
    assert [row["model"] for row in found] == ["gpt-4o"]
    assert get(proxy, "/usage/stats", days=36_500).json()["data"]["period_stats"]["requests"] == 1


def test_figures_need_the_key_and_the_page_does_not(start_proxy: Start) -> None:
    proxy = start_proxy({"LLM_INTERACTIVE_PROXY_API_KEY": "proxy-key-0123456789"})
    for path in ("stats", "recent", "users", "sessions", "export.csv", "export.json"):
        assert get(proxy, f"/usage/{path}").status_code == 401
    page = get(proxy, "/dashboard")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    elsewhere = httpx.get(f"{proxy.url}/dashboard", headers={"sec-fetch-site": "cross-site"})
    assert elsewhere.status_code == 403
    assert httpx.post(f"{proxy.url}/dashboard").status_code == 404


def test_a_connection_that_says_nothing_leaves_no_row(start_proxy: Start) -> None:
    proxy = start_proxy({})
    with socket.create_connection(("127.0.0.1", proxy.port)) as held:
        held.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{")
    assert rows(proxy, 0) == []


def answered(proxy: RunningProxy, number: int) -> None:
    for _ in range(number):
        assert ask(proxy, model="demo:echo").status_code == 200


def said(proxy: RunningProxy, words: str) -> int:
    return proxy.log().count(words)


def test_a_locked_database_stops_nobody(start_proxy: Start) -> None:
    proxy = start_proxy({})
    answered(proxy, 1)
    with closing(sqlite3.connect(proxy.data / "proxy.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answered(proxy, 5)
        assert said(proxy, "Another program keeps the database locked") == 1
        other.execute("COMMIT")
    assert len(rows(proxy, 6)) == 6
    assert said(proxy, "usage cannot be written") == 1
    assert said(proxy, "usage is written again") == 1


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="no limits can be set for another process")
def test_a_full_disk_stops_nobody(start_proxy: Start) -> None:
    proxy = start_proxy({})
    answered(proxy, 1)
    log = (proxy.data / "proxy.db-wal").stat().st_size
    unlimited = resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, (log, resource.RLIM_INFINITY))
    answered(proxy, 5)
    assert said(proxy, "The disk refuses it") == 1
    assert len(rows(proxy, 0)) == 1
    resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, unlimited)
    assert len(rows(proxy, 6)) == 6
    assert said(proxy, "usage cannot be written") == 1
    assert said(proxy, "usage is written again: 5 rows had waited") == 1


def test_a_corrupt_database_is_set_aside_and_stops_nobody(start_proxy: Start, tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "proxy.db").write_bytes(b"this is no database" * 1000)
    proxy = start_proxy({})
    answered(proxy, 5)
    assert len(rows(proxy, 5)) == 5
    assert said(proxy, "It was set aside as proxy.db.corrupt-") == 1
    aside = [path.name for path in proxy.data.iterdir() if re.fullmatch(r"proxy\.db\.corrupt-\d+T[\d.]+Z", path.name)]
    assert len(aside) == 1
    assert get(proxy, "/usage/stats").json()["data"]["period_stats"]["requests"] == 5


def test_a_damaged_database_is_told_to_who_asks_for_figures(start_proxy: Start, tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "proxy.db").write_bytes(b"this is no database" * 1000)
    proxy = start_proxy({"DISABLE_ACCOUNTING": "true"})
    for path in ("stats", "recent", "users", "export.csv"):
        reply = get(proxy, f"/usage/{path}")
        assert reply.status_code == 503
        assert "the usage database cannot be read" in reply.json()["error"]["message"]
    answered(proxy, 1)


def test_nothing_is_recorded_where_nothing_shall_be(start_proxy: Start) -> None:
    proxy = start_proxy({"DISABLE_ACCOUNTING": "true"})
    answered(proxy, 1)
    assert rows(proxy, 0) == []
    assert get(proxy, "/usage/stats").json()["data"]["period_stats"]["requests"] == 0
