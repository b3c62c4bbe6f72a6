"""The walk along a request's attempts: which one is made next, and what became of those before (SPEC 6).

An attempt whose key rests is passed over, and comes last if its rest ends soon enough. What is decided is decided
again when it is an attempt's turn, and once more when it is about to be sent: other requests find out meanwhile.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from llm_interactive.backends.catalog import Access, ConfiguredBackend
from llm_interactive.errors import ProxyError, UpstreamError
from llm_interactive.events import Reason, Usage
from llm_interactive.loops import Stop
from llm_interactive.routing import refusals
from llm_interactive.routing.cooldowns import Cooldowns, Resting, spoken
from llm_interactive.routing.plan import Attempt

MOST_WAITING = 30.0
"""Seconds that a request waits at most for a key."""
NAMES_A_TIME = (429, 529)
"""Errors that tell the client when to come back."""


@dataclass(slots=True, eq=False)
class Try:
    """What became of an attempt; a usage row in the making. Times are the exchange's clock, in seconds."""

    attempt: Attempt
    begun: float
    status: int | None = None
    error: str | None = None
    first: float | None = None
    ended: float | None = None
    usage: Usage | None = None
    reason: Reason | None = None
    said: Sequence[str] = ()
    stop: Stop | None = None
    """Why the proxy ended it early."""
    cost: Decimal | None = None
    """In USD, once it is recorded."""
    access: Access | None = None
    """What it was signed in with, where that is no key."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done for so many seconds."""

    seconds: float


