from pathlib import Path

import pytest

from llm_interactive.backends import catalog
from llm_interactive.backends.catalog import BACKENDS, ConfiguredBackend
from llm_interactive.backends.providers import FAMILIES
from llm_interactive.settings import load

PATHS = {
    "openai_chat": "/chat/completions",
    "openai_responses": "/responses",
    "anthropic_messages": "/messages",
    "gemini": "/models/m:generateContent",
}


def configured(folder: Path, text: str = "", **environ: str) -> dict[str, ConfiguredBackend]:
    (folder / "proxy.yaml").write_text(text)
    return catalog.configured(load({}, {"LLM_CONFIG": "proxy.yaml", **environ}, folder))


@pytest.mark.parametrize(
    ("base_url", "protocol", "url"),
    [
        ("https://host", "openai_chat", "https://host/v1/chat/completions"),
        ("https://host/", "openai_chat", "https://host/v1/chat/completions"),
        ("https://host/v1", "openai_chat", "https://host/v1/chat/completions"),
        ("https://host/v1/", "openai_responses", "https://host/v1/responses"),
        ("https://api.z.ai/api/paas/v4", "openai_chat", "https://api.z.ai/api/paas/v4/chat/completions"),
        ("https://host/v1beta/openai", "openai_chat", "https://host/v1beta/openai/chat/completions"),
        ("https://host/openai", "openai_chat", "https://host/openai/v1/chat/completions"),
        ("https://host/inference/chat/completions", "openai_chat", "https://host/inference/chat/completions"),
        ("https://v1.host", "openai_chat", "https://v1.host/v1/chat/completions"),
        ("http://x/anthropic", "anthropic_messages", "http://x/anthropic/v1/messages"),
        ("http://x/anthropic/v1", "anthropic_messages", "http://x/anthropic/v1/messages"),
        ("http://x/v2/anthropic", "anthropic_messages", "http://x/v2/anthropic/v1/messages"),
        ("http://x/gemini", "gemini", "http://x/gemini/v1beta/models/m:generateContent"),
        ("http://x/v1", "gemini", "http://x/v1/models/m:generateContent"),
        ("http://x/v1alpha", "gemini", "http://x/v1alpha/models/m:generateContent"),
        ("http://x/valley", "gemini", "http://x/valley/v1beta/models/m:generateContent"),
    ],
)
def test_the_version_segment_is_there_once(base_url: str, protocol: str, url: str) -> None:
    assert catalog.join(base_url, protocol, PATHS[protocol]) == url


def test_an_exact_base_url_serves_the_other_paths_beside_it() -> None:
    assert (
        catalog.join("https://h/inference/chat/completions", "openai_chat", "/models") == "https://h/inference/models"
    )


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/v1/chat/completions", "/v1"),
        ("/api/v1/messages", "/api/v1"),
        ("/api/paas/v4/chat/completions", "/api/paas/v4"),
        ("/v1beta/models/v1:generateContent", "/v1beta"),
        ("/v1beta/v1beta/models/m", "/v1beta/v1beta"),
        ("/chat/completions", ""),
        ("/v1", ""),
    ],
)
def test_where_a_called_path_has_its_version(path: str, prefix: str) -> None:
    assert catalog.version_prefix(path) == prefix


@pytest.mark.parametrize("name", BACKENDS)
def test_every_row_is_whole(name: str, tmp_path: Path) -> None:
    row = BACKENDS[name]
    assert row.protocols
    assert set(row.protocols) <= set(FAMILIES)
    there = configured(tmp_path, **{f"{row.prefix}_API_KEY": "k"})[name]
    assert there.protocols == row.protocols
    assert [key.get_secret_value() for key in there.keys] == ["k"]
    assert all(catalog.recognised_host(host.upper()) == row for host in row.hosts)


def test_nothing_is_configured_without_a_key(tmp_path: Path) -> None:
    assert configured(tmp_path) == {}
    assert configured(tmp_path, OPENAI_API_BASE_URL="http://h/v1") == {}


def test_the_order_is_the_table_s_then_the_file_s(tmp_path: Path) -> None:
    text = "backends: {a: {protocol: gemini, base_url: 'http://h'}, b: {protocol: gemini, base_url: 'http://h'}}"
    assert list(configured(tmp_path, text, XAI_API_KEY="k", OPENAI_API_KEY="k", ZAI_API_KEY="k")) == [
        "openai",
        "openai-responses",
        "zai",
        "xai",
        "a",
        "b",
    ]


def test_a_custom_base_url_serves_the_first_protocol_alone(tmp_path: Path) -> None:
    there = configured(tmp_path, OPENAI_API_KEY="k", OPENAI_API_BASE_URL="http://h/v1", DEEPSEEK_API_KEY="d")
    assert there["openai"].protocols == {"openai_chat": "http://h/v1"}
    assert there["openai-responses"].protocols == {"openai_responses": "http://h/v1"}
    assert list(there["deepseek"].protocols) == ["openai_chat", "anthropic_messages"]


def test_unless_the_file_says_more(tmp_path: Path) -> None:
    text = "backends: {openai: {protocol: [openai_responses, openai_chat], base_url: 'http://h', headers: {a: b}}}"
    there = configured(tmp_path, text, OPENAI_API_KEY="k")
    assert there["openai"].protocols == {"openai_responses": "http://h", "openai_chat": "http://h"}
    assert there["openai"].headers == {"a": "b"}
    assert there["openai-responses"].protocols == {"openai_responses": "http://h"}


@pytest.mark.parametrize("environ", [{"OLLAMA_API_BASE_URL": "http://h:11434"}, {"LLM_BACKEND": "ollama"}])
def test_ollama_needs_no_key_but_must_be_named(tmp_path: Path, environ: dict[str, str]) -> None:
    assert configured(tmp_path, **environ)["ollama"].keys == ()


def test_a_backend_of_the_file_has_its_key_or_needs_none(tmp_path: Path) -> None:
    head = "backends: {x: {protocol: anthropic_messages, base_url: 'http://h'"
    there = configured(tmp_path, head + "}}")["x"]
    assert (there.protocols, there.keys, there.vendor) == ({"anthropic_messages": "http://h"}, (), "anthropic")
    assert configured(tmp_path, head + ", api_key_env: MY_KEY}}") == {}
    assert len(configured(tmp_path, head + ", api_key_env: MY_KEY}}", MY_KEY="k", MY_KEY_2="l")["x"].keys) == 2


def test_hosts_that_are_watched_besides_the_known_ones() -> None:
    assert catalog.recognised_host("example.com") is None
    watched = catalog.recognised_host("Example.com.", ("example.com",))
    assert watched is not None
    caught = catalog.intercepted(watched, "anthropic_messages", "https://example.com/v1")
    assert (caught.name, caught.protocols, caught.keys) == (
        "example.com",
        {"anthropic_messages": "https://example.com/v1"},
        (),
    )


def test_no_representation_shows_a_key_or_header(tmp_path: Path) -> None:
    text = "backends: {x: {protocol: gemini, base_url: 'http://h', headers: {a: never-shown}}}"
    there = configured(tmp_path, text, OPENAI_API_KEY="never-shown")
    assert "never-shown" not in repr(there)
    assert "never-shown" not in repr(catalog.demo("http://h", "never-shown"))
