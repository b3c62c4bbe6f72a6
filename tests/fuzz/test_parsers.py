"""The smaller parsers: server-sent events, commands, schemas, paths, compression, URLs."""

import contextlib
import gzip
import itertools
import zlib
from collections.abc import Mapping
from typing import Any

import brotli
import zstandard
from fuzz.mutated import TEXTS, VALUES, changed, cut
from fuzz.rich import SCHEMA
from hypothesis import given
from hypothesis import strategies as st

from llm_interactive import compression, entry, sse, wire_json
from llm_interactive.commands.arguments import parse, unquoted
from llm_interactive.commands.command import named as command_named
from llm_interactive.commands.context import BackendSummary, CommandError, Context
from llm_interactive.commands.run import run
from llm_interactive.commands.scanner import remainder, scan
from llm_interactive.conversation import Conversation, Message, Text
from llm_interactive.errors import ProxyError
from llm_interactive.protocols import anthropic_messages_schema, gemini_schema
from llm_interactive.redaction.passed import redacted_body
from llm_interactive.redaction.redactor import Redactor
from llm_interactive.sessions import Server, Session

type Json = Any

COMMANDS = [
    b"!/set(model=openai:gpt-5, temperature=0.5) Tell me `!/help` more",
    b"# no\n!/set(gemini-generation-config={\"topK\": 1, 'a': [2]})\n```\n!/hello\n```\n!/unset(model)",
    b"!/create-failover-route(name=r, policy=km) !/route-append(name=r, openai:a, openai:b) !/route-list(name=r)",
    b"!/alias(x=set(temperature=1)) !/x !/oneoff(openai:a) !/reasoning(effort=high) !/pwd",
    b'!/set(openai_url=http://127.0.0.1:80/v1, project=\'a, b\', reasoning={"effort": "low"}) !/status !/help(set)',
]
PATHS = [
    b"/v1/chat/completions?key=a&alt=sse",
    b"/v1beta/models/a:b:streamGenerateContent?alt=sse&key=%zz",
    b"/anthropic/v1/v1/messages/count_tokens",
    b"/v1/models/x%2fy?&=&;",
]
PLAIN = b"data: {}\n\n" * 30
COMPRESSED = {
    "gzip": gzip.compress(PLAIN, mtime=0),
    "deflate": zlib.compress(PLAIN),
    "br": brotli.compress(PLAIN),
    "zstd": zstandard.compress(PLAIN),
}
LIMIT = 10_000
SECRET = "a-key-of-the-proxy-0123456789"
REDACTOR = Redactor([SECRET])
CONTENT_TYPES = [
    "multipart/form-data; boundary=x",
    'multipart/form-data; boundary="x"',
    "application/json",
    "text/plain",
]
FORMS = [
    b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + SECRET.encode() + b"\r\n"
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="b"\r\nContent-Type: audio/wav\r\n\r\n\x00\r\n--x--',
    b'{"input": "' + SECRET.encode() + b'"}',
]


@given(
    cut([b": hi\r\n\r\n", b"event: a\ndata: {}\ndata: x\n\ndata:y\r\rid: 1\n\n"]) | st.binary(max_size=80), st.data()
)
def test_events_do_not_depend_on_the_cuts(data: bytes, draw: st.DataObject) -> None:
    whole = sse.Splitter()
    expected = whole.feed(data) + whole.flush()
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=4)))
    splitter = sse.Splitter()
    found = [each for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) for each in splitter.feed(data[a:b])]
    assert found + splitter.flush() == expected


@given(cut(COMMANDS).map(lambda data: data.decode("utf-8", "replace")) | st.text(max_size=60))
def test_commands(text: str) -> None:
    found = scan(text, "!/")
    remainder(text, found)
    context = Context(Session("client/s"), Server(), {"openai": BackendSummary(1)}, is_directory=lambda path: False)
    run(Conversation(model="m", messages=(Message(role="user", parts=(Text(text=text),)),)), context)
    wire_json.dumps(context.session.to_json())


@given(st.sampled_from(["set", "unset", "alias", "oneoff", "route-append", "create-failover-route", "help"]), TEXTS)
def test_arguments(name: str, text: str) -> None:
    parse(text)
    unquoted(text)
    command = command_named(name)
    assert command is not None
    with contextlib.suppress(CommandError):
        command(Context(Session("client/s"), Server(), {"openai": BackendSummary(1)}), text)


@given(changed([SCHEMA]) | VALUES)
def test_schemas(schema: Json) -> None:
    schema = wire_json.loads(wire_json.dumps(schema))
    if isinstance(schema, Mapping):
        wire_json.dumps(gemini_schema.to_gemini(schema))
        wire_json.dumps(anthropic_messages_schema.tool_schema(schema))
    wire_json.dumps(gemini_schema.to_json_schema(schema))
    wire_json.dumps(anthropic_messages_schema.output_schema(schema))


@given(
    st.sampled_from(["GET", "POST", "OPTIONS", ""]),
    cut(PATHS).map(lambda data: data.decode("latin-1")) | st.text(max_size=60),
    st.dictionaries(st.sampled_from(["authorization", "x-api-key", "anthropic-version"]), TEXTS),
)
def test_paths(method: str, target: str, headers: dict[str, str]) -> None:
    query = target.partition("?")[2]
    entry.recognise(method, target, headers)
    entry.credentials_of(headers, query)
    entry.nearest_protocol(target, headers, query)
    assert "key" not in dict(entry.parse_qsl(entry.without_key(query)))


@given(
    st.sampled_from(sorted(COMPRESSED)).flatmap(lambda name: st.tuples(st.just(name), cut([COMPRESSED[name]]))),
    st.lists(st.integers(0, 100), max_size=2),
)
def test_compression(sample: tuple[str, bytes], cuts: list[int]) -> None:
    name, data = sample
    with contextlib.suppress(ProxyError):
        assert len(compression.decoded(data, name, LIMIT)) <= LIMIT
    decode, marks = compression.decoder(name), [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    try:
        for a, b in itertools.pairwise(marks):
            decode(data[a:b])
    except (*compression.ERRORS, ProxyError):
        pass


@given(cut(FORMS), st.sampled_from(CONTENT_TYPES) | TEXTS)
def test_bodies_that_are_passed_on(body: bytes, content_type: str) -> None:
    assert SECRET.encode() not in redacted_body(REDACTOR.begin(), FORMS[0], CONTENT_TYPES[0])
    redacted_body(REDACTOR.begin(), body, content_type)


@given(TEXTS, st.binary(max_size=20))
def test_any_encoding(encoding: str, data: bytes) -> None:
    with contextlib.suppress(ProxyError):
        compression.decoded(data, encoding, LIMIT)
