"""Conversations of other protocols as Anthropic's requests: legal form, mapped settings, what is noted or refused."""

from typing import Any

import pytest

from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
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
from llm_interactive.protocols.anthropic_messages import NAME, PROTOCOL
from llm_interactive.protocols.anthropic_messages_request import short_name
from llm_interactive.protocols.base import ModelFacts, Notes, Target, WireRequest

BUDGET = ModelFacts(reasoning="budget", max_output=64000, one_of=("temperature", "top_p"))
ADAPTIVE = ModelFacts(
    reasoning="adaptive",
    max_output=128000,
    efforts=("low", "medium", "high", "max"),
    prefill=False,
    mid_system=True,
    refuses=frozenset({"temperature", "top_p", "top_k"}),
)
SEARCH = Opaque(what="web_search_preview", source=Source("openai_responses", {"type": "web_search_preview"}))
FILES = Opaque(what="file_search", source=Source("openai_responses", {"type": "file_search"}))
F = Tool(name="f", schema={"type": "object", "properties": {"a": {}}})


def say(role: Role, *parts: Part | str) -> Message:
    return Message(role=role, parts=tuple(Text(text=part) if isinstance(part, str) else part for part in parts))


def request(
    *messages: Message, facts: ModelFacts = BUDGET, vendor: str = "anthropic", **fields: Any
) -> tuple[WireRequest, list[str]]:
    notes = Notes()
    conversation = Conversation(model="m", messages=messages, source=Source("openai_chat", {}), **fields)
    return PROTOCOL.write_request(conversation, Target(vendor, "claude", vendor, facts), notes), list(notes)


def body(*messages: Message, **fields: Any) -> dict[str, Any]:
    return request(*(messages or (say("user", "hi"),)), **fields)[0].body


def history(*messages: Message, **fields: Any) -> list[Any]:
    found: list[Any] = body(*messages, **fields)["messages"]
    return found


def call(id_: str = "c1", arguments: str = "{}", name: str = "f") -> ToolCall:
    return ToolCall(id=id_, name=name, arguments=arguments)


def result(id_: str = "c1", *parts: Part | str, is_error: bool = False) -> ToolResult:
    return ToolResult(call_id=id_, parts=say("tool", *parts).parts, is_error=is_error)


def wire_call(id_: str = "c1", **input_: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": "f", "input": input_}


def wire_result(id_: str = "c1", content: Any = "done") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, "content": content}


def test_a_whole_request() -> None:
    written, notes = request(
        say("system", "rules"),
        say("user", "hi"),
        tools=(F,),
        tool_choice=ToolChoice(mode="required", parallel=False),
        sampling=Sampling(max_tokens=100, temperature=0.5, stop=("x",)),
        stream=True,
        user="u",
    )
    assert written.body == {
        "max_tokens": 100,
        "temperature": 0.5,
        "stop_sequences": ["x"],
        "system": "rules",
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {"a": {}}}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "metadata": {"user_id": "u"},
        "stream": True,
        "model": "claude",
    }
    assert (written.path, written.headers, notes) == ("/messages", {"anthropic-version": "2023-06-01"}, [])


@pytest.mark.parametrize(
    ("arguments", "input_"),
    [
        ("", {}),
        ("  ", {}),
        ('{"a": 1}', {"a": 1}),
        ("{broken", {"_raw": "{broken"}),
        ("[1]", {"_raw": "[1]"}),
        ('"text"', {"_raw": '"text"'}),
    ],
)
def test_t1_t3_inputs_are_objects(arguments: str, input_: Any) -> None:
    messages = history(say("user", "q"), say("assistant", call("c1", arguments)), say("tool", result("c1", "done")))
    assert messages[1]["content"] == [wire_call("c1", **input_)]


