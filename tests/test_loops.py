"""What a watch makes of frames: values in, values out; the wire is in the end-to-end tests (SPEC 7 and 8)."""

import json
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from llm_interactive import settings as settings_module
from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.config_file import ModelDefaults, defaults_for
from llm_interactive.conversation import Conversation, Message, Text, Thinking, ToolCall, ToolResult
from llm_interactive.errors import UpstreamError
from llm_interactive.events import (
    Ended,
    Event,
    Failed,
    Finished,
    Frame,
    Reason,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    Used,
)
from llm_interactive.exchange import Configuration, Exchange
from llm_interactive.loops import Loops, LoopWatch, rules
from llm_interactive.protocols.base import Call
from llm_interactive.reply import Verdict
from llm_interactive.sessions import Session
from llm_interactive.settings import Settings

SENTENCE = "I will now check the file again and run the tests. "
LOOPING = SENTENCE * 12
NOTICE = f"[Response cancelled: Loop detected - Pattern '{SENTENCE}' repeated 10 times]"
STOP = (Ended(Reason("stop")), Finished())
NOW = 1_800_000_000.0
ASKED = Conversation(model="m", messages=(Message(role="user", parts=(Text(text="Go on."),)),))


def watch(settings: Settings | None = None, session: Session | None = None, **options: Any) -> LoopWatch:
    loops = Loops(settings or Settings(), options.pop("clock", lambda: NOW))
    asked = options.pop("asked", ASKED)
    options.setdefault("may_be_raw", False)
    return loops.watch(session or Session("/s"), asked, "openai", "m", "openai_chat", **options)


def texts(text: str, piece: int = 9, choice: int = 0) -> list[Frame]:
    return [Frame(b"x", (TextDelta(text[at : at + piece], choice),)) for at in range(0, len(text), piece)]


def call(
    arguments: str = '{"at": 1}', name: str = "look", slot: int = 0, choice: int = 0, *, custom: bool = False
) -> list[Frame]:
    """Begins, two pieces, ends; a frame each."""
    middle = len(arguments) // 2
    events: list[Event] = [
        ToolCallStarted(slot, f"id{slot}", name, custom=custom, choice=choice),
        ToolCallDelta(slot, arguments[:middle], choice),
        ToolCallDelta(slot, arguments[middle:], choice),
        ToolCallEnded(slot, choice),
    ]
    return [Frame(b"x", (event,)) for event in events]


def play(watch: LoopWatch, frames: Iterable[Frame]) -> tuple[list[Event | bytes], Verdict | None]:
    """What goes on to the client, and the verdict that ended it."""
    told: list[Event | bytes] = []
    for frame in frames:
        verdict = watch(frame)
        for each in (frame,) if verdict is None else verdict.frames:
            told += [each] if isinstance(each, bytes) else each.events
        if verdict is not None and (verdict.end or verdict.again):
            return told, verdict
    return told, None


def text(told: Iterable[Event | bytes]) -> str:
    return "".join(each.text for each in told if isinstance(each, TextDelta))


def calls(told: Iterable[Event | bytes]) -> list[str]:
    return [each.id for each in told if isinstance(each, ToolCallStarted)]


# Tiers


def test_the_most_special_default_goes_first() -> None:
    names = ["*", "open*:m", "m", "n", "openai:m", "openai:n", "openai:*"]
    defaults = {name: ModelDefaults(tool_loop_max_repeats=at + 2) for at, name in enumerate(names)}
    found = [names[(each.tool_loop_max_repeats or 0) - 2] for each in defaults_for(defaults, "openai", "m")]
    assert found == ["openai:m", "m", "*", "open*:m", "openai:*"]


TIERS: list[tuple[str, str, Any, Any, Any, Callable[[Any], Any]]] = [
    ("loop_detection", "loop_detection_enabled", True, False, True, lambda rules: rules.text is not None),
    ("tool_loop_detection", "tool_loop_detection_enabled", True, False, True, lambda rules: rules.tools is not None),
    ("tool_loop_max_repeats", "tool_loop_max_repeats", 4, 5, 6, lambda rules: rules.tools.max_repeats),
    ("tool_loop_ttl", "tool_loop_ttl_seconds", 120, 7, 8, lambda rules: rules.tools.ttl_seconds),
    ("tool_loop_mode", "tool_loop_mode", "break", "chance_then_break", "break", lambda rules: rules.tools.mode),
]


