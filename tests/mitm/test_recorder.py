"""Rows out of exchanges that ended in every way, into a real ledger."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.configuration import Configuration
from llm_interactive.conversation import Conversation, Message, Text
from llm_interactive.errors import UpstreamError
from llm_interactive.events import Reason, Usage
from llm_interactive.exchange import Exchange
from llm_interactive.loops import Stop
from llm_interactive.mitm.recorder import Recorder
from llm_interactive.protocols.base import Call
from llm_interactive.routing.plan import Attempt
from llm_interactive.settings import Settings
from llm_interactive.storage.usage_queries import recent
from llm_interactive.walk import Try

BACKEND = ConfiguredBackend("openai", {"openai_chat": "http://127.0.0.1:9/v1"}, keys=(SecretStr("sk-1"),))
CONFIGURATION = Configuration({"openai": BACKEND})
ATTEMPT = Attempt(BACKEND, "openai_chat", "gpt-4o", 1)
TOLD = Usage(input=1000, output=100)
FOUR_WORDS = ("one two three four",)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(lambda: Settings(home=tmp_path))
    yield recorder
    recorder.close()


def exchange(operation: Any = "generate", *, stream: bool = True, **headers: str) -> Exchange:
    made = Exchange(Call("openai_chat", operation, "/", headers=headers), CONFIGURATION)
    prompt = Message(role="user", parts=(Text(text="Hello?"),))
    made.conversation = Conversation(model="gpt-4o", messages=(prompt,), stream=stream)
    return made


def attempt(made: Exchange, **facts: Any) -> Try:
    """One that has ended, unless the facts say otherwise."""
    made.walk.make(ATTEMPT)
    last = made.tries[-1]
    for name, value in {"status": 200, "ended": last.begun + 2, "reason": Reason("stop"), **facts}.items():
        setattr(last, name, value)
    return last


async def test_the_providers_figures_go_in_as_they_are(recorder: Recorder) -> None:
    made = exchange()
    last = attempt(made, usage=TOLD, first=0.0, said=FOUR_WORDS)
    last.first = last.begun + 0.5
    await recorder.record(made)
    [row] = recent(recorder.path)
    assert (row["prompt_tokens"], row["completion_tokens"], row["estimated"]) == (1000, 100, False)
    assert (row["ttft"], row["execution_time"]) == (pytest.approx(0.5), pytest.approx(2.0))
    assert row["cost"] == pytest.approx(0.0035)
    assert float(last.cost or 0) == pytest.approx(0.0035)


async def test_an_attempt_is_recorded_once(recorder: Recorder) -> None:
    made = exchange()
    attempt(made, usage=TOLD)
    await asyncio.gather(*(recorder.record(made) for _ in range(5)))
    made.walk.make(ATTEMPT)
    await recorder.record(made)
    assert len(recent(recorder.path)) == 1, "the second one has not ended"


@pytest.mark.parametrize(
    ("usage", "prompt", "completion"),
    [(None, 9, 4), (Usage(input=50), 50, 4), (Usage(output=7), 0, 7)],
    ids=["nothing", "the beginning", "the end"],
)
async def test_what_was_not_told_is_counted(
    recorder: Recorder, usage: Usage | None, prompt: int, completion: int
) -> None:
    made = exchange()
    attempt(made, usage=usage, said=FOUR_WORDS)
    await recorder.record(made)
    [row] = recent(recorder.path)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (prompt, completion)
    assert row["estimated"] is (usage is None or usage.output is None)


async def test_a_stream_that_was_stopped_is_counted_whatever_was_told(recorder: Recorder) -> None:
    for stream in (True, False):
        made = exchange(stream=stream)
        attempt(made, usage=Usage(input=50, output=1), said=FOUR_WORDS, stop=Stop("a loop"))
        await recorder.record(made)
    whole, cut = recent(recorder.path)
    assert (cut["completion_tokens"], cut["estimated"], cut["end_reason"], cut["notes"]) == (4, True, "loop", "a loop")
    assert (whole["completion_tokens"], whole["estimated"]) == (1, False)


async def test_a_failover_says_what_became_of_the_attempt_before(recorder: Recorder) -> None:
    made = exchange()
    attempt(made, ended=None)
    made.walk.refused(UpstreamError("quota", 429))
    attempt(made, usage=TOLD)
    attempt(made, usage=TOLD)
    await recorder.record(made)
    notes = [row["notes"] for row in reversed(recent(recorder.path))]
    assert notes == [None, "failover: openai:gpt-4o key 1: 429 quota", "asked again"]


async def test_an_unpriced_or_unused_attempt_has_no_cost_and_a_count_of_tokens_none_to_pay(recorder: Recorder) -> None:
    for operation, usage in (("generate", None), ("generate", Usage(input=0, output=0)), ("count_tokens", None)):
        made = exchange(operation)
        attempt(made, usage=usage)
        await recorder.record(made)
    assert [row["cost"] for row in reversed(recent(recorder.path))] == [None, None, 0.0]


async def test_the_row_is_there_before_record_returns(recorder: Recorder) -> None:
    for number in range(20):
        made = exchange()
        attempt(made, usage=TOLD)
        await recorder.record(made)
        with closing(sqlite3.connect(recorder.path)) as connection:
            assert connection.execute("SELECT count(*) FROM usage").fetchone() == (number + 1,)


async def test_what_is_under_way_at_the_end_is_recorded(recorder: Recorder) -> None:
    made, begun = exchange(), exchange()
    attempt(begun, usage=TOLD, ended=None, reason=None)
    attempt(made, said=FOUR_WORDS)
    counting = asyncio.ensure_future(recorder.record(made))
    await asyncio.sleep(0)
    recorder.close([begun])
    await counting
    rows = {row["request_id"]: row for row in recent(recorder.path)}
    assert rows.keys() == {made.id, begun.id}
    assert (rows[made.id]["completion_tokens"], rows[made.id]["estimated"]) == (4, True)
    assert (rows[begun.id]["end_reason"], rows[begun.id]["error"]) == ("cancelled", "the client disconnected")


async def test_names_are_trimmed_and_never_empty(recorder: Recorder) -> None:
    made = exchange(**{"x-user-id": " ", "x-project": "  ", "user-agent": "curl/8"})
    attempt(made, usage=TOLD)
    await recorder.record(made)
    [row] = recent(recorder.path)
    assert (row["username"], row["project"], row["caller_name"]) == ("anonymous", None, "curl")
    assert row["session"] == "default"
