"""One attempt's reply on its way to the client: bytes in, `Step`s out.

The pipeline is reader -> detectors -> writer. Nothing is given out before the client would see content, so that an
attempt which fails first can be replaced (`Step.refused`). The bytes that end the reply come apart from the rest
(`Step.last`), so that the usage row can be on disk before the client sees the end. No method raises.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from llm_interactive import compression
from llm_interactive.compression import Decoder
from llm_interactive.conversation import Thinking
from llm_interactive.errors import ProxyError, UpstreamError
from llm_interactive.events import (
    CONTENT,
    Ended,
    Event,
    Failed,
    Finished,
    Frame,
    Reason,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    Used,
)
from llm_interactive.passed_usage import PassedUsage
from llm_interactive.protocols.base import Json, ReplyReader, ReplyWriter
from llm_interactive.thoughts import Listener

logger = logging.getLogger(__name__)

SAID = (TextDelta, ThinkingDelta, RefusalDelta)


REFUSAL_LIMIT = 256 * 1024
"""Bytes read of an error."""

MAX_UNSEEN = 128 * 1024 * 1024
"""Bytes kept of a reply of which the client can be given nothing yet."""


class Step(NamedTuple):
    """What to do next. `chunks`: bytes for the client now; `last`: those that end the reply, when `ended`.
    `refused`: this attempt is over and the client saw nothing of it. `cancel`: the upstream need not go on.
    `cut`: what the client has is not the whole, and no words can say so. `again`: the same backend is to be asked
    again, and what it answers goes on with this reply."""

    chunks: tuple[bytes, ...] = ()
    last: tuple[bytes, ...] = ()
    ended: bool = False
    refused: UpstreamError | None = None
    cancel: bool = False
    cut: bool = False
    again: bool = False


NOTHING = Step()


class Verdict(NamedTuple):
    """What goes on in place of a frame: other frames, or bytes for the client as they are. `end`: the reply ends with
    them. `again`: the same backend is to be asked again."""

    frames: tuple[Frame | bytes, ...] = ()
    end: bool = False
    again: bool = False


type Watch = Callable[[Frame], Verdict | None]
"""A detector's view of a frame: None to let it pass."""


