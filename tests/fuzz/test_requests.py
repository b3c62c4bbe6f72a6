"""Any body that any client may send: it is read and written for every vendor, or refused in words. Nothing else."""

from typing import Any

from contracts.samples import REQUESTS
from fuzz.mutated import VALUES, changed
from fuzz.rich import MORE_REQUESTS
from hypothesis import given
from hypothesis import strategies as st

from llm_interactive import tokens, wire_json
from llm_interactive.commands import history
from llm_interactive.commands.context import BackendSummary, Context
from llm_interactive.commands.run import run, typing_of
from llm_interactive.errors import ProxyError
from llm_interactive.models import facts
from llm_interactive.protocols import NAMES, named
from llm_interactive.protocols.base import Call, Notes, Target
from llm_interactive.redaction.redactor import Redactor
from llm_interactive.sessions import Server, Session, session_id

type Json = Any

TARGETS = {
    "openai_chat": [("openai", "gpt-4o"), ("openai", "o3-mini"), ("qwen", "qwen3-max"), ("other", "m")],
    "openai_responses": [("openai", "gpt-5")],
    "anthropic_messages": [("anthropic", "claude-sonnet-4-5"), ("anthropic", "claude-opus-4-6"), ("zai", "glm-4.6")],
    "gemini": [("gemini", "gemini-2.5-pro"), ("gemini", "gemini-3-pro-preview")],
}
REDACTOR = Redactor(["a-key-of-the-proxy-0123456789"])


def call(protocol: str) -> Call:
    model, stream = ("m", True) if protocol == "gemini" else (None, None)
    return Call(protocol, "generate", "/", model=model, stream=stream)


def walked(protocol: str, body: Json) -> None:
    """The steps of an exchange on a body, to every vendor."""
    body = wire_json.loads(wire_json.dumps(body))
    if not isinstance(body, dict) or wire_json.depth_exceeds(body):
        return
    try:
        conversation = named(protocol).read_request(body, call(protocol))
    except ProxyError as error:
        wire_json.dumps(named(protocol).write_error(error))
        return
    session_id({}, body, "client")
    context = Context(Session("client/s"), Server(), {"openai": BackendSummary(1)})
    conversation = run(history.clean_history(conversation, typing_of(context)), context).conversation
    conversation = REDACTOR.redact(conversation)
    tokens.count_conversation(conversation, conversation.model)
    for target, models in TARGETS.items():
        for vendor, model in models:
            try:
                to = Target(vendor, model, vendor, facts(vendor, model))
                written = named(target).write_request(conversation, to, Notes())
            except ProxyError as error:
                wire_json.dumps(named(protocol).write_error(error))
            else:
                wire_json.dumps(written.body)


def samples(protocol: str) -> list[Json]:
    return [*REQUESTS[protocol], *MORE_REQUESTS[protocol]]


@given(changed(samples("openai_chat")))
def test_openai_chat(body: Json) -> None:
    walked("openai_chat", body)


@given(changed(samples("openai_responses")))
def test_openai_responses(body: Json) -> None:
    walked("openai_responses", body)


@given(changed(samples("anthropic_messages")))
def test_anthropic_messages(body: Json) -> None:
    walked("anthropic_messages", body)


@given(changed(samples("gemini")))
def test_gemini(body: Json) -> None:
    walked("gemini", body)


@given(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(["messages", "contents", "input", "model"]), VALUES))
def test_any_object(protocol: str, body: Json) -> None:
    walked(protocol, body)
