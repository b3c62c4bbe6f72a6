"""The reply pipeline without a socket: bytes in, the client's bytes out, the same however the bytes are cut."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import brotli
import pytest
import zstandard
from kit.corpus import exchanges, requires_corpus

from llm_interactive import compression, protocols
from llm_interactive import reply as replies
from llm_interactive.conversation import Conversation
from llm_interactive.errors import UpstreamError
from llm_interactive.events import Frame
from llm_interactive.protocols.base import Call, ReplyContext, ReplyReader, ReplyWriter
from llm_interactive.reply import NOTHING, PassedReply, Refusal, Reply, Step

CHAT = protocols.named("openai_chat")
CALL = Call("openai_chat", "generate", "/v1/chat/completions")
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def asked(*, stream: bool, usage: bool = True, model: str = "m") -> Conversation:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "stream": stream}
    if stream and usage:
        body["stream_options"] = {"include_usage": True}
    return CHAT.read_request(body, CALL)


def reply(*, stream: bool = True, usage: bool = True, rename: bool = False, **options: Any) -> Reply:
    context = ReplyContext(asked(stream=stream, usage=usage), CALL, CHAT.name, "m", lambda p: p + "1", 0, rename=rename)
    return Reply(CHAT.reply_reader(stream), CHAT.reply_writer(context), clock=lambda: 1.0, **options)


@dataclass
class Client:
    """What a client sees of the steps, and how it ends."""

    seen: bytes = b""
    ends: int = 0
    refused: UpstreamError | None = None
    cancelled: bool = False
    before_the_end: bytes = field(default=b"", repr=False)

    def take(self, step: Step) -> Step:
        assert all(step.chunks), "an empty chunk would end a chunked body"
        assert not (self.ends and step.chunks), "bytes after the end"
        self.seen += b"".join(step.chunks)
        if step.ended:
            self.before_the_end = self.seen
        self.seen += b"".join(step.last)
        self.ends += step.ended
        self.refused = step.refused or self.refused
        self.cancelled = self.cancelled or step.cancel
        return step


def played(reply: Reply, pieces: Iterable[bytes]) -> Client:
    client = Client()
    for piece in pieces:
        if client.take(reply.feed(piece)).refused:
            return client
    client.take(reply.finish())
    return client


def chunk(delta: dict[str, Any] | None = None, reason: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return b"data: " + json.dumps(body | more, ensure_ascii=False).encode() + b"\n\n"


TEXT = chunk({"role": "assistant", "content": ""}) + chunk({"content": "Grüße 🌍"}) + chunk({"content": " 你好"})
END = chunk({}, "stop") + chunk(usage=USAGE) + b"data: [DONE]\n\n"
CALLS = chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f"}}]}) + chunk(
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"é": 1}'}}]}
)
STREAMS = {
    "text": TEXT + END,
    "with CRLF": (TEXT + END).replace(b"\n", b"\r\n"),
    "with CR": (TEXT + END).replace(b"\n", b"\r"),
    "with a BOM": b"\xef\xbb\xbf" + TEXT + END,
    "with comments": b": PROCESSING\n\n" + TEXT + b": ping\n\n" + END,
    "with tools": TEXT + CALLS + chunk({}, "tool_calls") + b"data: [DONE]\n\n",
    "without an empty line at the end": (TEXT + END)[:-2],
    "without DONE": TEXT + chunk({}, "stop"),
    "cut off": TEXT,
    "an error in the middle": TEXT + b'data: {"error": {"message": "gone", "code": 502}}\n\n' + chunk(usage=USAGE),
    "with Unicode line separators": chunk({"content": "a\u2028b\u2029c\x85d"}) + END,
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("rename", [True, False])
def test_a_stream_cut_anywhere_is_the_same_stream(stream: bytes, usage: bool, rename: bool) -> None:
    def play(pieces: Iterable[bytes]) -> tuple[Any, ...]:
        ours = reply(usage=usage, rename=rename)
        client = played(ours, pieces)
        return client.seen, client.ends, ours.usage, ours.reason, ours.error and ours.error.message, "".join(ours.said)

    whole = play([stream])
    assert whole[1] == 1
    for at in range(1, len(stream)):
        assert play([stream[:at], stream[at:]]) == whole, at
    assert play(stream[at : at + 1] for at in range(len(stream))) == whole


@pytest.mark.parametrize("name", ["text", "with CRLF", "with comments", "with tools", "without DONE"])
def test_a_client_that_asked_for_usage_gets_the_providers_bytes(name: str) -> None:
    assert played(reply(), [STREAMS[name]]).seen == STREAMS[name]


@requires_corpus
def test_recorded_streams_cut_anywhere() -> None:
    recorded = [each for each in exchanges(api="chat", stream=True) if each.response.status == 200]
    small = [each.response.data for each in recorded if each.response.body and len(each.response.data) < 2500]
    assert len(small) > 10
    for data in small:
        whole = outcome(played(reply(), [data]))
        assert all(outcome(played(reply(), [data[:at], data[at:]])) == whole for at in range(1, len(data)))
        assert outcome(played(reply(), (data[at : at + 1] for at in range(len(data))))) == whole


def outcome(client: Client) -> tuple[bytes, int, str]:
    return client.seen, client.ends, str(client.refused or "")


def test_a_whole_answer_cut_anywhere() -> None:
    message = {"role": "assistant", "content": "Grüße 🌍"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = json.dumps({"id": "c1", "choices": choices, "usage": USAGE}, ensure_ascii=False).encode()
    for at in range(len(body)):
        client = played(reply(stream=False), [body[:at], body[at:]])
        assert (client.seen, client.before_the_end, client.ends) == (body, b"", 1)


def test_the_end_comes_apart_so_that_the_row_can_be_written_first() -> None:
    client = played(reply(), [TEXT + END])
    assert client.seen.removeprefix(client.before_the_end) == b"data: [DONE]\n\n"


def test_nothing_is_shown_before_there_is_something_to_see() -> None:
    ours = reply()
    assert ours.feed(chunk({"role": "assistant", "content": ""})) == NOTHING
    assert not ours.begun
    step = ours.feed(chunk({"content": "a"}))
    assert b"".join(step.chunks) == chunk({"role": "assistant", "content": ""}) + chunk({"content": "a"})
    assert ours.first == 1.0


def test_a_comment_is_something_to_see() -> None:
    assert reply().feed(b": PROCESSING\n\n").chunks == (b": PROCESSING\n\n",)


@pytest.mark.parametrize("before", [b"", chunk({"role": "assistant", "content": ""})])
def test_an_error_before_that_refuses_the_attempt(before: bytes) -> None:
    client = played(reply(), [before + b'data: {"error": {"message": "overloaded", "code": 529}}\n\n' + END])
    assert client.refused is not None
    assert (client.refused.status, client.refused.message) == (529, "overloaded")
    assert client.seen == b""


def test_a_break_is_told_to_who_has_seen_something() -> None:
    ours, client = reply(), Client()
    assert ours.broken(UpstreamError("gone")).refused is not None
    ours = reply()
    client.take(ours.feed(TEXT))
    client.take(ours.broken(UpstreamError("gone")))
    assert client.seen.removeprefix(TEXT).startswith(b'data: {"error":{"message":"gone"')
    assert b"[DONE]" not in client.seen
    assert (client.ends, client.cancelled) == (1, True)
    assert ours.broken(UpstreamError("again")) == ours.feed(TEXT) == ours.finish() == NOTHING


def test_what_follows_a_providers_error_still_counts() -> None:
    ours, client = reply(), Client()
    error = b'data: {"error": {"message": "malformed", "code": 502}}\n\n'
    client.take(ours.feed(TEXT + error))
    assert ours.failed
    client.take(ours.feed(chunk(usage=USAGE)))
    client.take(ours.finish())
    assert client.seen == TEXT + error + chunk(usage=USAGE)
    assert (client.ends, ours.usage and ours.usage.output) == (1, 3)
    assert ours.error is not None


def test_a_break_after_a_providers_error_says_nothing_more() -> None:
    ours, client = reply(), Client()
    client.take(ours.feed(TEXT + b'data: {"error": {"message": "malformed", "code": 502}}\n\n'))
    seen = client.seen
    client.take(ours.broken(UpstreamError("reset")))
    assert (client.seen, client.ends, client.cancelled) == (seen, 1, True)
    assert ours.error is not None
    assert ours.error.message == "malformed"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_compressed_stream_cut_anywhere(encoding: str) -> None:
    body = compressed(encoding, TEXT + END)
    for at in range(1, len(body)):
        client = played(reply(decode=compression.decoder(encoding)), [body[:at], body[at:]])
        assert client.seen == TEXT + END


def test_what_cannot_be_decompressed_refuses_the_attempt() -> None:
    client = played(reply(decode=compression.decoder("gzip")), [b"not gzip"])
    assert client.refused is not None
    assert "cannot be decompressed" in client.refused.message


def compressed(encoding: str, data: bytes) -> bytes:
    by_name: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": brotli.compress,
        "zstd": zstandard.compress,
    }
    return by_name[encoding](data)


def test_an_answer_of_the_other_kind_is_rewritten() -> None:
    context = ReplyContext(asked(stream=True), CALL, CHAT.name, "m", lambda p: p + "1", 0)
    ours = Reply(CHAT.reply_reader(False), CHAT.reply_writer(context), clock=lambda: 1.0, rewrite=True)
    choices = [{"index": 0, "message": {"role": "assistant", "content": "all at once"}, "finish_reason": "stop"}]
    client = played(ours, [json.dumps({"id": "c1", "choices": choices, "usage": USAGE}).encode()])
    assert b'"content":"all at once"' in client.seen
    assert client.seen.endswith(b"data: [DONE]\n\n")
    assert client.seen.count(b"chat.completion.chunk") >= 3


def test_names_of_tools_come_back_as_the_client_wrote_them() -> None:
    client = played(reply(tool_names={"f": "my.tool"}), [CALLS + chunk({}, "tool_calls") + b"data: [DONE]\n\n"])
    assert b'"name":"my.tool"' in client.seen


def test_what_never_shows_anything_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "MAX_UNSEEN", 1024 * 1024)
    ours, client = reply(stream=False), Client()
    for _ in range(40):
        client.take(ours.feed(b" " * 65_536))
        if client.refused:
            break
    assert client.refused is not None
    assert "more than 1 MiB" in client.refused.message


class Failing(ReplyReader, ReplyWriter):
    content_type = "text/plain"

    def __init__(self, *, reads: bool) -> None:
        self.reads = reads

    def feed(self, data: bytes) -> list[Frame]:
        return CHAT.reply_reader(True).feed(data) if self.reads else self.fail()

    def finish(self) -> list[Frame]:
        return self.fail()

    def write(self, frame: Frame) -> bytes:
        return self.fail()

    def fail(self) -> Any:
        raise RuntimeError("a bug")


def test_a_bug_ends_the_reply_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    context = ReplyContext(asked(stream=True), CALL, CHAT.name, "m", lambda p: p + "1", 0)
    reading = Reply(Failing(reads=False), CHAT.reply_writer(context), clock=lambda: 1.0)
    step = reading.feed(b"x")
    assert step.refused is not None
    assert step.refused.message == "the proxy could not read the provider's reply"
    writing = Reply(Failing(reads=True), Failing(reads=True), clock=lambda: 1.0)
    step = writing.feed(chunk({"content": "a"}))
    assert (step.ended, step.cancel, step.cut) == (True, True, True)
    assert writing.ended
    assert "a bug" in caplog.text


def test_a_passed_reply_passes() -> None:
    ours, client = PassedReply(lambda: 2.0), Client()
    client.take(ours.feed(b"a\x00b"))
    client.take(ours.finish())
    assert (client.seen, client.ends, ours.first) == (b"a\x00b", 1, 2.0)
    assert PassedReply(lambda: 2.0).broken(UpstreamError("gone")).refused is not None
    ours = PassedReply(lambda: 2.0)
    ours.feed(b"half")
    assert ours.broken(UpstreamError("gone")).cut


def test_a_refusal_collects_the_words() -> None:
    def read(body: bytes) -> UpstreamError:
        return UpstreamError(body.decode(), status=429)

    whole = Refusal(read)
    assert whole.feed(b"slow ") == NOTHING
    whole.feed(b"down")
    refused = whole.broken(UpstreamError("reset")).refused
    assert (refused and refused.message) == "slow down"
    endless = Refusal(read)
    steps = [endless.feed(b"x" * 100_000) for _ in range(3)]
    assert steps[:2] == [NOTHING, NOTHING]
    assert len((steps[2].refused or UpstreamError("")).message) == replies.REFUSAL_LIMIT
    zipped = Refusal(read, "gzip")
    zipped.feed(compressed("gzip", b"zipped words"))
    assert str(zipped.finish().refused) == "zipped words"
    assert str(Refusal(read, "gzip").finish().refused) == ""


def test_cuts_inside_a_character_lose_nothing() -> None:
    pieces = [stream[a:b] for stream in [TEXT + END] for a, b in pairwise([*range(0, len(stream), 3), len(stream)])]
    ours = reply(rename=True)
    client = played(ours, pieces)
    assert "".join(ours.said) == "Grüße 🌍 你好"
    assert "Grüße 🌍" in client.seen.decode()
