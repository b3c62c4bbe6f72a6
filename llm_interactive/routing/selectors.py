"""What a model name may say beyond one name:

    a:b|c:d                        in this order
    [weight=3]a:b^[weight=1]c:d    one is drawn by its weight; the others follow, as they are written
    a:b?temperature=0.2            with parameters, joined by `&`

`^` binds closer than `|`. A name without these marks is one term; what stands in brackets elsewhere (`[1m]`), and `:`,
`/`, `@` belong to names. What cannot be understood raises `BadRequest`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from llm_interactive.config_file import EFFORTS
from llm_interactive.errors import BadRequest
from llm_interactive.setting_values import Number, OneOf, Reader, ThinkingBudget, Whole, show

type Draw = Callable[[], float]
"""A random number from 0 to below 1."""

MARKS = frozenset("|^?")
WEIGHT = re.compile(r"\[weight=([^\]]*)\]")
MOST_TERMS = 100
HEAVIEST = 1_000_000.0

PARAMETERS: Mapping[str, Reader] = {
    "temperature": Number(0, 2),
    "reasoning_effort": OneOf(EFFORTS),
    "thinking_budget": ThinkingBudget(),
    "max_tokens": Whole(1, 10_000_000),
}
"""What may follow the `?`: the words of `model_defaults`."""


@dataclass(frozen=True, slots=True)
class Term:
    """One name of a selector. `parameters`: already read, by the names of `PARAMETERS`."""

    name: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    weight: float = 1.0


def is_selector(text: str) -> bool:
    return not MARKS.isdisjoint(text) or text.startswith("[weight=")


def terms(text: str, draw: Draw) -> list[Term]:
    """All of a selector's terms in the order in which they are to be tried."""
    if text.count("|") + text.count("^") >= MOST_TERMS:
        raise _bad(text, f"it has more than {MOST_TERMS} names")
    found: list[Term] = []
    for group in text.split("|"):
        alternatives = [_term(text, each) for each in group.split("^")]
        first = alternatives.pop(_drawn(alternatives, draw)) if len(alternatives) > 1 else alternatives.pop()
        found += [first, *alternatives]
    return found


def _drawn(alternatives: list[Term], draw: Draw) -> int:
    """The index of one of them."""
    left = draw() * sum(each.weight for each in alternatives)
    for index, each in enumerate(alternatives):
        left -= each.weight
        if left < 0:
            return index
    return len(alternatives) - 1


def _term(text: str, written: str) -> Term:
    written = written.strip()
    weight = 1.0
    if (prefix := WEIGHT.match(written)) is not None:
        weight, written = _weight(text, prefix[1]), written[prefix.end() :].strip()
    name, mark, query = written.partition("?")
    if not name.strip():
        raise _bad(text, "a name is missing")
    return Term(name.strip(), _parameters(text, query) if mark else {}, weight)


def _weight(text: str, written: str) -> float:
    try:
        weight = Number(0, HEAVIEST)(written)
    except ValueError:
        weight = 0.0
    if weight <= 0:
        raise _bad(text, f"weight={show(written)} must be a number above 0")
    return weight


def _parameters(text: str, query: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for pair in query.split("&"):
        written, equals, value = pair.partition("=")
        name = unquote_plus(written).strip().lower().replace("-", "_")
        reader = PARAMETERS.get(name)
        if reader is None or not equals:
            raise _bad(
                text, f"the parameter {show(written) or 'behind ?'} must be one of {', '.join(PARAMETERS)}, with ="
            )
        try:
            found[name] = reader(unquote_plus(value))
        except ValueError:
            raise _bad(text, f"{name}={show(value)} must be {reader.allowed}") from None
    return found


def _bad(text: str, why: str) -> BadRequest:
    return BadRequest(f"the model '{show(text)}' cannot be understood: {why}", param="model")
