import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from contracts import recorded
from kit import corpus

from llm_interactive.config_file import SAMPLING as FILES_SAMPLING
from llm_interactive.config_file import OwnFacts
from llm_interactive.conversation import Sampling
from llm_interactive.errors import BadRequest
from llm_interactive.models import LIMITS, ROWS, Row, combine, facts, plain_name, vendor_of
from llm_interactive.protocols import NAMES, named
from llm_interactive.protocols.base import ModelFacts, Notes, Target

ROOT = Path(__file__).resolve().parent.parent
SAMPLING = {field.name for field in dataclasses.fields(Sampling)} - {"source"}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@pytest.mark.parametrize(
    ("spelled", "plain"),
    [
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("anthropic/claude-opus-4.7", "claude-opus-4-7"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("claude-opus-4-1@20250805", "claude-opus-4-1"),
        ("claude-3-7-sonnet-latest", "claude-sonnet-3-7"),
        ("anthropic/claude-4.6-opus", "claude-opus-4-6"),
        ("claude-opus-5[1m]", "claude-opus-5"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("gpt-5.2-2025-12-11", "gpt-5.2"),
        ("ft:gpt-4o-mini-2024-07-18:org:name:id", "gpt-4o-mini"),
        ("deepseek/deepseek-v4-pro:free", "deepseek-v4-pro"),
        ("accounts/fireworks/models/kimi-k3", "kimi-k3"),
        ("GLM-5.3", "glm-5.3"),
        ("qwen3:8b", "qwen3"),
        ("  o3-mini ", "o3-mini"),
        ("", ""),
    ],
)
def test_one_model_has_one_name_wherever_it_is_served(spelled: str, plain: str) -> None:
    assert plain_name(spelled) == plain


def test_a_person_knows_better() -> None:
    own = {
        "llava*": OwnFacts(images=True, reasoning="none"),
        "local:*": OwnFacts(images=False, max_output=10),
        "openai:GPT-5": OwnFacts(refuses=(), efforts=("low", "max")),
    }
    assert facts("openai", "gpt-5", own).refuses == frozenset()
    assert facts("openai", "gpt-5-2025-08-07", own).efforts == ("low", "max")
    assert facts("azure", "gpt-5", own) == facts("azure", "gpt-5")
    local = facts("local", "llava:7b", own)
    assert (local.images, local.reasoning, local.max_output) == (False, "none", 10)  # the longer name says more
    assert set(FILES_SAMPLING) == SAMPLING
    assert {*OwnFacts.model_fields} == {field.name for field in dataclasses.fields(ModelFacts)}


def test_an_unknown_model_gets_the_defaults() -> None:
    assert facts("openai", "nobody-knows-this") == ModelFacts()
    assert facts("my-server", "nobody-knows-this") == ModelFacts(max_tokens_key="max_tokens")


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5.4-mini", "gpt-6-luna", "o3", "o4-mini-2025-04-16", "openai/gpt-5"])
def test_openai_models_that_reason_refuse_sampling(model: str) -> None:
    known = facts("openai", model)
    assert known.reasoning == "effort"
    assert known.max_tokens_key == "max_completion_tokens"
    assert known.refuses >= {"temperature", "top_p", "frequency_penalty", "presence_penalty", "logprobs", "stop"}


@pytest.mark.parametrize(
    ("model", "efforts", "can_disable"),
    [
        ("gpt-5-mini", ("minimal", "low", "medium", "high"), False),
        ("gpt-5-pro", ("high",), False),
        ("gpt-5.1", ("none", "low", "medium", "high"), True),
        ("gpt-5.1-codex-max", ("low", "medium", "high", "xhigh"), False),
        ("gpt-5.5-pro-2026-04-23", ("medium", "high", "xhigh"), False),
        ("gpt-5.6-terra", ("none", "low", "medium", "high", "xhigh", "max"), True),
        ("gpt-6-astra", ("low", "medium", "high", "xhigh", "max"), False),
        ("gpt-6-sol", ("none", "low", "medium", "high", "xhigh", "max"), True),
        ("o3-mini", ("low", "medium", "high"), False),
        ("grok-3-mini", ("low", "high"), False),
        ("gemini-3-pro-preview", ("low", "high"), False),
        ("gemini-3.5-flash", ("minimal", "low", "medium", "high"), False),
        ("claude-opus-4-6", ("low", "medium", "high", "max"), True),
        ("claude-sonnet-5", ("low", "medium", "high", "xhigh", "max"), True),
        ("claude-opus-5-5", ("low", "medium", "high", "xhigh", "max"), False),
    ],
)
def test_the_efforts_that_a_model_takes(model: str, efforts: tuple[str, ...], can_disable: bool) -> None:
    known = facts(vendor_of(model) or "", model)
    assert known.efforts == efforts
    assert known.can_disable_reasoning is can_disable


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "gpt-3.5-turbo", "chatgpt-4o-latest", "gpt-5-chat-latest"])
def test_openai_models_that_do_not_reason_take_sampling(model: str) -> None:
    known = facts("openai", model)
    assert known.reasoning == "none"
    assert "temperature" not in known.refuses


