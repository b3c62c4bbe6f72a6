"""Stored responses: a client may go on from what a backend never kept (TRAPS T96)."""

import json

import pytest

from llm_interactive.errors import BadRequest
from llm_interactive.protocols.openai_responses_store import ResponseStore, write_deleted

ANSWER = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "four", "annotations": []}],
}


def test_t96_previous_items_come_first() -> None:
    store = ResponseStore()
    store.remember("resp_1", "2+2?", [ANSWER])
    body = {"model": "m", "previous_response_id": "resp_1", "input": "and 3+3?", "instructions": "short"}
    expanded = store.expand(body)
    assert expanded == {
        "model": "m",
        "instructions": "short",
        "input": [
            {"type": "message", "role": "user", "content": "2+2?"},
            {"type": "message", "role": "assistant", "content": ANSWER["content"]},
            {"type": "message", "role": "user", "content": "and 3+3?"},
        ],
    }
    assert body["previous_response_id"] == "resp_1"
    store.remember("resp_2", expanded["input"], [ANSWER])
    assert len(store.expand({"previous_response_id": "resp_2"})["input"]) == 4


def test_t97_ids_that_nobody_knows_are_not_said_again() -> None:
    store = ResponseStore()
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}", "status": "x"}
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}
    store.remember("resp_1", [], [reasoning, call])
    assert store.expand({"previous_response_id": "resp_1"})["input"] == [
        {"type": "reasoning", "summary": [], "encrypted_content": "e"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
    ]


def test_t96_an_unknown_id_is_refused_in_openais_words() -> None:
    with pytest.raises(BadRequest, match=r"^Previous response with id 'resp_9' not found\.$") as caught:
        ResponseStore().expand({"previous_response_id": "resp_9", "input": "x"})
    assert caught.value.param == "previous_response_id"


def test_a_request_without_it_is_left_alone() -> None:
    body = {"model": "m", "input": "x", "previous_response_id": None}
    assert ResponseStore().expand(body) is body


def test_the_oldest_go_when_there_are_too_many() -> None:
    store = ResponseStore(max_entries=2)
    for number in range(3):
        store.remember(f"resp_{number}", "x", [])
    assert [store.knows(f"resp_{number}") for number in range(3)] == [False, True, True]


def test_the_oldest_go_when_they_are_too_large() -> None:
    store = ResponseStore(max_bytes=1500)
    store.remember("resp_1", "x" * 1000, [])
    store.remember("resp_2", "x" * 1000, [])
    assert not store.knows("resp_1")
    assert store.forget("resp_2")
    store.remember("resp_3", "x" * 600, [])
    store.remember("resp_4", "x" * 600, [])
    assert store.knows("resp_3")


def test_entries_survive_as_json() -> None:
    store = ResponseStore()
    store.remember("resp_1", "x", [ANSWER], {"id": "resp_1", "object": "response"})
    other = ResponseStore()
    other.restore(json.loads(json.dumps(store.entries())))
    assert other.expand({"previous_response_id": "resp_1"}) == store.expand({"previous_response_id": "resp_1"})
    assert other.response("resp_1") == {"id": "resp_1", "object": "response"}


def test_what_is_told_of_a_stored_response() -> None:
    store = ResponseStore()
    store.remember("resp_1", "x", [])
    listed = store.input_items("resp_1")
    assert listed is not None
    assert (listed["object"], listed["data"][0]["content"], listed["has_more"]) == ("list", "x", False)
    assert store.input_items("resp_2") is store.response("resp_2") is None
    assert write_deleted("resp_1") == {"id": "resp_1", "object": "response", "deleted": True}
