"""Secrets through the running proxy: none reaches a provider, a saved flow, the log or the database (SPEC 9).

A request plants another secret in every place that its protocol has for text; each of the four protocols asks each.
"""

import base64
import gzip
import json
import ssl
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.certificates import Authority
from kit.proxy import RunningProxy, running_proxy
from kit.replies import answer, openai_error
from kit.turns import Called, Turn, Turns
from kit.upstream import Upstream

from llm_interactive import protocols
from llm_interactive.events import TextDelta, ToolCallDelta

type Json = dict[str, Any]

REPLACEMENT = "(API_KEY_HAS_BEEN_REDACTED)"

LONG = "a1B2c3D4e5F6g7H8i9J0" * 6
HEX = "0123456789abcdef" * 8
UPPER = "ABCDEFGH234567ABCDEFGH234567" * 3

OWN_KEY = "held-by-the-proxy/and+odd=4711"
CLIENT_KEY = "client-key-of-the-test-0815"

SECRETS = [
    f"sk-{LONG[:48]}", f"sk-proj-{LONG}", f"sk-svcacct-{LONG}", f"sk-ant-api03-{LONG[:93]}AA", f"sk-or-v1-{HEX[:64]}",
    f"AIza{LONG[:35]}", f"AQ.Ab{LONG[:48]}", f"gsk_{LONG[:52]}", f"xai-{LONG[:80]}", f"r8_{LONG[:37]}",
    f"hf_{LONG[:34]}", f"pplx-{LONG[:48]}", f"ghp_{LONG[:36]}", f"gho_{LONG[:36]}", f"ghs_{LONG[:36]}",
    f"github_pat_{LONG[:22]}_{LONG[:59]}", f"glpat-{LONG[:20]}", f"AKIA{UPPER[:16]}", f"ASIA{UPPER[4:20]}",
    f"xoxb-123456789012-1234567890123-{LONG[:24]}", f"sk_live_{LONG[:24]}", f"rk_live_{LONG[:24]}",
    f"whsec_{LONG[:32]}", f"SG.{LONG[:22]}.{LONG[:43]}", f"SK{HEX[:32]}", f"npm_{LONG[:36]}", f"pypi-AgEIcHlwaS{LONG}",
    f"dckr_pat_{LONG[:27]}", f"dop_v1_{HEX[:64]}", f"123456789:AA{LONG[:33]}",
    f"MTIz{LONG[:22]}.{LONG[:6]}.{LONG[:38]}",
    f"key-{HEX[:32]}", f"dapi{HEX[:32]}", f"sbp_{HEX[:40]}", f"vck_{LONG[:56]}", f"lin_api_{LONG[:40]}",
    f"ntn_{LONG[:46]}", f"shpat_{HEX[:32]}", f"AGE-SECRET-KEY-1{UPPER[:58]}",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{LONG[:43]}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{LONG[:64]}\n{LONG[:64]}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{LONG[:70]}\n-----END OPENSSH PRIVATE KEY-----",
    OWN_KEY, CLIENT_KEY,
]  # fmt: skip

PICTURE = base64.b64encode(bytes(range(256)) * 8).decode()
SIGNATURE = base64.b64encode(b"signed by the provider " * 12).decode()
HEALTHY = [
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "550e8400-e29b-41d4-a716-446655440000",
    "task-management-of-2026-for-everyone risk-free sk-... sk-your-key-here",
    PICTURE,
]

BACKENDS = ("openai", "openai-responses", "anthropic", "gemini")


class Planter:
    """Gives secrets out in turn, each beside something healthy."""

    def __init__(self) -> None:
        self._secrets, self._healthy = cycle(SECRETS), cycle(HEALTHY)
        self.places = 0

    def __call__(self, what: str = "see") -> str:
        self.places += 1
        return f"{what} {next(self._healthy)} and {next(self._secrets)} there, {next(self._secrets)}"


def schema(plant: Planter) -> Json:
    city = {"type": "string", "description": plant(), "default": plant(), "examples": [plant()]}
    return {"type": "object", "properties": {"city": city}}


def result(plant: Planter) -> str:
    return json.dumps({"env": {"A": plant(), "nested": [plant()]}, "text": f"line\n{plant()}"})


