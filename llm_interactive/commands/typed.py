"""One text that a person typed: the commands in it, and what remains of it.

Aliases are resolved here: one that stands for a model becomes `set(model=...)`, one that holds commands runs them, and
what else it says stands in its place in the text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_interactive.commands.command import named
from llm_interactive.commands.scanner import Found, remainder, scan

DEEPEST_ALIAS = 4
"""An alias may use others; one that uses itself ends here."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command to run. `source`: as it was typed, for those of an alias the alias."""

    name: str
    arguments: str | None
    source: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Typing:
    """How commands are written. `former`: prefixes that held earlier; behind them only known commands are commands."""

    prefix: str
    former: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    backends: frozenset[str] = frozenset()
    """Known ones, by which an alias of a model is told from a text."""


@dataclass(frozen=True, slots=True)
class Typed:
    orders: tuple[Order, ...]
    rest: str


def may_hold_commands(text: str, typing: Typing, *, old: bool = False) -> bool:
    """A quick look: nearly no text does."""
    return typing.prefix in text or (old and any(prefix in text for prefix in typing.former))


def read(text: str, typing: Typing) -> Typed:
    return _read(text, typing, DEEPEST_ALIAS)


def read_old(text: str, typing: Typing) -> Typed:
    """The same for a message of the history."""
    typed = read(text, typing)
    for prefix in typing.former:
        found = [each for each in scan(typed.rest, prefix) if named(each.name) is not None]
        if found:
            orders = (Order(each.name, each.arguments, typed.rest[each.start : each.end]) for each in found)
            typed = Typed((*typed.orders, *orders), remainder(typed.rest, found))
    return typed


def _read(text: str, typing: Typing, depth: int) -> Typed:
    found = scan(text, typing.prefix)
    orders: list[Order] = []
    instead: dict[int, str] = {}
    for number, each in enumerate(found):
        source = text[each.start : each.end]
        meaning = _meaning(each, typing)
        if meaning is None:
            orders.append(Order(each.name, each.arguments, source, each.problem))
        elif depth == 0:
            orders.append(Order(each.name, None, source, f"alias {each.name}: refers to itself or too many others"))
        elif _is_model(meaning, typing):
            orders.append(Order("set", f"model={meaning}", source))
        else:
            inner = _read(meaning, typing, depth - 1)
            orders += (Order(order.name, order.arguments, source, order.problem) for order in inner.orders)
            if inner.rest.strip():
                instead[number] = inner.rest
    return Typed(tuple(orders), remainder(text, found, instead))


def _meaning(found: Found, typing: Typing) -> str | None:
    if found.arguments is not None or found.problem is not None or named(found.name) is not None:
        return None
    return typing.aliases.get(found.name, typing.aliases.get(found.name.lower()))


def _is_model(meaning: str, typing: Typing) -> bool:
    if any(char.isspace() for char in meaning):
        return False
    return any(meaning.partition(mark)[0] in typing.backends and mark in meaning for mark in ":/")
