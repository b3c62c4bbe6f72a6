"""Commands of mitmproxy for conversations: send one to another model, write it to a file, compare two.

Those with an underscore have a second name, since mitmweb (12.2) takes only letters and dots.
"""

import asyncio
import difflib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from mitmproxy import exceptions, flow, http, types
from mitmproxy.addonmanager import Loader

from llm_interactive import transcript
from llm_interactive.commands.context import CommandError
from llm_interactive.conversation import Conversation
from llm_interactive.errors import ProxyError
from llm_interactive.mitm import replay
from llm_interactive.mitm.reading import answer_of, call_of, conversation_of
from llm_interactive.protocols.base import Call
from llm_interactive.transcript import Answer

logger = logging.getLogger(__name__)

type Prepare = Callable[[http.HTTPFlow, Call, str], None]
"""Makes a flow go to a model when it is sent. Raises `CommandError`."""

FORMATS = (".json", ".md")


class FlowCommands:
    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._sending: set[asyncio.Task[None]] = set()

    def load(self, loader: Loader) -> None:
        for name in ("llm.replay_with", "llm.replay.with"):
            loader.add_command(name, self.replay_with)
        for name in ("llm.export_conversation", "llm.export.conversation"):
            loader.add_command(name, self.export_conversation)
        loader.add_command("llm.replay", self.replay)
        loader.add_command("llm.diff", self.diff)

    def replay_with(self, flow: flow.Flow, model: str) -> None:
        """Send the same conversation to another model, backend:model; its answer is a new flow beside this one."""
        self._send_again(flow, model)

    def replay(self, flow: flow.Flow) -> None:
        """Send the conversation to the same model again; its answer is a new flow beside this one."""
        _llm_call(flow)
        backend, model = flow.metadata.get("llm_backend"), flow.metadata.get("llm_model")
        if not backend:
            raise exceptions.CommandError("nobody answered this flow: name a model with llm.replay_with")
        self._send_again(flow, f"{backend}:{model}")

    def _send_again(self, flow: flow.Flow, model: str) -> None:
        old, call = _llm_call(flow)
        new = replay.twin(old)
        try:
            self._prepare(new, call, model)
        except CommandError as error:
            raise exceptions.CommandError(str(error)) from None
        new.metadata["llm_replay_of"] = old.id
        sending = asyncio.get_running_loop().create_task(replay.send(new))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    def export_conversation(self, flow: flow.Flow, path: types.Path) -> None:
        """Write the conversation and its answer to a file: .json for programs, .md to read."""
        old, call = _llm_call(flow)
        target = Path(path)
        if target.suffix not in FORMATS:
            raise exceptions.CommandError(f"the file's name must end in {' or '.join(FORMATS)}, not {target.name!r}")
        conversation, answer = _read(old, call)
        if target.suffix == ".json":
            text = json.dumps(transcript.as_json(conversation, answer), indent=2, ensure_ascii=False) + "\n"
        else:
            parts = [transcript.of_conversation(conversation)]
            parts += [transcript.of_answer(answer)] if answer is not None else []
            text = "\n".join(part.as_markdown() for part in parts)
        try:
            target.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise exceptions.CommandError(f"{target} cannot be written: {error.strerror}") from None
        logger.info("The conversation is in %s", target)

    def diff(self, flows: Sequence[flow.Flow]) -> types.Data:
        """Compare two conversations with their answers, @marked for those that are marked."""
        if len(flows) != 2:
            raise exceptions.CommandError(f"two flows can be compared, not {len(flows)}: mark two for llm.diff @marked")
        one, other = (_lines(each) for each in flows)
        before, after = (each.comment or each.id for each in flows)
        found = [[line] for line in difflib.unified_diff(one, other, before, after, lineterm="")]
        return cast(types.Data, found or [["They are the same."]])


def _lines(flow: flow.Flow) -> list[str]:
    conversation, answer = _read(*_llm_call(flow))
    answered = transcript.of_answer(answer).lines() if answer is not None else []
    return [*transcript.of_conversation(conversation).lines(), "", *answered]


def _llm_call(flow: flow.Flow) -> tuple[http.HTTPFlow, Call]:
    call = call_of(flow) if isinstance(flow, http.HTTPFlow) and flow.websocket is None else None
    if call is None or call.operation != "generate" or not isinstance(flow, http.HTTPFlow):
        raise exceptions.CommandError("this flow is no conversation with a model")
    return flow, call


def _read(flow: http.HTTPFlow, call: Call) -> tuple[Conversation, Answer | None]:
    try:
        conversation = conversation_of(flow, call)
    except (ProxyError, ValueError) as error:
        raise exceptions.CommandError(f"the conversation cannot be read: {error}") from None
    return conversation, answer_of(flow, call) if flow.response is not None else None
