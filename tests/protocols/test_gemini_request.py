"""Conversations of other protocols as Gemini takes them."""

import json
import re
from typing import Any

import pytest
from google.genai import types

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
from llm_interactive.errors import CannotExpress
from llm_interactive.protocols.base import ModelFacts, Notes, Target
from llm_interactive.protocols.gemini import CAPABILITIES, NAME, PROTOCOL

OLD = Target("gemini", "gemini-2.5-flash", "gemini", ModelFacts(reasoning="budget", min_budget=0, max_budget=24576))
NEW = Target("gemini", "gemini-3-pro", "gemini", ModelFacts(reasoning="level", efforts=("low", "high")))
ELSEWHERE = Target("vertex-like", "g", "elsewhere")
CALL = ToolCall(id="c1", name="f", arguments='{"a":1}')
SCHEMA = {"type": "object", "properties": {"a": {"type": ["integer", "null"]}}, "additionalProperties": False}


def user(*parts: Part) -> Message:
    return Message(role="user", parts=parts)


def model(*parts: Part) -> Message:
    return Message(role="assistant", parts=parts)


def result(*parts: Part, id: str = "c1", **more: Any) -> ToolResult:
    return ToolResult(call_id=id, parts=parts, **more)


HI = user(Text(text="hi"))


def written(*messages: Message, target: Target = OLD, notes: Notes | None = None, **fields: Any) -> Any:
    conversation = Conversation(model="m", messages=messages or (HI,), **fields)
    return PROTOCOL.write_request(conversation, target, notes or Notes()).body


def config(target: Target = OLD, notes: Notes | None = None, **fields: Any) -> Any:
    return written(target=target, notes=notes, **fields).get("generationConfig")


def test_path_says_model_and_stream() -> None:
    for stream, path, query in (
        (False, "/models/gemini-2.5-flash:generateContent", ""),
        (True, "/models/gemini-2.5-flash:streamGenerateContent", "alt=sse"),
    ):
        sent = PROTOCOL.write_request(Conversation(model="m", messages=(HI,), stream=stream), OLD, Notes())
        assert (sent.path, sent.query, dict(sent.headers)) == (path, query, {})
        assert sent.body == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def test_t78_an_array_is_asked_for_only_where_its_bytes_pass() -> None:
    from llm_interactive.protocols.base import Call

    call = Call(NAME, "generate", "", model="g", stream=True, array=True, headers={"x-goog-user-project": "p"})
    sent = PROTOCOL.write_request(PROTOCOL.read_request({"contents": []}, call), OLD, Notes())
    assert (sent.query, dict(sent.headers)) == ("", {"x-goog-user-project": "p"})


def test_t31_systems_are_one_instruction_and_leave_a_turn() -> None:
    notes = Notes()
    system = Message(role="system", parts=(Text(text="b"),))
    body = written(system, system=(Text(text="a"),), notes=notes)
    assert body == {
        "systemInstruction": {"parts": [{"text": "a"}, {"text": "b"}]},
        "contents": [{"role": "user", "parts": [{"text": " "}]}],
    }
    assert not list(notes)
    written(HI, Message(role="developer", parts=(Text(text="b"),)), notes=notes)
    assert "moved to the system instruction" in next(iter(notes))


def test_t32_t34_turns_alternate_and_nothing_is_empty() -> None:
    body = written(
        HI, user(Text(text="")), user(Text(text="there")), model(Text(text="")), model(Refusal(text="no")), HI
    )
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "hi"}, {"text": "there"}]},
        {"role": "model", "parts": [{"text": "no"}]},
        {"role": "user", "parts": [{"text": "hi"}]},
    ]


def test_t6_t8_t15_results_answer_the_calls_before_them_in_their_order() -> None:
    other = ToolCall(id="c2", name="g", arguments="")
    body = written(
        HI,
        model(Text(text="so"), CALL, other),
        Message(role="tool", parts=(result(Text(text='{"x":1}'), id="c2"),)),
        Message(role="tool", parts=(result(Text(text="1")),)),
        user(Text(text="and?")),
    )
    assert body["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "so"},
                {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
                {"functionCall": {"id": "c2", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "f", "response": {"result": "1"}}},
                {"functionResponse": {"id": "c2", "name": "g", "response": {"x": 1}}},
                {"text": "and?"},
            ],
        },
    ]


def test_a_cut_history_stays_legal() -> None:
    notes = Notes()
    body = written(user(result(Text(text="lost"), id="z")), model(CALL), HI, model(CALL), notes=notes)
    assert [list(part) for content in body["contents"] for part in content["parts"]] == [
        ["text"],
        ["functionCall"],
        ["functionResponse"],
        ["text"],
        ["functionCall"],
        ["functionResponse"],
    ]
    assert len(list(notes)) == 2
    assert [content["role"] for content in written(model(CALL))["contents"]] == ["user", "model", "user"]