@pytest.mark.parametrize(
    ("model", "reasoning", "prefill", "mid_system", "max_output"),
    [
        ("claude-3-5-sonnet-20241022", "none", True, False, 8192),
        ("claude-3-7-sonnet-20250219", "budget", True, False, 64000),
        ("claude-sonnet-4-20250514", "budget", True, False, 64000),
        ("claude-opus-4-1", "budget", True, False, 32000),
        ("claude-haiku-4-5-20251001", "budget", True, False, 64000),
        ("claude-opus-4-6", "adaptive", False, False, 128000),
        ("claude-opus-4-7", "adaptive", False, False, 128000),
        ("claude-opus-4-8", "adaptive", False, True, 128000),
        ("claude-haiku-5-5", "adaptive", False, True, 128000),
        ("claude-fable-5-2", "adaptive", False, True, 128000),
        ("claude-opus-9-9", "adaptive", False, True, 128000),
    ],
)
def test_claude(model: str, reasoning: str, prefill: bool, mid_system: bool, max_output: int) -> None:
    known = facts("anthropic", model)
    assert (known.reasoning, known.prefill, known.mid_system) == (reasoning, prefill, mid_system)  # T33, T60
    assert known.max_output == max_output  # T65


def test_claude_refuses_sampling_from_4_7_on() -> None:  # T62
    refused = {"temperature", "top_p", "top_k"}
    assert facts("anthropic", "claude-opus-4-7").refuses == refused
    assert facts("openrouter", "anthropic/claude-sonnet-5").refuses == refused
    assert facts("anthropic", "claude-opus-4-6").refuses == frozenset()


def test_claude_4_5_takes_temperature_or_top_p() -> None:  # T63
    assert facts("anthropic", "claude-sonnet-4-5").one_of == ("temperature", "top_p")
    assert facts("anthropic", "claude-sonnet-4").one_of == ()


@pytest.mark.parametrize(
    ("model", "lowest", "highest", "can_disable"),
    [
        ("gemini-2.5-pro", 128, 32768, False),
        ("gemini-2.5-flash", 0, 24576, True),
        ("gemini-2.5-flash-lite", 512, 24576, True),
        ("models/gemini-2.5-flash-preview-09-2025", 0, 24576, True),
    ],
)
def test_gemini_2_5_thinks_by_budget(model: str, lowest: int, highest: int, can_disable: bool) -> None:
    known = facts("gemini", model)
    assert known.reasoning == "budget"
    assert (known.min_budget, known.max_budget, known.can_disable_reasoning) == (lowest, highest, can_disable)


def test_gemini_by_generation() -> None:
    assert facts("gemini", "gemini-2.0-flash").reasoning == "none"
    assert facts("gemini", "gemini-3.8-flash").reasoning == "level"
    assert facts("gemini", "gemini-pro-latest").reasoning == "level"
    assert facts("gemini", "gemini-4-argon").reasoning == "level"
    assert "presence_penalty" in facts("gemini", "gemini-3.8-flash").refuses
    assert "presence_penalty" not in facts("gemini", "gemini-2.0-flash").refuses


@pytest.mark.parametrize("model", ["deepseek-v4-pro", "kimi-k2.5", "glm-4.6", "qwen3-32b", "qwen3.7-plus", "qwen-plus"])
def test_models_with_a_switch(model: str) -> None:
    assert facts(vendor_of(model) or "", model).reasoning == "toggle"


@pytest.mark.parametrize("model", ["qwen3-coder-plus", "kimi-k2-0905-preview", "grok-4-0709", "mistral-large-latest"])
def test_models_with_nothing_to_switch(model: str) -> None:
    assert facts(vendor_of(model) or "", model).reasoning == "none"


def test_the_host_counts_too() -> None:
    assert facts("openrouter", "openai/gpt-5").max_tokens_key == "max_tokens"
    assert facts("azure", "gpt-5").max_tokens_key == "max_completion_tokens"
    assert facts("mistral", "mistral-large-latest").refuses >= {"seed", "logit_bias"}
    assert "temperature" in facts("moonshot", "kimi-k3").refuses
    assert "temperature" not in facts("openrouter", "moonshotai/kimi-k3").refuses
    assert facts("ollama", "qwen3:8b").reasoning == "effort"


def test_rows_add_up_whatever_their_order() -> None:
    rows = [
        Row("*", "host", {"images": False}),
        Row("ab*", None, {"context": 2, "images": True}),
        Row("a*", None, {"context": 1, "max_output": 9}),
        Row("a[bc]", None, {"prefill": False}),
        Row("b*", None, {"prefill": True}),
    ]
    for order in (rows, rows[::-1]):
        assert combine(order, "host", "abc") == ModelFacts(context=2, max_output=9, images=False)
        assert combine(order, "other", "ab") == ModelFacts(context=2, max_output=9, images=True, prefill=False)


