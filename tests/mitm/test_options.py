from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError
from mitmproxy.options import Options

from llm_interactive.mitm import options
from llm_interactive.settings import TABLE, load


@pytest.fixture
def chosen() -> Options:
    holder: Any = SimpleNamespace(options=Options())  # all that a loader needs of a master
    options.register(Loader(holder))
    return holder.options


def test_every_setting_but_keys_and_the_address_is_an_option(chosen: Options) -> None:
    missing = {row.environment for row in TABLE if row.option not in chosen}
    assert missing == {row.environment for row in TABLE if "API_KEY" in row.environment and row.secret} | {
        "PROXY_HOST",
        "PROXY_PORT",
    }
    assert "REDACT_API_KEYS_IN_PROMPTS" not in missing


def test_the_help_names_the_default_what_is_allowed_and_the_variable(chosen: Options) -> None:
    help_ = chosen._options["llm_tool_loop_mode"].help
    assert help_.endswith("(break or chance_then_break). Default: break. Also as TOOL_LOOP_MODE.")


def test_only_what_was_set_is_given(chosen: Options) -> None:
    assert options.given(chosen) == {}
    chosen.set("llm_proxy_timeout=300", "llm_disable_auth=false")
    assert options.given(chosen) == {"llm_proxy_timeout": "300", "llm_disable_auth": "false"}


def test_an_option_set_to_the_default_goes_before_the_environment(chosen: Options, tmp_path: Path) -> None:
    chosen.set("llm_loop_detection_enabled=true")
    environ = {"LOOP_DETECTION_ENABLED": "false"}
    assert load(options.given(chosen), environ, tmp_path).loop_detection_enabled is True


def test_an_option_without_a_value_is_an_error(chosen: Options) -> None:
    with pytest.raises(OptionsError, match="llm_disable_auth"):
        chosen.set("llm_disable_auth")
