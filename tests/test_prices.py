"""Prices against the price table itself, and the rules of counting that vendors differ in."""

import random
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices.data import providers
from genai_prices.types import ModelPrice, TieredPrices

from llm_interactive import prices
from llm_interactive.config_file import OwnPrices
from llm_interactive.events import Usage
from llm_interactive.prices import Counts, price

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
MILLION = Decimal(1_000_000)


def table(vendor: str, model: str, at: datetime = AT) -> ModelPrice:
    provider = next(provider for provider in providers if provider.id == vendor)
    info = provider.find_model(model)
    assert info is not None
    return info.get_prices(at)


def base(value: Decimal | TieredPrices | None) -> Decimal:
    assert value is not None
    return value.base if isinstance(value, TieredPrices) else value


@pytest.mark.parametrize(
    ("backend", "vendor", "model"),
    [
        ("openai", "openai", "gpt-4o"),
        ("openai-responses", "openai", "gpt-5"),
        ("anthropic", "anthropic", "claude-sonnet-4-5"),
        ("gemini", "google", "gemini-2.5-pro"),
        ("openrouter", "openrouter", "anthropic/claude-sonnet-4.5"),
        ("zai", "zai", "glm-4.6"),
        ("deepseek", "deepseek", "deepseek-chat"),
        ("xai", "x-ai", "grok-4"),
        ("moonshot", "moonshotai", "kimi-k2-0905-preview"),
    ],
)
def test_cached_input_has_its_own_price_and_is_not_paid_twice(backend: str, vendor: str, model: str) -> None:
    rates = table(vendor, model)
    expected = (
        base(rates.input_mtok) * 6000 + base(rates.cache_read_mtok) * 4000 + base(rates.output_mtok) * 500
    ) / MILLION
    usage = Usage(input=10_000, cached=4000, output=500, reasoning=300)
    assert price(backend, model, usage, AT) == expected


@pytest.mark.parametrize(
    ("backend", "vendor", "model"),
    [("mistral", "mistral", "mistral-large-latest"), ("groq", "groq", "llama-3.3-70b-versatile")],
)
def test_without_a_cache_price_cached_input_costs_the_same(backend: str, vendor: str, model: str) -> None:
    rates = table(vendor, model)
    assert rates.cache_read_mtok is None
    expected = (base(rates.input_mtok) * 10_000 + base(rates.output_mtok) * 500) / MILLION
    assert price(backend, model, Usage(input=10_000, cached=4000, output=500), AT) == expected


def test_cache_writes_for_five_minutes_and_for_an_hour() -> None:
    rates = table("anthropic", "claude-haiku-4-5")
    raw = {"cache_creation": {"ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 1000}}
    expected = (
        base(rates.input_mtok) * 7000 + base(rates.cache_write_mtok) * 2000 + base(rates.cache_write_1h_mtok) * 1000
    ) / MILLION
    assert price("anthropic", "claude-haiku-4-5", Usage(input=10_000, cache_write=3000, output=0, raw=raw)) == expected


def test_a_long_prompt_costs_the_higher_tier() -> None:
    rates = table("google", "gemini-2.5-pro")
    assert isinstance(rates.input_mtok, TieredPrices)
    tier = rates.input_mtok.tiers[0]
    assert price("gemini", "gemini-2.5-pro", Usage(input=tier.start + 1, output=0)) == (
        tier.price * (tier.start + 1) / MILLION
    )


def test_the_price_is_that_of_the_time_of_the_request() -> None:
    usage = Usage(input=1_000_000, output=0)
    assert price("openai", "o3", usage, datetime(2025, 6, 1, tzinfo=UTC)) == 10
    assert price("openai", "o3", usage, datetime(2025, 7, 1, tzinfo=UTC)) == 2


def test_a_service_tier_that_the_vendor_names_counts() -> None:
    usual, priority = (
        price("openai", "gpt-5", Usage(input=1000, output=10, raw={"service_tier": tier}))
        for tier in ("default", "priority")
    )
    assert usual is not None
    assert priority is not None
    assert priority > usual


@pytest.mark.parametrize(
    ("backend", "model"),
    [
        ("openai", "no-such-model"),
        ("openai", "ft:gpt-4o:org::id"),
        ("no-such-backend", "gpt-4o"),
        ("my-openai", "gpt-4o"),
        ("ollama", "llama3.3"),
        ("qwen", "qwen3-coder-plus"),
        ("gemini", "gemma-3"),
        ("openai", "whisper-1"),
        ("openai", ""),
    ],
)
def test_what_is_not_known_has_no_price_rather_than_none_to_pay(backend: str, model: str) -> None:
    assert price(backend, model, Usage(input=1000, output=10)) is None


def test_output_without_an_output_price_is_unknown() -> None:
    assert price("openai", "text-embedding-3-small", Usage(input=1_000_000, output=0)) == Decimal("0.02")
    assert price("openai", "text-embedding-3-small", Usage(input=1_000_000, output=1)) is None


def test_no_token_counts_no_price() -> None:
    assert price("openai", "gpt-4o", Usage()) is None


def test_free_models_cost_nothing() -> None:
    free = price("openrouter", "meta-llama/llama-3.3-70b-instruct:free", Usage(input=1000, output=10))
    assert free == 0
    assert free is not None


def test_the_demo_costs_nothing_unless_the_user_says_so() -> None:
    usage = Usage(input=1_000_000, output=0)
    assert price("demo", "echo", usage) == Decimal(0)
    assert price("demo", "echo", usage, own={"demo:*": OwnPrices(input=Decimal(3))}) == 3
    assert price("demo", "echo", Usage()) is None


def test_gemini_names_models_with_their_collection() -> None:
    usage = Usage(input=1000, output=10)
    assert price("gemini", "models/gemini-2.5-flash", usage) == price("gemini", "gemini-2.5-flash", usage)
    assert price("gemini", "gemini-2.5-flash", usage)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input=10, cached=100, output=1),
        Usage(input=10, cached=5, cache_write=100, output=1),
        Usage(input=10, output=1, reasoning=100),
        Usage(input=None, output=1),
        Usage(input=10, output=1, cache_write=1, raw={"cache_creation": {"ephemeral_1h_input_tokens": 50}}),
        Usage(input=10, output=1, raw={"cache_creation": None, "service_tier": None}),
    ],
)
def test_figures_that_contradict_each_other_still_have_a_price(usage: Usage) -> None:
    cost = price("anthropic", "claude-sonnet-4-5", usage)
    assert cost is not None
    assert cost > 0


