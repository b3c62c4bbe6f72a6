import json

from kit.corpus import APIS, everything, exchanges, requires_corpus


@requires_corpus
def test_every_exchange_is_read() -> None:
    assert len(everything()) > 700
    assert {recorded.api for recorded in everything()} <= set(APIS)
    for recorded in everything():
        assert recorded.response.status >= 200
        assert recorded.response.data


@requires_corpus
def test_exchanges_are_chosen_and_sorted() -> None:
    chosen = exchanges(api="messages", stream=True, provider="anthropic")
    assert [recorded.id for recorded in chosen] == sorted({recorded.id for recorded in chosen})
    assert {(recorded.api, recorded.stream) for recorded in chosen} == {("messages", True)}
    assert any(b"event: message_start" in recorded.response.data for recorded in chosen)
    assert all("text" in recorded.tags for recorded in exchanges(tag="text"))


@requires_corpus
def test_a_plain_body_is_json_again() -> None:
    [first, *_] = exchanges(api="chat", stream=False)
    assert json.loads(first.response.data) == first.response.body
