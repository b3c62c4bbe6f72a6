"""Every backend's refusals for every client: status, words and the time to wait are kept (TRAPS T91, T92)."""

import json

import pytest
from contracts import recorded
from contracts.recorded import PAIRS

from llm_interactive import wire_json
from llm_interactive.protocols import NAMES, named

OWN = [(name, name) for name in NAMES]


@pytest.mark.parametrize(("backend", "frontend"), [*PAIRS, *OWN])
def test_refusals_keep_status_and_words(backend: str, frontend: str) -> None:
    wrong = []
    for sample in recorded.errors(backend):
        error = named(backend).read_error(sample.status, sample.headers, sample.data)
        body = wire_json.dumps(named(frontend).write_error(error))
        again = named(frontend).read_error(error.status, dict(error.headers), body)
        came = (error.status, error.message, dict(error.headers).get("retry-after"))
        wrote = (again.status, again.message, dict(again.headers).get("retry-after"))
        if came != wrote or sample.status != again.status:
            wrong.append(f"{sample.id}: {came} became {wrote}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("backend", NAMES)
def test_the_vendors_own_words_are_found(backend: str) -> None:
    """The message stands in the recorded body, and a client of the same vendor finds the whole error object again."""
    for sample in recorded.errors(backend):
        error = named(backend).read_error(sample.status, sample.headers, sample.data)
        try:
            body = json.loads(sample.data)
        except json.JSONDecodeError:
            continue
        assert json.dumps(error.message)[1:-1] in json.dumps(body), sample.id
        match body:
            case {"error": {"message": _, **own}}:
                wrote = named(backend).write_error(error)["error"]
                own.pop("code", None) if backend == "gemini" else None  # there it repeats the HTTP status
                lost = {key: value for key, value in own.items() if wrote.get(key) != value}
                assert not lost, sample.id
