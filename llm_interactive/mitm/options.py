"""The settings as mitmproxy options. Keys are no options, since mitmweb shows and saves options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mitmproxy.addonmanager import Loader
from mitmproxy.options import Options

from llm_interactive.settings import SECRET, TABLE, option_name


def register(loader: Loader) -> None:
    """Every option is text and unset by default, so that what the environment says shows through."""
    for name, field in TABLE.items():
        if name not in SECRET:
            help_ = f"{field.description} (default: {_shown(field.default)}; or {field.alias})"
            loader.add_option(option_name(name), str | None, None, help_)
    loader.add_option("llm_config", str | None, None, "YAML file with settings (or LLM_CONFIG)")


def given(options: Options) -> Mapping[str, Any]:
    """Those that were set, by name."""
    names = [option_name(name) for name in TABLE if name not in SECRET]
    values = {name: getattr(options, name) for name in (*names, "llm_config")}
    return {name: value for name, value in values.items() if value is not None}


def _shown(default: Any) -> str:
    if default in (None, ()):
        return "unset"
    return (
        str(default).lower()
        if isinstance(default, bool)
        else str(Path(default) if isinstance(default, Path) else default)
    )
