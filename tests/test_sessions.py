"""SPEC 4: whose state is whose, how long it is kept, and what survives."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_interactive.config_file import FailoverRoute
from llm_interactive.conversation import Conversation, Message, Text, Thinking, ToolCall
from llm_interactive.sessions import (
    IDLE_SECONDS,
    MOST_OWN_ANSWERS,
    MOST_THOUGHTS,
    Server,
    Session,
    Sessions,
    remember_thoughts,
    restore_thoughts,
    session_id,
)
from llm_interactive.storage.session_store import Row, SessionStore
from llm_interactive.thoughts import Thought


@pytest.mark.parametrize(
    ("headers", "body", "name"),
    [
        ({}, {}, "default"),
        ({}, {"prompt_cache_key": "cache"}, "cache"),
        ({}, {"metadata": {"user_id": "user"}, "prompt_cache_key": "cache"}, "user"),
        ({"session_id": "codex"}, {"metadata": {"user_id": "user"}}, "codex"),
        ({"session-id": "codex"}, {}, "codex"),
        ({"x-claude-code-session-id": "claude", "session_id": "codex"}, {}, "claude"),
        ({"x-session-id": " mine ", "x-claude-code-session-id": "claude"}, {"prompt_cache_key": "cache"}, "mine"),
        ({"x-session-id": " "}, {"metadata": {"user_id": ""}, "prompt_cache_key": 5}, "default"),
        ({}, {"metadata": "text"}, "default"),
    ],
)
def test_the_first_name_that_is_present(headers: dict[str, str], body: dict[str, Any], name: str) -> None:
    assert session_id(headers, body, "key") == f"key/{name}"


def test_keys_never_share_and_odd_names_are_hashed() -> None:
    named = {"x-session-id": "s"}
    assert session_id(named, {}, "a") != session_id(named, {}, "b")
    assert session_id({}, {}, "a") != session_id({}, {}, "b")
    odd = [session_id({"x-session-id": name}, {}, "a") for name in ("x" * 5000, "x" * 5001, "a\nb", "\ud800")]
    assert len({*odd}) == 4
    assert all(len(id_) == 66 and id_.isprintable() for id_ in odd)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


class Memory:
    """A store that a test can break or hold up."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.server: dict[str, Any] = {}
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()
        self.saves = 0
        self.forgotten: list[float] = []

    def _ready(self) -> None:
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error

    def load(self, id_: str) -> Row | None:
        self._ready()
        return self.rows.get(id_)

    def save(self, rows: Sequence[Row]) -> None:
        self._ready()
        self.saves += 1
        self.rows |= {row[0]: row for row in rows}

    def forget(self, before: float) -> None:
        self.forgotten.append(before)

    def load_server(self) -> Mapping[str, Any]:
        self._ready()
        return self.server

    def save_server(self, values: Mapping[str, Any]) -> None:
        self._ready()
        self.server = dict(values)

    def close(self) -> None:
        pass


async def test_two_sessions_never_see_each_other() -> None:
    sessions = Sessions(Memory())
    one, two = await sessions.open("k/a"), await sessions.open("k/b")
    one.model = "openai:x"
    one.aliases = {"a": "b"}
    assert two.to_json() == {}
    await sessions.close()


async def test_requests_at_once_get_one_object() -> None:
    memory = Memory()
    memory.rows["k/a"] = ("k/a", 1.0, b'{"model":"openai:x"}')
    sessions = Sessions(memory, clock=lambda: 2.0)
    opened = await asyncio.gather(*(sessions.open("k/a") for _ in range(5)))
    assert len({id(session) for session in opened}) == 1
    assert opened[0].model == "openai:x"
    await sessions.close()


async def test_one_that_gives_up_waiting_does_not_take_the_session_from_the_others() -> None:
    memory = Memory()
    memory.go.clear()
    sessions = Sessions(memory)
    first, second = asyncio.create_task(sessions.open("k/a")), asyncio.create_task(sessions.open("k/a"))
    await asyncio.sleep(0)
    first.cancel()
    memory.go.set()
    assert (await second).id == "k/a"
    assert first.cancelled()
    await sessions.close()


async def test_a_session_in_use_is_never_doubled_though_memory_is_bounded() -> None:
    memory = Memory()
    sessions = Sessions(memory, capacity=2, delay=60)
    held = await sessions.open("k/held")
    held.project = "p"
    for number in range(5):
        await sessions.open(f"k/{number}")
    assert await sessions.open("k/held") is held
    sessions.changed(held)
    del held
    for number in range(5):
        await sessions.open(f"k/{number}")
    assert (await sessions.open("k/held")).project == "p"
    await sessions.close()
    assert memory.rows["k/held"][2] == b'{"project":"p"}'
    assert list(memory.rows) == ["k/held"]


