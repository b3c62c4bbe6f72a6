"""Takes secrets out of a request (SPEC 9).

Where nothing is found the very same object comes back. Elsewhere only the secret changes, in a node's own source too,
so that a request of the same protocol goes on as it came but for that. Signatures, encrypted reasoning, signed
reasoning and base64 media are never touched. The same text is always replaced in the same way.

A request is looked at in units (a message, a tool, any other field): one that was found clean is known by its digest,
so a history that grows is not scanned again.
"""

import hashlib
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from llm_interactive import wire_json
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Node,
    Opaque,
    Part,
    Refusal,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from llm_interactive.redaction.formats import FORMATS, Format
from llm_interactive.redaction.restore import Placeholders
from llm_interactive.redaction.scanner import Cut, Digest, Memory, Rule, Scanner, digest

type Json = Any

REPLACEMENT = "(API_KEY_HAS_BEEN_REDACTED)"

WORTH_REMEMBERING = 512
"""Characters; shorter texts are scanned about as fast as looked up."""

BLOCK = 16
"""Members of a list that are known together."""

UNTOUCHED = frozenset(
    [
        "signature",
        "thoughtSignature",
        "thought_signature",
        "encrypted_content",
        "encrypted_index",
        "encrypted_stdout",
        "encrypted_reasoning",
    ]
)
"""Keys of what only its provider can read (TRAPS T52-T56, T97)."""

BASE64_KEYS = frozenset(
    [
        "data",
        "file_data",
        "b64_json",
        "image_data",
        "imageBytes",
        "videoBytes",
        "audioBytes",
        "bytesBase64Encoded",
        "result",
    ]
)
BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]{64,}={0,2}[\r\n]*", re.ASCII)
DATA_URL = re.compile(r"data:[^,\s]{0,200};base64,[A-Za-z0-9+/_=\r\n-]*", re.ASCII)

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("url", "image_url", "video_url", "file_url", "fileUri", "file_uri", "uri", "server_url"), "address"
    ),
    **dict.fromkeys(("authorization", "authorization_token"), "credential"),
}

SEALED_FIELDS = frozenset(["signature", "redacted"])
"""Fields of nodes that are never touched."""

FREE = frozenset(
    [
        "input",
        "args",
        "response",
        "arguments",
        "parameters",
        "input_schema",
        "schema",
        "metadata",
        "parametersJsonSchema",
        "parameters_json_schema",
        "responseSchema",
        "response_schema",
        "responseJsonSchema",
        "response_json_schema",
    ]
)
"""Keys of objects whose own keys the user or the model made up: there no name means anything."""

TELLING_NAME = re.compile(r"secret|api[_-]?key|token|authorization|AccountKey", re.IGNORECASE)
"""Names that make a secret of their value, as in `{"aws_secret_access_key": "..."}`."""


class Redactor:
    """`keys`: all that the proxy holds, clients' too. Make a new one where they change."""

    def __init__(self, keys: Iterable[str] = (), formats: Iterable[Format] = FORMATS) -> None:
        self._scanner = Scanner(keys, formats)
        self._memory = Memory()

    def begin(self, placeholders: Placeholders | None = None) -> "Redaction":
        """For one request; with the `placeholders` of its session its secrets get numbers."""
        return Redaction(self._scanner, self._memory, placeholders)

    def redact(self, conversation: Conversation) -> Conversation:
        return self.begin().conversation(conversation)

    def redact_json(self, body: Json) -> Json:
        """The body of a request in any vendor's JSON, at most `wire_json.MAX_DEPTH` deep."""
        return self.begin().body(body)

    def redact_text(self, text: str) -> str:
        return self.begin().text(text)


