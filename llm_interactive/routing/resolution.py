"""What a model name means: which backends and models, in which order, by which policy (SPEC 6).

    backend:model   where the head is a configured backend, so that `ft:gpt-4o:org` stays a model
    a selector      `a:b|c:d` and so on (selectors.py); its names may be any of these
    a route         a named list of elements, from the file or made by commands
    an alias        another name for any of these, or a pattern `/^claude-.*-haiku/` whose groups the meaning may use
    a bare name     the default backend, else the model's vendor if configured, else the first backend

What cannot be resolved raises `BadRequest` or `NotFound`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.backends.providers import BACKENDS, prefix_of
from llm_interactive.config_file import FailoverRoute, is_pattern
from llm_interactive.errors import BadRequest, NotFound
from llm_interactive.models import vendor_of
from llm_interactive.routing import selectors
from llm_interactive.routing.selectors import Draw
from llm_interactive.setting_values import show

MOST_STEPS = 10
"""Aliases that lead to each other, one after the other."""
EACH_KEY = "k"


@dataclass(frozen=True, slots=True)
class Element:
    backend: ConfiguredBackend
    model: str
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Leg:
    """Elements that are tried by one policy."""

    policy: str
    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """What names can mean. `default`: the backend of bare names. `forced`: the session's backend, where plain names go
    whatever they say; routes and aliases name their own. `caught`: where the call was going by itself, which knows its
    own names best."""

    backends: Mapping[str, ConfiguredBackend]
    routes: Mapping[str, FailoverRoute] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    patterns: tuple[tuple[re.Pattern[str], str], ...] = ()
    default: str | None = None
    forced: str | None = None
    caught: str | None = None


def patterns(aliases: Mapping[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Those aliases that are written `/.../`, checked where they were read."""
    return tuple((re.compile(name[1:-1]), meaning) for name, meaning in aliases.items() if is_pattern(name))


def resolve(asked: str, names: Names, draw: Draw) -> tuple[Leg, ...]:
    """At least one leg, none of them empty."""
    return tuple(_legs(asked, names, draw, {}, 0))


def without_route(name: str) -> BadRequest:
    """For a session whose route was deleted."""
    return BadRequest(f"the route '{show(name)}' is gone; set another model, or unset it", param="model")


def _legs(text: str, names: Names, draw: Draw, parameters: Mapping[str, object], step: int) -> Iterator[Leg]:
    if step > MOST_STEPS:
        raise BadRequest(f"the alias '{show(text)}' leads to too many others", param="model")
    if (route := names.routes.get(text)) is not None:
        yield _route(text, route, names, draw, parameters)
    elif (meaning := _meaning(text, names)) is not None:
        yield from _legs(meaning, replace(names, forced=None), draw, parameters, step + 1)
    elif selectors.is_selector(text):
        for term in selectors.terms(text, draw):
            yield from _legs(term.name, names, draw, {**term.parameters, **parameters}, step + 1)
    else:
        yield Leg(EACH_KEY, (_element(text, names, parameters),))


def _meaning(text: str, names: Names) -> str | None:
    """Of an alias. A name with a backend in front is none (SPEC 6)."""
    head, colon, _ = text.partition(":")
    if colon and head in names.backends:
        return None
    meaning = names.aliases.get(text, names.aliases.get(text.lower()))
    if meaning is not None:
        return meaning if meaning != text else None
    for pattern, template in names.patterns:
        if (found := pattern.search(text)) is not None:
            meaning = found.expand(template)
            return meaning if meaning != text else None
    return None


def _route(name: str, route: FailoverRoute, names: Names, draw: Draw, parameters: Mapping[str, object]) -> Leg:
    """Elements whose backend is not configured (any more) are left out."""
    elements = []
    for written in route.elements:
        for term in selectors.terms(written, draw):
            head, _, model = term.name.partition(":")
            if head in names.backends and model:
                elements.append(Element(names.backends[head], model, {**term.parameters, **parameters}))
    if not elements:
        why = "none of its elements has a configured backend" if route.elements else "it has no elements"
        raise BadRequest(f"the route '{show(name)}' leads nowhere: {why}", param="model")
    return Leg(route.policy, tuple(elements))


def _element(text: str, names: Names, parameters: Mapping[str, object]) -> Element:
    head, colon, model = text.partition(":")
    explicit = bool(colon) and head in names.backends
    if explicit and not model:
        raise BadRequest(f"'{show(text)}' names a backend but no model", param="model")
    if names.forced is not None and names.forced in names.backends:
        return Element(names.backends[names.forced], model if explicit else text, parameters)
    if explicit:
        return Element(names.backends[head], model, parameters)
    backend, model = _bare(text, names)
    return Element(backend, model, parameters)


def _bare(text: str, names: Names) -> tuple[ConfiguredBackend, str]:
    backends = names.backends
    if not backends:
        raise NotFound("no backend is configured")
    head, _, rest = text.partition("/")
    if names.caught is not None:
        return backends[names.caught], text
    missing, colon, _ = text.partition(":")
    if colon and missing in BACKENDS:  # a known service without a key: its model's name means nothing elsewhere
        return _named_like(missing, text, names)
    for candidate in (names.default, vendor_of(text)):
        if candidate is not None and candidate in backends:
            return backends[candidate], text
    if rest and head in backends:
        return backends[head], rest
    return next(iter(backends.values())), text


def _named_like(service: str, text: str, names: Names) -> tuple[ConfiguredBackend, str]:
    """`mistral:7b` is also how Ollama names models."""
    vendor = vendor_of(text)
    if vendor is not None and vendor in names.backends:
        return names.backends[vendor], text
    want = "its base URL" if not BACKENDS[service].needs_key else "a key"
    variable = f"{prefix_of(service)}_API_{'KEY' if BACKENDS[service].needs_key else 'BASE_URL'}"
    raise BadRequest(f"the backend '{service}' is not configured: it needs {want}, {variable}", param="model")