def test_the_row_that_says_more_wins() -> None:
    assert facts("openai", "gpt-5.4").context == 1050000
    assert facts("openai", "gpt-5.4-mini").context == 400000
    assert facts("anthropic", "claude-opus-4-5").max_output == 64000
    assert facts("anthropic", "claude-opus-4").max_output == 32000


def test_published_limits_reach_models_without_a_row() -> None:
    assert LIMITS["grok-4.5"] == {"context": 500000}
    assert facts("xai", "grok-4.5").context == 500000


@pytest.mark.parametrize(
    ("model", "vendor"),
    [
        ("gpt-5", "openai"),
        ("o3-mini", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("ft:gpt-4o:org::id", "openai"),
        ("text-embedding-3-small", "openai"),
        ("claude-opus-4-6", "anthropic"),
        ("gemini-2.5-pro", "gemini"),
        ("gemma-3-27b-it", "gemini"),
        ("models/gemini-2.5-pro", "gemini"),
        ("deepseek-chat", "deepseek"),
        ("codestral-latest", "mistral"),
        ("grok-4", "xai"),
        ("kimi-k3", "moonshot"),
        ("moonshot-v1-8k", "moonshot"),
        ("GLM-5.3", "zai"),
        ("qwen3-coder-plus", "qwen"),
        ("anthropic/claude-opus-4.7", "openrouter"),
        ("deepseek/deepseek-r1:free", "openrouter"),
        ("llama3.2:3b", "ollama"),
        ("gpt-oss:latest", "ollama"),
        ("gpt-oss-120b", None),
        ("llama-3.3-70b-versatile", None),
        ("openai", None),
        ("", None),
    ],
)
def test_whose_a_bare_name_is(model: str, vendor: str | None) -> None:
    assert vendor_of(model) == vendor


def test_rows_hold_only_what_the_facts_can_say() -> None:
    styles = get_args(get_type_hints(ModelFacts)["reasoning"])
    keys = get_args(get_type_hints(ModelFacts)["max_tokens_key"])
    for row in ROWS:
        known = dataclasses.replace(ModelFacts(), **row.facts)
        assert known.reasoning in styles, row
        assert known.max_tokens_key in keys, row
        assert known.refuses <= SAMPLING, row
        assert set(known.one_of) <= SAMPLING, row
        assert list(known.efforts) == [word for word in EFFORTS if word in known.efforts], row


def test_the_update_keeps_what_it_is_not_told(tmp_path: Path) -> None:
    table, output = tmp_path / "table.json", tmp_path / "limits.json"
    output.write_text(json.dumps({"models": {"mine": {"context": 5}, "new-model": {"context": 1, "max_output": 2}}}))
    table.write_text(
        json.dumps(
            {
                "new-model": {"max_input_tokens": 2000, "mode": "chat"},
                "reseller/new-model": {"max_input_tokens": 3, "max_output_tokens": 4},
                "a-picture-model": {"max_input_tokens": 5, "mode": "image_generation"},
                "sample_spec": {"max_input_tokens": "a text", "max_output_tokens": 0},
            }
        )
    )
    command = [sys.executable, str(ROOT / "scripts/update_model_facts"), str(table), "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    models = json.loads(output.read_text())["models"]
    assert models["mine"] == {"context": 5}
    assert models["new-model"] == {"context": 2000, "max_output": 4}
    assert models["claude-opus-4-5"] == {"context": 200000}
    assert "a-picture-model" not in models
    assert "sample_spec" not in models


CORRECTED = {
    "openai-chat-mirascope-openai-gpt-5-mini-completions-100d6e": "the vendor refused `stop`",
    "xai-req-llm-grok-code-fast-1-reasoning-basic-8f9566": "the vendor refused `reasoning_effort`",
    "zai-fantasy-zai-glm-4-7-flash-thinking-17fcef": "the vendor took `reasoning_effort` and did not hear it",
}


@corpus.requires_corpus
@pytest.mark.parametrize("name", NAMES)
def test_no_fact_contradicts_what_a_vendor_took(name: str) -> None:
    """A recorded request goes to where it was recorded as it came, whatever the table says of the model."""
    corrected = []
    for sample in recorded.requests(name):
        vendor = sample.id.partition("-")[0]
        if " " in sample.id:
            continue  # written by hand, at nobody's
        protocol = named(name)
        try:
            conversation = protocol.read_request(sample.body, recorded.call_of(sample))
        except BadRequest:
            continue  # the vendor refused it too
        target = Target(vendor, conversation.model, vendor, facts(vendor, conversation.model))
        sent = protocol.write_request(conversation, target, Notes()).body
        if any(sent.get(key) != sample.body.get(key) for key in (sent.keys() | sample.body.keys()) - OWN_KEYS):
            corrected.append(sample.id)
    assert [id_ for id_ in corrected if id_ not in CORRECTED] == []


OWN_KEYS = {"stream_options"}
