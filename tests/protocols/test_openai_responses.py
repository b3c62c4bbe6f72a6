"""Responses requests: what came goes on as it came; what is read and written means the same."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import corpus

from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Sampling,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_interactive.errors import BadRequest, CannotExpress
from llm_interactive.protocols.base import Call, ModelFacts, Notes, Target
from llm_interactive.protocols.foreign_signatures import Hidden, wrap
from llm_interactive.protocols.openai_responses import NAME, PROTOCOL

CALL = Call(NAME, "generate", "/v1/responses")
TARGET = Target("openai", "m", "openai")
EXCHANGES = corpus.exchanges(api="responses")
REASONS = ModelFacts(reasoning="effort", efforts=("none", "low", "medium", "high"))


def read(**body: Any) -> Conversation:
    return PROTOCOL.read_request({"model": "m", "input": "hi", **body}, CALL)


def items(*given: Any) -> tuple[Message, ...]:
    return read(input=list(given)).messages


def foreign(*messages: Message, **fields: Any) -> Conversation:
    return Conversation(model="m", messages=messages or (user(Text(text="hi")),), **fields)


def user(*parts: Part) -> Message:
    return Message(role="user", parts=parts)


def assistant(*parts: Part) -> Message:
    return Message(role="assistant", parts=parts)


def written(conversation: Conversation, target: Target = TARGET) -> dict[str, Any]:
    return PROTOCOL.write_request(conversation, target, Notes()).body


def noted(conversation: Conversation, target: Target = TARGET) -> str:
    notes = Notes()
    PROTOCOL.write_request(conversation, target, notes)
    return "; ".join(notes)


def call(id_: str = "call_1", name: str = "f", arguments: str = "{}", **more: Any) -> ToolCall:
    return ToolCall(id=id_, name=name, arguments=arguments, **more)


def result(*parts: Part, id_: str = "call_1", **more: Any) -> ToolResult:
    return ToolResult(call_id=id_, parts=parts or (Text(text="ok"),), **more)


# Same protocol


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda e: e.id)
def test_recorded_requests_go_on_as_they_came(exchange: corpus.Recorded) -> None:
    body = exchange.request.body
    if not isinstance(body, dict):
        pytest.skip("recorded without a request body")
    target = Target("openai", body.get("model") or "", "openai")
    assert json.dumps(written(PROTOCOL.read_request(body, CALL), target)) == json.dumps(body)


def test_only_the_edited_message_is_written_anew() -> None:
    first = {"role": "user", "content": [{"type": "input_text", "text": "a", "prompt_cache_breakpoint": {}}]}
    second = {"role": "user", "content": "b", "odd": 1}
    conversation = read(input=[first, second], store=True, odd={"x": 1})
    edited = conversation.messages[1].edit(parts=(Text(text="c"),))
    body = written(conversation.edit(messages=(conversation.messages[0], edited)))
    assert body == {
        "model": "m",
        "input": [first, {"type": "message", "role": "user", "content": "c"}],
        "store": True,
        "odd": {"x": 1},
    }


def test_an_edited_string_stays_a_string() -> None:
    conversation = read(input="!/hello there")
    edited = conversation.messages[0].edit(parts=(Text(text="there"),))
    assert written(conversation.edit(messages=(edited,)))["input"] == "there"


def test_an_edited_result_keeps_its_call() -> None:
    conversation = read(input=[{"type": "function_call_output", "call_id": "call_1", "output": "secret", "id": "fc"}])
    message = conversation.messages[0]
    (part,) = message.parts
    assert isinstance(part, ToolResult)
    edited = message.edit(parts=(part.edit(parts=(Text(text="hidden"),)),))
    expected = {"type": "function_call_output", "call_id": "call_1", "output": "hidden"}
    assert written(conversation.edit(messages=(edited,)))["input"] == [expected]


def test_an_edited_format_keeps_the_verbosity() -> None:
    conversation = read(text={"format": {"type": "json_object"}, "verbosity": "low"})
    assert written(conversation.edit(output=None))["text"] == {"verbosity": "low"}


def test_edited_fields_are_written_with_their_own_keys_only() -> None:
    conversation = read(temperature=0.5, top_p=0.1, metadata={"a": "b"}, instructions="be kind")
    body = written(conversation.edit(sampling=Sampling(temperature=0.9), reasoning=Reasoning(effort="low")))
    assert body == {
        "model": "m",
        "input": "hi",
        "metadata": {"a": "b"},
        "instructions": "be kind",
        "temperature": 0.9,
        "reasoning": {"effort": "low"},
    }


def test_t55_reasoning_hidden_for_others_does_not_reach_openai() -> None:
    hidden = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": wrap(Hidden("gemini", "sig"))}
    own = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAA"}
    said = {"role": "user", "content": "x"}
    assert written(read(input=[said, hidden, own]))["input"] == [said, own]


# Reading


def test_a_string_is_the_users() -> None:
    conversation = read(input="hi", instructions="be kind")
    assert conversation.messages == (user(Text(text="hi")),)
    assert conversation.system == (Text(text="be kind"),)


def test_messages_with_and_without_a_type() -> None:
    assert items(
        {"role": "developer", "content": "d"},
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "s"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}]},
    ) == (
        Message(role="developer", parts=(Text(text="d"),)),
        Message(role="system", parts=(Text(text="s"),)),
        assistant(Text(text="a"), Refusal(text="no")),
    )


def test_calls_and_results() -> None:
    assert items(
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "g", "input": "raw"},
        {"type": "function_call_output", "call_id": "call_1", "output": "one"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "two"}]},
    ) == (
        assistant(call(arguments='{"a":1}')),
        assistant(call("call_2", "g", "raw", custom=True)),
        Message(role="tool", parts=(result(Text(text="one")),)),
        Message(role="tool", parts=(result(Text(text="two"), id_="call_2", custom=True),)),
    )


def test_t23_pictures_in_results() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
    (message,) = items({"type": "function_call_output", "call_id": "call_1", "output": [picture]})
    assert message.parts == (result(Media(kind="image", media_type="image/png", data="AAAA", detail="low")),)


def test_t37_t39_media() -> None:
    (message,) = items(
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": "https://host/x.png"},
                {"type": "input_image", "file_id": "file-1"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
                {"type": "input_file", "file_url": "https://host/a.pdf"},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            ],
        }
    )
    assert message.parts == (
        Media(kind="image", url="https://host/x.png"),
        Media(kind="image", file_id="file-1", origin=NAME),
        Media(kind="document", media_type="application/pdf", data="AAAA", name="a.pdf"),
        Media(kind="document", url="https://host/a.pdf"),
        Media(kind="audio", data="AAAA", media_type="audio/mp3"),
    )


def test_reasoning_is_bound_to_its_owner() -> None:
    summary = [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
    (message,) = items({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "gAAA"})
    assert message == assistant(Thinking(text="a\n\nb", signature="gAAA", origin=NAME, item_id="rs_1"))


def test_t54_hidden_signatures_come_back_to_their_owner() -> None:
    redacted = wrap(Hidden("anthropic_messages", None, "data"))
    (message,) = items({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": redacted})
    assert message == assistant(Thinking(redacted="data", origin="anthropic_messages"))


def test_t56_a_calls_signature_comes_back_to_the_call() -> None:
    hidden = wrap(Hidden("gemini", "sig", call_id="call_1"))
    _, message = items(
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": hidden},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
    )
    assert message == assistant(call(signature="sig"))


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        ("web_search_call", "assistant"),
        ("computer_call", "assistant"),
        ("computer_call_output", "user"),
        ("local_shell_call_output", "user"),
        ("mcp_list_tools", "assistant"),
        ("mcp_approval_response", "user"),
        ("compaction", "assistant"),
        ("item_reference", "assistant"),
        ("something_of_next_year", "assistant"),
    ],
)
def test_what_only_openai_understands_is_opaque(kind: str, role: str) -> None:
    (message,) = items({"type": kind, "id": "x"})
    assert (message.role, message.parts) == (role, (Opaque(what=kind),))


def test_t25_t26_hosted_tools_are_no_functions() -> None:
    function = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True, "description": "d"}
    conversation = read(tools=[function, {"type": "web_search"}, {"type": "mcp", "server_label": "s"}])
    assert conversation.tools == (
        Tool(name="f", description="d", schema={"type": "object"}, strict=True),
        Opaque(what="web_search"),
        Opaque(what="mcp"),
    )


def test_a_custom_tools_grammar_has_one_shape() -> None:
    flat = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    (tool,) = read(tools=[{"type": "custom", "name": "c", "format": flat}]).tools
    nested = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: x"}}
    assert tool == Tool(name="c", custom=True, format=nested)
    assert isinstance(tool, Tool)
    assert written(foreign(tools=(tool.edit(),)))["tools"] == [{"type": "custom", "name": "c", "format": flat}]


@pytest.mark.parametrize(
    ("choice", "meaning"),
    [
        ("auto", ToolChoice(mode="auto")),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        ({"type": "function", "name": "f"}, ToolChoice(mode="named", name="f")),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            ToolChoice(mode="required", allowed=("f",)),
        ),
        ({"type": "web_search"}, None),
    ],
)
def test_t21_tool_choice(choice: Any, meaning: ToolChoice | None) -> None:
    assert read(tool_choice=choice).tool_choice == meaning


def test_parallel_calls_can_be_forbidden() -> None:
    assert read(parallel_tool_calls=False).tool_choice == ToolChoice(parallel=False)


def test_t51_the_output_format_is_read() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    format_ = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    assert read(text={"format": format_}).output == OutputFormat(
        kind="json_schema", schema=schema, name="n", strict=True
    )
    assert read(text={"format": {"type": "text"}}).output is None


def test_sampling_reasoning_and_who_asks() -> None:
    conversation = read(
        temperature=0.5,
        max_output_tokens=100,
        reasoning={"effort": "high", "summary": "auto"},
        include=["message.output_text.logprobs", "web_search_call.results"],
        top_logprobs=2,
        safety_identifier="me",
        metadata={"k": "v"},
        stream=True,
    )
    assert conversation.sampling == Sampling(temperature=0.5, max_tokens=100, logprobs=True, top_logprobs=2)
    assert conversation.reasoning == Reasoning(enabled=True, effort="high", summary=True)
    assert (conversation.user, conversation.metadata, conversation.stream) == ("me", {"k": "v"}, True)
    assert conversation.owned == {"include": ["web_search_call.results"]}


def test_t96_stored_state_belongs_to_its_owner() -> None:
    conversation = read(previous_response_id="resp_1", store=False, truncation="disabled", background=True)
    assert conversation.owned == {"previous_response_id": "resp_1", "background": True}


def test_a_stored_prompt_needs_neither_model_nor_input() -> None:
    conversation = PROTOCOL.read_request({"prompt": {"id": "pmpt_1"}}, CALL)
    assert (conversation.model, conversation.messages) == ("", ())
    assert written(conversation, Target("openai", "", "openai")) == {"prompt": {"id": "pmpt_1"}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": 5}, "input"),
        ({"input": None}, "input"),
        ({"model": None}, "model"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tool_choice": "never"}, "tool_choice"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"reasoning": "high"}, "reasoning"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"instructions": 5}, "instructions"),
    ],
)
def test_wrong_types_are_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**body)
    assert caught.value.param == param


KEYS = st.sampled_from(["type", "role", "content", "name", "text", "call_id"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["input", "tools", "tool_choice", "text", "reasoning", "include"]), JSON))
def test_any_json_is_read_or_refused(body: dict[str, Any]) -> None:
    try:
        conversation = read(**body)
    except BadRequest:
        return
    assert written(conversation) == {"model": "m", "input": "hi", **body}


# Writing what another protocol read


def test_a_translated_request_keeps_no_state() -> None:
    body = written(foreign(system=(Text(text="be kind"),), stream=True))
    assert body == {
        "model": "m",
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "instructions": "be kind",
        "store": False,
        "stream": True,
    }


def test_t97_encrypted_reasoning_is_asked_for_where_there_is_some() -> None:
    body = written(foreign(), Target("openai", "m", "openai", REASONS))
    assert body["include"] == ["reasoning.encrypted_content"]


def test_t97_own_reasoning_goes_back_without_its_id() -> None:
    thinking = Thinking(text="t", signature="gAAA", origin=NAME, item_id="rs_1")
    body = written(foreign(user(Text(text="q")), assistant(thinking, Text(text="a")), user(Text(text="r"))))
    assert body["input"][1:3] == [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": "gAAA"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "a", "annotations": []}],
        },
    ]
    assert body["include"] == ["reasoning.encrypted_content"]


def test_reasoning_that_led_to_nothing_is_left_out() -> None:
    thinking = Thinking(signature="gAAA", origin=NAME)
    conversation = foreign(assistant(thinking), user(Text(text="r")))
    assert [item["type"] for item in written(conversation)["input"]] == ["message"]
    assert "reasoning without the answer" in noted(conversation)


def test_t36_t55_foreign_reasoning_is_noted() -> None:
    thinking = Thinking(text="t", signature="s", origin="anthropic_messages")
    conversation = foreign(assistant(thinking, Text(text="a")), user(Text(text="r")))
    assert [item["type"] for item in written(conversation)["input"]] == ["message", "message"]
    assert "reasoning of earlier turns" in noted(conversation)


def test_t6_t8_results_stand_before_what_is_said_with_them() -> None:
    body = written(
        foreign(
            assistant(Text(text="wait"), call("a"), call("b")),
            user(Text(text="and?"), result(id_="a"), result(id_="b")),
        )
    )
    assert [item["type"] for item in body["input"]] == [
        "message", "function_call", "function_call", "function_call_output", "function_call_output", "message",
    ]  # fmt: skip


def test_t1_t4_arguments_go_as_they_were_written() -> None:
    calls = assistant(call("a", arguments=""), call("b", arguments='{"x": 1}'))
    body = written(foreign(calls, user(result(id_="a"), result(id_="b"))))
    assert [item["arguments"] for item in body["input"][:2]] == ["{}", '{"x": 1}']


def test_t98_every_output_has_its_call() -> None:
    conversation = foreign(user(result(id_="gone"), Text(text="x")), assistant(call("open")), user(Text(text="y")))
    assert written(conversation)["input"] == [
        {"type": "message", "role": "user", "content": "ok"},
        {"type": "message", "role": "user", "content": "x"},
        {"type": "function_call", "call_id": "open", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "open", "output": "(no result was recorded)"},
        {"type": "message", "role": "user", "content": "y"},
    ]
    assert "without its call" in noted(conversation)
    assert "without its result" in noted(conversation)


def test_t98_a_result_before_its_call_is_none() -> None:
    kinds = [item["type"] for item in written(foreign(user(result()), assistant(call())))["input"]]
    assert kinds == ["message", "function_call", "function_call_output"]


def test_t23_t24_results_with_pictures_and_failures() -> None:
    picture = Media(kind="image", media_type="image/png", data="AAAA")
    body = written(
        foreign(
            assistant(call("a"), call("b")),
            user(result(Text(text="see"), picture, id_="a"), result(Text(text="broke"), id_="b", is_error=True)),
        )
    )
    assert body["input"][2]["output"] == [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
    ]
    assert body["input"][3]["output"] == '{"error":"broke"}'


def test_t31_system_messages_stay_in_place() -> None:
    body = written(foreign(user(Text(text="a")), Message(role="system", parts=(Text(text="s"),)), user(Text(text="b"))))
    assert [item["role"] for item in body["input"]] == ["user", "system", "user"]


def test_t31_instructions_alone_become_what_is_said() -> None:
    body = written(Conversation(model="m", messages=(), system=(Text(text="tell a joke"),)))
    assert body["input"] == [{"type": "message", "role": "user", "content": "tell a joke"}]


def test_t34_empty_text_is_left_out() -> None:
    body = written(foreign(assistant(Text(text="")), user(Text(text=""), Text(text="x"))))
    assert body["input"] == [{"type": "message", "role": "user", "content": "x"}]


def test_t37_media_are_written() -> None:
    body = written(
        foreign(
            user(
                Media(kind="image", url="https://host/x.png", detail="high"),
                Media(kind="document", media_type="application/pdf", data="AAAA", name="a.pdf"),
                Media(kind="document", media_type="text/plain", data="AAAA"),
                Media(kind="document", url="https://host/a.pdf"),
                Media(kind="document", text="plain words"),
                Media(kind="document", file_id="file-1", origin="openai_chat"),
            )
        )
    )
    assert body["input"][0]["content"] == [
        {"type": "input_image", "image_url": "https://host/x.png", "detail": "high"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
        {"type": "input_file", "filename": "document.txt", "file_data": "data:text/plain;base64,AAAA"},
        {"type": "input_file", "file_url": "https://host/a.pdf"},
        {"type": "input_text", "text": "plain words"},
        {"type": "input_file", "file_id": "file-1"},
    ]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (Media(kind="audio", data="AAAA"), "audio"),
        (Media(kind="video", url="https://host/x.mp4"), "video"),
        (Media(kind="image", url="gs://bucket/x.png"), "url"),
        (Media(kind="document", file_id="files/1", origin="gemini"), "file_id"),
        (Opaque(what="server_tool_use", source=Source("anthropic_messages", {})), "server_tool_use"),
    ],
)
def test_t41_what_cannot_be_said_is_refused(part: Part, param: str) -> None:
    with pytest.raises(CannotExpress) as caught:
        written(foreign(user(part)))
    assert caught.value.param == param


def test_pictures_of_the_assistant_are_shown_by_the_user() -> None:
    picture = Media(kind="image", media_type="image/png", data="AAAA")
    body = written(foreign(assistant(Text(text="here"), picture), user(Text(text="thanks"))))
    assert [item["role"] for item in body["input"]] == ["assistant", "user", "user"]


def test_t99_a_refusal_stays_one() -> None:
    body = written(foreign(assistant(Refusal(text="no")), user(Text(text="x"))))
    assert body["input"][0]["content"] == [{"type": "refusal", "refusal": "no"}]


def test_tools_are_flat_and_not_strict_unless_asked() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    body = written(foreign(tools=(Tool(name="f", description="d", schema=schema), Tool(name="g", strict=True))))
    assert body["tools"] == [
        {"type": "function", "name": "f", "description": "d", "parameters": schema, "strict": False},
        {"type": "function", "name": "g", "parameters": {"type": "object", "properties": {}}, "strict": True},
    ]


def test_t19_names_that_openai_refuses_are_mapped() -> None:
    long = "mcp.server/" + "x" * 80
    conversation = foreign(
        assistant(call(name=long)),
        user(result()),
        tools=(Tool(name=long), Tool(name="ok")),
        tool_choice=ToolChoice(mode="named", name=long),
    )
    wire = PROTOCOL.write_request(conversation, TARGET, Notes())
    short = wire.body["tools"][0]["name"]
    assert len(short) == 64
    assert short.replace("_", "").isalnum()
    assert wire.body["input"][0]["name"] == wire.body["tool_choice"]["name"] == short
    assert wire.tool_names == {short: long}
    assert wire.body["tools"][1]["name"] == "ok"


def test_t25_foreign_server_tools_are_noted_or_refused() -> None:
    search = Opaque(what="web_search_20250305", source=Source("anthropic_messages", {"type": "web_search_20250305"}))
    conversation = foreign(tools=(search, Tool(name="f")))
    assert [tool["name"] for tool in written(conversation)["tools"]] == ["f"]
    assert "web_search_20250305" in noted(conversation)
    with pytest.raises(CannotExpress):
        written(foreign(tools=(search,)))


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        (ToolChoice(mode="required"), "required"),
        (ToolChoice(mode="none"), "none"),
        (ToolChoice(mode="named", name="f"), {"type": "function", "name": "f"}),
        (ToolChoice(mode="named", name="c"), {"type": "custom", "name": "c"}),
        (
            ToolChoice(mode="auto", allowed=("f",)),
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        ),
    ],
)
def test_t21_t22_tool_choice_is_written(choice: ToolChoice, wire: Any) -> None:
    body = written(foreign(tools=(Tool(name="f"), Tool(name="c", custom=True)), tool_choice=choice))
    assert body["tool_choice"] == wire
    assert len(body["tools"]) == 2


def test_tool_choice_needs_tools() -> None:
    body = written(foreign(tool_choice=ToolChoice(mode="auto", parallel=False)))
    assert body.keys().isdisjoint({"tool_choice", "parallel_tool_calls"})


def test_t66_t67_t68_what_has_no_words_is_noted() -> None:
    sampling = Sampling(stop=("x",), seed=1, top_k=5, frequency_penalty=0.5, presence_penalty=0.0, n=2, temperature=1.5)
    body = written(foreign(sampling=sampling))
    assert {key for key in body if key not in ("model", "input", "store")} == {"temperature"}
    for key in ("stop", "seed", "top_k", "frequency_penalty", "presence_penalty", "n"):
        assert f"{key}: not sent" in noted(foreign(sampling=sampling))


@pytest.mark.parametrize(("asked", "sent"), [(1, 16), (16, 16), (100, 100), (99999, 4096)])
def test_t65_max_tokens_within_what_the_model_takes(asked: int, sent: int) -> None:
    target = Target("openai", "m", "openai", ModelFacts(max_output=4096))
    assert written(foreign(sampling=Sampling(max_tokens=asked)), target)["max_output_tokens"] == sent


def test_t62_t63_parameters_that_the_model_refuses() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.5)
    refusing = Target("openai", "m", "openai", ModelFacts(refuses=frozenset(["temperature"])))
    assert "temperature" not in written(foreign(sampling=sampling), refusing)
    assert "temperature: not sent, m refuses it" in noted(foreign(sampling=sampling), refusing)
    choosy = Target("openai", "m", "openai", ModelFacts(one_of=("temperature", "top_p")))
    assert "top_p" not in written(foreign(sampling=sampling), choosy)


def test_logprobs_are_included() -> None:
    body = written(foreign(sampling=Sampling(logprobs=True, top_logprobs=3)))
    assert (body["top_logprobs"], body["include"]) == (3, ["message.output_text.logprobs"])


@pytest.mark.parametrize(
    ("asked", "facts", "sent"),
    [
        (Reasoning(enabled=True, effort="low"), REASONS, {"effort": "low"}),
        (Reasoning(enabled=True, effort="max"), REASONS, {"effort": "high"}),
        (Reasoning(enabled=True, effort="minimal"), REASONS, {"effort": "low"}),
        (Reasoning(enabled=True, budget=2000, summary=True), REASONS, {"effort": "low", "summary": "auto"}),
        (Reasoning(enabled=True, budget=60000), REASONS, {"effort": "high"}),
        (Reasoning(enabled=True), REASONS, {"effort": "medium"}),
        (Reasoning(enabled=False), REASONS, {"effort": "none"}),
        (Reasoning(enabled=False), ModelFacts(reasoning="effort", efforts=("low", "high")), {"effort": "low"}),
        (Reasoning(enabled=False), ModelFacts(), None),
        (Reasoning(enabled=True, effort="low"), ModelFacts(reasoning="none"), None),
        (Reasoning(), REASONS, None),
    ],
)
def test_t59_t60_reasoning_in_words_that_the_model_takes(asked: Reasoning, facts: ModelFacts, sent: Any) -> None:
    assert written(foreign(reasoning=asked), Target("openai", "m", "openai", facts)).get("reasoning") == sent


def test_structured_output() -> None:
    schema = {"type": "object"}
    body = written(foreign(output=OutputFormat(kind="json_schema", schema=schema, name="my answer!", strict=True)))
    format_ = body["text"]["format"]
    assert (format_["type"], format_["schema"], format_["strict"]) == ("json_schema", schema, True)
    assert format_["name"].replace("_", "").isalnum()
    assert written(foreign(output=OutputFormat(kind="json_object")))["text"] == {"format": {"type": "json_object"}}
    assert "text" not in written(foreign(output=OutputFormat(kind="text")))


def test_t69_who_asks_and_what_for() -> None:
    conversation = foreign(user="u" * 100, metadata={"a": "b", "long": "x" * 600})
    body = written(conversation)
    assert len(body["safety_identifier"]) == 64
    assert body["metadata"] == {"a": "b"}
    elsewhere = written(conversation.edit(user="me"), Target("xai", "m", "xai"))
    assert elsewhere["user"] == "me"
    assert "metadata" not in elsewhere


def test_t90_the_cache_key_travels_between_openais_protocols() -> None:
    body = {"messages": [], "prompt_cache_key": "k", "prediction": {}}
    conversation = foreign(owned={"prompt_cache_key": "k", "prediction": {}}, source=Source("openai_chat", body))
    assert written(conversation)["prompt_cache_key"] == "k"
    assert "prediction: not sent" in noted(conversation)
    assert "prompt_cache_key" not in written(conversation, Target("xai", "m", "xai"))


def test_t96_foreign_fields_are_noted() -> None:
    conversation = foreign(owned={"container": "c"}, source=Source("anthropic_messages", {}))
    assert noted(conversation) == "container: not sent, it belongs to anthropic_messages"


# Token counting


def test_t93_counting_asks_with_what_is_counted() -> None:
    conversation = PROTOCOL.read_request({"model": "m", "input": "hi", "max_output_tokens": 5}, CALL)
    wire = PROTOCOL.write_count_request(conversation, Target("openai", "gpt", "openai"), Notes())
    assert wire is not None
    assert (wire.path, wire.body) == ("/responses/input_tokens", {"model": "gpt", "input": "hi"})
    assert PROTOCOL.read_count({"object": "response.input_tokens", "input_tokens": 7}) == 7
    assert PROTOCOL.write_count(7) == {"object": "response.input_tokens", "input_tokens": 7}
    assert PROTOCOL.read_count({}) is None


def test_counting_needs_no_input() -> None:
    conversation = PROTOCOL.read_request({"model": "m", "instructions": "x"}, Call(NAME, "count_tokens", "/x"))
    assert conversation.messages == ()


def test_credentials() -> None:
    assert PROTOCOL.credentials("k") == {"authorization": "Bearer k"}