def chat(plant: Planter) -> tuple[str, Json]:
    call = {"name": "look", "arguments": json.dumps({"at": plant(), "deep": {"er": [plant()]}})}
    messages = [
        {"role": "system", "content": plant()},
        {"role": "user", "content": [{"type": "text", "text": plant()}, {"type": "text", "text": plant("second")}]},
        {"role": "assistant", "content": plant(), "tool_calls": [{"id": "c1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c1", "content": result(plant)},
        {
            "role": "user",
            "name": "someone",
            "x_unknown": {"field": plant()},
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
                {"type": "text", "text": plant()},
            ],
        },
    ]
    function = {"name": "look", "description": plant(), "parameters": schema(plant)}
    form = {"name": "form", "schema": {"type": "object", "description": plant(), "properties": {}}}
    return "/v1/chat/completions", {
        "messages": messages,
        "tools": [{"type": "function", "function": function}],
        "response_format": {"type": "json_schema", "json_schema": form},
        "stop": [plant()],
        "user": plant(),
        "metadata": {"note": plant()},
        "x_unknown": [plant()],
    }


def responses(plant: Planter) -> tuple[str, Json]:
    items = [
        {"role": "developer", "content": plant()},
        {"role": "user", "content": [{"type": "input_text", "text": plant()}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": plant()}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": json.dumps({"at": plant()})},
        {"type": "function_call_output", "call_id": "c1", "output": result(plant), "x_unknown": plant()},
        {"role": "user", "content": [
            {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}", "detail": "low"},
            {"type": "input_text", "text": plant()},
        ]},
    ]  # fmt: skip
    form = {"type": "json_schema", "name": "form", "schema": {"type": "object", "description": plant()}}
    return "/v1/responses", {
        "instructions": plant(),
        "input": items,
        "tools": [{"type": "function", "name": "look", "description": plant(), "parameters": schema(plant)}],
        "text": {"format": form},
        "safety_identifier": plant(),
        "metadata": {"note": plant()},
    }


def anthropic(plant: Planter) -> tuple[str, Json]:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": plant(), "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [
            {"type": "text", "text": plant()},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": plant(), "signature": plant()}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [
                {"type": "text", "text": result(plant)},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
            ]},
            {"type": "document", "title": plant(), "source": {
                "type": "text", "media_type": "text/plain", "data": plant(),
            }},
            {"type": "text", "text": plant()},
        ]},
    ]  # fmt: skip
    return "/anthropic/v1/messages", {
        "max_tokens": 100,
        "system": [{"type": "text", "text": plant()}],
        "messages": messages,
        "tools": [{"name": "look", "description": plant(), "input_schema": schema(plant)}],
        "stop_sequences": [plant()],
        "metadata": {"user_id": plant()},
    }


