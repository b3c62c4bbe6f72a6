"""What a person configures (SPEC 2): one table, each setting with one name in three spellings.

    environment, .env   PROXY_TIMEOUT
    config file         proxy_timeout       (any case; a leading `llm_` may be left out)
    mitmproxy option    llm_proxy_timeout   (keys have none: mitmproxy shows its options)

`load` reads nothing but the named files, and raises `SettingsError` for whatever is wrong. No key is in a repr or error.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, SecretStr

from llm_interactive import config_file
from llm_interactive.backends import providers
from llm_interactive.config_file import ExtraBackend, FailoverRoute, ModelDefaults, OwnFacts, OwnPrices
from llm_interactive.setting_values import (
    Boolean,
    CommandPrefix,
    Given,
    Hosts,
    Keys,
    Number,
    OneOf,
    Reader,
    SettingsError,
    Text,
    Url,
    Whole,
)

__all__ = ["TABLE", "ExtraBackend", "FailoverRoute", "ModelDefaults", "Setting", "Settings", "SettingsError", "load"]

ONE_KEY = Keys("a key of visible ASCII characters, without white space", separator=None)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `environment` is its name; `secret` and start-up settings are no mitmproxy options."""

    environment: str
    read: Reader
    help: str
    secret: bool = False
    is_option: bool = True
    default: str = ""
    """As a person would write it; "" for none."""

    @property
    def key(self) -> str:
        return self.environment.lower()

    @property
    def option(self) -> str:
        return "llm_" + _short(self.key)