class Redaction:
    """Of one request. `secrets`: digests of the different ones that were found."""

    def __init__(self, scanner: Scanner, memory: Memory, placeholders: Placeholders | None = None) -> None:
        self.secrets: set[Digest] = set()
        self.placeholders = placeholders
        self._scanner, self._memory = scanner, memory
        self._units: dict[tuple[int, bool], tuple[Json, Json]] = {}
        """What became of an object, by its id; the object itself is kept, so that no other one gets its id."""

    # text

    def text(self, text: str, rule: Rule = "all") -> str:
        name = digest(text) if len(text) >= WORTH_REMEMBERING else None
        if name is not None:
            if self._memory.is_clean(name):
                return text
            known = self._memory.cut(name, rule)
            if known is not None and (self.placeholders is None or all(map(self.placeholders.knows, known.secrets))):
                return self._joined(known)
        spans = self._scanner.spans(text, rule)
        if not spans:
            if name is not None and rule == "all":
                self._memory.note(name, clean=True)
            return text
        cut = self._cut(text, spans)
        if name is not None:
            self._memory.note_cut(name, rule, cut)
        return self._joined(cut)

    def _cut(self, text: str, spans: list[tuple[int, int]]) -> Cut:
        pieces, secrets, done = [], [], 0
        for begin, end in spans:
            secret = text[begin:end]
            if self.placeholders is not None:
                self.placeholders.learn(secret)
            pieces.append(text[done:begin])
            secrets.append(digest(secret))
            done = end
        return Cut((*pieces, text[done:]), tuple(secrets))

    def _joined(self, cut: Cut) -> str:
        self.secrets.update(cut.secrets)
        said = [cut.pieces[0]]
        for secret, piece in zip(cut.secrets, cut.pieces[1:], strict=True):
            said += [REPLACEMENT if self.placeholders is None else self.placeholders.of(secret), piece]
        return "".join(said)

    def arguments(self, text: str) -> str:
        """JSON in a text, as a tool call has it: it stays JSON."""
        if "\\u" not in text and not self._scanner.may_hold(text.encode("utf-8", "surrogatepass")):
            return text
        try:
            parsed = wire_json.loads(text)
        except ValueError:
            return self.text(text)
        if wire_json.depth_exceeds(parsed):
            return self.text(text)
        inside = self._walk(parsed, free=True)
        plain = text if inside is parsed else wire_json.text(inside)
        whole = self.text(plain)  # a secret that only the words around it tell
        return whole if whole is plain or _is_json(whole) else plain

    # JSON

    def body(self, body: Json) -> Json:
        for key, value in body.items() if isinstance(body, dict) else (("", body),):
            if isinstance(value, list):
                self._look_at_list(value)
            elif isinstance(value, dict):
                self._look_at([(value, _is_free(key, value))])
        if isinstance(body, dict):
            new: dict[str, Json] = {}
            for key, value in body.items():
                new[self._name(key, new)] = self._field(key, value)
            return body if _same((*new, *new.values()), (*body, *body.values())) else new
        return self._units_of(body)

    def _field(self, key: str, value: Json) -> Json:
        if isinstance(value, str):
            return self._string(key, value, free=False)
        return self._units_of(value, free=_is_free(key, value))

    def _units_of(self, value: Json, *, free: bool = False) -> Json:
        if not isinstance(value, list):
            return self._unit(value, free=free)
        if (id(value), False) in self._units:
            return value
        new = [self._unit(each) for each in value]
        return value if _same(new, value) else new

    def _unit(self, value: Json, *, free: bool = False) -> Json:
        if isinstance(value, str):
            return self.text(value)
        if not isinstance(value, (dict, list)):
            return value
        if (id(value), free) not in self._units:
            self._look_at([(value, free)])
        return self._units[id(value), free][1]

    def _look_at_list(self, members: list[Json]) -> None:
        """Members in blocks first: of a history that grew all blocks but the last are as they were."""
        known, unknown = [], []
        for begin in range(0, len(members), BLOCK):
            block = members[begin : begin + BLOCK]
            name = b"list " + hashlib.sha256(wire_json.dumps(block)).digest()
            if self._memory.is_clean(name):
                known += block
            else:
                unknown.append((name, block))
        if not unknown:
            self._units[id(members), False] = (members, members)
            return
        self._units.update({(id(each), False): (each, each) for each in known})
        self._look_at([(each, False) for _, block in unknown for each in block if isinstance(each, (dict, list))])
        for name, block in unknown:
            if len(block) == BLOCK and all(self._unit(each) is each for each in block):
                self._memory.note(name, clean=True)

    def _look_at(self, units: Iterable[tuple[Json, bool]]) -> None:
        """Decide on these units: most were seen before, and of the rest most hold no anchor of any format."""
        for value, free in units:
            data = wire_json.dumps(value)
            name = (b"free " if free else b"wire ") + hashlib.sha256(data).digest()  # no text can pass for an object
            new, clean = value, self._memory.is_clean(name)
            if clean is None:
                escaped = b"\\u" in data  # what is in the text is not in the data
                if escaped or self._scanner.may_hold(data):
                    new = self._walk(value, free=free)
                self._memory.note(name, clean=new is value)
            elif not clean:
                new = self._walk(value, free=free)
            self._units[id(value), free] = (value, new)

    def _walk(self, value: Json, *, free: bool) -> Json:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            elements = [self._walk(each, free=free) for each in value]
            return value if _same(elements, value) else elements
        if not isinstance(value, dict) or (not free and _is_sealed(value)):
            return value
        new: dict[str, Json] = {}
        for key, each in value.items():
            new[self._name(key, new)] = self._member(key, each, free)
        return value if _same((*new, *new.values()), (*value, *value.values())) else new

    def _name(self, key: str, taken: Mapping[str, Json]) -> str:
        name = self.text(key)
        while name is not key and name in taken:
            name += "_"
        return name

    def _member(self, key: str, value: Json, free: bool) -> Json:
        if isinstance(value, str):
            return self._string(key, value, free=free)
        if not free and key == "headers":
            return self._headers(value)
        return self._walk(value, free=free or _is_free(key, value))

    def _headers(self, value: Json) -> Json:
        """What a provider is to send to an MCP server."""
        if not isinstance(value, dict):
            return self._walk(value, free=True)
        new = {key: self.text(each, "credential") if isinstance(each, str) else each for key, each in value.items()}
        return value if all(new[key] is value[key] for key in value) else new

    def _string(self, key: str, value: str, *, free: bool) -> str:
        if not free:
            if key in UNTOUCHED or (key in BASE64_KEYS and BASE64.fullmatch(value)):
                return value
            if key == "arguments":
                return self.arguments(value)
        if value.startswith("data:") and DATA_URL.fullmatch(value):
            return value
        rule = "all" if free else RULES.get(key, "all")
        redacted = self.text(value, rule)
        if redacted is value and rule == "all" and TELLING_NAME.search(key):
            named = f"{key}={value}"
            redacted = self.text(named)[len(key) + 1 :] if self.text(named) is not named else value
        return redacted

    # conversation

    def conversation(self, conversation: Conversation) -> Conversation:
        changes: dict[str, Any] = {
            "model": self.text(conversation.model),
            "client_headers": self._free(conversation.client_headers),
        }
        if conversation.source is not None:
            changes["source"] = self._source(conversation.source, self.body(conversation.source.json))
            if changes["source"] is conversation.source and not conversation.changed:
                self._units.clear()
                return _changed(conversation, changes)  # all the rest was read from there
        changes["messages"] = _each(self._message, conversation.messages)
        changes["system"] = _each(self._part, conversation.system)
        changes["tools"] = _each(self._tool, conversation.tools)
        if (choice := conversation.tool_choice) is not None:
            allowed = _each(self.text, choice.allowed)
            changes["tool_choice"] = self._node(choice, allowed=allowed)
        changes["sampling"] = self._node(conversation.sampling, stop=_each(self.text, conversation.sampling.stop))
        changes["reasoning"] = self._node(conversation.reasoning)
        output = conversation.output
        if output is not None:
            changes["output"] = self._node(output, schema=self._free(output.schema))
        changes["user"] = self._maybe(conversation.user)
        changes["metadata"] = self._free(conversation.metadata)
        changes["owned"] = self.body(conversation.owned)
        self._units.clear()  # an original is not kept longer than it takes
        return _changed(conversation, changes)

    def _source(self, source: Source, redacted: Json) -> Source:
        return source if redacted is source.json else replace(source, json=redacted)

    def _node[T: Node](self, node: T, **changes: Any) -> T:
        """With these fields, no secret in any other text, and a source that holds none either."""
        for field in fields(node):
            value = getattr(node, field.name)
            if isinstance(value, str) and field.name not in changes and field.name not in SEALED_FIELDS:
                changes[field.name] = self.text(value)
        if node.source is not None:
            changes["source"] = self._source(node.source, self._unit(node.source.json))
        return _changed(node, changes)

    def _message(self, message: Message) -> Message:
        if message.source is not None:
            json, redacted = self._units.get((id(message.source.json), False), (None, None))
            if json is not None and json is redacted:
                return message  # what it says was read from there
        return self._node(message, parts=_each(self._part, message.parts))

    def _part(self, part: Part) -> Part:
        match part:
            case Thinking():
                return part if part.signature is not None or part.redacted is not None else self._node(part)
            case Media():
                data = part.data and self._string("data", part.data, free=False)
                return self._node(part, data=data, url=part.url and self._string("url", part.url, free=False))
            case ToolCall():
                return self._node(part) if part.custom else self._node(part, arguments=self.arguments(part.arguments))
            case ToolResult():
                return self._node(part, parts=_each(self._part, part.parts))
            case Text() | Refusal() | Opaque():
                return self._node(part)

    def _tool(self, tool: Tool | Opaque) -> Tool | Opaque:
        if isinstance(tool, Opaque):
            return self._node(tool)
        return self._node(tool, schema=self._free(tool.schema), format=self._free(tool.format))

    def _maybe(self, text: str | None) -> str | None:
        return None if text is None else self.text(text)

    def _free(self, value: Json) -> Json:
        return self._unit(value, free=True)