class Walk:
    """`clock`: seconds, the exchange's. `own`: the backend that is called with the client's own credential, of which
    nothing is learnt about the proxy's keys."""

    def __init__(self, cooldowns: Cooldowns, clock: Callable[[], float]) -> None:
        self.left: deque[Attempt] = deque()
        self.tries: list[Try] = []
        self.own: ConfiguredBackend | None = None
        self.error: ProxyError | None = None
        """Why the last attempt was not the answer."""
        self._cooldowns = cooldowns
        self._clock = clock
        self._deadline: float | None = None
        self._learnt = 0
        self._is_over = False
        self._renewed: set[int] = set()
        """Attempts that were made again with a new sign-in."""
        self._last_resort: frozenset[int] = frozenset()

    def begin(self, attempts: Iterable[Attempt]) -> None:
        """Keys that were put aside are asked only where nothing else was ever possible."""
        planned = list(attempts)
        rests = [self._rest(attempt) for attempt in planned]
        nothing_else = all(rest is not None and rest.aside for rest in rests)
        self.left.extend(
            attempt
            for attempt, rest in zip(planned, rests, strict=True)
            if nothing_else or rest is None or not rest.aside
        )
        self._last_resort = frozenset(map(id, planned)) if nothing_else else frozenset()

    def next(self, may_wait: bool = True) -> Attempt | Wait | None:
        """None: there is nothing left that could be done in time, see `gave_up`."""
        soonest: Resting | None = None
        for index, attempt in enumerate(self.left):
            rest = self._rest(attempt)
            if rest is None or id(attempt) in self._last_resort:
                del self.left[index]
                return attempt
            if not rest.aside and (soonest is None or rest.until < soonest.until):
                soonest = rest
        return self._wait(soonest.until) if soonest is not None and may_wait else None

    def _wait(self, until: float) -> Wait | None:
        now = self._cooldowns.clock()
        if self._deadline is None:
            self._deadline = now + MOST_WAITING
        return Wait(max(until - now, 0.0)) if until <= self._deadline else None

    def make(self, attempt: Attempt) -> None:
        self.tries.append(Try(attempt, self._clock()))

    def is_late(self) -> bool:
        """Whether the attempt that is about to be sent has lost its key meanwhile; it then waits for its turn again."""
        attempt = self.tries[-1].attempt
        if id(attempt) in self._last_resort or self._rest(attempt) is None:
            return False
        self.tries.pop()
        self.left.appendleft(attempt)
        return True

    def again(self, *, alone: bool) -> None:
        """The last attempt is made once more. `alone`: nobody else can go on with what was begun."""
        if alone:
            self.left.clear()
        self.left.appendleft(self.tries[-1].attempt)

    def answered(self) -> None:
        """The last attempt has content."""
        if self._learnt < len(self.tries):
            self._learnt = len(self.tries)
            if (attempt := self.tries[-1].attempt).backend is not self.own:
                self._cooldowns.answered(attempt)

    def refused(self, error: ProxyError) -> None:
        """The last attempt is over, and the client saw nothing of it."""
        self.error = error
        last = self.tries[-1]
        last.ended, last.error = self._clock(), error.message
        if last.status is None or last.status < 400:  # a stream may begin well, with nothing but an error in it
            last.status = error.status
        self._learn(last, error)
        if not isinstance(error, UpstreamError) or refusals.status_of(error) == 404:
            self._drop(last.attempt)  # other keys would fare no better
        if isinstance(error, UpstreamError) and not refusals.moves_on(error):
            self.left.clear()

    def _learn(self, last: Try, error: ProxyError) -> None:
        """A sign-in that was refused is renewed, and the attempt made once more; a key rests."""
        attempt, account = last.attempt, last.attempt.backend.account
        rest = refusals.rest_of(error, self._cooldowns.clock())
        if rest is None or attempt.backend is self.own:
            return
        if account is None or not rest.aside:
            self._cooldowns.refused(attempt, rest)
        elif last.access is not None and refusals.status_of(error) == 401:
            account.distrust(last.access)
            if id(attempt) not in self._renewed:
                self._renewed.add(id(attempt))
                self.left.appendleft(attempt)

    def _drop(self, failed: Attempt) -> None:
        same = (failed.backend.name, failed.model)
        self.left = deque(each for each in self.left if (each.backend.name, each.model) != same)

    def gave_up(self) -> ProxyError:
        """What the client is told when nothing is left."""
        self._is_over = True
        soonest = self._soonest()
        if self.error is None and soonest is None:
            return UpstreamError("no backend could be tried")
        if self.error is None and soonest is not None:
            message = f"every key that could answer rests; the first is ready in {spoken(soonest)}"
            self.error = ProxyError(message, status=429, kind="rate_limit_error", code="rate_limit_exceeded")
        error = self.error
        assert error is not None
        alone = len(self.tries) + len(self.left) == 1 and any(name == "retry-after" for name, _ in error.headers)
        if soonest is not None and error.status in NAMES_A_TIME and not alone:
            kept = (pair for pair in error.headers if pair[0] not in ("retry-after", "retry-after-ms"))
            error.headers = (*kept, ("retry-after", str(math.ceil(soonest))))
        return error

    def _soonest(self) -> float | None:
        """Seconds until the first of all attempts, made or not, may be made (again)."""
        every = [*self.left, *(each.attempt for each in self.tries)]
        rests = [rest for attempt in every if (rest := self._rest(attempt)) is not None and not rest.aside]
        return min((rest.until for rest in rests), default=0.0) - self._cooldowns.clock() if rests else None

    def lines(self) -> list[str]:
        """A line for each attempt that was made, and at the end for each that had to be left out."""
        left_out = [self._resting_line(attempt) for attempt in self.left] if self._is_over else []
        return [*map(line, self.tries), *left_out]

    def _resting_line(self, attempt: Attempt) -> str:
        rest = self._rest(attempt)
        left = f" for {spoken(rest.until - self._cooldowns.clock())} ({rest.why})" if rest is not None else ""
        return f"{_named(attempt)}: not tried, it rests{left}"

    def _rest(self, attempt: Attempt) -> Resting | None:
        return None if attempt.backend is self.own else self._cooldowns.resting(attempt)


def _named(attempt: Attempt) -> str:
    key = f" key {attempt.key_ordinal}" if attempt.key_ordinal else ""
    return f"{attempt.backend.name}:{attempt.model}{key}"


def line(try_: Try) -> str:
    """What became of an attempt, for people."""
    outcome = f"{try_.status or 'no answer'}" + (f" {try_.error}" if try_.error else "")
    return f"{_named(try_.attempt)}: {outcome}"
