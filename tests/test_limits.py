"""SPEC 9: limits on the number of messages, parts and tools."""

import re
from typing import Any

import pytest

from llm_interactive import limits
from llm_interactive.errors import BadRequest


@pytest.mark.parametrize("key", ["messages", "input", "contents"])
def test_messages(key: str) -> None:
    limits.check({key: [{}] * limits.MAX_MESSAGES})
    with pytest.raises(BadRequest, match=f"'{key}' holds 100001, at most 100000 are taken"):
        limits.check({key: [{}] * (limits.MAX_MESSAGES + 1)})


@pytest.mark.parametrize(("key", "parts"), [("messages", "content"), ("input", "content"), ("contents", "parts")])
def test_parts_of_all_messages_together(key: str, parts: str) -> None:
    half: Any = {parts: [0] * (limits.MAX_PARTS // 2)}
    limits.check({key: [half, half]})
    with pytest.raises(BadRequest, match=re.escape(f"'{key}[].{parts}'")) as caught:
        limits.check({key: [half, half, {parts: [0]}]})
    assert caught.value.param == key


@pytest.mark.parametrize("inside", ["functionDeclarations", "function_declarations"])
def test_tools(inside: str) -> None:
    limits.check({"tools": [{}] * limits.MAX_TOOLS})
    limits.check({"tools": [{inside: [{}] * (limits.MAX_TOOLS - 1)}]})
    for tools in ([{}] * (limits.MAX_TOOLS + 1), [{inside: [{}] * limits.MAX_TOOLS}]):
        with pytest.raises(BadRequest, match="'tools' holds 4097"):
            limits.check({"tools": tools})


@pytest.mark.parametrize("value", [None, "x", 1, {}, [1, None, "x", []]])
def test_other_types_are_others_business(value: object) -> None:
    limits.check(dict.fromkeys(["messages", "input", "contents", "tools"], value))
