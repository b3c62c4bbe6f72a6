"""The canonical reply: what happened, in order, streamed or not.

Grammar of one reply, per `choice` (0 unless n > 1):

    Started  ( TextDelta | ThinkingDelta | ThinkingEnded | RefusalDelta | ToolCallStarted ToolCallDelta* ToolCallEnded
             | Cited | LogProbs | Foreign )*  Ended   — then, once for all choices:  Used?  Finished

`Failed` may stand anywhere and ends the reply. A reply that is not streamed is the same events, all in one frame.
Text and thinking need no start: writers open and close their own blocks; `ThinkingEnded` closes one thinking block and
carries its signature. `Used` may be repeated: the last one wins. `Finished` means that the provider said it was done:
a stream that stops without it was cut (TRAPS T80).
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from llm_interactive.errors import UpstreamError

type Json = Any
type UnifiedReason = Literal["stop", "length", "tool_calls", "content_filter", "error", "other"]


@dataclass(frozen=True, slots=True)
class Started:
    id: str
    model: str
    created: int | None = None
    """Unix seconds, where the provider says."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ThinkingEnded:
    """End of one block of reasoning. `redacted`: encrypted reasoning with no text; `origin`: who can verify it."""

    origin: str
    signature: str | None = None
    redacted: str | None = None
    item_id: str | None = None
    choice: int = 0


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """`slot` numbers the calls of a choice from 0 in order of appearance; deltas and the end name it.
    Calls may overlap (parallel calls whose pieces alternate). `signature`: Gemini's thoughtSignature."""

    slot: int
    id: str
    name: str
    signature: str | None = None
    custom: bool = False
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    slot: int
    arguments: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallEnded:
    slot: int
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Cited:
    """A source of the text before it. Offsets count characters of the choice's text; None where not known."""

    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    start: int | None = None
    end: int | None = None
    origin: str | None = None
    json: Json = None
    """The citation in its owner's shape."""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Token log probabilities of text, in OpenAI's shape: `[{token, logprob, bytes, top_logprobs}]`."""

    tokens: tuple[Json, ...]
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Foreign:
    """A piece only its own protocol can say (a server tool's call or result, an image): `what` names it for people."""

    origin: str
    what: str
    json: Json
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    unified: UnifiedReason
    raw: str | None = None
    origin: str | None = None
    stop_sequence: str | None = None
    details: Json = None


@dataclass(frozen=True, slots=True)
class Ended:
    reason: Reason
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in one way of counting, whatever the vendor's: `input` holds everything read, cached and cache-written
    tokens included; `output` everything generated, reasoning included (TRAPS T84, T86). None: not told.
    `raw` is the vendor's own object and `origin` its protocol, for a client of the same protocol. `tier`: of service,
    where it is said elsewhere (OpenAI); prices depend on it."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    raw: Json = field(default=None, compare=False)
    origin: str | None = None
    tier: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Used:
    usage: Usage


@dataclass(frozen=True, slots=True)
class Finished:
    pass


@dataclass(frozen=True, slots=True)
class Failed:
    error: UpstreamError


type Event = (
    Started
    | TextDelta
    | ThinkingDelta
    | ThinkingEnded
    | RefusalDelta
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallEnded
    | Cited
    | LogProbs
    | Foreign
    | Ended
    | Used
    | Finished
    | Failed
)

CONTENT = (
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    RefusalDelta,
    ToolCallStarted,
    ToolCallDelta,
    Foreign,
)
"""Events after which a client has seen something of the answer: no silent retry any more."""


class Frame(NamedTuple):
    """One piece of a reply as it came, with what it says. `source` is empty for frames made by the proxy itself.

    A writer of the protocol that read it gives `source` on unless the frame was edited."""

    source: bytes
    events: tuple[Event, ...] = ()
    edited: bool = False
