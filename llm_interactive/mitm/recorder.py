"""Usage rows out of exchanges: one for each attempt, on disk before the client sees the end of its reply (SPEC 10)."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial

from llm_interactive import prices, tokens
from llm_interactive.callers import caller_name
from llm_interactive.conversation import Conversation
from llm_interactive.events import Usage
from llm_interactive.exchange import Exchange
from llm_interactive.redaction.redactor import Redactor
from llm_interactive.settings import Settings
from llm_interactive.storage.ledger import Ledger, Saved, UsageRow
from llm_interactive.storage.usage_sums import FAILOVER
from llm_interactive.walk import Try, line

DATABASE = "proxy.db"

_COUNTER = ThreadPoolExecutor(1, thread_name_prefix="token count")
"""One thread: the tables of the tokenizer are loaded once, and counting never crowds out the replies."""


async def counted[**P, T](count: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """`count(...)`, off the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_COUNTER, partial(count, *arguments, **options))


class Recorder:
    """Asks for the settings whenever it needs them, but for the place of the database."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self.path = settings().home / DATABASE
        self._settings = settings
        self._counting: dict[Try, tuple[Exchange, int]] = {}
        """Attempts whose tokens are being counted, with their place in the request."""
        self._ledger = Ledger(self.path, self._price, keep_days=lambda: settings().usage_retention_days)
        threading.Thread(target=prices.load, name="prices", daemon=True).start()  # the first reply need not wait for it

    async def record(self, exchange: Exchange) -> None:
        """Record the attempts that have ended and are not recorded yet."""
        saved: list[tuple[Try, Saved]] = []
        for number, try_ in _ended(exchange):
            conversation = _to_count(exchange, try_)
            if conversation is not None:
                self._counting[try_] = exchange, number
                usage = await counted(_count, conversation, try_)
                if self._counting.pop(try_, None) is None:
                    continue  # `close` did not wait for it
                try_.usage = usage
            saved.append((try_, self._ledger.record(_row(exchange, number, estimated=conversation is not None))))
        for try_, cost in saved:
            try_.cost = await cost

    def put(self, row: UsageRow) -> None:
        """Of what is no exchange."""
        self._ledger.put(row)

    def close(self, exchanges: Iterable[Exchange] = ()) -> None:
        """Record what is still under way as cancelled, and end."""
        left = [*self._counting.values()]
        self._counting.clear()
        for exchange in exchanges:
            exchange.client_left()
            left += [(exchange, number) for number, _ in _ended(exchange)]
        for exchange, number in left:
            try_ = exchange.tries[number]
            conversation = _to_count(exchange, try_)
            if conversation is not None:
                try_.usage = _count(conversation, try_)
            self._ledger.put(_row(exchange, number, estimated=conversation is not None))
        self._ledger.close()

    def _price(self, row: UsageRow) -> Decimal | None:
        """Where nothing is known to be used nothing is known of its cost."""
        if not row.total_tokens:
            return prices.told_cost(row.raw_usage)
        return prices.price(row.backend, row.model, row.tokens, row.timestamp, self._settings().prices)


def _ended(exchange: Exchange) -> Sequence[tuple[int, Try]]:
    """Attempts that are to be recorded now, with their place in the request; they count as recorded from now on."""
    done = [(number, try_) for number, try_ in enumerate(exchange.tries)
            if number >= exchange.recorded and try_.ended is not None]  # fmt: skip
    exchange.recorded += len(done)
    return done


def _to_count(exchange: Exchange, try_: Try) -> Conversation | None:
    """What is to be counted here, since the provider gave no figures, or those of the beginning at most; nothing where
    the model was not reached at all."""
    was_cut = try_.stop is not None or (try_.error is not None and try_.reason is None)
    told = try_.usage is not None and try_.usage.output is not None and not (was_cut and exchange.stream)
    return exchange.conversation if try_.said and not told else None


def _count(conversation: Conversation, try_: Try) -> Usage:
    told, model = try_.usage or Usage(), try_.attempt.model
    read = tokens.count_conversation(conversation, model) if told.input is None else told.input
    return replace(told, input=read, output=max(tokens.count_text("".join(try_.said), model), told.output or 0))


def _row(exchange: Exchange, number: int, *, estimated: bool) -> UsageRow:
    try_, headers = exchange.tries[number], exchange.call.headers
    usage = try_.usage or Usage()
    hide = partial(_hidden, exchange.configuration.redactor)
    project, caller = exchange.session.project or headers.get("x-project", "").strip(), caller_name(headers)
    return UsageRow(
        request_id=exchange.id,
        timestamp=datetime.now(UTC) - timedelta(seconds=time.monotonic() - try_.begun),
        session=exchange.session_id.partition("/")[2],
        username=hide(headers.get("x-user-id", "").strip()) or "anonymous",
        project=hide(project) or None,
        caller_name=hide(caller) if caller else None,
        frontend=exchange.call.protocol,
        backend=try_.attempt.backend.name,
        requested_model=exchange.asked_model or "",
        model=try_.attempt.model,
        key=try_.attempt.key_ordinal,
        stream=exchange.stream,
        status=try_.status,
        error=try_.error or (f"the provider answered {try_.status}" if (try_.status or 0) >= 400 else None),
        prompt_tokens=usage.input or 0,
        cached_tokens=usage.cached or 0,
        cache_write_tokens=usage.cache_write or 0,
        completion_tokens=usage.output or 0,
        reasoning_tokens=usage.reasoning or 0,
        estimated=estimated,
        cost=Decimal(0) if exchange.call.operation == "count_tokens" else None,  # vendors count for nothing
        ttft=None if try_.first is None else max(0.0, try_.first - try_.begun),
        execution_time=(try_.ended or try_.begun) - try_.begun,
        end_reason=_end_reason(exchange, try_),
        notes="; ".join(_notes(exchange, number)) or None,
        flow_id=exchange.flow_id,
        raw_usage=usage.raw,
        tier=usage.tier,
    )


@lru_cache(maxsize=4096)
def _hidden(redactor: Redactor, name: str) -> str:
    """What a client calls itself may hold a key, whatever is redacted of its prompts; it says the same each time."""
    return redactor.redact_text(name)


def _notes(exchange: Exchange, number: int) -> list[str]:
    try_ = exchange.tries[number]
    said = [*exchange.notes, *([try_.stop.note] if try_.stop is not None else [])]
    before = exchange.tries[number - 1] if number else None
    if before is not None and before.error is not None:
        return [f"{FAILOVER}{line(before)}", *said]
    return ["asked again", *said] if before is not None else said


def _end_reason(exchange: Exchange, try_: Try) -> str:
    if exchange.client_is_gone and try_ is exchange.tries[-1] and try_.reason is None:
        return "cancelled"
    if try_.error is not None or (try_.status or 0) >= 400:
        return "error"
    if try_.stop is not None:
        return "loop"
    return try_.reason.unified if try_.reason is not None else "stop"
