"""SPEC 5.2: what of earlier turns goes on to a model."""

from collections.abc import Sequence

import pytest

from llm_interactive.commands.context import BackendSummary, Context
from llm_interactive.commands.history import clean_history, wants_attempt_completion
from llm_interactive.commands.run import run, typing_of
from llm_interactive.commands.typed import Typing
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Part,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from llm_interactive.sessions import Server, Session

TYPING = Typing("!/")


def user(*parts: str | Part) -> Message:
    return Message(role="user", parts=_parts(parts), source=Source("p", {}))


def assistant(*parts: str | Part) -> Message:
    return Message(role="assistant", parts=_parts(parts), source=Source("p", {}))


def tool(*parts: Part) -> Message:
    return Message(role="tool", parts=parts, source=Source("p", {}))


def _parts(parts: Sequence[str | Part]) -> tuple[Part, ...]:
    return tuple(
        Text(text=part, source=Source("p", {"text": part})) if isinstance(part, str) else part for part in parts
    )


def call(id_: str, name: str = "f", arguments: str = "{}") -> ToolCall:
    return ToolCall(id=id_, name=name, arguments=arguments)


def result(id_: str) -> ToolResult:
    return ToolResult(call_id=id_, parts=(Text(text="!/done"),))


def conversation(*messages: Message) -> Conversation:
    return Conversation(model="m", messages=messages)


def cleaned(*messages: Message, typing: Typing = TYPING) -> tuple[Message, ...]:
    return clean_history(conversation(*messages), typing).messages


def test_commands_and_their_answers_go() -> None:
    hi, hello, more = user("hi"), assistant("hello"), user("more")
    left = cleaned(user("!/hello"), assistant("banner"), hi, hello, user(" !/set(x=1)\n!/pwd "), assistant("set"), more)
    assert left == (hi, hello, more)
    assert all(new is old for new, old in zip(left, (hi, hello, more), strict=True))


def test_commands_in_prompts_go_and_the_answers_of_models_stay() -> None:
    answer, last = assistant(Thinking(text="t"), "4"), user("and !/pwd")
    left = cleaned(user("!/set(model=a:b) 2+2?"), answer, last)
    assert left == (user("2+2?"), answer, last)
    assert left[0].source is None
    assert left[0].parts[0].read_by("p") == {"text": "2+2?"}
    assert left[1] is answer
    assert left[2] is last


def test_a_history_without_commands_is_the_same_object() -> None:
    whole = conversation(user("a !/ b"), assistant("!/hello"), user("`!/hello`"), tool(result("1")), user("!/hello"))
    assert clean_history(whole, TYPING) is whole


def test_an_unanswered_command_goes() -> None:
    assert cleaned(user("!/hello"), user("hi")) == (user("hi"),)


def test_the_newest_message_keeps_its_commands_unless_none_is_to_run() -> None:
    whole = conversation(user("hi"), assistant("hello"), user("!/set(x=1) go"))
    assert clean_history(whole, TYPING) is whole
    assert clean_history(whole, TYPING, newest_too=True).messages[-1] == user("go")


def test_a_prompt_whose_tools_run_is_old() -> None:
    asked, turn, answer = user("!/set(model=a:b) do"), assistant(call("1")), tool(result("1"))
    assert cleaned(asked, turn, answer) == (user("do"), turn, answer)


def test_what_a_model_answered_to_a_command_stays() -> None:
    messages = (user("!/hello"), assistant("I look"), assistant(call("1")), tool(result("1")), user("go on"))
    assert cleaned(*messages) == messages
    thinking = (user("!/hello"), assistant(Thinking(text="t"), "hello"), user("go on"))
    assert cleaned(*thinking) == thinking


@pytest.mark.parametrize("results", [(tool(result("own")),), (user(result("own")),)])
def test_attempt_completions_and_their_results_go(results: tuple[Message, ...]) -> None:
    own = assistant(call("own", "attempt_completion", '{"result": "banner"}'))
    assert cleaned(user("<task>!/x\n!/hello</task>"), own, *results, user("hi"))[-1] == user("hi")
    assert cleaned(user("<task>\n!/hello\n</task>"), own, *results, user("hi")) == (user("hi"),)


