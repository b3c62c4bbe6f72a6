"""Which message is the newest, and how the history looks to a model (SPEC 5.2).

Old messages of nothing but commands go, with the proxy's own answers to them; commands in others are taken out. The
same history gives the same result in every turn, so that providers' prompt caches keep working, and what nobody touched
stays the very same object.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from llm_interactive import wire_json
from llm_interactive.commands.authorship import is_content, without_client_blocks
from llm_interactive.commands.typed import Order, Typed, Typing, may_hold_commands, read, read_old
from llm_interactive.conversation import Conversation, Message, Part, Source, Text, Tool, ToolCall, ToolResult
from llm_interactive.spoken import ATTEMPT_COMPLETION

PRELUDE = re.compile(r"\](?:\n\n|\s*\Z)")
"""How `prelude` may end."""


def wants_attempt_completion(conversation: Conversation) -> bool:
    """Cline and Roo accept no other answer (SPEC 5.2)."""
    if any(isinstance(tool, Tool) and tool.name == ATTEMPT_COMPLETION for tool in conversation.tools):
        return True
    beginnings = [message for message in conversation.messages if message.role in ("system", "developer")]
    parts = [*conversation.system, *(part for message in beginnings for part in message.parts)]
    return any(isinstance(part, Text) and ATTEMPT_COMPLETION in part.text for part in parts)


def newest(messages: Sequence[Message]) -> int | None:
    """The number of the message that the user has just sent; None where the newest turn is a tool's or the model's.

    Behind a beginning of the answer that the client wrote itself (a prefill, text alone) it counts too."""
    end = len(messages)
    while end and messages[end - 1].role == "assistant" and all(isinstance(p, Text) for p in messages[end - 1].parts):
        end -= 1
    for number in range(end - 1, -1, -1):
        if messages[number].role == "assistant":
            return None
        if messages[number].role == "user":
            return number
    return None


def orders(conversation: Conversation, typing: Typing) -> tuple[Order, ...]:
    """The commands of the newest message."""
    number = newest(conversation.messages)
    return () if number is None else strip(conversation.messages[number], typing).orders


@dataclass(frozen=True, slots=True)
class Stripped:
    """A message without its commands. `has_content`: something for a model remains beside them."""

    message: Message
    orders: tuple[Order, ...]
    has_content: bool


def strip(message: Message, typing: Typing, *, old: bool = False) -> Stripped:
    """`message` is the same object where it holds no command."""
    if not any(isinstance(part, Text) and may_hold_commands(part.text, typing, old=old) for part in message.parts):
        return Stripped(message, (), has_content=True)
    reader = read_old if old else read
    typed = [reader(part.text, typing) if isinstance(part, Text) else None for part in message.parts]
    pieces = list(zip(message.parts, typed, strict=True))
    if not any(_is_changed(part, read_) for part, read_ in pieces):
        return Stripped(message, (), has_content=True)
    return Stripped(
        message.edit(parts=tuple(left for part, read_ in pieces for left in _left(part, read_))),
        tuple(order for read_ in typed if read_ is not None for order in read_.orders),
        has_content=any(read_ is None or is_content(read_.rest) for read_ in typed),
    )


def _is_changed(part: Part, typed: Typed | None) -> bool:
    return isinstance(part, Text) and typed is not None and (bool(typed.orders) or typed.rest != part.text)


def _left(part: Part, typed: Typed | None) -> Iterator[Part]:
    if typed is None or not isinstance(part, Text) or not _is_changed(part, typed):
        yield part
    else:
        yield from _with_text(part, typed.rest)


def _with_text(part: Text, rest: str) -> Iterator[Text]:
    """Protocols refuse parts of white space alone. What the client wrote beside the text (cache marks) stays."""
    if not rest.strip():
        return
    source = part.source
    match source:
        case Source(json=dict(own)) if own.get("text") == part.text:
            source = Source(source.protocol, {**own, "text": rest})
        case Source(json=str()):
            source = Source(source.protocol, rest)
        case _:
            source = None
    yield replace(part, text=rest, source=source)


def clean_history(
    conversation: Conversation, typing: Typing, *, own: Collection[str] = (), newest_too: bool = False
) -> Conversation:
    """`own`: digests of what the proxy said to prompts that held commands too (`own_answer`). `newest_too`: the
    newest message loses its commands as well, for a call that is to run none (counting tokens)."""
    messages = conversation.messages
    current = None if newest_too else newest(messages)
    cleaned = list(_cleaned(messages, typing, frozenset(own), current))
    if len(cleaned) == len(messages) and all(new is old for new, old in zip(cleaned, messages, strict=True)):
        return conversation
    return conversation.edit(messages=tuple(cleaned))


def _cleaned(
    messages: Sequence[Message], typing: Typing, own: Collection[str], current: int | None
) -> Iterator[Message]:
    gone: set[str] = set()  # ids of the proxy's own attempt_completion calls
    number = 0
    while number < len(messages):
        message = _without_results(messages[number], gone)
        number += 1
        if message is None:
            continue
        if message.role != "user" or number - 1 == current:
            yield message
            continue
        stripped = strip(message, typing, old=True)
        if not stripped.orders:
            yield stripped.message
            continue
        answer = _answer(messages, number)
        if not stripped.has_content and answer and not _is_own(answer):
            yield message  # a model answered: the proxy did not take it for commands then
            continue
        if stripped.has_content:
            yield stripped.message
        else:
            yield from _beside(message)
        if not stripped.has_content or own_answer(stripped.orders, _text_of(answer)) in own:
            gone |= {part.id for each in answer for part in each.parts if isinstance(part, ToolCall)}
            number += len(answer)
        elif answer:
            yield from _without_prelude(answer[0], stripped.orders, own)
            number += 1


def _answer(messages: Sequence[Message], start: int) -> Sequence[Message]:
    """The assistant's turn that begins at `start`, which may be cut into several messages."""
    end = start
    while end < len(messages) and messages[end].role == "assistant":
        end += 1
    return messages[start:end]


