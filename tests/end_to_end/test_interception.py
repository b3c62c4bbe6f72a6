"""SPEC 1, 3: any program on the machine, unchanged but for its proxy, calls its provider on the provider's own host."""

import gzip
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from contracts.samples import REPLIES
from kit.certificates import Authority
from kit.mitmweb import MitmWeb
from kit.proxy import RunningProxy, clean_environment
from kit.replies import answer, chat, chat_stream, openai_error, stream, text
from kit.upstream import Upstream
from mitmproxy.io import FlowReader

type Start = Callable[..., RunningProxy]

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
OWN = {"authorization": "Bearer sk-the-clients-own-credential"}
OTHER = "other.example"
HOSTS = (
    "api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com", "api.z.ai", "openrouter.ai",
    "api.groq.com", "dashscope-intl.aliyuncs.com", "api.deepseek.com", OTHER,
)  # fmt: skip


@pytest.fixture(params=["http1", "http2"])
def vendors(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Upstream]:
    """All of them at once, by name."""
    with Upstream(authority=authority, http2=request.param == "http2", names=HOSTS) as upstream:
        yield upstream


@pytest.fixture
def vendor(authority: Authority) -> Iterator[Upstream]:
    with Upstream(authority=authority, names=HOSTS) as upstream:
        yield upstream


@pytest.fixture
def start(start_proxy: Start, authority: Authority) -> Start:
    def start(vendor: Upstream, environment: dict[str, str] | None = None, **options: Any) -> RunningProxy:
        return start_proxy(environment, hosts=dict.fromkeys(HOSTS, vendor.port), authority=authority, **options)

    return start


