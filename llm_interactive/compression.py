"""Bodies that came compressed: request bodies whole and up to a limit (SPEC 9, TRAPS T106), replies piece by piece."""

import zlib
from collections.abc import Callable

import brotli
import zstandard

from llm_interactive.errors import BadRequest, TooLarge

type Decoder = Callable[[bytes], bytes]

MAX_WINDOW = 2**27
"""Bytes of memory that a zstd frame may ask for."""
ERRORS = (zlib.error, brotli.error, zstandard.ZstdError)


def _gzip() -> Decoder:
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress


def _brotli() -> Decoder:
    decompress: Decoder = brotli.Decompressor().process
    return decompress


def _zstd() -> Decoder:
    return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj().decompress


def _as_it_is() -> Decoder:
    return bytes


DECODERS: dict[str, Callable[[], Decoder]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": lambda: zlib.decompressobj().decompress,
    "br": _brotli,
    "zstd": _zstd,
    "identity": _as_it_is,
}


def decoder(encoding: str) -> Decoder:
    """For pieces of a body with this `content-encoding`; raises `BadRequest` where it is not known."""
    stages = [DECODERS[_known(name.strip().lower())]() for name in reversed(encoding.split(",")) if name.strip()]
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


def _known(name: str) -> str:
    if name not in DECODERS:
        raise BadRequest(f"content-encoding {name!r} is not known; use gzip, deflate, br or zstd", status=415)
    return name


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """A whole request body of at most `limit` bytes, at every stage: a bomb is noticed before it has grown."""
    stages = [name.strip().lower() for name in reversed(encoding.split(",")) if name.strip()]
    for name in stages:
        _known(name)
    for name in ("identity", *stages):
        try:
            body = WHOLE[name](body, limit + 1)
        except ERRORS as error:
            raise BadRequest(f"the body is not valid {name}: {error}") from None
        if len(body) > limit:
            raise _too_large(limit)
    return body


def _whole_zlib(body: bytes, most: int, window: int) -> bytes:
    out = b""
    while body and len(out) < most:  # gzip may have several members
        decompressor = zlib.decompressobj(window)
        out += decompressor.decompress(body, most - len(out))
        if not decompressor.eof and not decompressor.unconsumed_tail and len(out) < most:
            raise zlib.error("it is cut off")
        body = decompressor.unused_data
    return out


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
