"""The commands of the chat as commands of mitmproxy: `llm.set model=gemini:gemini-2.5-pro` (SPEC 5.3).

They act on the session that was used last, or on the one that `session=NAME` in front of the arguments names.
"""

from collections.abc import Callable, Iterator, Sequence

from mitmproxy import exceptions

from llm_interactive.commands.command import Command, all_commands
from llm_interactive.commands.context import CommandError

type Typed = Callable[[Command, str | None, str], str]
"""Runs a command with its arguments, as written between parentheses, on the session of that name."""

CHOICE = "session="


def commands(typed: Typed) -> Iterator[tuple[str, Callable[..., str]]]:
    """Names and functions for mitmproxy."""
    for name, command in all_commands().items():
        yield f"llm.{name}", _for_mitmproxy(command, typed)


def _for_mitmproxy(command: Command, typed: Typed) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        try:
            return typed(command, *_read(arguments))
        except CommandError as error:
            raise exceptions.CommandError(str(error)) from None

    run.__doc__ = command.description
    return run


def _read(arguments: Sequence[str]) -> tuple[str | None, str]:
    """The session's name, and the arguments as they are written in the chat; blanks part them here as commas do."""
    session = None
    if arguments and arguments[0].startswith(CHOICE):
        session = arguments[0].removeprefix(CHOICE)
        arguments = arguments[1:]
    return session, ", ".join(argument.removesuffix(",") for argument in arguments)