def test_t6_t8_results_in_one_turn_before_text() -> None:
    assert history(
        say("user", "q"),
        say("assistant", "let me see", call("c1"), call("c2")),
        say("tool", result("c2", "two")),
        say("tool", result("c1", "one")),
        say("user", "and now?"),
    ) == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [{"type": "text", "text": "let me see"}, wire_call("c1"), wire_call("c2")]},
        {
            "role": "user",
            "content": [wire_result("c2", "two"), wire_result("c1", "one"), {"type": "text", "text": "and now?"}],
        },
    ]


def test_calls_and_results_that_lost_each_other() -> None:
    written, notes = request(
        say("tool", result("lost", "orphan")),
        say("assistant", call("c1"), call("c2")),
        say("tool", result("c1", "done"), result("c1", "again")),
        say("assistant", call("c3")),
    )
    assert written.body["messages"] == [
        {"role": "user", "content": "orphan"},
        {"role": "assistant", "content": [wire_call("c1"), wire_call("c2")]},
        {
            "role": "user",
            "content": [
                wire_result("c1"),
                wire_result("c2", "(no result was recorded)"),
                {"type": "text", "text": "again"},
            ],
        },
        {"role": "assistant", "content": [wire_call("c3")]},
        {"role": "user", "content": [wire_result("c3", "(no result was recorded)")]},
    ]
    assert notes == [
        "a tool result without its call: sent as the user's words",
        "a tool call without its result: sent with a stand-in",
    ]