class Settings(BaseModel):
    """All that is set, read and checked. `keys` and `base_urls` are by backend; `backends` are those of the file."""

    model_config = ConfigDict(frozen=True)

    client_keys: Annotated[
        tuple[SecretStr, ...],
        Setting(
            "LLM_INTERACTIVE_PROXY_API_KEY",
            Keys(),
            "key(s) that clients must present, separated by commas; unset: only programs on this machine may connect",
            secret=True,
        ),
    ] = ()
    backend: Annotated[
        str | None,
        Setting(
            "LLM_BACKEND",
            Text(),
            "backend for bare model names; unset: the vendor of the model if configured, else the first configured",
        ),
    ] = None
    proxy_host: Annotated[
        str, Setting("PROXY_HOST", Text(), "address that `scripts/run` listens on", is_option=False)
    ] = "127.0.0.1"
    proxy_port: Annotated[
        int, Setting("PROXY_PORT", Whole(0, 65_535), "port that `scripts/run` listens on", is_option=False)
    ] = 8000
    proxy_timeout: Annotated[
        float,
        Setting(
            "PROXY_TIMEOUT",
            Number(0.1, 86_400),
            "seconds without a byte from a provider before the attempt counts as failed",
        ),
    ] = 300.0
    command_prefix: Annotated[
        str, Setting("COMMAND_PREFIX", CommandPrefix(), "what commands in prompts begin with")
    ] = "!/"
    disable_interactive_commands: Annotated[
        bool, Setting("DISABLE_INTERACTIVE_COMMANDS", Boolean(), "prompts pass untouched, commands are not run")
    ] = False
    redact_api_keys_in_prompts: Annotated[
        bool, Setting("REDACT_API_KEYS_IN_PROMPTS", Boolean(), "no key or secret leaves in a prompt")
    ] = True
    redaction_restore: Annotated[
        bool, Setting("REDACTION_RESTORE", Boolean(), "put redacted secrets back into the arguments of tool calls")
    ] = False
    disable_auth: Annotated[
        bool, Setting("DISABLE_AUTH", Boolean(), "ask for no client key; then only this machine may connect")
    ] = False
    force_set_project: Annotated[
        bool, Setting("FORCE_SET_PROJECT", Boolean(), "refuse prompts until the session has a project")
    ] = False
    disable_accounting: Annotated[bool, Setting("DISABLE_ACCOUNTING", Boolean(), "record no usage")] = False
    usage_retention_days: Annotated[
        int | None,
        Setting("USAGE_RETENTION_DAYS", Whole(1, 36_500), "days that usage rows are kept; unset: for ever"),
    ] = None
    loop_detection_enabled: Annotated[
        bool, Setting("LOOP_DETECTION_ENABLED", Boolean(), "stop replies that repeat themselves")
    ] = True
    loop_detection_buffer_size: Annotated[
        int,
        Setting("LOOP_DETECTION_BUFFER_SIZE", Whole(1, 1_000_000), "characters of a reply kept to compare with"),
    ] = 2048
    loop_detection_max_pattern_length: Annotated[
        int,
        Setting("LOOP_DETECTION_MAX_PATTERN_LENGTH", Whole(1, 100_000), "longest repeated text found, in characters"),
    ] = 500
    loop_detection_content_chunk_size: Annotated[
        int, Setting("LOOP_DETECTION_CONTENT_CHUNK_SIZE", Whole(2, 100_000), "characters compared at a time")
    ] = 50
    loop_detection_content_loop_threshold: Annotated[
        int, Setting("LOOP_DETECTION_CONTENT_LOOP_THRESHOLD", Whole(2, 100_000), "repetitions that make a loop")
    ] = 10
    loop_detection_max_history_length: Annotated[
        int,
        Setting("LOOP_DETECTION_MAX_HISTORY_LENGTH", Whole(1, 1_000_000), "how far apart repetitions may be"),
    ] = 1000
    loop_detection_notice: Annotated[
        str,
        Setting(
            "LOOP_DETECTION_NOTICE",
            OneOf(("content", "raw")),
            "how the client is told: `content` as text of the reply, `raw` as a bare line of OpenAI's stream",
        ),
    ] = "content"
    tool_loop_detection_enabled: Annotated[
        bool, Setting("TOOL_LOOP_DETECTION_ENABLED", Boolean(), "stop tool calls that repeat themselves")
    ] = True
    tool_loop_max_repeats: Annotated[
        int, Setting("TOOL_LOOP_MAX_REPEATS", Whole(2, 1_000_000), "identical calls in a row that make a loop")
    ] = 4
    tool_loop_ttl_seconds: Annotated[
        int, Setting("TOOL_LOOP_TTL_SECONDS", Whole(1, 31_536_000), "seconds after which a call is forgotten")
    ] = 120
    tool_loop_mode: Annotated[
        str,
        Setting(
            "TOOL_LOOP_MODE",
            config_file.TOOL_LOOP_MODES,
            "`break`: stop at once; `chance_then_break`: tell the model first",
        ),
    ] = "break"
    allowed_urls: Annotated[
        tuple[str, ...],
        Setting("LLM_ALLOWED_URLS", Hosts(), "hosts that `!/set(openai_url=...)` may name besides this machine"),
    ] = ()
    intercept_hosts: Annotated[
        tuple[str, ...],
        Setting("LLM_INTERCEPT_HOSTS", Hosts(), "more hosts whose OpenAI-compatible calls are caught on their way"),
    ] = ()
    decrypt_others: Annotated[
        bool,
        Setting(
            "LLM_DECRYPT_OTHERS", Boolean(), "open TLS to hosts that are no LLM provider's too, to see it in mitmproxy"
        ),
    ] = False
    home: Annotated[Path, Setting("LLM_PROXY_HOME", Text("a folder"), "folder of the database")] = Path(
        "~/.llm-interactive-proxy"
    )
    config: Annotated[
        Path | None, Setting("LLM_CONFIG", Text("a file"), "YAML file with any of these settings and more")
    ] = None

    keys: Mapping[str, tuple[SecretStr, ...]] = {}
    base_urls: Mapping[str, str] = {}
    backends: Mapping[str, ExtraBackend] = {}
    model_defaults: Mapping[str, ModelDefaults] = {}
    model_facts: Mapping[str, OwnFacts] = {}
    failover_routes: Mapping[str, FailoverRoute] = {}
    aliases: Mapping[str, str] = {}
    prices: Mapping[str, OwnPrices] = {}

    @property
    def backend_names(self) -> tuple[str, ...]:
        """Every name that can stand before the colon of `backend:model`, configured or not."""
        return tuple(dict.fromkeys((*providers.NAMES, *self.backends)))


def _short(key: str) -> str:
    return key.lower().removeprefix("llm_")


