"""Messages requests written: what came in this protocol goes on as it came, the rest is built from meaning.

anthropic_messages_history.py writes what was said, anthropic_messages_config.py tools and settings.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping

from llm_interactive.conversation import Conversation, Message, Tool
from llm_interactive.errors import CannotExpress
from llm_interactive.protocols import efforts
from llm_interactive.protocols.anthropic_messages_config import ConfigWriter
from llm_interactive.protocols.anthropic_messages_errors import NAME
from llm_interactive.protocols.anthropic_messages_history import HistoryWriter
from llm_interactive.protocols.base import Json, Notes, Target, WireRequest
from llm_interactive.protocols.efforts import with_forced_tool

VERSION_HEADER = "anthropic-version"
VERSION = "2023-06-01"
VENDOR_HEADERS = ("anthropic-beta", VERSION_HEADER)
BETA_QUERY = "beta"
"""`?beta=true` of the SDK's beta calls; kept among the client's headers."""

FIELD_KEYS: Mapping[str, tuple[str | None, tuple[str, ...]]] = {
    "sampling": (None, ("max_tokens", "temperature", "top_p", "top_k", "stop_sequences")),
    "system": (None, ("system",)),
    "messages": (None, ("messages",)),
    "tools": (None, ("tools",)),
    "tool_choice": (None, ("tool_choice",)),
    "reasoning": (None, ("thinking",)),
    "effort": ("output_config", ("effort",)),
    "output": ("output_config", ("format",)),
    "user": ("metadata", ("user_id",)),
    "stream": (None, ("stream",)),
}
"""Which wire keys a field of the conversation owns, and in which object."""

CANONICAL_KEYS = frozenset(
    ["model", "output_format"]
    + [key for holder, keys in FIELD_KEYS.values() for key in ((holder,) if holder else keys)]
)
NOT_COUNTED = frozenset(
    [
        "max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier",
        "container", "inference_geo", "diagnostics", "fallbacks", "fallback_credit_token", "thread",
    ]
)  # fmt: skip
"""Keys of a request that its counting does not take."""

UNKNOWN_KINDS: Mapping[str, tuple[str, ...]] = {
    "budget": ("adaptive",),
    "none": ("adaptive", "enabled"),
    "adaptive": ("enabled",),
}
"""How a model reasons -> the types of `thinking` that it does not know."""

REFUSED = ("previous_response_id", "conversation", "background", "prompt")
"""Request fields of others without which the request would mean something else (TRAPS T96)."""
HARMLESS_BETA = ("context_management", "diagnostics", "speed", "fallbacks", "fallback_credit_token", "inference_geo")
"""Fields that a foreign server refuses without their beta flag, and that only tune the answer (TRAPS T94)."""

CAPABILITIES: Mapping[str, str] = {
    "system": "carried (`system`)",
    "mid_system": "carried where the model takes it, mapped: moved to `system`",
    "images": "carried where the model sees, else noted",
    "image_url": "carried (http and https)",
    "pdf": "carried (`document`)",
    "audio": "refused",
    "video": "refused",
    "file_id": "refused unless it is Anthropic's own",
    "tools": "carried",
    "custom_tools": "mapped: a function with one string, `input`, and back",
    "server_tools": "mapped: web search; others noted beside functions, refused alone",
    "tool_choice": "carried, without thinking where both cannot be; in words where it cannot be forced",
    "parallel_tool_calls": "carried (`disable_parallel_tool_use`)",
    "tool_result_images": "carried",
    "tool_result_error": "carried (`is_error`)",
    "structured_output": "carried (`output_config.format`), mapped: an instruction for JSON without a schema",
    "stop": "carried, those of white space only noted",
    "max_tokens": "carried, else the model's most",
    "temperature": "carried up to 1, noted where the model refuses it or thinks",
    "top_p": "carried, noted where the model refuses it or thinks",
    "top_k": "carried, noted where the model refuses it or thinks",
    "seed": "noted",
    "penalties": "noted",
    "n": "noted, one answer is given",
    "logprobs": "noted",
    "logit_bias": "noted",
    "reasoning_effort": "mapped: adaptive thinking with `effort`, or a budget (older models)",
    "reasoning_budget": "carried (`budget_tokens`), mapped: effort by size of the budget (newer models)",
    "reasoning_signatures": "Anthropic's own carried, others stay with their owner",
    "citations": "noted in history",
    "refusal": "mapped: text",
    "user": "carried (`metadata.user_id`)",
    "metadata": "noted",
    "service_tier": "noted",
    "stored_state": "refused",
    "prompt_cache_marks": "noted",
}


def write_request(conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
    body, names = _body(conversation, target, notes)
    return _wire("/messages", body, conversation, target, names)


def write_count_request(conversation: Conversation, target: Target, notes: Notes) -> WireRequest:
    body, names = _body(conversation, target, notes)
    counted = {key: value for key, value in body.items() if key not in NOT_COUNTED}
    return _wire("/messages/count_tokens", counted, conversation, target, names)


def _wire(
    path: str, body: dict[str, Json], conversation: Conversation, target: Target, names: Mapping[str, str]
) -> WireRequest:
    """Beta flags go to Anthropic only, with the body that they belong to (TRAPS T94)."""
    own = conversation.read_by(NAME) is not None and target.vendor == "anthropic"
    headers = dict(conversation.client_headers) if own else {}
    beta = headers.pop(BETA_QUERY, None)
    return WireRequest(
        path=path,
        query=f"{BETA_QUERY}={beta}" if beta else "",
        body=body,
        headers={VERSION_HEADER: VERSION, **headers},
        tool_names={short: name for name, short in names.items()},
    )


def _body(conversation: Conversation, target: Target, notes: Notes) -> tuple[dict[str, Json], dict[str, str]]:
    own = conversation.read_by(NAME)
    conversation = with_forced_tool(conversation, target, notes)
    names: dict[str, str] = {}
    if own is not None:
        body = dict(own)
        fields: Iterable[str] = _to_write(conversation, target, body)
        if target.vendor != "anthropic":
            _leave_out_beta(body, notes)
    else:
        body, fields = {"model": target.model}, FIELD_KEYS
        names = _short_names(conversation)
        _note_foreign(conversation, notes)
    body["model"] = target.model
    if fields:
        write = _writers(conversation, target, notes, names)
        for field in fields:
            holder, keys = FIELD_KEYS[field]
            _put(body, holder, keys, write[field]())
        ConfigWriter(conversation, target, notes, names).settle(body)
    return body, names


def _to_write(conversation: Conversation, target: Target, body: dict[str, Json]) -> list[str]:
    """Fields of an own request that cannot go on as they came: edited ones, and what another model does not take."""
    wanted = set(conversation.changed)
    if any(message.source is None for message in conversation.messages):
        wanted.add("messages")
    if not target.facts.mid_system and any(_must_move(message, target) for message in conversation.messages):
        wanted |= {"messages", "system"}
    wanted |= _misfits(body, conversation, target)
    if "reasoning" in wanted:
        wanted.add("effort")
    if "output" in wanted:
        body.pop("output_format", None)
    return [field for field in FIELD_KEYS if field in wanted]


def _must_move(message: Message, target: Target) -> bool:
    """Instructions between turns, for a model that takes none: Anthropic may judge its own client's by itself."""
    return message.role in ("system", "developer") and (target.vendor != "anthropic" or message.source is None)


