"""JSON as it is on the wire: orjson, with the standard library for what orjson refuses.

`loads` takes what clients really send (lone surrogates, integers beyond 64 bits) and raises `ValueError` for what is no
JSON or nested too deeply; `dumps` gives compact UTF-8 bytes and keeps the order of keys.
"""

import json
from typing import Any

import orjson

MAX_DEPTH = 128
"""Levels of nesting; deeper input is an attack or a mistake, and recursion over it could exhaust the stack."""


def loads(data: bytes | str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _loads_slowly(data)


def _loads_slowly(data: bytes | str) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # lone surrogates, huge integers
        return json.dumps(value, separators=(",", ":")).encode()


def text(value: Any) -> str:
    return dumps(value).decode()


def depth_exceeds(value: Any, limit: int = MAX_DEPTH) -> bool:
    """Whether a parsed value has more than `limit` levels (walked without recursion)."""
    level: list[Any] = [value]
    for _ in range(limit):
        children: list[Any] = []
        for outer in level:
            if isinstance(outer, dict):
                children.extend(outer.values())
            elif isinstance(outer, list):
                children.extend(outer)
        level = [child for child in children if isinstance(child, (dict, list))]
        if not level:
            return False
    return True