def test_t13_ids_become_legal_and_unique() -> None:
    messages = history(
        say("user", "q"),
        say("assistant", call("c:1")),
        say("tool", result("c:1", "one")),
        say("assistant", call("c:1")),
        say("tool", result("c:1", "two")),
    )
    ids = [messages[i]["content"][0]["id"] for i in (1, 3)]
    assert [messages[i]["content"][0]["tool_use_id"] for i in (2, 4)] == ids
    assert len(set(ids)) == 2
    assert all(set(id_) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") for id_ in ids)


def test_t19_names_are_shortened_and_mapped_back() -> None:
    long = "mcp.server/" + "x" * 200
    written, _ = request(
        say("user", "q"),
        say("assistant", call(name=long)),
        say("tool", result("c1", "done")),
        tools=(Tool(name=long),),
        tool_choice=ToolChoice(mode="named", name=long),
    )
    short = short_name(long)
    assert written.tool_names == {short: long}
    assert len(short) == 128
    assert written.body["tools"][0]["name"] == written.body["tool_choice"]["name"] == short
    assert written.body["messages"][1]["content"][0]["name"] == short
    assert short_name(long + "y") != short
    assert short_name("x" * 128) == "x" * 128


def test_t22_choice_none_keeps_the_tools() -> None:
    written = body(tools=(F,), tool_choice=ToolChoice(mode="none", parallel=False))
    assert (written["tool_choice"], len(written["tools"])) == ({"type": "none"}, 1)


def test_tools_are_declared_where_only_the_history_has_calls() -> None:
    written = body(say("user", "q"), say("assistant", call()), say("tool", result("c1", "done")))
    assert written["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]
    assert written["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        (ToolChoice(mode="auto"), {"type": "auto"}),
        (ToolChoice(mode="required"), {"type": "any"}),
        (ToolChoice(mode="named", name="f"), {"type": "tool", "name": "f"}),
        (ToolChoice(parallel=False), {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice(parallel=True), None),
    ],
)
def test_t21_tool_choice(choice: ToolChoice, wire: Any) -> None:
    assert body(tools=(F,), tool_choice=choice).get("tool_choice") == wire
    assert "tool_choice" not in body(tool_choice=choice)


def test_allowed_tools_are_the_only_ones_sent() -> None:
    choice = ToolChoice(mode="required", allowed=("f",))
    written = body(tools=(F, Tool(name="g")), tool_choice=choice)
    assert ([tool["name"] for tool in written["tools"]], written["tool_choice"]) == (["f"], {"type": "any"})


def test_t23_t24_results_with_pictures_and_errors() -> None:
    picture = Media(kind="image", data="iVBORw0KGgo=", media_type="image/jpeg")
    sound = Media(kind="audio", data="AA")
    messages = history(
        say("user", "q"),
        say("assistant", call("c1"), call("c2")),
        say("tool", result("c1", "see", picture, sound), result("c2", is_error=True)),
    )
    assert messages[2]["content"] == [
        wire_result(
            "c1",
            [
                {"type": "text", "text": "see"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {"type": "text", "text": "(audio that cannot be shown)"},
            ],
        ),
        {"type": "tool_result", "tool_use_id": "c2", "is_error": True},
    ]


def test_t25_server_tools_of_others() -> None:
    written, notes = request(say("user", "q"), tools=(SEARCH, FILES, F))
    assert [tool["name"] for tool in written.body["tools"]] == ["web_search", "f"]
    assert written.body["tools"][0] == {"type": "web_search_20250305", "name": "web_search"}
    assert notes == ["tool file_search: not sent, only its own provider runs it"]
    for tools, vendor in [((FILES,), "anthropic"), ((SEARCH,), "zai")]:
        with pytest.raises(CannotExpress) as caught:
            request(say("user", "q"), tools=tools, vendor=vendor)
        assert caught.value.param == "tools"


def test_custom_tools_become_functions_with_one_string() -> None:
    tool = Tool(name="f", description="d", custom=True, format={"type": "grammar", "definition": "start: WORD"})
    free = ToolCall(id="c1", name="f", arguments="free text", custom=True)
    written = body(say("user", "q"), say("assistant", free), say("tool", result("c1", "done")), tools=(tool,))
    assert written["tools"][0]["description"] == "d\n\nstart: WORD"
    assert written["tools"][0]["input_schema"]["required"] == ["input"]
    assert written["messages"][1]["content"] == [wire_call("c1", input="free text")]


def test_tool_schemas_are_objects() -> None:
    def written(schema: Any) -> Any:
        return body(tools=(Tool(name="f", schema=schema),))["tools"][0]["input_schema"]

    assert written(None) == {"type": "object", "properties": {}}
    assert written({"properties": {}}) == {"type": "object", "properties": {}}
    either = {"type": "object", "anyOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}
    assert written(either) == {"type": "object", "properties": {"a": {}, "b": {}}}


def test_t28_marks_of_others_are_not_sent() -> None:
    source = Source("openai_chat", {"function": {"strict": True}, "defer_loading": True})
    written, notes = request(say("user", "q"), tools=(Tool(name="f", strict=True, source=source),))
    assert written.body["tools"][0].keys() == {"name", "input_schema"}
    assert notes == ["strict: not sent, Anthropic's takes only a part of JSON Schema"]


def test_t29_t31_instructions_are_collected_or_stay() -> None:
    messages = (
        say("system", "one"), say("developer", "two"), say("user", "q"), say("assistant", call()),
        say("system", "three"), say("tool", result("c1", "done")), say("assistant", "a"), say("developer", "four"),
        say("user", "more"),
    )  # fmt: skip
    assert body(*messages, system=(Text(text="zero"),))["system"] == "zero\n\none\n\ntwo\n\nthree\n\nfour"
    written = body(*messages, facts=ADAPTIVE)
    assert written["system"] == "one\n\ntwo"
    assert [(m["role"], m["content"]) for m in written["messages"] if isinstance(m["content"], str)] == [
        ("user", "q"), ("system", "three"), ("assistant", "a"), ("user", "more"), ("system", "four"),
    ]  # fmt: skip
    assert [m["role"] for m in written["messages"]][1:4] == ["assistant", "user", "system"]
    last = history(say("user", "q"), say("assistant", "a"), say("system", "late"), facts=ADAPTIVE)
    assert last[-1] == {"role": "user", "content": "late"}


def test_t31_nobody_has_said_anything() -> None:
    written, notes = request(say("system", "rules"))
    assert (written.body["system"], written.body["messages"]) == ("rules", [{"role": "user", "content": "Begin."}])
    assert notes == ["messages: there were none, so a user's turn was made up"]


def test_t32_turns_of_one_side_are_put_together() -> None:
    assert history(say("user", "a"), say("user", "b"), say("assistant", "c"), say("assistant", call())) [:2] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "c"}, wire_call()]},
    ]  # fmt: skip


