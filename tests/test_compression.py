"""Compressed bodies, whole and in pieces (SPEC 9, TRAPS T106)."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from llm_interactive import compression
from llm_interactive.errors import BadRequest, TooLarge

DATA = ('{"text": "Grüße 🌍"}' * 50).encode()
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "identity": bytes,
}
LIMIT = 1_000_000
ZEROS = bytes(50_000_000)
BOMBS = {
    "gzip": gzip.compress(ZEROS),
    "deflate": zlib.compress(ZEROS),
    "br": brotli.compress(ZEROS, quality=5),
    "zstd": zstandard.compress(ZEROS),
    "gzip, gzip": gzip.compress(gzip.compress(ZEROS)),
    "gzip, br": brotli.compress(gzip.compress(ZEROS)),
}


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_body_is_read_whole_and_cut_anywhere(encoding: str) -> None:
    body = COMPRESS[encoding](DATA)
    assert compression.decoded(body, encoding, LIMIT) == DATA
    assert compression.decoded(body, f" {encoding.upper()} ", LIMIT) == DATA
    for at in range(len(body)):
        decode = compression.decoder(encoding)
        assert decode(body[:at]) + decode(body[at:]) == DATA


def test_encodings_stack() -> None:
    assert compression.decoded(gzip.compress(brotli.compress(DATA)), "br, gzip", LIMIT) == DATA


def test_no_encoding_is_no_work() -> None:
    assert compression.decoded(DATA, "", LIMIT) is DATA


@pytest.mark.parametrize("encoding", BOMBS)
def test_a_bomb_is_noticed_before_it_has_grown(encoding: str) -> None:
    bomb = BOMBS[encoding]
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            compression.decoded(bomb, encoding, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_the_limit_counts_what_comes_out() -> None:
    assert compression.decoded(bytes(LIMIT), "", LIMIT) == bytes(LIMIT)
    assert compression.decoded(gzip.compress(bytes(LIMIT)), "gzip", LIMIT) == bytes(LIMIT)
    for body, encoding in ((bytes(LIMIT + 1), ""), (gzip.compress(bytes(LIMIT + 1)), "gzip")):
        with pytest.raises(TooLarge) as caught:
            compression.decoded(body, encoding, LIMIT)
        assert caught.value.status == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_what_is_no_such_thing_is_named(encoding: str) -> None:
    with pytest.raises(BadRequest, match=f"not valid {encoding}"):
        compression.decoded(b"this is not compressed at all", encoding, LIMIT)


def test_an_unknown_encoding_is_415() -> None:
    with pytest.raises(BadRequest, match="'lzma' is not known") as caught:
        compression.decoded(b"x", "lzma", LIMIT)
    assert caught.value.status == 415


def test_an_errors_body_is_read_as_far_as_it_goes() -> None:
    body = gzip.compress(b"words")
    assert compression.lenient("gzip")(body) == b"words"
    assert compression.lenient("gzip")(b"plain though it says gzip") == b""
    assert compression.lenient("lzma")(b"as it is") == b"as it is"
    assert compression.lenient("")(b"as it is") == b"as it is"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_body_that_is_cut_off_is_named(encoding: str) -> None:
    with pytest.raises(BadRequest, match="cut off"):
        compression.decoded(COMPRESS[encoding](DATA)[:-1], encoding, LIMIT)


def test_gzip_may_have_several_members() -> None:
    assert compression.decoded(gzip.compress(DATA) + gzip.compress(DATA), "gzip", LIMIT) == DATA + DATA


def test_bombs_in_pieces_of_a_reply_do_not_go_off() -> None:
    zeros = bytes(compression.MAX_GROWTH * 4)
    for encoding, bomb in {
        "gzip": gzip.compress(zeros),
        "deflate": zlib.compress(zeros),
        "br": brotli.compress(zeros, quality=1),
        "zstd": zstandard.compress(zeros),
    }.items():
        with pytest.raises(compression.Bomb, match="becomes more than 16 MiB"):
            compression.decoder(encoding)(bomb)


def test_a_large_reply_in_pieces_is_no_bomb() -> None:
    text = bytes(range(256)) * 8192 * 10
    for encoding, data in {"gzip": gzip.compress(text), "br": brotli.compress(text, quality=1),
                           "zstd": zstandard.compress(text)}.items():  # fmt: skip
        decode = compression.decoder(encoding)
        assert b"".join(decode(data[i : i + 100]) for i in range(0, len(data), 100)) == text


def test_many_members_and_many_stages_are_refused() -> None:
    member = gzip.compress(b"x")
    assert compression.decoded(member * compression.MAX_MEMBERS, "gzip", 10_000) == b"x" * compression.MAX_MEMBERS
    with pytest.raises(BadRequest, match="more than 100 parts"):
        compression.decoded(member * (compression.MAX_MEMBERS + 1), "gzip", 10_000)
    with pytest.raises(BadRequest, match="has 4 stages, at most 3 are undone"):
        compression.decoded(b"", "gzip, gzip, gzip, gzip", 10_000)