def _is_own(answer: Sequence[Message]) -> bool:
    """Whether the proxy could have said it: text, or an `attempt_completion`."""
    return all(
        isinstance(part, Text) or (isinstance(part, ToolCall) and part.name == ATTEMPT_COMPLETION)
        for message in answer
        for part in message.parts
    )


def _text_of(answer: Sequence[Message]) -> str:
    said: list[str] = []
    for message in answer:
        for part in message.parts:
            if isinstance(part, Text):
                said.append(part.text)
            elif isinstance(part, ToolCall) and part.name == ATTEMPT_COMPLETION:
                said.append(_result_of(part))
    return "".join(said)


def _result_of(call: ToolCall) -> str:
    try:
        arguments = wire_json.loads(call.arguments)
    except ValueError:
        return ""
    return str(arguments.get("result")) if isinstance(arguments, dict) else ""


def own_answer(orders: Sequence[Order], answer: str) -> str:
    """A digest of the commands of a message and what the proxy said to it, in place of a model or in front of it."""
    typed = "\0".join(order.source for order in orders)
    return hashlib.sha256(f"{typed}\0\0{answer.strip()}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def prelude(answers: Sequence[str]) -> str:
    """How confirmations stand in front of a model's answer."""
    return f"[{'; '.join(answers)}]\n\n"


def _without_prelude(message: Message, typed: Sequence[Order], own: Collection[str]) -> Iterator[Message]:
    first = message.parts[0] if message.parts else None
    if not (isinstance(first, Text) and first.text.startswith("[")):
        yield message
        return
    ends = (match.end() for match in PRELUDE.finditer(first.text))
    end = next((end for end in ends if own_answer(typed, first.text[:end]) in own), None)
    if end is None:
        yield message
    elif parts := (*_with_text(first, first.text[end:]), *message.parts[1:]):
        yield message.edit(parts=parts)


def _without_results(message: Message, gone: Collection[str]) -> Message | None:
    if not gone or not any(isinstance(part, ToolResult) and part.call_id in gone for part in message.parts):
        return message
    parts = tuple(part for part in message.parts if not (isinstance(part, ToolResult) and part.call_id in gone))
    return message.edit(parts=parts) if parts else None


def _beside(message: Message) -> Iterator[Message]:
    """What the client put beside commands that go: whole parts of its own, such as Claude Code's reminders."""
    parts = tuple(part for part in message.parts if isinstance(part, Text) and _is_block(part.text))
    if parts:
        yield message.edit(parts=parts)


def _is_block(text: str) -> bool:
    return bool(text.strip()) and not without_client_blocks(text).strip()
