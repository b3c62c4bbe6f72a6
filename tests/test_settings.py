from decimal import Decimal
from pathlib import Path

import pytest

from llm_interactive.settings import TABLE, Settings, SettingsError, load

KEY = "sk-proj-never-shown-0123456789"
YAML_WITH_EVERYTHING = """
proxy_timeout: 5
LOOP_DETECTION_ENABLED: no
allowed_urls: [a.example, "https://b.example:8443/v1"]
openai_api_key_10: k10
groq_api_key: [g1, g2]
gemini_api_base_url: http://127.0.0.1:1/gemini/
backends:
  local:
    protocol: [openai_chat, anthropic_messages]
    base_url: http://127.0.0.1:8080
    api_key_env: MY_KEY
    headers: {X-Team: red}
model_defaults:
  "openai:*": {temperature: 0.5, thinking_budget: 0, tool_loop_mode: chance}
failover_routes:
  cheap: {policy: km, elements: ["local:m", "openrouter/anthropic/claude", "openai:ft:a:b"]}
aliases: {fast: "groq:llama"}
"""


def with_file(folder: Path, text: str, **environ: str) -> Settings:
    (folder / "proxy.yaml").write_text(text, encoding="utf-8")
    return load({}, {"LLM_CONFIG": "proxy.yaml", **environ}, folder)


def keys_of(settings: Settings, backend: str) -> list[str]:
    return [key.get_secret_value() for key in settings.keys.get(backend, ())]