def test_t33_t35_prefill() -> None:
    turns = (say("user", "q"), say("assistant", "The answer is \n"))
    assert history(*turns)[-1] == {"role": "assistant", "content": "The answer is"}
    assert history(*turns, facts=ADAPTIVE)[-2:] == [
        {"role": "assistant", "content": "The answer is \n"},
        {"role": "user", "content": "Continue."},
    ]


def test_t34_empty_texts_are_dropped() -> None:
    messages = history(say("user", "", " \n", "q"), say("assistant", ""), say("user", "more", Text(text="")))
    assert messages == [{"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "more"}]}]


def test_t36_t55_only_anthropics_own_reasoning_goes_back() -> None:
    own = Thinking(text="t", signature="sig", origin=NAME)
    written, notes = request(
        say("user", own, "q"),
        say(
            "assistant",
            own,
            Thinking(signature="only", origin=NAME),
            Thinking(redacted="data", origin=NAME),
            Thinking(text="theirs", signature="x", origin="gemini"),
            Thinking(text="unsigned", origin=NAME),
            call(),
        ),
        say("tool", result("c1", "done")),
    )
    assert written.body["messages"][0]["content"] == "q"
    assert written.body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "t", "signature": "sig"},
        {"type": "thinking", "thinking": "", "signature": "only"},
        {"type": "redacted_thinking", "data": "data"},
        wire_call(),
    ]
    assert notes[0] == "reasoning of earlier turns: not sent, another vendor signed it or nobody"


@pytest.mark.parametrize(
    ("media", "block"),
    [
        (
            Media(kind="image", data="/9j/", media_type="image/png"),
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}},
        ),
        (
            Media(kind="image", data="AA", media_type="image/jpg"),
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA"}},
        ),
        (
            Media(kind="image", url="https://a/b.png"),
            {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
        ),
        (
            Media(kind="document", data="JVBERi", name="n.pdf"),
            {
                "type": "document",
                "source": {"type": "base64", "data": "JVBERi", "media_type": "application/pdf"},
                "title": "n.pdf",
            },
        ),
        (
            Media(kind="document", url="http://a/b.pdf"),
            {"type": "document", "source": {"type": "url", "url": "http://a/b.pdf"}},
        ),
        (
            Media(kind="document", text="words"),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        ),
        (
            Media(kind="document", data="d29yZHM=", media_type="text/markdown; charset=utf-8"),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        ),
        (
            Media(kind="image", file_id="file_1", origin=NAME),
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        ),
    ],
)
def test_t37_t41_media(media: Media, block: Any) -> None:
    assert history(say("user", media)) == [{"role": "user", "content": [block]}]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (Media(kind="audio", data="AA"), "audio"),
        (Media(kind="video", url="https://a"), "video"),
        (Media(kind="image", url="gs://bucket/x"), "url"),
        (Media(kind="document", file_id="file-1", origin="openai_responses"), "file_id"),
        (Media(kind="document", data="AA", media_type="application/msword"), "media_type"),
        (Opaque(what="thing", source=Source("gemini", {})), "thing"),
    ],
)
def test_what_anthropic_takes_in_no_form_is_refused(part: Part, param: str) -> None:
    with pytest.raises(CannotExpress) as caught:
        request(say("user", part))
    assert caught.value.param == param


