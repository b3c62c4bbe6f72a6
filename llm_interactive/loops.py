"""What watches a reply for loops and what the client gets in place of the rest (SPEC 7 and 8).

Text: a detector for the text and one for the reasoning of each choice. On a finding what stands before it is kept, and
the notice follows as ordinary text. Tool calls: counted over the replies of a session. A call that could complete a
loop is held, with all that comes behind it, until its arguments are whole; then it goes on, or a notice takes its
place, or the backend is asked again with guidance. The events that end a reply early are legal in every protocol.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from llm_interactive import wire_json
from llm_interactive.config_file import defaults_for
from llm_interactive.conversation import Conversation, Message, Part, Text, Thinking, ToolCall, ToolResult
from llm_interactive.detectors.repeated_text import Finding, RepeatedText, TextLoopLimits, text_loop_notice
from llm_interactive.detectors.repeated_tool_calls import (
    RepeatedToolCalls,
    ToolLoopLimits,
    break_notice,
    guidance,
)
from llm_interactive.events import (
    CONTENT,
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
from llm_interactive.reply import Verdict
from llm_interactive.sessions import Session
from llm_interactive.settings import Settings

MAX_CHECKS = 8
"""How often a call's arguments are tried for being whole before its end is told: each try reads all of them."""
CALL_EVENTS = (ToolCallStarted, ToolCallDelta, ToolCallEnded)
SIGNS_OF_LIFE = (b":", b"event: ping")
"""How the source of a frame begins that means nothing but that the upstream is alive."""
CHARACTERS_PER_TOKEN = 4
"""A rule of thumb, for what a provider that was stopped did not come to tell."""
PATTERN_SHOWN = 80
"""Characters of a pattern in usage rows and the log."""

ALSO_CALLED = "This call was passed on to the client together with your answer; its result will follow."
NOT_CALLED = "This call was not executed either, because of the repeated call beside it."


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one reply. None: loops of that kind are not looked for. `raw`: the notice of a text loop is a bare
    line of the stream."""

    text: TextLoopLimits | None = None
    tools: ToolLoopLimits | None = None
    raw: bool = False

    @property
    def may_guide(self) -> bool:
        return self.tools is not None and self.tools.mode == "chance_then_break"


def rules(settings: Settings, session: Session, backend: str, model: str) -> Rules:
    """Each value from the first tier that has one: session, model default, server (SPEC 2)."""
    defaults = defaults_for(settings.model_defaults, backend, model)

    def tier(of_session: Any, name: str) -> Any:
        of_model = (getattr(each, name) for each in defaults)
        return next((value for value in (of_session, *of_model) if value is not None), getattr(settings, name))

    text = TextLoopLimits(
        buffer_size=settings.loop_detection_buffer_size,
        max_pattern_length=settings.loop_detection_max_pattern_length,
        chunk_size=settings.loop_detection_content_chunk_size,
        loop_threshold=settings.loop_detection_content_loop_threshold,
        max_history_length=settings.loop_detection_max_history_length,
    )
    tools = ToolLoopLimits(
        max_repeats=tier(session.tool_loop_max_repeats, "tool_loop_max_repeats"),
        ttl_seconds=tier(session.tool_loop_ttl, "tool_loop_ttl_seconds"),
        mode=tier(session.tool_loop_mode, "tool_loop_mode"),
    )
    return Rules(
        text=text if tier(session.loop_detection, "loop_detection_enabled") else None,
        tools=tools if tier(session.tool_loop_detection, "tool_loop_detection_enabled") else None,
        raw=settings.loop_detection_notice == "raw",
    )


@dataclass(frozen=True, slots=True)
class Loops:
    """`clock`: seconds since the epoch."""

    settings: Settings = field(default_factory=Settings)
    clock: Callable[[], float] = time.time

    def with_settings(self, settings: Settings) -> "Loops":
        return replace(self, settings=settings)

    def watch(
        self, session: Session, conversation: Conversation, backend: str, model: str, origin: str, *, may_be_raw: bool
    ) -> "LoopWatch":
        """`origin`: the backend's protocol. `may_be_raw`: the client's is one whose stream can carry a bare line.

        Clients that name no session share one: there a conversation that begins has made no calls yet."""
        if session.is_default and _begins(conversation):
            session.tool_loop = None
        found = rules(self.settings, session, backend, model)
        return LoopWatch(replace(found, raw=found.raw and may_be_raw), session, self.clock, origin)


def _begins(conversation: Conversation) -> bool:
    kept = any(conversation.owned.get(key) for key in ("previous_response_id", "conversation"))
    return not kept and not any(message.role == "assistant" for message in conversation.messages)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a reply was ended early: for the usage row, the flow and the log. `notice`: what the client was told;
    `unsaid`: what the model wrote and the client never saw."""

    note: str
    notice: str = ""
    unsaid: tuple[str, ...] = ()

    def said(self, told: Sequence[str]) -> list[str]:
        """What the model wrote, of what the client was told."""
        ours = 1 if self.notice and told and told[-1] == self.notice else 0
        return [*told[: len(told) - ours], *self.unsaid]