class Reply:
    """`decode`: for a body that came compressed though it was asked not to. `tool_names`: as sent -> as the client
    wrote them. `listener`: collects reasoning that must come back. `rewrite`: no source bytes can go on as they came.
    `prelude`: text of the proxy's own in front of the answer. `clock` gives seconds. After the end: what was the
    `usage`, the `reason`, the `error`, and `first`, the clock's time of the first content."""

    def __init__(
        self,
        reader: ReplyReader,
        writer: ReplyWriter,
        *,
        clock: Callable[[], float],
        tool_names: Mapping[str, str] | None = None,
        watches: tuple[Watch, ...] = (),
        decode: Decoder | None = None,
        listener: Listener | None = None,
        rewrite: bool = False,
        prelude: str = "",
    ) -> None:
        self._reader, self._writer = reader, writer
        self._decode = decode
        self._rewrite = rewrite or bool(prelude)
        self._prelude = prelude
        self.listener = listener
        self._clock = clock
        self._tool_names = tool_names or {}
        self._watches = watches
        self._slots: dict[int, int] = {}
        self._goes_on = False
        self._held: list[bytes] = []
        self._unseen = 0
        self.begun = False
        self.ended = False
        self.first: float | None = None
        self.started: Started | None = None
        self.usage: Usage | None = None
        self.reason: Reason | None = None
        self.error: ProxyError | None = None
        self.said: list[str] = []
        """What the model wrote, for a count of tokens where the provider gives none."""
        self.calls: list[ToolCallStarted] = []

    @property
    def response(self) -> Mapping[str, Json]:
        """What the client may name later, see `ReplyWriter.response`."""
        return self._writer.response

    def feed(self, data: bytes) -> Step:
        if self.ended:
            return NOTHING
        try:
            plain = self._decode(data) if self._decode is not None else data
            self._unseen += 0 if self.begun else len(plain)
            if self._unseen > MAX_UNSEEN:
                return self.broken(UpstreamError(f"the provider sent more than {MAX_UNSEEN >> 20} MiB without an end"))
            return self._step(self._reader.feed(plain))
        except UpstreamError as error:
            return self.broken(error)
        except compression.ERRORS as error:
            return self.broken(UpstreamError(f"the provider's reply cannot be decompressed: {error}"))
        except Exception:
            logger.exception("The reply could not be read")
            return self.broken(UpstreamError("the proxy could not read the provider's reply"))

    def finish(self) -> Step:
        """The upstream's body has ended."""
        if self.ended:
            return NOTHING
        try:
            step = self._step(self._reader.finish())
        except Exception:
            logger.exception("The reply could not be read")
            return self.broken(UpstreamError("the proxy could not read the provider's reply"))
        return self._over(step) if self.failed and not self.ended else step

    def broken(self, error: UpstreamError) -> Step:
        """The upstream failed: refuse the attempt, or tell a client that has seen part of the answer."""
        if self.ended:
            return NOTHING
        if self.failed:
            return self._over(NOTHING)._replace(cancel=True)
        try:
            return self._step([Frame(b"", (Failed(error),))])._replace(cancel=True)
        except Exception:
            logger.exception("The error could not be written")
            self.error, self.ended = error, True
            return Step(ended=True, cancel=True, cut=True)

    @property
    def failed(self) -> bool:
        """The provider said in the middle that it failed; what still comes may hold the usage."""
        return self.begun and self.error is not None

    @property
    def _gave_up(self) -> bool:
        return self.ended and self.error is not None

    def _over(self, step: Step) -> Step:
        self.ended = True
        return step._replace(ended=True)

    def go_on(
        self, reader: ReplyReader, *, tool_names: Mapping[str, str], decode: Decoder | None, listener: Listener | None
    ) -> None:
        """A second answer follows the one that was cut: `reader` reads it, and the client sees one reply."""
        self._reader, self._tool_names, self._decode, self.listener = reader, tool_names, decode, listener
        self._rewrite = True  # ids and numbers in the source are not those of this reply
        self._slots = {call.choice: call.slot + 1 for call in sorted(self.calls, key=lambda call: call.slot)}
        self._goes_on = True
        self.usage = self.reason = self.error = self.first = None
        self.said = []

    def _step(self, frames: list[Frame]) -> Step:
        out: list[bytes] = []
        last: list[bytes] = []
        cancel = again = False
        for frame in frames:
            if self._goes_on:
                frame = self._renumbered(frame)
            verdict = self._judge(frame)
            for each in (frame,) if verdict is None else verdict.frames:
                refused = self._put(each, out, last)
                if refused is not None:
                    return Step(refused=refused, cancel=True)
            if verdict is not None and (verdict.end or verdict.again):
                cancel, again = True, verdict.again
                break
            if self.ended:
                break
        if not self.begun:
            self._held += out
            return Step(cancel=True, again=True) if again else NOTHING
        if self._held:
            out = self._held + out
            self._held = []
        return Step(tuple(out), tuple(last), self.ended, cancel=cancel or self._gave_up, again=again)

    def _judge(self, frame: Frame) -> Verdict | None:
        for watch in self._watches:
            if (verdict := watch(frame)) is not None:
                return verdict
        return None

    def _put(self, frame: Frame | bytes, out: list[bytes], last: list[bytes]) -> UpstreamError | None:
        """Write what goes on to the client. Returns the error that refuses the whole attempt."""
        if isinstance(frame, bytes):
            out.append(frame)
            self.begun = True
            return None
        if frame.events:
            if self._tool_names:
                frame = self._renamed(frame)
            refused = self._observe(frame)
            if refused is not None:
                return refused
            if self._prelude and self.first is not None:
                frame = self._with_prelude(frame)
        elif frame.source.startswith(b":"):
            self.begun = True  # a provider that says it is alive wants the client to know
        written = self._writer.write(frame._replace(edited=True) if self._rewrite else frame)
        if written:
            (last if self.ended else out).append(written)
        return None

    def _with_prelude(self, frame: Frame) -> Frame:
        number = next(n for n, event in enumerate(frame.events) if isinstance(event, CONTENT))
        text, self._prelude = TextDelta(self._prelude), ""
        return Frame(frame.source, (*frame.events[:number], text, *frame.events[number:]), edited=True)

    def _renumbered(self, frame: Frame) -> Frame:
        """A second answer's calls follow those of the first; it has no start of its own."""
        events = tuple(
            replace(event, slot=event.slot + self._slots.get(event.choice, 0))
            if isinstance(event, ToolCallStarted | ToolCallDelta | ToolCallEnded)
            else event
            for event in frame.events
            if not isinstance(event, Started)
        )
        return Frame(frame.source, events, edited=True)

    def _observe(self, frame: Frame) -> UpstreamError | None:
        """Take note of what a frame says. Returns the error that refuses the whole attempt."""
        for event in frame.events:
            if isinstance(event, CONTENT):
                if self.first is None:
                    self.first = self._clock()
                    self.begun = True
                if isinstance(event, SAID):
                    self.said.append(event.text)
                    if isinstance(event, ThinkingDelta) and self.listener is not None:
                        self.listener.text(event.text)
                else:
                    self._note_call(event)
            elif isinstance(event, Used):
                self.usage = event.usage
            elif isinstance(event, Started):
                self.started = event
            elif isinstance(event, Ended):
                self.reason = self.reason or event.reason
                self.begun = True
            elif isinstance(event, Finished):
                self.begun = self.ended = True
            elif isinstance(event, Failed):
                self.error = self.error or event.error
                if not self.begun:
                    return event.error
                self.ended = self.ended or not frame.source
        return None

    def _note_call(self, event: Event) -> None:
        if isinstance(event, ThinkingEnded) and self.listener is not None:
            self.listener.ended(
                Thinking(signature=event.signature, redacted=event.redacted, origin=event.origin, item_id=event.item_id)
            )
        elif isinstance(event, ToolCallStarted):
            if self.listener is not None:
                self.listener.called(event.id, event.signature)
            self.calls.append(event)
            self.said.append(event.name)
        elif isinstance(event, ToolCallDelta):
            self.said.append(event.arguments)

    def _renamed(self, frame: Frame) -> Frame:
        events = tuple(
            replace(event, name=self._tool_names.get(event.name, event.name))
            if isinstance(event, ToolCallStarted)
            else event
            for event in frame.events
        )
        return Frame(frame.source, events, edited=True) if events != frame.events else frame


