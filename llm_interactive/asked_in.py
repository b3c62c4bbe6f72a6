"""Which of a backend's protocols a request is asked in: Responses, where OpenAI takes it in that one only.

Some of its models are not served in Chat Completions at all, and newer ones do not think there beside tools (SPEC 12).
"""

from dataclasses import dataclass

from llm_interactive.backends.catalog import SAME_SERVICE
from llm_interactive.config_file import defaults_for
from llm_interactive.conversation import Conversation, Tool
from llm_interactive.models import facts
from llm_interactive.protocols.base import Notes
from llm_interactive.protocols.efforts import reasons
from llm_interactive.routing.resolution import Element
from llm_interactive.sessions import Session
from llm_interactive.settings import Settings
from llm_interactive.tuning import tuned

CHAT, RESPONSES = "openai_chat", "openai_responses"


@dataclass(frozen=True, slots=True)
class AskedIn:
    """For one request. `conversation` None: a call that goes on unread."""

    conversation: Conversation | None
    session: Session
    settings: Settings

    def instead(self, element: Element, usual: str) -> str:
        """`usual`: what would be spoken if it were for the protocols alone."""
        backend, model = element.backend, element.model
        if usual != CHAT or RESPONSES not in backend.protocols or self.conversation is None:
            return usual
        known = facts(SAME_SERVICE.get(backend.name, backend.name), model, self.settings.model_facts)
        if known.chat == "never":
            return RESPONSES
        if known.chat == "always" or not any(isinstance(tool, Tool) for tool in self.conversation.tools):
            return usual
        defaults = defaults_for(self.settings.model_defaults, backend.name, model)
        asked = tuned(
            self.conversation, session=self.session, defaults=defaults, parameters=element.parameters, notes=Notes()
        )
        return RESPONSES if reasons(asked.reasoning, known) else usual
