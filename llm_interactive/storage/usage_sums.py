"""Sums of usage rows by day, so that figures over millions of rows come at once (SPEC 10).

The table `usage_days` has lines for each day (UTC), project, backend, model and client: one for all calls together
(session and username are EVERYBODY), one for each user (session is EVERYBODY), and one for each session and user; these
two may have any number of names, and nobody who asks for all calls reads theirs. `usage_summed` names the last row that
is in them: `sum_up` goes on from there, whoever wrote the rows, and who reads adds those behind it (`unsummed`).

Times are kept as histograms: 36 steps for a factor of ten, so that a percentile is right within 3.3 %.
"""

import math
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from typing import Any

type Line = tuple[Any, ...]
"""A line of `usage_days`, its columns in order."""

EVERYBODY = ""
"""No session and no user has an empty name."""

FAILOVER = "failover: "
"""The notes of a row begin with it when another attempt of the same request had failed before."""
ANSWERED = "(error IS NULL AND coalesce(status, 200) < 400)"
"""Times are those of replies: a refusal within milliseconds would make a slow provider look fast."""
STREAMED = f"({ANSWERED} AND stream AND ttft IS NOT NULL)"
"""Only a stream has a first token before its last one."""
MOST_TOKENS = 10**15
"""Of one row: a provider may claim anything, and a sum beyond 64 bits is an error to SQLite."""

TOKENS = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens",
          "total_tokens")  # fmt: skip
TIMES = ("execution_times", "ttfts")
DIMENSIONS = {
    "date": "substr(coalesce(timestamp, ''), 1, 10)",
    "session": "coalesce(nullif(session, ''), 'default')",
    "username": "coalesce(nullif(username, ''), 'anonymous')",
    **{name: f"coalesce({name}, '')" for name in ("project", "backend", "model", "caller_name")},
}
SUMS = {
    "requests": "count(*)",
    "errors": f"sum(NOT {ANSWERED})",
    "failovers": f"sum(coalesce(notes, '') LIKE '{FAILOVER}%')",
    "loops": "sum(coalesce(end_reason, '') = 'loop')",
    "estimated": "sum(coalesce(estimated, 0))",
    "unpriced": f"sum(cost IS NULL AND (coalesce(total_tokens, 0) > 0 OR {ANSWERED}))",
    "priced": "sum(cost IS NOT NULL)",
    **{name: f"sum(min(max(coalesce({name}, 0), 0), {MOST_TOKENS}))" for name in TOKENS},
    "cost": "sum(cost)",
    "timed": f"sum({ANSWERED} AND execution_time IS NOT NULL)",
    "execution_time": f"total(CASE WHEN {ANSWERED} THEN execution_time END)",
    "begun": f"sum({STREAMED})",
    "ttft": f"total(CASE WHEN {STREAMED} THEN ttft END)",
    "execution_times": f"group_concat(CASE WHEN {ANSWERED} THEN execution_time END)",
    "ttfts": f"group_concat(CASE WHEN {STREAMED} THEN ttft END)",
}
"""Columns of `usage_days`, and what they are of rows. `unpriced`: what costs something, but nobody knows how much."""
COLUMNS = tuple((*DIMENSIONS, *SUMS))

_GROUPS = f"""
    SELECT {", ".join((*DIMENSIONS.values(), *SUMS.values()))} FROM usage WHERE id > ? AND id <= ?
    GROUP BY {", ".join(DIMENSIONS.values())}
"""


def _added(name: str) -> str:
    if name in TIMES:
        return f"{name} = merged({name}, excluded.{name})"
    if name == "cost":
        return "cost = coalesce(cost + excluded.cost, cost, excluded.cost)"
    return f"{name} = {name} + excluded.{name}"


_ADD = f"""
    INSERT INTO usage_days VALUES ({", ".join("?" * len(COLUMNS))})
    ON CONFLICT DO UPDATE SET {", ".join(map(_added, SUMS))}
"""


