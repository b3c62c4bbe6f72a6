"""Reasoning that a client cannot carry comes back to the model with its tool calls (T52, T56, T57)."""

from llm_interactive.conversation import Conversation, Message, Source, Text, Thinking, ToolCall
from llm_interactive.thoughts import MAX_CALLS, MAX_SESSIONS, Listener, Thought, Thoughts

SIGNED = Thinking(text="hm", signature="s", origin="anthropic_messages")


def conversation(*parts: Text | Thinking | ToolCall) -> Conversation:
    return Conversation(model="m", messages=(Message(role="assistant", parts=parts, source=Source("p", {})),))


def call(id_: str, signature: str | None = None) -> ToolCall:
    return ToolCall(id=id_, name="f", arguments="{}", signature=signature)


def test_the_first_thought_opens_the_turn_and_later_ones_stand_before_their_calls() -> None:
    thoughts = Thoughts()
    second = Thinking(text="and", signature="t", origin="anthropic_messages")
    thoughts.remember("s", {"a": Thought((SIGNED,)), "b": Thought((second,))})
    restored = thoughts.restore("s", conversation(Text(text="I look"), call("a"), call("b")))
    assert restored.messages[0].parts == (SIGNED, Text(text="I look"), call("a"), second, call("b"))
    assert restored.changed == {"messages"}
    assert restored.messages[0].source is None


def test_what_the_client_carries_itself_stays_as_it_is() -> None:
    thoughts = Thoughts()
    thoughts.remember("s", {"a": Thought((SIGNED,))})
    own = conversation(Thinking(text="own"), call("a"))
    assert thoughts.restore("s", own) is own


def test_a_signature_on_the_call_comes_back() -> None:
    thoughts = Thoughts()
    thoughts.remember("s", {"a": Thought((), "google")})
    assert thoughts.restore("s", conversation(call("a"))).messages[0].parts == (call("a", "google"),)
    own = conversation(call("a", "kept"))
    assert thoughts.restore("s", own) is own


def test_sessions_do_not_see_each_other() -> None:
    thoughts = Thoughts()
    thoughts.remember("s", {"a": Thought((SIGNED,))})
    other = conversation(call("a"))
    assert thoughts.restore("t", other) is other


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    thoughts = Thoughts()
    thoughts.remember("s", {f"c{i}": Thought((SIGNED,)) for i in range(MAX_CALLS + 1)})
    old, new = conversation(call("c0")), conversation(call(f"c{MAX_CALLS}"))
    assert thoughts.restore("s", old) is old
    assert thoughts.restore("s", new) is not new
    for i in range(MAX_SESSIONS):
        thoughts.remember(f"other{i}", {"a": Thought((SIGNED,))})
    assert thoughts.restore("s", new) is new


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
