"""One request and its reply: the page that shows the whole walk.

    read       body -> Conversation                       (the frontend's protocol)
    redact     no secret goes on                          (redaction)
    plan       which backends, models and keys, in order   (routing)
    encode     Conversation -> url, headers, body          (the attempt's protocol)
    answered   status and headers of an attempt -> a reply pipeline, or the next attempt
    feed/finish/broken   bytes of the reply -> steps       (reply.py)
    refused    an attempt is over, nothing was seen by the client
    local      what the proxy answers itself: errors, commands

No I/O here: the mitm layer sends what `outgoing` says and tells the exchange what came back.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm_interactive import compression, custom_calls, limits, protocols, thoughts, told, visible_thoughts, wire_json
from llm_interactive.asked_in import AskedIn
from llm_interactive.backends.catalog import Account, ConfiguredBackend
from llm_interactive.configuration import Caught, Configuration
from llm_interactive.conversation import Conversation
from llm_interactive.encoding import Encoder
from llm_interactive.errors import BadRequest, ProxyError, TooLarge, UpstreamError
from llm_interactive.headers import HOP_BY_HOP, portable, streams, unexpected
from llm_interactive.loops import LoopWatch
from llm_interactive.outgoing import Outgoing
from llm_interactive.passed_usage import PassedUsage, model_of
from llm_interactive.protocols.base import Call, Notes, Protocol, ReplyContext
from llm_interactive.redaction.passed import redacted_body, redacted_bytes
from llm_interactive.redaction.redactor import Redaction
from llm_interactive.redaction.restore import RestoringWriter
from llm_interactive.reply import NOTHING, PassedReply, Refusal, Reply, Step
from llm_interactive.routing import plan, refusals
from llm_interactive.routing.choice import Choice
from llm_interactive.routing.plan import Attempt
from llm_interactive.sessions import Session, forget_thoughts, remember_thoughts, session_id
from llm_interactive.spoken import speak
from llm_interactive.thoughts import Listener
from llm_interactive.walk import Try, Wait, Walk

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Local:
    """An answer of the proxy's own."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Exchange:
    def __init__(
        self,
        call: Call,
        configuration: Configuration,
        *,
        method: str = "POST",
        client: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = "req_" + secrets.token_hex(12)
        self.flow_id: str | None = None
        self.call = call
        self.method = method
        self._client = client
        self.session_id = f"{client}/default"
        self.session = Session(self.session_id)
        self.session_changed = False
        """Whether the session has something new to be stored."""
        self.configuration = configuration
        self.frontend: Protocol = protocols.named(call.protocol)
        self.conversation: Conversation | None = None
        self.body = b""
        self.walk = Walk(configuration.cooldowns, clock)
        self.waits: float | None = None
        """Seconds until `next_attempt` can do more; None where it is not the time that is waited for."""
        self.wants: Account | None = None
        """Whose access has to be renewed before `next_attempt` can do more."""
        self.outgoing: Outgoing | None = None
        self.local: Local | None = None
        self.notes = Notes()
        self.redaction: Redaction | None = None
        """None where secrets may go on."""
        self.prelude = ""
        """What the client reads in front of the answer."""
        self.confirmations: tuple[str, ...] = ()
        """What the commands of the prompt answered, where it goes on to a backend."""
        self.caught: Caught | None = None
        self.asked_model: str | None = call.model
        self.client_is_gone = False
        self.has_client_left: Callable[[], bool] = lambda: self.client_is_gone
        """Asked while nothing can be done but wait."""
        self.must_count = False
        """Whether the answer is a count of tokens that the proxy has to make."""
        self.recorded = 0
        """How many of `tries` have their usage row."""
        self._clock = clock
        self._reply: Reply | PassedReply | Refusal | None = None
        self._reply_headers: list[tuple[str, str]] = []
        self._tool_names: Mapping[str, str] = {}
        self._sent = self._has_left_thoughts_out = False
        self._watch: LoopWatch | None = None
        self._cut: Reply | None = None
        """What the client has begun to read, while the backend is asked again."""

    @property
    def tries(self) -> list[Try]:
        return self.walk.tries

    @property
    def timeout(self) -> float:
        return self.configuration.timeout

    @property
    def body_limit(self) -> int:
        return self.configuration.body_limit

    @property
    def stream(self) -> bool:
        return self.conversation is not None and self.conversation.stream

    @property
    def reply_ended(self) -> bool:
        return isinstance(self._reply, (Reply, PassedReply)) and self._reply.ended

    @property
    def reply_is_over(self) -> bool:
        """The client has seen all it will be told, though the upstream may go on."""
        return self.reply_ended or (isinstance(self._reply, Reply) and self._reply.failed)

    def read(self, body: bytes) -> None:
        """Raises `ProxyError` where the body is not what the protocol wants."""
        self.body = body
        if self.call.operation == "other":
            self.session_id = self._hide(session_id(self.call.headers, {}, self._client))
            self.asked_model = self.call.model or model_of(body)
            return
        try:
            parsed = wire_json.loads(body)
        except ValueError as error:
            raise BadRequest(f"the body is no JSON: {error}") from None
        if not isinstance(parsed, dict):
            raise BadRequest(f"the body must be a JSON object, not {type(parsed).__name__}")
        if wire_json.depth_exceeds(parsed):
            raise BadRequest(f"the body is nested more than {wire_json.MAX_DEPTH} levels deep")
        limits.check(parsed)
        if self.configuration.responses.knows(parsed.get("previous_response_id")):
            parsed = self.configuration.responses.expand(parsed)
        self.conversation = self.frontend.read_request(parsed, self.call)
        self.asked_model = self.conversation.model
        self.session_id = self._hide(session_id(self.call.headers, parsed, self._client))

    def redact(self) -> None:
        """Take the secrets out of what goes on, as commands left it (SPEC 9)."""
        if (redaction := self.redaction) is None:
            return
        headers = {name: redaction.text(value) for name, value in self.call.headers.items()}
        self.call = replace(self.call, query=redaction.text(self.call.query), headers=headers)
        if self.conversation is not None:
            self.conversation = redaction.conversation(self.conversation)
            self.asked_model, self.body = self.conversation.model, b""
        else:
            self.body = redacted_body(redaction, self.body, headers.get("content-type", ""))
        if redaction.secrets:
            self.notes.add(f"{len(redaction.secrets)} secrets redacted")

    def shown_body(self) -> bytes:
        """The client's body for who looks at flows."""
        if self.redaction is None:
            return self.body
        source = self.conversation.source if self.conversation is not None else None
        if source is None:
            return redacted_body(self.redaction, self.body, self.call.headers.get("content-type", ""))
        redacted = self.redaction.body(source.json)
        return self.body if redacted is source.json else wire_json.dumps(redacted)

    def shown_reply(self, sent: bytearray) -> bytes:
        """What the client got, for who looks at flows: without the secrets that it got back."""
        placeholders = self.redaction.placeholders if self.redaction is not None else None
        return bytes(sent) if placeholders is None else placeholders.hidden(bytes(sent))

    def _hide(self, text: str) -> str:
        """For what is shown or stored, whatever is redacted of prompts."""
        return self.configuration.redactor.redact_text(text)

    def plan(self) -> None:
        """Decide on the attempts. Raises `ProxyError` where there is nothing to try."""
        configuration, session = self.configuration, self.session
        caught = self.caught.backend if self.caught is not None else None
        self.walk.own = caught
        choice = Choice(
            configuration.naming,
            configuration.backends,
            configuration.server,
            session,
            caught.name if caught is not None else None,
        )
        counts = self.call.operation == "count_tokens"
        try:
            asked = self.conversation.model if self.conversation is not None else None
            legs = choice.passed(self.call, self.asked_model) if asked is None else choice.of(asked)
        finally:
            if session.oneoff is not None and self.conversation is not None and not counts:
                session.take_oneoff()
                self.session_changed = True
        asked_in = AskedIn(self.conversation, session, configuration.loops.settings)
        attempts = plan.attempts(legs, self.call.protocol, configuration.cooldowns.in_use, asked_in.instead)
        if counts and not self._vendor_counts(attempts[0]):
            attempts = []  # the proxy counts itself
        self.walk.begin(attempts)

    def _vendor_counts(self, attempt: Attempt) -> bool:
        counts = protocols.named(attempt.protocol).counts_tokens
        return counts and attempt.protocol == self.call.protocol

    def next_attempt(self) -> None:
        """Set `outgoing` to the next attempt that can be encoded, or `local` to the final answer, or say in `waits` or
        `wants` what must happen first."""
        self.waits, self.wants = None, None
        counts = self.call.operation == "count_tokens" and self.conversation is not None
        while self.outgoing is None:
            match self.walk.next(may_wait=not counts):
                case Wait(seconds):
                    self.waits = seconds
                    return
                case Attempt(backend=ConfiguredBackend(account=Account(is_settled=False) as account)) as attempt:
                    self.walk.left.appendleft(attempt)
                    self.wants = account
                    return
                case None:
                    break
                case attempt:
                    self._make(attempt)
        if self.outgoing is None and counts:
            self.must_count = True
        elif self.outgoing is None:
            self.fail(self.walk.gave_up())

    def _make(self, attempt: Attempt) -> None:
        self.walk.make(attempt)
        try:
            encoder = Encoder(self.call, self.method, self.configuration, self.session, self.notes, self.caught)
            self.outgoing, self._tool_names = encoder.encode(self.tries[-1], self.conversation, self.body)
        except ProxyError as error:
            self._note_refusal(error)

    def is_late(self) -> bool:
        """Whether the attempt that is about to be sent should not be any more; then `next_attempt` says what to do."""
        if self.walk.is_late():
            self.outgoing = None
        return self.outgoing is None

    def counted(self, tokens: int) -> None:
        """Answer with a count of our own, where the vendor does not count or could not be asked."""
        self.must_count = False
        self.notes.add("token count: an estimate of the proxy's own")
        headers = (("content-type", "application/json"), *self._proxy_headers())
        self.local = Local(200, headers, wire_json.dumps(self.frontend.write_count(tokens)))

    def sent(self) -> None:
        self._sent = True
        self.tries[-1].begun = self._clock()

    def answered(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        attempt = self.tries[-1].attempt
        self.tries[-1].status = status
        protocol = protocols.named(attempt.protocol)
        plain = dict(headers)
        passed = self.conversation is None or self.call.operation == "count_tokens"
        if passed and (status < 400 or (self.conversation is None and not self._may_move_on(status))):
            is_plain = self.conversation is None and plain.get("content-encoding", "identity") == "identity"
            self._reply = PassedReply(self._clock, PassedUsage() if is_plain else None)
            self._reply_headers = [(n, v) for n, v in headers if n not in HOP_BY_HOP or n == "content-encoding"]
        elif status >= 400 or passed:
            encoding = plain.get("content-encoding", "")
            redactor = self.configuration.redactor  # some quote the key that they refuse
            self._reply = Refusal(
                lambda body: protocol.read_error(status, plain, redacted_bytes(redactor, body)), encoding
            )
        elif status != 200 and not 200 < status < 204:
            no_answer = UpstreamError(unexpected(status, plain))
            self._reply = Refusal(lambda body: no_answer)
        else:
            try:
                self._start_reply(attempt, protocol, headers)
            except ProxyError as error:
                refusal = UpstreamError(f"the provider's reply cannot be read: {error}")
                self._reply = Refusal(lambda body: refusal)

    def _may_move_on(self, status: int) -> bool:
        """Of a call whose reply is not read; what was not found belongs to the client."""
        return status != 404 and refusals.moves_on(UpstreamError("", status)) and bool(self.walk.left)

    def _loop_watch(self, attempt: Attempt) -> LoopWatch:
        """A new one for each attempt, but the second answer of a model is watched by who asked for it."""
        if self._watch is None or not self._watch.guided:
            assert self.conversation is not None
            may_be_raw = self.call.protocol == "openai_chat" and self.conversation.stream
            name, model = attempt.backend.name, attempt.model
            self._watch = self.configuration.loops.watch(
                self.session, self.conversation, name, model, attempt.protocol, may_be_raw=may_be_raw
            )
        else:
            self._watch.renew()
        return self._watch

    def ask_again(self) -> None:
        """The model is told that it repeats itself, and the same backend answers once more (SPEC 8)."""
        watch, reply, last = self._watch, self._reply, self.tries[-1]
        assert watch is not None
        assert isinstance(reply, Reply)
        assert self.conversation is not None
        self._note_end(reply, last)
        self.conversation = watch.guide(self.conversation)
        watch.renew()
        self.outgoing, self._reply = None, None
        if reply.begun:
            self._cut = reply
        self.walk.again(alone=reply.begun)  # no other backend goes on with what the client has read

    @property
    def is_cut(self) -> bool:
        """Whether the client has begun to read a reply and waits for the rest of it."""
        return self._cut is not None

    def give_up(self) -> Step:
        """The backend could not be asked again: the reply that was begun ends with the error."""
        assert self._cut is not None
        self._reply = self._cut
        error = self.walk.error
        return self.broken(UpstreamError(error.message if error is not None else "it was not answered"))

    def _start_reply(self, attempt: Attempt, protocol: Protocol, headers: Sequence[tuple[str, str]]) -> None:
        conversation = self.conversation
        assert conversation is not None
        plain = dict(headers)
        is_stream = streams(plain.get("content-type", ""), attempt.protocol, conversation.stream)
        encoding = plain.get("content-encoding", "identity")
        decode = compression.decoder(encoding) if encoding != "identity" else None
        listener = Listener(attempt.protocol)
        if self._cut is not None:
            self._cut.go_on(
                protocol.reply_reader(is_stream), tool_names=self._tool_names, decode=decode, listener=listener
            )
            self._reply = self._cut
            return
        same = attempt.protocol == self.call.protocol and is_stream == conversation.stream
        asked = conversation.model
        context = ReplyContext(
            conversation=conversation,
            call=self.call,
            backend_protocol=attempt.protocol,
            model=asked,
            mint=lambda prefix: prefix + secrets.token_hex(12),
            now=int(time.time()),
            rename=same and attempt.model not in (asked, asked.partition(":")[2]),
        )
        writer = custom_calls.writer_of(self.frontend.reply_writer(context), context)
        if self.redaction is not None and self.redaction.placeholders is not None:
            writer = RestoringWriter(writer, self.redaction.placeholders)
        exclude = (self.session.reasoning or {}).get("exclude")
        writer = visible_thoughts.writer_of(
            writer,
            shown=self.session.show_reasoning,
            hidden=conversation.reasoning.summary is False if exclude is None else exclude,
            protocol=self.call.protocol,
        )
        self._reply = Reply(
            protocol.reply_reader(is_stream),
            writer,
            clock=self._clock,
            tool_names=self._tool_names,
            watches=(self._loop_watch(attempt),),
            decode=decode,
            listener=listener,
            rewrite=is_stream != conversation.stream,
            prelude=self.prelude,
        )
        kept = [(n, v) for n, v in headers if n not in HOP_BY_HOP] if same else portable(headers)
        self._reply_headers = [(n, v) for n, v in kept if n != "content-type"]
        content_type = plain.get("content-type") if same else None
        self._reply_headers.append(("content-type", content_type or writer.content_type))

    def reply_headers(self) -> list[tuple[str, str]]:
        """The client's reply headers; what the proxy adds starts with `x-llm-proxy-`."""
        return [*self._reply_headers, *self._proxy_headers()]

    def _proxy_headers(self) -> list[tuple[str, str]]:
        return [("x-llm-proxy-request-id", self.id), *told.headers(self.walk, self.confirmations, self.notes)]

    def feed(self, data: bytes) -> Step:
        return self._noted(self._reply.feed(data)) if self._reply is not None else NOTHING

    def finish(self) -> Step:
        return self._noted(self._reply.finish()) if self._reply is not None else NOTHING

    def broken(self, error: UpstreamError) -> Step:
        """The attempt's connection failed or stalled."""
        if self._reply is None:
            return Step(refused=error)
        return self._noted(self._reply.broken(error))

    def _noted(self, step: Step) -> Step:
        reply = self._reply
        if isinstance(reply, (Reply, PassedReply)) and reply.begun and reply.error is None:
            self.walk.answered()
        if step.ended and isinstance(reply, (Reply, PassedReply)):
            self._note_end(reply, self.tries[-1])
            if isinstance(reply, Reply) and reply.listener is not None:
                remember_thoughts(self.session, reply.listener.thoughts)
                self.session_changed = self.session_changed or bool(reply.calls)
                self._store_response(reply)
        return step

    def _store_response(self, reply: Reply) -> None:
        """A later request may go on from this response, which no provider keeps (TRAPS T96)."""
        response, conversation = reply.response, self.conversation
        if not response or reply.error is not None or self.tries[-1].attempt.protocol == self.call.protocol:
            return
        self._remember_response(response, conversation.source.json if conversation and conversation.source else {})

    def _remember_response(self, response: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        if body.get("store") is not False:
            output, before = response.get("output") or [], body.get("previous_response_id")
            store = self.configuration.responses
            store.remember(response["id"], body.get("input") or [], output, dict(response), before=before)

    def _note_end(self, reply: Reply | PassedReply, last: Try) -> None:
        last.first, last.ended = reply.first, self._clock()
        last.usage, last.reason, last.said = reply.usage, reply.reason, reply.said
        if reply.error is not None:
            last.error = self._hide(reply.error.message)
        if self._watch is not None and self._watch.counted:
            self.session_changed = True
        if self._watch is not None and self._watch.stop is not None:
            last.stop = self._watch.stop
            last.said = last.stop.said(reply.said)
            logger.warning("%s", told.stopped(last, self.session.name, self.conversation))

    def refused(self, error: UpstreamError) -> None:
        """The attempt is over and the client saw nothing. What is no fault of the attempt's own ends the request."""
        self.outgoing, self._reply = None, None
        self._note_refusal(error)
        if refusals.is_about_thinking(error):
            self._leave_thoughts_out()

    def _leave_thoughts_out(self) -> None:
        """The same once more, without the reasoning that another model has signed (TRAPS T55)."""
        if self.conversation is None or self._has_left_thoughts_out:
            return
        forget_thoughts(self.session, self.conversation)
        self.conversation = thoughts.without(self.conversation)
        self._has_left_thoughts_out = True
        self.notes.add("reasoning of earlier turns: not sent, the provider does not take it")
        self.walk.again(alone=True)

    def _note_refusal(self, error: ProxyError) -> None:
        error.message = self._hide(error.message)
        self.walk.refused(error)

    def client_left(self) -> None:
        """The client disconnected; what was used so far still counts."""
        self.client_is_gone = True
        if not self.tries or self.tries[-1].ended is not None:
            return
        if isinstance(self._reply, (Reply, PassedReply)):
            self._note_end(self._reply, self.tries[-1])
        else:
            self.tries[-1].ended = self._clock()
        self.tries[-1].error = self.tries[-1].error or "the client disconnected"

    def fail(self, error: ProxyError) -> None:
        """Answer with an error in the client's own shape."""
        error.message = self._hide(error.message)
        headers = [("content-type", "application/json"), *error.headers, *self._proxy_headers()]
        self.local = Local(error.status, tuple(headers), wire_json.dumps(self.frontend.write_error(error)))

    def say(self, text: str, *, as_completion: bool = False) -> None:
        """Answer in place of a model (SPEC 5.2). `as_completion`: as the tool call that some clients wait for."""
        assert self.conversation is not None
        answer = speak(text, self.frontend, self.conversation, self.call, as_completion=as_completion)
        self.local = Local(200, (("content-type", answer.content_type), *self._proxy_headers()), answer.body)
        if answer.response:
            body = self.conversation.source.json if self.conversation.source is not None else {}
            self._remember_response(answer.response, body)

    def summary(self) -> str:
        """One line, of at least one attempt."""
        return told.summary(self.call.protocol, self.tries, self.notes)

    def too_large(self, limit: int) -> None:
        self.fail(TooLarge(f"the request is larger than {limit} bytes"))
