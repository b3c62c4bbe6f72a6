"""Cool-downs over a restart."""

import asyncio
import logging
from pathlib import Path

import pytest

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.mitm.kept_cooldowns import KeptCooldowns
from llm_interactive.routing.cooldowns import Cooldowns
from llm_interactive.routing.plan import Attempt
from llm_interactive.routing.refusals import Rest
from llm_interactive.storage.routing_store import RoutingStore

ATTEMPT = Attempt(ConfiguredBackend("ollama", {"openai_chat": "http://x/v1"}), "openai_chat", "m")


async def test_a_cool_down_survives(tmp_path: Path) -> None:
    store = RoutingStore(tmp_path / "proxy.db")
    before, after = Cooldowns(lambda: 1000.0), Cooldowns(lambda: 1010.0)
    await KeptCooldowns(before, store, delay=0).start()
    before.refused(ATTEMPT, Rest(60.0, "the rate limit is reached"))
    while not await asyncio.to_thread(store.load):
        await asyncio.sleep(0.01)
    await KeptCooldowns(after, store).start()
    found = after.resting(ATTEMPT)
    assert found is not None
    assert (found.until, found.why) == (1060.0, "the rate limit is reached")


async def test_without_a_database_everything_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "proxy.db").mkdir()
    cooldowns = Cooldowns()
    with caplog.at_level(logging.ERROR):
        await KeptCooldowns(cooldowns, RoutingStore(tmp_path / "proxy.db"), delay=0).start()
        cooldowns.refused(ATTEMPT, Rest(60.0, "x"))
        while "cannot be written" not in caplog.text:
            await asyncio.sleep(0.01)
    assert "cannot be read" in caplog.text
    assert cooldowns.resting(ATTEMPT) is not None
