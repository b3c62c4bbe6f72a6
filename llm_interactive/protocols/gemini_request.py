"""generateContent requests written: what came in this protocol goes on as it came, the rest is built from meaning.

Turns alternate, each result stands in the turn after its call and in the order of the calls, systems go to
`systemInstruction`. Schemas go as JSON Schema (`parametersJsonSchema`, TRAPS T42) to Google itself, and in the older
dialect to whoever else speaks this protocol.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from llm_interactive import wire_json
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from llm_interactive.errors import CannotExpress
from llm_interactive.protocols.base import Json, Notes, Target, WireRequest
from llm_interactive.protocols.gemini_schema import camel, to_gemini
from llm_interactive.protocols.gemini_signature import is_base64, standard_base64

NAME = "gemini"

VENDOR_HEADERS = ("x-goog-api-client", "x-goog-user-project")

SAMPLING = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "n": "candidateCount",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
    "stop": "stopSequences",
}

FIELD_KEYS: Mapping[str, tuple[str | None, tuple[str, ...]]] = {
    "system": (None, ("systemInstruction",)),
    "messages": (None, ("contents",)),
    "tools": (None, ("tools",)),
    "tool_choice": ("toolConfig", ("functionCallingConfig",)),
    "sampling": ("generationConfig", tuple(SAMPLING.values())),
    "reasoning": ("generationConfig", ("thinkingConfig",)),
    "output": ("generationConfig", ("responseMimeType", "responseSchema", "responseJsonSchema")),
}
"""Which wire keys a field of the conversation owns, and in which object; other fields have no key here."""

CAPABILITIES: Mapping[str, str] = {
    "system": "carried (`systemInstruction`)",
    "mid_system": "mapped: moved to `systemInstruction`",
    "images": "carried (`inlineData`)",
    "image_url": "mapped: `fileData` with the URL",
    "pdf": "carried (`inlineData`)",
    "audio": "carried (`inlineData`)",
    "video": "carried (`inlineData`, `fileData`)",
    "file_id": "refused unless it is Gemini's own",
    "tools": "carried (`parametersJsonSchema`)",
    "custom_tools": "mapped: a function with one string, `input`",
    "server_tools": "mapped: web search to `googleSearch`; others noted beside functions, refused alone",
    "tool_choice": "carried",
    "parallel_tool_calls": "noted",
    "tool_result_images": "carried in the result (Gemini 3), mapped: beside the result (older)",
    "tool_result_error": 'mapped: `{"error": ...}` as the response',
    "structured_output": "carried (`responseJsonSchema`)",
    "stop": "carried, the first 5",
    "max_tokens": "carried",
    "temperature": "carried, noted where the model refuses it",
    "top_p": "carried, noted where the model refuses it",
    "top_k": "carried",
    "seed": "carried, the lower 31 bits",
    "penalties": "carried",
    "n": "carried (`candidateCount`)",
    "logprobs": "carried",
    "logit_bias": "noted",
    "reasoning_effort": "mapped: `thinkingLevel` (Gemini 3) or a budget (older)",
    "reasoning_budget": "carried (`thinkingBudget`), mapped: `thinkingLevel` (Gemini 3)",
    "reasoning_signatures": "Gemini's own carried, others stay with their owner",
    "citations": "noted in history",
    "refusal": "mapped: text",
    "user": "noted",
    "metadata": "noted",
    "service_tier": "noted",
    "stored_state": "refused",
    "prompt_cache_marks": "noted",
}

REFUSED = ("previous_response_id", "conversation", "background", "prompt")
"""Request fields of others without which the request would mean something else (TRAPS T96)."""

NO_SIGNATURE = "skip_thought_signature_validator"
"""Google's documented value for calls that Gemini 3 did not make itself (T56)."""

BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 32768}
EFFORT_OF_BUDGET = ((512, "minimal"), (4096, "low"), (16384, "medium"), (10**12, "high"))
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
LEVELS = ("minimal", "low", "medium", "high")
MAX_STOPS = 5
MAX_CANDIDATES = 8
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


def own_body(body: dict[str, Json]) -> dict[str, Json]:
    """The request itself, which countTokens may wrap."""
    for key in ("generateContentRequest", "generate_content_request"):
        if isinstance(body.get(key), dict):
            inner: dict[str, Json] = body[key]
            return inner
    return body


