import subprocess

import pytest

from llm_interactive.environment import AUTHORITIES, PROGRAMS, Place, as_base_url, as_proxy

PLACE = Place("127.0.0.1", 8000, "/conf/mitmproxy-ca-cert.pem", "/home/u/.llm/ca-bundle.pem", has_key=False)
LOCKED = Place("::1", 8000, PLACE.certificate, PLACE.bundle, has_key=True)


def in_shell(lines: list[str], variable: str, **given: str) -> str:
    script = "\n".join([*lines, f'printf %s "${variable}"'])
    return subprocess.run(["sh", "-c", script], env=given, capture_output=True, text=True, check=True).stdout


def test_a_shell_has_it_all_afterwards() -> None:
    lines = as_proxy(None, PLACE)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        assert in_shell(lines, name) == "http://127.0.0.1:8000"
    assert in_shell(lines, "NO_PROXY") == "localhost,127.0.0.1,::1"
    assert in_shell(lines, "SSL_CERT_FILE") == PLACE.bundle
    assert in_shell(lines, "NODE_EXTRA_CA_CERTS") == PLACE.certificate
    assert in_shell(lines, "NODE_USE_ENV_PROXY") == "1"


@pytest.mark.parametrize("program", AUTHORITIES)
def test_a_program_gets_what_it_reads_and_no_more(program: str) -> None:
    lines = as_proxy(program, PLACE)
    wanted = {name for name, _ in AUTHORITIES[program]}
    assert {
        line.split()[1].split("=")[0] for line in lines if PLACE.bundle in line or PLACE.certificate in line
    } == wanted
    assert in_shell(lines, "HTTPS_PROXY") == "http://127.0.0.1:8000"


def test_the_shell_puts_the_key_in() -> None:
    lines = as_proxy("curl", LOCKED)
    given = {"LLM_INTERACTIVE_PROXY_API_KEY": "first-key,second-key"}
    assert in_shell(lines, "HTTPS_PROXY", **given) == "http://any:first-key@[::1]:8000"
    based = as_base_url("claude", LOCKED)
    assert in_shell(based, "ANTHROPIC_API_KEY", **given) == "first-key"
    assert in_shell(based, "ANTHROPIC_BASE_URL", **given) == "http://[::1]:8000/anthropic"


def test_base_urls_of_all_programs() -> None:
    lines = as_base_url(None, PLACE)
    assert in_shell(lines, "OPENAI_BASE_URL") == "http://127.0.0.1:8000/v1"
    assert in_shell(lines, "GOOGLE_GEMINI_BASE_URL") == "http://127.0.0.1:8000"
    assert in_shell(lines, "GEMINI_API_KEY") == "any"


def test_docker_gets_one_command() -> None:
    lines = [line for line in as_proxy("docker", PLACE) if not line.startswith("#")]
    script = "\n".join(["docker() { for each; do echo $each; done; }", *lines])
    given = {"LLM_INTERACTIVE_PROXY_API_KEY": "k", "IMAGE": "python:3"}
    said = subprocess.run(
        ["sh", "-c", script], env=given, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "HTTPS_PROXY=http://any:k@host.docker.internal:8000" in said
    assert f"{PLACE.bundle}:/etc/llm-proxy/ca-bundle.pem:ro" in said
    assert "SSL_CERT_FILE=/etc/llm-proxy/ca-bundle.pem" in said
    assert said[-1] == "python:3"


def test_every_program_has_lines() -> None:
    assert all(as_proxy(program, PLACE) for program in PROGRAMS)