@pytest.mark.parametrize(("of_session", "name", "server", "model", "session", "get"), TIERS, ids=[t[0] for t in TIERS])
def test_session_goes_before_model_default_before_server(
    of_session: str, name: str, server: Any, model: Any, session: Any, get: Callable[[Any], Any]
) -> None:
    mine = Session("s")
    assert get(rules(Settings(), mine, "openai", "m")) == server
    assert get(rules(Settings(**{name: model}), mine, "openai", "m")) == model
    defaults = {"open*:m": ModelDefaults(**{name: model}), "*": ModelDefaults(**{name: session})}
    settings = Settings(model_defaults=defaults)
    assert get(rules(settings, mine, "openai", "m")) == model
    assert get(rules(settings, mine, "gemini", "other")) == session
    setattr(mine, of_session, session)
    assert get(rules(settings, mine, "openai", "m")) == session


# Settings, as a person gives them


def from_environment(folder: Path, **given: str) -> Settings:
    return settings_module.load({}, given, folder)


def cut_at(settings: Settings, text_: str) -> int | None:
    """How many characters of the model's the client gets, where the rest is a loop."""
    told, verdict = play(watch(settings), texts(text_))
    if verdict is None:
        return None
    notice = told[-3]
    assert isinstance(notice, TextDelta)
    return len(text(told)) - len(notice.text)


WORDS = "Every morning at nine o'clock sharp she walks down to the harbour, counts the boats, and writes it down. "
LONG = WORDS + "Nobody has ever asked her why; the book is full of numbers, and the shelf behind her is full of books. "


@pytest.mark.parametrize(
    ("name", "value", "repeated", "before", "after"),
    [
        ("CONTENT_LOOP_THRESHOLD", "6", WORDS * 30, 10 * len(WORDS), 6 * len(WORDS)),
        ("CONTENT_CHUNK_SIZE", "120", "ha " * 99, 27 + 50, 27 + 120),
        ("MAX_PATTERN_LENGTH", "110", LONG * 30, 10 * len(LONG), 20 * len(LONG)),
        ("MAX_HISTORY_LENGTH", "110", LONG * 30, 10 * len(LONG), None),
        ("BUFFER_SIZE", "300", "-" * 3000, 2048, 300),
        ("ENABLED", "false", LOOPING, 10 * len(SENTENCE), None),
    ],
)
def test_every_setting_of_the_text_has_an_effect(
    tmp_path: Path, name: str, value: str, repeated: str, before: int | None, after: int | None
) -> None:
    assert cut_at(from_environment(tmp_path), repeated) == before
    assert cut_at(from_environment(tmp_path, **{f"LOOP_DETECTION_{name}": value}), repeated) == after


def test_the_raw_notice_is_bytes_between_text_and_end(tmp_path: Path) -> None:
    settings = from_environment(tmp_path, LOOP_DETECTION_NOTICE="raw")
    told, _ = play(watch(settings, may_be_raw=True), texts(LOOPING))
    assert told[-3:] == [b"data: " + NOTICE.encode() + b"\n\n", *STOP]
    assert text(told) == SENTENCE * 10
    told, _ = play(watch(settings), texts(LOOPING))
    assert told[-3:] == [TextDelta(NOTICE), *STOP]


@pytest.mark.parametrize(
    ("given", "delivered", "said"),
    [
        ({}, 3, "4 times within 120s"),
        ({"TOOL_LOOP_MAX_REPEATS": "2"}, 1, "2 times within 120s"),
        ({"TOOL_LOOP_TTL_SECONDS": "25"}, 9, ""),  # ten seconds pass between two calls
        ({"TOOL_LOOP_TTL_SECONDS": "35"}, 3, "4 times within 35s"),
        ({"TOOL_LOOP_DETECTION_ENABLED": "no"}, 9, ""),
        ({"TOOL_LOOP_MODE": "chance"}, 3, None),
    ],
)
def test_every_setting_of_tool_calls_has_an_effect(
    tmp_path: Path, given: dict[str, str], delivered: int, said: str | None
) -> None:
    session, time = Session("s"), count(int(NOW), 5)
    verdict, number = None, -1
    while verdict is None and number < 8:
        watching = watch(from_environment(tmp_path, **given), session, clock=lambda: float(next(time)))
        told, verdict = play(watching, [*call(), Frame(b"x", STOP)])
        number += 1
    assert number + (verdict is None) == delivered
    assert (verdict is not None and verdict.again) == (said is None)
    assert (said or "") in text(told)


