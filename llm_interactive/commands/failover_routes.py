"""Named lists of attempts for everybody (SPEC 5.3, 6)."""

import re

from llm_interactive.commands.command import command
from llm_interactive.commands.context import CommandError, Context
from llm_interactive.commands.scanner import printable
from llm_interactive.config_file import POLICIES, FailoverRoute

NAME = re.compile(r"[\w.-]{1,64}")
MOST_ELEMENTS = 100
MOST_ROUTES = 200


@command("create-failover-route")
def create(context: Context, *, name: str = "", policy: str = "") -> str:
    """Make a failover route, empty at first. Policies: k, m, km, mk.

    Format: create-failover-route(name=route, policy=k|m|km|mk)
    Example: create-failover-route(name=cheap, policy=km)
    """
    if not NAME.fullmatch(name) or policy.lower() not in POLICIES or len(context.routes) >= MOST_ROUTES:
        raise CommandError("create-failover-route requires name and valid policy")
    if name in context.backends:
        raise CommandError(f"create-failover-route: name={name}: a backend has this name")
    _put(context, name, FailoverRoute(policy=policy.lower()))
    return f"failover route {name} created with policy {policy.lower()}"


@command("delete-failover-route")
def delete(context: Context, name: str = "") -> str:
    """Remove a failover route.

    Format: delete-failover-route(name=route)
    Example: delete-failover-route(name=cheap)
    """
    _route(context, name)
    _put(context, name, None)
    return f"failover route {name} deleted"


@command("list-failover-routes")
def list_(context: Context) -> str:
    """List the failover routes with their policies.

    Format: list-failover-routes
    Example: list-failover-routes
    """
    return ", ".join(f"{name}:{route.policy}" for name, route in context.routes.items()) or (
        "no failover routes defined"
    )


@command("route-append")
def append(context: Context, *elements: str, name: str = "") -> str:
    """Put elements at the end of a failover route.

    Format: route-append(name=route, backend:model, ...)
    Example: route-append(name=cheap, openai:gpt-5-mini, gemini:gemini-2.5-flash)
    """
    route, added = _route(context, name), _elements(context, elements)
    _put(context, name, _with_elements(route, (*route.elements, *added)))
    return f"elements appended to {name}"


@command("route-prepend")
def prepend(context: Context, *elements: str, name: str = "") -> str:
    """Put elements at the beginning of a failover route, in the order in which they are given.

    Format: route-prepend(name=route, backend:model, ...)
    Example: route-prepend(name=cheap, groq:llama-4)
    """
    route, added = _route(context, name), _elements(context, elements)
    _put(context, name, _with_elements(route, (*added, *route.elements)))
    return f"elements prepended to {name}"


@command("route-clear")
def clear(context: Context, name: str = "") -> str:
    """Remove all elements of a failover route.

    Format: route-clear(name=route)
    Example: route-clear(name=cheap)
    """
    _put(context, name, _with_elements(_route(context, name), ()))
    return f"route {name} cleared"


@command("route-list")
def elements_of(context: Context, name: str = "") -> str:
    """List the elements of a failover route.

    Format: route-list(name=route)
    Example: route-list(name=cheap)
    """
    return ", ".join(_route(context, name).elements) or "<empty>"


def _route(context: Context, name: str) -> FailoverRoute:
    found = context.routes.get(name)
    if found is None:
        raise CommandError(f"route {printable(name[:64])} not found")
    return found


def _elements(context: Context, given: tuple[str, ...]) -> tuple[str, ...]:
    if not given:
        raise CommandError("no route elements specified")
    return tuple(_element(context, each) for each in given)


def _element(context: Context, given: str) -> str:
    element = context.element(given)
    if element is None:
        known = ", ".join(context.backends)
        raise CommandError(f"route element {printable(given[:80])}: must be backend:model with a backend of {known}")
    return element


def _with_elements(route: FailoverRoute, elements: tuple[str, ...]) -> FailoverRoute:
    if len(elements) > MOST_ELEMENTS:
        raise CommandError(f"a route has at most {MOST_ELEMENTS} elements")
    return FailoverRoute(policy=route.policy, elements=elements)


def _put(context: Context, name: str, route: FailoverRoute | None) -> None:
    """A route that only commands made is gone when it is deleted; a configured one is hidden."""
    routes = {**context.server.routes, name: route}
    if route is None and name not in context.configured_routes:
        del routes[name]
    context.server.routes = routes
