"""One attempt's request: the conversation in the words of the attempt's protocol, with its credentials.

What commands, the model's name and its defaults say of temperature and reasoning has its place here, since it differs
from attempt to attempt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llm_interactive import outgoing, protocols, wire_json
from llm_interactive.backends import catalog
from llm_interactive.config_file import defaults_for
from llm_interactive.configuration import Caught, Configuration
from llm_interactive.conversation import Conversation
from llm_interactive.errors import BadRequest
from llm_interactive.models import facts
from llm_interactive.outgoing import Outgoing
from llm_interactive.protocols.base import Call, Notes, Target
from llm_interactive.protocols.openai_chat_request import SENDS_REASONING_BACK
from llm_interactive.routing.plan import Attempt
from llm_interactive.sessions import Session, restore_thoughts
from llm_interactive.settings import Settings
from llm_interactive.tuning import tuned, without_pictures
from llm_interactive.visible_thoughts import without_marked_thoughts
from llm_interactive.walk import Try

STORED_STATE = ("previous_response_id", "conversation", "prompt", "cachedContent", "cached_content", "container")


@dataclass(frozen=True, slots=True)
class Encoder:
    """For one request. `call` and `method` are the client's. `notes` gets what could not be said."""

    call: Call
    method: str
    configuration: Configuration
    session: Session
    notes: Notes
    caught: Caught | None = None

    @property
    def _settings(self) -> Settings:
        return self.configuration.loops.settings

    def encode(self, try_: Try, conversation: Conversation | None, body: bytes) -> tuple[Outgoing, Mapping[str, str]]:
        """And names of tools: as sent -> as the client wrote them. Without a conversation the body goes as it is.

        Raises `ProxyError`."""
        attempt = try_.attempt
        base_url, headers = self._access(try_)
        names: Mapping[str, str] = {}
        own = self._own(attempt)
        if conversation is None and own is not None:
            made = outgoing.passed_as_it_was(self.call, self.method, base_url, headers, body)
        elif conversation is None:
            made = outgoing.passed(self.call, self.method, base_url, attempt.protocol, headers, body)
        else:
            made, names = self._written(attempt, conversation, base_url, headers)
        if own is not None:
            made = replace(made, host=own.host, port=own.port, authority=own.authority)
        return made, names

    def _own(self, attempt: Attempt) -> Caught | None:
        """Where the attempt goes to where the call was going by itself."""
        return self.caught if self.caught is not None and attempt.backend is self.caught.backend else None

    def _access(self, try_: Try) -> tuple[str, dict[str, str]]:
        """The base URL, and the headers that open it."""
        attempt, backend = try_.attempt, try_.attempt.backend
        protocol = protocols.named(attempt.protocol)
        base_url, headers = backend.protocols[attempt.protocol], dict(backend.headers)
        if (own := self._own(attempt)) is not None:
            headers |= own.credentials
        elif backend.account is not None:
            try_.access = backend.account.access()
            base_url = try_.access.base_url
            headers |= protocol.credentials(try_.access.token)
        elif attempt.key_ordinal is not None:
            headers |= protocol.credentials(backend.keys[attempt.key_ordinal - 1].get_secret_value())
        return base_url, headers

    def _written(
        self, attempt: Attempt, conversation: Conversation, base_url: str, headers: Mapping[str, str]
    ) -> tuple[Outgoing, Mapping[str, str]]:
        protocol, name = protocols.named(attempt.protocol), attempt.backend.name
        vendor = catalog.SAME_SERVICE.get(name, name)
        target = Target(name, attempt.model, vendor, facts(vendor, attempt.model, self._settings.model_facts))
        if attempt.protocol != self.call.protocol:
            refuse_stored_state(conversation)
            if self.call.protocol in attempt.backend.protocols:  # asked_in.py
                self.notes.add(f"asked in {protocol.name}: {attempt.model} takes such a request there only")
        if attempt.protocol != self.call.protocol or vendor in SENDS_REASONING_BACK:
            conversation = restore_thoughts(self.session, conversation)
        if self.session.show_reasoning:
            conversation = without_marked_thoughts(conversation)
        conversation = without_pictures(self._tuned(conversation, attempt), target, self.notes)
        write = protocol.write_count_request if self.call.operation == "count_tokens" else protocol.write_request
        wire = write(conversation, target, self.notes)
        query, own_headers = wire.query, {}
        if self._own(attempt) is not None:  # some providers look at who calls, or have words of their own in the query
            query, own_headers = self.call.query or wire.query, outgoing.own_headers(self.call)
        headers = {"content-type": "application/json", **own_headers, **wire.headers, **headers}
        url = catalog.join(base_url, attempt.protocol, wire.path)
        body = in_the_clients_order(wire.body, conversation.read_by(attempt.protocol))
        return outgoing.written("POST", url, query, headers, wire_json.dumps(body)), wire.tool_names

    def _tuned(self, conversation: Conversation, attempt: Attempt) -> Conversation:
        """With what commands, the model's name and the model's defaults say of it (SPEC 11)."""
        name, model = attempt.backend.name, attempt.model
        defaults = defaults_for(self._settings.model_defaults, name, model)
        if self.session.generation_config and attempt.protocol != "gemini":
            self.notes.add(f"gemini-generation-config: not sent, {name}:{model} is not asked as Gemini is")
        found = tuned(
            conversation,
            session=self.session,
            defaults=defaults,
            parameters=attempt.parameters,
            notes=self.notes,
        )
        if found.generation_config:  # typed by a person, and never part of the prompt
            hidden = self.configuration.redactor.redact_text(wire_json.text(found.generation_config))
            found = replace(found, generation_config=wire_json.loads(hidden.encode()))
        return found


def refuse_stored_state(conversation: Conversation) -> None:
    """What a provider keeps cannot be read by another one: the context would be silently gone (TRAPS T96)."""
    for key in STORED_STATE:
        if conversation.owned.get(key):
            message = f"'{key}' names something that only the provider that keeps it knows: {conversation.owned[key]}"
            raise BadRequest(message, param=key)


def in_the_clients_order(body: dict[str, Any], own: dict[str, Any] | None) -> dict[str, Any]:
    """What was edited stays at its place: only commands and the like may differ from what the client sent."""
    return body if own is None else {**{key: body[key] for key in own if key in body}, **body}