# Text


@pytest.mark.parametrize("piece", [1, 7, 50, 10_000])
@pytest.mark.parametrize("kind", [TextDelta, ThinkingDelta])
def test_what_stands_before_a_loop_is_kept_however_it_is_cut(kind: type[TextDelta], piece: int) -> None:
    whole = "So. " + LOOPING
    frames = [Frame(b"x", (kind(whole[at : at + piece]),)) for at in range(0, len(whole), piece)]
    watching = watch()
    told, verdict = play(watching, frames)
    assert verdict is not None
    assert verdict.end
    kept = "".join(each.text for each in told[:-3] if isinstance(each, kind))
    assert kept == ("So. " + SENTENCE * 11)[: len(kept)]
    assert len(kept) == 4 + 10 * len(SENTENCE) - 2  # ". " stands before the first sentence too
    assert isinstance(told[-3], TextDelta)
    assert told[-2:] == [*STOP]
    assert watching.stop is not None
    assert watching.stop.note.startswith(f"loop in the {'text' if kind is TextDelta else 'reasoning'}: ")


def test_text_and_reasoning_and_choices_are_watched_apart() -> None:
    for kinds in ([TextDelta, ThinkingDelta], [TextDelta, lambda text: TextDelta(text, 1)]):
        frames = [Frame(b"x", tuple(kind(SENTENCE) for kind in kinds)) for _ in range(9)]
        told, verdict = play(watch(), [*frames, Frame(b"x", STOP)])
        assert verdict is None
        assert len(told) == 20
    told, verdict = play(watch(), [*texts("Fine. ", choice=1), *texts(LOOPING)])
    assert verdict is not None
    assert [each for each in told if isinstance(each, Ended)] == [Ended(Reason("stop")), Ended(Reason("stop"), 1)]


def test_a_whole_reply_keeps_its_usage_and_a_stream_gets_an_estimate() -> None:
    used = Used(Usage(7, 400, raw={"output_tokens": 400}))
    told, _ = play(watch(), [Frame(b"x", (TextDelta(LOOPING), Ended(Reason("length")), used, Finished()))])
    assert told[-3:] == [Ended(Reason("stop")), used, Finished()]
    begun = Frame(b"x", (Used(Usage(7, 1, 5, raw={"output_tokens": 1})),))
    told, _ = play(watch(), [begun, *texts(LOOPING)])
    assert told[-2] == Used(Usage(7, 129, 5))  # a token for every four of 513 characters
    last = told[-2]
    assert isinstance(last, Used)
    assert last.usage.raw is None
    told, _ = play(watch(), [Frame(b"x", (Used(Usage(7, 500)),)), *texts(LOOPING)])
    assert told[-2] == Used(Usage(7, 500))
    told, _ = play(watch(), [begun, *texts("So. "), begun, *texts(LOOPING)])  # told while it spoke: exact
    assert not isinstance(told[-2], Used)


# Tool calls


def after(number: int, frames: Callable[[], list[Frame]] = call, **given: Any) -> LoopWatch:
    """A watch in a session that has seen so many replies with this call."""
    session, settings = given.pop("session", Session("s")), Settings(**given)
    for _ in range(number):
        assert play(watch(settings, session), [*frames(), Frame(b"x", STOP)])[1] is None
    return watch(settings, session)


def test_only_what_could_be_a_loop_is_held() -> None:
    watching = after(3)
    assert [watching(frame) for frame in texts("Well, well.")] == [None, None]
    assert [watching(frame) for frame in call('{"at": 1}', "other")] == [None] * 4
    watching = after(3)
    started, first, second, ended = call('{"at": 2}')
    assert [watching(frame) for frame in (started, first)] == [Verdict(), Verdict()]
    assert watching(Frame(b": alive")) is None
    assert watching(second) == Verdict()
    assert watching(ended) == Verdict((started, first, second, ended))
    assert watching(Frame(b"x", STOP)) is None