def _misfits(body: dict[str, Json], conversation: Conversation, target: Target) -> set[str]:
    """What the model is known to refuse as the client wrote it (TRAPS T60, T62, T65)."""
    facts = target.facts
    found = set()
    kind = (body.get("thinking") or {}).get("type")
    effort = (body.get("output_config") or {}).get("effort")
    if effort and facts.reasoning in ("budget", "none") and not facts.efforts:
        found.add("reasoning")
    if effort in efforts.EFFORTS and facts.efforts and effort not in facts.efforts:
        found.add("reasoning")
    forced = (body.get("tool_choice") or {}).get("type") in ("any", "tool")
    may_budget = kind == "enabled" and facts.takes_budgets and not forced  # T20
    if kind in UNKNOWN_KINDS.get(facts.reasoning, ()) and not may_budget:
        found.add("reasoning")
    if kind in ("disabled", "between_tools") and (kind != facts.reasoning_off or not facts.can_disable_reasoning):
        found.add("reasoning")
    if kind == "enabled" and efforts.misses(conversation.reasoning, facts):
        found.add("reasoning")
    if efforts.does_not_fit(conversation, target) or (conversation.sampling.temperature or 0) > 1:
        found.add("sampling")
    return found


def _leave_out_beta(body: dict[str, Json], notes: Notes) -> None:
    for key in HARMLESS_BETA:
        if body.pop(key, None) is not None:
            notes.add(f"{key}: not sent, it belongs to Anthropic")


def _writers(
    conversation: Conversation, target: Target, notes: Notes, names: Mapping[str, str]
) -> Mapping[str, Callable[[], dict[str, Json]]]:
    history = HistoryWriter(conversation, target, notes, names)
    config = ConfigWriter(conversation, target, notes, names)
    own = conversation.read_by(NAME) is not None

    def system() -> dict[str, Json]:
        blocks = history.system() + config.format_instruction()
        if not blocks:
            return {}
        plain = not own and all(block.keys() == {"type", "text"} for block in blocks)
        return {"system": "\n\n".join(block["text"] for block in blocks) if plain else blocks}

    return {
        "sampling": config.sampling,
        "system": system,
        "messages": lambda: {"messages": history.own_messages() if own else history.messages()},
        "tools": config.tools,
        "tool_choice": config.tool_choice,
        "reasoning": config.thinking,
        "effort": config.effort,
        "output": config.output,
        "user": lambda: {"user_id": conversation.user} if conversation.user else {},
        "stream": lambda: {"stream": True} if conversation.stream else {},
    }


def _put(body: dict[str, Json], holder: str | None, keys: Iterable[str], values: dict[str, Json]) -> None:
    """Take these keys out and put the values in; an object that ends up empty goes too."""
    if holder is not None:
        inner = dict(body.get(holder) or {})
        _put(inner, None, keys, values)
        body.pop(holder, None)
        if inner:
            body[holder] = inner
        return
    for key in keys:
        body.pop(key, None)
    body |= values


def _note_foreign(conversation: Conversation, notes: Notes) -> None:
    for key, value in conversation.owned.items():
        if key in REFUSED and value:
            raise CannotExpress(f"'{key}' needs state that an Anthropic backend does not have", param=key)
        if value is not None:
            notes.add(f"{key}: not sent, Anthropic has no such field")
    if conversation.metadata:
        notes.add("metadata: not sent, Anthropic takes a user's id only")


_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def short_name(name: str) -> str:
    """A name this protocol takes, the same for the same name; a hash keeps changed ones apart (TRAPS T19)."""
    if _NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:119] + "_" + digest


def _short_names(conversation: Conversation) -> dict[str, str]:
    names = [tool.name for tool in conversation.tools if isinstance(tool, Tool)]
    return {n: short_name(n) for n in (*names, *conversation.call_names().values()) if short_name(n) != n}
