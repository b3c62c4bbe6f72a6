from typing import Any

import pytest
from pydantic import SecretStr

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.config_file import FailoverRoute
from llm_interactive.errors import BadRequest, NotFound
from llm_interactive.routing.resolution import Names, patterns, resolve

BACKENDS = {
    name: ConfiguredBackend(name, {"openai_chat": "http://x/v1"}, (SecretStr("k"),))
    for name in ("openai", "groq", "gemini", "local")
}
ROUTES = {
    "cheap": FailoverRoute(policy="km", elements=("groq:llama:free", "xai:grok", "gemini:flash?temperature=0.5")),
    "empty": FailoverRoute(policy="k"),
    "drawn": FailoverRoute(policy="m", elements=("[weight=1]groq:a^[weight=9]gemini:b", "openai:c")),
    "gone": FailoverRoute(policy="m", elements=("xai:grok",)),
}
ALIASES = {
    "fast": "groq:llama-4",
    "quick": "fast",
    "both": "fast?temperature=1|cheap",
    "loop": "pool",
    "pool": "loop",
    "/^claude-.*-haiku/": "gemini:flash",
    r"/^gpt-(\d)-turbo$/": r"openai:gpt-\1",
    "/^claude/": "cheap",
    "/flash$/": "cheap",
    "gemini:pro": "cheap",
}
NAMES = Names(BACKENDS, ROUTES, ALIASES, patterns(ALIASES))


def read(asked: str, **more: Any) -> list[str]:
    """`policy element element ...` of each leg."""
    names = Names(**{name: more.get(name, getattr(NAMES, name)) for name in Names.__dataclass_fields__})
    return [
        " ".join([leg.policy, *(f"{each.backend.name}:{each.model}" for each in leg.elements)])
        for leg in resolve(asked, names, lambda: 0.0)
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("groq:llama", ["k groq:llama"]),
        ("groq:a:b", ["k groq:a:b"]),
        ("openai:gpt-4o:free", ["k openai:gpt-4o:free"]),
        ("ft:gpt-4o:org", ["k openai:ft:gpt-4o:org"]),
        ("gpt-4o", ["k openai:gpt-4o"]),
        ("meta-llama/llama-3", ["k openai:meta-llama/llama-3"]),
        ("groq/llama-3", ["k groq:llama-3"]),
        ("unheard-of", ["k openai:unheard-of"]),
        (":m", ["k openai::m"]),
        ("cheap", ["km groq:llama:free gemini:flash"]),
        ("drawn", ["m groq:a gemini:b openai:c"]),
        ("fast", ["k groq:llama-4"]),
        ("FAST", ["k groq:llama-4"]),
        ("quick", ["k groq:llama-4"]),
        ("both", ["k groq:llama-4", "km groq:llama:free gemini:flash"]),
        ("claude-3-5-haiku-20241022", ["k gemini:flash"]),
        ("gpt-4-turbo", ["k openai:gpt-4"]),
        ("claude-opus-4", ["km groq:llama:free gemini:flash"]),
        ("openai:claude-opus-4", ["k openai:claude-opus-4"]),
        ("openai:x-flash", ["k openai:x-flash"]),
        ("gemini:pro", ["k gemini:pro"]),
        ("groq:a|gpt-4o|fast", ["k groq:a", "k openai:gpt-4o", "k groq:llama-4"]),
        ("[weight=2]groq:a^openai:b", ["k groq:a", "k openai:b"]),
    ],
)
def test_a_name_is_resolved(asked: str, expected: list[str]) -> None:
    assert read(asked) == expected


@pytest.mark.parametrize(
    ("asked", "default", "expected"),
    [
        ("gpt-4o", "groq", ["k groq:gpt-4o"]),
        ("openai/gpt-oss-120b", "groq", ["k groq:openai/gpt-oss-120b"]),
        ("groq:llama", "openai", ["k groq:llama"]),
        ("gpt-4o", "not there", ["k openai:gpt-4o"]),
        ("fast", "openai", ["k groq:llama-4"]),
    ],
)
def test_bare_names_go_to_the_default(asked: str, default: str, expected: list[str]) -> None:
    assert read(asked, default=default) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("gpt-4o", ["k local:gpt-4o"]),
        ("groq:llama", ["k local:llama"]),
        ("ft:gpt-4o:org", ["k local:ft:gpt-4o:org"]),
        ("groq:a|openai:b", ["k local:a", "k local:b"]),
        ("xai:grok", ["k local:xai:grok"]),
        ("fast", ["k groq:llama-4"]),
        ("cheap", ["km groq:llama:free gemini:flash"]),
    ],
)
def test_the_sessions_backend_goes_before_what_plain_names_say(asked: str, expected: list[str]) -> None:
    assert read(asked, forced="local") == expected
    assert read("groq:llama", forced="no longer there") == ["k groq:llama"]


def test_a_caught_call_keeps_its_name() -> None:
    assert read("mistral:7b", caught="local") == ["k local:mistral:7b"]
    assert read("fast", caught="local") == ["k groq:llama-4"]


def test_parameters_reach_their_elements_and_the_outer_ones_win() -> None:
    both = [element.parameters for leg in resolve("both", NAMES, lambda: 0.0) for element in leg.elements]
    assert both == [{"temperature": 1.0}, {}, {"temperature": 0.5}]
    [leg] = resolve("cheap?temperature=0&max_tokens=5", NAMES, lambda: 0.0)
    assert [each.parameters for each in leg.elements] == [{"temperature": 0.0, "max_tokens": 5}] * 2


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("groq:", "'groq:' names a backend but no model"),
        ("xai:grok", "the backend 'xai' is not configured: it needs a key, XAI_API_KEY"),
        ("mistral:7b", "the backend 'mistral' is not configured"),
        ("ollama:llama", "the backend 'ollama' is not configured: it needs its base URL, OLLAMA_API_BASE_URL"),
        ("empty", "the route 'empty' leads nowhere: it has no elements"),
        ("gone", "the route 'gone' leads nowhere: none of its elements has a configured backend"),
        ("loop", "leads to too many others"),
        ("a||b", "a name is missing"),
    ],
)
def test_what_cannot_be_resolved_says_why(asked: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        read(asked)


def test_names_of_ollama_that_look_like_a_service() -> None:
    with_ollama = {**BACKENDS, "ollama": BACKENDS["local"]}
    assert read("mistral:7b", backends=with_ollama) == ["k local:mistral:7b"]


def test_no_backend_at_all() -> None:
    with pytest.raises(NotFound, match="no backend is configured"):
        read("m", backends={})
