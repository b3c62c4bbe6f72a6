"""Runs what the user typed, and says what becomes of the request (SPEC 5.2)."""

from dataclasses import dataclass

from llm_interactive.commands.command import named
from llm_interactive.commands.context import CommandError, Context
from llm_interactive.commands.history import newest, own_answer, prelude, strip
from llm_interactive.commands.typed import Order, Typing
from llm_interactive.conversation import Conversation, Message
from llm_interactive.setting_values import show


@dataclass(frozen=True, slots=True)
class Outcome:
    """`conversation` is without the commands. `only_commands`, or an `error`: the proxy answers with `text` itself.
    `prelude`: what stands in front of the model's answer otherwise."""

    conversation: Conversation
    answers: tuple[str, ...] = ()
    error: bool = False
    only_commands: bool = False
    prelude: str = ""

    @property
    def is_local(self) -> bool:
        return self.only_commands or self.error

    @property
    def text(self) -> str:
        return "\n".join(self.answers)


def typing_of(context: Context) -> Typing:
    former = tuple(each for each in context.server.former_prefixes if each != context.prefix)
    return Typing(context.prefix, former, context.aliases, frozenset(context.backends))


def run(conversation: Conversation, context: Context) -> Outcome:
    """All commands of the newest message, in order; one that fails keeps none of the others from running.

    Give it a conversation whose history is clean. The session and server of the context are changed."""
    number = newest(conversation.messages)
    if number is None:
        return Outcome(conversation)
    stripped = strip(conversation.messages[number], typing_of(context))
    if not stripped.orders:
        if stripped.message is conversation.messages[number]:
            return Outcome(conversation)
        return Outcome(_with(conversation, number, stripped.message))
    answers: list[str] = []
    failed = False
    problems = [order.problem for order in stripped.orders if order.problem is not None]
    for order in stripped.orders:
        try:
            if problems:
                raise CommandError(problems[0])  # what cannot be read whole is not run in part
            answers.append(_run(order, context))
        except CommandError as error:
            answers.append(str(error))
            failed = True
        if problems:
            break
    shown = prelude(answers) if context.session.interactive and stripped.has_content and not failed else ""
    if (failed and stripped.has_content) or shown:
        context.session.remember_own_answer(own_answer(stripped.orders, shown or "\n".join(answers)))
    changed = conversation if not stripped.has_content else _with(conversation, number, stripped.message)
    return Outcome(changed, tuple(answers), failed, not stripped.has_content, shown)


def _run(order: Order, context: Context) -> str:
    command = named(order.name)
    if command is None:
        raise CommandError(f"cmd not found: {show(order.name)}")
    return command(context, order.arguments)


def _with(conversation: Conversation, number: int, message: Message) -> Conversation:
    messages = conversation.messages
    return conversation.edit(messages=(*messages[:number], message, *messages[number + 1 :]))