def test_t24_an_error_result_says_so() -> None:
    for text, response in (
        ("bad", {"error": "bad"}),
        ('{"error":"bad"}', {"error": "bad"}),
        ('{"a":1}', {"error": '{"a":1}'}),
    ):
        body = written(HI, model(CALL), user(result(Text(text=text), is_error=True)))
        assert body["contents"][2]["parts"][0]["functionResponse"]["response"] == response


def test_t23_pictures_of_results_go_inside_or_beside() -> None:
    picture = Media(kind="image", media_type="image/png", data="AAAA")
    inline = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    said = (HI, model(CALL), user(result(Text(text="see"), picture)))
    [answer] = written(*said, target=NEW)["contents"][2]["parts"]
    assert answer["functionResponse"]["parts"] == [inline]
    answer, beside = written(*said)["contents"][2]["parts"]
    assert "parts" not in answer["functionResponse"]
    assert beside == inline


@pytest.mark.parametrize("arguments", ["{bad", "[1]", '"text"'])
def test_t3_arguments_that_are_no_object_are_kept_as_text(arguments: str) -> None:
    body = written(HI, model(ToolCall(id="c", name="f", arguments=arguments)))
    assert body["contents"][1]["parts"][0]["functionCall"]["args"] == {"_raw": arguments}


@pytest.mark.parametrize(
    ("media", "part"),
    [
        (
            Media(kind="image", url="https://x/y.PNG?z=1"),
            {"fileData": {"fileUri": "https://x/y.PNG?z=1", "mimeType": "image/png"}},
        ),
        (Media(kind="image", url="https://x/y"), {"fileData": {"fileUri": "https://x/y", "mimeType": "image/jpeg"}}),
        (
            Media(kind="document", data="AA", name="a.pdf"),
            {"inlineData": {"mimeType": "application/pdf", "data": "AA=="}},
        ),
        (
            Media(kind="audio", media_type="audio/mp3", data="A_-A"),
            {"inlineData": {"mimeType": "audio/mp3", "data": "A/+A"}},
        ),
        (Media(kind="document", text="plain"), {"text": "plain"}),
        (Media(kind="video", file_id="files/x", origin=NAME), {"fileData": {"fileUri": "files/x"}}),
    ],
)
def test_t37_t38_t39_media(media: Media, part: Any) -> None:
    assert written(user(media))["contents"][0]["parts"] == [part]


def test_t41_foreign_file_ids_are_refused() -> None:
    with pytest.raises(CannotExpress) as caught:
        written(user(Media(kind="document", file_id="file-1", origin="openai_chat")))
    assert caught.value.param == "file_id"


def test_t36_t55_only_own_signatures_go_to_google() -> None:
    notes = Notes()
    body = written(
        HI,
        model(
            Thinking(text="mine", signature="AAAA", origin=NAME),
            Thinking(text="theirs", signature="sig", origin="anthropic_messages"),
            Thinking(text="odd", signature="n!", origin=NAME),
            Text(text="so"),
        ),
        HI,
        notes=notes,
    )
    assert body["contents"][1]["parts"] == [
        {"text": "mine", "thought": True, "thoughtSignature": "AAAA"},
        {"text": "so"},
    ]
    assert len(list(notes)) == 1


def test_t56_gemini_3_gets_a_signature_on_the_first_call_of_each_step() -> None:
    other = ToolCall(id="c2", name="g", arguments="")
    body = written(HI, model(CALL, other), target=NEW)
    assert [p.get("thoughtSignature") for p in body["contents"][1]["parts"]] == [
        "skip_thought_signature_validator",
        None,
    ]
    signed = ToolCall(id="c1", name="f", arguments="", signature="AAAA")
    body = written(HI, model(signed, other), target=NEW)
    assert [p.get("thoughtSignature") for p in body["contents"][1]["parts"]] == ["AAAA", None]
    body = written(HI, model(CALL))
    assert "thoughtSignature" not in body["contents"][1]["parts"][0]
    types.Content.model_validate(written(HI, model(CALL), target=NEW)["contents"][1])