def test_what_only_its_owner_can_say_is_noted_in_history() -> None:
    picture = Media(kind="image", data="AA", media_type="image/png")
    opaque = Opaque(what="reasoning_item", source=Source("openai_responses", {}))
    written, notes = request(
        say("user", "q"), say("assistant", "a", picture, opaque, Refusal(text="no")), say("user", "b")
    )
    assert written.body["messages"][1]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "no"}]
    assert notes == [
        "image in an assistant's turn: not sent, Anthropic takes it from users only",
        "reasoning_item in history: not sent, only its own protocol can say it",
    ]


def test_t49_structured_output() -> None:
    schema = {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer", "minimum": 1},
            "name": {"type": "string", "format": "phone", "nullable": True},
            "either": {"oneOf": [{"type": "object", "properties": {}}, {"type": "string", "format": "date"}]},
            "list": {"type": "array", "items": {"type": "string", "pattern": "x"}, "minItems": 3},
        },
        "required": ["minimum"],
    }
    output = OutputFormat(kind="json_schema", schema=schema, name="n", strict=True)
    assert body(output=output)["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {
                    "minimum": {"type": "integer"},
                    "name": {"type": ["string", "null"]},
                    "either": {
                        "anyOf": [
                            {"type": "object", "properties": {}, "additionalProperties": False},
                            {"type": "string", "format": "date"},
                        ]
                    },
                    "list": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["minimum"],
                "additionalProperties": False,
            },
        }
    }


def test_json_without_a_schema_is_asked_for_in_words_once() -> None:
    output = OutputFormat(kind="json_object")
    assert "JSON" in body(output=output)["system"]
    assert "system" not in body(say("user", "Answer in json"), output=output)
    assert "system" not in body(output=OutputFormat(kind="text"))


def test_t62_t64_sampling() -> None:
    sampling = Sampling(temperature=1.5, top_p=0.5, top_k=3, seed=1, logit_bias={"1": 2}, n=2, stop=(" ", "x"))
    written, notes = request(say("user", "q"), sampling=sampling)
    assert {key: written.body.get(key) for key in ("temperature", "top_p", "top_k", "stop_sequences")} == {
        "temperature": 1,
        "top_p": None,
        "top_k": 3,
        "stop_sequences": ["x"],
    }
    assert [note.split()[0].rstrip(":") for note in notes] == [
        "top_p",
        "temperature",
        "stop",
        "seed",
        "logit_bias",
        "n",
    ]
    refused, notes = request(say("user", "q"), sampling=Sampling(temperature=0, top_p=0.5), facts=ADAPTIVE)
    assert {"temperature", "top_p"}.isdisjoint(refused.body)
    assert notes == ["temperature: not sent, claude refuses it", "top_p: not sent, claude refuses it"]


def test_t65_max_tokens_is_always_said() -> None:
    assert body()["max_tokens"] == 64000
    assert body(facts=ModelFacts())["max_tokens"] == 8192
    assert body(sampling=Sampling(max_tokens=99999))["max_tokens"] == 64000


@pytest.mark.parametrize(
    ("reasoning", "max_tokens", "thinking", "most"),
    [
        (Reasoning(enabled=True, effort="low"), None, 2048, 64000),
        (Reasoning(enabled=True, effort="high"), 10000, 5000, 10000),
        (Reasoning(enabled=True, effort="high"), 500, 1024, 1524),
        (Reasoning(enabled=True, budget=3000), 2500, 1250, 2500),
        (Reasoning(enabled=True, budget=100), None, 1024, 64000),
        (Reasoning(enabled=True, budget=-1), None, 8192, 64000),
    ],
)
def test_t59_budgets_stay_below_max_tokens(
    reasoning: Reasoning, max_tokens: int | None, thinking: int, most: int
) -> None:
    written = body(reasoning=reasoning, sampling=Sampling(max_tokens=max_tokens))
    assert written["thinking"] == {"type": "enabled", "budget_tokens": thinking}
    assert written["max_tokens"] == most