def test_a_price_needs_no_network() -> None:
    script = """
import socket, threading
def refuse(*_): raise SystemExit("network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from llm_interactive import prices
from llm_interactive.events import Usage
prices.load()
print(prices.price("openai", "gpt-4o", Usage(input=1000000, output=0)))
print(threading.active_count())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2.50", "1"]


VENDORS = ("openai", "anthropic", "google", "openrouter", "groq", "mistral", "deepseek", "x-ai", "moonshotai")


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_model_costs_what_the_table_says(vendor: str) -> None:
    """Ours is the same arithmetic with the prices resolved once."""
    chance = random.Random(vendor)
    backend = {table: ours for ours, table in prices.VENDORS.items() if ours != "openai-responses"}.get(vendor, vendor)
    provider = next(provider for provider in providers if provider.id == vendor)
    compared = 0
    for info in provider.models:
        if provider.find_model(info.id) is not info:
            continue
        fresh, cached, written, thought, said = (chance.choice([0, chance.randrange(300_000)]) for _ in range(5))
        usage = Usage(input=fresh + cached + written, cached=cached, cache_write=written, output=said + thought,
                      reasoning=thought)  # fmt: skip
        cost = price(backend, info.id, usage, AT)
        if cost is not None:
            counts = prices._table_counts(Counts.of(usage), {})
            assert cost == info.get_prices(AT).calc_price(counts)["total_price"], info.id
            compared += 1
    assert compared > 3


def test_spoken_tokens_cost_more() -> None:
    spoken = {"prompt_tokens_details": {"audio_tokens": 500}, "completion_tokens_details": {"audio_tokens": 50}}
    rates = table("openai", "gpt-audio")
    cost = (base(rates.input_mtok) * 500 + base(rates.output_mtok) * 50
            + base(rates.input_audio_mtok) * 500 + base(rates.output_audio_mtok) * 50) / MILLION  # fmt: skip
    assert price("openai", "gpt-audio", Usage(input=1000, output=100, raw=spoken), AT) == cost
    gemini = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}, {"modality": "AUDIO", "tokenCount": 91}]}
    text, speech = (price("gemini", "gemini-2.5-flash", Usage(input=100, output=1, raw=raw)) for raw in ({}, gemini))
    assert text is not None
    assert speech is not None
    assert speech > text


def test_pictures_and_searches_cost_what_the_table_says() -> None:
    drawn = {"candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}]}
    rates = table("google", "gemini-2.5-flash-image")
    cost = (base(rates.input_mtok) * 10 + base(rates.output_image_mtok) * 1290) / MILLION
    assert price("gemini", "gemini-2.5-flash-image", Usage(input=10, output=1290, raw=drawn), AT) == cost
    shown = {"input_tokens_details": {"image_tokens": 900, "text_tokens": 100}}
    rates = table("openai", "gpt-image-1")
    cost = (base(rates.input_mtok) * 100 + base(rates.input_image_mtok) * 900 + base(rates.output_mtok) * 50) / MILLION
    assert price("openai", "gpt-image-1", Usage(input=1000, output=50, raw=shown), AT) == cost
    plain, searched = (
        price("anthropic", "claude-sonnet-4-5", Usage(input=1000, output=10, raw=raw), AT)
        for raw in ({}, {"server_tool_use": {"web_search_requests": 3}})
    )
    assert plain is not None
    assert searched == plain + 3 * base(table("anthropic", "claude-sonnet-4-5").web_searches_kcount) / 1000


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input=1000, output=10, tier="batch"),
        Usage(input=1000, output=10, raw={"service_tier": "batch"}),
        Usage(input=1000, output=10, raw={"server_tool_use": {"web_search_requests": 1}}),
    ],
)
def test_a_tier_or_a_search_without_a_price_makes_the_cost_unknown(usage: Usage) -> None:
    assert price("openai", "gpt-4", usage, AT) is None
    assert price("openai", "gpt-4", Usage(input=1000, output=10), AT) is not None


@pytest.mark.parametrize(
    ("usage", "dearer"),
    [
        (Usage(input=1000, output=10, tier="priority"), True),
        (Usage(input=1000, output=10, tier="flex"), False),
    ],
)
def test_a_tier_beside_the_usage_counts(usage: Usage, dearer: bool) -> None:
    usual, cost = price("openai", "gpt-5", Usage(input=1000, output=10)), price("openai", "gpt-5", usage)
    assert usual is not None
    assert cost is not None
    assert cost != usual
    assert (cost > usual) is dearer


@pytest.mark.parametrize(
    ("raw", "cost"),
    [
        ({"cost": 0.0133176, "cost_details": {"upstream_inference_cost": None}}, Decimal("0.0133176")),
        ({"cost": 0, "cost_details": {"upstream_inference_cost": None}}, Decimal(0)),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, Decimal("0.021")),
        ({"cost": {"total_cost": 0.5, "input_tokens_cost": 0.2}}, Decimal("0.5")),
        ({"cost_in_usd_ticks": 1615400}, Decimal("0.00016154")),
    ],
)
def test_what_the_provider_says_it_cost_wins(raw: dict[str, object], cost: Decimal) -> None:
    own = {"gpt-4o": OwnPrices(input=Decimal(1), output=Decimal(1))}
    for model in ("gpt-4o", "no-such-model"):
        assert price("openai", model, Usage(input=1000, output=10, raw=raw), own=own) == cost


@pytest.mark.parametrize(
    "raw",
    [
        {"cost": 0},
        {"cost": True},
        {"cost": -1},
        {"cost": "0.1"},
        {"cost": None},
        {"cost": float("nan")},
        {"cost": {}},
        {"cost_in_usd_ticks": 0},
        {"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": None}},
    ],
)
def test_what_says_nothing_does_not(raw: dict[str, object]) -> None:
    assert price("openai", "gpt-4o", Usage(input=1_000_000, output=0, raw=raw)) == Decimal("2.5")


def test_the_users_own_prices_go_before_the_table() -> None:
    own = {
        "openai:gpt-*": OwnPrices(input=Decimal(7), output=Decimal(70)),
        "gpt-4o": OwnPrices(input=Decimal(1), output=Decimal(10)),
        "openai:gpt-4o": OwnPrices(input=Decimal("0.5"), cached=Decimal("0.05"), output=Decimal(2)),
        "local:*": OwnPrices(input=Decimal(0), output=Decimal(0)),
        "vectors": OwnPrices(input=Decimal("0.1")),
        "anthropic:*": OwnPrices(
            input=Decimal(10), cache_write=Decimal(20), output=Decimal(100), reasoning=Decimal(50)
        ),
    }

    def cost(backend: str, model: str, usage: Usage) -> Decimal | None:
        return price(backend, model, usage, own=own)

    million = Usage(input=1_000_000, output=1_000_000)
    assert cost("openai", "gpt-4o", million) == Decimal("2.5")
    assert cost("openai", "gpt-4o", Usage(input=1_000_000, cached=400_000, output=0)) == Decimal("0.32")
    assert cost("azure", "gpt-4o", million) == 11
    assert cost("openai", "gpt-5", million) == 77
    assert cost("local", "llama", million) == 0
    assert cost("x", "vectors", Usage(input=1_000_000, output=0)) == Decimal("0.1")
    assert cost("x", "vectors", million) is None
    assert cost("x", "y", million) is None
    written = Usage(input=1_000_000, cache_write=500_000, output=1_000_000, reasoning=900_000,
                    raw={"cache_creation": {"ephemeral_1h_input_tokens": 100_000}})  # fmt: skip
    assert cost("anthropic", "m", written) == 5 + 10 + 10 + 45
