"""A redacted request: only secrets differ, nothing else is even copied, and a history is not scanned twice."""

import base64
import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from contracts.samples import REQUESTS

from llm_interactive import protocols, wire_json
from llm_interactive.conversation import Conversation, Message, Text, Thinking, ToolCall
from llm_interactive.errors import ProxyError
from llm_interactive.protocols.base import Call, Notes, Target
from llm_interactive.redaction import redactor as module
from llm_interactive.redaction.passed import redacted_body
from llm_interactive.redaction.redactor import REPLACEMENT, Redactor
from llm_interactive.redaction.scanner import Scanner

KEY = "sk-" + "a1B2" * 12
OTHER = "ghp_" + "c3D4" * 9
OWN = "4711471147114711"
SEALED = base64.b64encode(b"only its provider can read this " * 10).decode()


def read(protocol: str, body: dict[str, Any]) -> Conversation:
    return protocols.named(protocol).read_request(body, Call(protocol, "generate", "/", model="m", stream=False))


def written(protocol: str, conversation: Conversation) -> str:
    target = Target("b", conversation.model, protocol)
    return wire_json.text(protocols.named(protocol).write_request(conversation, target, Notes()).body)


def everything(value: object) -> str:
    """All text anywhere in a conversation, its sources included."""
    if isinstance(value, str):
        return value + "\n"
    if isinstance(value, dict):
        return "".join(everything(key) + everything(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return "".join(map(everything, value))
    if is_dataclass(value):
        return "".join(everything(getattr(value, field.name)) for field in fields(value))
    return ""


def chat(*contents: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content} for content in contents], **more}


@pytest.mark.parametrize("protocol", REQUESTS)
def test_what_holds_no_secret_is_the_same_object(protocol: str) -> None:
    for body in REQUESTS[protocol]:
        conversation = read(protocol, body)
        assert Redactor([OWN]).redact(conversation) is conversation
        edited = conversation.edit(messages=tuple(replace(each, source=None) for each in conversation.messages))
        assert Redactor([OWN]).redact(edited) is edited


@pytest.mark.parametrize("protocol", REQUESTS)
def test_a_secret_in_any_text_is_nowhere_afterwards(protocol: str) -> None:
    """Every string of a sample in turn, the names of unknown fields included."""
    refused = 0
    changes = [changed for body in REQUESTS[protocol] for changed in planted(body)]
    for changed in changes:
        try:
            conversation = read(protocol, changed)
        except ProxyError:  # a word of the protocol itself was taken away
            refused += 1
            continue
        redacted = Redactor().redact(conversation)
        assert KEY not in everything(redacted)
        if protocol != "gemini":  # whose model stands in the path
            assert KEY not in written(protocol, redacted)
    assert len(changes) - refused > 30


def planted(value: Any) -> Any:
    """Copies of a JSON value, each with the secret after another of its strings."""
    if isinstance(value, str):
        yield f"{value} {KEY}"
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from ([*value[:number], new, *value[number + 1 :]] for new in planted(each))
    elif isinstance(value, dict):
        for key, each in value.items():
            if key not in (*module.UNTOUCHED, "data", "redacted"):
                yield from ({**value, key: new} for new in planted(each))
        if value.get("type") not in ("thinking", "reasoning") and "thought" not in value:
            yield {**value, "x_unknown": KEY}


SEALED_PARTS = {
    "anthropic_messages": [
        {"type": "thinking", "thinking": f"The key is {KEY}.", "signature": SEALED},
        {"type": "redacted_thinking", "data": f"{SEALED}{KEY}"},
    ],
    "gemini": [{"text": f"The key is {KEY}.", "thought": True, "thoughtSignature": SEALED}],
}


@pytest.mark.parametrize("protocol", SEALED_PARTS)
def test_signed_reasoning_is_never_touched(protocol: str) -> None:
    parts = [*SEALED_PARTS[protocol], {"type": "text", "text": KEY} if protocol != "gemini" else {"text": KEY}]
    turn = {"role": "assistant", "content": parts} if protocol != "gemini" else {"role": "model", "parts": parts}
    user = {"role": "user", "content": "Hi"} if protocol != "gemini" else {"role": "user", "parts": [{"text": "Hi"}]}
    name = "contents" if protocol == "gemini" else "messages"
    redacted = Redactor().redact(read(protocol, {"model": "m", "max_tokens": 9, name: [user, turn]}))
    sent = json.loads(written(protocol, redacted))[name][1]
    content = sent["parts" if protocol == "gemini" else "content"]
    assert content[:-1] == parts[:-1]
    assert content[-1]["text"] == REPLACEMENT
    [thinking, *_] = redacted.messages[1].parts
    assert isinstance(thinking, Thinking)
    assert thinking.text == f"The key is {KEY}."


