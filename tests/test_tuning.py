"""Whose word holds for temperature, reasoning and limits (SPEC 2 and 11)."""

from dataclasses import replace
from typing import Any

import pytest

from llm_interactive.config_file import ModelDefaults, defaults_for
from llm_interactive.conversation import Conversation, Media, Message, Reasoning, Sampling, Text, ToolResult
from llm_interactive.protocols.base import ModelFacts, Notes, Target
from llm_interactive.sessions import Session
from llm_interactive.tuning import tuned, without_pictures

ASKED = Conversation(model="m", messages=(Message(role="user", parts=(Text(text="hi"),)),))


def tune(
    conversation: Conversation = ASKED,
    *,
    defaults: tuple[ModelDefaults, ...] = (),
    parameters: dict[str, object] | None = None,
    **session: Any,
) -> tuple[Conversation, list[str]]:
    notes = Notes()
    found = tuned(conversation, session=Session("x", **session), defaults=defaults, parameters=parameters, notes=notes)
    return found, list(notes)


def warm(temperature: float) -> Conversation:
    return replace(ASKED, sampling=Sampling(temperature=temperature))


def thinking(**reasoning: Any) -> Conversation:
    return replace(ASKED, reasoning=Reasoning(**reasoning))


def test_nothing_said_changes_nothing() -> None:
    assert tune() == (ASKED, [])
    assert tune()[0] is ASKED
    same = warm(0.5)
    assert tune(same, temperature=0.5)[0] is same


@pytest.mark.parametrize(
    ("request_", "session", "parameters", "defaults", "expected", "note"),
    [
        (None, 0.1, {"temperature": 0.2}, 0.4, 0.1, "temperature 0.1: set in this session"),
        (0.3, 0.1, {"temperature": 0.2}, 0.4, 0.1, "temperature 0.3 -> 0.1: set in this session"),
        (0.3, 0.0, {}, 0.4, 0.0, "temperature 0.3 -> 0.0: set in this session"),
        (0.3, None, {"temperature": 0.2}, 0.4, 0.2, "temperature 0.3 -> 0.2: said with the model's name"),
        (0.3, None, {}, 0.4, 0.3, None),
        (0.0, None, {}, 0.4, 0.0, None),
        (None, None, {}, 0.4, 0.4, "temperature 0.4: the model's default"),
    ],
)
def test_the_tiers_of_temperature(
    request_: float | None,
    session: float | None,
    parameters: dict[str, object],
    defaults: float,
    expected: float,
    note: str | None,
) -> None:
    asked = ASKED if request_ is None else warm(request_)
    found, notes = tune(
        asked, temperature=session, parameters=parameters, defaults=(ModelDefaults(temperature=defaults),)
    )
    assert found.sampling.temperature == expected
    assert notes == ([note] if note else [])
    assert found.changed == ({"sampling"} if note else set())


def test_max_tokens_is_a_default_where_the_request_has_none() -> None:
    default = (ModelDefaults(max_tokens=500),)
    assert tune(defaults=default)[0].sampling.max_tokens == 500
    asked = replace(ASKED, sampling=Sampling(max_tokens=100))
    assert tune(asked, defaults=default)[0] is asked
    found, notes = tune(asked, parameters={"max_tokens": 50})
    assert (found.sampling.max_tokens, notes) == (50, ["max_tokens 100 -> 50: said with the model's name"])


@pytest.mark.parametrize(
    ("session", "expected", "note"),
    [
        ({"reasoning_effort": "high"}, (True, "high", None), "reasoning 9000 tokens -> high: set in this session"),
        ({"reasoning_effort": "none"}, (False, "none", None), "reasoning 9000 tokens -> none: set in this session"),
        ({"thinking_budget": 2048}, (True, None, 2048), "reasoning 9000 tokens -> 2048 tokens: set in this session"),
        ({"thinking_budget": 0}, (False, None, None), "reasoning 9000 tokens -> 0 tokens: set in this session"),
        ({"reasoning": {"effort": "low"}}, (True, "low", None), "reasoning 9000 tokens -> low: set in this session"),
        (
            {"reasoning": {"max_tokens": 3000}},
            (True, None, 3000),
            "reasoning 9000 tokens -> 3000 tokens: set in this session",
        ),
        (
            {"reasoning_effort": "high", "thinking_budget": 4000},
            (True, "high", 4000),
            "reasoning 9000 tokens -> high and 4000 tokens: set in this session",
        ),
        ({"thinking_budget": 9000}, (True, None, 9000), None),
    ],
)
def test_a_session_says_how_hard_to_think(
    session: dict[str, Any], expected: tuple[bool, str | None, int | None], note: str | None
) -> None:
    found, notes = tune(thinking(enabled=True, budget=9000), **session)
    assert (found.reasoning.enabled, found.reasoning.effort, found.reasoning.budget) == expected
    assert notes == ([note] if note else [])


