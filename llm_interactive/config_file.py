"""The YAML file of `LLM_CONFIG`: settings by name, and what has no other place (SPEC 2):

    model_defaults:   {"openai:gpt-5*": {temperature: 0.2, reasoning_effort: high}}
    model_facts:      {"local:llava*": {images: true, reasoning: none, max_output: 4096}}
    failover_routes:  {cheap: {policy: km, elements: ["openai:gpt-5-mini", "gemini:gemini-3-flash"]}}
    aliases:          {fast: "groq:llama-4", "/^claude-.*-haiku/": "gemini:gemini-3-flash"}
    prices:           {"local:*": {input: 0.5, cached: 0.05, output: 1.5}}      USD for a million tokens
    backends:         {local: {protocol: openai_chat, base_url: "http://127.0.0.1:8080/v1"}}

Whatever cannot be understood raises `SettingsError`.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from llm_interactive.backends.providers import BACKENDS, DEMO, FAMILIES
from llm_interactive.setting_values import (
    Boolean,
    Given,
    Number,
    OneOf,
    Price,
    Reader,
    SettingsError,
    Text,
    ThinkingBudget,
    Url,
    Whole,
    Words,
    show,
)

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
TOOL_LOOP_MODES = OneOf(("break", "chance_then_break"), also=(("chance", "chance_then_break"),))
POLICIES = ("k", "m", "km", "mk")
BACKEND_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelDefaults(_Entry):
    """What holds for a model unless a request or a session says otherwise; None: nothing said."""

    temperature: Annotated[float | None, Number(0, 2)] = None
    reasoning_effort: Annotated[str | None, OneOf(EFFORTS)] = None
    thinking_budget: Annotated[int | None, ThinkingBudget()] = None
    max_tokens: Annotated[int | None, Whole(1, 10_000_000)] = None
    loop_detection_enabled: Annotated[bool | None, Boolean()] = None
    tool_loop_detection_enabled: Annotated[bool | None, Boolean()] = None
    tool_loop_max_repeats: Annotated[int | None, Whole(2, 1_000_000)] = None
    tool_loop_ttl_seconds: Annotated[int | None, Whole(1, 31_536_000)] = None
    tool_loop_mode: Annotated[str | None, TOOL_LOOP_MODES] = None


class OwnPrices(_Entry):
    """What the user pays for a model, in USD for a million tokens. None: as `input`, or for `reasoning` as `output`."""

    input: Annotated[Decimal | None, Price()] = None
    cached: Annotated[Decimal | None, Price()] = None
    cache_write: Annotated[Decimal | None, Price()] = None
    cache_write_1h: Annotated[Decimal | None, Price()] = None
    output: Annotated[Decimal | None, Price()] = None
    reasoning: Annotated[Decimal | None, Price()] = None


def defaults_for[T](defaults: Mapping[str, T], backend: str, model: str) -> list[T]:
    """Those that apply, the one that goes first in front: the very name with its backend, the bare name, patterns."""
    full = f"{backend}:{model}"
    patterns = [name for name in defaults if any(fnmatchcase(each, name) for each in (full, model))]
    ordered = dict.fromkeys([*(name for name in (full, model) if name in defaults), *patterns])
    return [defaults[name] for name in ordered]


class FailoverRoute(_Entry):
    """`elements`: each `backend:model`."""

    policy: str
    elements: tuple[str, ...] = ()


class ExtraBackend(_Entry):
    """A service that the table does not know, or what is different at one that it knows. No `protocol`: ()."""

    protocol: tuple[str, ...] = ()
    base_url: str | None = None
    api_key_env: str | None = None
    headers: Mapping[str, str] = Field({}, repr=False)
    """Values may be secrets."""


SAMPLING = (
    "temperature", "top_p", "top_k", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "n",
    "logprobs", "top_logprobs", "logit_bias",
)  # fmt: skip


class OwnFacts(_Entry):
    """What a person knows better of a model than the table does: fields of `ModelFacts`; None: nothing said."""

    max_output: Annotated[int | None, Whole(1, 100_000_000)] = None
    context: Annotated[int | None, Whole(1, 100_000_000)] = None
    refuses: Annotated[tuple[str, ...] | None, Words(SAMPLING)] = None
    one_of: Annotated[tuple[str, ...] | None, Words(SAMPLING)] = None
    reasoning: Annotated[str | None, OneOf(("none", "effort", "budget", "adaptive", "level", "toggle", "unknown"))] = (
        None
    )
    efforts: Annotated[tuple[str, ...] | None, Words(EFFORTS)] = None
    min_budget: Annotated[int | None, Whole(0, 1_000_000)] = None
    max_budget: Annotated[int | None, Whole(1, 1_000_000)] = None
    can_disable_reasoning: Annotated[bool | None, Boolean()] = None
    reasons_by_default: Annotated[bool | None, Boolean()] = None
    takes_without_reasoning: Annotated[tuple[str, ...] | None, Words(SAMPLING)] = None
    takes_budgets: Annotated[bool | None, Boolean()] = None
    reasoning_off: Annotated[str | None, OneOf(("disabled", "between_tools"))] = None
    switch: Annotated[str | None, OneOf(("thinking", "enable_thinking", "chat_template_kwargs"))] = None
    forced_tools: Annotated[str | None, OneOf(("always", "without_reasoning", "never"))] = None
    chat: Annotated[str | None, OneOf(("always", "without_tools", "never"))] = None
    thinks_unstreamed: Annotated[bool | None, Boolean()] = None
    prefill: Annotated[bool | None, Boolean()] = None
    images: Annotated[bool | None, Boolean()] = None
    mid_system: Annotated[bool | None, Boolean()] = None
    max_tokens_key: Annotated[str | None, OneOf(("max_tokens", "max_completion_tokens"))] = None
    max_temperature: Annotated[float | None, Number(0, 2)] = None


SECTIONS = ("backends", "model_defaults", "model_facts", "failover_routes", "aliases", "prices")


def read_yaml(path: Path, named: Given) -> Mapping[str, object]:
    """The file's top mapping. Errors say where, not what: the text there may be a key. `named`: the setting that says
    which file it is."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{named.name}={show(named.value)}: the file cannot be read: {why}") from None
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{named.name}={show(named.value)}: {_fault(error)}") from None
    if content is None:
        return {}
    return _top(named, content)


