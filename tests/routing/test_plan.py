from pydantic import SecretStr

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.routing import plan
from llm_interactive.routing.plan import Attempt, numbered
from llm_interactive.routing.resolution import Element, Leg


def backend(name: str, *keys: str, protocols: tuple[str, ...] = ("openai_chat",)) -> ConfiguredBackend:
    return ConfiguredBackend(name, dict.fromkeys(protocols, "http://x/v1"), tuple(map(SecretStr, keys)))


A, B, KEYLESS = backend("a", "k1", "k2", "k3"), backend("b", "k1", "k2"), backend("c")


def in_use(backend: ConfiguredBackend, model: str) -> list[int | None]:
    """The last key of each."""
    ring = [*numbered(backend)]
    return [ring[-1], *ring[:-1]]


def attempts(*legs: Leg) -> list[str]:
    found = plan.attempts(legs, "openai_chat", in_use)
    return [f"{each.backend.name}:{each.model} {each.key_ordinal}" for each in found]


def test_each_key_is_an_attempt_the_one_in_use_first() -> None:
    assert attempts(Leg("k", (Element(A, "m"),))) == ["a:m 3", "a:m 1", "a:m 2"]
    assert attempts(Leg("k", (Element(KEYLESS, "m"),))) == ["c:m None"]


def test_legs_follow_each_other_by_their_own_policies() -> None:
    first = Leg("mk", (Element(A, "x"), Element(B, "y")))
    assert attempts(first, Leg("k", (Element(KEYLESS, "z"),))) == [
        "a:x 1",
        "b:y 1",
        "a:x 2",
        "b:y 2",
        "a:x 3",
        "c:z None",
    ]


def test_no_attempt_is_made_twice() -> None:
    twice = Leg("m", (Element(A, "m"), Element(A, "m"), Element(A, "n")))
    assert attempts(twice, Leg("k", (Element(A, "m"),))) == ["a:m 1", "a:n 1", "a:m 3", "a:m 2"]


def test_parameters_go_along() -> None:
    [attempt] = plan.attempts([Leg("m", (Element(B, "m", {"temperature": 0.5}),))], "openai_chat", in_use)
    assert attempt == Attempt(B, "openai_chat", "m", 1, {"temperature": 0.5})


def test_the_clients_own_protocol_is_used_where_it_is_served() -> None:
    both = (Leg("k", (Element(backend("b", protocols=("openai_chat", "anthropic_messages")), "m"),)),)
    assert plan.attempts(both, "anthropic_messages", in_use)[0].protocol == "anthropic_messages"
    assert plan.attempts(both, "gemini", in_use)[0].protocol == "openai_chat"
