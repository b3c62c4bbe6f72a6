import pytest

from llm_interactive.errors import BadRequest
from llm_interactive.routing.selectors import Term, is_selector, terms


def names(text: str, drawn: float = 0.0) -> list[str]:
    return [term.name for term in terms(text, lambda: drawn)]


@pytest.mark.parametrize(
    "model",
    [
        "ft:gpt-4o:org",
        "deepseek/deepseek-v3:free",
        "claude-sonnet-4-5[1m]",
        "claude-3-7-sonnet@20250219",
        "qwen/qwen3:thinking",
        "accounts/x/models/y",
    ],
)
def test_names_that_exist_are_no_selectors(model: str) -> None:
    assert not is_selector(model)
    assert terms(model, lambda: 0.0) == [Term(model)]


@pytest.mark.parametrize(
    ("text", "drawn", "expected"),
    [
        ("a:b|c:d", 0.9, ["a:b", "c:d"]),
        (" a:b | c:d | e ", 0.0, ["a:b", "c:d", "e"]),
        ("[weight=3]a:b^[weight=1]c:d", 0.0, ["a:b", "c:d"]),
        ("[weight=3]a:b^[weight=1]c:d", 0.74, ["a:b", "c:d"]),
        ("[weight=3]a:b^[weight=1]c:d", 0.75, ["c:d", "a:b"]),
        ("[weight=0.5]a^b^[weight=.5]c", 0.8, ["c", "a", "b"]),
        ("a^b^c", 0.34, ["b", "a", "c"]),
        ("a^b^c", 0.99999999, ["c", "a", "b"]),
        ("a^b|c^d", 0.6, ["b", "a", "d", "c"]),
    ],
)
def test_the_order_of_a_selector(text: str, drawn: float, expected: list[str]) -> None:
    assert is_selector(text)
    assert names(text, drawn) == expected


def test_parameters_belong_to_their_term_and_are_read() -> None:
    first, second = terms("a:b?temperature=0.2&reasoning-effort=HIGH|c?thinking_budget=2048&max_tokens=7", lambda: 0.0)
    assert first == Term("a:b", {"temperature": 0.2, "reasoning_effort": "high"})
    assert second == Term("c", {"thinking_budget": 2048, "max_tokens": 7})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:b|", "a name is missing"),
        ("|a", "a name is missing"),
        ("a^^b", "a name is missing"),
        ("?temperature=1", "a name is missing"),
        ("[weight=2]", "a name is missing"),
        ("[weight=0]a^b", "weight=0 must be a number above 0"),
        ("[weight=-1]a^b", "weight=-1 must be a number above 0"),
        ("[weight=x]a^b", "weight=x must be a number above 0"),
        ("[weight=nan]a^b", "weight=nan must be a number above 0"),
        ("a:b?", r"the parameter behind \? must be one of temperature, reasoning_effort"),
        ("a:b?warmth=1", "the parameter warmth must be one of temperature, reasoning_effort"),
        ("a:b?temperature", "the parameter temperature must be one of .*, with ="),
        ("a:b?temperature=3", "temperature=3 must be a number from 0 to 2"),
        ("a:b?reasoning_effort=much", "reasoning_effort=much must be none, minimal"),
        ("|".join("a" * 102), "more than 100 names"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as raised:
        terms(text, lambda: 0.0)
    assert raised.value.param == "model"
