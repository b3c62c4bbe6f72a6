"""Reasoning that has to go back to the model with its tool calls, for clients whose protocol has no place for it.

Vendors sign the reasoning before a tool call and want it back in the next turn (TRAPS T52, T56, T57). It is remembered
by session and tool-call id (sessions.py), and put into the history again where the client left it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import is_

from llm_interactive.conversation import Conversation, Message, Part, Thinking, ToolCall


@dataclass(frozen=True, slots=True)
class Thought:
    """What stood before one call. `signature` is on the call itself (Gemini)."""

    parts: tuple[Thinking, ...] = ()
    signature: str | None = None


def restored(conversation: Conversation, known: Mapping[str, Thought]) -> Conversation:
    """With the thoughts, by call id, that the client left out; the same object where nothing is missing."""
    messages = tuple(_restored(message, known) for message in conversation.messages)
    if all(new is old for new, old in zip(messages, conversation.messages, strict=True)):
        return conversation
    return conversation.edit(messages=messages)


def without(conversation: Conversation) -> Conversation:
    """With no reasoning in the history, nor turns that held nothing else; the same object where there was none."""
    messages = []
    for message in conversation.messages:
        parts = tuple(part for part in message.parts if not isinstance(part, Thinking))
        if parts == message.parts:
            messages.append(message)
        elif parts:
            messages.append(message.edit(parts=parts))
    if len(messages) == len(conversation.messages) and all(map(is_, messages, conversation.messages)):
        return conversation
    return conversation.edit(messages=tuple(messages))


def _restored(message: Message, known: Mapping[str, Thought]) -> Message:
    calls = [part for part in message.parts if isinstance(part, ToolCall) and part.id in known]
    if message.role != "assistant" or not calls:
        return message
    has_thinking = any(isinstance(part, Thinking) for part in message.parts)
    first: list[Part] = []
    rest: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolCall) and (thought := known.get(part.id)) is not None:
            if not has_thinking:
                (rest if part is not calls[0] else first).extend(thought.parts)  # the first thinking opens the turn
            if part.signature is None and thought.signature is not None:
                part = replace(part, signature=thought.signature, source=None)
        rest.append(part)
    parts = (*first, *rest)
    return message if parts == message.parts else message.edit(parts=parts)


class Listener:
    """Collects the thoughts of one reply as its events go by."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._text: list[str] = []
        self._parts: list[Thinking] = []
        self.thoughts: dict[str, Thought] = {}

    def text(self, text: str) -> None:
        self._text.append(text)

    def ended(self, part: Thinking) -> None:
        self._parts.append(replace(part, text="".join(self._text)))
        self._text.clear()

    def called(self, id_: str, signature: str | None) -> None:
        if self._text:
            self.ended(Thinking(origin=self._origin))
        if self._parts or signature is not None:
            self.thoughts[id_] = Thought(tuple(self._parts), signature)
        self._parts.clear()