def trusting(*cas: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for ca in cas:
        context.load_verify_locations(ca)
    return context


def through(proxy: RunningProxy, *cas: Path, http2: bool = False, **options: Any) -> httpx.Client:
    """What `llm-proxy env` sets up: the proxy, and its CA beside the usual ones."""
    return httpx.Client(proxy=proxy.url, verify=trusting(proxy.ca_path, *cas), http2=http2, timeout=20, **options)


def ask(words: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": words}], **more}


CHAT = "https://api.openai.com/v1/chat/completions"


def rows(proxy: RunningProxy) -> list[dict[str, Any]]:
    return list(httpx.get(f"{proxy.url}/usage/recent").json()["data"])


@pytest.mark.parametrize(
    ("host", "path", "protocol"),
    [
        ("api.openai.com", "/v1/chat/completions", "openai_chat"),
        ("api.openai.com", "/v1/responses", "openai_responses"),
        ("api.anthropic.com", "/v1/messages?beta=true", "anthropic_messages"),
        ("generativelanguage.googleapis.com", "/v1beta/models/m:streamGenerateContent?alt=sse", "gemini"),
        ("generativelanguage.googleapis.com", "/v1beta/openai/chat/completions", "openai_chat"),
        ("api.z.ai", "/api/paas/v4/chat/completions", "openai_chat"),
        ("api.z.ai", "/api/anthropic/v1/messages", "anthropic_messages"),
        ("openrouter.ai", "/api/v1/chat/completions", "openai_chat"),
        ("api.groq.com", "/openai/v1/chat/completions", "openai_chat"),
        ("dashscope-intl.aliyuncs.com", "/compatible-mode/v1/chat/completions", "openai_chat"),
        ("api.deepseek.com", "/chat/completions", "openai_chat"),
    ],
)
def test_every_providers_paths_are_recognised_and_kept(
    start: Start, vendor: Upstream, host: str, path: str, protocol: str
) -> None:
    vendor.enqueue(stream(REPLIES[protocol][0]))
    proxy = start(vendor, mode="serve")
    words = f"My key is {SECRET}."
    body: dict[str, Any] = {
        "model": "m",
        "stream": True,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": words}],
    }
    if protocol == "openai_chat":
        body["stream_options"] = {"include_usage": True}
    if protocol == "openai_responses":
        body = {"model": "m", "stream": True, "input": words}
    if protocol == "gemini":
        body = {"contents": [{"role": "user", "parts": [{"text": words}]}]}
    own = {"x-goog-api-key": "g"} if protocol == "gemini" else {"x-api-key": "a"} if "anthropic" in protocol else OWN
    with through(proxy) as client:
        headers = {**own, "user-agent": "their-cli/1.0", "anthropic-beta": "x-1"}
        reply = client.post(f"https://{host}{path}", json=body, headers=headers)
    assert reply.text == REPLIES[protocol][0]
    [request] = vendor.requests
    assert (request.host, request.path) == (host, path)
    assert SECRET not in request.body.decode()
    assert "(API_KEY_HAS_BEEN_REDACTED)" in request.body.decode()
    for name, value in (*own.items(), ("user-agent", "their-cli/1.0"), ("anthropic-beta", "x-1")):
        assert request.header(name) == value
    [row] = rows(proxy)
    assert (row["frontend"], row["status"], row["prompt_tokens"]) == (protocol, 200, 20)
    assert row["key"] is None


@pytest.mark.parametrize("http2", [False, True], ids=["client-http1", "client-http2"])
def test_commands_redaction_and_loops_work_as_at_the_gateway(start: Start, vendors: Upstream, http2: bool) -> None:
    vendors.enqueue(chat("done"), chat_stream(*["I say it again. "] * 40))
    proxy = start(vendors)
    with through(proxy, http2=http2) as client:
        told = client.post(CHAT, json=ask("!/set(project=moon)"), headers=OWN).json()
        assert told["choices"][0]["message"]["content"] == "project set to moon"
        assert vendors.requests == []
        kept = client.post(CHAT, json=ask(f"!/set(temperature=0.5) Keep {SECRET}"), headers=OWN)
        assert kept.status_code == 200, kept.text
        looping = client.post(CHAT, json=ask("Go on.", stream=True), headers=OWN).text
    assert vendors.requests[0].json["temperature"] == 0.5
    assert vendors.requests[0].json["messages"][0]["content"] == "Keep (API_KEY_HAS_BEEN_REDACTED)"
    assert "Loop detected" in looping
    assert looping.endswith("data: [DONE]\n\n")
    assert [row["project"] for row in rows(proxy)] == ["moon", "moon"]


def test_a_call_stays_unless_it_is_told_to_go(start: Start, vendor: Upstream, upstream: Upstream) -> None:
    """Names that would lead elsewhere at the gateway are the provider's own here."""
    vendor.enqueue(chat("home"), chat("home again"))
    upstream.enqueue(stream(REPLIES["anthropic_messages"][0]))
    keys = {"OPENAI_API_KEY": "sk-ours", "ANTHROPIC_API_KEY": "sk-ant-ours", "ANTHROPIC_API_BASE_URL": upstream.url}
    proxy = start(vendor, {**keys, "LLM_BACKEND": "anthropic"})
    with through(proxy) as client:
        client.post(CHAT, json=ask("Hi.", model="claude-x"), headers=OWN)
        client.post(CHAT, json=ask("!/oneoff(anthropic:claude-x) Hi.", stream=True), headers=OWN)
        client.post(CHAT, json=ask("Hi."), headers=OWN)
    assert [request.json["model"] for request in vendor.requests] == ["claude-x", "gpt-4o"]
    assert {request.header("authorization") for request in vendor.requests} == {OWN["authorization"]}
    [moved] = upstream.requests
    assert moved.header("x-api-key") == "sk-ant-ours"
    assert moved.header("authorization") is None


def test_a_route_tries_the_providers_own_credential_first(start: Start, vendor: Upstream, upstream: Upstream) -> None:
    vendor.enqueue(openai_error(429, "slow down"))
    upstream.enqueue(stream(REPLIES["anthropic_messages"][1]))
    keys = {"OPENAI_API_KEY": "sk-ours", "ANTHROPIC_API_KEY": "sk-ant-ours", "ANTHROPIC_API_BASE_URL": upstream.url}
    proxy = start(vendor, keys)
    make = "!/create-failover-route(name=both, policy=m) !/route-append(name=both, openai:gpt-4o, anthropic:claude-x)"
    with through(proxy) as client:
        client.post(CHAT, json=ask(make), headers=OWN)
        reply = client.post(CHAT, json=ask("Hi.", model="both"), headers=OWN)
    assert reply.status_code == 200, reply.text
    assert vendor.requests[0].header("authorization") == OWN["authorization"]
    assert upstream.requests[0].header("x-api-key") == "sk-ant-ours"


def test_a_key_in_the_query_is_kept_but_not_shown(start: Start, vendor: Upstream, tmp_path: Path) -> None:
    vendor.enqueue(stream(REPLIES["gemini"][1]), answer({"models": []}))
    proxy = start(vendor, args=["-w", str(tmp_path / "flows")])
    base = "https://generativelanguage.googleapis.com/v1beta/models"
    with through(proxy) as client:
        body = {"contents": [{"role": "user", "parts": [{"text": "Hi."}]}]}
        assert client.post(f"{base}/m:generateContent?key=AIza-own", json=body).status_code == 200
        assert client.get(f"{base}?key=AIza-own").json() == {"models": []}
    assert [request.header("x-goog-api-key") for request in vendor.requests] == ["AIza-own"] * 2
    proxy.stop()
    assert b"AIza-own" not in (tmp_path / "flows").read_bytes()


@pytest.mark.parametrize("mode", ["mitmdump", "serve"])
def test_saved_flows_hold_marks_and_no_key(start: Start, vendor: Upstream, tmp_path: Path, mode: str) -> None:
    vendor.enqueue(chat_stream("Hi", "."), answer({"data": []}), text("page"), answer({"embedding": [1]}))
    proxy = start(vendor, mode=mode, args=["-w", str(tmp_path / "flows")])
    with through(proxy) as client:
        client.post(CHAT, json=ask(f"Keep {SECRET}", stream=True), headers=OWN)
        client.get("https://api.openai.com/v1/models", headers=OWN)
        client.get("https://openrouter.ai/rankings", headers={"cookie": "session=of-the-page"})
        body = {"input": f"Keep {SECRET}", "model": "e"}
        assert client.post("https://api.z.ai/api/paas/v4/embeddings", json=body, headers=OWN).json()["embedding"] == [1]
    assert vendor.requests[1].header("authorization") == OWN["authorization"]
    assert vendor.requests[2].header("cookie") == "session=of-the-page"
    assert vendor.requests[3].path == "/api/paas/v4/embeddings"
    assert SECRET not in str(vendor.requests)
    proxy.stop()
    saved = (tmp_path / "flows").read_bytes()
    for secret in ("the-clients-own", "abcdefghijklmnop", "of-the-page"):
        assert secret.encode() not in saved
    with (tmp_path / "flows").open("rb") as file:
        flows = list(FlowReader(file).stream())
    [flow] = [flow for flow in flows if flow.metadata.get("llm_asked") == "gpt-4o"]
    assert "openai/gpt-4o" in flow.comment
    assert flow.metadata["llm_backend"] == "openai"


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
def test_compressed_bodies_are_read(start: Start, vendor: Upstream, encoding: str) -> None:
    vendor.enqueue(chat("read"))
    proxy = start(vendor)
    plain = json.dumps(ask(f"Keep {SECRET}")).encode()
    body = zstandard.compress(plain) if encoding == "zstd" else gzip.compress(plain)
    headers = {**OWN, "content-encoding": encoding, "content-type": "application/json"}
    with through(proxy) as client:
        assert client.post(CHAT, content=body, headers=headers).json()["choices"][0]["message"]["content"] == "read"
    assert vendor.requests[0].json["messages"][0]["content"] == "Keep (API_KEY_HAS_BEEN_REDACTED)"


def test_uploads_pass_with_their_bytes(start: Start, vendor: Upstream) -> None:
    vendor.enqueue(answer({"id": "file-1"}))
    proxy = start(vendor)
    data = bytes(range(256)) * 1000
    with through(proxy) as client:
        client.post("https://api.openai.com/v1/files", files={"file": ("a.bin", data)}, headers=OWN)
    assert data in vendor.requests[0].body


def test_other_hosts_are_not_opened_unless_asked(start: Start, vendor: Upstream, authority: Authority) -> None:
    """The client sees the host's own certificate, or the proxy's."""
    vendor.enqueue(text("own"), text("opened"))
    for environment, ca in (({}, None), ({"LLM_DECRYPT_OTHERS": "true"}, "proxy")):
        proxy = start(vendor, environment)
        trusted = proxy.ca_path if ca else authority.path
        with httpx.Client(proxy=proxy.url, verify=ssl.create_default_context(cafile=str(trusted))) as client:
            assert client.get(f"https://{OTHER}/").status_code == 200
        proxy.stop()
    assert "passes unopened" in proxy.log()


def test_a_program_that_pins_gets_one_helpful_line(start: Start, vendor: Upstream, authority: Authority) -> None:
    proxy = start(vendor, mode="serve")
    pinning = ssl.create_default_context(cafile=str(authority.path))
    for _ in range(3):
        with httpx.Client(proxy=proxy.url, verify=pinning) as client, pytest.raises(httpx.ConnectError):
            client.get("https://api.openai.com/v1/models")
    [line] = [line for line in proxy.log().splitlines() if "llm-proxy ca" in line]
    assert r"ignore_hosts='^api\.openai\.com:'" in line
    vendor.enqueue(text("passed"))
    pinned = start(vendor, args=["--set", r"ignore_hosts=^api\.openai\.com:"])
    with httpx.Client(proxy=pinned.url, verify=pinning) as client:
        assert client.get("https://api.openai.com/v1/models").text == "passed"


@pytest.mark.parametrize("program", ["curl", "python", None])
def test_env_sets_a_shell_up(start: Start, vendor: Upstream, authority: Authority, program: str | None) -> None:
    """Hosts that are not opened keep their own authorities beside ours."""
    vendor.enqueue(chat("here"), text("there"))
    proxy = start(vendor, mode="serve")
    url, body = CHAT, json.dumps(ask("Hi."))
    python = f"import httpx; print(httpx.post('{url}', content='{body}').text, httpx.get('https://{OTHER}/').text)"
    calls = {
        "curl": f"curl -sS -H 'content-type: application/json' -d '{body}' {url} && curl -sS https://{OTHER}/",
        "python": f'{sys.executable} -c "$CODE"',
    }
    environment = clean_environment(proxy.home) | {"SSL_CERT_FILE": str(authority.path), "CODE": python}
    done = in_shell(proxy, program or "", calls[program or "curl"], environment)
    assert "here" in done.stdout, done.stderr
    assert "there" in done.stdout, done.stderr
    assert len(rows(proxy)) == 1


SDKS = {
    "openai_chat": """
import openai
client = openai.OpenAI(max_retries=0)
chunks = client.chat.completions.create(model="m", messages=[{"role": "user", "content": WORDS}], stream=True)
print("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
""",
    "openai_responses": """
import openai
print(openai.OpenAI(max_retries=0).responses.create(model="m", input=WORDS).output_text)
""",
    "anthropic_messages": """
import anthropic
message = {"role": "user", "content": WORDS}
with anthropic.Anthropic(max_retries=0).messages.stream(model="m", max_tokens=9, messages=[message]) as stream:
    print("".join(stream.text_stream))
""",
    "gemini": """
from google import genai
client = genai.Client()  # kept: a client without a name is closed before its stream is read
print("".join(c.text or "" for c in client.models.generate_content_stream(model="m", contents=WORDS)))
""",
}


@pytest.mark.parametrize("protocol", SDKS)
def test_programs_with_the_vendors_sdks_need_no_change(
    start: Start, vendors: Upstream, authority: Authority, protocol: str
) -> None:
    if protocol == "gemini":
        pytest.importorskip("google.genai")
    if protocol == "openai_responses":
        vendors.enqueue(text(REPLIES[protocol][1], headers={"content-type": "application/json"}))
    else:
        vendors.enqueue(stream(REPLIES[protocol][0]))
    proxy = start(vendors, mode="serve")
    keys = {"OPENAI_API_KEY": "own-key", "ANTHROPIC_API_KEY": "own-key", "GEMINI_API_KEY": "own-key"}
    environment = clean_environment(proxy.home) | keys | {"SSL_CERT_FILE": str(authority.path)}
    code = f"WORDS = {f'Keep {SECRET}'!r}\n{SDKS[protocol]}"
    done = in_shell(proxy, "python", f'{sys.executable} -W ignore -c "$CODE"', environment | {"CODE": code})
    assert "Let me look" in done.stdout, done.stderr
    [request] = vendors.requests
    assert "own-key" in str(request.headers)
    assert "(API_KEY_HAS_BEEN_REDACTED)" in request.body.decode()
    [row] = rows(proxy)
    assert (row["frontend"], row["total_tokens"]) == (protocol, 29)


NODE = """
const http = require('http'), https = require('https');
const {hostname, port} = new URL(process.env.HTTPS_PROXY), host = 'api.openai.com';
http.request({method: 'CONNECT', host: hostname, port, path: host + ':443'}).on('connect', (reply, socket) => {
  const headers = {'content-type': 'application/json', authorization: 'Bearer own-key'};
  const path = '/v1/chat/completions';
  https.request({host, servername: host, path, method: 'POST', headers, socket, agent: false}, (reply) => {
    reply.pipe(process.stdout);
  }).end(process.env.BODY);
}).end();
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_a_node_program(start: Start, vendor: Upstream) -> None:
    vendor.enqueue(chat_stream("from ", "node"))
    proxy = start(vendor, mode="serve")
    environment = {**clean_environment(proxy.home), "PATH": os.environ["PATH"], "CODE": NODE}
    done = in_shell(proxy, "node", 'node -e "$CODE"', environment | {"BODY": json.dumps(ask("Hi.", stream=True))})
    assert done.stdout.count('"content"') == 2, done.stderr
    assert len(rows(proxy)) == 1


def in_shell(
    proxy: RunningProxy, program: str, command: str, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """A command behind what `llm-proxy env` says."""
    llm_proxy = f"{Path(sys.executable).parent}/llm-proxy env {program} --port {proxy.port}"
    script = f'eval "$({llm_proxy} --confdir {proxy.ca_path.parent})"; {command}'
    return subprocess.run(
        ["bash", "-c", script], env=dict(environment), capture_output=True, text=True, check=False, timeout=60
    )


MODES = {
    "regular": [],
    "socks5": ["--mode", "socks5"],
    "upstream": ["--mode", "upstream:http://127.0.0.1:{parent}"],
    "reverse": ["--mode", "reverse:https://api.openai.com"],
}


@pytest.mark.parametrize("mode", MODES)
def test_mitmproxys_modes(
    start: Start, start_proxy: Start, vendor: Upstream, authority: Authority, tmp_path: Path, mode: str
) -> None:
    vendor.enqueue(chat("here"))
    parent_home = tmp_path / "parent"
    parent_home.mkdir()
    parent = start(vendor, home=parent_home, args=["--set", "ignore_hosts=."]) if mode == "upstream" else None
    args = [each.format(parent=parent.port if parent else 0) for each in MODES[mode]]
    keys = {"OPENAI_API_KEY": "sk-ours", "OPENAI_API_BASE_URL": "https://api.openai.com/v1"}
    proxy = start(vendor, keys, args=args)
    url, kind = CHAT, "http"
    if mode == "socks5":
        kind = "socks5"
    if mode == "reverse":
        url = f"{proxy.url}/v1/chat/completions"
    command = ["curl", "-sS", "--cacert", str(proxy.ca_path), "-H", "content-type: application/json"]
    command += [] if mode == "reverse" else ["--proxy", f"{kind}://127.0.0.1:{proxy.port}"]
    command += ["-H", f"authorization: {OWN['authorization']}", "-d", json.dumps(ask(f"Keep {SECRET}")), url]
    if kind == "socks5":
        command[command.index("--proxy") + 1] = f"socks5h://127.0.0.1:{proxy.port}"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert "here" in done.stdout, done.stderr + proxy.log()
    [request] = vendor.requests
    assert request.json["messages"][0]["content"] == "Keep (API_KEY_HAS_BEEN_REDACTED)"
    own = "Bearer sk-ours" if mode == "reverse" else OWN["authorization"]
    assert request.header("authorization") == own


def test_a_realtime_connection_is_counted(start_proxy: Start, authority: Authority) -> None:
    client = pytest.importorskip("websockets.sync.client")
    from kit.sockets import SocketServer

    usage = {"total_tokens": 10, "input_tokens": 7, "output_tokens": 3,
             "input_token_details": {"text_tokens": 5, "audio_tokens": 2, "cached_tokens": 2}}  # fmt: skip

    def reply(message: str) -> Iterator[str]:
        yield json.dumps({"type": "response.done", "response": {"id": "resp_1", "status": "completed", "usage": usage}})

    with SocketServer(reply, authority, HOSTS) as server:
        proxy = start_proxy(hosts=dict.fromkeys(HOSTS, server.port), authority=authority)
        url = "wss://api.openai.com/v1/realtime?model=gpt-realtime"
        with client.connect(url, ssl=trusting(proxy.ca_path), proxy=proxy.url) as socket_:
            socket_.send(json.dumps({"type": "response.create"}))
            assert json.loads(socket_.recv())["response"]["usage"] == usage
        deadline = time.monotonic() + 10
        while not (found := rows(proxy)) and time.monotonic() < deadline:
            time.sleep(0.05)
        [row] = found
        said = (row["frontend"], row["model"], row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"])
        assert said == ("openai_realtime", "gpt-realtime", 7, 2, 3)


def test_websockets_are_passed_redacted_and_counted(start_proxy: Start, authority: Authority, tmp_path: Path) -> None:
    client = pytest.importorskip("websockets.sync.client")
    from kit.sockets import SocketServer

    usage = {"input_tokens": 7, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 2}}

    def reply(message: str) -> Iterator[str]:
        response = {"id": "resp_1", "model": "gpt-5", "status": "completed", "usage": usage}
        yield json.dumps({"type": "response.created", "response": {"id": "resp_1", "model": "gpt-5"}})
        yield json.dumps({"type": "response.output_text.delta", "delta": "x" * 900_000})
        yield json.dumps({"type": "response.completed", "response": response})

    with SocketServer(reply, authority, HOSTS) as server:
        proxy = start_proxy(hosts=dict.fromkeys(HOSTS, server.port), authority=authority, mode="mitmweb")
        headers = {"authorization": OWN["authorization"], "x-session-id": "tea"}
        url = "wss://api.openai.com/v1/responses"
        context = trusting(proxy.ca_path)
        with client.connect(url, ssl=context, proxy=proxy.url, additional_headers=headers, max_size=None) as socket_:
            for _ in range(4):
                socket_.send(json.dumps({"type": "response.create", "input": f"Keep {SECRET}"}))
                got = [json.loads(socket_.recv()) for _ in range(3)]
        assert got[2]["response"]["usage"] == usage
        assert server.headers[0]["authorization"] == OWN["authorization"]
        assert len(server.messages) == 4
        assert all("(API_KEY_HAS_BEEN_REDACTED)" in message for message in server.messages)
        deadline = time.monotonic() + 10
        while len(found := rows(proxy)) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert {(row["frontend"], row["model"], row["session"]) for row in found} == {
            ("openai_responses", "gpt-5", "tea")
        }
        assert [(row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) for row in found] == [
            (7, 2, 3)
        ] * 4
        with MitmWeb(proxy) as web:
            [flow] = [flow for flow in web.flows() if flow.get("websocket")]
            assert "4 responses" in flow["comment"]
            assert "the-clients-own" not in json.dumps(flow)
            saved = web.saved()
        assert len(saved) < 4_000_000  # of the 3.6 MB of text, without the oldest
        assert SECRET.encode() not in saved
