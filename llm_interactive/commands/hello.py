from llm_interactive import __version__
from llm_interactive.commands.command import command
from llm_interactive.commands.context import BackendSummary, Context


@command()
def hello(context: Context) -> str:
    """Say who answers: name and version, this session, the backends.

    Format: hello
    Example: hello
    """
    lines = [f"LLM Interactive Proxy {__version__}", f"Session: {context.session.name}"]
    lines += [f"{name}: {_counts(summary)}" for name, summary in context.backends.items()]
    return "\n".join([*lines, f"Type {context.prefix}help for list of available commands"])


def _counts(summary: BackendSummary) -> str:
    models = "models not asked yet" if summary.models is None else _number(summary.models, "model")
    return f"{_number(summary.keys, 'key')}, {models}"


def _number(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
