import re

from llm_interactive.commands.arguments import unquoted
from llm_interactive.commands.command import Raw, command, named
from llm_interactive.commands.context import CommandError, Context
from llm_interactive.commands.scanner import printable

NAME = re.compile(r"[^\W\d_][\w-]{0,63}")
LONGEST = 8192
MOST = 200


@command()
def alias(context: Context, text: Raw) -> str:
    """Give a name to a text, a model or commands of this session; alone: list them; with nothing behind =: remove it.

    Format: alias(name=text) or alias(name=) or alias
    Example: alias(fast=groq:llama-4)
    Example: alias(review=Review this change, and be strict.)
    Example: alias(review=)
    """
    if not text.strip():
        return ", ".join(f"{name}={printable(meaning)}" for name, meaning in context.aliases.items()) or (
            "no aliases defined"
        )
    name, found, meaning = text.partition("=")
    name, meaning = name.strip().lower(), unquoted(meaning)
    if not found or not NAME.fullmatch(name):
        raise CommandError("alias requires name=text; a name is made of letters, digits, - and _")
    if named(name) is not None:
        raise CommandError(f"alias {name}: a command has this name")
    return _set(context, name, meaning) if meaning else _remove(context, name)


def _set(context: Context, name: str, meaning: str) -> str:
    if len(meaning) > LONGEST or len(context.session.aliases) >= MOST:
        raise CommandError(f"alias {name}: at most {MOST} aliases of at most {LONGEST} characters")
    context.session.aliases = {**context.session.aliases, name: meaning}
    return f"alias {name} set to {printable(meaning)}"


def _remove(context: Context, name: str) -> str:
    if name not in context.session.aliases:
        raise CommandError(f"alias {name} not found")
    context.session.aliases = {known: text for known, text in context.session.aliases.items() if known != name}
    return f"alias {name} removed"
