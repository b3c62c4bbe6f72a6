"""What the client called this server, and reverse mode, where mitmproxy writes another name over it."""

from collections.abc import Callable

import httpx
import pytest
from kit.proxy import RunningProxy
from kit.replies import chat
from kit.upstream import Upstream
from mitmproxy import http

from llm_interactive.access import is_loopback
from llm_interactive.mitm.entrance import host_of


@pytest.mark.parametrize(
    ("authority", "host", "name"),
    [
        ("", "localhost:8000", "localhost:8000"),
        ("localhost:8000", "", "localhost:8000"),
        ("localhost:8000", "localhost:8000", "localhost:8000"),
        ("", "", ""),
    ],
)
def test_the_name_is_said_in_one_of_two_places(authority: str, host: str, name: str) -> None:
    assert host_of(request(authority, host)) == name


def test_two_different_names_are_none() -> None:
    for authority, host in (("localhost", "evil.example"), ("evil.example", "localhost")):
        assert not is_loopback(host_of(request(authority, host)))


def request(authority: str, host: str) -> http.Request:
    made = http.Request.make("GET", "http://x/")
    made.headers = http.Headers(host=host) if host else http.Headers()
    made.data.authority = authority.encode()
    return made


def test_a_rebound_name_is_seen_in_reverse_mode_too(
    start_proxy: Callable[..., RunningProxy], upstream: Upstream
) -> None:
    upstream.enqueue(chat("hi"))
    given = {"OPENAI_API_KEY": "sk-x", "OPENAI_API_BASE_URL": upstream.url}
    proxy = start_proxy(given, args=["--mode", f"reverse:{upstream.url}"])
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    url = f"{proxy.url}/v1/chat/completions"
    assert httpx.post(url, json=body, headers={"host": "rebound.example"}).status_code == 403
    assert httpx.post(url, json=body).status_code == 200