def _top(named: Given, content: object) -> Mapping[str, object]:
    if isinstance(content, dict) and all(isinstance(key, str) for key in content):
        return content
    raise named.must_be("a file whose top level is a mapping of settings")


def _fault(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    line = "" if mark is None else f"line {mark.line + 1}: "
    return f"{line}the same key twice" if isinstance(error, DuplicateKeyError) else f"{line}the file is not valid YAML"


def unknown(given: Given, known: Iterable[str]) -> SettingsError:
    name = given.name.rpartition(".")[2]
    close = difflib.get_close_matches(name.lower(), known, n=1)
    where = f" in {given.place}" if given.place else ""
    meant = f"; did you mean {close[0]}?" if close else ""
    return SettingsError(f"{show(given.name)}{where}: there is no such setting{meant}")


def read_backends(given: Given) -> dict[str, ExtraBackend]:
    entries = given.entries("a mapping of backend names to {protocol, base_url, api_key_env, headers}")
    return {name: _backend(name, given.inside(name, value)) for name, value in entries.items()}


def _backend(name: str, given: Given) -> ExtraBackend:
    if not BACKEND_NAME.fullmatch(name) or name == DEMO:
        raise SettingsError(f"{given.name} in {given.place}: a backend's name is a-z, 0-9, '_', '.', '-', and not demo")
    entries = given.entries("a mapping with protocol, base_url, api_key_env and headers")
    inner = {key: given.inside(key, value) for key, value in entries.items() if value is not None}
    known = tuple(ExtraBackend.model_fields)
    for key, entry in inner.items():
        if key not in known:
            raise unknown(entry, known)
    backend = ExtraBackend(
        protocol=_protocols(inner["protocol"]) if "protocol" in inner else (),
        base_url=str(inner["base_url"].read(Url())) if "base_url" in inner else None,
        api_key_env=_variable(inner["api_key_env"]) if "api_key_env" in inner else None,
        headers=_headers(inner["headers"]) if "headers" in inner else {},
    )
    _check_whole(name, backend, given)
    return backend


def _check_whole(name: str, backend: ExtraBackend, given: Given) -> None:
    served = BACKENDS[name].protocols if name in BACKENDS else {}
    if not served and not backend.protocol:
        raise SettingsError(f"{given.name} in {given.place}: protocol is missing: one of {', '.join(FAMILIES)}")
    missing = [protocol for protocol in backend.protocol if protocol not in served]
    if backend.base_url is None and (missing or not served):
        raise SettingsError(f"{given.name} in {given.place}: base_url is missing")


def _protocols(given: Given) -> tuple[str, ...]:
    words = given.value if isinstance(given.value, list) else [given.value]
    reader = OneOf(tuple(FAMILIES))
    if not words:
        raise given.must_be(reader.allowed)
    return tuple(dict.fromkeys(str(Given(given.name, word, given.place).read(reader)) for word in words))


def _variable(given: Given) -> str:
    """Somebody may have written the key itself here: the value is not shown."""
    if not isinstance(given.value, str) or not VARIABLE.fullmatch(given.value):
        raise Given(given.name, None, given.place, secret=True).must_be("the name of an environment variable")
    return given.value


def _headers(given: Given) -> dict[str, str]:
    """Values may be secrets, as keys are."""
    headers = {}
    for name, value in given.entries("a mapping of header names to values").items():
        entry = Given(f"{given.name}.{show(name)}", value, given.place, secret=True)
        text = str(value)
        if not HEADER_NAME.fullmatch(name) or not re.fullmatch(r"[ -~]*", text) or isinstance(value, dict | list):
            raise entry.must_be("a header name with a value of visible ASCII characters")
        headers[name.lower()] = text
    return headers


def read_model_defaults(given: Given) -> dict[str, ModelDefaults]:
    entries = given.entries("a mapping of model names or patterns to their defaults")
    return {name: _model_defaults(given.inside(name, value)) for name, value in entries.items()}


def _model_defaults(given: Given) -> ModelDefaults:
    return ModelDefaults(**_fields(given, ModelDefaults))


def read_model_facts(given: Given) -> dict[str, OwnFacts]:
    entries = given.entries("a mapping of model names or patterns to facts")
    return {name: OwnFacts(**_fields(given.inside(name, value), OwnFacts)) for name, value in entries.items()}


def read_prices(given: Given) -> dict[str, OwnPrices]:
    entries = given.entries("a mapping of model names or patterns to their prices")
    return {name: _prices(given.inside(name, value)) for name, value in entries.items()}


def _prices(given: Given) -> OwnPrices:
    found = OwnPrices(**_fields(given, OwnPrices))
    if found.input is None and found.output is None:
        raise given.must_be("a mapping with input or output, in USD for a million tokens")
    return found


def _fields(given: Given, model: type[BaseModel]) -> dict[str, Any]:
    readers = {name: _reader(model, name) for name in model.model_fields}
    found: dict[str, Any] = {}
    for key, value in given.entries(f"a mapping with {', '.join(readers)}").items():
        entry = given.inside(key, value)
        if key not in readers:
            raise unknown(entry, readers)
        if value is not None:
            found[key] = entry.read(readers[key])
    return found


def _reader(model: type[BaseModel], field: str) -> Reader:
    reader: Reader = model.model_fields[field].metadata[0]
    return reader


def read_failover_routes(given: Given, backends: Collection[str]) -> dict[str, FailoverRoute]:
    entries = given.entries("a mapping of route names to {policy, elements}")
    return {name: _route(given.inside(name, value), backends) for name, value in entries.items()}


def _route(given: Given, backends: Collection[str]) -> FailoverRoute:
    entries = dict(given.entries("a mapping with policy and elements"))
    for key in entries:
        if key not in FailoverRoute.model_fields:
            raise unknown(given.inside(key, None), FailoverRoute.model_fields)
    policy = given.inside("policy", entries.get("policy")).read(OneOf(POLICIES))
    elements = given.inside("elements", entries.get("elements", []))
    if not isinstance(elements.value, list):
        raise elements.must_be("a list of backend:model")
    places = (Given(elements.name, element, given.place) for element in elements.value)
    return FailoverRoute(policy=str(policy), elements=tuple(_element(place, backends) for place in places))


def _element(given: Given, backends: Collection[str]) -> str:
    for mark in ":/":
        backend, found, model = str(given.value).partition(mark)
        if found and model and backend in backends:
            return f"{backend}:{model}"
    raise given.must_be(f"backend:model with a backend of {', '.join(backends)}")


def read_aliases(given: Given) -> dict[str, str]:
    entries = given.entries("a mapping of names, or patterns like /^claude-/, to texts")
    return {name: _alias(name, given.inside(name, value)) for name, value in entries.items()}


def is_pattern(alias: str) -> bool:
    """Whether it is a regular expression for model names: `/^claude-.*-haiku/`."""
    return len(alias) > 2 and alias.startswith("/") and alias.endswith("/")


def _alias(name: str, given: Given) -> str:
    meaning = str(given.read(Text()))
    if is_pattern(name):
        try:
            re.compile(name[1:-1]).sub(meaning, "")
        except (re.error, IndexError, RecursionError) as error:
            raise SettingsError(f"{given.name} in {given.place}: is no regular expression: {error}") from None
    return meaning
