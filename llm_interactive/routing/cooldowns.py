"""Which keys rest, and until when (SPEC 6). One object for the whole proxy; it belongs to one event loop.

A key rests for one model (a rate limit) or for all (wrong, or without credit: it is put aside). Keys are known by a
digest, so that what is kept survives a restart and a change of their order. Times are seconds since the epoch.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llm_interactive.backends.catalog import SAME_SERVICE, ConfiguredBackend
from llm_interactive.routing.plan import Attempt, numbered
from llm_interactive.routing.policies import Ring
from llm_interactive.routing.refusals import USED_UP, Rest

FIRST_DEFAULT = 5.0
"""Seconds, where a provider names none: doubled with each refusal that follows on the last one's end."""
FORGOTTEN_AFTER = 3600.0
"""Seconds after its end that a cool-down still counts for how long the next one is."""
SHORTEST_KEPT = 5.0
"""Seconds that a cool-down must have left to be worth keeping over a restart."""
MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """What rests. `model`: None for every one. `key`: a digest, "" for a place without keys."""

    service: str
    model: str | None
    key: str


@dataclass(frozen=True, slots=True)
class Resting:
    """`refusals`: how many in a row, each after the last one's end."""

    until: float
    why: str
    aside: bool = False
    refusals: int = 1


type Row = tuple[str, str, str, float, str, int]
"""A cool-down as it is stored: service, model, key's digest, until, why, refusals."""


class Cooldowns:
    """`clock`: seconds since the epoch. `changed` is called when something is to be stored."""

    def __init__(self, clock: Callable[[], float] = time.time, changed: Callable[[], None] = lambda: None) -> None:
        self.clock = clock
        self.changed = changed
        self._resting: dict[Place, Resting] = {}
        self._in_use: dict[tuple[str, str], str] = {}

    def resting(self, attempt: Attempt) -> Resting | None:
        """Why the attempt should not be made now; None where nothing speaks against it."""
        now = self.clock()
        found = [each for place in _places(attempt) if (each := self._resting.get(place)) is not None]
        return max((each for each in found if each.until > now), key=lambda each: each.until, default=None)

    def refused(self, attempt: Attempt, rest: Rest) -> None:
        of_model, of_key = _places(attempt)
        place, now = of_key if rest.whole_key else of_model, self.clock()
        last = self._resting.get(place)
        if last is not None and last.until > now:  # a request that was under way when the first was refused
            until = last.until if rest.seconds is None else max(last.until, now + rest.seconds)
            refusals, aside = last.refusals, rest.aside or last.aside
        else:
            aside = rest.aside
            recent = last is not None and now - last.until < FORGOTTEN_AFTER
            refusals = last.refusals + 1 if last is not None and recent else 1
            until = now + (_default(refusals, rest.longest) if rest.seconds is None else rest.seconds)
        self._resting.pop(place, None)  # the newest stands last
        self._resting[place] = Resting(until, rest.why, aside, refusals)
        self._forget(now)
        self.changed()

    def answered(self, attempt: Attempt) -> None:
        """The key is the one in use; a cool-down that has ended leaves no trace."""
        now = self.clock()
        of_model, of_key = _places(attempt)
        for place in (of_model, of_key):
            if (last := self._resting.get(place)) is not None and (last.until <= now or last.aside):
                del self._resting[place]
                self.changed()
        self._in_use[of_model.service, attempt.model] = of_model.key
        if len(self._in_use) > MOST_REMEMBERED:
            del self._in_use[next(iter(self._in_use))]

    def in_use(self, backend: ConfiguredBackend, model: str) -> Ring:
        """The backend's keys, the one that answered last in front, so that prompt caches stay warm."""
        ring = numbered(backend)
        digest = self._in_use.get((_service(backend), model))
        if digest is None or len(ring) < 2:
            return ring
        for index, key in enumerate(backend.keys):
            if _digest(key.get_secret_value()) == digest:
                return [*ring[index:], *ring[:index]]
        return ring

    def try_all_again(self) -> None:
        """Keys that were put aside get another chance: the settings were read again."""
        self._resting = {place: each for place, each in self._resting.items() if not each.aside}

    def lines(self, backends: Iterable[ConfiguredBackend]) -> list[str]:
        """A line for each key that rests, in words."""
        names = {
            (_service(backend), _fingerprint(backend, number)): _named(backend, number)
            for backend in reversed(list(backends))
            for number in numbered(backend)
        }
        now = self.clock()
        return [
            f"{names[place.service, place.key]}{f' for {place.model}' if place.model else ''}: "
            f"{'put aside' if each.aside else 'in cool-down'} for {spoken(each.until - now)} ({each.why})"
            for place, each in self._resting.items()
            if each.until > now and (place.service, place.key) in names
        ]

    def rows(self) -> list[Row]:
        """What a restart should not forget: cool-downs and used-up quotas. Other keys put aside are not among it, since
        people set them right, and restart."""
        now = self.clock()
        return [
            (place.service, place.model, place.key, each.until, each.why, each.refusals)
            for place, each in self._resting.items()
            if place.model is not None and each.until - now > (USED_UP if each.aside else SHORTEST_KEPT)
        ]

    def restore(self, rows: Iterable[Row]) -> None:
        """What is known already goes before what was stored."""
        for service, model, key, until, why, refusals in rows:
            aside = until - self.clock() > USED_UP
            self._resting.setdefault(Place(service, model, key), Resting(until, why, aside, refusals))

    def _forget(self, now: float) -> None:
        if len(self._resting) > MOST_REMEMBERED:
            self._resting = {place: each for place, each in self._resting.items() if now - each.until < FORGOTTEN_AFTER}
        while len(self._resting) > MOST_REMEMBERED:
            del self._resting[next(iter(self._resting))]


def spoken(seconds: float) -> str:
    """`34 s`, `12 min`, `5 h`, rounded up."""
    for size, unit in ((1, "s"), (60, "min"), (3600, "h")):
        count = -(-seconds // size)
        if count < 120 or unit == "h":
            return f"{max(1, int(count))} {unit}"
    raise AssertionError("unreachable: hours have no limit")


def _default(refusals: int, longest: float) -> float:
    return min(FIRST_DEFAULT * 2.0 ** min(refusals - 1, 30), longest)


def _places(attempt: Attempt) -> tuple[Place, Place]:
    """For its model, and for its whole key."""
    service, key = _service(attempt.backend), _fingerprint(attempt.backend, attempt.key_ordinal)
    return Place(service, attempt.model, key), Place(service, None, key)


def _service(backend: ConfiguredBackend) -> str:
    return SAME_SERVICE.get(backend.name, backend.name)


def _fingerprint(backend: ConfiguredBackend, number: int | None) -> str:
    """Without keys it is the place that rests."""
    if number is None:
        return _digest(next(iter(backend.protocols.values())))
    return _digest(backend.keys[number - 1].get_secret_value())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _named(backend: ConfiguredBackend, number: int | None) -> str:
    return backend.name if number is None else f"{backend.name} key {number}"
