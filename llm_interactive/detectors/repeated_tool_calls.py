"""A model that makes the same tool call again and again (SPEC section 8), counted per session over its replies.

Two calls are the same when name and canonical JSON arguments are. A loop is the same call, or the same cycle of up to
four calls, `max_repeats` times in a row within `ttl_seconds`; any other call starts the count anew. The clock is an
argument, in seconds since the epoch, since the state outlives the process (`to_json`, `from_json`). The state holds
digests, never arguments, and its size is bounded.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import orjson

type ToolLoopMode = Literal["break", "chance_then_break"]

LONGEST_CYCLE = 4
MOST_CALLS_KEPT = 1024
MOST_GUIDED_KEPT = 32
GUIDANCE_REMEMBERED_SECONDS = 3600
"""A session may last for days: guidance of yesterday does not make today's first loop a repeated one."""
ARGUMENTS_SHOWN = 500
HUGE_NUMBER = re.compile(r"\d{19}")


@dataclass(frozen=True, slots=True)
class ToolLoopLimits:
    """TOOL_LOOP_* of SPEC section 2."""

    max_repeats: int = 4
    ttl_seconds: int = 120
    mode: ToolLoopMode = "break"

    def __post_init__(self) -> None:
        if self.max_repeats < 2 or self.ttl_seconds < 1:
            raise ValueError("max_repeats must be at least 2 and ttl_seconds at least 1")


@dataclass(frozen=True, slots=True)
class ToolLoopFinding:
    """`count` repeats within `seconds` (the TTL). `action`: end the reply, or ask the backend again with guidance."""

    name: str
    arguments: str
    """Canonical JSON."""
    count: int
    seconds: int
    action: Literal["break", "guide"]
    after_guidance: bool
    cycle: tuple[str, ...]
    """Names of the calls that are repeated, the last one being `name`."""


def break_notice(finding: ToolLoopFinding) -> str:
    """The text that ends the reply in place of the call."""
    prefix = "After guidance, " if finding.after_guidance else ""
    return (
        f"{prefix}Tool call loop detected: '{finding.name}' invoked with identical parameters {finding.count} times "
        f"within {finding.seconds}s. Session stopped to prevent unintended looping. "
        "Try changing your inputs or approach."
    )


def guidance(finding: ToolLoopFinding) -> str:
    """The message to the model that gives it one more chance."""
    shown = finding.arguments
    if len(shown) > ARGUMENTS_SHOWN:
        shown = shown[:ARGUMENTS_SHOWN] + "..."
    what = f"the tool '{finding.name}' was called with identical arguments {shown}"
    if len(finding.cycle) > 1:
        what = f"the same tool calls ({', '.join(finding.cycle)}) were made in turn with identical arguments"
    return (
        f"Tool call loop warning: {what}, {finding.count} times within {finding.seconds} seconds; "
        "the last call was not executed. Repeating it will give the same result. Reflect on what you want to learn or "
        "change and why the earlier results were not enough. Then either call a tool with different arguments, use "
        "another tool, or answer the user in text. Do not repeat the identical call."
    )


def canonical_arguments(arguments: str) -> str:
    """JSON with sorted keys and no spare white space; text that is not JSON is only stripped; nothing is `{}`."""
    text = arguments.strip()
    if not text:
        return "{}"
    try:
        if HUGE_NUMBER.search(text):  # orjson would round it, and two different calls would become one
            return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()
    except (ValueError, TypeError, RecursionError):  # no JSON, or nested too deeply
        return text


@dataclass(frozen=True, slots=True)
class PastCall:
    name: str
    digest: str
    at: float


class RepeatedToolCalls:
    """The tool calls of one session. Replies of one session may interleave: their calls are taken as they come."""

    __slots__ = ("_calls", "_guided")

    def __init__(self) -> None:
        self._calls: list[PastCall] = []
        self._guided: dict[str, float] = {}  # digest -> time of the guidance

    def would_complete(self, name: str, now: float, limits: ToolLoopLimits) -> bool:
        """Whether the next call, if to this tool, could be a loop: it must be held until its arguments are whole."""
        calls = _since(self._calls, now, limits.ttl_seconds)
        return any(
            calls[-length].name == name and _repeats([*calls, calls[-length]], length) >= limits.max_repeats
            for length in range(1, min(LONGEST_CYCLE, len(calls)) + 1)
        )

    def saw(self, name: str, arguments: str, now: float, limits: ToolLoopLimits) -> ToolLoopFinding | None:
        """Takes a finished call. Once a loop, every further call of the loop is one too, with its count."""
        canonical = canonical_arguments(arguments)
        call = PastCall(name, _digest(name, canonical), now)
        most = min(LONGEST_CYCLE * limits.max_repeats, MOST_CALLS_KEPT)
        self._calls = [*_since(self._calls, now, limits.ttl_seconds), call][-most:]
        for length in range(1, LONGEST_CYCLE + 1):
            count = _repeats(self._calls, length)
            if count >= limits.max_repeats:
                return self._found(self._calls[-length:], canonical, count, now, limits)
        return None

    def _found(
        self, cycle: list[PastCall], arguments: str, count: int, now: float, limits: ToolLoopLimits
    ) -> ToolLoopFinding:
        chance = limits.mode == "chance_then_break"
        guided = chance and self._was_guided(cycle, now)
        guide = chance and not guided
        if guide:
            self._guide(cycle, now)
        return ToolLoopFinding(
            name=cycle[-1].name,
            arguments=arguments,
            count=count,
            seconds=limits.ttl_seconds,
            action="guide" if guide else "break",
            after_guidance=guided,
            cycle=tuple(call.name for call in cycle),
        )

    def _was_guided(self, cycle: list[PastCall], now: float) -> bool:
        return any(now - self._guided.get(call.digest, -math.inf) <= GUIDANCE_REMEMBERED_SECONDS for call in cycle)

    def _guide(self, cycle: list[PastCall], now: float) -> None:
        """Remembers the guidance, and counts the loop from now on: a slow second answer must not outlive it."""
        for call in cycle:
            self._guided.pop(call.digest, None)
            self._guided[call.digest] = now
        for digest in list(self._guided)[:-MOST_GUIDED_KEPT]:
            del self._guided[digest]
        self._calls = [replace(call, at=now) for call in self._calls]

    def to_json(self) -> dict[str, Any]:
        return {"calls": [[call.name, call.digest, call.at] for call in self._calls], "guided": dict(self._guided)}

    @classmethod
    def from_json(cls, state: Any) -> Self:
        """What `to_json` gave; anything else, such as the state of another version, is a session without calls."""
        session = cls()
        try:
            session._calls = [PastCall(str(name), str(digest), float(at)) for name, digest, at in state["calls"]]
            session._guided = {str(digest): float(at) for digest, at in state["guided"].items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            return cls()
        return session


def _digest(name: str, canonical: str) -> str:
    return hashlib.sha256(f"{name}\0{canonical}".encode(errors="surrogatepass")).hexdigest()[:32]


def _since(calls: list[PastCall], now: float, ttl_seconds: float) -> list[PastCall]:
    """The calls of the last `ttl_seconds`; those of a clock that was set back since are as old as they look."""
    return [call for call in calls if abs(now - call.at) <= ttl_seconds]


def _repeats(calls: list[PastCall], length: int) -> int:
    """How many times in a row the calls end with the same cycle of `length` calls."""
    same = 0
    for newer, older in zip(reversed(calls), reversed(calls[:-length]), strict=False):
        if newer.digest != older.digest:
            break
        same += 1
    return (same + length) // length
