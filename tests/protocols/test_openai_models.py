"""OpenAI's models list, both directions."""

from typing import Any

import pytest
from kit import corpus

from llm_interactive.protocols import openai_models
from llm_interactive.protocols.base import ModelEntry

LISTS = [each for each in corpus.exchanges(api="models") if each.response.status == 200]


def test_t102_written_for_a_client() -> None:
    written = openai_models.write_models([ModelEntry("gemini:pro", created=5, owner="google", context=1000)])
    line = {"id": "gemini:pro", "object": "model", "created": 5, "owned_by": "google", "context_length": 1000}
    assert written == {"object": "list", "data": [line]}


def test_own_entries_keep_all_they_said() -> None:
    raw = {"id": "gpt", "object": "model", "created": 1, "owned_by": "openai", "pricing": {"prompt": "0"}}
    (entry,) = openai_models.read_models({"data": [raw]}, "openai_chat")
    assert openai_models.write_model(entry) == raw


@pytest.mark.parametrize("body", [{"data": [{"id": "a"}]}, [{"id": "a"}], {"models": [{"id": "a"}]}])
def test_lists_of_compatible_services(body: Any) -> None:
    assert [entry.id for entry in openai_models.read_models(body, "openai_chat")] == ["a"]


@pytest.mark.parametrize("body", [None, 5, {"data": None}, {"data": [5, {"id": 7}, {}]}, {"data": [{"id": 1.5}]}])
def test_odd_lists_are_empty(body: Any) -> None:
    assert openai_models.read_models(body, "openai_chat") == []


@corpus.requires_corpus
@pytest.mark.parametrize(
    "exchange", [e for e in LISTS if e.provider not in ("anthropic", "gemini")], ids=lambda e: e.id
)
def test_recorded_lists(exchange: corpus.Recorded) -> None:
    entries = openai_models.read_models(exchange.response.body, "openai_chat")
    assert entries
    assert all(entry.id for entry in entries)
