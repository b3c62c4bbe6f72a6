"""What a person configures (SPEC 2): one table, the fields of `Settings`, in three spellings.

A setting's environment variable is its field's `alias`; the mitmproxy option is `llm_` and the field's name; the key
in the YAML file is the field's name. Precedence: option, environment, `.env`, file, default. Keys are `SecretStr` and
never appear in an error or a representation. A bad value is a `SettingsError` of one line.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from ruamel.yaml import YAML, YAMLError

from llm_interactive.backends import catalog
from llm_interactive.backends.catalog import BACKENDS, RESERVED, ConfiguredBackend

CONFIG_VARIABLE = "LLM_CONFIG"


class SettingsError(Exception):
    """One line: the setting as the person spelled it, its value (never a key), and what is allowed."""


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _prefix(value: str) -> str:
    if not 2 <= len(value) <= 10 or not value.isprintable() or any(c.isspace() for c in value):
        raise ValueError("2 to 10 printable characters without white space")
    if len(set(value)) == 1:
        raise ValueError("more than one character repeated")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s?#]+(?:/[^\s?#]*)?", value):
        raise ValueError("an http or https URL without a query")
    return value


def _home(value: Any) -> Any:
    return Path(value).expanduser() if isinstance(value, (str, Path)) else value


Keys = Annotated[tuple[SecretStr, ...], BeforeValidator(_split)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Url = Annotated[str, AfterValidator(_url)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]

ToolLoopMode = Literal["break", "chance_then_break"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Policy = Literal["k", "m", "km", "mk"]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)


class ModelDefaults(Strict):
    """What a model gets where the request says nothing; loop settings for every reply of it."""

    temperature: float | None = Field(None, ge=0, le=2)
    reasoning_effort: Effort | None = None
    thinking_budget: int | None = Field(None, ge=0, le=131_072)
    max_tokens: int | None = Field(None, ge=1)
    loop_detection_enabled: bool | None = None
    tool_loop_detection_enabled: bool | None = None
    tool_loop_max_repeats: int | None = Field(None, ge=2)
    tool_loop_ttl_seconds: int | None = Field(None, ge=1)
    tool_loop_mode: ToolLoopMode | None = None


class ExtraBackend(Strict):
    """A compatible service of the person's own: `api_key_env` names the variable that holds its key."""

    protocol: Annotated[
        tuple[Literal["openai_chat", "openai_responses", "anthropic_messages", "gemini"], ...], BeforeValidator(_split)
    ]
    base_url: Url
    api_key_env: str | None = None
    headers: dict[str, str] = {}


class Route(Strict):
    policy: Policy
    elements: tuple[str, ...] = ()


