"""What a model's tokens cost in USD: what the provider said, else by the user's own prices (`prices:` in the file), or
else by the price table of the installed `genai-prices` (nothing is downloaded).

A price is never guessed: a backend, model, service tier or search that nobody knows a price for is None, not 0 (SPEC
10). Only what the usage object tells can be in it: extras that are billed beside it (searches of OpenAI and Gemini) are
not in the sum.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from llm_interactive.config_file import OwnPrices, defaults_for
from llm_interactive.events import Json, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

VENDORS = {
    "openai-responses": "openai",
    "gemini": "google",
    "xai": "x-ai",
    "moonshot": "moonshotai",
}
"""The table's name for a backend, where it is not ours. Qwen's own service is not in the table."""
FREE = ("demo",)
"""Backends that nobody is paid for."""

USUAL_TIERS = ("", "default", "standard", "auto", "on_demand")
"""Which a reply names that cost what the table says; of any other the table has to say it."""

MODALITIES = ("audio", "image")
"""Whose tokens have prices of their own."""
INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "promptTokensDetails")
OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "candidatesTokensDetails")

MILLION = Decimal(1_000_000)
TICKS = Decimal(10) ** 10
"""Of xAI, for a dollar."""
NO_OWN: Mapping[str, OwnPrices] = {}


@dataclass(frozen=True, slots=True)
class Rates:
    """USD for a token. None: nobody knows, which matters only where there are such tokens."""

    input: Decimal | None
    cached: Decimal | None
    written: Decimal | None
    written_for_an_hour: Decimal | None
    output: Decimal | None
    reasoning: Decimal | None

    def cost(self, counts: "Counts") -> Decimal:
        """Unknown rates count as nothing: ask `Counts.needs` first."""
        return (
            (self.input or 0) * counts.fresh
            + (self.cached or 0) * counts.cached
            + (self.written or 0) * (counts.written - counts.written_for_an_hour)
            + (self.written_for_an_hour or 0) * counts.written_for_an_hour
            + (self.output or 0) * (counts.output - counts.reasoning)
            + (self.reasoning or 0) * counts.reasoning
        ) / MILLION


@dataclass(frozen=True, slots=True)
class Counts:
    """Of tokens, made to fit each other: providers' figures may contradict each other."""

    input: int
    cached: int
    written: int
    written_for_an_hour: int
    output: int
    reasoning: int

    @classmethod
    def of(cls, usage: Usage) -> "Counts":
        cached, written = usage.cached or 0, usage.cache_write or 0
        reasoning = usage.reasoning or 0
        hour = min(_written_for_an_hour(usage.raw), written)
        return cls(max(usage.input or 0, cached + written), cached, written, hour,
                   max(usage.output or 0, reasoning), reasoning)  # fmt: skip

    @property
    def fresh(self) -> int:
        return self.input - self.cached - self.written


def price(
    backend: str, model: str, usage: Usage, at: datetime | None = None, own: Mapping[str, OwnPrices] = NO_OWN
) -> Decimal | None:
    """USD for one attempt, made at `at` (prices change over time and by the hour; now by default).

    `usage` counts as everywhere: cached and cache-written tokens are part of the input, reasoning of the output. `own`:
    the user's prices by model name, `backend:model`, or a pattern of these."""
    told = told_cost(usage.raw)
    if told is not None:
        return told
    if usage.input is None and usage.output is None:
        return None
    counts = Counts.of(usage)
    if own and (entries := defaults_for(own, backend, model)):
        return _own_cost(entries[0], counts)
    if backend in FREE:
        return Decimal(0)
    at = at or datetime.now(UTC)
    found = _table_price(backend, model, at.replace(second=0, microsecond=0), _context(usage))
    if found is None:
        return None
    table, rates = found
    extras = _extras(usage.raw)
    if extras.get("web_searches") and table.__dict__.get("web_searches_kcount") is None:
        return None
    if rates is None or extras:
        cost: Decimal = table.calc_price(_table_counts(counts, extras))["total_price"]
    else:
        cost = rates.cost(counts)
    return None if _says_nothing_on(counts, table) and not model.endswith(":free") else cost


def told_cost(raw: Json) -> Decimal | None:
    """What the provider's usage object says that it cost: OpenRouter and others in USD, xAI in ticks."""
    match raw:
        case {"is_byok": True, "cost": fee, "cost_details": {"upstream_inference_cost": upstream}}:
            fees = [_decimal(fee), _decimal(upstream)]  # OpenRouter's fee, and the bill of the provider
            return sum((each for each in fees if each is not None), Decimal(0)) if fees[1] is not None else None
        case {"cost_details": _, "cost": cost}:
            return _decimal(cost)
        case {"cost": {"total_cost": cost}} | {"cost": cost}:
            return _decimal(cost) or None  # 0 of somebody who does not know
        case {"cost_in_usd_ticks": int(ticks)} if ticks > 0:
            return ticks / TICKS
    return None


def _decimal(value: Json) -> Decimal | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Decimal(repr(value)) if is_number and 0 <= value < math.inf else None


def load() -> None:
    """Read the price table now (about half a second), so that the first price does not wait for it."""
    _find("openai", "gpt-4o")


