"""In which order the keys of a route's elements are tried (SPEC 6).

k    the first element, each of its keys
m    each element, its first key
km   each element, all its keys
mk   key 1 of every element, then key 2, and so on
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

type Ring = Sequence[int | None]
"""Numbers of keys, from 1; a single None where no key is needed."""
type Pair = tuple[int, int | None]
"""The index of an element, and the number of its key."""
type Order = Callable[[Sequence[Ring], Sequence[Ring]], list[Pair]]
"""Called with each element's keys as they are numbered, and the same with the one in use in front."""


def _first_element(rings: Sequence[Ring], in_use: Sequence[Ring]) -> list[Pair]:
    return [(0, key) for key in in_use[0]] if in_use else []


def _first_keys(rings: Sequence[Ring], in_use: Sequence[Ring]) -> list[Pair]:
    return [(element, ring[0]) for element, ring in enumerate(rings)]


def _elements_then_keys(rings: Sequence[Ring], in_use: Sequence[Ring]) -> list[Pair]:
    return [(element, key) for element, ring in enumerate(in_use) for key in ring]


def _keys_then_elements(rings: Sequence[Ring], in_use: Sequence[Ring]) -> list[Pair]:
    rounds = zip_longest(*rings, fillvalue=_NO_KEY)
    return [(element, key) for each in rounds for element, key in enumerate(each) if key != _NO_KEY]


_NO_KEY = 0

ORDERS: Mapping[str, Order] = {
    "k": _first_element,
    "m": _first_keys,
    "km": _elements_then_keys,
    "mk": _keys_then_elements,
}
"""`m` and `mk` speak of keys by their number, so that the key in use does not change their order."""
