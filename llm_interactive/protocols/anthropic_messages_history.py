"""What was said, as Anthropic's `messages` and `system`: own blocks as they came, others built from meaning.

A conversation of another protocol is brought into legal form: turns of one side together, results first (TRAPS T6),
each call answered in the next turn and no result alone, no empty text (T34), a user's turn where there is none.
"""

import base64
import binascii
import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_interactive import wire_json
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from llm_interactive.errors import CannotExpress
from llm_interactive.protocols.anthropic_messages_errors import NAME
from llm_interactive.protocols.base import Json, Notes, Target

NO_RESULT = "(no result was recorded)"
NO_WORDS = "Begin."
"""The user's turn where nobody has said anything (TRAPS T31)."""
GO_ON = "Continue."
"""Said after an assistant's turn to a model that does not go on with it by itself (TRAPS T33)."""
BEGINNINGS = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi", "application/pdf"),
)
"""How base64 of these types begins: what clients say of it is often wrong, and Anthropic checks it."""
PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
TEXTS = ("text/", "application/json", "application/xml")
_LEGAL_ID = re.compile(r"[a-zA-Z0-9_-]+")


@dataclass(slots=True)
class Turn:
    role: str
    results: list[dict[str, Json]] = field(default_factory=list)
    blocks: list[dict[str, Json]] = field(default_factory=list)

    @property
    def content(self) -> list[dict[str, Json]]:
        return self.results + self.blocks

    def calls(self) -> list[dict[str, Json]]:
        return [block for block in self.blocks if block["type"] == "tool_use"]


