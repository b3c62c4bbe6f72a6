"""The chat's commands as commands of mitmproxy, as its own users type them."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import exceptions
from mitmproxy.command import CommandManager
from mitmproxy.master import Master
from mitmproxy.options import Options

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.commander import Commander
from llm_interactive.commands.command import Command, all_commands
from llm_interactive.mitm.chat_commands import commands
from llm_interactive.sessions import Session, Sessions
from llm_interactive.settings import Settings
from llm_interactive.storage.session_store import SessionStore

BACKENDS = {"demo": ConfiguredBackend("demo", {"openai_chat": "http://127.0.0.1:9/v1"})}


def used(session: Session) -> Mapping[str, Any]:
    return {"requests": 1, "prompt_tokens": 3, "completion_tokens": 4, "cost": None}


class Typing:
    """What a person types at mitmproxy's prompt, with two sessions open: `first`, and then `second`."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.sessions = Sessions(SessionStore(folder / "proxy.db"))
        self.first = self.loop.run_until_complete(self.sessions.open("k/first"))
        self.second = self.loop.run_until_complete(self.sessions.open("k/second"))
        self._commander = Commander(self.sessions, Settings(), today=used)
        self._manager = CommandManager(Master(Options(), event_loop=self.loop))
        for name, function in commands(self._run):
            self._manager.add(name, function)

    def _run(self, command: Command, session: str | None, arguments: str) -> str:
        return self._commander.type(command, session, arguments, BACKENDS)

    def __call__(self, typed: str) -> Any:
        async def execute() -> Any:
            return self._manager.execute(typed)

        return self.loop.run_until_complete(execute())

    def close(self) -> None:
        if not self.loop.is_closed():
            self.loop.run_until_complete(self.sessions.close())
            self.loop.close()


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Typing]:
    typing = Typing(tmp_path)
    yield typing
    typing.close()


def test_every_command_is_there(typed: Typing) -> None:
    assert typed("llm.help") == f"available commands: {', '.join(all_commands())}"
    assert typed("llm.list-failover-routes") == "no failover routes defined"


def test_they_act_on_the_session_that_was_used_last(typed: Typing) -> None:
    assert typed("llm.set model=demo:story, temperature=0.5") == "model set to demo:story; temperature set to: 0.5"
    assert typed("llm.set loop=off 'project=two words'") == "loop-detection set to False; project set to two words"
    assert (typed.second.model, typed.second.temperature, typed.second.project) == ("demo:story", 0.5, "two words")
    assert typed.first.to_json() == {}
    assert "today: 7 tokens" in typed("llm.status")


def test_another_session_is_named_in_front(typed: Typing) -> None:
    assert typed("llm.set session=first project=p") == "project set to p"
    assert (typed.first.project, typed.second.project) == ("p", None)
    with pytest.raises(exceptions.CommandError, match="no session of the name third is open"):
        typed("llm.set session=third project=p")


def test_what_is_set_is_stored(typed: Typing, tmp_path: Path) -> None:
    typed("llm.create-failover-route name=r policy=k")
    typed("llm.set project=p")
    typed.close()
    store = SessionStore(tmp_path / "proxy.db")
    row = store.load("k/second")
    assert row is not None
    assert row[2] == b'{"project":"p"}'
    assert store.load_server()["routes"] == {"r": {"policy": "k", "elements": []}}
    store.close()


def test_what_is_wrong_is_said_as_mitmproxy_says_it(typed: Typing) -> None:
    with pytest.raises(exceptions.CommandError, match="Temperature must be between"):
        typed("llm.set temperature=5")
