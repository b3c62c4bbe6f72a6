"""Aliases of the file; the rest is tested with the settings."""

import pytest

from llm_interactive.config_file import is_pattern, read_aliases
from llm_interactive.setting_values import Given, SettingsError


def test_an_alias_may_be_a_pattern() -> None:
    aliases = {"fast": "groq:llama", r"/^claude-(\d)/": r"gemini:flash-\1", "/": "demo:echo"}
    assert read_aliases(Given("aliases", aliases, "proxy.yaml")) == aliases
    assert [is_pattern(name) for name in aliases] == [False, True, False]


@pytest.mark.parametrize(
    ("name", "meaning", "line"),
    [
        ("/(/", "demo:echo", r"aliases\./\(/ in proxy.yaml: is no regular expression: missing \)"),
        ("/a/", r"demo:\1", "is no regular expression: invalid group reference 1"),
        ("/a/", r"demo:\q", "is no regular expression: bad escape"),
    ],
)
def test_a_pattern_that_is_none_stops_the_start(name: str, meaning: str, line: str) -> None:
    with pytest.raises(SettingsError, match=line):
        read_aliases(Given("aliases", {name: meaning}, "proxy.yaml"))
