"""Keeps cool-downs on disk: read at the start, written soon after they changed, never in the way of a request."""

import asyncio
import logging
import sqlite3
from collections.abc import Sequence

from llm_interactive.routing.cooldowns import Cooldowns, Row
from llm_interactive.storage.routing_store import RoutingStore

logger = logging.getLogger(__name__)

TROUBLE = (OSError, sqlite3.Error)


class KeptCooldowns:
    """`delay`: seconds over which changes are gathered."""

    def __init__(self, cooldowns: Cooldowns, store: RoutingStore, delay: float = 0.25) -> None:
        self._cooldowns = cooldowns
        self._store = store
        self._delay = delay
        self._writing: asyncio.Task[None] | None = None
        self._written: Sequence[Row] = ()

    async def start(self) -> None:
        try:
            self._written = await asyncio.to_thread(self._store.load)
        except TROUBLE as error:
            logger.error("the cool-downs of keys cannot be read: %s", error)
        self._cooldowns.restore(self._written)
        self._cooldowns.changed = self._changed

    def _changed(self) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def _write_later(self) -> None:
        """One at a time; what changed meanwhile is written next."""
        await asyncio.sleep(self._delay)
        rows = self._cooldowns.rows()
        try:
            if rows != self._written:
                await asyncio.to_thread(self._store.save, rows)
                self._written = rows
        except TROUBLE as error:
            logger.error("the cool-downs of keys cannot be written: %s", error)
            return
        finally:
            self._writing = None
        if self._cooldowns.rows() != rows:
            self._changed()
