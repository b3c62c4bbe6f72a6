"""Responses replies written: source events go on as they came; otherwise every event of an answer is written in order.

created, in_progress, then for each item added, its parts, deltas and dones, and done; at last the response with its
whole output (TRAPS T73). Items of parallel calls may be open side by side, each with its `output_index`.
"""

from llm_interactive import wire_json
from llm_interactive.events import Failed, Finished, Frame
from llm_interactive.protocols import openai_errors
from llm_interactive.protocols.base import Json, ReplyContext, ReplyWriter
from llm_interactive.protocols.openai_responses_answer import Answer
from llm_interactive.protocols.openai_responses_object import NAME
from llm_interactive.protocols.openai_responses_passed import Passed, with_model

__all__ = ["StreamWriter", "WholeWriter"]


class StreamWriter(ReplyWriter):
    content_type = "text/event-stream"

    def __init__(self, context: ReplyContext) -> None:
        self._passed = Passed() if context.backend_protocol == NAME else None
        self._context = context
        self._answer = Answer(context)
        self._over = False

    @property
    def output(self) -> list[Json]:
        """The items of the answer, for whoever must remember them (`ResponseStore`)."""
        return self._passed.output if self._passed is not None else self._answer.output

    @property
    def response(self) -> dict[str, Json]:
        """The response object as far as it is known."""
        return self._passed.response if self._passed is not None else self._answer.response

    def write(self, frame: Frame) -> bytes:
        if self._over:
            return b""
        self._over = any(isinstance(event, Finished | Failed) for event in frame.events)
        if self._passed is not None:
            if frame.source and not frame.edited:
                return self._pass(frame, self._passed)
            if not frame.events:
                return b""
            self._answer = self._passed.taken_over(self._context)
            self._passed = None
        return b"".join([self._answer.event(event) for event in frame.events])

    def _pass(self, frame: Frame, passed: Passed) -> bytes:
        passed.note(frame.source)
        source = with_model(frame.source, self._context.model) if self._context.rename else frame.source
        failed = [event for event in frame.events if isinstance(event, Failed)]
        if failed and b'"response.failed"' not in source:  # an `error` event alone: clients wait for the other (T79)
            return source + passed.taken_over(self._context).event(failed[0])
        return source


class WholeWriter(ReplyWriter):
    content_type = "application/json"

    def __init__(self, context: ReplyContext) -> None:
        self._context = context
        self._answer = Answer(context)

    @property
    def output(self) -> list[Json]:
        output = self.response.get("output")
        return output if isinstance(output, list) else []

    @property
    def response(self) -> dict[str, Json]:
        return self._answer.response

    def write(self, frame: Frame) -> bytes:
        if self._context.backend_protocol == NAME and frame.source and not frame.edited:
            return self._pass(frame.source)
        for event in frame.events:
            if isinstance(event, Failed):
                return wire_json.dumps(openai_errors.write_error(event.error))
            self._answer.event(event)
            if isinstance(event, Finished):
                return wire_json.dumps(self._answer.response)
        return b""

    def _pass(self, source: bytes) -> bytes:
        try:
            response = wire_json.loads(source)
        except ValueError:
            return source
        if not isinstance(response, dict):
            return source
        self._answer.response = response
        if not self._context.rename or "model" not in response:
            return source
        return wire_json.dumps({**response, "model": self._context.model})
