"""Every client's requests for every backend: read, written for the vendor, and read again, they ask the same.

`LOSSES` holds every difference that is meant, `REFUSALS` what no other vendor can be asked; all else must come back.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
from contracts import recorded
from contracts.recorded import PAIRS, Sample, asked
from kit import corpus

from llm_interactive.errors import BadRequest, CannotExpress
from llm_interactive.protocols import NAMES, named
from llm_interactive.protocols.base import Notes

type Loss = Callable[[Any, Any, str, str], bool]
"""(what came, what was written, all notes, the backend's protocol) -> whether this is the difference that is meant."""

LEAST_OUTPUT = 16
"""The Responses API refuses smaller limits."""
RESULT_LEFT = re.compile(r"without its (call|result)")
FROM_RESULT = "From the result of tool call"

LOSSES: tuple[tuple[str, str, Loss], ...] = (
    ("max_tokens", "Anthropic wants a limit always", lambda a, b, n, to: a is None and to == "anthropic_messages"),
    (
        "max_tokens",
        "the Responses API has a least one",
        lambda a, b, n, to: to == "openai_responses" and a < LEAST_OUTPUT == b,
    ),
    (
        "max_tokens",
        "raised above the least budget for thinking, and noted",
        lambda a, b, n, to: a < b and "max_tokens: raised" in n,
    ),
    ("stop", "not taken there, all or some, and noted", lambda a, b, n, to: set(b) < set(a) and "stop:" in n),
    ("results", "a history cut between call and result", lambda a, b, n, to: RESULT_LEFT.search(n) is not None),
    ("user", "a result without its call is the user's words", lambda a, b, n, to: RESULT_LEFT.search(n) is not None),
    ("user", "pictures in results follow in a message", lambda a, b, n, to: b == a or FROM_RESULT in b),
    ("user", "a plain document is words", lambda a, b, n, to: to.startswith("openai") and b.startswith(a)),
    ("media", "a plain document is words", lambda a, b, n, to: to.startswith("openai") and set(b) < set(a)),
    (
        "tools",
        "Anthropic wants the tools of the calls in a history",
        lambda a, b, n, to: to == "anthropic_messages" and a == {} and not any(b.values()),
    ),
    ("results", "an empty object is an empty result", lambda a, b, n, to: [r or "" for r in a] == b),
)

REFUSALS = re.compile(
    r"a file id is only known to the provider that holds the file"
    r"|the tool .* is run by its own provider only"
    r"|'(previous_response_id|conversation)' needs state"
    r"|(audio|video) cannot be sent|takes no (audio|video)"
    r"|'(compaction|tool_addition|server_tool_use|executableCode|tool_search_output)' content cannot be sent"
    r"|a system instruction can only hold text"
)


def is_meant(name: str, came: Any, wrote: Any, notes: str, backend: str) -> bool:
    return any(loss(came, wrote, notes, backend) for field, _, loss in LOSSES if field == name)


def differences(sample: Sample, frontend: str, backend: str) -> dict[str, Any]:
    """What the backend is asked otherwise, by name: (what came, what was written)."""
    try:
        conversation = named(frontend).read_request(sample.body, recorded.call_of(sample))
    except BadRequest:
        return {}  # test_identity says which may be refused
    notes = Notes()
    try:
        request = named(backend).write_request(conversation, recorded.target(backend, "m"), notes)
    except CannotExpress as refusal:
        return {} if REFUSALS.search(refusal.message) else {"refused": refusal.message}
    noted = "; ".join(notes)
    came = asked(conversation, {})
    wrote = asked(recorded.read_written(backend, request), request.tool_names)
    return {
        name: (came[name], wrote[name], noted)
        for name in came
        if came[name] != wrote[name] and not is_meant(name, came[name], wrote[name], noted, backend)
    }


@pytest.mark.parametrize(("frontend", "backend"), PAIRS)
def test_requests_ask_the_same(frontend: str, backend: str) -> None:
    samples = recorded.requests(frontend)
    found = {each.id: differences(each, frontend, backend) for each in samples}
    wrong = [f"{id_}: {differing}"[:500] for id_, differing in found.items() if differing]
    assert not wrong, f"{len(wrong)} of {len(samples)}\n" + "\n".join(wrong)


@corpus.requires_corpus
@pytest.mark.parametrize(("frontend", "backend"), PAIRS)
def test_few_recordings_are_refused(frontend: str, backend: str) -> None:
    """A writer that refuses everything would pass the test above."""
    samples = recorded.requests(frontend)
    refused = 0
    for sample in samples:
        try:
            conversation = named(frontend).read_request(sample.body, recorded.call_of(sample))
            named(backend).write_request(conversation, recorded.target(backend, "m"), Notes())
        except BadRequest:
            refused += 1
    assert refused / len(samples) < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_samples_hold_what_is_compared(name: str) -> None:
    sample = recorded.requests(name)[0]
    told = asked(named(name).read_request(sample.body, recorded.call_of(sample)), {})
    assert told["system"] == "Be brief."
    assert told["user"] == "Weather here? And tomorrow?"
    assert len(told["media"]) == 1
    assert told["calls"] == [("weather", {"city": "Köln"})]
    assert told["results"] == ["rain"]
    assert told["tools"] == {"weather": ["city"]}
    assert told["max_tokens"] == 4000