def sum_up(connection: sqlite3.Connection, limit: int) -> bool:
    """Take up to `limit` more rows into the sums, in one transaction. True: there may be more of them.

    Raises sqlite3.Error, and leaves the transaction to whoever closes the connection then."""
    summed, last = _marks(connection)
    if summed == last:
        return False
    connection.create_function("merged", 2, _merged, deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    summed, last = _marks(connection)  # another process may have done it meanwhile
    upto = min(summed + limit, last)
    connection.executemany(_ADD, _lines(connection, summed, upto))
    connection.execute("UPDATE usage_summed SET id = ?", (upto,))
    connection.execute("COMMIT")
    return upto < last


def forget(connection: sqlite3.Connection, before: str, limit: int) -> bool:
    """Delete up to `limit` rows and as many sums of the days before that date, in one transaction. True: there may be
    more of them."""
    connection.execute("BEGIN IMMEDIATE")
    rows = connection.execute(
        "DELETE FROM usage WHERE id IN (SELECT id FROM usage WHERE timestamp < ? LIMIT ?)", (before, limit)
    )
    key = ", ".join(DIMENSIONS)
    sums = connection.execute(
        f"DELETE FROM usage_days WHERE ({key}) IN (SELECT {key} FROM usage_days WHERE date < ? LIMIT ?)",
        (before, limit),
    )
    # Where the newest rows are gone, SQLite gives their numbers out again.
    connection.execute("UPDATE usage_summed SET id = min(id, (SELECT coalesce(max(id), 0) FROM usage))")
    connection.execute("COMMIT")
    return limit in (rows.rowcount, sums.rowcount)


def unsummed(connection: sqlite3.Connection) -> Iterator[Line]:
    """The lines of rows that are not in the table yet."""
    return _lines(connection, *_marks(connection))


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    """The last row that is in the sums, and the last row."""
    [(summed, last)] = connection.execute(
        "SELECT coalesce((SELECT id FROM usage_summed), 0), (SELECT coalesce(max(id), 0) FROM usage)"
    )
    return min(summed, last), last


def _lines(connection: sqlite3.Connection, after: int, upto: int) -> Iterator[Line]:
    """Those of the rows with these ids, each once."""
    found: dict[Line, list[Any]] = {}
    for date, session, username, *others in connection.execute(_GROUPS, (after, upto)).fetchall():
        names, sums = tuple(others[:4]), others[4:]
        for index in _TIMES_AT:
            sums[index] = counted(map(float, sums[index].split(","))) if sums[index] else 0
        for who in ((session, username), (EVERYBODY, username), (EVERYBODY, EVERYBODY)):
            key = (date, *who, *names)
            known = found.get(key)
            found[key] = [*sums] if known is None else list(map(_plus, known, sums))
    for key, sums in found.items():
        for index in _TIMES_AT:
            sums[index] = stored(sums[index])
        yield (*key, *sums)


_TIMES_AT = tuple(index for index, name in enumerate(SUMS) if name in TIMES)


def _plus(one: float | None, other: float | None) -> float | None:
    """Of costs that may be unknown."""
    return one if other is None else other if one is None else one + other


# Histograms: a count of 32 bits for each step, all of them together one large number. Stored from the first step that
# is not 0: its number in a byte, then the counts.

_STEPS_A_DECADE = 36
_SHORTEST = 0.001
_BITS = 32


def counted(times: Iterable[float]) -> int:
    """The histogram of some seconds; two of them are added with `+`."""
    counts = 0
    for seconds in times:
        step = math.floor(math.log10(max(seconds, _SHORTEST) / _SHORTEST) * _STEPS_A_DECADE)
        counts += 1 << _BITS * min(step, 255)
    return counts


def stored(counts: int) -> bytes:
    if not counts:
        return b""
    first = ((counts & -counts).bit_length() - 1) // _BITS
    rest = counts >> _BITS * first
    return bytes((first,)) + rest.to_bytes((rest.bit_length() + 7) // 8, "little")


def read(histogram: bytes | None) -> int:
    """What was `stored`."""
    return int.from_bytes(histogram[1:], "little") << _BITS * histogram[0] if histogram else 0


def percentile(counts: int, percent: int) -> float | None:
    """Seconds; None where nothing was counted."""
    steps = struct.unpack("<256I", counts.to_bytes(1024, "little"))
    wanted = -(-sum(steps) * percent // 100)
    reached = 0
    for step, count in enumerate(steps):
        reached += count
        if count and reached >= wanted:
            return float(_SHORTEST * 10 ** ((step + 0.5) / _STEPS_A_DECADE))
    return None


def _merged(one: bytes | None, other: bytes | None) -> bytes | None:
    return stored(read(one) + read(other)) if one and other else one or other