class Settings(Strict):
    client_keys: Keys = Field((), alias="LLM_INTERACTIVE_PROXY_API_KEY", description="key(s) clients must present (comma list); unset: only loopback peers may use the gateway")  # fmt: skip
    backend: str | None = Field(None, alias="LLM_BACKEND", description="backend for bare model names; unset: the vendor of the name if configured, else the first configured, else `demo`")  # fmt: skip
    proxy_host: str = Field("127.0.0.1", alias="PROXY_HOST", description="address that `scripts/run` listens on")
    proxy_port: int = Field(8000, ge=0, le=65_535, alias="PROXY_PORT", description="port that `scripts/run` listens on")
    proxy_timeout: Seconds = Field(300, alias="PROXY_TIMEOUT", description="seconds without a byte from the upstream before the attempt counts as failed")  # fmt: skip
    command_prefix: Prefix = Field("!/", alias="COMMAND_PREFIX", description="2-10 printable characters, no white space, not one character repeated")  # fmt: skip
    disable_interactive_commands: bool = Field(False, alias="DISABLE_INTERACTIVE_COMMANDS", description="no command processing: prompts pass untouched")  # fmt: skip
    redact_api_keys_in_prompts: bool = Field(True, alias="REDACT_API_KEYS_IN_PROMPTS", description="replace secrets before anything is sent, logged or stored")  # fmt: skip
    redaction_restore: bool = Field(False, alias="REDACTION_RESTORE", description="put redacted secrets back into the arguments of tool calls")  # fmt: skip
    disable_auth: bool = Field(False, alias="DISABLE_AUTH", description="no client key asked; loopback peers only")
    force_set_project: bool = Field(False, alias="FORCE_SET_PROJECT", description="refuse prompts until the session has a project")  # fmt: skip
    disable_accounting: bool = Field(False, alias="DISABLE_ACCOUNTING", description="record no usage")
    usage_retention_days: int | None = Field(None, ge=1, alias="USAGE_RETENTION_DAYS", description="days that usage rows are kept; unset: for ever")  # fmt: skip
    loop_detection_enabled: bool = Field(True, alias="LOOP_DETECTION_ENABLED", description="stop replies that repeat themselves")  # fmt: skip
    loop_detection_buffer_size: int = Field(2048, ge=64, le=1_000_000, alias="LOOP_DETECTION_BUFFER_SIZE", description="characters kept to look for a repetition")  # fmt: skip
    loop_detection_max_pattern_length: int = Field(500, ge=1, le=100_000, alias="LOOP_DETECTION_MAX_PATTERN_LENGTH", description="longest repeating pattern, in characters")  # fmt: skip
    loop_detection_content_chunk_size: int = Field(50, ge=2, le=10_000, alias="LOOP_DETECTION_CONTENT_CHUNK_SIZE", description="characters of a chunk that is looked for again")  # fmt: skip
    loop_detection_content_loop_threshold: int = Field(10, ge=3, le=1_000, alias="LOOP_DETECTION_CONTENT_LOOP_THRESHOLD", description="repetitions that make a loop")  # fmt: skip
    loop_detection_max_history_length: int = Field(1000, ge=1, le=1_000_000, alias="LOOP_DETECTION_MAX_HISTORY_LENGTH", description="chunks remembered")  # fmt: skip
    loop_detection_notice: Literal["content", "raw"] = Field("content", alias="LOOP_DETECTION_NOTICE", description="`content` or `raw` (a bare line in OpenAI streams)")  # fmt: skip
    tool_loop_detection_enabled: bool = Field(True, alias="TOOL_LOOP_DETECTION_ENABLED", description="stop tool calls that repeat themselves")  # fmt: skip
    tool_loop_max_repeats: int = Field(4, ge=2, le=1_000, alias="TOOL_LOOP_MAX_REPEATS", description="identical calls that make a loop")  # fmt: skip
    tool_loop_ttl_seconds: int = Field(120, ge=1, le=86_400, alias="TOOL_LOOP_TTL_SECONDS", description="seconds within which calls count together")  # fmt: skip
    tool_loop_mode: ToolLoopMode = Field("break", alias="TOOL_LOOP_MODE", description="`break` or `chance_then_break`")
    allowed_urls: Names = Field((), alias="LLM_ALLOWED_URLS", description="hosts beside loopback that `!/set(openai_url=...)` may name")  # fmt: skip
    intercept_hosts: Names = Field((), alias="LLM_INTERCEPT_HOSTS", description="more hosts whose OpenAI-compatible calls are caught")  # fmt: skip
    home: Annotated[Path, BeforeValidator(_home)] = Field(Path("~/.llm-interactive-proxy").expanduser(), alias="LLM_PROXY_HOME", description="folder of the database and whatever else is kept")  # fmt: skip

    model_defaults: dict[str, ModelDefaults] = Field({}, exclude=True)
    failover_routes: dict[str, Route] = Field({}, exclude=True)
    aliases: dict[str, str] = Field({}, exclude=True)
    backends: dict[str, ExtraBackend] = Field({}, exclude=True)
    keys: dict[str, tuple[SecretStr, ...]] = Field({}, exclude=True)
    """The keys of each backend, by its name."""
    base_urls: dict[str, Url] = Field({}, exclude=True)
    """Custom base URLs, by the backend's name."""


TABLE = {name: field for name, field in Settings.model_fields.items() if field.alias}
"""The settings with three spellings; the other fields come from the file or are put together."""
VARIABLES = {name: field.alias or "" for name, field in TABLE.items()}
FILE_ONLY = ("model_defaults", "failover_routes", "aliases", "backends")
SECRET = frozenset({"client_keys"})


def option_name(name: str) -> str:
    return f"llm_{name}"


def load(options: Mapping[str, Any], environ: Mapping[str, str], cwd: Path) -> Settings:
    """`options`: those that were set, by option name. Reads `.env` in `cwd` and the file that LLM_CONFIG names."""
    environment = {**_dotenv(cwd), **environ}
    path = options.get("llm_config") or environment.get(CONFIG_VARIABLE)
    given = _file(Path(path).expanduser()) if path else {}
    spelled = {name: f"{name} in {path}" for name in given}
    for name, variable in VARIABLES.items():
        for spelling, source in ((variable, environment), (option_name(name), options)):
            if spelling in source and source[spelling] not in ("", None):
                given[name], spelled[name] = source[spelling], spelling
    extra = given.get("backends")
    given["keys"], given["base_urls"] = _keys(environment, extra), _base_urls(environment)
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_one_line(error, given, spelled)) from None
    _check_names(settings, spelled)
    return settings


