"""SPEC 9: a configured key goes only to the origin that it was configured for."""

import pytest
from pydantic import SecretStr

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.backends.elsewhere import backend_for_url

KEY = SecretStr("sk-configured")
OPENAI = ConfiguredBackend(
    "openai", {"openai_chat": "https://api.openai.com/v1"}, (KEY,), {"openai-organization": "org"}
)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/v1",
        "http://api.openai.com/v1",
        "https://api.openai.com:8443/v1",
        "https://api.openai.com.evil.example/v1",
        "https://api.openai.com@evil.example/v1",
    ],
)
@pytest.mark.parametrize("configured", [{"openai": OPENAI}, {}])
def test_no_key_and_no_header_goes_elsewhere(url: str, configured: dict[str, ConfiguredBackend]) -> None:
    assert backend_for_url(url, configured) == ConfiguredBackend("openai", {"openai_chat": url})


def test_the_key_goes_to_its_own_origin() -> None:
    there = backend_for_url("https://api.openai.com/other/v1", {"openai": OPENAI})
    assert there.protocols == {"openai_chat": "https://api.openai.com/other/v1"}
    assert (there.keys, there.headers) == (OPENAI.keys, OPENAI.headers)
