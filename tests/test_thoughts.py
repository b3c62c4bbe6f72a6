"""Reasoning that a client cannot carry comes back to the model with its tool calls (T52, T56, T57)."""

from llm_interactive.conversation import Conversation, Message, Source, Text, Thinking, ToolCall
from llm_interactive.thoughts import Listener, Thought, restored, without

SIGNED = Thinking(text="hm", signature="s", origin="anthropic_messages")


def conversation(*parts: Text | Thinking | ToolCall) -> Conversation:
    return Conversation(model="m", messages=(Message(role="assistant", parts=parts, source=Source("p", {})),))


def call(id_: str, signature: str | None = None) -> ToolCall:
    return ToolCall(id=id_, name="f", arguments="{}", signature=signature)


def test_the_first_thought_opens_the_turn_and_later_ones_stand_before_their_calls() -> None:
    second = Thinking(text="and", signature="t", origin="anthropic_messages")
    known = {"a": Thought((SIGNED,)), "b": Thought((second,))}
    found = restored(conversation(Text(text="I look"), call("a"), call("b")), known)
    assert found.messages[0].parts == (SIGNED, Text(text="I look"), call("a"), second, call("b"))
    assert found.changed == {"messages"}
    assert found.messages[0].source is None


def test_what_the_client_carries_itself_stays_as_it_is() -> None:
    known = {"a": Thought((SIGNED,))}
    own = conversation(Thinking(text="own"), call("a"))
    assert restored(own, known) is own


def test_a_signature_on_the_call_comes_back() -> None:
    known = {"a": Thought((), "google")}
    assert restored(conversation(call("a")), known).messages[0].parts == (call("a", "google"),)
    own = conversation(call("a", "kept"))
    assert restored(own, known) is own


def test_a_listener_gives_each_call_what_stood_before_it() -> None:
    listener = Listener("openai_chat")
    listener.text("h")
    listener.text("m")
    listener.ended(Thinking(signature="s", origin="anthropic_messages"))
    listener.called("a", None)
    listener.called("b", None)
    listener.text("unsigned")
    listener.called("c", "google")
    unsigned = Thinking(text="unsigned", origin="openai_chat")
    assert listener.thoughts == {"a": Thought((SIGNED,)), "c": Thought((unsigned,), "google")}


def test_a_history_without_reasoning() -> None:
    kept = conversation(Text(text="I look"), call("a"))
    assert without(kept) is kept
    both = Conversation(model="m", messages=(*conversation(SIGNED).messages, *conversation(SIGNED, call("a")).messages))
    found = without(both)
    assert [message.parts for message in found.messages] == [(call("a"),)]
    assert found.changed == {"messages"}