@pytest.mark.parametrize("told_its_end", [True, False])
def test_a_call_is_whole_when_its_end_is_told_or_something_else_comes(told_its_end: bool) -> None:
    watching = after(3)
    frames = call() if told_its_end else [*call()[:3], *texts("And then?")]
    told, verdict = play(watching, frames)
    assert verdict is not None
    assert calls(told) == []
    assert text(told).startswith("Tool call loop detected: 'look' invoked")
    assert told[-2:] == [*STOP]


def test_a_call_that_the_client_has_got_cannot_be_taken_back() -> None:
    """The fourth is held only when it begins; here two begin before either is whole."""
    watching = after(2)
    first, second = call(slot=0), call(slot=1)
    frames = [first[0], second[0], *first[1:], *second[1:]]
    told, verdict = play(watching, frames)
    assert verdict is not None
    assert calls(told) == ["id0"]
    assert told[-2:] == [Ended(Reason("tool_calls")), Finished()]  # its result must be told, or no history is legal


def test_what_another_reply_counted_meanwhile_takes_no_call_back() -> None:
    session = Session("s")
    watching = after(2, session=session)
    started, *rest = call()
    assert watching(started) is None
    assert play(watch(session=session), call())[1] is None
    told, verdict = play(watching, rest)
    assert (len(told), verdict) == (3, None)


def test_a_call_without_an_end_is_whole_at_the_end_of_the_reply() -> None:
    def freeform() -> list[Frame]:
        return [*call("no JSON", custom=True)[:3]]

    told, verdict = play(after(3, freeform), [*freeform(), Frame(b"x", STOP)])
    assert verdict is not None
    assert calls(told) == []


def test_a_call_that_is_open_when_the_reply_is_stopped_is_ended() -> None:
    told, verdict = play(watch(), [*call()[:3], *texts(LOOPING)])
    assert verdict is not None
    assert told[-4:] == [ToolCallEnded(0), TextDelta(NOTICE), Ended(Reason("tool_calls")), Finished()]


def test_a_reply_that_fails_while_a_call_is_held_fails() -> None:
    failed = Frame(b"x", (Failed(UpstreamError("no more")),))
    told, verdict = play(after(3), [*call()[:2], failed])
    assert (told, verdict) == ([*failed.events], None)


def test_the_session_is_to_be_stored_once_a_call_was_counted() -> None:
    session = Session("s")
    watching = watch(session=session)
    play(watching, texts("Hello."))
    assert not watching.counted
    play(watching, call())
    assert watching.counted
    assert Session.from_json("s", 0, session.to_json()).tool_loop == session.tool_loop is not None


def test_a_call_that_was_not_delivered_is_stored_too() -> None:
    backend = ConfiguredBackend("openai", {"openai_chat": "http://provider.test/v1"}, (SecretStr("sk-x"),))
    configuration = Configuration({"openai": backend}, loops=Loops(Settings(), lambda: NOW))
    exchange = Exchange(Call("openai_chat", "generate", "/v1/chat/completions"), configuration)
    exchange.session = Session("/mine")
    after(3, session=exchange.session)
    before = exchange.session.tool_loop
    exchange.read(b'{"model": "openai:m", "messages": [{"role": "user", "content": "Look."}]}')
    exchange.plan()
    exchange.next_attempt()
    exchange.sent()
    exchange.answered(200, [("content-type", "application/json")])
    called = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}]
    message = {"role": "assistant", "content": None, "tool_calls": called}
    exchange.feed(json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}).encode())
    step = exchange.finish()
    assert step.ended
    assert b"Tool call loop detected" in b"".join((*step.chunks, *step.last))
    assert exchange.session.tool_loop != before
    assert exchange.session_changed


def test_sessions_are_counted_apart_and_a_restored_one_goes_on() -> None:
    mine = Session("mine")
    after(3, session=mine)
    assert play(watch(session=Session("other")), call())[1] is None
    restored = Session.from_json("mine", 0, mine.to_json())
    assert play(watch(session=restored), call())[1] is not None


# The second chance

CHANCE = {"tool_loop_mode": "chance_then_break"}
ASKED = Conversation(model="m", messages=(Message(role="user", parts=(Text(text="Look."),)),))


