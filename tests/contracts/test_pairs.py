"""Every backend's replies for every client: read, written in the client's protocol, and read again, they say the same.

Not compared, for want of a counterpart: pieces that only their owner can say (`Foreign`), and of an answer that failed
in the middle what came after the failure; a client that is not streamed to gets the error alone.
"""

from typing import Any

import pytest
from contracts import recorded
from contracts.recorded import PAIRS, Said, Sample, said

MANY_ANSWERS = frozenset({"openai_chat", "gemini"})
"""Protocols with a place for n > 1. The others are given the first answer."""
FREE_FORM = frozenset({"openai_chat", "openai_responses"})
"""Protocols with tools that take plain text. Elsewhere that is a function with one string, `input`."""
LIKE: dict[tuple[str | None, str | None], str] = {
    ("other", "stop"): "no word for it: an ordinary end",
    (None, "stop"): "the provider ended without a reason, and clients need one",
}
"""(reason that came, reason that was written) that count as the same, and why."""


def same_reasons(came: Said, wrote: Said) -> bool:
    if came.refused and set(wrote.reasons.values()) == {"content_filter"}:
        return True  # where a refusal has no part of its own, the reason says it
    choices = came.reasons.keys() | wrote.reasons.keys()
    pairs = [(came.reasons.get(choice), wrote.reasons.get(choice)) for choice in choices]
    return all(before == after or (before, after) in LIKE for before, after in pairs)


def calls(of: Said, protocols: set[str]) -> list[Any]:
    """A free-form call's text compared as the function that it becomes."""
    if not of.custom or protocols <= FREE_FORM:
        return of.called()
    return [(c, name, {"input": text} if isinstance(text, str) else text) for c, name, text in of.called()]


def differences(sample: Sample, backend: str, frontend: str, *, stream: bool) -> dict[str, tuple[object, object]]:
    """What the client is told otherwise, by name: (what came, what was written)."""
    frames = recorded.frames(backend, sample.data, sample.stream)
    came = said(event for frame in frames for event in frame.events)
    wrote = said(recorded.events(frontend, recorded.written(frontend, backend, frames, stream=stream), stream))
    if came.failure is not None:
        return {} if wrote.failure and not wrote.finished else {"failure": (came.failure, wrote.failure)}
    if not {backend, frontend} <= MANY_ANSWERS:
        came, wrote = came.only(0), wrote.only(0)
    pairs: dict[str, tuple[object, object]] = {
        "text": (came.text, wrote.text),
        "thinking": (came.thinking, wrote.thinking),
        "calls": (calls(came, {backend, frontend}), wrote.called()),
        "usage": (came.counted() or (0, 0, 0), wrote.counted() or (0, 0, 0)),
        "failure": (came.failure, wrote.failure),
        "finished": (came.finished, wrote.finished),
    }
    found = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return found if same_reasons(came, wrote) else found | {"reasons": (came.reasons, wrote.reasons)}


@pytest.mark.parametrize(("backend", "frontend"), PAIRS)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_replies_say_the_same(backend: str, frontend: str, stream: bool) -> None:
    samples = recorded.replies(backend)
    found = {each.id: differences(each, backend, frontend, stream=stream) for each in samples}
    wrong = [f"{id_}: {differing}"[:500] for id_, differing in found.items() if differing]
    assert not wrong, f"{len(wrong)} of {len(samples)}\n" + "\n".join(wrong)


@pytest.mark.parametrize("backend", recorded.NAMES)
def test_the_samples_hold_what_is_compared(backend: str) -> None:
    sample = recorded.replies(backend)[0]
    told = said(recorded.events(backend, sample.data, sample.stream))
    assert told.text[0].startswith("Let me")
    assert told.thinking == {0: "Where is it?"}
    assert told.called()[0] == (0, "weather", {"city": "Köln"})
    assert told.reasons == {0: "tool_calls"}
    assert told.counted() == (20, 9, 8)