def test_the_rest_of_a_message_with_a_result_of_ours_stays() -> None:
    own = assistant(call("own", "attempt_completion", '{"result": "banner"}'))
    left = cleaned(user("!/hello"), own, user(result("own"), "hi"), assistant("hello"), user("more"))
    assert left == (user("hi"), assistant("hello"), user("more"))
    newest = cleaned(user("!/hello"), own, user(result("own"), "!/pwd"))
    assert newest == (user("!/pwd"),)
    again = assistant(call("own2", "attempt_completion", '{"result": "/"}'))
    assert cleaned(user("!/hello"), own, user(result("own"), "!/pwd"), again, user(result("own2"), "hi")) == (
        user("hi"),
    )


def test_a_models_own_attempt_completion_stays() -> None:
    messages = (user("do"), assistant(call("1", "attempt_completion")), tool(result("1")), user("more"))
    assert cleaned(*messages) == messages


def test_results_and_media_beside_a_command_stay() -> None:
    image = Media(kind="image", url="u")
    left = cleaned(
        assistant(call("1")), user(result("1"), "!/set(x=1)"), assistant("a"), user("!/pwd", image), user("b")
    )
    assert left == (assistant(call("1")), user(result("1")), assistant("a"), user(image), user("b"))


def test_what_a_client_put_beside_a_command_stays() -> None:
    reminder = "<system-reminder>\nCLAUDE.md says !/nope\n</system-reminder>"
    left = cleaned(user(reminder, "!/hello"), assistant("banner"), user("hi"))
    assert left == (user(reminder), user("hi"))
    block, typed = "<environment_details>\nfiles\n</environment_details>", "<task>\n!/hello\n</task>"
    assert cleaned(user(typed, block), assistant("banner"), user("hi")) == (user(block), user("hi"))


def test_aliases_stand_for_their_text_in_every_turn() -> None:
    typing = Typing("!/", aliases={"review": "Be strict:"})
    assert cleaned(user("!/review x"), assistant("ok"), user("y"), typing=typing)[0] == user("Be strict: x")
    assert cleaned(user("!/review"), assistant("ok"), user("y"), typing=typing)[:2] == (
        user("Be strict:"),
        assistant("ok"),
    )


def test_former_prefixes_hold_for_known_commands() -> None:
    typing = Typing("$/", former=("!/",))
    left = cleaned(user("!/set(command-prefix=$/)"), assistant("set"), user("!/hello you"), user("!/nope"), user("x"),
                   typing=typing)  # fmt: skip
    assert left == (user("you"), user("!/nope"), user("x"))


def test_the_prefix_of_the_conversation_stays_the_same_from_turn_to_turn() -> None:
    """Ten turns as a client would send them; what a provider saw must begin what it sees next (prompt caches)."""
    context = Context(Session("c/s"), Server(), {"openai": BackendSummary(1)})
    typed = ["!/hello", "hi", "!/set(temperature=1) how?", "!/nope at all", "!/alias(r=Review:)", "!/r this", "`!/x`",
             "!/set(temperature=9)\nwell", "!/set(project=p", "bye !/unset(project)"]  # fmt: skip
    history: list[Message] = []
    seen: tuple[Message, ...] = ()
    forwarded = 0
    for text in typed:
        history.append(user(text))
        clean = clean_history(conversation(*history), typing_of(context), own=context.session.own_answers)
        outcome = run(clean, context)
        if outcome.is_local:
            history.append(assistant(outcome.text))
            continue
        sent = outcome.conversation.messages
        assert sent[: len(seen)] == seen
        assert not any("!/" in message.text.replace("`!/x`", "") for message in sent)
        history.append(assistant(f"answer {forwarded}"))
        seen, forwarded = sent, forwarded + 1
    assert [message.text for message in seen] == [
        "hi", "answer 0", "how?", "answer 1", "at all", "Review: this", "answer 2", "`!/x`", "answer 3", "well", "bye",
    ]  # fmt: skip


def test_a_long_conversation_is_only_searched_for_the_prefix() -> None:
    whole = conversation(*(user("word ` " * 5000), assistant("!/hello")) * 30, user("x"))
    assert clean_history(whole, TYPING) is whole


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (Conversation(model="m", messages=(user("attempt_completion"),)), False),
        (Conversation(model="m", messages=(), system=(Text(text="use <attempt_completion>"),)), True),
        (Conversation(model="m", messages=(Message(role="system", parts=(Text(text="attempt_completion"),)),)), True),
        (Conversation(model="m", messages=(), tools=(Tool(name="attempt_completion"),)), True),
        (Conversation(model="m", messages=(), tools=(Tool(name="other"),)), False),
    ],
)
def test_who_wants_attempt_completions(asked: Conversation, wanted: bool) -> None:
    assert wants_attempt_completion(asked) is wanted
