"""Usage rows out of exchanges: one for each attempt, on disk before the client sees the end of its reply (SPEC 10)."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from llm_interactive import prices, tokens
from llm_interactive.conversation import Conversation
from llm_interactive.events import Usage
from llm_interactive.exchange import Exchange
from llm_interactive.storage import usage_queries
from llm_interactive.storage.ledger import Ledger, UsageRow
from llm_interactive.walk import Try

DATABASE = "proxy.db"


def price(row: UsageRow) -> Decimal | None:
    return prices.price(row.backend, row.model, row.tokens, row.timestamp)


_COUNTER = ThreadPoolExecutor(1, thread_name_prefix="token count")
"""One thread: the tables of the tokenizer are loaded once, and counting never crowds out the replies."""


async def counted[**P, T](count: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """`count(...)`, off the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_COUNTER, partial(count, *arguments, **options))


class Recorder:
    def __init__(self, home: Path) -> None:
        self._path = home / DATABASE
        self._ledger = Ledger(self._path, price)
        threading.Thread(target=prices.load, name="prices", daemon=True).start()  # the first reply need not wait for it

    async def record(self, exchange: Exchange) -> None:
        """Record the attempts that have ended and are not recorded yet."""
        done = [try_ for try_ in exchange.tries[exchange.recorded :] if try_.ended is not None]
        exchange.recorded += len(done)
        rows = [await _row(exchange, try_) for try_ in done]
        await asyncio.gather(*(self._ledger.record(row) for row in rows))

    async def recent(self, limit: int, filters: Mapping[str, str]) -> list[dict[str, Any]]:
        return await asyncio.to_thread(usage_queries.recent, self._path, limit, usage_queries.Filters(**filters))

    def today(self, session: str) -> dict[str, Any]:
        """Totals of a session since midnight; nothing where the database cannot be read. Blocks."""
        with suppress(sqlite3.Error):
            return usage_queries.today(self._path, session)
        return {}

    async def stats(self, days: int, filters: Mapping[str, str]) -> dict[str, Any]:
        return await asyncio.to_thread(usage_queries.stats, self._path, days, usage_queries.Filters(**filters))

    def close(self) -> None:
        self._ledger.close()


async def _row(exchange: Exchange, try_: Try) -> UsageRow:
    headers = exchange.call.headers
    duration = (try_.ended or try_.begun) - try_.begun
    usage, estimated = await _usage(exchange, try_)
    return UsageRow(
        request_id=exchange.id,
        timestamp=datetime.now(UTC) - timedelta(seconds=time.monotonic() - try_.begun),
        session=exchange.session.name,
        username=headers.get("x-user-id", "anonymous"),
        project=exchange.session.project or headers.get("x-project"),
        caller_name=headers.get("user-agent"),
        frontend=exchange.call.protocol,
        backend=try_.attempt.backend.name,
        requested_model=exchange.asked_model or "",
        model=try_.attempt.model,
        key=try_.attempt.key_ordinal,
        stream=exchange.stream,
        status=try_.status,
        error=try_.error,
        prompt_tokens=usage.input or 0,
        cached_tokens=usage.cached or 0,
        cache_write_tokens=usage.cache_write or 0,
        completion_tokens=usage.output or 0,
        reasoning_tokens=usage.reasoning or 0,
        estimated=estimated,
        ttft=None if try_.first is None else try_.first - try_.begun,
        execution_time=duration,
        end_reason=_end_reason(exchange, try_),
        notes="; ".join((*exchange.notes, *([try_.stop.note] if try_.stop is not None else ()))) or None,
        raw_usage=usage.raw,
    )


async def _usage(exchange: Exchange, try_: Try) -> tuple[Usage, bool]:
    """The provider's figures, else a count of our own, off the event loop, where the model was reached at all."""
    if try_.usage is not None and try_.usage.output is not None and (try_.stop is None or not exchange.stream):
        return try_.usage, False  # a stream that was stopped has told the beginning at most
    conversation = exchange.conversation
    if conversation is None or not try_.said:
        return try_.usage or Usage(), False
    return await counted(_count, conversation, try_.usage or Usage(), try_.said, try_.attempt.model), True


def _count(conversation: Conversation, told: Usage, said: Sequence[str], model: str) -> Usage:
    read = tokens.count_conversation(conversation, model) if told.input is None else told.input
    return replace(told, input=read, output=tokens.count_text("".join(said), model))


def _end_reason(exchange: Exchange, try_: Try) -> str:
    if exchange.client_is_gone and try_ is exchange.tries[-1] and try_.reason is None:
        return "cancelled"
    if try_.error is not None:
        return "error"
    if try_.stop is not None:
        return "loop"
    return try_.reason.unified if try_.reason is not None else "stop"