def test_t59_a_small_default_is_raised_by_a_large_budget() -> None:
    written = body(reasoning=Reasoning(enabled=True, budget=20000), facts=ModelFacts())
    assert (written["thinking"]["budget_tokens"], written["max_tokens"]) == (20000, 28192)


@pytest.mark.parametrize(
    ("reasoning", "thinking", "effort"),
    [
        (Reasoning(enabled=True, effort="minimal"), "adaptive", "low"),
        (Reasoning(enabled=True, effort="xhigh"), "adaptive", "high"),
        (Reasoning(enabled=True, budget=9000), "adaptive", "medium"),
        (Reasoning(effort="high"), "adaptive", "high"),
        (Reasoning(enabled=True), "adaptive", None),
        (Reasoning(enabled=False, effort="none"), "disabled", None),
        (Reasoning(), None, None),
    ],
)
def test_t60_adaptive_thinking_with_effort(reasoning: Reasoning, thinking: str | None, effort: str | None) -> None:
    written = body(reasoning=reasoning, facts=ADAPTIVE)
    assert written.get("thinking", {}).get("type") == thinking
    assert written.get("output_config", {}).get("effort") == effort


def test_models_that_cannot_think_or_cannot_stop_thinking() -> None:
    thinks, stops = Reasoning(enabled=True), Reasoning(enabled=False)
    assert "thinking" not in body(reasoning=thinks, facts=ModelFacts(reasoning="none"))
    always = ModelFacts(reasoning="adaptive", can_disable_reasoning=False)
    assert "thinking" not in body(reasoning=stops, facts=always)
    between = ModelFacts(reasoning="adaptive", reasoning_off="between_tools")
    assert body(reasoning=stops, facts=between)["thinking"] == {"type": "between_tools"}


def test_t20_t64_what_cannot_go_with_thinking() -> None:
    fields: dict[str, Any] = {
        "tools": (F,),
        "tool_choice": ToolChoice(mode="required", parallel=False),
        "reasoning": Reasoning(enabled=True),
    }
    written, notes = request(say("user", "q"), sampling=Sampling(temperature=0.2, top_k=2), **fields)
    assert written.body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert {"temperature", "top_k"}.isdisjoint(written.body)
    assert len(notes) == 3
    assert body(facts=ADAPTIVE, **fields)["tool_choice"]["type"] == "any"
    assert "top_p" not in body(sampling=Sampling(top_p=0.5), reasoning=Reasoning(enabled=True))


def test_t52_a_turn_that_came_without_its_thinking_goes_on_without() -> None:
    turns = (say("user", "q"), say("assistant", call()), say("tool", result("c1", "done")))
    thinks = Reasoning(enabled=True)
    assert "thinking" not in body(*turns, reasoning=thinks, vendor="zai")
    assert "thinking" in body(*turns, reasoning=thinks)  # Anthropic does the same by itself
    assert "thinking" in body(*turns, say("assistant", "a"), say("user", "b"), reasoning=thinks, vendor="zai")


def test_t69_t96_fields_of_others() -> None:
    owned = {"seed_bias": 1, "logprobs_mode": None}
    _, notes = request(say("user", "q"), owned=owned, metadata={"a": "b"})
    assert notes == [
        "seed_bias: not sent, Anthropic has no such field",
        "metadata: not sent, Anthropic takes a user's id only",
    ]
    with pytest.raises(CannotExpress) as caught:
        request(say("user", "q"), owned={"previous_response_id": "resp_1"})
    assert caught.value.param == "previous_response_id"


def test_counting_another_protocols_conversation() -> None:
    conversation = Conversation(model="m", messages=(say("user", "q"),), tools=(F,), source=Source("openai_chat", {}))
    written = PROTOCOL.write_count_request(conversation, Target("anthropic", "claude", "anthropic", BUDGET), Notes())
    assert written.path == "/messages/count_tokens"
    assert written.body.keys() == {"model", "messages", "tools"}
