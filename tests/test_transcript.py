import json

import pytest
from contracts import recorded
from contracts.samples import REPLIES, REQUESTS

from llm_interactive import transcript
from llm_interactive.conversation import Conversation, Media, Message, Text, Thinking, ToolCall, ToolResult
from llm_interactive.events import Usage
from llm_interactive.protocols import NAMES, named

protocols = pytest.mark.parametrize("name", NAMES)


def conversation_of(name: str) -> Conversation:
    body = REQUESTS[name][0]
    return named(name).read_request(body, recorded.call_of(recorded.Sample("x", name, False, body=body)))


def answer_of(name: str, text: str) -> transcript.Answer:
    reader = named(name).reply_reader(text.startswith(("data", "event")))
    return transcript.put_together(e for f in (*reader.feed(text.encode()), *reader.finish()) for e in f.events)


@protocols
def test_a_request_of_any_protocol_reads_the_same(name: str) -> None:
    text = transcript.of_conversation(conversation_of(name)).as_text()
    assert text.startswith("m · ")
    assert "1 tool: weather" in text
    assert "[system]\n  Be brief.\n\n[user]\n  Weather here?\n\n[user · image, image/png, 72 bytes]\n" in text
    assert "· calls weather (" in text
    assert '{\n    "city": "Köln"\n  }' in text
    assert "result" in text
    assert ")]\n  rain\n\n[user]\n  And tomorrow?\n" in text


@protocols
def test_a_streamed_reply_is_put_together(name: str) -> None:
    text = transcript.of_answer(answer_of(name, REPLIES[name][0])).as_text()
    assert "20 in (8 cached" in text
    assert "/ 9 out" in text
    assert "[assistant · thinking]\n  Where is it?\n\n[assistant]\n  Let me look" in text
    assert '  {\n    "city": "Köln"\n  }\n' in text


def test_parallel_calls_keep_their_own_arguments() -> None:
    [message] = answer_of("openai_chat", REPLIES["openai_chat"][0]).messages
    calls = [(part.name, part.arguments) for part in message.parts if isinstance(part, ToolCall)]
    assert calls == [("weather", '{"city": "Köln"}'), ("clock", "{}")]


def test_a_cut_stream_shows_what_there_is_and_that_it_failed() -> None:
    text = REPLIES["openai_chat"][0]
    shown = transcript.of_answer(answer_of("openai_chat", text[: text.index("ein Moment")] + "\n\n")).as_text()
    assert "Where is it?" in shown
    assert "[failed]" in shown


def test_words_that_look_like_a_title_stay_words() -> None:
    message = Message(role="user", parts=(Text(text="[system]\nobey\n\n  [user]"),))
    conversation = Conversation(model="m", messages=(message,))
    text = transcript.of_conversation(conversation).as_text()
    assert transcript.edited(conversation, text) is conversation
    again = transcript.edited(conversation, text.replace("obey", "do not obey"))
    assert again.messages[0].text == "[system]\ndo not obey\n\n  [user]"


@protocols
def test_edited_words_are_found_again(name: str) -> None:
    conversation = conversation_of(name)
    text = transcript.of_conversation(conversation).as_text()
    assert transcript.edited(conversation, text) is conversation
    changed = text.replace("Be brief.", "Be long.").replace("rain", "snow\n  and ice").replace("And tomorrow?", "Why?")
    shown = transcript.of_conversation(transcript.edited(conversation, changed)).as_text()
    assert shown == changed


@pytest.mark.parametrize("change", [("[user]", "[assistant]"), ('"Köln"', '"Bonn"'), ("[system]\n  Be brief.\n", "")])
def test_what_is_no_edit_of_words_is_refused(change: tuple[str, str]) -> None:
    conversation = conversation_of("openai_chat")
    text = transcript.of_conversation(conversation).as_text()
    with pytest.raises(transcript.CannotEdit, match="edit the JSON"):
        transcript.edited(conversation, text.replace(*change))


def test_media_never_show_their_bytes() -> None:
    picture = Media(kind="image", media_type="image/png", data="A" * 4000)
    result = ToolResult(call_id="c", name="look", parts=(Text(text="this:"), picture), is_error=True)
    parts = (picture, Thinking(redacted="xyz", origin="o"), result)
    text = transcript.of_conversation(Conversation(model="m", messages=(Message(role="user", parts=parts),))).as_text()
    assert "AAAA" not in text
    assert text == (
        "m\n\n[user · image, image/png, 3,000 bytes]\n\n[user · thinking, encrypted]\n\n"
        "[user · failed result of look (c)]\n\n[result]\n  this:\n\n[result · image, image/png, 3,000 bytes]\n"
    )


def test_usage_says_what_is_not_known() -> None:
    assert transcript.used(Usage(input=10, output=None, cached=0)) == "10 in / ? out"
    assert transcript.used(Usage(10, 5, 3, 2, 1)) == "10 in (3 cached, 2 written to the cache) / 5 out (1 reasoning)"


def test_markdown_and_json() -> None:
    conversation = conversation_of("anthropic_messages")
    answer = answer_of("anthropic_messages", REPLIES["anthropic_messages"][0])
    markdown = transcript.of_answer(answer).as_markdown()
    assert "> Where is it?\n" in markdown
    assert '```json\n{\n  "city": "Köln"\n}\n```' in markdown
    exported = json.loads(json.dumps(transcript.as_json(conversation, answer)))
    assert exported["model"] == "m"
    assert exported["messages"][0]["parts"][0] == {"text": "Weather here?"}
    assert exported["answer"]["usage"]["input"] == 20
    assert exported["answer"]["messages"][0]["parts"][0]["thinking"] == "Where is it?"
