"""What the proxy says in place of a model: a whole reply in the client's protocol, streamed if that was asked for."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_interactive import wire_json
from llm_interactive.conversation import Conversation
from llm_interactive.events import (
    Ended,
    Event,
    Finished,
    Frame,
    Reason,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    Used,
)
from llm_interactive.protocols.base import Call, Protocol, ReplyContext

ATTEMPT_COMPLETION = "attempt_completion"
ID = "proxy_cmd_processed"
ID_PREFIXES = {"anthropic_messages": "msg_"}
"""Of protocols whose clients look at it."""
WITHOUT_PREFIX = ("", "chatcmpl-")
"""Ids that no client checks or names again."""
NO_USAGE = Usage(input=0, output=0)


@dataclass(frozen=True, slots=True)
class Spoken:
    """`response`: what the client may name by its id later, see `ReplyWriter.response`."""

    content_type: str
    body: bytes
    response: Mapping[str, Any]


def speak(text: str, protocol: Protocol, conversation: Conversation, call: Call, *, as_completion: bool) -> Spoken:
    """`as_completion`: as a call of the tool `attempt_completion` (SPEC 5.2)."""
    context = ReplyContext(
        conversation=conversation,
        call=call,
        backend_protocol=call.protocol,
        model=conversation.model,
        mint=_mint,
        now=int(time.time()),
    )
    writer = protocol.reply_writer(context)
    started = Started(ID_PREFIXES.get(call.protocol, "") + ID, conversation.model, context.now)
    said = _completion(text) if as_completion else (TextDelta(text),)
    reason = Reason("tool_calls" if as_completion else "stop")
    events: tuple[Event, ...] = (started, *said, Ended(reason), Used(NO_USAGE), Finished())
    body = b"".join(writer.write(Frame(b"", (event,), edited=True)) for event in events)
    return Spoken(writer.content_type, body, writer.response)


def _completion(text: str) -> tuple[Event, ...]:
    started = ToolCallStarted(0, f"call_{ID}_{secrets.token_hex(8)}", ATTEMPT_COMPLETION)
    return started, ToolCallDelta(0, wire_json.text({"result": text})), ToolCallEnded(0)


def _mint(prefix: str) -> str:
    return ID if prefix in WITHOUT_PREFIX else f"{prefix}{ID}_{secrets.token_hex(8)}"
