"""Runs what users type to the proxy itself, before a prompt is planned (SPEC 5).

The history loses its old commands and the proxy's own answers first; then the commands of the newest message run. What
they answer goes to the client in place of a model's answer, or beside it in `x-llm-proxy-commands`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.commands import history
from llm_interactive.commands.command import Command, named
from llm_interactive.commands.context import BackendSummary, CommandError, Context, no_key_states
from llm_interactive.commands.run import Outcome, run, typing_of
from llm_interactive.conversation import Conversation
from llm_interactive.errors import Forbidden
from llm_interactive.exchange import Exchange
from llm_interactive.sessions import Session, Sessions
from llm_interactive.setting_values import show
from llm_interactive.settings import Settings

type Today = Callable[[Session], Mapping[str, Any]]
"""Gives what a session used today, see `Context.usage`. Blocks."""


def no_usage(session: Session) -> Mapping[str, Any]:
    return {}


class Commander:
    """`models`: how many of them a backend has, None where nobody knows yet."""

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        *,
        models: Callable[[str], int | None] = lambda backend: None,
        today: Today = no_usage,
        key_states: Callable[[], Sequence[str]] = no_key_states,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._models = models
        self._today = today
        self._key_states = key_states

    async def obey(self, exchange: Exchange) -> None:
        """Find the session, and run the commands of its prompt. Sets `exchange.local` where that is all.

        Raises `Forbidden` where the session must have a project first."""
        conversation = exchange.conversation
        session = exchange.session = await self._sessions.open(exchange.session_id)
        if conversation is None:
            return
        counts = exchange.call.operation == "count_tokens"
        if not self._settings.disable_interactive_commands:
            context = self.context(session, exchange.configuration.backends)
            typing = typing_of(context)
            own = session.own_answers
            conversation = history.clean_history(conversation, typing, own=own, newest_too=counts)
            outcome = Outcome(conversation) if counts else await self._run(conversation, context)
            exchange.conversation = outcome.conversation
            if outcome.is_local:
                completion = history.wants_attempt_completion(conversation)
                exchange.say(outcome.text, as_completion=completion)
                return
            exchange.confirmations = outcome.answers
            exchange.prelude = outcome.prelude
        if not counts:
            self._want_project(session, exchange.call.headers)

    def context(self, session: Session, backends: Mapping[str, ConfiguredBackend]) -> Context:
        """What commands of this session act on."""
        settings = self._settings
        return Context(
            session,
            self._sessions.server,
            {name: BackendSummary(len(each.keys), self._models(name)) for name, each in backends.items()},
            configured_prefix=settings.command_prefix,
            configured_routes=settings.failover_routes,
            configured_aliases=settings.aliases,
            configured_default_backend=settings.backend,
            configured_redact=settings.redact_api_keys_in_prompts,
            allowed_urls=settings.allowed_urls,
            key_states=self._key_states,
        )

    def type(
        self,
        command: Command,
        session_name: str | None,
        arguments: str,
        backends: Mapping[str, ConfiguredBackend],
    ) -> str:
        """Run one command outside of a chat, on the session that was used last or on that of the name. Blocks.

        Raises `CommandError`."""
        session = self._sessions.latest(session_name)
        if session is None and command.name == "help":
            session = Session("/default")
        if session is None:
            named = f"of the name {show(session_name)} " if session_name is not None else ""
            raise CommandError(f"no session {named}is open: it begins with its first prompt")
        context = self.context(session, backends)
        answer = command(replace(context, usage=lambda: self._today(session)), arguments)
        self._sessions.changed(session, server=True)
        return answer

    async def _run(self, conversation: Conversation, context: Context) -> Outcome:
        orders = history.orders(conversation, typing_of(context))
        if not orders:
            return run(conversation, context)
        if any((command := named(order.name)) is not None and command.name == "status" for order in orders):
            today = await asyncio.to_thread(self._today, context.session)
            context = replace(context, usage=lambda: today)
        outcome = run(conversation, context)
        trouble = await self._sessions.keep(context.session, server=True)
        if trouble is None:
            return outcome
        lost = f"(This is not saved yet and would not survive a restart: {trouble}.)"
        return replace(outcome, answers=(*outcome.answers, lost))

    def _want_project(self, session: Session, headers: Mapping[str, str]) -> None:
        if self._settings.force_set_project and not session.project and not headers.get("x-project"):
            prefix = self._sessions.server.command_prefix or self._settings.command_prefix
            raise Forbidden(
                "this proxy wants to know the project before the first prompt (FORCE_SET_PROJECT): "
                f"type {prefix}set(project=NAME), or send the header x-project"
            )
