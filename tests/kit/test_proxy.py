import os
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from kit.certificates import Authority
from kit.http2_client import Http2Client
from kit.proxy import DidNotStart, RunningProxy, running_proxy
from kit.replies import answer
from kit.upstream import Upstream

ADDON = """
import os
from mitmproxy import http

def request(flow):
    flow.response = http.Response.make(200, repr(sorted(os.environ)) + os.getcwd())
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "addon.py"
    path.write_text(ADDON)
    return path


@pytest.mark.parametrize("mode", ["mitmdump", "mitmweb"])
def test_it_serves_in_its_own_home(
    start_proxy: Callable[..., RunningProxy], script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-user")
    proxy = start_proxy({"COLOUR": "blue"}, mode, ["--set", "flow_detail=0"], script=script)
    seen = httpx.get(proxy.url, trust_env=False).text
    assert "COLOUR" in seen
    assert "LLM_PROXY_HOME" in seen
    assert "OPENAI_API_KEY" not in seen
    assert seen.endswith(str(tmp_path))
    assert ssl.create_default_context(cafile=str(proxy.ca_path)).get_ca_certs()
    assert str(proxy.port) in proxy.log()
    if mode == "mitmweb":
        assert httpx.get(proxy.web_url, params={"token": "test"}, trust_env=False, follow_redirects=True).is_success
    assert proxy.stop() == 0


def test_real_hosts_are_somewhere_else(authority: Authority, tmp_path: Path) -> None:
    (idle := tmp_path / "idle.py").touch()
    with (
        Upstream(
            answer({"n": 1}), answer({"n": 2}), authority=authority, http2=True, names=("api.openai.com",)
        ) as there,
        running_proxy(script=idle, hosts={"api.openai.com": there.port}, authority=authority) as proxy,
    ):
        trust = ssl.create_default_context(cafile=str(proxy.ca_path))
        with httpx.Client(proxy=proxy.url, verify=trust, http2=True, trust_env=False) as http:
            assert http.get("https://api.openai.com/v1/models").json() == {"n": 1}
        with Http2Client(443, trust, host="api.openai.com", through=proxy.port) as http2:
            assert http2.read(http2.ask("GET", "/v1/models")).body == b'{"n": 2}'
        assert [(seen.host, seen.http_version) for seen in there.requests] == [("api.openai.com", "2")] * 2


def test_it_is_gone_after_the_block_and_after_a_kill(script: Path) -> None:
    with running_proxy(script=script) as proxy:
        assert proxy.alive
        proxy.kill()
        assert proxy.process.returncode == -9
    with running_proxy(script=script) as proxy:
        pid, home = proxy.process.pid, proxy.home
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
    assert not home.exists()


def test_an_error_after_the_port_is_open_is_a_failed_start(script: Path) -> None:
    script.write_text("def running(): raise ValueError('too late')")
    with pytest.raises(DidNotStart, match="too late"), running_proxy(script=script):
        pass


def test_a_failed_start_shows_the_output(script: Path) -> None:
    with pytest.raises(DidNotStart, match="no_such_option"), running_proxy(args=["--no_such_option"], script=script):
        pass