def test_the_model_is_told_what_it_repeats() -> None:
    watching = after(3, **CHANCE)
    thought = [Frame(b"x", (ThinkingDelta("Hm."), ThinkingEnded("openai_chat", "signed")))]
    told, verdict = play(watching, [*thought, *texts("Once more. "), *call()])
    assert verdict is not None
    assert verdict.again
    assert calls(told) == []
    assert text(told) == "Once more. "
    user, turn, result = watching.guide(ASKED).messages
    assert user == ASKED.messages[0]
    thinking, said, made = turn.parts
    assert isinstance(thinking, Thinking)
    assert (thinking.text, thinking.signature) == ("Hm.", "signed")
    assert (said, made) == (Text(text="Once more. "), ToolCall(id="id0", name="look", arguments='{"at": 1}'))
    [answer] = result.parts
    assert isinstance(answer, ToolResult)
    assert (answer.call_id, answer.is_error) == ("id0", True)
    [guidance] = answer.parts
    assert isinstance(guidance, Text)
    assert guidance.text.startswith("Tool call loop warning: the tool 'look' was called with identical arguments")


@pytest.mark.parametrize(
    ("begun", "expected"),
    [(True, "This call was passed on to the client"), (False, "This call was not executed either")],
)
def test_every_call_beside_it_gets_a_result(begun: bool, expected: str) -> None:
    other = call(name="other", slot=0)
    repeated = call(slot=1)
    watching = after(3, lambda: [*call(name="other"), *call(slot=1)], **CHANCE)
    frames = [*other, *repeated]
    if not begun:
        frames = [Frame(b"x", tuple(event for frame in frames for event in frame.events))]
    told, verdict = play(watching, frames)
    assert verdict is not None
    assert verdict.again
    assert calls(told) == (["id0"] if begun else [])
    _, turn, *results = watching.guide(ASKED).messages
    assert [part.id for part in turn.parts if isinstance(part, ToolCall)] == ["id0", "id1"]
    said = [part for message in results for part in message.parts if isinstance(part, ToolResult)]
    assert [result.call_id for result in said] == ["id0", "id1"]
    assert [result.is_error for result in said] == [False, True]
    [first] = said[0].parts
    assert isinstance(first, Text)
    assert first.text.startswith(expected)


def test_the_second_answer_may_be_another_call_but_not_the_same() -> None:
    for arguments, goes_on in (('{"at": 2}', True), ('{"at":1}', False)):
        watching = after(3, **CHANCE)
        play(watching, call())
        watching.renew()
        told, verdict = play(watching, [*call(arguments), Frame(b"x", STOP)])
        assert (verdict is None) == goes_on
        assert text(told).startswith("" if goes_on else "After guidance, Tool call loop detected: 'look'")
        assert calls(told) == (["id0"] if goes_on else [])


def test_there_is_one_second_chance_for_a_request() -> None:
    watching = after(3, **CHANCE)
    play(watching, call())
    watching.renew()
    told, verdict = play(watching, [frame for slot in range(4) for frame in call('{"at": 2}', slot=slot)])
    assert verdict is not None
    assert (verdict.end, verdict.again) == (True, False)
    assert calls(told) == ["id0", "id1", "id2"]
    assert text(told).startswith("After guidance, ")


def test_several_choices_have_no_second_chance() -> None:
    watching = after(3, **CHANCE)
    _, verdict = play(watching, [*texts("Fine. ", choice=1), *call()])
    assert verdict is not None
    assert verdict.end


def test_what_the_model_wrote_is_known_though_the_client_never_saw_it() -> None:
    watching = after(3)
    told, _ = play(watching, [*texts("Well. "), *call()])
    assert watching.stop is not None
    said = watching.stop.said([each.text for each in told if isinstance(each, TextDelta)])
    assert "".join(said) == 'Well. look{"at": 1}'


def test_where_no_session_is_named_a_new_conversation_counts_anew() -> None:
    """Independent conversations may be in it, which ask for the same at the same time."""
    went_on = ASKED.edit(messages=(*ASKED.messages, Message(role="assistant", parts=(Text(text="Once more."),))))
    kept = ASKED.edit(owned={"previous_response_id": "resp_1"})
    for asked, stopped in ((ASKED, False), (went_on, True), (kept, True)):
        default = Session("key/default")
        verdicts = [play(watch(session=default, asked=asked), call())[1] for _ in range(4)]
        assert [verdict is not None for verdict in verdicts] == [False, False, False, stopped]
