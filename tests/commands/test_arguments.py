"""SPEC 5.1: commas outside quotes, brackets and braces; the first `=`; matching quotes removed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_interactive.commands.arguments import Argument, parse, unquoted


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        ("", []),
        (" , ", []),
        ("a", [(None, "a")]),
        ("a, b ,c", [(None, "a"), (None, "b"), (None, "c")]),
        ("k=v", [("k", "v")]),
        (" k = v , l=w", [("k", "v"), ("l", "w")]),
        ("k=a=b", [("k", "a=b")]),
        ("k=", [("k", "")]),
        ("k='a, b'", [("k", "a, b")]),
        ('k="a, \\"b\\""', [("k", 'a, "b"')]),
        ("'a=b'", [(None, "a=b")]),
        ("k=Bob's, l=Ann's", [("k", "Bob's"), ("l", "Ann's")]),
        ("k='a' and 'b'", [("k", "'a' and 'b'")]),
        ('k={"a": 1, "b": [2, 3]}, l=w', [("k", '{"a": 1, "b": [2, 3]}'), ("l", "w")]),
        ("k=a[b, l=w", [("k", "a[b"), ("l", "w")]),
        ("k=:), l=w", [("k", ":)"), ("l", "w")]),
        ("openai:a/b?x=1", [(None, "openai:a/b?x=1")]),
        ('k="', [("k", '"')]),
        ("name=r, a:b, c/d", [("name", "r"), (None, "a:b"), (None, "c/d")]),
    ],
)
def test_parse(raw: str, parsed: list[tuple[str | None, str]]) -> None:
    assert parse(raw) == tuple(Argument(key, value) for key, value in parsed)


words = (
    st.text(st.characters(codec="utf-8", exclude_characters="\"'\\,=()[]{}"), min_size=1).map(str.strip).filter(bool)
)
anything = st.text(st.characters(codec="utf-8", exclude_characters='"\\'))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True), words), min_size=1))
def test_plain_arguments_come_back(pairs: list[tuple[str, str]]) -> None:
    assert [(each.key, each.value) for each in parse(", ".join(f"{key}={value}" for key, value in pairs))] == pairs


@given(st.lists(anything, min_size=1))
def test_quoted_arguments_come_back_whatever_they_hold(texts: list[str]) -> None:
    assert [each.value for each in parse(",".join(f'k="{text}"' for text in texts))] == texts


@given(st.dictionaries(st.text(), values), st.dictionaries(st.text(), values))
def test_json_comes_back_unquoted(one: dict[str, Any], two: dict[str, Any]) -> None:
    parsed = parse(f"a={json.dumps(one)}, b = {json.dumps(two)}, c")
    assert [each.key for each in parsed] == ["a", "b", None]
    assert [json.loads(each.value) for each in parsed[:2]] == [one, two]


@given(st.text())
def test_any_text_is_parsed(raw: str) -> None:
    for argument in parse(raw):
        assert argument.value in raw or "\\" in raw


@given(st.text(st.characters(exclude_characters="\\")), st.sampled_from("\"'"))
def test_quotes_around_a_text_without_them_go(text: str, quote: str) -> None:
    text = text.replace(quote, "")
    assert unquoted(f" {quote}{text}{quote} ") == text