async def test_what_is_kept_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "proxy.db"
    before = Sessions(SessionStore(path), clock=lambda: 100.0)
    await before.start()
    session = await before.open("k/a")
    session.model, session.temperature, session.aliases = "openai:x", 0.5, {"a": "b"}
    before.server.default_backend = "gemini"
    before.server.routes = {"r": FailoverRoute(policy="km", elements=("openai:a",)), "hidden": None}
    assert await before.keep(session, server=True) is None
    behind = await before.open("k/b")
    behind.project = "\ud800 p"
    before.changed(behind)
    await before.close()

    after = Sessions(SessionStore(path), clock=lambda: 200.0)
    await after.start()
    assert (await after.open("k/a")).to_json() == session.to_json()
    assert (await after.open("k/b")).project == "\ud800 p"
    assert (await after.open("other/a")).to_json() == {}
    assert after.server.to_json() == before.server.to_json()
    await after.close()


async def test_a_kept_change_is_on_disk_at_once_and_others_soon() -> None:
    memory = Memory()
    sessions = Sessions(memory, delay=0)
    session = await sessions.open("k/a")
    session.project = "one"
    await sessions.keep(session)
    assert memory.rows["k/a"][2] == b'{"project":"one"}'
    assert memory.server == {}
    session.project = "two"
    sessions.changed(session)
    await until(lambda: memory.rows["k/a"][2] == b'{"project":"two"}')
    await sessions.close()


async def test_idle_sessions_are_forgotten() -> None:
    now = 1000.0
    memory = Memory()
    sessions = Sessions(memory, clock=lambda: now)
    session = await sessions.open("k/a")
    session.project = "p"
    await sessions.keep(session)
    now += IDLE_SECONDS
    assert (await sessions.open("k/a")).project == "p"
    now += IDLE_SECONDS + 1
    assert (await sessions.open("k/a")).project is None
    await sessions.close()

    late = Sessions(memory, clock=lambda: 1000.0 + 3 * IDLE_SECONDS + 2)
    memory.rows["k/a"] = ("k/a", 1000.0, b'{"project":"p"}')
    stored = await late.open("k/a")
    assert stored.project is None
    await late.keep(stored)
    assert memory.forgotten[-1] == 1000.0 + 2 * IDLE_SECONDS + 2
    await late.close()


async def test_use_alone_keeps_a_session_from_looking_idle() -> None:
    now = 0.0
    memory = Memory()
    sessions = Sessions(memory, clock=lambda: now, delay=60)
    session = await sessions.open("k/a")
    session.project = "p"
    await sessions.keep(session)
    now = 4000.0
    await sessions.open("k/a")
    await sessions.open("k/empty")
    await sessions.close()
    assert memory.rows == {"k/a": ("k/a", 4000.0, b'{"project":"p"}')}


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database is locked"), OSError("disk full")])
async def test_a_failing_store_loses_nothing_and_is_named_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory()
    sessions = Sessions(memory, delay=0)
    memory.error = error
    session = await sessions.open("k/a")
    session.project = "p"
    sessions.server.redact = False
    assert await sessions.keep(session, server=True) == str(error)
    assert (await sessions.open("k/a")).project == "p"
    other = await sessions.open("k/b")
    other.project = "q"
    sessions.changed(other)
    memory.error = None
    await until(lambda: len(memory.rows) == 2 and bool(memory.server))
    assert memory.rows["k/a"][2] == b'{"project":"p"}'
    assert memory.server["redact"] is False
    assert await sessions.keep(session) is None
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    await sessions.close()


async def test_what_could_not_be_read_is_read_later_and_not_written_over() -> None:
    memory = Memory()
    memory.rows["k/a"] = ("k/a", 1.0, b'{"project":"p"}')
    memory.server = {"redact": False}
    memory.error = sqlite3.OperationalError("database is locked")
    sessions = Sessions(memory, clock=lambda: 2.0, retry_after=0)
    await sessions.start()
    assert (await sessions.open("k/a")).project is None
    memory.error = None
    session = await sessions.open("k/a")
    assert (session.project, sessions.server.redact) == ("p", False)
    await sessions.close()


