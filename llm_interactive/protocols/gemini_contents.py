"""Contents and the system instruction of a generateContent request, written from canonical messages.

Turns alternate; each result stands in the turn after its call, in the order of the calls, and every call has one; no
part is empty. Messages read by this protocol are given on as they were.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

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
from llm_interactive.protocols.base import Json, Notes, Target
from llm_interactive.protocols.foreign_signatures import is_base64, standard_base64
from llm_interactive.protocols.gemini_errors import NAME

NO_SIGNATURE = "skip_thought_signature_validator"
"""Google's documented value for calls that Gemini 3 did not make itself (T56)."""

NO_RESULT = "(no result was recorded)"
BLANK = " "

type MediaKind = Literal["image", "document", "audio", "video"]

EXTENSIONS = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "heic": "image/heic", "pdf": "application/pdf", "txt": "text/plain", "html": "text/html", "csv": "text/csv",
    "mp3": "audio/mp3", "wav": "audio/wav", "ogg": "audio/ogg", "flac": "audio/flac", "mp4": "video/mp4",
    "mov": "video/quicktime", "webm": "video/webm",
}  # fmt: skip
DEFAULT_TYPES: Mapping[str, str] = {
    "image": "image/jpeg",
    "document": "application/pdf",
    "audio": "audio/wav",
    "video": "video/mp4",
}


def media_kind(media_type: str | None) -> MediaKind:
    match (media_type or "").partition("/")[0]:
        case ("image" | "audio" | "video") as kind:
            return kind
    return "document"


def type_of_url(url: str) -> str | None:
    return EXTENSIONS.get(urlsplit(url).path.rpartition(".")[2].lower())


def mid_system(conversation: Conversation) -> list[Part]:
    return [part for m in conversation.messages if m.role in ("system", "developer") for part in m.parts]


