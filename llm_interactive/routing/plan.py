"""From what a model name means to the attempts that will be made, in order (SPEC 6)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.routing.policies import ORDERS, Ring
from llm_interactive.routing.resolution import Element, Leg

type InUse = Callable[[ConfiguredBackend, str], Ring]
"""The keys of a backend in the order in which they are tried for a model."""
type Instead = Callable[[Element, str], str]
"""The protocol to speak, by the one that would be spoken if it were for the protocols alone."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: `key_ordinal` counts the backend's keys from 1, None where it needs none. `parameters`: what the model's
    name says of the request, by the names of `selectors.PARAMETERS`."""

    backend: ConfiguredBackend
    protocol: str
    model: str
    key_ordinal: int | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)


def as_served(element: Element, usual: str) -> str:
    return usual


def attempts(legs: Iterable[Leg], frontend: str, in_use: InUse, instead: Instead = as_served) -> list[Attempt]:
    """Each attempt once, in the client's own protocol where the backend serves it."""
    found: dict[tuple[str, str, int | None], Attempt] = {}
    for leg in legs:
        rings = [numbered(element.backend) for element in leg.elements]
        begun = [in_use(element.backend, element.model) for element in leg.elements]
        for number, key in ORDERS[leg.policy](rings, begun):
            element = leg.elements[number]
            backend = element.backend
            protocol = frontend if frontend in backend.protocols else next(iter(backend.protocols))
            attempt = Attempt(backend, instead(element, protocol), element.model, key, element.parameters)
            found.setdefault((backend.name, element.model, key), attempt)
    return list(found.values())


def numbered(backend: ConfiguredBackend) -> Ring:
    return range(1, len(backend.keys) + 1) or (None,)
