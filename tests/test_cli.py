import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from kit.certificates import Authority
from kit.proxy import PROGRAMS, clean_environment, free_port, running_proxy
from kit.replies import answer, chat
from kit.upstream import Upstream

from llm_interactive import cli
from llm_interactive.mitm import banner
from llm_interactive.settings import load

KEY = "sk-never-shown-0123456789"
SECONDS = 60


def llm_proxy(home: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAMS / "llm-proxy"), *arguments],
        env=clean_environment(home) | dict(env or {}),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def ask(url: str, model: str = "demo:echo") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=SECONDS, trust_env=False)


def test_serve_answers_says_how_and_records_usage(tmp_path: Path) -> None:
    with running_proxy(mode="serve", home=tmp_path) as proxy:
        assert ask(proxy.url).json()["object"] == "chat.completion"
        models = llm_proxy(tmp_path, "models", "--port", str(proxy.port))
        assert "demo:echo" in models.stdout.splitlines()
        said = proxy.log()
    assert f"OPENAI_BASE_URL={proxy.url}/v1\n" in said
    assert f"ANTHROPIC_BASE_URL={proxy.url}/anthropic\n" in said
    assert f"GOOGLE_GEMINI_BASE_URL={proxy.url}\n" in said
    assert "no key found: using the demo backend, try:\n" in said
    assert f"curl {proxy.url}/v1/chat/completions" in said
    usage = llm_proxy(tmp_path, "usage", env={"COLUMNS": "120"})
    assert usage.returncode == 0
    assert re.search(r"requests\s+│ 1, 0 failed", usage.stdout)
    assert "demo:echo" in usage.stdout


def test_serve_loads_few_addons_and_all_of_them_for_an_option_of_another(tmp_path: Path) -> None:
    script = tmp_path / "addons.py"
    script.write_text("from mitmproxy import ctx\ndef running(): print('ADDONS', len(ctx.master.addons.chain))\n")

    def count(*args: str) -> int:
        with running_proxy(mode="serve", args=["-s", str(script), *args]) as proxy:
            assert ask(proxy.url).status_code == 200
            found = re.search(r"ADDONS (\d+)", proxy.log())
            assert found is not None
            return int(found[1])

    assert count() < 20
    assert count("--anticomp") > 30


@pytest.mark.parametrize("http2", [False, True])
def test_calls_caught_on_their_way_and_other_traffic(authority: Authority, http2: bool) -> None:
    names = ("api.openai.com", "other.example")
    with (
        Upstream(chat("caught"), answer({"n": 1}), authority=authority, http2=http2, names=names) as there,
        running_proxy(mode="serve", hosts=dict.fromkeys(names, there.port), authority=authority) as proxy,
    ):
        trust = ssl.create_default_context(cafile=str(proxy.ca_path))
        trust.load_verify_locations(authority.path)
        with httpx.Client(proxy=proxy.url, verify=trust, http2=http2, timeout=SECONDS, trust_env=False) as client:
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
            own = {"authorization": "Bearer sk-own"}
            reply = client.post("https://api.openai.com/v1/chat/completions", json=body, headers=own)
            assert reply.json()["choices"][0]["message"]["content"] == "caught"
            assert client.get("https://other.example/v1/models").json() == {"n": 1}
        assert [(seen.host, seen.header("authorization")) for seen in there.requests] == [
            ("api.openai.com", "Bearer sk-own"),
            ("other.example", None),
        ]


def test_flows_are_saved(tmp_path: Path) -> None:
    saved = tmp_path / "flows"
    with running_proxy(mode="serve", args=["-w", str(saved)]) as proxy:
        ask(proxy.url)
        assert proxy.stop() == 0
    assert b"demo:echo" in saved.read_bytes()


def test_backends_are_shown_with_their_number_of_keys(tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": KEY, "OPENAI_API_KEY_1": KEY + "b", "GEMINI_API_KEY": KEY}
    with running_proxy(env, mode="serve") as proxy:
        said = proxy.log()
    assert "openai (2 keys)" in said
    assert "gemini (1 key)" in said
    assert KEY not in said


def test_a_default_backend_without_a_key_is_pointed_out(tmp_path: Path) -> None:
    settings = load({"llm_backend": "groq"}, {"OPENAI_API_KEY": KEY}, tmp_path)
    assert "LLM_BACKEND is groq, which has no key" in banner.text(settings, "0.0.0.0", 8000)
    assert "http://127.0.0.1:8000/v1" in banner.text(settings, "0.0.0.0", 8000)
    assert "http://[::1]:8000/v1" in banner.text(settings, "::1", 8000)


def test_no_subcommand_is_serve_and_an_interrupt_ends_it_cleanly(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [str(PROGRAMS / "llm-proxy"), "--set", f"confdir={tmp_path}"],
        env=clean_environment(tmp_path) | {"PROXY_PORT": str(port)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("  curl"):
            break
    assert ask(f"http://127.0.0.1:{port}").status_code == 200
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (0, "")


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = llm_proxy(tmp_path, "serve", "--port", str(port))
    expected = f"llm-proxy: 127.0.0.1:{port}: address already in use; choose another with --port\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


@pytest.mark.parametrize(
    ("arguments", "env", "line"),
    [
        (["--set", "llm_proxy_timeout=x"], {}, "llm_proxy_timeout=x: must be a number from 0.1 to 86400"),
        ([], {"PROXY_PORT": "x"}, "PROXY_PORT=x: must be a whole number from 0 to 65535"),
        ([], {"OPENAI_API_KEY": f"{KEY} {KEY}"}, "OPENAI_API_KEY: must be a key of visible ASCII characters"),
        (["--default-backend", "none"], {}, "llm_backend=none: must be one of openai, openai-responses"),
        (["--config", "none.yaml"], {}, "llm_config=none.yaml: the file cannot be read"),
        (["--no-such-option"], {}, "unknown option: --no-such-option"),
        (["--set", "no_such_option=1"], {}, "unknown option: no_such_option"),
        (["--mode", "nonsense"], {}, "Invalid proxy mode specification: nonsense"),
    ],
)
def test_what_stops_a_start_is_one_line(tmp_path: Path, arguments: list[str], env: dict[str, str], line: str) -> None:
    done = llm_proxy(tmp_path, "serve", "--port", "0", *arguments, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert line in done.stderr
    assert KEY not in done.stderr


def test_help_lists_its_own_options_and_mitmdump_s(tmp_path: Path) -> None:
    done = llm_proxy(tmp_path, "--help")
    assert done.returncode == 0
    for option in ("--host", "--port", "--default-backend", "--config", "--mode", "--map-remote", "--flow-detail"):
        assert option in done.stdout
    options = llm_proxy(tmp_path, "--options").stdout
    assert "llm_command_prefix: ''" in options
    assert "api_key:" not in options


def test_models_says_in_one_line_that_no_proxy_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["models", "--port", str(free_port())]) == 1
    assert re.fullmatch(
        r"llm-proxy: no proxy answers at http://127\.0\.0\.1:\d+/v1/models: .+\n", capsys.readouterr().err
    )


def test_usage_without_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "LLM_PROXY_HOME", str(tmp_path / "home"))
    assert cli.run(["usage"]) == 0
    assert "No usage in" in capsys.readouterr().out
