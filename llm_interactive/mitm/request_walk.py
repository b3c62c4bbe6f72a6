"""The steps of a request before its first byte upstream: read, changed by people, obeyed, redacted, planned.

Whatever goes wrong becomes an error reply, never a request that goes on unread (fail closed).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from mitmproxy import http

from llm_interactive import compression, tokens, told
from llm_interactive.configuration import Configuration
from llm_interactive.errors import ProxyError
from llm_interactive.exchange import Exchange
from llm_interactive.mitm.edits import Edits, edited_call
from llm_interactive.mitm.entrance import Entrance
from llm_interactive.mitm.recorder import counted
from llm_interactive.mitm.shown import hide_in_exchange
from llm_interactive.redaction.restore import PlaceholdersOfSessions
from llm_interactive.settings import Settings

logger = logging.getLogger(__name__)

LOOK_AGAIN = 0.25
"""Seconds between two looks at whether a key that was waited for is ready, or the client gone."""
SPREAD = 0.05
"""Seconds over which requests are spread that waited for the same key."""

OBEYS = "llm_obeys"
"""In a flow's metadata: False where what looks like a command is text."""


class RequestWalk:
    """`obey` runs the commands of a prompt; `renewed` is told that there are new secrets to hide."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        configuration: Callable[[], Configuration],
        entrance: Entrance,
        obey: Callable[[Exchange], Awaitable[None]],
        renewed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._entrance = entrance
        self._obey = obey
        self._renewed = renewed
        self._placeholders = PlaceholdersOfSessions()
        self._edits = Edits()

    def begin(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """The body is whole; from now on people may look at the flow and change it."""
        if exchange.local is None:  # else it was too large, and is gone
            self._read(exchange, flow)
            self._edits.shown(flow)

    def _read(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Of the body nothing is shown that redaction takes out of it."""
        try:
            encoding = flow.request.headers.get("content-encoding", "")
            try:
                exchange.read(compression.decoded(flow.request.raw_content or b"", encoding, exchange.body_limit))
            finally:
                self._begin_redaction(exchange)
                if exchange.redaction is not None:
                    hide_in_exchange(flow.request, exchange)
            flow.metadata |= told.asked(exchange.session_id, exchange.asked_model)
        except Exception as error:
            self._fail(exchange, flow, error)

    async def go(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Nobody holds the flow any more. The first attempt, or an answer of the proxy's own."""
        try:
            if self._edits.changed(flow):
                exchange.local, exchange.call = None, edited_call(exchange, flow.request)
                self._read(exchange, flow)
            if exchange.local is not None or exchange.has_client_left():
                return
            if flow.metadata.get(OBEYS, True):
                await self._obey(exchange)
            if exchange.local is None:
                self._begin_redaction(exchange)  # a command of this very prompt may have switched it
                exchange.redact()
                exchange.plan()
                exchange.next_attempt()
                self._entrance.sends(exchange)
                await self._count(exchange)
        except Exception as error:
            self._fail(exchange, flow, error)

    def _fail(self, exchange: Exchange, flow: http.HTTPFlow, error: Exception) -> None:
        if isinstance(error, ProxyError):
            exchange.fail(error)
        else:
            logger.error("The request could not be handled", exc_info=error)
            flow.request.content = b""  # nobody knows what is in it
            exchange.fail(ProxyError("the proxy could not handle the request; its log says why"))

    def forget(self, flow: http.HTTPFlow) -> None:
        self._edits.forget(flow)

    def redacts(self) -> bool:
        switched = self._configuration().server.redact
        return self._settings().redact_api_keys_in_prompts if switched is None else switched

    def _begin_redaction(self, exchange: Exchange) -> None:
        if not self.redacts():
            exchange.redaction = None
        elif exchange.redaction is None:
            restores = self._settings().redaction_restore and exchange.conversation is not None
            placeholders = self._placeholders.of(exchange.session_id) if restores else None
            exchange.redaction = exchange.configuration.redactor.begin(placeholders)

    async def next_attempt(self, exchange: Exchange) -> None:
        try:
            exchange.next_attempt()
            while (exchange.waits is not None or exchange.wants is not None) and not exchange.has_client_left():
                if exchange.wants is not None:
                    await exchange.wants.renew()
                    self._renewed()
                else:
                    await asyncio.sleep(min(exchange.waits or 0.0, LOOK_AGAIN) + random.random() * SPREAD)
                exchange.next_attempt()
            self._entrance.sends(exchange)
            await self._count(exchange)
        except Exception:  # without an answer the client would wait for ever
            logger.exception("The next attempt could not be made")
            exchange.fail(ProxyError("the proxy could not go on; its log says why"))

    async def _count(self, exchange: Exchange) -> None:
        if exchange.must_count and (conversation := exchange.conversation) is not None:
            count = await counted(tokens.count_conversation, conversation, conversation.model)
            exchange.counted(count)
