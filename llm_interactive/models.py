"""What is known of a model by its name: limits, what it refuses, how it is asked to think, whose it is.

The knowledge is data: `model_facts.toml` (written by hand, each row naming its source) and `model_limits.json` (made by
`scripts/update_model_facts`). A model gets the facts of all rows that match its plain name; where two disagree, the row
that says more of the name wins, and a row for one backend before a row for all. Nobody's model gets the defaults. What
the config file says (`model_facts`) goes before all of it.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from typing import Any

from llm_interactive.config_file import OwnFacts
from llm_interactive.protocols.base import ModelFacts

SPELLINGS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^ft:([^:]+):.*$"), r"\1"),  # OpenAI's fine-tuned models
    (re.compile(r"^.*/"), ""),  # models/X, vendor/X, accounts/.../models/X
    (re.compile(r"^(?:[a-z]+\.)?(?:anthropic|meta|mistral|deepseek|qwen|openai|moonshot|zai)\."), ""),  # Bedrock
    (re.compile(r"\[1m\]$"), ""),  # Claude Code's name for the long context (TRAPS T102)
    (re.compile(r":[^:/]*$"), ""),  # OpenRouter's variants, Ollama's tags, Bedrock's ":0"
    (re.compile(r"(?<=\d)-v\d+$"), ""),  # Bedrock again: -20250929-v1
    (re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d)$"), ""),
    (re.compile(r"-latest$"), ""),
    (re.compile(r"^(claude-.*\d)\.(?=\d)"), r"\1-"),  # OpenRouter and Copilot write claude-opus-4.6
    (
        re.compile(r"^claude-(\d+(?:-\d+)?)-(opus|sonnet|haiku)$"),
        r"claude-\2-\1",
    ),  # claude-3-7-sonnet, like the later ones
)
"""How one model is spelled at different places -> the spelling that the facts use; all are tried, in order."""


SETS = ("refuses", "takes_without_reasoning")


@dataclass(frozen=True, slots=True)
class Row:
    """Facts of the models whose plain name matches `pattern`, at one backend or (None) at all."""

    pattern: str
    backend: str | None
    facts: Mapping[str, Any]

    @property
    def weight(self) -> tuple[bool, int]:
        """How much the row says of where it holds; the heavier row wins."""
        return self.backend is not None, len(re.sub(r"\[[^]]*\]|[*?]", "", self.pattern))

    def holds(self, backend: str, name: str) -> bool:
        return self.backend in (None, backend) and (name == self.pattern or fnmatchcase(name, self.pattern))


def plain_name(model: str) -> str:
    """The model's name without what places add to it: vendor prefix, date, variant, `-latest`; in lower case."""
    name = model.strip().lower()
    for pattern, spelling in SPELLINGS:
        name = pattern.sub(spelling, name)
    return name


def facts(backend: str, model: str, own: Mapping[str, OwnFacts] | None = None) -> ModelFacts:
    """What is known of `model` where `backend` serves it. `own`: what the person who runs the proxy knows better, by
    model name or pattern, with or without `backend:` in front."""
    known = _facts(backend, model)
    if not own:
        return known
    plain = (model.strip().lower(), plain_name(model))
    names = (*plain, *(f"{backend}:{name}" for name in plain))
    better = sorted((len(pattern), pattern) for pattern in own if any(fnmatchcase(n, pattern.lower()) for n in names))
    for _, pattern in better:  # the longest says most
        said = own[pattern].model_dump(exclude_none=True)
        known = replace(known, **{name: _value(name, value) for name, value in said.items()})
    return known


@lru_cache(maxsize=2048)
def _facts(backend: str, model: str) -> ModelFacts:
    name = plain_name(model)
    published = Row(name, None, LIMITS.get(name, {}))
    return combine((published, *ROWS), backend, name)


def combine(rows: Iterable[Row], backend: str, name: str) -> ModelFacts:
    """The facts of the rows that hold for a plain name, the heavier one's where two disagree (the later of equals)."""
    known: dict[str, Any] = {}
    for row in sorted((row for row in rows if row.holds(backend, name)), key=lambda row: row.weight):
        known |= row.facts
    return replace(ModelFacts(), **known)


@lru_cache(maxsize=2048)
def vendor_of(model: str) -> str | None:
    """The backend whose model this is, by its name alone; None for a name that nobody owns."""
    name = model.strip().lower()
    return next((vendor for pattern, vendor in VENDORS if fnmatchcase(name, pattern)), None)


def _table() -> dict[str, Any]:
    return tomllib.loads((files("llm_interactive") / "model_facts.toml").read_text(encoding="utf-8"))


def _rows(table: dict[str, Any]) -> Iterator[Row]:
    for entry in table["facts"]:
        known = {key: _value(key, value) for key, value in entry.items() if key not in ("models", "backends", "source")}
        for backend in entry.get("backends", [None]):
            for pattern in entry["models"]:
                yield Row(pattern, backend, known)


def _value(key: str, value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    return frozenset(value) if key in SETS else tuple(value)


_TABLE = _table()
ROWS: tuple[Row, ...] = tuple(_rows(_TABLE))
VENDORS: tuple[tuple[str, str | None], ...] = tuple(
    (pattern, entry.get("backend")) for entry in _TABLE["vendors"] for pattern in entry["models"]
)
LIMITS: Mapping[str, Mapping[str, int]] = json.loads(
    (files("llm_interactive") / "model_limits.json").read_text(encoding="utf-8")
)["models"]
