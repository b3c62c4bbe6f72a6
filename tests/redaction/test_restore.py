"""Numbered placeholders, and the arguments of tool calls that get their secrets back."""

import json
from typing import Any

import pytest

from llm_interactive import protocols, wire_json
from llm_interactive.conversation import Conversation, Message, Text, ToolCall
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
)
from llm_interactive.protocols.base import Call, ReplyContext, ReplyWriter
from llm_interactive.redaction.redactor import Redactor
from llm_interactive.redaction.restore import Placeholders, PlaceholdersOfSessions, RestoringWriter

PASSWORD = 'postgres://u:pa"ss\\word@h'
KEY = "sk-" + "a1B2" * 12
PEM = "-----BEGIN PRIVATE KEY-----\n" + "a1B2" * 16 + "\n-----END PRIVATE KEY-----"
ONE, TWO = "(API_KEY_HAS_BEEN_REDACTED_1)", "(API_KEY_HAS_BEEN_REDACTED_2)"


class Recording(ReplyWriter):
    """Writes nothing, and remembers what it was given."""

    content_type = "text/plain"

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def write(self, frame: Frame) -> bytes:
        self.frames.append(frame)
        return frame.source

    def events(self) -> list[Event]:
        return [event for frame in self.frames for event in frame.events]


def known(*secrets: str) -> Placeholders:
    placeholders = Placeholders()
    for secret in secrets:
        placeholders.learn(secret)
    return placeholders


def said(text: str, placeholders: Placeholders) -> str:
    return Redactor().begin(placeholders).text(text)


def test_secrets_get_numbers_that_stay() -> None:
    placeholders = Placeholders()
    assert said(f"{KEY} and {PEM}", placeholders) == f"{ONE} and {TWO}"
    assert said(f"{PEM} {KEY}", placeholders) == f"{TWO} {ONE}"
    assert placeholders.restored(f"{TWO}, {ONE}", in_json=False) == f"{PEM}, {KEY}"


def test_numbers_are_those_of_the_session() -> None:
    redactor, sessions = Redactor(), PlaceholdersOfSessions(capacity=2)
    long = "x " * 600
    assert redactor.begin(sessions.of("a")).text(f"{long}{KEY}") == long + ONE
    assert redactor.begin(sessions.of("b")).text(PEM) == ONE
    assert redactor.begin(sessions.of("b")).text(f"{long}{KEY}") == long + TWO
    assert redactor.begin(sessions.of("a")).text(f"{long}{KEY}") == long + ONE
    sessions.of("c")
    assert not sessions.of("b").knows(b"")
    assert sessions.of("b").restored(ONE, in_json=False) == ONE


