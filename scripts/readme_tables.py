"""The generated tables of README.md; `.venv/bin/cog -I . -r README.md` from the repository's root writes them."""

from llm_interactive.backends.providers import BACKENDS
from llm_interactive.commands.command import all_commands
from llm_interactive.commands.set_keys import KEYS
from llm_interactive.settings import ATTRIBUTES


def settings_table() -> str:
    lines = ["| environment | default | meaning | allowed |", "|---|---|---|---|"]
    for row in ATTRIBUTES.values():
        default = f"`{row.default}`" if row.default else "-"
        lines.append(f"| `{row.environment}` | {default} | {_cell(row.help)} | {_cell(row.read.allowed)} |")
    return "\n" + "\n".join(lines) + "\n\n"


def backends_table() -> str:
    lines = ["| backend | key | base URL | protocol |", "|---|---|---|---|"]
    for name, row in BACKENDS.items():
        key = f"`{row.prefix}_API_KEY`"
        if row.signs_in is not None:
            key += f", or the sign-in in `{row.signs_in}`"
        elif not row.needs_key:
            key += f", not needed; counts when `{row.prefix}_API_BASE_URL` is set"
        for protocol, url in row.protocols.items():
            lines.append(f"| `{name}` | {key} | `{url}` | `{protocol}` |")
            name, key = "〃", "〃"
    lines.append("| `demo` | none needed | inside the process | `openai_chat` |")
    return "\n" + "\n".join(lines).replace("`〃`", "〃") + "\n\n"


def commands_table() -> str:
    lines = ["| command | what it does |", "|---|---|"]
    for command in all_commands().values():
        lines.append(f"| `{_cell(command.format)}` | {_cell(command.description)} |")
    return "\n" + "\n".join(lines) + "\n\n"


def set_keys_table() -> str:
    lines = ["| key | also | value | holds for |", "|---|---|---|---|"]
    for key in KEYS:
        also = ", ".join(f"`{alias}`" for alias in key.aliases)
        scope = "everybody" if key.server else "the session"
        lines.append(f"| `{key.name}` | {also} | {_cell(key.values)} | {scope} |")
    return "\n" + "\n".join(lines) + "\n\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
