import pytest
from pydantic import SecretStr

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.errors import BadRequest, NotFound
from llm_interactive.routing import plan


def backend(name: str, *keys: str, protocols: tuple[str, ...] = ("openai_chat",)) -> ConfiguredBackend:
    return ConfiguredBackend(name, dict.fromkeys(protocols, "http://x/v1"), tuple(map(SecretStr, keys)))


BOTH = {name: backend(name) for name in ("openai", "groq")}


@pytest.mark.parametrize(
    ("model", "default", "vendor", "expected"),
    [
        ("groq:llama", "openai", None, ("groq", "llama")),
        ("groq:a:b", None, None, ("groq", "a:b")),
        ("ft:gpt-4o:org", "groq", None, ("groq", "ft:gpt-4o:org")),
        ("gpt-4o", "groq", "openai", ("groq", "gpt-4o")),
        ("gpt-4o", None, "groq", ("groq", "gpt-4o")),
        ("gpt-4o", "not there", "nor this", ("openai", "gpt-4o")),
        ("unheard-of", None, None, ("openai", "unheard-of")),
        (":m", None, None, ("openai", ":m")),
    ],
)
def test_a_name_is_resolved(model: str, default: str | None, vendor: str | None, expected: tuple[str, str]) -> None:
    assert plan.resolve(model, BOTH, default, vendor) == expected


def test_what_cannot_be_resolved_says_why() -> None:
    with pytest.raises(BadRequest, match="names a backend but no model"):
        plan.resolve("groq:", BOTH, None, None)
    with pytest.raises(NotFound, match="no backend is configured"):
        plan.resolve("m", {}, None, None)


def test_each_key_is_an_attempt() -> None:
    assert [each.key_ordinal for each in plan.plan(backend("b", "k1", "k2", "k3"), "m", "openai_chat")] == [1, 2, 3]
    [only] = plan.plan(backend("b"), "m", "openai_chat")
    assert (only.key_ordinal, only.model, only.backend.name) == (None, "m", "b")


def test_the_clients_own_protocol_is_used_where_it_is_served() -> None:
    both = backend("b", protocols=("openai_chat", "anthropic_messages"))
    assert plan.plan(both, "m", "anthropic_messages")[0].protocol == "anthropic_messages"
    assert plan.plan(both, "m", "gemini")[0].protocol == "openai_chat"


def test_what_moves_on() -> None:
    moving = {status for status in range(400, 600) if plan.moves_on(status)}
    assert moving == {401, 402, 403, 404, 408, 409, 425, 429, *range(500, 600)}
