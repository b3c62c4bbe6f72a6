"""Request bodies as they were before they were compressed, up to a limit (SPEC 9, TRAPS T106)."""

import zlib
from collections.abc import Callable

import brotli
import zstandard
from mitmproxy import http

from llm_interactive.errors import BadRequest, TooLarge

PIECE = 64 * 1024


def decoded(request: http.Request, limit: int) -> bytes:
    """The body of at most `limit` bytes; raises `TooLarge` or `BadRequest`."""
    body = request.raw_content or b""
    if len(body) > limit:
        raise _too_large(limit)
    names = [n.strip().lower() for n in request.headers.get("content-encoding", "").split(",") if n.strip()]
    for name in reversed(names):
        if name == "identity":
            continue
        if name not in DECODERS:
            raise BadRequest(f"content-encoding {name!r} is not known; use gzip, deflate, br or zstd", status=415)
        body = _decode(body, DECODERS[name](), limit, name)
    return body


def _decode(body: bytes, decode: Callable[[bytes], bytes], limit: int, name: str) -> bytes:
    """Piece by piece, so that a bomb is noticed before it has grown."""
    out = bytearray()
    try:
        for start in range(0, len(body), PIECE):
            out += decode(body[start : start + PIECE])
            if len(out) > limit:
                raise _too_large(limit)
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        raise BadRequest(f"the body is not valid {name}: {error}") from None
    return bytes(out)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the request body is larger than {limit} bytes")


def _gzip() -> Callable[[bytes], bytes]:
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress


def _deflate() -> Callable[[bytes], bytes]:
    return zlib.decompressobj().decompress


def _brotli() -> Callable[[bytes], bytes]:
    decompress: Callable[[bytes], bytes] = brotli.Decompressor().process
    return decompress


def _zstd() -> Callable[[bytes], bytes]:
    return zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj().decompress


DECODERS = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _brotli, "zstd": _zstd}
