"""Bodies that came compressed: request bodies whole and up to a limit (SPEC 9, TRAPS T106), replies piece by piece."""

import zlib
from collections.abc import Callable

import brotli
import zstandard

from llm_interactive.errors import BadRequest, TooLarge

type Decoder = Callable[[bytes], bytes]

MAX_WINDOW = 2**27
"""Bytes of memory that a zstd frame may ask for."""
MAX_GROWTH = 16 * 1024 * 1024
"""Bytes that one piece of a reply may become: a read holds 64 KiB, and text shrinks to a twentieth at most."""
MAX_STAGES = 3
MAX_MEMBERS = 100
"""Of a gzip file; each costs a copy of what follows."""
ZSTD_SLICE = 256
"""Bytes, of which each four may be a block of 128 KiB."""


class Bomb(Exception):
    """A small piece that would become very large."""


ERRORS = (zlib.error, brotli.error, zstandard.ZstdError, Bomb)


def _zlib(window: int) -> Decoder:
    decompressor = zlib.decompressobj(window)

    def decode(data: bytes) -> bytes:
        plain = decompressor.decompress(data, MAX_GROWTH)
        if decompressor.unconsumed_tail:
            raise _bomb()
        return plain

    return decode


def _gzip() -> Decoder:
    return _zlib(zlib.MAX_WBITS | 32)


def _brotli() -> Decoder:
    decompressor = brotli.Decompressor()

    def decode(data: bytes) -> bytes:
        plain: bytes = decompressor.process(data, output_buffer_limit=MAX_GROWTH)
        if len(plain) > MAX_GROWTH or not decompressor.can_accept_more_data():
            raise _bomb()
        return plain

    return decode


def _zstd() -> Decoder:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()

    def decode(data: bytes) -> bytes:
        plain = bytearray()
        for start in range(0, len(data), ZSTD_SLICE):
            plain += decompressor.decompress(data[start : start + ZSTD_SLICE])
            if len(plain) > MAX_GROWTH:
                raise _bomb()
        return bytes(plain)

    return decode


def _bomb() -> Bomb:
    return Bomb(f"a piece of it becomes more than {MAX_GROWTH >> 20} MiB")


def _as_it_is() -> Decoder:
    return bytes


DECODERS: dict[str, Callable[[], Decoder]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": lambda: _zlib(zlib.MAX_WBITS),
    "br": _brotli,
    "zstd": _zstd,
    "identity": _as_it_is,
}


def decoder(encoding: str) -> Decoder:
    """For pieces of a body with this `content-encoding`; raises `BadRequest` where it is not known."""
    stages = [DECODERS[name]() for name in _stages(encoding)]
    if len(stages) == 1:
        return stages[0]

    def decode(data: bytes) -> bytes:
        for stage in stages:
            data = stage(data)
        return data

    return decode


def lenient(encoding: str) -> Decoder:
    """For the body of an error, of which as much is read as can be."""
    try:
        decode = decoder(encoding)
    except BadRequest:
        return bytes

    def read(data: bytes) -> bytes:
        try:
            return decode(data)
        except ERRORS:
            return b""

    return read


def _stages(encoding: str) -> list[str]:
    """In the order in which they are undone."""
    names = [name.strip().lower() for name in reversed(encoding.split(",")) if name.strip()]
    for name in names:
        if name not in DECODERS:
            raise BadRequest(f"content-encoding {name!r} is not known; use gzip, deflate, br or zstd", status=415)
    if len(names) > MAX_STAGES:
        raise BadRequest(f"content-encoding has {len(names)} stages, at most {MAX_STAGES} are undone", status=415)
    return names


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """A whole request body of at most `limit` bytes, at every stage: a bomb is noticed before it has grown."""
    for name in ("identity", *_stages(encoding)):
        try:
            body = WHOLE[name](body, limit + 1)
        except ERRORS as error:
            raise BadRequest(f"the body is not valid {name}: {error}") from None
        if len(body) > limit:
            raise _too_large(limit)
    return body


def _whole_zlib(body: bytes, most: int, window: int) -> bytes:
    out, members = bytearray(), 0
    while body and len(out) < most:  # gzip may have several members
        members += 1
        if members > MAX_MEMBERS:
            raise Bomb(f"it has more than {MAX_MEMBERS} parts")
        decompressor = zlib.decompressobj(window)
        out += decompressor.decompress(body, most - len(out))
        if not decompressor.eof and not decompressor.unconsumed_tail and len(out) < most:
            raise zlib.error("it is cut off")
        body = decompressor.unused_data
    return bytes(out)


def _whole_brotli(body: bytes, most: int) -> bytes:
    decompressor = brotli.Decompressor()
    out: bytes = decompressor.process(body, output_buffer_limit=most)
    if not decompressor.is_finished() and len(out) < most:
        raise brotli.error("it is cut off")
    return out


def _whole_zstd(body: bytes, most: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    with decompressor.stream_reader(body, read_across_frames=True) as reader:
        return reader.read(most)


def _whole_gzip(body: bytes, most: int) -> bytes:
    return _whole_zlib(body, most, zlib.MAX_WBITS | 32)


WHOLE: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _whole_gzip,
    "x-gzip": _whole_gzip,
    "deflate": lambda body, most: _whole_zlib(body, most, zlib.MAX_WBITS),
    "br": _whole_brotli,
    "zstd": _whole_zstd,
    "identity": lambda body, most: body,
}
"""`(body, most)` -> at most about `most` bytes of what it says; the whole only where that is less."""


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the request body is larger than {limit} bytes")
