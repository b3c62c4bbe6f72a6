"""How the value of a setting is read, as a person wrote it in an environment variable, an option or YAML.

Each reader is called with the value and returns what it means, or raises ValueError; `allowed` says in words what it
takes, for the one line that stops the start. That line never holds a key, nor what looks like one.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol
from urllib.parse import urlsplit

TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")
KEY = re.compile(r"[!-~]+")
HOST = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\.?(?::\d{1,5})?|\[[0-9a-f:.]+\](?::\d{1,5})?")


LOOKS_SECRET = re.compile(
    r"(?<=//)[^/\s]*@"  # user:password@
    r"|\b(?:sk|pk|rk|gsk|xai|key|ghp|AIza)[-_]?[A-Za-z0-9][\w-]{5,}"
    r"|(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[\w-]{20,}"
)
SHOWN = 80
"""Characters of a wrong value."""
LOOKED_AT = 1000
"""Characters searched for secrets: what comes later is not shown, and the search takes long in long words."""


class SettingsError(Exception):
    """One line for the person who starts the proxy: the setting as they spelled it, the value, what is allowed."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value where it was found. `name`: the setting as it is spelled there; `place`: the file, if it was one."""

    name: str
    value: object = field(repr=False)
    place: str = ""
    secret: bool = False

    def must_be(self, allowed: str) -> SettingsError:
        shown = "" if self.secret else f"={show(self.value)}"
        where = f" in {self.place}" if self.place else ""
        return SettingsError(f"{self.name}{shown}{where}: must be {allowed}")

    def read(self, reader: "Reader") -> object:
        try:
            return reader(self.value)
        except ValueError:
            raise self.must_be(reader.allowed) from None

    def inside(self, name: object, value: object) -> "Given":
        """An entry of this mapping."""
        return Given(f"{self.name}.{show(name)}", value, self.place, self.secret)

    def entries(self, what: str) -> Mapping[str, object]:
        """Of a mapping whose keys are text; nothing (`null`) is an empty one."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict) or not all(isinstance(key, str) for key in self.value):
            raise self.must_be(what)
        return self.value


def show(value: object) -> str:
    text = LOOKS_SECRET.sub("***", str(value)[:LOOKED_AT])
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


class Reader(Protocol):
    @property
    def allowed(self) -> str: ...

    def __call__(self, given: object) -> object: ...


@dataclass(frozen=True, slots=True)
class Boolean:
    allowed: str = "true, 1, yes, on, false, 0, no or off"

    def __call__(self, given: object) -> bool:
        word = str(given).strip().lower()
        if word not in TRUE + FALSE:
            raise ValueError
        return word in TRUE


@dataclass(frozen=True, slots=True)
class Whole:
    least: int
    most: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def __call__(self, given: object) -> int:
        if isinstance(given, bool | float):
            raise ValueError
        text = str(given).strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not self.least <= int(text) <= self.most:
            raise ValueError
        return int(text)


@dataclass(frozen=True, slots=True)
class Words:
    """A list of them, in YAML's way or with commas."""

    known: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return f"a list of {', '.join(self.known)}"

    def __call__(self, given: object) -> tuple[str, ...]:
        each = given if isinstance(given, list) else str(given).split(",")
        words = tuple(str(word).strip().lower() for word in each if str(word).strip())
        if not set(words) <= set(self.known):
            raise ValueError
        return words


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """Tokens; 0 switches thinking off (SPEC 5.3)."""

    allowed: str = "0, or a whole number from 128 to 131072"

    def __call__(self, given: object) -> int:
        tokens = Whole(0, 131_072)(given)
        if 0 < tokens < 128:
            raise ValueError
        return tokens