class ContentsWriter:
    """One request being written: where it goes, what is noted, which tools are renamed."""

    def __init__(self, conversation: Conversation, target: Target, notes: Notes, names: Mapping[str, str]) -> None:
        self.conversation = conversation
        self.target = target
        self.notes = notes
        self.names = names
        self.called = conversation.call_names()
        own = conversation.read_by(NAME)
        self.ids = None if own is None else _call_ids(own)
        """What the client called its calls itself: ids given for want of one must not come up beside calls without."""

    def name(self, name: str) -> str:
        return self.names.get(name, name)

    def id(self, id_: str) -> dict[str, Json]:
        return {"id": id_} if self.ids is None or id_ in self.ids else {}

    def system(self) -> dict[str, Json]:
        later = mid_system(self.conversation)
        roles = [message.role in ("system", "developer") for message in self.conversation.messages]
        if sorted(roles, reverse=True) != roles:
            self.notes.add("a system message between others: moved to the system instruction")
        parts: list[Json] = []
        for part in (*self.conversation.system, *later):
            own = part.read_by(NAME)
            if own is not None:
                parts.append(own)
            elif isinstance(part, (Text, Refusal)):
                parts += [{"text": part.text}] if part.text else []
            else:
                raise CannotExpress("a system instruction can only hold text here", param="system")
        return {"systemInstruction": {"parts": parts}} if parts else {}

    def messages(self) -> dict[str, Json]:
        said = [m for m in self.conversation.messages if m.role not in ("system", "developer")]
        if self.conversation.read_by(NAME) is not None:
            return {"contents": [content for m in said if (content := self._again(m)) is not None]}
        contents = self._contents(_turns(said))
        if not contents or (contents[0]["role"] == "model" and any("functionCall" in p for p in contents[0]["parts"])):
            contents.insert(0, {"role": "user", "parts": [{"text": BLANK}]})  # T31; a call needs a user before it
        return {"contents": contents}

    def _again(self, message: Message) -> Json | None:
        """A message of this protocol: as it was, or written anew out of what is left of it."""
        own = message.read_by(NAME)
        if own is not None:
            return own
        parts = [written for part in message.parts for written in self._part(part)]
        if message.role == "assistant":
            return {"role": "model", "parts": self._signed(parts)} if parts else None
        return {"role": "user", "parts": parts} if parts else None

    def _contents(self, turns: list[tuple[str, list[Part]]]) -> list[dict[str, Any]]:
        contents: list[dict[str, Any]] = []
        calls: list[ToolCall] = []
        for role, parts in turns:
            if role == "user":
                written = [*self._results(calls, parts), *self._said(parts)]
                calls = []
            else:
                if calls:
                    contents.append({"role": "user", "parts": self._results(calls, [])})
                calls = [part for part in parts if isinstance(part, ToolCall)]
                written = self._signed([piece for part in parts for piece in self._part(part)])
            if not written:
                continue
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += written
            else:
                contents.append({"role": role, "parts": written})
        if calls:
            contents.append({"role": "user", "parts": self._results(calls, [])})
        return contents

    def _results(self, calls: list[ToolCall], parts: list[Part]) -> list[Json]:
        """An answer to every call of the turn before, in the order of the calls (TRAPS T15), then pictures."""
        given = {part.call_id: part for part in parts if isinstance(part, ToolResult)}
        answers: list[Json] = []
        pictures: list[Json] = []
        for call in calls:
            result = given.pop(call.id, None)
            if result is None:
                self.notes.add("a tool call without its result: sent with an empty one")
                answers.append(self._answer(call.id, call.name, {"result": NO_RESULT}))
            else:
                answers.append(self._result(result, call.name, pictures))
        for orphan in given.values():
            self.notes.add("a tool result without its call: sent as the user's words")
            pictures += [{"text": text}] if (text := _result_text(orphan)) else []
            pictures += [self._media(part) for part in orphan.parts if isinstance(part, Media) and part.text is None]
        return answers + pictures

    def _answer(self, call_id: str, name: str, response: Json) -> dict[str, Any]:
        return {"functionResponse": {**self.id(call_id), "name": self.name(name), "response": response}}

    def _result(self, result: ToolResult, name: str, beside: list[Json]) -> Json:
        answer = self._answer(result.call_id, name, _response(result))
        media = [self._media(part) for part in result.parts if isinstance(part, Media) and part.text is None]
        inside = [piece for piece in media if "inlineData" in piece and self.target.facts.reasoning == "level"]
        if inside:
            answer["functionResponse"]["parts"] = inside
        beside += [piece for piece in media if piece not in inside]
        return answer

    def _said(self, parts: list[Part]) -> list[Json]:
        return [piece for part in parts if not isinstance(part, ToolResult) for piece in self._part(part)]

    def _signed(self, pieces: list[Json]) -> list[Json]:
        """Gemini 3 wants its signature on the first call of each step; one it did not make says so (T56)."""
        calls = [number for number, piece in enumerate(pieces) if "functionCall" in piece]
        signed = any("thoughtSignature" in pieces[number] for number in calls)
        if calls and not signed and self.target.facts.reasoning == "level":
            pieces[calls[0]] = {**pieces[calls[0]], "thoughtSignature": NO_SIGNATURE}
        return pieces

    def _part(self, part: Part) -> list[Json]:
        own = part.read_by(NAME)
        if own is not None:
            return [{"text": own} if isinstance(own, str) else own]
        match part:
            case Text(text=text) | Refusal(text=text):
                return [{"text": text}] if text else []
            case Thinking():
                return self._thinking(part)
            case Media():
                return [self._media(part)]
            case ToolCall():
                return [self._call(part)]
            case ToolResult():
                beside: list[Json] = []
                name = part.name or self.called.get(part.call_id, part.call_id)
                return [self._result(part, name, beside), *beside]
            case Opaque(what=what):
                self.notes.add(f"{what} in the conversation: not sent, only its own protocol can say it")
        return []

    def _thinking(self, part: Thinking) -> list[Json]:
        if part.origin == NAME and part.signature and is_base64(part.signature):
            thought = {"thought": True} if part.text else {}
            return [{"text": part.text, **thought, "thoughtSignature": part.signature}]
        self.notes.add("reasoning of earlier turns: not sent, it belongs to another provider")
        return []

    def _call(self, call: ToolCall) -> Json:
        args = {"input": call.arguments} if call.custom else _arguments(call.arguments)
        written: dict[str, Json] = {"functionCall": {**self.id(call.id), "name": self.name(call.name), "args": args}}
        if call.signature is not None and is_base64(call.signature):
            written["thoughtSignature"] = call.signature
        return written

    def _media(self, media: Media) -> dict[str, Json]:
        if media.text is not None:
            return {"text": media.text}
        if media.file_id is not None:
            if media.origin != NAME:
                raise CannotExpress("a file id is only known to the provider that holds the file", param="file_id")
            return _file(media.file_id, media.media_type)
        if media.url is not None:
            return _file(media.url, media.media_type or type_of_url(media.url) or DEFAULT_TYPES[media.kind])
        media_type = media.media_type or DEFAULT_TYPES[media.kind]
        return {"inlineData": {"mimeType": media_type, "data": standard_base64(media.data or "")}}


def _turns(messages: Iterable[Message]) -> list[tuple[str, list[Part]]]:
    """Consecutive messages of one side together, with Gemini's names for the sides."""
    turns: list[tuple[str, list[Part]]] = []
    for message in messages:
        role = "model" if message.role == "assistant" else "user"
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(message.parts)
        else:
            turns.append((role, list(message.parts)))
    return turns


def _call_ids(body: Json) -> set[str]:
    found: set[str] = set()
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            call = value.get("functionCall") or value.get("function_call")
            if isinstance(call, dict) and isinstance(call.get("id"), str):
                found.add(call["id"])
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return found


def _result_text(result: ToolResult) -> str:
    texts = (part.text for part in result.parts if isinstance(part, (Text, Refusal, Media)))
    return "".join(text for text in texts if text)


def _response(result: ToolResult) -> dict[str, Json]:
    """An object, which this field must be: the result's own where it is one."""
    text = _result_text(result)
    try:
        value = wire_json.loads(text) if text.lstrip().startswith("{") else None
    except ValueError:
        value = None
    if isinstance(value, dict) and (not result.is_error or list(value) == ["error"]):
        return value
    return {"error" if result.is_error else "result": text}  # T24


def _arguments(text: str) -> dict[str, Json]:
    """What a model wrote that is no JSON object is kept as text (TRAPS T3)."""
    if not text.strip():
        return {}
    try:
        value = wire_json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"_raw": text}


def _file(uri: str, media_type: str | None) -> dict[str, Json]:
    return {"fileData": {"fileUri": uri, **({"mimeType": media_type} if media_type else {})}}