def media_kind(media_type: str | None) -> MediaKind:
    match (media_type or "").partition("/")[0]:
        case ("image" | "audio" | "video") as kind:
            return kind
    return "document"


def type_of_url(url: str) -> str | None:
    return EXTENSIONS.get(urlsplit(url).path.rpartition(".")[2].lower())


def write_request(conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
    body, names = _body(conversation, target, notes)
    headers = dict(conversation.client_headers) if conversation.read_by(NAME) is not None else {}
    array = headers.pop("alt", None) == "json"
    method = "streamGenerateContent" if conversation.stream else "generateContent"
    return WireRequest(
        path=_path(target.model, method),
        query="alt=sse" if conversation.stream and not array else "",
        body=body,
        headers=headers,
        tool_names=names,
    )


def write_count_request(conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
    """In the form that came; a request of another protocol whole, so that tools and instructions count."""
    own = conversation.read_by(NAME)
    body, names = _body(conversation, target, notes)
    if own is None or own is not own_body(own):
        body = {"generateContentRequest": {"model": _resource(target.model), **body}}
    return WireRequest(path=_path(target.model, "countTokens"), body=body, tool_names=names)


def _resource(model: str) -> str:
    return model if "/" in model else f"models/{model}"


def _path(model: str, method: str) -> str:
    return f"/{quote(_resource(model), safe='/:@')}:{method}"


def _body(conversation: Conversation, target: Target, notes: Notes) -> tuple[dict[str, Json], dict[str, str]]:
    own = conversation.read_by(NAME)
    names: dict[str, str] = {}
    if own is not None:
        body = dict(own_body(own))
        fields = [field for field in FIELD_KEYS if field in conversation.changed]
        if "model" in body and target.model != conversation.model:
            body["model"] = _resource(target.model)
        if "messages" in fields and "system" not in fields and _mid_system(conversation):
            fields.append("system")
    else:
        body, fields = {}, list(FIELD_KEYS)
        names = _short_names(conversation)
        _note_foreign(conversation, notes)
    writer = _Writer(conversation, target, notes, names)
    for field in fields:
        holder, keys = FIELD_KEYS[field]
        _put(body, holder, keys, writer.write[field]())
    return body, {short: name for name, short in names.items()}


def _put(body: dict[str, Json], holder: str | None, keys: Iterable[str], values: dict[str, Json]) -> None:
    """Take these keys out, in either spelling, and put the values in; an object that ends up empty goes too."""
    if holder is None:
        for key in [key for key in body if camel(key) in keys]:
            del body[key]
        body |= values
        return
    spelling = next((key for key in body if camel(key) == holder), holder)
    inner = dict(body.get(spelling) or {})
    _put(inner, None, keys, values)
    if inner:
        body[spelling] = inner
    else:
        body.pop(spelling, None)


def _note_foreign(conversation: Conversation, notes: Notes) -> None:
    for key, value in conversation.owned.items():
        if key in REFUSED and value:
            raise CannotExpress(f"'{key}' needs state that a Gemini backend does not have", param=key)
        notes.add(f"{key}: not sent, Gemini has no such field")
    for key, said in (("user", conversation.user), ("metadata", conversation.metadata)):
        if said:
            notes.add(f"{key}: not sent, Gemini has no place for it")


def _mid_system(conversation: Conversation) -> list[Part]:
    return [part for m in conversation.messages if m.role in ("system", "developer") for part in m.parts]


class _Writer:
    """One request being written: where it goes, what is noted, which tools are renamed."""

    def __init__(self, conversation: Conversation, target: Target, notes: Notes, names: Mapping[str, str]) -> None:
        self.conversation = conversation
        self.target = target
        self.notes = notes
        self.names = names
        self.called = conversation.call_names()
        self.write: Mapping[str, Callable[[], dict[str, Json]]] = {
            "system": self.system,
            "messages": self.messages,
            "tools": self.tools,
            "tool_choice": self.tool_choice,
            "sampling": self.sampling,
            "reasoning": self.reasoning,
            "output": self.output,
        }

    def name(self, name: str) -> str:
        return self.names.get(name, name)

    # contents

    def system(self) -> dict[str, Json]:
        later = _mid_system(self.conversation)
        if later and self.conversation.messages[0].role not in ("system", "developer"):
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
        return {"role": "model" if message.role == "assistant" else "user", "parts": parts} if parts else None

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
        return {"functionResponse": {"id": call_id, "name": self.name(name), "response": response}}

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
        calls = [piece for piece in pieces if "functionCall" in piece]
        if calls and self.target.facts.reasoning == "level" and not any("thoughtSignature" in c for c in calls):
            calls[0]["thoughtSignature"] = NO_SIGNATURE
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
        written: dict[str, Json] = {"functionCall": {"id": call.id, "name": self.name(call.name), "args": args}}
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

    # tools

    def tools(self) -> dict[str, Json]:
        declarations: list[Json] = []
        others: list[Json] = []
        for tool in self.conversation.tools:
            own = tool.read_by(NAME)
            if isinstance(tool, Tool):
                declarations.append(own if own is not None else self._declaration(tool))
            elif own is not None:
                others.append(own)
            else:
                others += self._server_tool(tool)
        if not declarations and not others and self.conversation.tools:
            what = ", ".join(tool.what for tool in self.conversation.tools if isinstance(tool, Opaque))
            raise CannotExpress(f"the tool {what} is run by its own provider only", param="tools")
        written = [{"functionDeclarations": declarations}] if declarations else []
        return {"tools": written + others} if written or others else {}

    def _server_tool(self, tool: Opaque) -> list[Json]:
        functions = any(isinstance(other, Tool) for other in self.conversation.tools)
        if not tool.what.startswith("web_search"):
            self.notes.add(f"tool {tool.what}: not sent, only its own provider runs it")
        elif functions and self.target.facts.reasoning != "level":  # T27
            self.notes.add(f"tool {tool.what}: not sent, {self.target.model} takes no search beside functions")
        else:
            return [{"googleSearch": {}}]
        return []

    def _declaration(self, tool: Tool) -> Json:
        written: dict[str, Json] = {"name": self.name(tool.name)}
        if tool.description:
            written["description"] = tool.description
        if tool.custom:
            described = {"type": "string", "description": _grammar(tool.format)}
            schema: dict[str, Json] = {"type": "object", "properties": {"input": described}, "required": ["input"]}
        else:
            schema = dict(tool.schema or {})
        if not any(
            schema.get(key) for key in ("properties", "anyOf", "oneOf", "allOf", "$ref", "additionalProperties")
        ):
            return written
        if self.target.vendor == NAME:
            written["parametersJsonSchema"] = (
                schema if "type" in schema or "$ref" in schema else {"type": "object", **schema}
            )
        else:
            written["parameters"] = to_gemini(schema)
        return written

    def tool_choice(self) -> dict[str, Json]:
        choice = self.conversation.tool_choice
        if choice is None:
            return {}
        own = choice.read_by(NAME)
        if own is not None:
            return {"functionCallingConfig": own}
        if choice.parallel is False:
            self.notes.add("parallel_tool_calls: not sent, Gemini has no such switch")
        if choice.mode is None or not any(isinstance(tool, Tool) for tool in self.conversation.tools):
            return {}
        allowed = [self.name(name) for name in ((choice.name,) if choice.mode == "named" else choice.allowed) if name]
        modes = {"auto": "VALIDATED" if allowed else "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
        config: dict[str, Json] = {"mode": modes[choice.mode]}
        if allowed and choice.mode != "none":
            config["allowedFunctionNames"] = allowed
        return {"functionCallingConfig": config}

    # generationConfig

    def sampling(self) -> dict[str, Json]:
        sampling, facts = self.conversation.sampling, self.target.facts
        values = {name: value for name in SAMPLING if (value := getattr(sampling, name)) not in (None, ())}
        for name in facts.refuses & values.keys():
            del values[name]
            self.notes.add(f"{name}: not sent, {self.target.model} refuses it")
        if sampling.logit_bias:
            self.notes.add("logit_bias: not sent, Gemini has no such parameter")
        if sampling.max_tokens is not None and facts.max_output:
            values["max_tokens"] = min(sampling.max_tokens, facts.max_output)
        if len(sampling.stop) > MAX_STOPS:
            self.notes.add(f"stop: only the first {MAX_STOPS} of {len(sampling.stop)} sequences are sent")
        if "stop" in values:
            values["stop"] = list(sampling.stop[:MAX_STOPS])
        if "seed" in values:
            values["seed"] &= 0x7FFFFFFF  # an int32 here
        if values.get("n", 0) > MAX_CANDIDATES:
            self.notes.add(f"n: {MAX_CANDIDATES} at most")
            values["n"] = MAX_CANDIDATES
        if not values.get("logprobs"):
            values.pop("top_logprobs", None)
            values.pop("logprobs", None)
        if values.get("n") == 1:
            del values["n"]
        if values.get("top_logprobs") == 0:
            del values["top_logprobs"]
        return {SAMPLING[name]: value for name, value in values.items()}

    def reasoning(self) -> dict[str, Json]:
        reasoning, kind = self.conversation.reasoning, self.target.facts.reasoning
        if reasoning.enabled is None and reasoning.effort is None and reasoning.budget is None:
            return {}
        on = reasoning.enabled is not False and reasoning.effort != "none" and reasoning.budget != 0
        if kind == "none":
            if on:
                self.notes.add(f"reasoning: not sent, {self.target.model} does not reason")
            return {}
        config = self._level(on) if kind == "level" else self._budget(on)
        if on and reasoning.summary is not False:
            config["includeThoughts"] = True
        return {"thinkingConfig": config} if config else {}

    def _level(self, on: bool) -> dict[str, Json]:
        reasoning = self.conversation.reasoning
        taken = [word for word in EFFORTS if word in (self.target.facts.efforts or LEVELS) and word != "none"] or LEVELS
        if not on:
            self.notes.add(f"reasoning: {self.target.model} cannot switch it off, the lowest level is asked for")
            return {"thinkingLevel": taken[0].upper()}
        effort = reasoning.effort
        if effort is None and reasoning.budget is not None:
            effort = next(word for most, word in EFFORT_OF_BUDGET if reasoning.budget <= most)
        if effort not in EFFORTS:
            return {}
        rank = EFFORTS.index(effort)
        return {"thinkingLevel": min(taken, key=lambda word: abs(EFFORTS.index(word) - rank)).upper()}

    def _budget(self, on: bool) -> dict[str, Json]:
        reasoning, facts = self.conversation.reasoning, self.target.facts
        if not on:
            if facts.can_disable_reasoning:
                return {"thinkingBudget": 0}
            self.notes.add(f"reasoning: {self.target.model} cannot switch it off, the smallest budget is asked for")
            return {"thinkingBudget": facts.min_budget}
        budget = reasoning.budget
        if budget is None:
            budget = BUDGETS.get(reasoning.effort or "", -1)
        if budget < 0:
            return {"thinkingBudget": -1}
        if self.conversation.sampling.max_tokens is not None:
            budget = min(budget, self.conversation.sampling.max_tokens - 1)
        if facts.max_budget is not None:
            budget = min(budget, facts.max_budget)
        return {"thinkingBudget": max(budget, facts.min_budget)}

    def output(self) -> dict[str, Json]:
        output: OutputFormat | None = self.conversation.output
        if output is None or output.kind == "text":
            return {}
        written: dict[str, Json] = {"responseMimeType": "application/json"}
        if output.kind == "json_schema" and output.schema is not None:
            if self.target.vendor == NAME:
                written["responseJsonSchema"] = dict(output.schema)
            else:
                written["responseSchema"] = to_gemini(output.schema)
        return written


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


def _grammar(format_: Json) -> str:
    match format_:
        case {"definition": str(definition)}:
            return f"Plain text that follows this grammar:\n{definition}"
        case {"grammar": {"definition": str(definition)}}:
            return f"Plain text that follows this grammar:\n{definition}"
    return "Plain text"


_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")


def short_name(name: str) -> str:
    """A name this protocol takes, the same for the same name; a hash keeps changed ones apart (TRAPS T19)."""
    if _NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    legal = re.sub(r"[^a-zA-Z0-9_.:-]", "_", name)
    return ("" if re.match(r"[a-zA-Z_]", legal) else "_") + legal[:54] + "_" + digest


def _short_names(conversation: Conversation) -> dict[str, str]:
    names: Sequence[str] = [tool.name for tool in conversation.tools if isinstance(tool, Tool)]
    return {n: short_name(n) for n in (*names, *conversation.call_names().values()) if short_name(n) != n}