class PassedReply:
    """The reply of a call whose body is not read: every byte goes on as it came. `heard` finds the usage in them."""

    def __init__(self, clock: Callable[[], float], heard: PassedUsage | None = None) -> None:
        self._clock = clock
        self._heard = heard
        self.begun = self.ended = False
        self.first: float | None = None
        self.error: ProxyError | None = None
        self.reason: Reason | None = None
        self.said: list[str] = []
        self.calls: list[ToolCallStarted] = []

    @property
    def usage(self) -> Usage | None:
        return self._heard.found() if self._heard is not None else None

    def feed(self, data: bytes) -> Step:
        if self.first is None:
            self.first = self._clock()
        self.begun = True
        if self._heard is not None:
            self._heard.feed(data)
        return Step((data,))

    def finish(self) -> Step:
        self.begun = self.ended = True
        return Step(ended=True)

    def broken(self, error: UpstreamError) -> Step:
        self.error = error
        if not self.begun:
            return Step(refused=error, cancel=True)
        self.ended = True
        return Step(ended=True, cancel=True, cut=True)


class Refusal:
    """Collects the body of an error reply, which refuses the attempt when it is whole or long enough."""

    def __init__(self, read: Callable[[bytes], UpstreamError], encoding: str = "") -> None:
        self._read = read
        self._body = bytearray()
        self._decode = compression.lenient(encoding)

    def feed(self, data: bytes) -> Step:
        self._body += self._decode(data)
        return self.finish() if len(self._body) > REFUSAL_LIMIT else NOTHING

    def finish(self) -> Step:
        return Step(refused=self._read(bytes(self._body[:REFUSAL_LIMIT])))

    def broken(self, error: UpstreamError) -> Step:
        return self.finish()
