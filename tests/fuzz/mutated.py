"""Strategies: valid JSON and bytes with a few things changed, which get further into a parser than noise does."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

type Json = Any

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "auto", "none", "user", "assistant", "system", "tool", "text", "object", "null", "\ud800", "\x00", "data:,",
     "data:image/png;base64,????", "!/set(model=a:b)", "!/help", "{", '{"a": [}', "call_1", "https://x.example/a", "#"]
)  # fmt: skip
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**53, 2**63, 2**64, 10**400, 1e308])
LEAVES: st.SearchStrategy[Json] = st.none() | st.booleans() | NUMBERS | TEXTS
NOISE = [b"\n\n", b"\r", b"data: ", b"null", b"{}", b'"', b"[", b"-1", b"event: error\n"]
VALUES: st.SearchStrategy[Json] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)


def places(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all that is in a value, in order."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def at(value: Json, path: Sequence[Any]) -> Json:
    for key in path:
        value = value[key]
    return value


@st.composite
def changed(draw: st.DrawFn, samples: Sequence[Json]) -> Json:
    """A sample in which some values are others, are gone, or stand twice."""
    value = copy.deepcopy(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        found = list(places(value))
        if not found:
            break
        path = draw(st.sampled_from(found))
        owner, key = at(value, path[:-1]), path[-1]
        match draw(st.sampled_from(["leaf", "value", "elsewhere", "gone", "twice"])):
            case "leaf":
                owner[key] = draw(LEAVES)
            case "value":
                owner[key] = draw(VALUES)
            case "elsewhere":
                owner[key] = copy.deepcopy(at(value, draw(st.sampled_from(found))))
            case "gone":
                del owner[key]
            case "twice" if isinstance(owner, list):
                owner.insert(key, copy.deepcopy(owner[key]))
    return value


@st.composite
def cut(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """Bytes of a sample with pieces gone, moved or replaced by noise."""
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 4))):
        first, last = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        noise = draw(st.binary(max_size=8) | st.sampled_from(NOISE))
        match draw(st.sampled_from(["noise", "gone", "twice"])):
            case "noise":
                data = data[:first] + noise + data[first + len(noise) :]
            case "gone":
                data = data[:first] + data[last:]
            case "twice":
                data = data[:last] + data[first:last] + data[last:]
    return data