def _own_cost(own: OwnPrices, counts: Counts) -> Decimal | None:
    if (own.output is None and counts.output) or (own.input is None and counts.input):
        return None
    hour = own.cache_write_1h if own.cache_write_1h is not None else own.cache_write
    return Rates(
        own.input,
        _first(own.cached, own.input),
        _first(own.cache_write, own.input),
        _first(hour, own.input),
        own.output,
        _first(own.reasoning, own.output),
    ).cost(counts)


def _first(*prices: Decimal | None) -> Decimal | None:
    return next((price for price in prices if price is not None), None)


@lru_cache(maxsize=4096)
def _find(backend: str, model: str) -> "tuple[Provider, ModelInfo] | None":
    from genai_prices.data import providers  # slow to import; the bundled table, never an updated one

    vendor = VENDORS.get(backend, backend)
    provider = next((provider for provider in providers if provider.id == vendor), None)
    if provider is None:
        return None
    info = provider.find_model(model.removeprefix("models/"), all_providers=providers)
    return None if info is None else (provider, info)


@lru_cache(maxsize=1024)
def _table_price(
    backend: str, model: str, minute: datetime, context: tuple[tuple[str, str], ...]
) -> "tuple[ModelPrice, Rates | None] | None":
    """The table's prices at that minute; no rates where they depend on the size of the prompt."""
    found = _find(backend, model)
    if found is None:
        return None
    provider, info = found
    of_provider = any(info is each for each in provider.models)  # the table knows tiers of a model's own vendor alone
    table = info.get_prices(minute, dict(context) if of_provider else None)
    if of_provider and _tier(context) not in USUAL_TIERS and table == info.get_prices(minute, None):
        return None
    return table, _rates(table)


def _rates(table: "ModelPrice") -> Rates | None:
    def known(*names: str) -> Decimal | None:
        return _first(*(table.__dict__.get(name) for name in names))

    if any(price is not None and not isinstance(price, Decimal) for price in table.__dict__.values()):
        return None
    return Rates(
        known("input_mtok"),
        known("cache_read_mtok", "input_mtok"),
        known("cache_write_mtok", "input_mtok"),
        known("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
        known("output_mtok"),
        known("output_reasoning_mtok", "output_mtok"),
    )


def _table_counts(counts: Counts, extras: Mapping[str, int]) -> object:
    from genai_prices import Usage as TableUsage

    left = {"input": counts.fresh, "output": counts.output - counts.reasoning}
    fitting: dict[str, int] = {}
    for name, number in extras.items():
        kind = name.partition("_")[0]
        fitting[name] = min(number, left.get(kind, number))
        if kind in left:
            left[kind] -= fitting[name]
    return TableUsage(
        input_tokens=counts.input,
        cache_read_tokens=counts.cached,
        cache_write_tokens=counts.written,
        cache_write_1h_tokens=counts.written_for_an_hour,
        output_tokens=counts.output,
        output_reasoning_tokens=counts.reasoning,
        **fitting,
    )


def _written_for_an_hour(raw: Json) -> int:
    """Anthropic keeps a cache for 5 minutes, or for an hour at a higher price (TRAPS T89)."""
    match raw:
        case {"cache_creation": {"ephemeral_1h_input_tokens": int(tokens)}}:
            return tokens
        case _:
            return 0


def _extras(raw: Json) -> dict[str, int]:
    """What has a price beside that of text, by the table's names: sound, pictures, and Anthropic's searches."""
    said = raw if isinstance(raw, dict) else {}
    found = {
        f"{way}_{modality}_tokens": sum(_of(modality, said.get(name)) for name in details)
        for way, details in (("input", INPUT_DETAILS), ("output", OUTPUT_DETAILS))
        for modality in MODALITIES
    }
    match said.get("server_tool_use"):
        case {"web_search_requests": int(searches)}:
            found["web_searches"] = searches
    return {name: number for name, number in found.items() if number > 0}


def _of(modality: str, details: Json) -> int:
    """Tokens."""
    match details:
        case dict():
            tokens = details.get(f"{modality}_tokens")
            return tokens if isinstance(tokens, int) else 0
        case [*parts]:
            return sum(_of_part(modality, part) for part in parts)
    return 0


def _of_part(modality: str, part: Json) -> int:
    match part:
        case {"modality": str(name), "tokenCount": int(tokens)} if name.lower() == modality:
            return tokens
    return 0


def _context(usage: Usage) -> tuple[tuple[str, str], ...]:
    """What else the price depends on, where the vendor says it."""
    said = usage.raw if isinstance(usage.raw, dict) else {}
    tier = usage.tier or said.get("service_tier") or said.get("serviceTier")
    given = {"service_tier": tier, "speed": said.get("speed")}
    return tuple((name, value.lower()) for name, value in given.items() if isinstance(value, str))


def _tier(context: tuple[tuple[str, str], ...]) -> str:
    return dict(context).get("service_tier", "")


def _says_nothing_on(counts: Counts, table: "ModelPrice") -> bool:
    """Whether tokens were used that the model has no price for: the sum would silently count them as free."""
    used = {"input_mtok": counts.input, "output_mtok": counts.output}
    priced = {name for name in used if table.__dict__.get(name) is not None}
    return not priced or any(tokens and name not in priced for name, tokens in used.items())
