"""What a protocol is: one wire format in both directions, to and from the canonical conversation and events.

As a frontend it reads requests and writes replies, as a backend it writes requests and reads replies. It does no I/O,
knows no backend and no other protocol. What a target cannot say is refused (`CannotExpress`) or noted, never dropped in
silence.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_interactive.conversation import Conversation
from llm_interactive.errors import CannotExpress, ProxyError, UpstreamError
from llm_interactive.events import Frame

type Json = Any
type Operation = Literal["generate", "count_tokens", "models", "model", "other"]


@dataclass(frozen=True, slots=True)
class Call:
    """What a request's method, path, query and headers say, before its body is read.

    `model` and `stream` are set where the path carries them (Gemini). `array`: Gemini's stream as a JSON array (no
    `alt=sse`). `headers`: the client's, names in lower case, without credentials. `path`: as the vendor spells it,
    without the prefixes that SDKs double.
    """

    protocol: str
    operation: Operation
    path: str
    query: str = ""
    model: str | None = None
    stream: bool | None = None
    array: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model, from the facts table. The defaults suit a model that nobody has heard of.

    `refuses`: names of `Sampling` fields that the model answers with a 400. `reasoning`: how thinking is asked for
    ("none": cannot think; "effort": OpenAI's words; "budget": tokens; "adaptive": Claude 4.6+ with effort; "level":
    Gemini 3; "toggle": on or off, `enable_thinking`). `efforts`: the effort words it takes, () for all.
    """

    max_output: int | None = None
    context: int | None = None
    refuses: frozenset[str] = frozenset()
    one_of: tuple[str, ...] = ()
    """`Sampling` fields of which it takes one at most: the first that was said stays (TRAPS T63)."""
    reasoning: Literal["none", "effort", "budget", "adaptive", "level", "toggle", "unknown"] = "unknown"
    efforts: tuple[str, ...] = ()
    min_budget: int = 1024
    max_budget: int | None = None
    can_disable_reasoning: bool = True
    reasoning_off: Literal["disabled", "between_tools"] = "disabled"
    """Claude's `thinking.type` that turns it off."""
    prefill: bool = True
    images: bool = True
    mid_system: bool = False
    """Takes system messages between turns (Anthropic's newest)."""
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_completion_tokens"
    takes_budgets: bool = False
    """An "adaptive" Claude that still knows `budget_tokens`."""
    max_temperature: float = 2.0
    takes_without_reasoning: frozenset[str] = frozenset()
    """Those of `refuses` that it takes while it is told not to think."""
    reasons_by_default: bool = True
    """Whether it thinks where nothing is said."""
    switch: Literal["thinking", "enable_thinking", "chat_template_kwargs"] = "thinking"
    """The Chat Completions field that turns thinking on and off, for "toggle"."""
    forced_tools: Literal["always", "without_reasoning", "never"] = "always"
    """When it may be forced to call a tool (TRAPS T20)."""
    chat: Literal["always", "without_tools", "never"] = "always"
    """What OpenAI's Chat Completions take for it; "without_tools": tools only while it does not think."""
    thinks_unstreamed: bool = True
    """Also thinks where the answer is not streamed."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: the model's name there, what is known of it, and the kind of host.

    `vendor` is the protocol's own vendor's service ("openai", "anthropic", "gemini"), or the name of a compatible one
    ("openrouter", "zai", ...); extensions of a vendor are only spoken to that vendor.
    """

    backend: str
    model: str
    vendor: str
    facts: ModelFacts = ModelFacts()


@dataclass(frozen=True, slots=True)
class WireRequest:
    """`path` follows the base URL including its version segment: "/chat/completions". `body` is ready for JSON.

    `tool_names`: the names as sent -> as the client wrote them, where a target's rules made them change (TRAPS T19).
    """

    path: str
    body: dict[str, Json]
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    tool_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReplyContext:
    """What a reply writer must know of the request. `model`: the name the client asked for. `rename`: write `model`
    even where source bytes could go on. `mint(prefix)`: a fresh id in the client's dialect. `now`: Unix seconds."""

    conversation: Conversation
    call: Call
    backend_protocol: str
    model: str
    mint: Callable[[str], str]
    now: int
    rename: bool = False

    @property
    def stream(self) -> bool:
        return self.conversation.stream


class Notes:
    """What was changed or could not be said, for `x-llm-proxy-notes`; each once, in order."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}

    def add(self, note: str) -> None:
        self._seen.setdefault(note)

    def __iter__(self) -> Any:
        return iter(self._seen)


class ReplyReader(ABC):
    """Bytes of a reply's body -> frames, the same ones however the bytes are cut."""

    @abstractmethod
    def feed(self, data: bytes) -> list[Frame]: ...

    @abstractmethod
    def finish(self) -> list[Frame]:
        """The body has ended. A stream that did not say it was done gets a last frame with `Failed`."""


class ReplyWriter(ABC):
    """Frames -> bytes for the client. Gives a frame's source on where it may; otherwise writes its events.

    It keeps enough state in either case that a frame made by the proxy (a notice, an end, an error) can follow at any
    point and the whole stays legal in the protocol.
    """

    content_type: str

    @abstractmethod
    def write(self, frame: Frame) -> bytes: ...

    @property
    def response(self) -> Mapping[str, Json]:
        """The reply as an object that the client may name by its id later (Responses); empty elsewhere."""
        return {}


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A line of a models list. `id` is what a client may ask for; `raw` the owner's own entry."""

    id: str
    name: str | None = None
    created: int | None = None
    owner: str | None = None
    context: int | None = None
    max_output: int | None = None
    raw: Json = field(default=None, compare=False)
    origin: str | None = None


class Protocol(ABC):
    name: str
    counts_tokens = False
    """Whether the vendor has an endpoint for it (`write_count_request`)."""

    # frontend
    @abstractmethod
    def read_request(self, body: dict[str, Json], call: Call) -> Conversation:
        """Raises `BadRequest` naming the field (`param`) that is missing or of a wrong type."""

    @abstractmethod
    def reply_writer(self, context: ReplyContext) -> ReplyWriter: ...

    @abstractmethod
    def write_error(self, error: ProxyError) -> dict[str, Json]:
        """The body of an HTTP error in this protocol's shape."""

    @abstractmethod
    def write_models(self, models: Sequence[ModelEntry]) -> dict[str, Json]: ...

    @abstractmethod
    def write_model(self, model: ModelEntry) -> dict[str, Json]: ...

    @abstractmethod
    def write_count(self, tokens: int) -> dict[str, Json]: ...

    # backend
    @abstractmethod
    def write_request(self, conversation: Conversation, target: Target, notes: Notes) -> WireRequest: ...

    @abstractmethod
    def reply_reader(self, stream: bool) -> ReplyReader: ...

    @abstractmethod
    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError: ...

    @abstractmethod
    def read_models(self, body: Json) -> list[ModelEntry]: ...

    @abstractmethod
    def credentials(self, key: str) -> Mapping[str, str]:
        """The headers that carry a key to a server of this protocol."""

    def models_path(self) -> str:
        return "/models"

    def write_count_request(self, conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
        """A question to the vendor's own token counting."""
        raise CannotExpress("this protocol has no token counting")
