"""What a model's tokens cost in USD, from the price table of the installed `genai-prices` (nothing is downloaded).

`price` never guesses: a backend or model that the table does not know is None, not 0 (SPEC 10). Only token prices are
known: searches, images by the piece and other extras are not in the sum, and audio counts as text.
"""

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from llm_interactive.events import Json, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

VENDORS = {
    "openai-responses": "openai",
    "gemini": "google",
    "xai": "x-ai",
    "moonshot": "moonshotai",
}
"""The table's name for a backend, where it is not ours. Qwen's own service is not in the table."""


def price(backend: str, model: str, usage: Usage, at: datetime | None = None) -> Decimal | None:
    """USD for one attempt, made at `at` (prices change over time and by the hour; now by default).

    `usage` counts as everywhere: cached and cache-written tokens are part of the input, reasoning of the output."""
    if usage.input is None and usage.output is None:
        return None
    found = _find(backend, model)
    if found is None:
        return None
    provider, info = found
    cost = info.calc_price(
        _counts(usage),
        provider,
        genai_request_timestamp=at or datetime.now(UTC),
        price_context=_context(usage.raw),
    )
    if _says_nothing_on(usage, cost.model_price.__dict__) and not model.endswith(":free"):
        return None
    return cost.total_price


def load() -> None:
    """Read the price table now (about half a second), so that the first price does not wait for it."""
    _find("openai", "gpt-4o")


@lru_cache(maxsize=4096)
def _find(backend: str, model: str) -> "tuple[Provider, ModelInfo] | None":
    from genai_prices.data import providers  # slow to import; the bundled table, never an updated one

    vendor = VENDORS.get(backend, backend)
    provider = next((provider for provider in providers if provider.id == vendor), None)
    if provider is None:
        return None
    info = provider.find_model(model.removeprefix("models/"), all_providers=providers)
    return None if info is None else (provider, info)


def _counts(usage: Usage) -> object:
    from genai_prices import Usage as Counts

    cached, written = usage.cached or 0, usage.cache_write or 0
    return Counts(
        input_tokens=max(usage.input or 0, cached + written),  # a part larger than the whole is refused there
        cache_read_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(_written_for_an_hour(usage.raw), written),
        output_tokens=max(usage.output or 0, usage.reasoning or 0),
        output_reasoning_tokens=usage.reasoning or 0,
    )


def _written_for_an_hour(raw: Json) -> int:
    """Anthropic keeps a cache for 5 minutes, or for an hour at a higher price (TRAPS T89)."""
    match raw:
        case {"cache_creation": {"ephemeral_1h_input_tokens": int(tokens)}}:
            return tokens
        case _:
            return 0


def _context(raw: Json) -> dict[str, str]:
    """What else the price depends on, where the vendor's usage object says it."""
    said = raw if isinstance(raw, dict) else {}
    return {name: said[name] for name in ("service_tier", "speed") if isinstance(said.get(name), str)}


def _says_nothing_on(usage: Usage, prices: dict[str, object]) -> bool:
    """Whether tokens were used that the model has no price for: the sum would silently count them as free."""
    used = {"input_mtok": usage.input, "output_mtok": usage.output}
    priced = {name for name in used if prices.get(name) is not None}
    return not priced or any(tokens and name not in priced for name, tokens in used.items())
