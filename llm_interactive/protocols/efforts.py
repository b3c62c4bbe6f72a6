"""How hard to think, between what was asked and what a model takes: the one scale of words and tokens (SPEC 11).

Every protocol's request writer asks here, so that `high` means the same wherever it goes. Whatever is not sent as it
was asked is noted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from llm_interactive.conversation import Conversation, Reasoning, Sampling, Text
from llm_interactive.protocols.base import ModelFacts, Notes, Target

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
TOKENS: Mapping[str, int] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 24576,
    "max": 32768,
}
"""What a word is worth where a model takes tokens."""
WORDS = ((1024, "minimal"), (4096, "low"), (12288, "medium"))
"""Up to so many tokens -> the word; what is more is `high`: the words above it cost many times as much."""


def thinks(reasoning: Reasoning) -> bool | None:
    """Whether thinking was asked for; None: nothing was said of it."""
    if reasoning.enabled is not None:
        return reasoning.enabled
    if reasoning.effort == "none" or reasoning.budget == 0:
        return False
    return True if reasoning.effort or reasoning.budget or reasoning.adaptive else None


def reasons(reasoning: Reasoning, facts: ModelFacts) -> bool:
    """Whether the model will think, as far as it is known."""
    asked = thinks(reasoning)
    return facts.reasoning != "none" and (facts.reasons_by_default if asked is None else asked)


def says_how_hard(reasoning: Reasoning) -> bool:
    return reasoning.effort in EFFORTS[1:] or (reasoning.budget or 0) > 0


def refused(facts: ModelFacts, reasoning: Reasoning) -> frozenset[str]:
    """Names of `Sampling` fields that the model refuses, thinking as it is asked to."""
    return facts.refuses if reasons(reasoning, facts) else facts.refuses - facts.takes_without_reasoning


def fit_sampling(
    values: dict[str, Any], conversation: Conversation, target: Target, notes: Notes, hottest: float = 2.0
) -> None:
    """Takes out what the model refuses, and lowers what it takes less of; `values` by names of `Sampling` fields.
    `hottest`: the protocol's own limit of the temperature."""
    facts = target.facts
    for name in sorted(refused(facts, conversation.reasoning) & values.keys()):
        del values[name]
        notes.add(f"{name}: not sent, {target.model} refuses it")
    for name in [name for name in facts.one_of if name in values][1:]:
        del values[name]
        notes.add(f"{name}: not sent, {target.model} takes one of {', '.join(facts.one_of)}")
    temperature, limit = values.get("temperature"), min(facts.max_temperature, hottest)
    if temperature is not None and temperature > limit:
        values["temperature"] = limit
        notes.add(f"temperature {temperature:g} -> {limit:g}: the most that {target.model} takes")
    tokens, most = values.get("max_tokens"), facts.max_output
    if tokens is not None and most is not None and tokens > most:
        values["max_tokens"] = most
        notes.add(f"max_tokens {tokens} -> {most}: the most that {target.model} writes")


def does_not_fit(conversation: Conversation, target: Target) -> bool:
    """Whether `fit_sampling` would change what the request says."""
    sampling, facts = conversation.sampling, target.facts
    said = {field.name for field in fields(Sampling) if getattr(sampling, field.name) not in (None, ())}
    return bool(
        refused(facts, conversation.reasoning) & said
        or len(said & set(facts.one_of)) > 1
        or (sampling.temperature or 0) > facts.max_temperature
        or (facts.max_output is not None and (sampling.max_tokens or 0) > facts.max_output)
    )


def misses(reasoning: Reasoning, facts: ModelFacts) -> bool:
    """Whether the model is known to refuse, or not to have, what is asked of its thinking."""
    asked = thinks(reasoning)
    if asked is None or facts.reasoning == "unknown":
        return False
    if facts.reasoning == "none":
        return True
    if not asked:
        return not facts.can_disable_reasoning
    word, tokens = reasoning.effort, reasoning.budget or 0
    if facts.reasoning == "budget" and tokens > 0:
        return tokens < facts.min_budget or tokens > (facts.max_budget or tokens)
    return word in EFFORTS and bool(facts.efforts) and word not in facts.efforts