def _dotenv(cwd: Path) -> dict[str, str]:
    path = cwd / ".env"
    return {name: value for name, value in dotenv_values(path).items() if value} if path.is_file() else {}


def _file(path: Path) -> dict[str, Any]:
    try:
        read = YAML(typ="safe").load(path)
    except OSError as error:
        raise SettingsError(f"{CONFIG_VARIABLE}: {path} cannot be read: {error.strerror}") from None
    except YAMLError as error:
        where = " ".join(str(error).split())
        raise SettingsError(f"{CONFIG_VARIABLE}: {path} is no YAML: {where}") from None
    if read is None:
        return {}
    if not isinstance(read, dict):
        raise SettingsError(f"{CONFIG_VARIABLE}: {path} must hold settings by name, not {type(read).__name__}")
    by_alias = {variable: name for name, variable in VARIABLES.items()}
    known = (*TABLE, *FILE_ONLY)
    found = {by_alias.get(str(key), str(key)): value for key, value in read.items()}
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            raise SettingsError(f"{key} in {path} is no setting{hint}")
    return found


def _keys(environment: Mapping[str, str], extra: Any) -> dict[str, tuple[SecretStr, ...]]:
    variables = {row.name: f"{row.variable}_API_KEY" for row in BACKENDS.values()}
    for name, backend in extra.items() if isinstance(extra, dict) else ():
        if isinstance(backend, dict) and isinstance(backend.get("api_key_env"), str):
            variables[name] = backend["api_key_env"]
    return {name: found for name, head in variables.items() if (found := numbered(environment, head))}


def numbered(environment: Mapping[str, str], head: str) -> tuple[SecretStr, ...]:
    """NAME, then NAME_1, NAME_2, ... in the order of their numbers; each key once."""
    pattern = re.compile(re.escape(head) + r"(?:_(\d+))?")
    found = [(int(m[1] or -1), value.strip()) for name, value in environment.items() if (m := pattern.fullmatch(name))]
    return tuple(SecretStr(value) for value in dict.fromkeys(value for _, value in sorted(found) if value))


def _base_urls(environment: Mapping[str, str]) -> dict[str, str]:
    found = {row.name: environment.get(f"{row.variable}_API_BASE_URL", "").strip() for row in BACKENDS.values()}
    return {name: url for name, url in found.items() if url}


def _one_line(error: ValidationError, given: Mapping[str, Any], spelled: Mapping[str, str]) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = [str(step) for step in first["loc"]]
    name = where[0]
    name = next((field for field, variable in VARIABLES.items() if variable == name), name)
    allowed = first["msg"].removeprefix("Value error, ")
    if name == "base_urls":
        variable = f"{BACKENDS[where[1]].variable}_API_BASE_URL"
        return f"{variable}: {given['base_urls'][where[1]]!r} is not allowed: {allowed}"
    label = ".".join([spelled.get(name, name), *where[1:]])
    value = "" if name in SECRET or len(where) > 1 else f" {given.get(name)!r} is not allowed:"
    return f"{label}:{value} {allowed}"


def _check_names(settings: Settings, spelled: Mapping[str, str]) -> None:
    for name in settings.backends:
        if name in RESERVED or not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name):
            allowed = "lower-case letters, digits, '.', '_' and '-', and no built-in backend's name"
            raise SettingsError(f"{spelled['backends']}: {name!r} is not allowed: {allowed}")
    known = {*RESERVED, *settings.backends}
    if settings.backend is not None and settings.backend not in known:
        listed = ", ".join(sorted(known))
        raise SettingsError(f"{spelled['backend']}: {settings.backend!r} is not allowed: one of {listed}")


def configured(settings: Settings) -> dict[str, ConfiguredBackend]:
    """The backends that can be used, by name: those with a key, or with a base URL where no key is needed."""
    found: dict[str, ConfiguredBackend] = {}
    for row in BACKENDS.values():
        url, keys = settings.base_urls.get(row.name), settings.keys.get(row.name, ())
        if keys or (url and not row.needs_key):
            found[row.name] = ConfiguredBackend(row.name, catalog.at(row, url), keys)
    for name, extra in settings.backends.items():
        urls = {protocol: extra.base_url for protocol in extra.protocol}
        found[name] = ConfiguredBackend(name, {**urls}, settings.keys.get(name, ()), extra.headers)
    return found