def test_encrypted_reasoning_is_never_touched() -> None:
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": KEY}],
        "encrypted_content": SEALED,
    }
    body = {"model": "m", "input": [{"role": "user", "content": KEY}, item]}
    sent = json.loads(written("openai_responses", Redactor().redact(read("openai_responses", body))))
    assert sent["input"] == [{"role": "user", "content": REPLACEMENT}, item]


def test_reasoning_without_a_signature_is_redacted() -> None:
    message = {"role": "assistant", "content": "x", "reasoning_content": f"It is {KEY}."}
    redacted = Redactor().redact(read("openai_chat", {"model": "m", "messages": [message]}))
    assert KEY not in everything(redacted)


def test_media_are_never_touched() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{SEALED}{OWN}"}},
        {"type": "input_audio", "input_audio": {"data": f"{SEALED[:-4]}{OWN}", "format": "wav"}},
        {"type": "text", "text": OWN},
    ]
    redacted = Redactor([OWN]).redact_json(chat(parts))
    assert redacted["messages"][0]["content"] == [*parts[:2], {"type": "text", "text": REPLACEMENT}]


def test_an_address_that_a_provider_fetches_stays_one() -> None:
    signed = "https://x.blob.core.windows.net/a.png?sv=1&sig=" + "a1B2" * 11 + "%3D"
    parts = [{"type": "image_url", "image_url": {"url": signed}}, {"type": "text", "text": signed}]
    [first, second] = Redactor().redact_json(chat(parts))["messages"][0]["content"]
    assert first is parts[0]
    assert second["text"].endswith(f"&sig={REPLACEMENT}")
    password = {"type": "image_url", "image_url": {"url": "https://u:secret@host/a.png"}}
    assert "secret" not in str(Redactor().redact_json(chat([password])))


def test_credentials_for_an_mcp_server_are_for_the_provider() -> None:
    tool = {
        "type": "mcp",
        "server_url": "https://mcp.test",
        "authorization": KEY,
        "headers": {"x-key": OTHER, "y": OWN},
    }
    [redacted] = Redactor([OWN]).redact_json(chat("Hi", tools=[tool]))["tools"]
    assert redacted == {**tool, "headers": {"x-key": OTHER, "y": REPLACEMENT}}


