"""One scale of words and tokens for how hard a model thinks, and what a model takes of sampling."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llm_interactive.conversation import Conversation, Message, Reasoning, Sampling, Text, Tool, ToolChoice
from llm_interactive.protocols import efforts
from llm_interactive.protocols.base import ModelFacts, Notes, Target

TARGET = Target("b", "model", "b")
ASKED = Conversation(model="m", messages=(Message(role="user", parts=(Text(text="q"),)),))


def noted(ask: Callable[[Notes], Any]) -> tuple[Any, list[str]]:
    notes = Notes()
    return ask(notes), list(notes)


@pytest.mark.parametrize("word", ["minimal", "low", "medium", "high"])
def test_a_word_survives_its_way_through_tokens(word: str) -> None:
    assert efforts.word_of(efforts.TOKENS[word]) == word


def test_no_number_of_tokens_is_more_than_high() -> None:
    assert [efforts.word_of(tokens) for tokens in (1, 9000, 24_576, 10**6)] == ["minimal", "medium", "high", "high"]


@pytest.mark.parametrize(
    ("asked", "taken", "sent"),
    [
        ("max", ("none", "low", "high"), "high"),
        ("minimal", ("none", "low", "high"), "low"),
        ("medium", ("low", "high"), "low"),
        ("low", ("none", "high"), "high"),
        ("xhigh", (), "xhigh"),
        ("ultra", ("low",), "ultra"),
    ],
)
def test_the_nearest_word_is_never_none(asked: str, taken: tuple[str, ...], sent: str) -> None:
    assert efforts.nearest(asked, taken) == sent


def test_what_is_sent_otherwise_is_noted() -> None:
    def effort(reasoning: Reasoning) -> tuple[Any, list[str]]:
        return noted(lambda notes: efforts.effort(reasoning, ("none", "low", "high"), TARGET, notes))

    assert effort(Reasoning(effort="high")) == ("high", [])
    assert effort(Reasoning(effort="max")) == ("high", ["reasoning effort max -> high: model takes low, high"])
    assert effort(Reasoning(budget=2000)) == ("low", ["thinking budget 2000: sent as effort low, model takes words"])
    facts = ModelFacts(min_budget=128, max_budget=1000)
    assert noted(lambda notes: efforts.budget(Reasoning(budget=5000), facts, TARGET, notes)) == (
        1000,
        ["thinking budget 5000 -> 1000: model takes at most 1000"],
    )
    assert noted(lambda notes: efforts.budget(Reasoning(budget=5), facts, TARGET, notes))[0] == 128
    assert noted(lambda notes: efforts.budget(Reasoning(enabled=True), facts, TARGET, notes)) == (None, [])


def test_models_that_cannot_be_told_none_are_told_the_least() -> None:
    def lowest(facts: ModelFacts) -> tuple[Any, list[str]]:
        return noted(lambda notes: efforts.lowest(facts, facts.efforts, TARGET, notes))

    assert lowest(ModelFacts(efforts=("none", "low"))) == ("none", [])
    assert lowest(ModelFacts()) == ("none", [])
    assert lowest(ModelFacts(efforts=("low", "high"))) == (
        "low",
        ["reasoning: model cannot switch it off, effort low is asked for"],
    )


def test_what_is_refused_only_while_it_thinks() -> None:
    facts = ModelFacts(refuses=frozenset({"stop", "top_p"}), takes_without_reasoning=frozenset({"top_p"}))
    assert efforts.refused(facts, Reasoning(effort="high")) == {"stop", "top_p"}
    assert efforts.refused(facts, Reasoning(effort="none")) == {"stop"}
    assert efforts.refused(facts, Reasoning()) == {"stop", "top_p"}
    assert efforts.refused(replace(facts, reasons_by_default=False), Reasoning()) == {"stop"}


def test_a_request_that_fits_is_known_to_fit() -> None:
    facts = ModelFacts(one_of=("temperature", "top_p"), max_temperature=1, max_output=10)
    for sampling, misfits in (
        (Sampling(temperature=1, max_tokens=10), False),
        (Sampling(temperature=1.1), True),
        (Sampling(temperature=1, top_p=1), True),
        (Sampling(max_tokens=11), True),
    ):
        asked, target = replace(ASKED, sampling=sampling), replace(TARGET, facts=facts)
        assert efforts.does_not_fit(asked, target) is misfits
        values = {name: getattr(sampling, name) for name in ("temperature", "top_p", "max_tokens")}
        values = {name: value for name, value in values.items() if value is not None}
        before = dict(values)
        _, notes = noted(lambda notes, a=asked, t=target, v=values: efforts.fit_sampling(v, a, t, notes))  # type: ignore[misc]
        assert (values != before, bool(notes)) == (misfits, misfits)


FORCED = ASKED.edit(tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="named", name="f", parallel=False))
CALM = ModelFacts(reasoning="toggle", forced_tools="without_reasoning")


def settled(conversation: Conversation, facts: ModelFacts) -> Conversation:
    return efforts.with_forced_tool(conversation, replace(TARGET, facts=facts), Notes())


@pytest.mark.parametrize(
    ("facts", "reasoning", "off", "mode"),
    [
        (CALM, Reasoning(), True, "named"),  # it thinks by itself
        (CALM, Reasoning(effort="high"), True, "named"),
        (CALM, Reasoning(enabled=False), False, "named"),
        (CALM, Reasoning(effort="high", commanded=True), False, "auto"),
        (replace(CALM, reasons_by_default=False), Reasoning(), False, "named"),
        (replace(CALM, can_disable_reasoning=False), Reasoning(), False, "auto"),
        (replace(CALM, reasoning="none"), Reasoning(), False, "named"),
        (replace(CALM, forced_tools="always"), Reasoning(effort="high"), False, "named"),
        (replace(CALM, forced_tools="never"), Reasoning(enabled=False), False, "auto"),
        (replace(CALM, forced_tools="never", reasoning="none"), Reasoning(), False, "auto"),
    ],
)
def test_t20_a_forced_tool_and_thinking(facts: ModelFacts, reasoning: Reasoning, off: bool, mode: str) -> None:
    asked = replace(FORCED, reasoning=reasoning)
    found = settled(asked, facts)
    assert found.reasoning == (Reasoning(enabled=False) if off else reasoning)
    assert found.tool_choice == ToolChoice(mode=mode, name="f" if mode == "named" else None, parallel=False)
    assert [part.text for part in found.system] == ([] if mode == "named" else ["Answer by calling the tool `f`."])
    assert (found is asked) is (not off and mode == "named")


def test_t20_nothing_is_done_where_no_tool_is_forced() -> None:
    for choice in (None, ToolChoice(mode="auto"), ToolChoice(mode="none")):
        asked = replace(FORCED, tool_choice=choice)
        assert settled(asked, replace(CALM, forced_tools="never")) is asked


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reasoning", [Reasoning(), Reasoning(effort="high"), Reasoning(enabled=False)])
def test_models_that_think_in_streams_only(stream: bool, reasoning: Reasoning) -> None:
    asked = replace(ASKED, stream=stream, reasoning=reasoning)
    target = replace(TARGET, facts=ModelFacts(reasoning="toggle", thinks_unstreamed=False))
    found, notes = noted(lambda notes: efforts.with_stream_limits(asked, target, notes))
    if stream or reasoning.enabled is False:
        assert (found is asked, notes) == (True, [])
    else:
        assert found.reasoning == Reasoning(enabled=False)
        assert notes == ["reasoning: off, model thinks only in answers that are streamed"]
    plain = replace(target, facts=ModelFacts(reasoning="toggle"))
    assert efforts.with_stream_limits(asked, plain, Notes()) is asked