def _is_free(key: str, value: Json) -> bool:
    return key in FREE and isinstance(value, dict)


def _same(new: Sequence[object], old: Sequence[object]) -> bool:
    """Whether these are the very same objects."""
    return all(map(operator.is_, new, old))


def _each[T](work: Any, values: tuple[T, ...]) -> tuple[T, ...]:
    new = tuple(work(each) for each in values)
    return values if _same(new, values) else new


def _changed[T](value: T, changes: Mapping[str, Any]) -> T:
    real = {name: new for name, new in changes.items() if new is not getattr(value, name)}
    return replace(value, **real) if real else value  # type: ignore[type-var]


def _is_sealed(value: Mapping[str, Json]) -> bool:
    """Reasoning that its provider signed or encrypted: what is changed there is refused."""
    match value:
        case {"type": "redacted_thinking" | "reasoning.encrypted"}:
            return True
        case {"type": "thinking" | "reasoning.text", "signature": str(signature)}:
            return bool(signature)
        case {"type": "reasoning", "encrypted_content": str(encrypted)}:
            return bool(encrypted)
        case {"thought": True, "thoughtSignature": str(signature)} | {
            "thought": True,
            "thought_signature": str(signature),
        }:
            return bool(signature)
    return False


def _is_json(text: str) -> bool:
    try:
        wire_json.loads(text)
    except ValueError:
        return False
    return True