def test_a_secret_has_one_number_in_text_and_in_arguments() -> None:
    """The next turn brings back what was restored: the model must read what it wrote."""
    call = {"name": "write", "arguments": json.dumps({"text": f"B={PEM}"})}
    messages = [
        {"role": "user", "content": f"See {PEM} there."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c", "content": json.dumps({"wrote": PEM, "key": KEY})},
    ]
    body = {"model": "m", "messages": messages}
    conversation = protocols.named("openai_chat").read_request(body, Call("openai_chat", "generate", "/"))
    redaction = Redactor().begin(placeholders := Placeholders())
    first, second, _ = redaction.conversation(conversation).messages
    [written] = [part.arguments for part in second.parts if isinstance(part, ToolCall)]
    assert first.text == f"See {ONE} there."
    assert json.loads(written) == {"text": f"B={ONE}"}
    assert json.loads(placeholders.restored(written, in_json=True)) == {"text": f"B={PEM}"}


def test_numbers_nobody_gave_stay() -> None:
    text = "(API_KEY_HAS_BEEN_REDACTED_2) (API_KEY_HAS_BEEN_REDACTED_0) (API_KEY_HAS_BEEN_REDACTED) (API_KEY"
    assert known(KEY).restored(text, in_json=True) == text


def test_arguments_stay_json() -> None:
    restored = known('a"b\\c\nd').restored(json.dumps({"x": f"<{ONE}>"}), in_json=True)
    assert json.loads(restored) == {"x": '<a"b\\c\nd>'}


@pytest.mark.parametrize("size", [1, 2, 5, 29, 1000])
@pytest.mark.parametrize("custom", [False, True])
def test_a_placeholder_in_pieces_is_restored(size: int, custom: bool) -> None:
    plain = f'({{"at": "f(x) (API_KEY {ONE}{TWO}(API_KEY_HAS_BEEN_REDACTED_9) (API_KEY_HAS_BEEN_REDACTED_'
    writer = RestoringWriter(recording := Recording(), known(KEY, PEM))
    writer.write(Frame(b"s", (ToolCallStarted(0, "c", "look", custom=custom),)))
    for begin in range(0, len(plain), size):
        writer.write(Frame(b"d", (ToolCallDelta(0, plain[begin : begin + size]),)))
    writer.write(Frame(b"e", (ToolCallEnded(0),)))
    events = recording.events()
    arguments = "".join(event.arguments for event in events if isinstance(event, ToolCallDelta))
    pem = PEM if custom else wire_json.text(PEM)[1:-1]
    assert arguments == plain.replace(ONE, KEY).replace(TWO, pem)
    assert isinstance(events[-1], ToolCallEnded)


def test_only_what_may_become_a_placeholder_is_held_back() -> None:
    writer = RestoringWriter(recording := Recording(), known(KEY))
    for piece in ('{"a": "f(', "x) (API_KEY", "S) (API_KEY_HAS_BEEN_REDACTED_1", ')"}'):
        writer.write(Frame(b"d", (ToolCallDelta(0, piece),)))
    pieces = [event.arguments for event in recording.events() if isinstance(event, ToolCallDelta)]
    assert pieces == ['{"a": "f', "(x) ", "(API_KEYS) ", KEY + '"}']


def test_calls_that_overlap_do_not_mix() -> None:
    writer = RestoringWriter(recording := Recording(), known(KEY))
    for slot, piece in ((0, ONE[:9]), (1, ONE[:20]), (0, ONE[9:]), (1, ONE[20:])):
        writer.write(Frame(b"d", (ToolCallDelta(slot, piece),)))
    assert [(e.slot, e.arguments) for e in recording.events() if isinstance(e, ToolCallDelta)] == [(0, KEY), (1, KEY)]


def test_text_for_people_and_untouched_replies_go_on_as_they_came() -> None:
    writer = RestoringWriter(recording := Recording(), known(KEY))
    frames = [
        Frame(b"1", (TextDelta(f"It is {ONE}."),)),
        Frame(b"2", (ToolCallStarted(0, "c", "look"), ToolCallDelta(0, '{"a": (1)}'), ToolCallEnded(0))),
        Frame(b"3", (Ended(Reason("stop")), Finished())),
    ]
    assert [writer.write(frame) for frame in frames] == [b"1", b"2", b"3"]
    assert recording.frames == frames


@pytest.mark.parametrize("protocol", protocols.NAMES)
@pytest.mark.parametrize("stream", [True, False])
def test_every_protocol_gives_the_secret_back_in_its_own_shape(protocol: str, stream: bool) -> None:
    """The provider's own bytes would say the placeholder: none of them goes on."""
    conversation = Conversation(model="m", messages=(Message(role="user", parts=(Text(text="x"),)),), stream=stream)

    def writer() -> ReplyWriter:
        call = Call(protocol, "generate", "/", model="m", stream=stream)
        context = ReplyContext(conversation, call, protocol, "m", lambda prefix: prefix + "1", 1)
        return protocols.named(protocol).reply_writer(context)

    argument = {"path": ".env", "text": f"A={ONE}\nB={TWO}"}
    events: list[Event] = [Started("id", "m"), TextDelta("Look."), ToolCallStarted(0, "call_1", "write")]
    events += [ToolCallDelta(0, json.dumps(argument)), ToolCallEnded(0), Ended(Reason("tool_calls")), Finished()]
    cut = [(event,) for event in events] if stream else [tuple(events)]
    source = writer()
    sent = [source.write(Frame(b"", each)) for each in cut]
    reader, restoring = protocols.named(protocol).reply_reader(stream), RestoringWriter(writer(), known(KEY, PEM))
    written = b"".join(restoring.write(frame) for data in sent for frame in reader.feed(data))
    written += b"".join(restoring.write(frame) for frame in reader.finish())
    assert b"REDACTED" not in written
    again = protocols.named(protocol).reply_reader(stream)
    frames = [*again.feed(written), *again.finish()]
    arguments: Any = "".join(e.arguments for frame in frames for e in frame.events if isinstance(e, ToolCallDelta))
    assert json.loads(arguments) == {"path": ".env", "text": f"A={KEY}\nB={PEM}"}
    hidden = known(KEY, PEM).hidden(written)
    assert KEY.encode() not in hidden
    assert b"a1B2a1B2" not in hidden
