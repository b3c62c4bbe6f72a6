from llm_interactive.commands.command import all_commands, command, named
from llm_interactive.commands.context import CommandError, Context
from llm_interactive.setting_values import show


@command("help")
def help_(context: Context, name: str = "") -> str:
    """List the commands, or explain one.

    Format: help or help(command)
    Example: help
    Example: help(set)
    """
    if not name:
        return f"available commands: {', '.join(all_commands())}"
    prefix = context.prefix
    found = named(name.removeprefix(prefix))
    if found is None:
        raise CommandError(f"unknown command: {show(name)}")
    also = f" (also {', '.join(found.aliases)})" if found.aliases else ""
    lines = [f"{found.name}{also} - {found.description}", f"Format: {prefix}{found.format}"]
    return "\n".join([*lines, "Examples:", *(f"  {prefix}{example}" for example in found.examples)])