@dataclass(frozen=True, slots=True)
class Number:
    least: float
    most: float

    @property
    def allowed(self) -> str:
        return f"a number from {self.least:g} to {self.most:g}"

    def __call__(self, given: object) -> float:
        text = str(given).strip()
        if isinstance(given, bool) or not re.fullmatch(r"[+-]?[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18}", text):
            raise ValueError
        if not self.least <= float(text) <= self.most:
            raise ValueError
        return float(text)


@dataclass(frozen=True, slots=True)
class Price:
    """Exactly as it is written."""

    allowed: str = "a number from 0 to 1000000"

    def __call__(self, given: object) -> Decimal:
        Number(0, 1_000_000)(given)
        return Decimal(str(given).strip())


@dataclass(frozen=True, slots=True)
class OneOf:
    """`also`: further spellings -> the word they stand for."""

    words: tuple[str, ...]
    also: tuple[tuple[str, str], ...] = ()

    @property
    def allowed(self) -> str:
        return " or ".join([", ".join(self.words[:-1]), self.words[-1]] if len(self.words) > 1 else self.words)

    def __call__(self, given: object) -> str:
        word = str(given).strip().lower()
        word = dict(self.also).get(word, word)
        if word not in self.words:
            raise ValueError
        return word


@dataclass(frozen=True, slots=True)
class Text:
    allowed: str = "text"

    def __call__(self, given: object) -> str:
        if not isinstance(given, str | int | float) or not str(given).strip() or not str(given).strip().isprintable():
            raise ValueError
        return str(given).strip()


@dataclass(frozen=True, slots=True)
class CommandPrefix:
    allowed: str = "2 to 10 printable characters without white space, not one character repeated"

    def __call__(self, given: object) -> str:
        text = str(given)
        if not 2 <= len(text) <= 10 or len(set(text)) == 1 or not text.isprintable():
            raise ValueError
        if any(char.isspace() for char in text):
            raise ValueError
        return text


@dataclass(frozen=True, slots=True)
class Url:
    """An http(s) base URL, without the slash at its end."""

    allowed: str = "an http:// or https:// URL without user, query and fragment"

    def __call__(self, given: object) -> str:
        text = str(given).strip()
        parts = urlsplit(text)
        if parts.scheme.lower() not in ("http", "https") or not HOST.fullmatch(parts.netloc.lower()):
            raise ValueError
        if "?" in text or "#" in text or not re.fullmatch(r"[!-~]+", text):
            raise ValueError
        if parts.port == 0:  # a port beyond 65535 raises by itself
            raise ValueError
        return text.rstrip("/")


@dataclass(frozen=True, slots=True)
class Hosts:
    """Host names, each with a port or without, also given as URLs: `a.example, https://b.example:8443/v1`."""

    allowed: str = "host names, separated by commas"

    def __call__(self, given: object) -> tuple[str, ...]:
        return _each(given, self._host)

    def _host(self, given: str) -> str:
        host = urlsplit(given).netloc if "://" in given else given.rstrip("/")
        if not HOST.fullmatch(host.lower()):
            raise ValueError
        return host.lower()


@dataclass(frozen=True, slots=True)
class Keys:
    """API keys as they can stand in a header. The value is never shown."""

    allowed: str = "keys of visible ASCII characters, separated by commas"
    separator: str | None = field(default=",", repr=False)

    def __call__(self, given: object) -> tuple[str, ...]:
        return _each(given, self._key, self.separator)

    def _key(self, given: str) -> str:
        if not KEY.fullmatch(given):
            raise ValueError
        return given


def _each[T](given: object, read: "_Read[T]", separator: str | None = ",") -> tuple[T, ...]:
    """Of a YAML list or of text, in order, duplicates and empty ones left out."""
    match given:
        case str():
            items: Iterable[object] = given.split(separator) if separator else [given]
        case list():
            items = given
        case _:
            raise ValueError
    texts = [item.strip() if isinstance(item, str) else str(item) for item in items]
    return tuple(dict.fromkeys(read(text) for text in texts if text))


class _Read[T](Protocol):
    def __call__(self, given: str, /) -> T: ...