def gemini(plant: Planter) -> tuple[str, Json]:
    contents = [
        {"role": "user", "parts": [{"text": plant()}]},
        {"role": "model", "parts": [
            {"text": plant()},
            {"functionCall": {"name": "look", "args": {"at": plant(), "data": plant()}}, "thoughtSignature": SIGNATURE},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": "look", "response": {"output": result(plant), "signature": plant()}}},
        ]},
        {"role": "user", "parts": [{"text": plant()}, {"inlineData": {"mimeType": "image/png", "data": PICTURE}}]},
    ]  # fmt: skip
    declaration = {"name": "look", "description": plant(), "parameters": schema(plant)}
    form = {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT", "description": plant()}}
    return "/v1beta/models/{model}:generateContent", {
        "systemInstruction": {"parts": [{"text": plant()}]},
        "contents": contents,
        "tools": [{"functionDeclarations": [declaration]}],
        "generationConfig": {**form, "stopSequences": [plant()]},
        "labels": {"note": plant()},
    }


CLIENTS = {"openai": chat, "openai-responses": responses, "anthropic": anthropic, "gemini": gemini}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(answer=Turns(Turn("Fine."))) as upstream:
        yield upstream


def environment(upstream: Upstream, **more: str) -> dict[str, str]:
    urls = {f"{name}_API_BASE_URL": upstream.url for name in ("OPENAI", "ANTHROPIC", "GEMINI")}
    keys = {f"{name}_API_KEY": OWN_KEY for name in ("OPENAI", "ANTHROPIC", "GEMINI")}
    return {**urls, **keys, "LLM_INTERACTIVE_PROXY_API_KEY": CLIENT_KEY, **more}


@pytest.fixture(scope="module")
def proxy(upstream: Upstream) -> Iterator[RunningProxy]:
    with running_proxy(environment(upstream), args=("-w", "flows", "--set", "flow_detail=4")) as proxy:
        yield proxy


def ask(proxy: RunningProxy, path: str, body: Json, model: str, **headers: str) -> httpx.Response:
    path = path.format(model=model) if "{model}" in path else path
    body = body if "contents" in body else {"model": model, **body}
    sent = {"authorization": f"Bearer {CLIENT_KEY}", **headers}
    return httpx.post(proxy.url + path, json=body, headers=sent, timeout=30)


def leaks(text: str) -> list[str]:
    """What of the secrets is in a text, written as it is or inside JSON, once and twice."""
    spellings = {secret: {secret, json.dumps(secret)[1:-1], json.dumps(json.dumps(secret))[3:-3]} for secret in SECRETS}
    return [secret for secret, written in spellings.items() if any(each in text for each in written)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("client", CLIENTS)
def test_no_secret_reaches_a_provider(proxy: RunningProxy, upstream: Upstream, client: str, backend: str) -> None:
    plant = Planter()
    path, body = CLIENTS[client](plant)
    assert plant.places >= 12
    planted = json.dumps(body)
    assert len(leaks(planted)) > 25
    seen = len(upstream.exchanges)
    reply = ask(proxy, path, body, f"{backend}:m")
    assert reply.status_code == 200, reply.text
    assert "secrets redacted" in reply.headers["x-llm-proxy-notes"]
    [request] = [exchange.request for exchange in upstream.exchanges[seen:]]
    sent = request.body.decode()
    assert leaks(sent) == []
    assert sent.count(REPLACEMENT) > 20
    assert leaks(request.path + str([value for name, value in request.headers if name not in CREDENTIALS])) == []
    if client == backend:
        assert sent.count(REPLACEMENT) == planted_count(planted)
        assert [healthy for healthy in (*HEALTHY, SIGNATURE) if sent.count(healthy) != planted.count(healthy)] == []
        assert json.loads(sent).keys() == {"model": 0, **body}.keys() - ({"model"} if client == "gemini" else set())


CREDENTIALS = ("authorization", "x-api-key", "x-goog-api-key")


def planted_count(text: str) -> int:
    return text.count(" there, ") * 2


PASSED = {
    "/v1/embeddings": {"input": ["{}", "and {}"]},
    "/v1/moderations": {"input": [{"type": "text", "text": "{}"}]},
    "/v1/images/generations": {"prompt": "{}", "user": "{}"},
    "/v1/audio/speech": {"input": "{}", "voice": "alloy"},
}


@pytest.mark.parametrize("path", PASSED)
def test_no_secret_leaves_in_what_is_passed_on(proxy: RunningProxy, upstream: Upstream, path: str) -> None:
    for secret in SECRETS:
        body = json.loads(json.dumps(PASSED[path]).replace("{}", json.dumps(secret)[1:-1]))
        seen = len(upstream.exchanges)
        upstream.script = lambda request: answer({"data": []})
        reply = ask(proxy, path, body, "m")
        upstream.script = Turns(Turn("Fine."))
        assert reply.status_code == 200, reply.text
        [exchange] = upstream.exchanges[seen:]
        assert leaks(exchange.request.body.decode()) == []
        assert REPLACEMENT in exchange.request.body.decode()


def test_text_fields_of_a_form_are_redacted_and_files_are_not(proxy: RunningProxy, upstream: Upstream) -> None:
    seen = len(upstream.exchanges)
    upstream.script = lambda request: answer({"text": "words"})
    sound = b"\x00RIFF" + f"sk-{LONG[::-1]}".encode()
    reply = httpx.post(
        f"{proxy.url}/v1/audio/transcriptions",
        data={"model": "whisper", "prompt": f"It says {SECRETS[1]}."},
        files={"file": ("a.wav", sound, "audio/wav")},
        headers={"authorization": f"Bearer {CLIENT_KEY}"},
    )
    upstream.script = Turns(Turn("Fine."))
    assert reply.status_code == 200, reply.text
    sent = upstream.exchanges[seen].request.body
    assert f"It says {REPLACEMENT}.".encode() in sent
    assert SECRETS[1].encode() not in sent
    assert sound in sent


def test_a_broken_body_shows_no_secret(proxy: RunningProxy) -> None:
    headers = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
    for number, secret in enumerate(SECRETS[:3]):
        body = '{"model": "m", "messages": [{"content": "' + secret
        path = ("/v1/chat/completions", "/anthropic/v1/messages", "/v1/responses")[number]
        reply = httpx.post(proxy.url + path, content=body, headers=headers)
        assert reply.status_code == 400
        assert leaks(reply.text) == []


def test_what_is_refused_or_compressed_shows_no_secret(proxy: RunningProxy, upstream: Upstream) -> None:
    """Their flows are searched below."""
    headers = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
    body = json.dumps({"model": "openai:m", "messages": [{"role": "user", "content": SECRETS[9]}]}).encode()
    packed = {**headers, "content-encoding": "gzip"}
    path = f"{proxy.url}/v1/chat/completions"
    assert httpx.post(path, content=gzip.compress(body), headers=packed).status_code == 200
    assert SECRETS[9].encode() not in upstream.exchanges[-1].request.body
    assert httpx.post(path, content=gzip.compress(body, 0)[:-9], headers=packed).status_code == 400
    assert httpx.post(path, content=body, headers={"authorization": f"Bearer {SECRETS[10]}"}).status_code == 401
    assert httpx.post(f"{path}?key={SECRETS[11]}", content=body, headers={"x-other": SECRETS[12]}).status_code == 401
    unknown = httpx.post(f"{proxy.url}/v7/nothing?x={SECRETS[13]}", content=body, headers=headers)
    assert unknown.status_code == 404
    assert leaks(unknown.text) == []
    assert httpx.get(f"{proxy.url}/usage/stats", headers={**headers, "x-other": SECRETS[14]}).status_code == 200


def test_a_provider_that_quotes_a_key_is_not_quoted(proxy: RunningProxy, upstream: Upstream) -> None:
    upstream.script = lambda request: openai_error(401, f"Incorrect API key provided: {OWN_KEY}.")
    reply = ask(proxy, "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, "openai:m")
    upstream.script = Turns(Turn("Fine."))
    assert reply.status_code == 401
    assert REPLACEMENT in reply.text
    assert leaks(reply.text + str(reply.headers)) == []


def test_headers_and_names_that_are_stored_hold_no_secret(proxy: RunningProxy) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "prompt_cache_key": SECRETS[2]}
    named = {"x-user-id": SECRETS[3], "x-project": SECRETS[4], "x-anything": SECRETS[5], "user-agent": SECRETS[6]}
    assert ask(proxy, "/v1/chat/completions", body, "openai:m", **named).status_code == 200
    named = {"x-session-id": SECRETS[7]}
    assert ask(proxy, "/v1/chat/completions?x=" + SECRETS[8], body, "openai:m", **named).status_code == 200


def test_the_same_history_is_redacted_in_the_same_way(proxy: RunningProxy, upstream: Upstream) -> None:
    history = [{"role": "user", "content": f"My key is {SECRETS[0]}, {HEALTHY[0]}."}]
    seen = len(upstream.exchanges)
    for _ in range(3):
        ask(proxy, "/v1/chat/completions", {"messages": history}, "openai:m")
        history = [*history, {"role": "assistant", "content": "Fine."}, {"role": "user", "content": "Go on."}]
    sent = [exchange.request.json["messages"] for exchange in upstream.exchanges[seen:]]
    assert sent[0][0] == {"role": "user", "content": f"My key is {REPLACEMENT}, {HEALTHY[0]}."}
    assert sent[1][:1] == sent[0]
    assert sent[2][:3] == sent[1]


def test_what_is_kept_holds_no_secret(proxy: RunningProxy) -> None:
    """Last in the file: the flows, the log and the database of all that was sent above."""
    assert leaks(proxy.log()) == []
    files = [path for path in proxy.home.rglob("*") if path.is_file() and path.suffix not in (".pem", ".p12", ".cer")]
    assert any(path.name == "flows" for path in files)
    assert any(path.suffix == ".db" for path in files)
    found = {path.name: leaks(path.read_bytes().decode("latin-1")) for path in files}
    assert {name: secrets for name, secrets in found.items() if secrets} == {}
    assert REPLACEMENT in Path(proxy.home / "flows").read_bytes().decode("latin-1")


ONE, TWO = "(API_KEY_HAS_BEEN_REDACTED_1)", "(API_KEY_HAS_BEEN_REDACTED_2)"


@pytest.fixture(scope="module")
def restoring(upstream: Upstream) -> Iterator[RunningProxy]:
    """A proxy that gives secrets back."""
    environ = environment(upstream, REDACTION_RESTORE="true")
    with running_proxy(environ, args=("-w", "flows", "--set", "flow_detail=4")) as proxy:
        yield proxy


ENV = f"A={SECRETS[0]}\nKEY={SECRETS[40]}\n"
"""A file with two secrets, one of several lines."""


def asks_to_write(client: str) -> tuple[str, Json]:
    said = f"Write this file again, sorted:\n{ENV}"
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    match client:
        case "openai":
            tools = [{"type": "function", "function": {"name": "write", "parameters": schema}}]
            return "/v1/chat/completions", {"messages": [{"role": "user", "content": said}], "tools": tools}
        case "openai-responses":
            tools = [{"type": "function", "name": "write", "parameters": schema}]
            return "/v1/responses", {"input": said, "tools": tools}
        case "anthropic":
            body = {"max_tokens": 99, "messages": [{"role": "user", "content": said}]}
            return "/v1/messages", {**body, "tools": [{"name": "write", "input_schema": schema}]}
    contents = [{"role": "user", "parts": [{"text": said}]}]
    tools = [{"functionDeclarations": [{"name": "write", "parameters": schema}]}]
    return "/v1beta/models/{model}:{method}", {"contents": contents, "tools": tools}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_call_that_quotes_placeholders_gets_the_secrets(
    restoring: RunningProxy, upstream: Upstream, client: str, backend: str, stream: bool
) -> None:
    upstream.script = Turns(Turn(f"I write {ONE}.", Called("write", json.dumps({"text": f"A={ONE}\nKEY={TWO}\n"}))))
    path, body = asks_to_write(client)
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    path = path.format(model=f"{backend}:m", method=method) if client == "gemini" else path
    body = body if client == "gemini" else {**body, "model": f"{backend}:m", "stream": stream}
    seen = len(upstream.exchanges)
    headers = {"authorization": f"Bearer {CLIENT_KEY}", "x-session-id": f"{client} {backend} {stream}"}
    reply = httpx.post(restoring.url + path, json=body, headers=headers, timeout=30)
    upstream.script = Turns(Turn("Fine."))
    assert reply.status_code == 200, reply.text
    [exchange] = upstream.exchanges[seen:]
    assert leaks(exchange.request.body.decode()) == []
    assert f"A={ONE}" in exchange.request.body.decode()
    protocol = {"openai": "openai_chat", "openai-responses": "openai_responses", "anthropic": "anthropic_messages"}
    reader = protocols.named(protocol.get(client, "gemini")).reply_reader(stream)
    events = [event for frame in (*reader.feed(reply.content), *reader.finish()) for event in frame.events]
    arguments = "".join(event.arguments for event in events if isinstance(event, ToolCallDelta))
    assert json.loads(arguments) == {"text": ENV}
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == f"I write {ONE}."


def test_what_a_restoring_proxy_keeps_holds_no_secret(restoring: RunningProxy) -> None:
    """After the test above: its flows hold the replies too."""
    flows = Path(restoring.home / "flows").read_bytes().decode("latin-1")
    assert ONE in flows
    files = [path for path in restoring.home.rglob("*") if path.suffix not in (".pem", ".p12", ".cer")]
    found = {path.name: leaks(path.read_bytes().decode("latin-1")) for path in files if path.is_file()}
    assert {name: secrets for name, secrets in found.items() if secrets} == {}


def test_redaction_can_be_switched_off_and_on(upstream: Upstream) -> None:
    def sent(proxy: RunningProxy, text: str) -> str:
        seen = len(upstream.exchanges)
        body = {"messages": [{"role": "user", "content": text}]}
        assert ask(proxy, "/v1/chat/completions", body, "openai:m").status_code == 200
        [exchange] = upstream.exchanges[seen:]
        [message] = exchange.request.json["messages"]
        return message["content"].strip()

    with running_proxy(environment(upstream, REDACT_API_KEYS_IN_PROMPTS="false")) as proxy:
        assert sent(proxy, SECRETS[0]) == SECRETS[0]
        assert sent(proxy, f"!/set(redact-api-keys-in-prompts=true) {SECRETS[0]}") == REPLACEMENT
        assert sent(proxy, SECRETS[0]) == REPLACEMENT
        assert sent(proxy, f"!/set(redact-api-keys-in-prompts=false) {SECRETS[0]}") == SECRETS[0]


def test_calls_caught_on_a_providers_own_host_are_redacted(authority: Authority) -> None:
    with Upstream(answer=Turns(Turn("Fine.")), authority=authority, names=("api.openai.com",)) as provider:
        hosts = {"api.openai.com": provider.port}
        with running_proxy(hosts=hosts, authority=authority, args=("-w", "flows")) as proxy:
            trust = ssl.create_default_context(cafile=str(proxy.ca_path))
            with httpx.Client(proxy=proxy.url, verify=trust, timeout=20) as client:
                body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"It is {SECRETS[3]}."}]}
                own = {"authorization": f"Bearer {SECRETS[1]}"}
                reply = client.post("https://api.openai.com/v1/chat/completions", json=body, headers=own)
                assert reply.status_code == 200
            proxy.stop()
            request = provider.exchanges[0].request
            assert request.json["messages"][0]["content"] == f"It is {REPLACEMENT}."
            assert request.header("authorization") == own["authorization"]
            assert leaks((proxy.home / "flows").read_bytes().decode("latin-1")) == []