def clean_id(id_: str) -> str:
    """An id of letters, digits, `_` and `-`, the same for the same id, another one for another id."""
    if _LEGAL_ID.fullmatch(id_):
        return id_
    digest = hashlib.sha256(id_.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return "toolu_" + re.sub(r"[^a-zA-Z0-9_-]", "_", id_)[:40] + digest


def arguments_object(arguments: str, custom: bool = False) -> dict[str, Json]:
    """`tool_use.input` must be an object: what is none is kept as text (TRAPS T1, T3)."""
    if custom:
        return {"input": arguments}
    if not arguments.strip():
        return {}
    try:
        parsed = wire_json.loads(arguments)
    except ValueError:
        return {"_raw": arguments}
    return parsed if isinstance(parsed, dict) else {"_raw": arguments}


def _is_misplaced(message: Json, before: list[Json]) -> bool:
    """Whether instructions stand where an edit has left them after no user's turn, which is refused."""
    if message["role"] != "system" or not message["content"]:
        return False
    if not before:
        return True
    content = before[-1]["content"]
    ending = content[-1].get("type") if isinstance(content, list) and content else ""
    return before[-1]["role"] == "assistant" and not str(ending).endswith("_tool_result")


class HistoryWriter:
    """`names`: tool names as the client wrote them -> as they are sent."""

    def __init__(self, conversation: Conversation, target: Target, notes: Notes, names: Mapping[str, str]) -> None:
        self._conversation = conversation
        self._target = target
        self._notes = notes
        self._names = names

    def system(self) -> list[dict[str, Json]]:
        """Blocks of `system`: what stood outside the messages, and what must not stand between them."""
        parts = [*self._conversation.system]
        leading = True
        for message in self._conversation.messages:
            if message.role not in ("system", "developer"):
                leading = False
            elif not self._stays(message, leading):
                parts += message.parts
        blocks = [block for part in parts if isinstance(part, Text) and (block := self._text(part)) is not None]
        if len(blocks) < len(parts) and any(not isinstance(part, Text) for part in parts):
            self._notes.add("system: only its text is sent")
        return blocks

    def _stays(self, message: Message, leading: bool) -> bool:
        """Anthropic may judge what its own client sent by itself; others are sent only what they are known to take."""
        if message.read_by(NAME) is not None and self._target.vendor == "anthropic":
            return True
        return self._target.facts.mid_system and not leading

    def own_messages(self) -> list[Json]:
        """Each message as it came; only those that were edited are written anew (and go, if nothing is left)."""
        written: list[Json] = []
        leading = True
        for message in self._conversation.messages:
            if message.role in ("system", "developer"):
                if not self._stays(message, leading):
                    continue
            else:
                leading = False
            own = message.read_by(NAME)
            if own is None:
                turn = self._turn(message)
                own = {"role": turn.role, "content": turn.content} if turn.content else None
            if own is not None:
                written.append({**own, "role": "user"} if _is_misplaced(own, written) else own)
        return written

    def messages(self) -> list[Json]:
        turns = self._turns()
        self._pair(turns)
        turns = [turn for turn in self._frame(turns) if turn.content]
        written: list[Json] = []
        for turn in turns:
            content = turn.content
            plain = len(content) == 1 and content[0].keys() == {"type", "text"}
            written.append({"role": turn.role, "content": content[0]["text"] if plain else content})
        return written

    def _turns(self) -> list[Turn]:
        """Consecutive messages of one side together. Instructions that stay must follow the user's turn and stand
        before the assistant's, or last; after an assistant's turn at the end they can only be the user's words."""
        turns: list[Turn] = []
        waiting: list[dict[str, Json]] = []
        leading = True
        for message in self._conversation.messages:
            if message.role in ("system", "developer"):
                waiting += self._turn(message).blocks if self._stays(message, leading) else []
                continue
            leading = False
            turn = self._turn(message)
            if not turn.content:
                continue
            if waiting and turn.role == "assistant" and turns and turns[-1].role == "user":
                turns.append(Turn("system", blocks=waiting))
                waiting = []
            if turns and turns[-1].role == turn.role:
                turns[-1].results += turn.results
                turns[-1].blocks += turn.blocks
            else:
                turns.append(turn)
        if waiting:
            after_user = bool(turns) and turns[-1].role == "user"
            turns.append(Turn("system" if after_user else "user", blocks=waiting))
        return turns

    def _turn(self, message: Message) -> Turn:
        role = {"tool": "user", "developer": "system"}.get(message.role, message.role)
        turn = Turn(role)
        for part in message.parts:
            block = self._block(part, role)
            if block is not None:
                (turn.results if block["type"] == "tool_result" else turn.blocks).append(block)
        return turn

    def _pair(self, turns: list[Turn]) -> None:
        """Each call gets its result in the next turn and an id of its own; a result without its call becomes text.
        Histories that clients cut stay legal."""
        used: set[str] = set()
        position = 0
        while position < len(turns):
            turn = turns[position]
            if turn.results:
                self._answer({}, turn)  # what a call before it did not take
            calls = turn.calls()
            position += 1
            if not calls:
                continue
            waiting: dict[str, deque[str]] = defaultdict(deque)
            for call in calls:
                waiting[call["id"]].append(unique := _unique(call["id"], used))
                call["id"] = unique
            if position == len(turns) or turns[position].role != "user":
                turns.insert(position, Turn("user"))
            self._answer(waiting, turns[position])
            position += 1

    def _answer(self, waiting: dict[str, deque[str]], turn: Turn) -> None:
        results: list[dict[str, Json]] = []
        orphans: list[dict[str, Json]] = []
        for result in turn.results:
            ids = waiting.get(result["tool_use_id"])
            if ids:
                result["tool_use_id"] = ids.popleft()
                results.append(result)
            else:
                self._notes.add("a tool result without its call: sent as the user's words")
                content = result.get("content", [])
                orphans += [{"type": "text", "text": content}] if isinstance(content, str) else content
        for id_ in [id_ for ids in waiting.values() for id_ in ids]:
            self._notes.add("a tool call without its result: sent with a stand-in")
            results.append({"type": "tool_result", "tool_use_id": id_, "content": NO_RESULT})
        turn.results, turn.blocks = results, orphans + turn.blocks

    def _frame(self, turns: list[Turn]) -> list[Turn]:
        """Something to answer, from the user where the model wants that; no white space at the end (TRAPS T31-T35)."""
        if not turns:
            self._notes.add("messages: there were none, so a user's turn was made up")
            return [_words(NO_WORDS)]
        last = turns[-1]
        if last.role != "assistant":
            return turns
        if not self._target.facts.prefill:
            self._notes.add(
                f"messages: {self._target.model} does not go on with an assistant's turn, so it is asked to"
            )
            return [*turns, _words(GO_ON)]
        if last.blocks[-1]["type"] == "text":
            last.blocks[-1] = {**last.blocks[-1], "text": last.blocks[-1]["text"].rstrip()}
        return turns

    def _block(self, part: Part, role: str) -> dict[str, Json] | None:
        match part:
            case Text():
                return self._text(part)
            case Refusal(text=text):
                return {"type": "text", "text": text} if text.strip() else None
            case Thinking():
                return self._thinking(part, role)
            case ToolCall() if role == "assistant":
                return self._call(part)
            case ToolResult() if role == "user":
                return self._result(part)
            case Media():
                return self._media_said(part, role)
            case Opaque(what=what):
                own = part.read_by(NAME)
                if own is None and role == "user":
                    raise CannotExpress(f"'{what}' content cannot be sent to an Anthropic backend", param=what)
                if own is None:
                    self._notes.add(f"{what} in history: not sent, only its own protocol can say it")
                return own
        return None

    def _text(self, part: Text) -> dict[str, Json] | None:
        own = part.read_by(NAME)
        if own is not None:
            return dict(own)
        return {"type": "text", "text": part.text} if part.text.strip() else None

    def _thinking(self, part: Thinking, role: str) -> dict[str, Json] | None:
        """Only what Anthropic signed goes back to it, and only in the assistant's turns (TRAPS T36, T55)."""
        own = part.read_by(NAME)
        if own is not None:
            return dict(own)
        if part.origin == NAME and role == "assistant":
            if part.redacted:
                return {"type": "redacted_thinking", "data": part.redacted}
            if part.signature:
                return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        self._notes.add("reasoning of earlier turns: not sent, another vendor signed it or nobody")
        return None

    def _call(self, part: ToolCall) -> dict[str, Json]:
        own = part.read_by(NAME)
        if own is not None:
            return dict(own)
        return {
            "type": "tool_use",
            "id": clean_id(part.id),
            "name": self._names.get(part.name, part.name),
            "input": arguments_object(part.arguments, part.custom),
        }

    def _result(self, part: ToolResult) -> dict[str, Json]:
        own = part.read_by(NAME)
        if own is not None:
            return dict(own)
        blocks = [block for inner in part.parts if (block := self._inner(inner)) is not None]
        result: dict[str, Json] = {"type": "tool_result", "tool_use_id": clean_id(part.call_id)}
        if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
            result["content"] = blocks[0]["text"]
        elif blocks:
            result["content"] = blocks
        if part.is_error:
            result["is_error"] = True
        return result

    def _inner(self, part: Part) -> dict[str, Json] | None:
        """A part of a tool's result: text, a picture or a document."""
        if isinstance(part, Media) and part.kind in ("audio", "video"):
            self._notes.add(f"{part.kind} in a tool's result: not sent, Anthropic takes none")
            return {"type": "text", "text": f"({part.kind} that cannot be shown)"}
        return self._block(part, "user")

    def _media_said(self, part: Media, role: str) -> dict[str, Json] | None:
        own = part.read_by(NAME)
        if own is not None:
            return dict(own)
        if role != "user":
            self._notes.add(f"{part.kind} in an {role}'s turn: not sent, Anthropic takes it from users only")
            return None
        return write_media(part)


def write_media(media: Media) -> dict[str, Json]:
    """Raises `CannotExpress` for what Anthropic takes in no form."""
    if media.kind in ("audio", "video"):
        raise CannotExpress(f"an Anthropic backend takes no {media.kind}", param=media.kind)
    if media.text is not None:
        return _document({"type": "text", "media_type": "text/plain", "data": media.text}, media)
    if media.file_id is not None:
        if media.origin != NAME:
            raise CannotExpress("a file id is only known to the provider that holds the file", param="file_id")
        return _placed({"type": "file", "file_id": media.file_id}, media)
    if media.url is not None:
        if not media.url.startswith(("http://", "https://")):
            raise CannotExpress("Anthropic reads http and https URLs only", param="url")
        return _placed({"type": "url", "url": media.url}, media)
    return _encoded(media, (media.data or "").strip().replace("-", "+").replace("_", "/"))


def _encoded(media: Media, data: str) -> dict[str, Json]:
    said = (media.media_type or "").partition(";")[0].strip().lower().replace("image/jpg", "image/jpeg")
    media_type = next((found for start, found in BEGINNINGS if data.startswith(start)), said)
    source = {"type": "base64", "media_type": media_type, "data": data}
    if media_type in PICTURES:
        return {"type": "image", "source": source}
    if media_type == "application/pdf" or (media.kind == "document" and not media_type):
        return _document({**source, "media_type": "application/pdf"}, media)
    if media_type.startswith(TEXTS):
        return _document({"type": "text", "media_type": "text/plain", "data": _decoded(data)}, media)
    if media.kind == "image" and not media_type:
        return {"type": "image", "source": {**source, "media_type": "image/png"}}
    raise CannotExpress(f"an Anthropic backend takes no {media_type}", param="media_type")


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4)).decode("utf-8", "replace")
    except binascii.Error:
        raise CannotExpress("a document's data is no base64", param="data") from None


def _placed(source: dict[str, Json], media: Media) -> dict[str, Json]:
    return _document(source, media) if media.kind == "document" else {"type": "image", "source": source}


def _document(source: dict[str, Json], media: Media) -> dict[str, Json]:
    title = {"title": media.name} if media.name else {}
    return {"type": "document", "source": source, **title}


def _unique(id_: str, used: set[str]) -> str:
    """Ids must not repeat in a conversation; some clients number the calls of each turn anew (TRAPS T13)."""
    unique, number = id_, 1
    while unique in used:
        number += 1
        unique = f"{id_}_{number}"
    used.add(unique)
    return unique


def _words(text: str) -> Turn:
    return Turn("user", blocks=[{"type": "text", "text": text}])
