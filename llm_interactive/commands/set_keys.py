"""The keys of `set` and `unset`, one row each (SPEC 5.3): a new key is a new row.

A row's `put` changes the session or server of the context it is given (a draft, so that `set` is all or nothing) and
returns the answer, or raises `CommandError`; `fields` names what `unset` clears. What a key does to requests is decided
where requests are made.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llm_interactive import url_guard, wire_json
from llm_interactive.commands.arguments import parse
from llm_interactive.commands.context import CommandError, Context
from llm_interactive.config_file import EFFORTS, TOOL_LOOP_MODES
from llm_interactive.setting_values import (
    Boolean,
    CommandPrefix,
    Number,
    OneOf,
    Reader,
    Text,
    ThinkingBudget,
    Url,
    Whole,
    show,
)

type Put = Callable[[Context, str], str]

LONGEST_NAME = 200
MOST_FORMER_PREFIXES = 8
REASONING = ("effort", "max_tokens", "exclude")


@dataclass(frozen=True, slots=True)
class Key:
    """`field`: of the session, or of the server where `server` says so. `values`: what it takes, for people."""

    name: str
    put: Put
    field: str
    values: str
    aliases: tuple[str, ...] = ()
    server: bool = False

    def clear(self, context: Context) -> str:
        if self.name == "command-prefix":
            _leave_prefix(context)
        setattr(context.server if self.server else context.session, self.field, None)
        return f"{self.name} unset"


def read(key: str, value: str, reader: Reader) -> Any:
    try:
        return reader(value)
    except ValueError:
        raise CommandError(f"{key}={show(value)}: must be {reader.allowed}") from None


def _value(key: str, field: str, reader: Reader, aliases: tuple[str, ...] = (), answer: str = "") -> Key:
    """A key that one value of the session is for. `answer`: where it is not `<key> set to <value>`."""

    def put(context: Context, value: str) -> str:
        meant = read(key, value, reader)
        setattr(context.session, field, meant)
        return f"{answer or key + ' set to'} {meant}"

    return Key(key, put, field, reader.allowed, aliases)


@dataclass(frozen=True, slots=True)
class Name:
    """A short text."""

    allowed: str = f"a text of at most {LONGEST_NAME} printable characters"

    def __call__(self, given: object) -> str:
        text: str = Text()(given)
        if len(text) > LONGEST_NAME:
            raise ValueError
        return text


def _put_model(context: Context, value: str) -> str:
    model = context.element(value) or _route_or_alias(context, value)
    if model is None:
        raise CommandError(f"model {show(value)} not supported: {MODEL_VALUES}")
    context.session.model = model
    return f"model set to {model}"


def _route_or_alias(context: Context, value: str) -> str | None:
    if value in context.routes:
        return value
    meaning = context.alias(value)
    if meaning is None:
        return None
    return meaning if meaning in context.routes else context.element(meaning)


MODEL_VALUES = "give backend:model or backend/model with a configured backend, a route or an alias"


def _known_backend(context: Context, value: str) -> str:
    if value not in context.backends:
        raise CommandError(f"backend {show(value)} not supported")
    return value


def _put_backend(context: Context, value: str) -> str:
    context.session.backend = _known_backend(context, value)
    context.session.model = None
    return f"backend set to {value}"


def _put_default_backend(context: Context, value: str) -> str:
    context.server.default_backend = _known_backend(context, value)
    return f"default backend set to {value}"


def _put_project_dir(context: Context, value: str) -> str:
    path = os.path.expanduser(value)
    if not path.isprintable() or not path or not context.is_directory(path):
        raise CommandError(f"Directory '{show(value)}' not found.")
    context.session.project_dir = path
    return f"project-dir set to {path}"


def _put_temperature(context: Context, value: str) -> str:
    try:
        context.session.temperature = Number(0, 2)(value)
    except ValueError:
        raise CommandError("Temperature must be between 0.0 and 2.0") from None
    return f"temperature set to: {context.session.temperature}"


def _put_reasoning(context: Context, value: str) -> str:
    """`effort=high`, `{effort=high, exclude=true}` or a JSON object."""
    given = _object(value) if value.startswith("{") else _pairs(value)
    if not given or any(name not in REASONING for name in given):
        raise CommandError(f"reasoning={show(value)}: must be {REASONING_VALUES}")
    meant = {name: read(f"reasoning {name}", _spoken(given[name]), READ_REASONING[name])
             for name in REASONING if name in given}  # fmt: skip
    context.session.reasoning = meant
    return f"reasoning set to {json.dumps(meant)}"


READ_REASONING: dict[str, Reader] = {"effort": OneOf(EFFORTS), "max_tokens": Whole(1, 10_000_000), "exclude": Boolean()}
REASONING_VALUES = "effort=, max_tokens=, exclude=, or a JSON object of them"


def _pairs(text: str) -> dict[str, Any]:
    return {argument.key or "effort": argument.value for argument in parse(text)}


def _object(text: str) -> dict[str, Any]:
    return found if (found := _json_object(text)) is not None else _pairs(text.removeprefix("{").removesuffix("}"))


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        found = wire_json.loads(text.encode())
    except ValueError:
        return None
    return found if isinstance(found, dict) and not wire_json.depth_exceeds(found, 32) else None


def _spoken(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _put_generation_config(context: Context, value: str) -> str:
    meant = _json_object(value)
    if meant is None:
        raise CommandError(f"gemini-generation-config={show(value)}: must be a JSON object")
    context.session.generation_config = meant
    return f"gemini generation config set to: {json.dumps(meant, ensure_ascii=False)}"


def _put_openai_url(context: Context, value: str) -> str:
    url: str = read("openai_url", value, Url())
    try:
        url_guard.check(url, context.allowed_urls)
    except url_guard.UrlRefused as refused:
        raise CommandError(f"openai_url={show(url)}: {refused}") from None
    context.session.openai_url = url
    return f"OpenAI URL set to: {url}"


def _put_redact(context: Context, value: str) -> str:
    context.server.redact = read("redact-api-keys-in-prompts", value, Boolean())
    return f"redact-api-keys-in-prompts set to {context.server.redact}"


def _put_prefix(context: Context, value: str) -> str:
    prefix: str = read("command-prefix", value, CommandPrefix())
    if any(char in prefix for char in "()\"'`,"):
        raise CommandError(f"command-prefix={show(value)}: must not hold quotes, commas or parentheses")
    _leave_prefix(context)
    context.server.command_prefix = prefix
    context.server.former_prefixes = [each for each in context.server.former_prefixes if each != prefix]
    return f"command-prefix set to {prefix}"


def _leave_prefix(context: Context) -> None:
    """Histories hold commands typed with it."""
    former = [each for each in context.server.former_prefixes if each != context.prefix]
    context.server.former_prefixes = [*former, context.prefix][-MOST_FORMER_PREFIXES:]


KEYS: tuple[Key, ...] = (
    Key("model", _put_model, "model", "backend:model, backend/model, a route or an alias"),
    Key("backend", _put_backend, "backend", "a backend"),
    Key("default-backend", _put_default_backend, "default_backend", "a backend", server=True),
    _value("project", "project", Name(), ("project-name",)),
    Key("project-dir", _put_project_dir, "project_dir", "an existing directory", ("dir", "project-directory")),
    _value("interactive", "interactive", Boolean(), ("interactive-mode",)),
    Key("temperature", _put_temperature, "temperature", "0.0 to 2.0"),
    _value("reasoning-effort", "reasoning_effort", OneOf(EFFORTS)),
    Key("reasoning", _put_reasoning, "reasoning", REASONING_VALUES),
    _value("thinking-budget", "thinking_budget", ThinkingBudget()),
    _value("show-reasoning", "show_reasoning", Boolean()),
    Key("gemini-generation-config", _put_generation_config, "generation_config", "a JSON object"),
    Key("openai_url", _put_openai_url, "openai_url", Url().allowed, ("openai-url",)),
    _value("loop-detection", "loop_detection", Boolean(), ("loop_detection", "loop")),
    _value("tool-loop-detection", "tool_loop_detection", Boolean(), ("tool_loop_detection", "tool-loop")),
    _value("tool-loop-max-repeats", "tool_loop_max_repeats", Whole(2, 1_000_000),
           ("tool_loop_max_repeats", "tool-loop-repeats")),
    _value("tool-loop-ttl", "tool_loop_ttl", Whole(1, 31_536_000), ("tool-loop-ttl-seconds", "tool_loop_ttl_seconds")),
    _value("tool-loop-mode", "tool_loop_mode", TOOL_LOOP_MODES, ("tool_loop_mode",)),
    Key("redact-api-keys-in-prompts", _put_redact, "redact", Boolean().allowed, server=True),
    Key("command-prefix", _put_prefix, "command_prefix", CommandPrefix().allowed, server=True),
)  # fmt: skip

_BY_NAME = {name.replace("_", "-"): key for key in KEYS for name in (key.name, *key.aliases)}


def key_named(name: str) -> Key | None:
    """Case does not matter, nor whether it is written with `-` or `_`."""
    return _BY_NAME.get(name.strip().lower().replace("_", "-"))