class _Watched:
    """The text or the reasoning of one choice."""

    __slots__ = ("_detector", "_read")

    def __init__(self, limits: TextLoopLimits) -> None:
        self._detector = RepeatedText(limits)
        self._read = 0

    def saw(self, text: str) -> tuple[str, Finding] | None:
        """What is kept of this piece, and the finding."""
        finding = self._detector.saw(text)
        if finding is not None:
            return text[: max(0, finding.position - self._read)], finding
        self._read += len(text)
        return None


@dataclass(slots=True, eq=False)
class _Call:
    """`held`: the client does not see it yet. `counted`: its arguments are whole and the detector has seen it."""

    started: ToolCallStarted
    held: bool
    pieces: list[str] = field(default_factory=list)
    ended: bool = False
    counted: bool = False
    checks: int = 0

    @property
    def key(self) -> tuple[int, int]:
        return self.started.choice, self.started.slot

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def is_whole(self) -> bool:
        """Whether no further piece can belong to it, though its end was not told."""
        if self.started.custom or self.checks >= MAX_CHECKS or not self.pieces:
            return False
        if not self.pieces[-1].rstrip().endswith("}"):
            return False
        self.checks += 1
        try:
            wire_json.loads(self.arguments)
        except ValueError:
            return False
        return True


class _Loop(NamedTuple):
    """A loop, found at the event of that number in a frame. `cut`: what is kept of that event. `call`: the one that is
    not delivered. `guide`: what the model is told instead of being stopped."""

    number: int
    choice: int
    notice: str
    note: str
    cut: Event | None = None
    call: _Call | None = None
    guide: str | None = None

    def unsaid(self) -> tuple[str, ...]:
        return () if self.call is None else (self.call.started.name, *self.call.pieces)


