"""How mitmproxy shows an LLM call: the conversation, and the reply in one piece, in place of JSON and of stream events.

Editing what is shown edits the words in the body (mitmproxy's own editor does so; mitmweb edits the JSON).
"""

from mitmproxy import contentviews, http
from mitmproxy.contentviews import InteractiveContentview, Metadata, SyntaxHighlight

from llm_interactive import transcript
from llm_interactive.errors import ProxyError
from llm_interactive.mitm.reading import answer_of, body_with, call_of, conversation_of
from llm_interactive.protocols.base import Call

NAME = "LLM conversation"
PRIORITY = 3
"""Before mitmproxy's own views, of which the highest has 2."""


class LlmConversation(InteractiveContentview):
    @property
    def name(self) -> str:
        return NAME

    @property
    def syntax_highlight(self) -> SyntaxHighlight:
        return "none"

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        return PRIORITY if data and _call(metadata) is not None else -1

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        flow, call = _flow(metadata), _call(metadata)
        if flow is None or call is None:
            raise ValueError("this is no LLM call")
        if metadata.http_message is flow.response:
            return transcript.of_answer(answer_of(flow, call)).as_text()
        return transcript.of_conversation(conversation_of(flow, call)).as_text()

    def reencode(self, prettified: str, metadata: Metadata) -> bytes:
        flow, call = _flow(metadata), _call(metadata)
        if flow is None or call is None or metadata.http_message is flow.response:
            raise ValueError("only requests can be edited as a conversation: edit the body itself")
        try:
            return body_with(flow, call, transcript.edited(conversation_of(flow, call), prettified))
        except ProxyError as error:
            raise ValueError(error.message) from None


def _flow(metadata: Metadata) -> http.HTTPFlow | None:
    return metadata.flow if isinstance(metadata.flow, http.HTTPFlow) else None


def _call(metadata: Metadata) -> Call | None:
    flow = _flow(metadata)
    if flow is None or metadata.http_message is None:  # a WebSocket message
        return None
    call = call_of(flow)
    return call if call is not None and call.operation == "generate" else None


class ContentViews:
    """The addon. mitmproxy has one registry of views for the process, in which a later one replaces an earlier."""

    def load(self, _: object) -> None:
        contentviews.add(LlmConversation())
