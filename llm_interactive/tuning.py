"""Which temperature, reasoning and limits hold for one attempt, from all who have a say (SPEC 2 and 11).

The session's commands go before what the model's name says (`a:b?temperature=0.2`), that before the request, and the
request before the model's defaults. How hard to think is one thing: whoever says an effort or a budget replaces both.
What the target makes of it is its protocol's affair. Whatever differs from the request is noted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm_interactive.config_file import ModelDefaults
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Sampling,
    Text,
    ToolResult,
)
from llm_interactive.protocols.base import Json, Notes, Target
from llm_interactive.sessions import Session

SESSION = "set in this session"
NAME = "said with the model's name"
DEFAULT = "the model's default"


@dataclass(frozen=True, slots=True)
class Thought:
    """How hard to think, as one tier says it; `why` names the tier."""

    effort: str | None
    budget: int | None
    why: str

    @property
    def off(self) -> bool:
        return self.effort == "none" or (self.effort is None and self.budget == 0)

    def __str__(self) -> str:
        budget = "" if self.budget is None else f"{self.budget} tokens"
        return " and ".join(each for each in (self.effort, budget) if each)


def tuned(
    conversation: Conversation,
    *,
    session: Session,
    defaults: Sequence[ModelDefaults] = (),
    parameters: Mapping[str, object] | None = None,
    notes: Notes,
) -> Conversation:
    """The conversation with the values that hold; the same object where nothing changes. `defaults`: those of the
    model, the one that goes first in front."""
    said = parameters or {}
    sampling = _sampling(conversation.sampling, session, defaults, said, notes)
    reasoning = _reasoning(conversation.reasoning, session, defaults, said, notes)
    changes: dict[str, Any] = {}
    if sampling is not conversation.sampling:
        changes["sampling"] = sampling
    if reasoning is not conversation.reasoning:
        changes["reasoning"] = reasoning
    edited = conversation.edit(**changes) if changes else conversation
    if session.generation_config:
        edited = replace(edited, generation_config=session.generation_config)  # not of the request: nothing to rewrite
    return edited


def _sampling(
    asked: Sampling,
    session: Session,
    defaults: Sequence[ModelDefaults],
    parameters: Mapping[str, object],
    notes: Notes,
) -> Sampling:
    changes: dict[str, Any] = {}
    tiers = {
        "temperature": ((session.temperature, SESSION), (parameters.get("temperature"), NAME)),
        "max_tokens": ((parameters.get("max_tokens"), NAME),),
    }
    for name, above in tiers.items():
        before = getattr(asked, name)
        below = ((getattr(each, name), DEFAULT) for each in defaults)
        value, why = _first((*above, (before, ""), *below))
        if value is not None and value != before:
            changes[name] = value
            notes.add(_changed(name, before, value, why))
    return asked.edit(**changes) if changes else asked


def _first(tiers: Iterable[tuple[Any, str]]) -> tuple[Any, str]:
    return next((tier for tier in tiers if tier[0] is not None), (None, ""))


def _changed(name: str, before: object, after: object, why: str) -> str:
    return f"{name} {after}: {why}" if before is None else f"{name} {before} -> {after}: {why}"


def _reasoning(
    asked: Reasoning,
    session: Session,
    defaults: Sequence[ModelDefaults],
    parameters: Mapping[str, object],
    notes: Notes,
) -> Reasoning:
    own = session.reasoning or {}
    thought = _thought(asked, session, own, defaults, parameters)
    found = asked
    if thought is not None:
        wanted = {
            "enabled": not thought.off,
            "effort": thought.effort,
            "budget": None if thought.off else thought.budget,
            "adaptive": False,
        }
        if any(getattr(asked, name) != value for name, value in wanted.items() if name != "adaptive"):
            found = asked.edit(**wanted, commanded=thought.why != DEFAULT)
            notes.add(_changed("reasoning", _spoken(asked), thought, thought.why))
    exclude = own.get("exclude")
    if exclude is not None and found.summary is not (not exclude):
        found = found.edit(summary=not exclude)
        notes.add(f"reasoning {'left out of' if exclude else 'shown in'} the answer: {SESSION}")
    return found


def _thought(
    asked: Reasoning,
    session: Session,
    own: Mapping[str, Json],
    defaults: Sequence[ModelDefaults],
    parameters: Mapping[str, object],
) -> Thought | None:
    """The first tier that has a say, unless it is the request."""
    effort = session.reasoning_effort if session.reasoning_effort is not None else own.get("effort")
    budget = session.thinking_budget if session.thinking_budget is not None else own.get("max_tokens")
    if effort is not None or budget is not None:
        return Thought(effort, budget, SESSION)
    named: tuple[Any, Any] = (parameters.get("reasoning_effort"), parameters.get("thinking_budget"))
    if named != (None, None):
        return Thought(*named, NAME)
    if _spoken(asked) is not None:
        return None
    tiers = (Thought(each.reasoning_effort, each.thinking_budget, DEFAULT) for each in defaults)
    return next((each for each in tiers if (each.effort, each.budget) != (None, None)), None)


def _spoken(asked: Reasoning) -> str | None:
    """What the request said, in a word; None: nothing."""
    if asked.effort is not None or asked.budget is not None:
        return str(Thought(asked.effort, asked.budget, ""))
    if asked.enabled is None:
        return None
    return "adaptive" if asked.adaptive else "on" if asked.enabled else "off"


def without_pictures(conversation: Conversation, target: Target, notes: Notes) -> Conversation:
    """For models that cannot see (TRAPS T40): words stand where pictures were. The same object where there are none."""
    if target.facts.images:
        return conversation
    messages = tuple(_in_words(message, target.model) for message in conversation.messages)
    if all(new is old for new, old in zip(messages, conversation.messages, strict=True)):
        return conversation
    notes.add(f"pictures: not sent, {target.model} reads text only")
    return conversation.edit(messages=messages)


def _in_words[Holder: (Message, ToolResult)](holder: Holder, model: str) -> Holder:
    parts = tuple(_part_in_words(part, model) for part in holder.parts)
    return holder.edit(parts=parts) if any(n is not o for n, o in zip(parts, holder.parts, strict=True)) else holder


def _part_in_words(part: Part, model: str) -> Part:
    match part:
        case Media(kind="image"):
            name = f" {part.name}" if part.name else ""
            return Text(text=f"(picture{name} left out: {model} reads text only)")
        case ToolResult():
            return _in_words(part, model)
    return part