def error_of(folder: Path, options: dict[str, str] | None = None, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(options or {}, environ, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def file_error(folder: Path, text: str) -> str:
    (folder / "proxy.yaml").write_text(text, encoding="utf-8")
    return error_of(folder, LLM_CONFIG="proxy.yaml").replace(str(folder), "")


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    settings = load({}, {"HOME": str(tmp_path)}, tmp_path)
    assert settings == Settings(home=tmp_path / ".llm-interactive-proxy")
    assert {row.environment: row.default for row in TABLE if row.default} == {
        "PROXY_HOST": "127.0.0.1",
        "PROXY_PORT": "8000",
        "PROXY_TIMEOUT": "300",
        "COMMAND_PREFIX": "!/",
        "DISABLE_INTERACTIVE_COMMANDS": "false",
        "REDACT_API_KEYS_IN_PROMPTS": "true",
        "REDACTION_RESTORE": "false",
        "DISABLE_AUTH": "false",
        "FORCE_SET_PROJECT": "false",
        "DISABLE_ACCOUNTING": "false",
        "LOOP_DETECTION_ENABLED": "true",
        "LOOP_DETECTION_BUFFER_SIZE": "2048",
        "LOOP_DETECTION_MAX_PATTERN_LENGTH": "500",
        "LOOP_DETECTION_CONTENT_CHUNK_SIZE": "50",
        "LOOP_DETECTION_CONTENT_LOOP_THRESHOLD": "10",
        "LOOP_DETECTION_MAX_HISTORY_LENGTH": "1000",
        "LOOP_DETECTION_NOTICE": "content",
        "TOOL_LOOP_DETECTION_ENABLED": "true",
        "TOOL_LOOP_MAX_REPEATS": "4",
        "TOOL_LOOP_TTL_SECONDS": "120",
        "TOOL_LOOP_MODE": "break",
        "LLM_DECRYPT_OTHERS": "false",
        "LLM_PROXY_HOME": "~/.llm-interactive-proxy",
    }


def test_each_place_goes_before_the_next(tmp_path: Path) -> None:
    options, environ = {"llm_proxy_timeout": "1"}, {"PROXY_TIMEOUT": "2", "LLM_CONFIG": "c.yaml"}
    (tmp_path / "c.yaml").write_text("proxy_timeout: 4")
    assert load({}, {"LLM_CONFIG": "c.yaml"}, tmp_path).proxy_timeout == 4
    (tmp_path / ".env").write_text("PROXY_TIMEOUT=3\nLLM_CONFIG=c.yaml\n")
    assert load({}, {}, tmp_path).proxy_timeout == 3
    assert load({}, environ, tmp_path).proxy_timeout == 2
    assert load(options, environ, tmp_path).proxy_timeout == 1


def test_an_empty_value_is_none(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PROXY_PORT=9000\nLLM_BACKEND=\n")
    settings = load({"llm_backend": ""}, {"PROXY_PORT": "", "LLM_BACKEND": ""}, tmp_path)
    assert (settings.proxy_port, settings.backend) == (9000, None)


def test_the_file_has_everything(tmp_path: Path) -> None:
    settings = with_file(tmp_path, YAML_WITH_EVERYTHING, MY_KEY="m", MY_KEY_1="m1", OPENAI_API_KEY="k")
    assert (settings.proxy_timeout, settings.loop_detection_enabled) == (5, False)
    assert settings.allowed_urls == ("a.example", "b.example:8443")
    assert keys_of(settings, "openai") == keys_of(settings, "openai-responses") == ["k", "k10"]
    assert keys_of(settings, "groq") == ["g1", "g2"]
    assert keys_of(settings, "local") == ["m", "m1"]
    assert settings.base_urls == {"gemini": "http://127.0.0.1:1/gemini", "local": "http://127.0.0.1:8080"}
    assert settings.backends["local"].headers == {"x-team": "red"}
    defaults = settings.model_defaults["openai:*"]
    assert (defaults.temperature, defaults.thinking_budget, defaults.max_tokens) == (0.5, 0, None)
    assert defaults.tool_loop_mode == "chance_then_break"
    assert settings.failover_routes["cheap"].elements == (
        "local:m",
        "openrouter:anthropic/claude",
        "openai:ft:a:b",
    )
    assert settings.aliases == {"fast": "groq:llama"}


def test_keys_add_up_in_order_without_duplicates(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=plain\nOPENAI_API_KEY_3=three\nOPENAI_API_KEY_2=old\n")
    environ = {"OPENAI_API_KEY_10": "ten", "OPENAI_API_KEY_2": " two\n", "OPENAI_API_KEY_4": "plain"}
    assert keys_of(load({}, environ, tmp_path), "openai") == ["plain", "two", "three", "ten"]


def test_client_keys_are_a_comma_list(tmp_path: Path) -> None:
    settings = load({}, {"LLM_INTERACTIVE_PROXY_API_KEY": "a, b,,a"}, tmp_path)
    assert [key.get_secret_value() for key in settings.client_keys] == ["a", "b"]


@pytest.mark.parametrize("word", ["true", "1", "yes", "on", "TRUE", " On "])
def test_what_is_true(tmp_path: Path, word: str) -> None:
    assert load({}, {"DISABLE_AUTH": word}, tmp_path).disable_auth is True


@pytest.mark.parametrize("word", ["false", "0", "no", "off", "False"])
def test_what_is_false(tmp_path: Path, word: str) -> None:
    assert load({}, {"LOOP_DETECTION_ENABLED": word}, tmp_path).loop_detection_enabled is False


@pytest.mark.parametrize("prefix", ["!/", "??!", "a" * 9 + "b", "»»>"])
def test_command_prefixes_that_are_allowed(tmp_path: Path, prefix: str) -> None:
    assert load({}, {"COMMAND_PREFIX": prefix}, tmp_path).command_prefix == prefix


@pytest.mark.parametrize("prefix", ["!", "!!", "!!!!", "! /", "!\t/", "a" * 10 + "b", "!\x07", "!\u200b", " !/"])
def test_command_prefixes_that_are_not(tmp_path: Path, prefix: str) -> None:
    assert "COMMAND_PREFIX=" in error_of(tmp_path, COMMAND_PREFIX=prefix)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"DISABLE_AUTH": "maybe"}, "DISABLE_AUTH=maybe: must be true, 1, yes, on, false, 0, no or off"),
        ({"PROXY_PORT": "70000"}, "PROXY_PORT=70000: must be a whole number from 0 to 65535"),
        ({"TOOL_LOOP_MAX_REPEATS": "1"}, "TOOL_LOOP_MAX_REPEATS=1: must be a whole number from 2 to 1000000"),
        ({"LOOP_DETECTION_CONTENT_CHUNK_SIZE": "1.5"}, "=1.5: must be a whole number from 2 to 100000"),
        ({"PROXY_TIMEOUT": "nan"}, "PROXY_TIMEOUT=nan: must be a number from 0.1 to 86400"),
        ({"TOOL_LOOP_MODE": "stop"}, "TOOL_LOOP_MODE=stop: must be break or chance_then_break"),
        ({"OPENAI_API_BASE_URL": "host/v1"}, "OPENAI_API_BASE_URL=host/v1: must be an http:// or https:// URL"),
        ({"OPENAI_API_BASE_URL": "http://h:99999"}, "must be an http:// or https:// URL"),
        ({"OPENAI_API_BASE_URL": "http://h/v1?a=b"}, "must be an http:// or https:// URL"),
        ({"LLM_BACKEND": "opnai"}, "LLM_BACKEND=opnai: must be one of openai, openai-responses, openrouter"),
        ({"LLM_ALLOWED_URLS": "a b"}, "LLM_ALLOWED_URLS=a b: must be host names, separated by commas"),
        ({"USAGE_RETENTION_DAYS": "0"}, "USAGE_RETENTION_DAYS=0: must be a whole number from 1 to 36500"),
        ({"LLM_CONFIG": "none.yaml"}, "LLM_CONFIG=none.yaml: the file cannot be read: No such file or directory"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(tmp_path: Path, environ: dict[str, str], line: str) -> None:
    assert line in error_of(tmp_path, **environ)


def test_the_place_is_named_as_the_person_spelled_it(tmp_path: Path) -> None:
    assert error_of(tmp_path, {"llm_disable_auth": "x"}).startswith("llm_disable_auth=x: ")
    assert file_error(tmp_path, "Disable_Auth: x").startswith("Disable_Auth=x in /proxy.yaml: ")
    (tmp_path / ".env").write_text("DISABLE_AUTH=x")
    assert error_of(tmp_path).startswith("DISABLE_AUTH=x in .env: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("proxy_tiemout: 5", "proxy_tiemout in /proxy.yaml: there is no such setting; did you mean proxy_timeout?"),
        ("proxy_timeout: 5\nPROXY_TIMEOUT: 6", "PROXY_TIMEOUT in /proxy.yaml: is the same setting as proxy_timeout"),
        ("proxy_timeout_1: 5", "there is no such setting"),
        ("a: [", "LLM_CONFIG=proxy.yaml: line 1: the file is not valid YAML"),
        ("aliases: {}\naliases: {}", "LLM_CONFIG=proxy.yaml: line 2: the same key twice"),
        ("- a", "LLM_CONFIG=proxy.yaml: must be a file whose top level is a mapping"),
        ("model_defaults: [a]", "model_defaults=['a'] in /proxy.yaml: must be a mapping of model names"),
        ("model_defaults: {m: {temprature: 1}}", "model_defaults.m.temprature in /proxy.yaml: there is no such"),
        ("model_defaults: {m: {temperature: 3}}", "model_defaults.m.temperature=3 in /proxy.yaml: must be a number"),
        ("model_defaults: {m: {thinking_budget: 5}}", "must be 0, or a whole number from 128 to 131072"),
        ("failover_routes: {r: {policy: x}}", "failover_routes.r.policy=x in /proxy.yaml: must be k, m, km or mk"),
        ("failover_routes: {r: {policy: k, elements: ['no:m']}}", "failover_routes.r.elements=no:m in /proxy.yaml"),
        ("backends: {x: {base_url: 'http://h'}}", "backends.x in /proxy.yaml: protocol is missing"),
        ("backends: {x: {protocol: gemini}}", "backends.x in /proxy.yaml: base_url is missing"),
        ("backends: {x: {protocol: soap, base_url: 'http://h'}}", "backends.x.protocol=soap in /proxy.yaml: must be"),
        ("backends: {openai: {protocol: gemini}}", "backends.openai in /proxy.yaml: base_url is missing"),
        ("backends: {demo: {protocol: gemini, base_url: 'http://h'}}", "and not demo"),
        ("backends: {'a:b': {protocol: gemini, base_url: 'http://h'}}", "a backend's name is"),
        ("aliases: {a: [b]}", "aliases.a=['b'] in /proxy.yaml: must be text"),
    ],
)
def test_what_is_wrong_in_the_file(tmp_path: Path, text: str, line: str) -> None:
    assert line in file_error(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        f"openai_api_key: {KEY} x",
        f"openai_api_key: {{a: {KEY}}}",
        f"openai_api_key: {KEY}\nopenai_api_key: {KEY}",
        f"openai_api_key: {KEY}\n  b: [",
        f"{KEY}: 1",
        f"llm_backend: {KEY}",
        f"openai_api_base_url: http://user:{KEY}@host",
        f"backends: {{x: {{protocol: gemini, base_url: 'http://h', api_key_env: '{KEY}'}}}}",
        f"backends: {{x: {{protocol: gemini, base_url: 'http://h', headers: {{a: ['{KEY}']}}}}}}",
    ],
)
def test_no_error_shows_a_key(tmp_path: Path, text: str) -> None:
    assert "never-shown" not in file_error(tmp_path, text)


def test_no_representation_shows_a_key(tmp_path: Path) -> None:
    text = f"backends: {{x: {{protocol: gemini, base_url: 'http://h', headers: {{auth: '{KEY}'}}}}}}"
    environ = {"OPENAI_API_KEY": KEY, "LLM_INTERACTIVE_PROXY_API_KEY": KEY}
    settings = with_file(tmp_path, text, **environ)
    assert keys_of(settings, "openai") == [KEY]
    assert settings.backends["x"].headers == {"auth": KEY}
    assert "never-shown" not in repr(settings) + str(settings)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    assert error_of(tmp_path).endswith(".env: the file cannot be read: it is not UTF-8 text")


def test_a_key_of_another_backend_of_the_file_has_its_own_variable(tmp_path: Path) -> None:
    text = "backends: {my-host: {protocol: openai_chat, base_url: 'http://h'}}"
    settings = with_file(
        tmp_path, text, MY_HOST_API_KEY="k", MY_HOST_API_BASE_URL="http://other/v1/", LLM_BACKEND="my-host"
    )
    assert (keys_of(settings, "my-host"), settings.base_urls["my-host"]) == (["k"], "http://other/v1")
    assert settings.backend in settings.backend_names


def test_own_prices_are_read_as_they_are_written(tmp_path: Path) -> None:
    settings = with_file(tmp_path, "prices: {'openai:gpt-*': {input: 0.1, cached: '0.01'}, emb: {output: 2}}")
    first, second = settings.prices["openai:gpt-*"], settings.prices["emb"]
    assert (first.input, first.cached, first.output) == (Decimal("0.1"), Decimal("0.01"), None)
    assert (second.input, second.output) == (None, Decimal(2))


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ("{m: {input: -1}}", "prices.m.input=-1 in /proxy.yaml: must be a number from 0 to 1000000"),
        ("{m: {cached: 1}}", "must be a mapping with input or output, in USD for a million tokens"),
        ("{m: {inputs: 1}}", "there is no such setting; did you mean input?"),
        ("3", "must be a mapping of model names or patterns to their prices"),
    ],
)
def test_a_wrong_price_is_named(tmp_path: Path, prices: str, said: str) -> None:
    assert said in file_error(tmp_path, f"prices: {prices}")


def test_what_a_person_knows_of_a_model(tmp_path: Path) -> None:
    text = 'model_facts: {"local:llava*": {images: true, refuses: [top_k, stop], efforts: "low, high", max_output: 5}}'
    own = with_file(tmp_path, text).model_facts["local:llava*"]
    assert own.model_dump(exclude_none=True) == {
        "images": True, "refuses": ("top_k", "stop"), "efforts": ("low", "high"), "max_output": 5,
    }  # fmt: skip
    assert file_error(tmp_path, "model_facts: {m: {refuses: [heat]}}").startswith("model_facts.m.refuses=['heat'] in ")
    assert "did you mean images?" in file_error(tmp_path, "model_facts: {m: {image: true}}")