async def test_what_was_set_while_nothing_could_be_read_holds() -> None:
    memory = Memory()
    memory.rows["k/a"] = ("k/a", 1.0, b'{"project":"p"}')
    memory.error = sqlite3.OperationalError("database is locked")
    sessions = Sessions(memory, clock=lambda: 2.0, retry_after=0)
    session = await sessions.open("k/a")
    session.project = "new"
    memory.error = None
    assert (await sessions.open("k/a")).project == "new"
    await sessions.close()


async def test_a_store_that_hangs_holds_nobody_up_for_long() -> None:
    memory = Memory()
    sessions = Sessions(memory, patience=0.01, delay=60)
    session = await sessions.open("k/a")
    session.project = "p"
    memory.go.clear()
    assert await sessions.keep(session) == "it does not answer"
    assert (await sessions.open("k/new")).to_json() == {}
    memory.go.set()
    await until(lambda: "k/a" in memory.rows)
    await sessions.close()


async def test_a_stored_session_that_cannot_be_read_begins_anew() -> None:
    memory = Memory()
    memory.rows = {
        "k/a": ("k/a", 1.0, b"{"),
        "k/b": ("k/b", 1.0, b'{"project":"p","mood":1}'),
        "k/c": ("k/c", 1.0, b"[]"),
    }
    sessions = Sessions(memory, clock=lambda: 2.0)
    assert [(await sessions.open(f"k/{name}")).to_json() for name in "abc"] == [{}, {"project": "p"}, {}]
    await sessions.close()


async def test_many_keepers_at_once_are_all_on_disk() -> None:
    memory = Memory()
    sessions = Sessions(memory)
    opened = [await sessions.open(f"k/{number}") for number in range(20)]
    for session in opened:
        session.project = session.id
    assert await asyncio.gather(*(sessions.keep(session) for session in opened)) == [None] * 20
    assert len(memory.rows) == 20
    assert memory.saves < 20
    await sessions.close()


def test_a_oneoff_is_taken_once() -> None:
    session = Session("k/a", oneoff="openai:x")
    assert (session.take_oneoff(), session.take_oneoff()) == ("openai:x", None)


def test_own_answers_are_bounded_and_the_newest_stay() -> None:
    session = Session("k/a")
    for number in range(MOST_OWN_ANSWERS + 5):
        session.remember_own_answer(str(number))
    session.remember_own_answer("5")
    assert len(session.own_answers) == MOST_OWN_ANSWERS
    assert session.own_answers[-2:] == [str(MOST_OWN_ANSWERS + 4), "5"]


def test_a_server_as_json() -> None:
    server = Server("a", False, "$/", ["!/"], {"r": FailoverRoute(policy="k", elements=("a:b",)), "gone": None})
    assert Server.from_json({**server.to_json(), "mood": 1}).to_json() == server.to_json()
    assert Server.from_json({}).to_json() == Server().to_json()


SIGNED = Thinking(text="hm", signature="s", origin="anthropic_messages")


def turn(*parts: Text | Thinking | ToolCall) -> Conversation:
    return Conversation(model="m", messages=(Message(role="assistant", parts=parts),))


def call(id_: str, signature: str | None = None) -> ToolCall:
    return ToolCall(id=id_, name="f", arguments="{}", signature=signature)


def test_thoughts_travel_with_their_calls_through_json() -> None:
    session = Session("k/a")
    hidden = Thinking(redacted="r", origin="anthropic_messages")
    remember_thoughts(session, {"a": Thought((SIGNED, hidden)), "b": Thought((), "google")})
    stored = Session.from_json("k/a", 0.0, session.to_json())
    assert restore_thoughts(stored, turn(call("a"), call("b"))) == turn(
        SIGNED, hidden, call("a"), call("b", "google")
    ).edit(messages=turn(SIGNED, hidden, call("a"), call("b", "google")).messages)
    own = turn(Thinking(text="own"), call("a"))
    assert restore_thoughts(stored, own) is own
    assert restore_thoughts(Session("k/b"), turn(call("a"))) == turn(call("a"))


def test_thoughts_are_bounded_in_number_and_bytes() -> None:
    session = Session("k/a")
    for number in range(MOST_THOUGHTS + 1):
        remember_thoughts(session, {f"c{number}": Thought((SIGNED,))})
    assert list(session.thoughts) == [f"c{number}" for number in range(MOST_THOUGHTS // 2 + 1, MOST_THOUGHTS + 1)]
    big = Thought((Thinking(text="x" * 300_000),))
    for id_ in ("x", "y", "z"):
        remember_thoughts(session, {id_: big})
    assert list(session.thoughts)[-3:] == ["x", "y", "z"]
    remember_thoughts(session, {"last": big})
    assert list(session.thoughts) == ["last"]
