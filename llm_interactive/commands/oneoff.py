import re

from llm_interactive.commands.command import command
from llm_interactive.commands.context import CommandError, Context
from llm_interactive.setting_values import show


@command(aliases=("one-off",))
def oneoff(context: Context, route: str = "") -> str:
    """Send the next prompt, and only that, to another backend and model.

    Format: oneoff(backend:model) or oneoff(backend/model)
    Example: oneoff(gemini:gemini-2.5-pro)
    Example: oneoff(openrouter/anthropic/claude-sonnet-4)
    """
    element = context.element(route)
    if element is None:
        parts = re.fullmatch(r"([^:/]+)[:/].+", route)
        if parts is None:
            raise CommandError("oneoff command requires a backend/model argument.")
        raise CommandError(f"backend {show(parts[1])} not supported")
    context.session.oneoff = element
    return f"One-off route set to {element.replace(':', '/', 1)}."