class _Answer:
    """What a model said so far, as it stands in a history."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._parts: list[Part] = []
        self._text: list[str] = []
        self._thinking: list[str] = []

    def saw(self, event: Event) -> None:
        match event:
            case TextDelta(text=text):
                self._end_thinking()
                self._text.append(text)
            case ThinkingDelta(text=text):
                self._end_text()
                self._thinking.append(text)
            case ThinkingEnded():
                self._end_thinking(event)

    def _end_text(self) -> None:
        if self._text:
            self._parts.append(Text(text="".join(self._text)))
            self._text.clear()

    def _end_thinking(self, ended: ThinkingEnded | None = None) -> None:
        text = "".join(self._thinking)
        self._thinking.clear()
        if ended is None:
            if text:
                self._parts.append(Thinking(text=text, origin=self._origin))
        elif ended.signature is not None or ended.redacted is not None:
            # unsigned reasoning that a vendor keeps by its id is gone with the cancelled reply
            signed = Thinking(text=text, signature=ended.signature, redacted=ended.redacted, origin=ended.origin)
            self._parts.append(replace(signed, item_id=ended.item_id))

    def parts(self) -> tuple[Part, ...]:
        self._end_thinking()
        self._end_text()
        return tuple(self._parts)


class LoopWatch:
    """Watches one answer, frame by frame. After `renew` it watches the second one, which goes on with the reply.

    `origin`: the protocol of the backend."""

    def __init__(self, rules: Rules, session: Session, clock: Callable[[], float], origin: str) -> None:
        self._rules = rules
        self._session = session
        self._clock = clock
        self._origin = origin
        self._over: dict[int, bool] = {0: False}
        """Choices seen, and whether they have ended."""
        self._delivered: set[int] = set()
        """Choices in which the client has got a call."""
        self._begun = False
        """Whether the client has got something of an answer."""
        self.guided = False
        self.counted = False
        """Whether the session has something new to be stored."""
        self.stop: Stop | None = None
        self._guidance: tuple[Message, ...] = ()
        self._reset()

    def _reset(self) -> None:
        self._watched: dict[tuple[type, int], _Watched] = {}
        self._calls: dict[tuple[int, int], _Call] = {}
        self._open: list[_Call] = []
        """Calls that are not counted yet."""
        self._queue: list[Frame] = []
        self._answer = _Answer(self._origin)
        self._characters = 0
        self._told: Usage | None = None
        """What the provider told of the usage before it said anything."""

    def guide(self, conversation: Conversation) -> Conversation:
        """The conversation with the repeated call and, as its result, the guidance."""
        return conversation.edit(messages=(*conversation.messages, *self._guidance))

    def renew(self) -> None:
        self.guided, self.stop = True, None
        self._reset()

    def __call__(self, frame: Frame) -> Verdict | None:
        loop = self._look(frame.events)
        if loop is not None:
            return self._end(frame, loop) if loop.guide is None else self._ask_again(frame, loop, loop.guide)
        if any(call.held for call in self._open):
            if frame.source.startswith(SIGNS_OF_LIFE) and not frame.events:
                return None
            self._queue.append(frame)
            return Verdict()
        if not self._queue:
            self._pass(frame.events)
            return None
        frames = (*self._queue, frame)
        self._queue = []
        for each in frames:
            self._pass(each.events)
        return Verdict(frames)

    def _pass(self, events: Iterable[Event]) -> None:
        """Note what the client gets."""
        for event in events:
            if isinstance(event, CONTENT):
                self._begun = True
                self._over.setdefault(event.choice, False)
                if isinstance(event, ToolCallStarted):
                    self._delivered.add(event.choice)
            elif isinstance(event, Ended):
                self._over[event.choice] = True

    # finding

    def _look(self, events: Sequence[Event]) -> _Loop | None:
        for number, event in enumerate(events):
            loop = self._count_whole(number, event) if self._open else None
            if loop is None and isinstance(event, TextDelta | ThinkingDelta):
                self._characters += len(event.text)
                loop = self._look_at_text(number, event)
            elif isinstance(event, Used):
                self._told = event.usage if self._characters == 0 else None
            elif loop is None:
                loop = self._look_at_call(number, event)
            if loop is not None:
                return loop
        return None

    def _look_at_text(self, number: int, event: TextDelta | ThinkingDelta) -> _Loop | None:
        if self._rules.may_guide:
            self._answer.saw(event)
        if self._rules.text is None:
            return None
        key = type(event), event.choice
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = _Watched(self._rules.text)
        found = watched.saw(event.text)
        if found is None:
            return None
        kept, finding = found
        where = "text" if isinstance(event, TextDelta) else "reasoning"
        pattern = finding.pattern[:PATTERN_SHOWN]
        note = (
            f"loop in the {where}: {pattern!r} repeated {finding.repeats} times, ended at {finding.position} characters"
        )
        return _Loop(number, event.choice, text_loop_notice(finding), note, cut=replace(event, text=kept))

    def _look_at_call(self, number: int, event: Event) -> _Loop | None:
        if self._rules.tools is None:
            return None
        match event:
            case ToolCallStarted():
                self._start(event, self._rules.tools)
            case ToolCallDelta(choice=choice, slot=slot, arguments=arguments):
                self._characters += len(arguments)
                if (call := self._calls.get((choice, slot))) is not None:
                    call.pieces.append(arguments)
            case ToolCallEnded(choice=choice, slot=slot):
                if (call := self._calls.get((choice, slot))) is not None:
                    call.ended = True
                    return self._count(number, call)
            case ThinkingEnded():
                self._answer.saw(event)
            case Failed():
                self._open, self._queue = [], []
        return None

    def _start(self, event: ToolCallStarted, limits: ToolLoopLimits) -> None:
        """What begins beside a call that is not whole yet is held too: they could be the same."""
        could = self._past().would_complete(event.name, self._clock(), limits)
        call = _Call(event, held=could or bool(self._open))
        self._calls[call.key] = call
        self._open.append(call)

    def _count_whole(self, number: int, event: Event) -> _Loop | None:
        """Count the calls that must be whole now that something else comes."""
        if isinstance(event, ToolCallDelta | ToolCallEnded | Failed):
            return None
        over = isinstance(event, Ended | Finished)
        for call in list(self._open):
            if (over or call.is_whole()) and (loop := self._count(number, call)) is not None:
                return loop
        return None

    def _past(self) -> RepeatedToolCalls:
        return RepeatedToolCalls.from_json(self._session.tool_loop)

    def _count(self, number: int, call: _Call) -> _Loop | None:
        limits = self._rules.tools
        if call.counted or limits is None:
            return None
        call.counted = True
        self._open.remove(call)
        past = self._past()
        finding = past.saw(call.started.name, call.arguments, self._clock(), limits)
        self._session.tool_loop = past.to_json()
        self.counted = True
        if finding is None or not call.held:  # what the client has got already cannot be taken back
            return None
        if finding.action == "guide" and (self.guided or len(self._over) > 1):
            finding = replace(finding, action="break", after_guidance=self.guided)
        how = "the model was told" if finding.action == "guide" else "the call was not delivered"
        note = f"tool call loop: '{finding.name}' called {finding.count} times within {finding.seconds}s, {how}"
        guide = guidance(finding) if finding.action == "guide" else None
        return _Loop(number, call.started.choice, break_notice(finding), note, call=call, guide=guide)

    # what follows

    def _kept(self, frame: Frame, loop: _Loop) -> list[Event]:
        """What the client is still to get: all that was held or has just come, but for what is not whole."""
        dropped = {call.key for call in self._open if call.held}
        if loop.call is not None:
            dropped.add(loop.call.key)
        coming = [event for each in self._queue for event in each.events] + [*frame.events[: loop.number]]
        kept = [e for e in coming if not (isinstance(e, CALL_EVENTS) and (e.choice, e.slot) in dropped)]
        if loop.cut is not None:
            kept.append(loop.cut)
        self._pass(kept)
        unended = [key for key, call in self._calls.items() if key not in dropped and not call.ended]
        return [*kept, *(ToolCallEnded(slot, choice) for choice, slot in unended)]

    def _end(self, frame: Frame, loop: _Loop) -> Verdict:
        self.stop = Stop(loop.note, loop.notice, loop.unsaid())
        kept = self._kept(frame, loop)
        used = [event for event in frame.events[loop.number :] if isinstance(event, Used)] or self._estimate()
        self._over.setdefault(loop.choice, False)
        ends = [Ended(self._reason(choice), choice) for choice, over in self._over.items() if not over]
        if loop.call is None and self._rules.raw:
            line = b"data: " + loop.notice.encode("utf-8", "replace") + b"\n\n"
            return Verdict((_own(*kept), line, _own(*ends, *used, Finished())), end=True)
        notice = TextDelta(loop.notice, loop.choice)
        return Verdict((_own(*kept, notice, *ends, *used, Finished()),), end=True)

    def _estimate(self) -> list[Used]:
        """Anthropic tells at the start what was read and, as the output, 1; it does not come to tell the output."""
        if self._told is None:
            return []
        output = max(self._told.output or 0, math.ceil(self._characters / CHARACTERS_PER_TOKEN))
        return [Used(replace(self._told, output=output, raw=None))]

    def _reason(self, choice: int) -> Reason:
        """A call that the client got has to be answered by it, or its history would not be legal."""
        return Reason("tool_calls" if choice in self._delivered else "stop")

    def _ask_again(self, frame: Frame, loop: _Loop, guide: str) -> Verdict:
        self.stop = Stop(loop.note, unsaid=loop.unsaid())
        used = [event for event in frame.events if isinstance(event, Used)]
        goes_on = self._begun  # else the client sees the second answer alone
        kept = self._kept(frame, loop) if goes_on else []
        whole = [call for call in self._calls.values() if call.counted]
        self._guidance = _guidance(
            self._answer.parts(), whole, loop.call, guide, ALSO_CALLED if goes_on else NOT_CALLED
        )
        return Verdict((_own(*kept, *used),), again=True)


def _guidance(
    said: Sequence[Part], calls: Sequence[_Call], looping: _Call | None, guide: str, others: str
) -> tuple[Message, ...]:
    """The turn with its calls and a result for each: every protocol wants one (TRAPS T33)."""
    made = [
        ToolCall(
            id=call.started.id,
            name=call.started.name,
            arguments=call.arguments,
            signature=call.started.signature,
            custom=call.started.custom,
        )
        for call in calls
    ]
    results = [
        ToolResult(
            call_id=call.started.id,
            parts=(Text(text=guide if call is looping else others),),
            name=call.started.name,
            is_error=call is looping,
            custom=call.started.custom,
        )
        for call in calls
    ]
    turn = Message(role="assistant", parts=(*said, *made))
    return turn, *(Message(role="tool", parts=(result,)) for result in results)


def _own(*events: Event) -> Frame:
    return Frame(b"", events, edited=True)
