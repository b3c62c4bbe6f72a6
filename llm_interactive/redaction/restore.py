"""Secrets with numbers, and their way back into the tool calls that quote them (REDACTION_RESTORE).

An agent that edits a file with a secret in it would write the placeholder into the file. With numbers the model can
tell secrets apart, and the arguments of the calls that go to the client get them back. Text for people never does. The
numbers of a session live in memory only; a history that is sent again after a restart gets them in the same order.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from llm_interactive import wire_json
from llm_interactive.events import Event, Frame, ToolCallDelta, ToolCallEnded, ToolCallStarted
from llm_interactive.protocols.base import Json, ReplyWriter
from llm_interactive.redaction.scanner import Digest, digest

BEGINNING = "(API_KEY_HAS_BEEN_REDACTED_"
PLACEHOLDER = re.compile(re.escape(BEGINNING) + r"([1-9][0-9]{0,5})\)", re.ASCII)
LONGEST = len(BEGINNING) + 7

SPELLINGS = 3
"""How often a secret may be escaped in a reply: not, in an argument, in arguments that are JSON in a string."""


class Placeholders:
    """Of one session."""

    def __init__(self) -> None:
        self._numbers: dict[Digest, int] = {}
        self._secrets: list[str] = []

    @property
    def is_empty(self) -> bool:
        return not self._secrets

    def knows(self, secret: Digest) -> bool:
        return secret in self._numbers

    def learn(self, secret: str) -> None:
        name = digest(secret)
        if name not in self._numbers:
            self._secrets.append(secret)
            self._numbers[name] = len(self._secrets)

    def of(self, secret: Digest) -> str:
        return f"{BEGINNING}{self._numbers[secret]})"

    def restored(self, text: str, *, in_json: bool) -> str:
        """With the secrets in place of their placeholders; `in_json`: written as inside a JSON string."""

        def secret(match: re.Match[str]) -> str:
            number = int(match[1])
            if number > len(self._secrets):
                return match[0]
            plain = self._secrets[number - 1]
            return wire_json.text(plain)[1:-1] if in_json else plain

        return PLACEHOLDER.sub(secret, text)

    def hidden(self, data: bytes) -> bytes:
        """With the placeholders in place of the secrets, as text, inside JSON, and inside JSON in JSON."""
        for number, secret in enumerate(self._secrets, 1):
            spelling = secret
            for _ in range(SPELLINGS):
                data = data.replace(spelling.encode("utf-8", "surrogatepass"), f"{BEGINNING}{number})".encode())
                spelling = wire_json.text(spelling)[1:-1]
        return data


class PlaceholdersOfSessions:
    """Those of the sessions that were used last."""

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = capacity
        self._known: OrderedDict[str, Placeholders] = OrderedDict()

    def of(self, session: str) -> Placeholders:
        placeholders = self._known.setdefault(session, Placeholders())
        self._known.move_to_end(session)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return placeholders


class RestoringWriter(ReplyWriter):
    """Puts the secrets of a session into the arguments of tool calls on their way to the client. It holds back only
    what may be the beginning of a placeholder, and gives it out with the call's end at the latest."""

    def __init__(self, writer: ReplyWriter, placeholders: Placeholders) -> None:
        self.content_type = writer.content_type
        self._writer = writer
        self._placeholders = placeholders
        self._held: dict[tuple[int, int], str] = {}
        self._custom: set[tuple[int, int]] = set()
        self._rewrites = False

    @property
    def response(self) -> Mapping[str, Json]:
        return self._writer.response

    def write(self, frame: Frame) -> bytes:
        events = tuple(each for event in frame.events for each in self._event(event))
        self._rewrites = self._rewrites or events != frame.events or self._begins_a_call(events)
        return self._writer.write(frame._replace(events=events, edited=True) if self._rewrites else frame)

    def _begins_a_call(self, events: tuple[Event, ...]) -> bool:
        """From a call's beginning on no bytes of the provider go on: it would be too late once its arguments come, and
        the last bytes of a reply may repeat them (Responses)."""
        begun = sum(isinstance(event, ToolCallStarted) for event in events)
        ended = sum(isinstance(event, ToolCallEnded) for event in events)
        return begun > ended and not self._placeholders.is_empty

    def _event(self, event: Event) -> Iterator[Event]:
        match event:
            case ToolCallStarted(custom=True):
                self._custom.add((event.choice, event.slot))
            case ToolCallDelta():
                arguments = self._arguments(event)
                if arguments or not event.arguments:
                    yield replace(event, arguments=arguments)
                return
            case ToolCallEnded():
                if held := self._held.pop((event.choice, event.slot), ""):
                    yield ToolCallDelta(event.slot, held, event.choice)
        yield event

    def _arguments(self, event: ToolCallDelta) -> str:
        call = (event.choice, event.slot)
        text = self._held.pop(call, "") + event.arguments
        if "(" not in text:
            return text
        text = self._placeholders.restored(text, in_json=call not in self._custom)
        begin = text.rfind("(", max(0, len(text) - LONGEST))
        if begin >= 0 and _may_become_placeholder(text[begin:]):
            self._held[call] = text[begin:]
            return text[:begin]
        return text


def _may_become_placeholder(text: str) -> bool:
    if len(text) <= len(BEGINNING):
        return BEGINNING.startswith(text)
    return text.startswith(BEGINNING) and text[len(BEGINNING) :].isdigit()
