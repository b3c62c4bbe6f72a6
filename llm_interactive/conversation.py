"""The canonical request. Every protocol reads its wire JSON into these values and writes them from these values.

Rules: a node remembers in `source` the JSON it was read from; `edit()` makes it forget, so that writing for the same
protocol reuses what was remembered and a call that nobody edited goes on as it came. Values are frozen; wire JSON stays
`dict` and is never changed in place. What has no canonical form is `Opaque` and belongs to the protocol it came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

type Json = Any
type Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a node was read: the protocol's name and the node's own JSON there."""

    protocol: str
    json: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    source: Source | None = field(default=None, compare=False, repr=False)

    def edit(self, **changes: Any) -> Self:
        """A copy with these fields changed, which has forgotten its source."""
        return replace(self, source=None, **changes)

    def read_by(self, protocol: str) -> Json | None:
        """The remembered JSON, if it was read by this protocol."""
        return self.source.json if self.source is not None and self.source.protocol == protocol else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Node):
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking(Node):
    """Reasoning of an earlier answer. `signature` (or `redacted` data, with no text at all) is bound to `origin`.

    `origin` is the protocol that signed it ("anthropic_messages", "gemini", "openai_responses"); for Responses the
    signature is the item's `encrypted_content` and `item_id` its id.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    origin: str | None = None
    item_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Media(Node):
    """A picture, document, sound or film: exactly one of `data` (base64), `url`, `file_id`, `text` (plain document)."""

    kind: Literal["image", "document", "audio", "video"]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    text: str | None = None
    name: str | None = None
    detail: str | None = None
    origin: str | None = None
    """The protocol that owns a `file_id`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(Node):
    """A call the assistant made. `arguments` is JSON text as the model wrote it ("" counts as "{}").

    `custom`: a free-form tool, whose `arguments` are plain text. `signature`: Gemini's thoughtSignature on the call.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None
    custom: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult(Node):
    call_id: str
    parts: "tuple[Part, ...]"
    name: str | None = None
    """The tool's name, known from the call (Gemini needs it, OpenAI and Anthropic do not say it)."""
    is_error: bool = False
    custom: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Node):
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque(Node):
    """Something only the protocol it was read from understands (`source` is always set). `what` names it for people."""

    what: str


type Part = Text | Thinking | Media | ToolCall | ToolResult | Refusal | Opaque


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Node):
    """One turn or a piece of one, as the client cut it. Tool results stand in a message of role "tool" (OpenAI, one
    each) or "user" (Anthropic, Gemini: results beside text); writers regroup them as their protocol wants."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool(Node):
    """A function the client can run. `schema` is JSON Schema (Gemini's dialect is translated when read).
    `custom`: free-form input, no schema; `format` its grammar."""

    name: str
    description: str | None = None
    schema: Mapping[str, Json] | None = None
    strict: bool | None = None
    custom: bool = False
    format: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice(Node):
    """`mode` "named" goes with `name`; `allowed` narrows auto and required to these tools; `parallel` False: one call
    at a time."""

    mode: Literal["auto", "none", "required", "named"] | None = None
    name: str | None = None
    allowed: tuple[str, ...] = ()
    parallel: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling(Node):
    """None means: not said. `max_tokens` counts everything generated."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning(Node):
    """How hard to think. `enabled` None: nothing said. `effort`: none minimal low medium high xhigh max.
    `budget`: tokens. `adaptive`: the model decides. `summary`: whether the client wants to read the reasoning.
    `commanded`: a person said so in a command or with the model's name, over whatever the request says."""

    enabled: bool | None = None
    effort: str | None = None
    budget: int | None = None
    adaptive: bool = False
    summary: bool | None = None
    commanded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat(Node):
    kind: Literal["text", "json_object", "json_schema"]
    schema: Mapping[str, Json] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation(Node):
    """One request. `source.json` is the whole body as the client sent it; `changed` names the fields edited since,
    so that a writer of the same protocol touches only the keys that these fields own.

    `system`: instructions outside the messages (Anthropic `system`, Gemini `systemInstruction`, Responses
    `instructions`); system messages between others stay in `messages`. `owned`: request fields with no canonical
    form (stored state, service tiers, ...), by wire key, for the owner's writer. `client_headers`: vendor headers of
    the request (lower case) that belong to the owner too (`anthropic-beta`, `openai-organization`).
    """

    model: str
    messages: tuple[Message, ...]
    system: tuple[Part, ...] = ()
    tools: tuple[Tool | Opaque, ...] = ()
    tool_choice: ToolChoice | None = None
    sampling: Sampling = Sampling()
    reasoning: Reasoning = Reasoning()
    generation_config: Mapping[str, Json] = field(default_factory=dict)
    """What the session wants in Gemini's `generationConfig`, in Gemini's words; it goes before all else there."""
    output: OutputFormat | None = None
    stream: bool = False
    include_usage: bool = True
    """Whether the client wants usage in its stream (only Chat Completions makes it optional)."""
    user: str | None = None
    metadata: Mapping[str, str] | None = None
    owned: Mapping[str, Json] = field(default_factory=dict)
    client_headers: Mapping[str, str] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()

    def edit(self, **changes: Any) -> Self:
        """A copy with these fields changed; unlike other nodes it keeps its source and notes which fields differ."""
        return replace(self, changed=self.changed | frozenset(changes), **changes)

    def call_names(self) -> dict[str, str]:
        """Tool name by call id, over the whole history (for protocols whose results must repeat the name)."""
        return {p.id: p.name for message in self.messages for p in message.parts if isinstance(p, ToolCall)}
