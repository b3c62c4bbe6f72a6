"""The settings as mitmproxy options, `--set llm_...`. Keys are none of them: mitmproxy shows and saves its options."""

from typing import Any

from mitmproxy.addonmanager import Loader
from mitmproxy.options import Options

from llm_interactive.settings import TABLE

ROWS = tuple(row for row in TABLE if row.is_option and not row.secret)
UNSET = ""
"""All are texts with this default, so that an option that was not set is told from one that was set to the default."""


def register(loader: Loader) -> None:
    for row in ROWS:
        default = f" Default: {row.default}." if row.default else ""
        allowed = row.read.allowed
        loader.add_option(row.option, str, UNSET, f"{row.help} ({allowed}).{default} Also as {row.environment}.")


def given(options: Options) -> dict[str, str]:
    """Those that were set, for `settings.load`."""
    values: dict[str, Any] = {row.option: getattr(options, row.option) for row in ROWS}
    return {name: value for name, value in values.items() if value != UNSET}