def test_t19_names_that_gemini_refuses_are_changed_and_known_again() -> None:
    names = ("mcp server/tool", "9lives", "x" * 80, "fine", "a.b:c-d")
    calls = tuple(ToolCall(id=name, name=name, arguments="") for name in names)
    conversation = Conversation(
        model="m",
        messages=(HI, model(*calls)),
        tools=tuple(Tool(name=name) for name in names),
        tool_choice=ToolChoice(mode="named", name="9lives"),
    )
    sent = PROTOCOL.write_request(conversation, OLD, Notes())
    declared = [f["name"] for f in sent.body["tools"][0]["functionDeclarations"]]
    assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}", name) for name in declared)
    assert len(set(declared)) == len(names)
    assert [sent.tool_names.get(name, name) for name in declared] == list(names)
    assert declared[3:] == ["fine", "a.b:c-d"]
    assert [p["functionCall"]["name"] for p in sent.body["contents"][1]["parts"]] == declared
    assert [p["functionResponse"]["name"] for p in sent.body["contents"][2]["parts"]] == declared
    assert sent.body["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"] == [declared[1]]


def test_t42_schemas_go_as_json_schema_to_google_and_in_the_dialect_elsewhere() -> None:
    tool = Tool(name="f", description="d", schema=SCHEMA, strict=True)
    output = OutputFormat(kind="json_schema", schema=SCHEMA, name="n")
    body = written(tools=(tool, Tool(name="none", schema={"type": "object", "properties": {}})), output=output)
    assert body["tools"] == [
        {"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": SCHEMA}, {"name": "none"}]}
    ]
    assert body["generationConfig"] == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    body = written(tools=(tool,), output=output, target=ELSEWHERE)
    dialect = {"type": "OBJECT", "properties": {"a": {"type": "INTEGER", "nullable": True}}}
    assert body["tools"][0]["functionDeclarations"][0]["parameters"] == dialect
    assert body["generationConfig"]["responseSchema"] == dialect


def test_t51_plain_text_is_no_format() -> None:
    assert config(output=OutputFormat(kind="text")) is None
    assert config(output=OutputFormat(kind="json_object")) == {"responseMimeType": "application/json"}


def test_a_custom_tool_is_a_function_with_one_string() -> None:
    tool = Tool(name="patch", custom=True, format={"type": "grammar", "definition": "start: x"})
    call = ToolCall(id="c1", name="patch", arguments="free text", custom=True)
    body = written(HI, model(call), tools=(tool,))
    schema = body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]
    assert (list(schema["properties"]), schema["required"]) == (["input"], ["input"])
    assert "start: x" in schema["properties"]["input"]["description"]
    assert body["contents"][1]["parts"][0]["functionCall"]["args"] == {"input": "free text"}


def opaque(what: str) -> Opaque:
    return Opaque(what=what, source=Source("openai_responses", {"type": what}))