def word_of(budget: int) -> str:
    return next((word for most, word in WORDS if budget <= most), "high")


def effort(reasoning: Reasoning, taken: Sequence[str], target: Target, notes: Notes) -> str:
    """The word to send for thinking that was asked for; `taken`: those that the model knows, () for all."""
    asked = reasoning.effort if reasoning.effort != "none" else None
    if asked is None and (reasoning.budget or 0) > 0:
        asked = word_of(reasoning.budget or 0)
        notes.add(f"thinking budget {reasoning.budget}: sent as effort {asked}, {target.model} takes words")
    if asked is None:
        return nearest("medium", taken)
    found = nearest(asked, taken)
    if found != asked:
        known = ", ".join(word for word in taken if word != "none")
        notes.add(f"reasoning effort {asked} -> {found}: {target.model} takes {known}")
    return found


def nearest(asked: str, taken: Sequence[str]) -> str:
    """Of the words that are not `none`, the weaker one of two that are as near. A word of the vendor's own that is on
    no scale stays."""
    known = [word for word in taken if word in EFFORTS[1:]]
    if asked not in EFFORTS or not known:
        return asked
    rank = EFFORTS.index(asked)
    return min(known, key=lambda word: (abs(EFFORTS.index(word) - rank), EFFORTS.index(word)))


def lowest(facts: ModelFacts, taken: Sequence[str], target: Target, notes: Notes) -> str:
    """The word for no thinking: `none`, or the least that a model takes which cannot do without."""
    if "none" in facts.efforts or (not facts.efforts and facts.can_disable_reasoning):
        return "none"
    found = nearest("minimal", taken)
    notes.add(f"reasoning: {target.model} cannot switch it off, effort {found} is asked for")
    return found


def budget(reasoning: Reasoning, facts: ModelFacts, target: Target, notes: Notes) -> int | None:
    """Tokens to send for thinking that was asked for, within the model's limits; None: nobody said how many."""
    asked = reasoning.budget if (reasoning.budget or 0) > 0 else TOKENS.get(reasoning.effort or "")
    if asked is None:
        return None
    least, most = facts.min_budget, facts.max_budget or asked
    found = max(least, min(asked, max(most, least)))
    if found != asked and reasoning.budget is not None:
        limit = f"at most {most}" if asked > found else f"at least {least}"
        notes.add(f"thinking budget {asked} -> {found}: {target.model} takes {limit}")
    return found


def with_stream_limits(conversation: Conversation, target: Target, notes: Notes) -> Conversation:
    """For models that think in streams only, and answer anything else with a 400."""
    reasoning, facts = conversation.reasoning, target.facts
    if conversation.stream or facts.thinks_unstreamed or not reasons(reasoning, facts):
        return conversation
    if not facts.can_disable_reasoning:
        return conversation
    notes.add(f"reasoning: off, {target.model} thinks only in answers that are streamed")
    return conversation.edit(reasoning=Reasoning(enabled=False))


def with_forced_tool(conversation: Conversation, target: Target, notes: Notes) -> Conversation:
    """For models that cannot be forced to call a tool, or not while they think (TRAPS T20). Programs rely on the call:
    it stays and the thinking goes, unless a command asked for that or the model always thinks. Then the call is asked
    for in words, as the vendor advises."""
    choice, facts, reasoning = conversation.tool_choice, target.facts, conversation.reasoning
    if choice is None or choice.mode not in ("required", "named") or not conversation.tools:
        return conversation
    why = f"{target.model} cannot be forced to call a tool"
    if facts.forced_tools != "never":
        if facts.forced_tools == "always" or not reasons(reasoning, facts):
            return conversation
        why += " while it thinks"
        if facts.can_disable_reasoning and not reasoning.commanded:
            notes.add(f"reasoning: off, {why}")
            return conversation.edit(reasoning=Reasoning(enabled=False))
    notes.add(f"tool_choice: auto, and asked for in words, {why}")
    words = f"Answer by calling the tool `{choice.name}`." if choice.name else "Answer by calling one of your tools."
    return conversation.edit(
        tool_choice=choice.edit(mode="auto", name=None), system=(*conversation.system, Text(text=words))
    )