def test_the_tiers_of_reasoning() -> None:
    default = (ModelDefaults(temperature=1.0), ModelDefaults(reasoning_effort="low", thinking_budget=1024))
    found, notes = tune(defaults=default)
    assert (found.reasoning.effort, found.reasoning.budget) == ("low", 1024)
    assert "reasoning low and 1024 tokens: the model's default" in notes
    for own in (thinking(effort="high", enabled=True), thinking(enabled=False), thinking(enabled=True, adaptive=True)):
        assert tune(own, defaults=default[1:])[0] is own
    named = tune(thinking(effort="high"), parameters={"reasoning_effort": "medium"}, defaults=default)[0]
    assert (named.reasoning.effort, named.reasoning.budget) == ("medium", None)
    typed = tune(parameters={"reasoning_effort": "medium"}, reasoning_effort="max")[0]
    assert typed.reasoning.effort == "max"
    assert [each.reasoning.commanded for each in (found, named, typed)] == [False, True, True]


def test_what_the_client_reads_of_the_reasoning_is_kept_and_can_be_set() -> None:
    asked = thinking(effort="low", enabled=True, summary=True)
    assert tune(asked, reasoning_effort="high")[0].reasoning.summary is True
    hidden, notes = tune(asked, reasoning={"exclude": True})
    assert (hidden.reasoning.summary, hidden.reasoning.effort) == (False, "low")
    assert notes == ["reasoning left out of the answer: set in this session"]
    assert tune(thinking(), reasoning={"exclude": False})[0].reasoning == Reasoning(summary=True)


def test_a_generation_config_is_no_change_of_the_request() -> None:
    found, notes = tune(generation_config={"topK": 1})
    assert (found.generation_config, found.changed, notes) == ({"topK": 1}, frozenset(), [])


def test_model_defaults_by_name_and_by_pattern() -> None:
    table = {
        "gpt-*": ModelDefaults(temperature=0.1),
        "openai:*": ModelDefaults(temperature=0.2),
        "gpt-5": ModelDefaults(temperature=0.3),
        "openai:gpt-5": ModelDefaults(temperature=0.4),
    }
    assert [each.temperature for each in defaults_for(table, "openai", "gpt-5")] == [0.4, 0.3, 0.1, 0.2]
    assert [each.temperature for each in defaults_for(table, "azure", "gpt-5-mini")] == [0.1]
    assert defaults_for(table, "azure", "o3") == []


def test_t40_words_stand_where_a_model_cannot_see() -> None:
    picture, film = Media(kind="image", data="AA=="), Media(kind="video", url="https://x/y.mp4")
    result = ToolResult(call_id="c", parts=(Text(text="seen"), picture))
    messages = (
        Message(role="user", parts=(Text(text="what is this"), picture, film)),
        Message(role="tool", parts=(result,)),
        Message(role="user", parts=(Text(text="well?"),)),
    )
    asked, notes = replace(ASKED, messages=messages), Notes()
    blind = Target("b", "reader", "b", ModelFacts(images=False))
    found = without_pictures(asked, blind, notes)
    words = Text(text="(picture left out: reader reads text only)")
    assert found.messages[0].parts == (Text(text="what is this"), words, film)
    assert found.messages[1].parts == (ToolResult(call_id="c", parts=(Text(text="seen"), words)),)
    assert found.messages[2] is messages[2]
    assert (list(notes), found.changed) == (["pictures: not sent, reader reads text only"], {"messages"})
    assert without_pictures(asked, Target("b", "seer", "b"), notes) is asked
    assert without_pictures(ASKED, blind, notes) is ASKED