def test_t25_t27_search_is_googles_own_and_not_beside_functions_on_older_models() -> None:
    notes = Notes()
    search, function = opaque("web_search_20250305"), Tool(name="f")
    assert written(tools=(search,))["tools"] == [{"googleSearch": {}}]
    both = written(tools=(search, function), target=NEW)
    assert [list(tool) for tool in both["tools"]] == [["functionDeclarations"], ["googleSearch"]]
    assert both["toolConfig"] == {"includeServerSideToolInvocations": True}
    assert [list(tool) for tool in written(tools=(search, function), notes=notes)["tools"]] == [
        ["functionDeclarations"]
    ]
    written(tools=(opaque("computer"), function), notes=notes)
    assert len(list(notes)) == 2
    with pytest.raises(CannotExpress):
        written(tools=(opaque("computer"),))


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (ToolChoice(mode="auto"), {"mode": "AUTO"}),
        (ToolChoice(mode="none"), {"mode": "NONE"}),
        (ToolChoice(mode="required"), {"mode": "ANY"}),
        (ToolChoice(mode="named", name="f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (ToolChoice(mode="required", allowed=("f", "g")), {"mode": "ANY", "allowedFunctionNames": ["f", "g"]}),
        (ToolChoice(mode="auto", allowed=("f",)), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
    ],
)
def test_t21_t22_tool_choice(choice: ToolChoice, wanted: Any) -> None:
    body = written(tools=(Tool(name="f"), Tool(name="g")), tool_choice=choice)
    assert body["toolConfig"] == {"functionCallingConfig": wanted}
    assert len(body["tools"][0]["functionDeclarations"]) == 2
    assert "toolConfig" not in written(tool_choice=choice)


def test_t67_t68_sampling() -> None:
    notes = Notes()
    sampling = Sampling(
        temperature=0,
        top_p=0.5,
        top_k=4,
        max_tokens=99,
        stop=tuple("abcdef"),
        seed=2**40 + 5,
        frequency_penalty=1,
        presence_penalty=-1,
        n=2,
        logprobs=True,
        top_logprobs=3,
        logit_bias={"1": 2},
    )
    target = Target("gemini", "g", "gemini", ModelFacts(refuses=frozenset({"top_p"}), max_output=50))
    assert config(target, notes, sampling=sampling) == {
        "temperature": 0,
        "topK": 4,
        "maxOutputTokens": 50,
        "candidateCount": 2,
        "seed": 5,
        "presencePenalty": -1,
        "frequencyPenalty": 1,
        "responseLogprobs": True,
        "logprobs": 3,
        "stopSequences": list("abcde"),
    }
    assert [note.split()[0] for note in notes] == ["top_p:", "max_tokens", "logit_bias:", "stop:"]
    assert config(sampling=Sampling(n=1, logprobs=False, top_logprobs=0)) is None


FIXED = Target("gemini", "g", "gemini", ModelFacts(reasoning="budget", min_budget=128, can_disable_reasoning=False))
NONE = Target("gemini", "g", "gemini", ModelFacts(reasoning="none"))


@pytest.mark.parametrize(
    ("reasoning", "target", "wanted"),
    [
        (Reasoning(), OLD, None),
        (Reasoning(enabled=False), OLD, {"thinkingBudget": 0}),
        (Reasoning(enabled=False, effort="none"), OLD, {"thinkingBudget": 0}),
        (Reasoning(effort="low"), OLD, None),
        (Reasoning(enabled=False), FIXED, {"thinkingBudget": 128}),
        (Reasoning(enabled=True, effort="low"), OLD, {"thinkingBudget": 2048, "includeThoughts": True}),
        (Reasoning(enabled=True, effort="max", summary=False), OLD, {"thinkingBudget": 24576}),
        (Reasoning(enabled=True, budget=10**6), OLD, {"thinkingBudget": 24576, "includeThoughts": True}),
        (Reasoning(enabled=True, budget=5), FIXED, {"thinkingBudget": 128, "includeThoughts": True}),
        (Reasoning(enabled=True, adaptive=True), OLD, {"thinkingBudget": -1, "includeThoughts": True}),
        (Reasoning(effort="medium"), NEW, {"thinkingLevel": "LOW", "includeThoughts": True}),
        (Reasoning(effort="max"), NEW, {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (Reasoning(enabled=True, budget=20000), NEW, {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (Reasoning(enabled=True, adaptive=True), NEW, {"includeThoughts": True}),
        (Reasoning(enabled=False), NEW, {"thinkingLevel": "LOW"}),
        (Reasoning(effort="high"), NONE, None),
    ],
)
def test_t60_thinking_in_the_models_own_words(reasoning: Reasoning, target: Target, wanted: Any) -> None:
    assert (config(target, reasoning=reasoning) or {}).get("thinkingConfig") == wanted


def test_t59_a_budget_stays_below_max_tokens() -> None:
    sent = config(reasoning=Reasoning(enabled=True, budget=5000), sampling=Sampling(max_tokens=2000))
    assert sent["thinkingConfig"]["thinkingBudget"] == 1999


def test_t96_stored_state_is_refused_and_harmless_fields_are_noted() -> None:
    notes = Notes()
    owned = {"service_tier": "auto", "store": None, "previous_response_id": None}
    written(owned=owned, user="u", metadata={"a": "b"}, notes=notes)
    assert [note.partition(":")[0] for note in notes] == ["service_tier", "user", "metadata"]
    with pytest.raises(CannotExpress) as caught:
        written(owned={"previous_response_id": "resp_1"})
    assert caught.value.param == "previous_response_id"


def test_what_is_opaque_in_history_is_noted() -> None:
    notes = Notes()
    assert written(HI, model(opaque("web_search_call")), HI, notes=notes)["contents"] == [
        {"role": "user", "parts": [{"text": "hi"}, {"text": "hi"}]}
    ]
    assert "web_search_call" in next(iter(notes))


def test_every_request_is_one_the_sdk_takes() -> None:
    body = written(
        user(Text(text="a"), Media(kind="image", url="https://x/y.png")),
        model(Thinking(text="t", signature="AAAA", origin=NAME), CALL),
        user(result(Media(kind="image", data="AAAA"))),
        target=NEW,
        tools=(Tool(name="f", schema=SCHEMA), opaque("web_search")),
        tool_choice=ToolChoice(mode="required"),
        sampling=Sampling(temperature=1, stop=("x",), logprobs=True),
        reasoning=Reasoning(effort="high"),
        output=OutputFormat(kind="json_schema", schema=SCHEMA),
    )
    for content in body["contents"]:
        types.Content.model_validate_json(json.dumps(content))
    for tool in body["tools"]:
        types.Tool.model_validate(tool)
    types.ToolConfig.model_validate(body["toolConfig"])
    types.GenerationConfig.model_validate(body["generationConfig"])


def test_capabilities_have_the_features_of_other_protocols() -> None:
    from llm_interactive.protocols import openai_chat

    assert CAPABILITIES.keys() == openai_chat.CAPABILITIES.keys()