def _written(default: object) -> str:
    match default:
        case None | ():
            return ""
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
    return str(default)


def _rows() -> Iterator[tuple[str, Setting]]:
    for attribute, field in Settings.model_fields.items():
        for row in field.metadata:
            if isinstance(row, Setting):
                yield (
                    attribute,
                    Setting(row.environment, row.read, row.help, row.secret, row.is_option, _written(field.default)),
                )


def _backend_rows(prefix: str) -> tuple[Setting, Setting]:
    names = " and ".join(name for name, row in providers.BACKENDS.items() if row.prefix == prefix) or prefix.lower()
    return (
        Setting(f"{prefix}_API_KEY", ONE_KEY, f"key of {names}; more of them with _1, _2, ... behind", secret=True),
        Setting(f"{prefix}_API_BASE_URL", Url(), f"base URL of {names}"),
    )


ATTRIBUTES: Mapping[str, Setting] = dict(_rows())
BACKEND_TABLE: tuple[Setting, ...] = tuple(row for prefix in providers.PREFIXES for row in _backend_rows(prefix))
TABLE: tuple[Setting, ...] = (*ATTRIBUTES.values(), *BACKEND_TABLE)
"""Every setting that has a name of its own, in the order of the README; the file's own backends add theirs."""


def load(options: Mapping[str, str], environ: Mapping[str, str], cwd: Path) -> Settings:
    """`options`: mitmproxy's, by name, only those that were set. Raises `SettingsError`."""
    dotenv = _read_dotenv(cwd / ".env")
    variables = {**dotenv, **{name: Given(name, value) for name, value in environ.items() if value}}
    chosen = {name: Given(name, value) for name, value in options.items() if value}
    config = _config_path(chosen, variables, environ, cwd)
    content = config_file.read_yaml(config.path, config.given) if config else {}
    place = str(config.path) if config else ""
    sections = {name: Given(name, content.get(name), place) for name in config_file.SECTIONS}
    backends = config_file.read_backends(sections["backends"])
    rows = {_short(row.key): row for row in (*TABLE, *_rows_of_file(backends))}
    values = _merge(rows, _of_file(content, rows, place), variables, chosen)

    names = tuple(dict.fromkeys((*providers.NAMES, *backends)))
    found: dict[str, Any] = {}
    for attribute, row in ATTRIBUTES.items():
        given = values.get(_short(row.key))
        if given is not None:
            found[attribute] = given.read(row.read)
    if found.get("backend", names[0]) not in names:
        raise values["backend"].must_be(f"one of {', '.join(names)}")
    found["client_keys"] = tuple(SecretStr(key) for key in found.get("client_keys", ()))
    found["home"] = _path(str(found.get("home", Settings.model_fields["home"].default)), environ, cwd)
    found["config"] = config.path if config else None
    return Settings(
        **found,
        keys=_keys(values, variables, backends),
        base_urls=_base_urls(values, backends),
        backends=backends,
        model_defaults=config_file.read_model_defaults(sections["model_defaults"]),
        model_facts=config_file.read_model_facts(sections["model_facts"]),
        failover_routes=config_file.read_failover_routes(sections["failover_routes"], names),
        aliases=config_file.read_aliases(sections["aliases"]),
        prices=config_file.read_prices(sections["prices"]),
    )


@dataclass(frozen=True, slots=True)
class _Config:
    given: Given
    path: Path


def _config_path(
    options: Mapping[str, Given], variables: Mapping[str, Given], environ: Mapping[str, str], cwd: Path
) -> _Config | None:
    row = ATTRIBUTES["config"]
    given = options.get(row.option) or variables.get(row.environment)
    return _Config(given, _path(str(given.read(row.read)), environ, cwd)) if given else None


def _path(text: str, environ: Mapping[str, str], cwd: Path) -> Path:
    """`~` is the home of `environ`; a relative path starts at the working directory."""
    home = environ.get("HOME") or environ.get("USERPROFILE")
    if home and re.match(r"~(?:[/\\]|$)", text):
        text = home + text[1:]
    return cwd / text