def test_names_mean_nothing_in_what_a_model_made_up() -> None:
    given = {"signature": KEY, "data": SEALED + OWN, "url": f"https://x/?sig={'a1B2' * 11}", "headers": {"a": KEY}}
    call = {"type": "tool_use", "id": "t", "name": "n", "input": given}
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [call]}]}
    text = json.dumps(Redactor([OWN]).redact_json(body))
    assert text.count(REPLACEMENT) == 4
    conversation = Redactor([OWN]).redact(read("anthropic_messages", body))
    [part] = conversation.messages[0].parts
    assert isinstance(part, ToolCall)
    assert part.arguments.count(REPLACEMENT) == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (f'{{"a": "{KEY}", "b": [1, 2.50]}}', {"a": REPLACEMENT, "b": [1, 2.5]}),
        ('{"a": "\\u0073' + KEY[1:] + '"}', {"a": REPLACEMENT}),
        (f'{{"n": {OWN}, "s": "{OWN}"}}', {"n": int(OWN), "s": REPLACEMENT}),
        (json.dumps({"aws_secret_access_key": "a1B2/" * 8}), {"aws_secret_access_key": REPLACEMENT}),
        (json.dumps({KEY: 1, OTHER: 2}), {REPLACEMENT: 1, f"{REPLACEMENT}_": 2}),
        (json.dumps({"text": f'A="{KEY}"\n\\{OTHER}\\'}), {"text": f'A="{REPLACEMENT}"\n\\{REPLACEMENT}\\'}),
        (json.dumps({"inner": json.dumps({"deep": [KEY]})}), {"inner": json.dumps({"deep": [REPLACEMENT]})}),
    ],
)
def test_arguments_stay_json(arguments: str, expected: object) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "n", "arguments": arguments}}
    body = {"model": "m", "messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    conversation = Redactor([OWN]).redact(read("openai_chat", body))
    [part] = conversation.messages[0].parts
    assert isinstance(part, ToolCall)
    assert json.loads(part.arguments) == expected
    sent = json.loads(written("openai_chat", conversation))
    assert sent["messages"][0]["tool_calls"][0]["function"]["arguments"] == part.arguments


def test_arguments_that_are_no_json_are_text() -> None:
    assert Redactor().begin().arguments(f'{{"a": "{KEY}"') == f'{{"a": "{REPLACEMENT}"'
    assert Redactor().begin().arguments('{"a": "\\u12"') == '{"a": "\\u12"'


def test_the_same_text_is_always_replaced_in_the_same_way() -> None:
    redactor = Redactor([OWN])
    turns = [f"{number} {KEY} and {OWN}" + " long" * 300 * (number % 2) for number in range(6)]
    whole = redactor.redact_json(chat(*turns))["messages"]
    for length in range(1, 6):
        assert redactor.redact_json(chat(*turns[:length]))["messages"] == whole[:length]
        assert Redactor([OWN]).redact_json(chat(*turns[:length]))["messages"] == whole[:length]


def test_different_secrets_are_counted_once_each() -> None:
    redaction = Redactor([OWN]).begin()
    redaction.conversation(read("openai_chat", chat(f"{KEY} {OWN}", KEY, [{"type": "text", "text": OTHER}])))
    assert len(redaction.secrets) == 3


def test_a_history_is_not_scanned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scanned: list[int] = []
    spans, may_hold = Scanner.spans, Scanner.may_hold

    def counting_spans(self: Scanner, text: str, rule: Any = "all") -> Any:
        scanned.append(len(text))
        return spans(self, text, rule)

    def counting_may_hold(self: Scanner, data: bytes) -> bool:
        scanned.append(len(data))
        return may_hold(self, data)

    monkeypatch.setattr(Scanner, "spans", counting_spans)
    monkeypatch.setattr(Scanner, "may_hold", counting_may_hold)
    redactor = Redactor()
    turns = ["The sk-ip is task-y. " * 500, f"{KEY} " + "x " * 5000, "no " * 4000]
    redactor.redact(read("openai_chat", chat(*turns)))
    assert sum(scanned) > 30_000
    del scanned[:]
    again = redactor.redact(read("openai_chat", chat(*turns, "One more.")))
    assert sum(scanned) < 1_000
    assert KEY not in everything(again)
    del scanned[:]
    redactor.redact(read("openai_chat", chat(turns[0], turns[2], "One more.")))
    assert sum(scanned) < 1_000


def test_an_object_in_a_text_is_not_taken_for_the_object() -> None:
    """A signed block is clean as a block, and a secret as text."""
    redactor = Redactor()
    block = {"type": "thinking", "thinking": KEY + " x" * 600, "signature": SEALED}
    body = {"model": "m", "messages": [block]}
    assert redactor.redact_json(body) is body
    assert KEY not in redactor.redact_text(wire_json.text(block))
    free = {"model": "m", "metadata": block}
    assert KEY not in str(redactor.redact_json(free))


def test_messages_that_commands_left_without_a_source_are_redacted() -> None:
    conversation = read("openai_chat", chat(f"!/hello {KEY}"))
    edited = conversation.edit(messages=(Message(role="user", parts=(Text(text=KEY),)),))
    redacted = Redactor().redact(edited)
    assert KEY not in everything(redacted)
    assert redacted.changed == {"messages"}
    assert json.loads(written("openai_chat", redacted))["messages"] == [{"role": "user", "content": REPLACEMENT}]


FORM = (
    b'--B\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nIt is %s.\r\n'
    b'--B\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n%s\r\n--B--\r\n'
)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b'{"input": ["%s", 1]}', "application/json", b'{"input":["(API_KEY_HAS_BEEN_REDACTED)",1]}'),
        (b'["%s"]', "", b'["(API_KEY_HAS_BEEN_REDACTED)"]'),
        (b'{"input": "%s"', "application/json", b'{"input": "(API_KEY_HAS_BEEN_REDACTED)"'),
        (b'{"a":' * 300 + b'"%s"' + b"}" * 300, "application/json", None),
        (b'"%s"', "application/vnd.x+json; charset=utf-8", b'"(API_KEY_HAS_BEEN_REDACTED)"'),
        (b'{"a": "%s"}\n{"a": 1}\n', "application/jsonl", b'{"a": "(API_KEY_HAS_BEEN_REDACTED)"}\n{"a": 1}\n'),
        (b"a=%s&b=\xff", "application/x-www-form-urlencoded", b"a=(API_KEY_HAS_BEEN_REDACTED)&b=\xff"),
    ],
)
def test_bodies_that_are_passed_on(body: bytes, content_type: str, expected: bytes | None) -> None:
    sent = redacted_body(Redactor().begin(), body.replace(b"%s", KEY.encode()), content_type)
    assert KEY.encode() not in sent
    assert expected is None or sent == expected
    clean = body.replace(b"%s", b"sk-...")
    assert redacted_body(Redactor().begin(), clean, content_type) is clean


def test_forms_and_bytes_that_are_passed_on() -> None:
    form = FORM.replace(b"%s", KEY.encode())
    sent = redacted_body(Redactor().begin(), form, 'multipart/form-data; boundary="B"')
    assert sent == form.replace(KEY.encode(), REPLACEMENT.encode(), 1)
    sound = b"\x00\xff" + KEY.encode()
    assert redacted_body(Redactor().begin(), sound, "audio/wav") is sound
