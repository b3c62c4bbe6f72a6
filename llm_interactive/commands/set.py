from collections.abc import Callable, Sequence
from dataclasses import replace

from llm_interactive.commands.arguments import Argument
from llm_interactive.commands.command import command
from llm_interactive.commands.context import CommandError, Context
from llm_interactive.commands.set_keys import KEYS, REASONING, key_named
from llm_interactive.setting_values import show

type Change = Callable[[Context], str]


@command("set")
def set_(context: Context, *given: Argument) -> str:
    """Set values of this session, or of the whole proxy; all of them or none.

    Format: set(key=value, ...)
    Example: set(model=gemini:gemini-2.5-pro)
    Example: set(temperature=0.2, reasoning-effort=high)
    Example: set(gemini-generation-config={"topK": 1, "topP": 0.5})
    """
    changes: list[Change] = []
    unknown: list[str] = []
    for argument in _folded(given):
        key = key_named(argument.key) if argument.key is not None else None
        if key is None:
            unknown.append(argument.key or argument.value)
        else:
            changes.append(lambda draft, key=key, value=argument.value: key.put(draft, value))  # type: ignore[misc]
    return _all_or_nothing("set", context, changes, unknown, "no valid parameters provided or action taken")


@command()
def unset(context: Context, *given: Argument) -> str:
    """Take values back, so that what is configured, or what the request says, holds again.

    Format: unset(key, ...)
    Example: unset(model, temperature)
    """
    names = [argument.key or argument.value for argument in given]
    changes: list[Change] = [key.clear for name in names if (key := key_named(name)) is not None]
    return _all_or_nothing("unset", context, changes, [n for n in names if key_named(n) is None], "nothing to do")


def _folded(given: Sequence[Argument]) -> list[Argument]:
    """`reasoning=effort=high, max_tokens=2000` is one key with two values."""
    folded: list[Argument] = []
    for argument in given:
        last = folded[-1] if folded else None
        if argument.key in REASONING and last is not None and last.key == "reasoning" and last.value[:1] != "{":
            folded[-1] = Argument("reasoning", f"{last.value}, {argument.key}={argument.value}")
        else:
            folded.append(argument)
    return folded


def _all_or_nothing(
    name: str, context: Context, changes: Sequence[Change], unknown: Sequence[str], nothing: str
) -> str:
    if not changes:
        raise CommandError(f"{name}: {nothing}")
    if unknown:
        known = ", ".join(key.name for key in KEYS)
        raise CommandError(f"{name}: {show(unknown[0])} is no parameter; there are {known}")
    draft = replace(context, session=context.session.copy(), server=context.server.copy())
    answers = [change(draft) for change in changes]
    context.session.take(draft.session)
    context.server.take(draft.server)
    return "; ".join(answers)
