from llm_interactive.commands.command import command
from llm_interactive.commands.context import CommandError, Context


@command()
def pwd(context: Context) -> str:
    """Show the project directory of this session.

    Format: pwd
    Example: pwd
    """
    if context.session.project_dir is None:
        raise CommandError("Project directory not set.")
    return context.session.project_dir