def _read_dotenv(path: Path) -> dict[str, Given]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{path}: the file cannot be read: {why}") from None
    values = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: Given(name, value, ".env") for name, value in values.items() if value}


def _rows_of_file(backends: Mapping[str, ExtraBackend]) -> Iterator[Setting]:
    for name in backends:
        if name not in providers.BACKENDS:
            yield from _backend_rows(providers.prefix_of(name))


def _numbered(name: str) -> tuple[str, int]:
    """`OPENAI_API_KEY_2` -> its setting and 2; a plain name has number -1, so that it comes first."""
    found = re.fullmatch(r"(.+_api_key)_(\d{1,9})", name, re.IGNORECASE)
    return (found[1], int(found[2])) if found else (name, -1)


def _of_file(content: Mapping[str, object], rows: Mapping[str, Setting], place: str) -> dict[str, Given]:
    """The file's settings by short key. Raises `SettingsError` for an unknown or doubled name."""
    found: dict[str, Given] = {}
    for name, value in content.items():
        if name in config_file.SECTIONS:
            continue
        short = _short(name)
        given = Given(name, value, place)
        row = rows.get(_numbered(short)[0])
        if row is None or (short not in rows and row.read is not ONE_KEY):
            raise config_file.unknown(given, [*(each.key for each in rows.values()), *config_file.SECTIONS])
        if short in found:
            raise SettingsError(f"{name} in {place}: is the same setting as {found[short].name}")
        if value is not None and value != "":
            found[short] = Given(name, value, place, row.secret)
    return found


def _merge(
    rows: Mapping[str, Setting], file: dict[str, Given], variables: Mapping[str, Given], options: Mapping[str, Given]
) -> dict[str, Given]:
    """Every given setting by short key, each from the place that goes first (SPEC 2)."""
    merged = dict(file)
    by_environment = {row.environment: (short, row) for short, row in rows.items()}
    for name, given in variables.items():
        plain, number = _numbered(name)
        short, row = by_environment.get(plain, ("", None))
        if row is not None and (number < 0 or row.read is ONE_KEY):
            merged[_short(name)] = Given(name, given.value, given.place, row.secret)
    for short, row in rows.items():
        if row.option in options and not row.secret:
            merged[short] = options[row.option]
    return merged


def _keys(
    values: Mapping[str, Given], variables: Mapping[str, Given], backends: Mapping[str, ExtraBackend]
) -> dict[str, tuple[SecretStr, ...]]:
    found = {}
    for name in dict.fromkeys((*providers.BACKENDS, *backends)):
        extra = backends.get(name)
        if extra is not None and extra.api_key_env is not None:
            given = _family(extra.api_key_env, variables)
        else:
            given = _family(f"{_short(providers.prefix_of(name))}_api_key", values)
        read = [key for each in given for key in _texts(each.read(ONE_KEY))]
        if read:
            found[name] = tuple(SecretStr(key) for key in dict.fromkeys(read))
    return found


def _family(plain: str, given: Mapping[str, Given]) -> list[Given]:
    """A plain name's and then its numbered values: `X`, `X_1`, `X_2`, ..."""
    numbers = {
        name: int(name[len(plain) + 1 :] or -1) for name in given if re.fullmatch(rf"{plain}(?:_\d{{1,9}})?", name)
    }
    return [
        Given(given[name].name, given[name].value, given[name].place, secret=True)
        for name in sorted(numbers, key=lambda name: numbers[name])
    ]


def _texts(read: object) -> tuple[str, ...]:
    return read if isinstance(read, tuple) else ()


def _base_urls(values: Mapping[str, Given], backends: Mapping[str, ExtraBackend]) -> dict[str, str]:
    """Custom ones only. Backends that share a prefix share the URL."""
    found = {}
    for name in dict.fromkeys((*providers.BACKENDS, *backends)):
        prefix = providers.prefix_of(name)
        given = values.get(f"{_short(prefix)}_api_base_url")
        sharing = [name, *(other for other, row in providers.BACKENDS.items() if row.prefix == prefix)]
        of_file = next((backends[each].base_url for each in sharing if each in backends), None)
        url = given.read(Url()) if given else of_file
        if url:
            found[name] = str(url)
    return found
