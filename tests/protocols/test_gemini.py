"""Gemini's requests as a client sends them: what came goes on as it came, and what it means; errors, models, counts."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import corpus

from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Reasoning,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from llm_interactive.errors import BadRequest, NotFound, UpstreamError
from llm_interactive.protocols.base import Call, ModelEntry, Notes, Target
from llm_interactive.protocols.foreign_signatures import Hidden, wrap
from llm_interactive.protocols.gemini import NAME, PROTOCOL

CALL = Call(NAME, "generate", "/v1beta/models/g:generateContent", model="g", stream=False)
TARGET = Target("gemini", "g", "gemini")
USER: Any = {"role": "user", "parts": [{"text": "hi"}]}

EXCHANGES = [*corpus.exchanges(api="generateContent"), *corpus.exchanges(api="count_tokens")]
OWN = [e for e in EXCHANGES if isinstance(e.request.body, dict) and e.request.path.rpartition(":")[0]]


def read(**body: Any) -> Conversation:
    return PROTOCOL.read_request({"contents": [USER], **body}, CALL)


def parts(*parts: Any, role: str = "user") -> tuple[Any, ...]:
    return read(contents=[{"role": role, "parts": list(parts)}]).messages[0].parts


@corpus.requires_corpus
@pytest.mark.parametrize("exchange", OWN, ids=lambda e: e.id)
def test_identity_of_requests(exchange: Any) -> None:
    path = exchange.request.path.partition(":")
    model = path[0].rpartition("/models/")[2]
    call = Call(NAME, "generate", exchange.request.path, model=model, stream=path[2].startswith("stream"))
    conversation = PROTOCOL.read_request(exchange.request.body, call)
    target = Target("gemini", model, "gemini")
    write = PROTOCOL.write_count_request if path[2] == "countTokens" else PROTOCOL.write_request
    sent = write(conversation, target, Notes())
    assert list(sent.body.items()) == list(exchange.request.body.items())
    assert sent.path == f"/models/{model}:{path[2]}"


def test_only_edited_keys_of_an_own_request_are_written_anew() -> None:
    body = {
        "contents": [USER, {"parts": [{"text": "!/hello"}, {"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}],
        "generation_config": {"temperature": 1, "responseModalities": ["IMAGE"], "top_k": 3},
        "safetySettings": [],
    }
    conversation = PROTOCOL.read_request(body, CALL)
    edited = conversation.messages[1].edit(parts=conversation.messages[1].parts[1:])
    conversation = conversation.edit(
        messages=(conversation.messages[0], edited), sampling=Sampling(temperature=0.5, top_p=0.1)
    )
    assert PROTOCOL.write_request(conversation, TARGET, Notes()).body == {
        "contents": [USER, {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}],
        "generation_config": {"responseModalities": ["IMAGE"], "temperature": 0.5, "topP": 0.1},
        "safetySettings": [],
    }


@pytest.mark.parametrize("id_", [{}, {"id": "x"}])
def test_an_edited_result_keeps_to_the_ids_of_the_client(id_: dict[str, str]) -> None:
    call = {"role": "model", "parts": [{"functionCall": {**id_, "name": "f"}}]}
    answer = {"role": "user", "parts": [{"functionResponse": {**id_, "name": "f", "response": {"result": "key"}}}]}
    conversation = read(contents=[USER, call, answer])
    [result] = conversation.messages[2].parts
    assert isinstance(result, ToolResult)
    edited = conversation.messages[2].edit(parts=(result.edit(parts=(Text(text="hidden"),)),))
    sent = PROTOCOL.write_request(conversation.edit(messages=(*conversation.messages[:2], edited)), TARGET, Notes())
    answer["parts"][0]["functionResponse"]["response"] = {"result": "hidden"}  # type: ignore[index]
    assert sent.body == {"contents": [USER, call, answer]}


def test_a_model_in_the_body_follows_the_path() -> None:
    conversation = read(model="models/g").edit(model="g")
    sent = PROTOCOL.write_request(conversation, Target("gemini", "other", "gemini"), Notes())
    assert (sent.path, sent.body["model"]) == ("/models/other:generateContent", "models/other")


def test_both_spellings_and_single_things_mean_the_same() -> None:
    camel = read(
        systemInstruction={"parts": [{"text": "s"}]},
        contents=[{"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}],
        tools=[{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}],
        toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        generationConfig={"maxOutputTokens": 5, "thinkingConfig": {"thinkingBudget": 9}},
    )
    snake = read(
        system_instruction={"parts": {"text": "s"}},
        contents={"parts": {"inline_data": {"mime_type": "image/png", "data": "AAAA"}}},
        tools={"function_declarations": {"name": "f", "parameters_json_schema": {"type": "object"}}},
        tool_config={"function_calling_config": {"mode": "any", "allowed_function_names": "f"}},
        generation_config={"max_output_tokens": "5", "thinking_config": {"thinking_budget": 9.0}},
    )
    assert camel == snake
    assert camel.tool_choice == ToolChoice(mode="named", name="f")


def test_parts_and_their_meaning() -> None:
    assert parts({"text": "a", "thoughtSignature": "AAAA"}) == (Text(text="a"),)
    assert parts({"text": "a", "thought": True}, role="model") == (Thinking(text="a", origin=NAME),)
    assert parts({"thoughtSignature": "AAAA"}, role="model") == (Thinking(signature="AAAA", origin=NAME),)
    pdf = {"inlineData": {"mimeType": "application/pdf", "data": "_-8"}}
    assert parts(pdf) == (Media(kind="document", media_type="application/pdf", data="/+8="),)
    plain = {"inlineData": {"mimeType": "text/plain", "data": base64.b64encode(b"hello").decode()}}
    assert parts(plain) == (Media(kind="document", media_type="text/plain", text="hello"),)
    assert parts({"fileData": {"fileUri": "https://x/y.png"}}) == (Media(kind="image", url="https://x/y.png"),)
    own = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    [file] = parts({"fileData": {"fileUri": own, "mimeType": "video/mp4"}})
    assert (file.kind, file.file_id, file.origin) == ("video", own, NAME)
    [code] = parts({"executableCode": {"code": "1"}, "thoughtSignature": "AAAA"}, role="model")
    assert isinstance(code, Opaque)
    assert code.what == "executableCode"


def test_t13_calls_without_ids_get_ids_that_are_unique_across_turns() -> None:
    call: Any = {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}] * 2}
    answer: Any = {"role": "function", "parts": [{"functionResponse": {"name": "f", "response": {"result": 1}}}] * 2}
    messages = read(contents=[USER, call, answer, call, answer]).messages
    called = [part.id for message in messages for part in message.parts if isinstance(part, ToolCall)]
    answered = [part.call_id for message in messages for part in message.parts if isinstance(part, ToolResult)]
    assert len(set(called)) == 4
    assert answered == called


def test_t13_an_id_that_repeats_is_replaced() -> None:
    call: Any = {"role": "model", "parts": [{"functionCall": {"id": "f", "name": "f"}}]}
    answer: Any = {"role": "user", "parts": [{"functionResponse": {"id": "f", "name": "f", "response": {"a": 1}}}]}
    messages = read(contents=[call, answer, call, answer]).messages
    ids = [getattr(part, "id", None) or part.call_id for message in messages for part in message.parts]  # type: ignore[union-attr]
    assert ids[0] == ids[1] != ids[2] == ids[3]


def test_t15_results_find_their_calls_by_id_or_by_name_and_order() -> None:
    calls = [
        {"functionCall": {"name": "f"}},
        {"functionCall": {"name": "g", "id": "x"}},
        {"functionCall": {"name": "f"}},
    ]
    answers = [
        {"functionResponse": {"name": "g", "id": "x", "response": {"output": "1"}}},
        {"functionResponse": {"name": "f", "response": {"a": 1, "b": 2}}},
        {"functionResponse": {"name": "f", "response": {"error": "bad"}}},
    ]
    _, called, answered = read(contents=[USER, {"role": "model", "parts": calls}, {"parts": answers}]).messages
    first, second, third = (part.id for part in called.parts if isinstance(part, ToolCall))
    assert answered.parts == (
        ToolResult(call_id=second, name="g", parts=(Text(text="1"),)),
        ToolResult(call_id=first, name="f", parts=(Text(text='{"a":1,"b":2}'),)),
        ToolResult(call_id=third, name="f", parts=(Text(text="bad"),), is_error=True),
    )


def test_tools_schemas_and_vendor_tools() -> None:
    schema = {"type": "OBJECT", "properties": {"type": {"type": "STRING", "nullable": True}}, "required": ["type"]}
    declarations = [{"name": "f", "description": "d", "parameters": schema}]
    tools = read(tools=[{"functionDeclarations": declarations}, {"googleSearch": {}}]).tools
    assert tools[0] == Tool(
        name="f",
        description="d",
        schema={"type": "object", "properties": {"type": {"type": ["string", "null"]}}, "required": ["type"]},
    )
    assert isinstance(tools[1], Opaque)
    assert tools[1].what == "googleSearch"


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        ({"mode": "AUTO"}, ToolChoice(mode="auto")),
        ({"mode": "NONE"}, ToolChoice(mode="none")),
        ({"mode": "ANY"}, ToolChoice(mode="required")),
        ({"mode": "ANY", "allowedFunctionNames": ["a", "b"]}, ToolChoice(mode="required", allowed=("a", "b"))),
        ({"mode": "VALIDATED"}, ToolChoice(mode="auto")),
        ({"mode": "MODE_UNSPECIFIED"}, ToolChoice()),
    ],
)
def test_t21_tool_choice(config: Any, choice: ToolChoice) -> None:
    assert read(toolConfig={"functionCallingConfig": config}).tool_choice == choice


def test_sampling_and_what_is_owned() -> None:
    conversation = read(
        generationConfig={
            "temperature": 0,
            "topP": 0.5,
            "topK": 40.0,
            "maxOutputTokens": 9,
            "stopSequences": ["x"],
            "candidateCount": 2,
            "seed": 7,
            "presencePenalty": 1,
            "frequencyPenalty": -1,
            "responseLogprobs": True,
            "logprobs": 3,
            "responseModalities": ["TEXT"],
            "speechConfig": {"a": 1},
        },
        safetySettings=[],
        cachedContent="cachedContents/1",
        toolConfig={"includeServerSideToolInvocations": True},
    )
    assert conversation.sampling == Sampling(
        temperature=0,
        top_p=0.5,
        top_k=40,
        max_tokens=9,
        stop=("x",),
        n=2,
        seed=7,
        presence_penalty=1,
        frequency_penalty=-1,
        logprobs=True,
        top_logprobs=3,
    )
    assert set(conversation.owned) == {
        "safetySettings",
        "cachedContent",
        "generationConfig.speechConfig",
        "toolConfig.includeServerSideToolInvocations",
    }


@pytest.mark.parametrize(
    ("config", "reasoning"),
    [
        ({"thinkingBudget": 0}, Reasoning(enabled=False)),
        ({"thinkingBudget": -1}, Reasoning(enabled=True, adaptive=True)),
        ({"thinkingBudget": 512, "includeThoughts": True}, Reasoning(enabled=True, budget=512, summary=True)),
        ({"thinkingLevel": "HIGH", "includeThoughts": False}, Reasoning(enabled=True, effort="high", summary=False)),
        ({"includeThoughts": True}, Reasoning(enabled=True, adaptive=True, summary=True)),
        ({}, Reasoning()),
    ],
)
def test_thinking(config: Any, reasoning: Reasoning) -> None:
    assert read(generationConfig={"thinkingConfig": config}).reasoning == reasoning


def test_output_format() -> None:
    json_ = {"responseMimeType": "application/json"}
    assert read(generationConfig=json_).output == OutputFormat(kind="json_object")
    both = read(generationConfig={**json_, "responseSchema": {"type": "STRING", "title": "T"}}).output
    assert both == OutputFormat(kind="json_schema", schema={"type": "string", "title": "T"}, name="T")
    assert read(generationConfig={"responseMimeType": "text/plain"}).output is None
    enum = read(generationConfig={"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING"}})
    assert enum.output is None
    assert "generationConfig.responseMimeType" in enum.owned


def test_another_vendors_reasoning_comes_back_whole_and_never_reaches_google() -> None:
    """A streaming client replays the thought in pieces; the signature belongs to all of them (T52, T55)."""
    signature = wrap(Hidden("anthropic_messages", "sig")).replace("+", "-").replace("/", "_")
    contents = [
        USER,
        {"role": "model", "parts": [{"text": "I ", "thought": True}]},
        {"role": "model", "parts": [{"text": "think", "thought": True}]},
        {"role": "model", "parts": [{"text": "", "thought": True, "thoughtSignature": signature}, {"text": "so"}]},
        USER,
    ]
    conversation = read(contents=contents)
    assert conversation.messages[1:2] == (
        Message(
            role="assistant",
            parts=(Thinking(text="I think", signature="sig", origin="anthropic_messages"), Text(text="so")),
        ),
    )
    body = PROTOCOL.write_request(conversation, TARGET, Notes()).body
    assert body["contents"] == [USER, {"role": "model", "parts": [{"text": "so"}]}, USER]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"contents": None}, "contents"),
        ({"contents": 3}, "contents[0]"),
        ({"contents": [{"role": "robot", "parts": []}]}, "contents[0].role"),
        ({"contents": [{"parts": [3]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": [{"text": 3}]}]}, "contents[0].parts[0].text"),
        ({"contents": [{"parts": [{"functionCall": {}}]}]}, "contents[0].parts[0].functionCall.name"),
        (
            {"contents": [{"parts": [{"functionCall": {"name": "f", "args": []}}]}]},
            "contents[0].parts[0].functionCall.args",
        ),
        ({"generationConfig": []}, "generationConfig"),
        ({"generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        ({"generationConfig": {"topK": 1.5}}, "generationConfig.topK"),
        ({"generationConfig": {"maxOutputTokens": True}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"temperature": "NaN"}}, "generationConfig.temperature"),
        ({"generationConfig": {"stopSequences": [1]}}, "generationConfig.stopSequences"),
        ({"tools": [3]}, "tools[0]"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
        ({"toolConfig": "x"}, "toolConfig"),
    ],
)
def test_wrong_types_are_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**body)
    assert caught.value.param == param


KEYS = st.sampled_from([
    "contents", "tools", "toolConfig", "generationConfig", "systemInstruction", "parts", "role", "text", "name", "args",
    "functionCall", "functionResponse", "inlineData", "fileData", "thought", "thoughtSignature", "response", "data",
    "functionDeclarations", "parameters", "mode", "type", "functionCallingConfig", "thinkingConfig", "responseSchema",
])  # fmt: skip
ODD = st.sampled_from([None, True, 0, -1.5, "", "x", "AAAA", "model", "STRING", [], {}])
BODIES = st.dictionaries(
    KEYS,
    st.recursive(
        ODD, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
    ),
    max_size=4,
)


@settings(deadline=None)
@given(BODIES)
def test_no_body_does_more_than_be_refused(odd: dict[str, Any]) -> None:
    for body in (
        {"contents": [], **odd},
        {"contents": [{"parts": [odd]}]},
        {"contents": [USER], "tools": [odd]},
        {"contents": [USER], "generationConfig": odd},
    ):
        try:
            conversation = PROTOCOL.read_request(body, CALL)
        except BadRequest:
            continue
        assert PROTOCOL.write_request(conversation, TARGET, Notes()).body == body


def test_counting_takes_both_forms() -> None:
    call = Call(NAME, "count_tokens", "/v1beta/models/g:countTokens", model="g")
    plain = {"contents": [USER]}
    wrapped = {"generateContentRequest": {"model": "models/g", "systemInstruction": {"parts": []}, **plain}}
    for body in (plain, wrapped):
        conversation = PROTOCOL.read_request(body, call)
        assert conversation.messages == (Message(role="user", parts=(Text(text="hi"),)),)
        sent = PROTOCOL.write_count_request(conversation, TARGET, Notes())
        assert (sent.path, sent.body) == ("/models/g:countTokens", body)
    foreign = Conversation(model="m", messages=(Message(role="user", parts=(Text(text="hi"),)),))
    sent = PROTOCOL.write_count_request(foreign, TARGET, Notes())
    assert sent.body == {"generateContentRequest": {"model": "models/g", "contents": [USER]}}
    assert PROTOCOL.read_count(PROTOCOL.write_count(7)) == 7
    assert PROTOCOL.read_count([]) is None


def test_t92_errors_keep_status_and_words() -> None:
    assert PROTOCOL.write_error(NotFound("no such model")) == {
        "error": {"code": 404, "message": "no such model", "status": "NOT_FOUND"}
    }
    assert PROTOCOL.write_error(BadRequest("x", status=418))["error"]["status"] == "INVALID_ARGUMENT"
    assert PROTOCOL.write_error(UpstreamError("x", status=529))["error"]["status"] == "UNAVAILABLE"
    inner = {"code": 503, "message": "overloaded", "status": "UNAVAILABLE", "details": [{"reason": "r"}]}
    for body in ({"error": inner}, [{"error": inner}]):
        error = PROTOCOL.read_error(503, {}, json.dumps(body).encode())
        assert (error.message, error.status, error.kind) == ("overloaded", 503, "UNAVAILABLE")
        assert PROTOCOL.write_error(error) == {"error": inner}


def test_the_reason_of_an_error_is_its_code() -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    error = PROTOCOL.read_error(400, {}, json.dumps({"error": {"message": "m", "details": [3, detail]}}).encode())
    assert (error.status, error.code) == (400, "API_KEY_INVALID")


def test_t91_retry_info_becomes_a_header() -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}
    body = json.dumps({"error": {"message": "quota", "details": [detail]}}).encode()
    assert PROTOCOL.read_error(429, {}, body).headers == (("retry-after", "35"),)
    assert PROTOCOL.read_error(429, {"Retry-After": "9", "Server": "x"}, body).headers == (("retry-after", "9"),)


@pytest.mark.parametrize(("body", "message"), [(b"<html>oops", "<html>oops"), (b'{"error":"no"}', "no"), (b"[]", "[]")])
def test_errors_that_are_no_error_objects(body: bytes, message: str) -> None:
    assert PROTOCOL.read_error(500, {}, body).message == message
    assert PROTOCOL.read_error(500, {}, b"").message != ""


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_reading_an_error_raise(body: bytes) -> None:
    assert PROTOCOL.read_error(500, {}, body).status == 500


def test_t102_model_lists() -> None:
    written = PROTOCOL.write_models([ModelEntry("m", "M", context=10, max_output=5), ModelEntry("b:x")])
    assert written["models"][0] == {
        "name": "models/m",
        "version": "001",
        "displayName": "M",
        "inputTokenLimit": 10,
        "outputTokenLimit": 5,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
    [first, second] = PROTOCOL.read_models(written)
    assert (first.id, first.name, first.context, first.max_output, second.id) == ("m", "M", 10, 5, "b:x")
    raw = {"name": "models/g", "thinking": True}
    [entry] = PROTOCOL.read_models({"models": [raw, {"no": "name"}, 3]})
    assert PROTOCOL.write_model(entry) == raw
    assert PROTOCOL.read_models("x") == []


def test_the_key_goes_in_googles_header() -> None:
    assert PROTOCOL.credentials("k") == {"x-goog-api-key": "k"}
