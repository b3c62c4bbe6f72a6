"""Bodies that came compressed: request bodies whole and up to a limit (SPEC 9, TRAPS T106), replies piece by piece."""

import zlib
from collections.abc import Callable

import brotli
import zstandard

from llm_interactive.errors import BadRequest, TooLarge

type Decoder = Callable[[bytes], bytes]

PIECE = 64 * 1024
ERRORS = (zlib.error, brotli.error, zstandard.ZstdError)


def _gzip() -> Decoder:
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress


def _brotli() -> Decoder:
    decompress: Decoder = brotli.Decompressor().process
    return decompress


def _zstd() -> Decoder:
    return zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj().decompress


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
    stages = [_stage(name.strip().lower()) for name in reversed(encoding.split(",")) if name.strip()]
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


def _stage(name: str) -> Decoder:
    if name not in DECODERS:
        raise BadRequest(f"content-encoding {name!r} is not known; use gzip, deflate, br or zstd", status=415)
    return DECODERS[name]()


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """A whole request body of at most `limit` bytes; piece by piece, so that a bomb is noticed before it has grown."""
    if len(body) > limit:
        raise _too_large(limit)
    if not encoding:
        return body
    decode = decoder(encoding)
    out = bytearray()
    try:
        for start in range(0, len(body), PIECE):
            out += decode(body[start : start + PIECE])
            if len(out) > limit:
                raise _too_large(limit)
    except ERRORS as error:
        raise BadRequest(f"the body is not valid {encoding}: {error}") from None
    return bytes(out)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the request body is larger than {limit} bytes")
