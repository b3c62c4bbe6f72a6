"""Qwen's sign-in as a backend (SPEC 12): the token in `~/.qwen/oauth_creds.json`, which its command line program wrote.

The file is `{access_token, refresh_token, token_type, resource_url, expiry_date}`, the last in milliseconds since the
epoch. A token is renewed some minutes before it ends and written back, with whatever else the file holds. That program
renews it too, so the file is read again before a token is renewed or given up.
"""

import asyncio
import http.client
import logging
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from llm_interactive import wire_json
from llm_interactive.backends.catalog import Access, Account, ConfiguredBackend
from llm_interactive.backends.providers import BACKENDS
from llm_interactive.errors import UpstreamError

logger = logging.getLogger(__name__)

NAME = "qwen-oauth"
PROTOCOL = "openai_chat"
FILE = Path(".qwen", "oauth_creds.json")
"""Below the home of whoever runs the proxy."""
SIGN_IN = "https://chat.qwen.ai"
TOKEN_PATH = "/api/v1/oauth2/token"
CLIENT_ID = "f0304373b74a44d2b584a3fb70ca9e56"
"""Qwen's own, of its command line program, to which the tokens were given."""
EARLY = 300.0
"""Seconds before its end at which a token is renewed."""
AGAIN = 30.0
"""Seconds after which a renewal that failed is tried once more."""
PATIENCE = 30.0
LARGEST = 1024 * 1024

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Token:
    """`ends`: seconds since the epoch. `stored`: the file's whole content."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    ends: float
    resource: str | None
    stored: dict[str, Any] = field(repr=False)


class QwenAccount(Account):
    """`base_url`: where everything is, in place of the file's `resource_url` and Qwen's own host. `clock`: seconds
    since the epoch. Reads the file at once."""

    def __init__(self, path: Path, base_url: str | None = None, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._base_url = base_url
        self._clock = clock
        self._token: Token | None = None
        with suppress(UpstreamError):
            self._token = read(path)
        self._refused: str | None = None
        self._error: UpstreamError | None = None
        self._look_again = 0.0
        self._renewing: asyncio.Task[None] | None = None

    @property
    def is_settled(self) -> bool:
        return self._clock() < self._look_again or self._is_good(self._token, EARLY)

    @property
    def secrets(self) -> tuple[str, ...]:
        token = self._token
        return () if token is None else tuple(filter(None, (token.access, token.refresh)))

    def access(self) -> Access:
        token = self._token
        if token is None or not self._is_good(token):
            raise self._error or UpstreamError("the sign-in of Qwen has ended", status=401)
        return Access(self._place(token), token.access)

    def distrust(self, access: Access) -> None:
        if self._token is not None and self._token.access == access.token:
            self._refused, self._look_again = access.token, 0.0

    async def renew(self) -> None:
        """Whoever comes meanwhile waits for the same renewal."""
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
        await asyncio.shield(self._renewing)

    async def _renew(self) -> None:
        try:
            self._token = await asyncio.to_thread(self._found_or_renewed)
            self._error = None
            if not self.is_settled:  # it is given for so short a time
                self._look_again = self._clock() + AGAIN
        except UpstreamError as error:
            self._error = error
            self._look_again = self._clock() + AGAIN
            logger.warning("%s: %s", NAME, error)
        finally:
            self._renewing = None

    def _found_or_renewed(self) -> Token:
        """Blocks. Raises `UpstreamError`."""
        token = read(self._path)
        if self._is_good(token, EARLY):
            return token
        try:
            renewed = self._ask(token)
        except UpstreamError:
            again = read(self._path)
            if again.access != token.access and self._is_good(again):
                return again  # the program has renewed it meanwhile
            if self._is_good(token):
                self._look_again = self._clock() + AGAIN
                return token  # it serves a while yet
            raise
        try:
            write(self._path, renewed.stored)
        except OSError as error:
            logger.error("the renewed sign-in of Qwen cannot be written to %s: %s", self._path, error.strerror)
        return renewed

    def _is_good(self, token: Token | None, margin: float = 0.0) -> bool:
        return token is not None and token.ends - margin > self._clock() and token.access != self._refused

    def _ask(self, token: Token) -> Token:
        if token.refresh is None:
            raise signed_out("it holds no refresh token")
        form = {"grant_type": "refresh_token", "refresh_token": token.refresh, "client_id": CLIENT_ID}
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        request = urllib.request.Request(self._token_url(), urlencode(form).encode(), headers)
        try:
            with _OPENER.open(request, timeout=PATIENCE) as response:
                body = response.read(LARGEST)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error.code, error.read(LARGEST)) from None
        except (OSError, http.client.HTTPException) as error:
            raise UpstreamError(f"the sign-in of Qwen cannot be renewed: {error}") from None
        return self._renewed(token, body)

    def _renewed(self, token: Token, body: bytes) -> Token:
        try:
            answer = wire_json.loads(body)
            seconds = float(answer["expires_in"])
            fresh = {key: answer[key] for key in ("refresh_token", "resource_url", "token_type") if answer.get(key)}
            fresh |= {"access_token": answer["access_token"], "expiry_date": int((self._clock() + seconds) * 1000)}
            return _token({**token.stored, **fresh})
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise UpstreamError("the sign-in of Qwen cannot be renewed: the answer holds no token") from None

    def _token_url(self) -> str:
        if self._base_url is None:
            return SIGN_IN + TOKEN_PATH
        parts = urlsplit(self._base_url)
        return f"{parts.scheme}://{parts.netloc}{TOKEN_PATH}"

    def _place(self, token: Token) -> str:
        if self._base_url is not None or token.resource is None:
            return self._base_url or BACKENDS[NAME].protocols[PROTOCOL]
        return token.resource if "://" in token.resource else f"https://{token.resource}"


def configured(home: Path, base_url: str | None) -> ConfiguredBackend:
    row = BACKENDS[NAME]
    account = QwenAccount(home / FILE, base_url)
    return ConfiguredBackend(NAME, {PROTOCOL: base_url or row.protocols[PROTOCOL]}, (), row.headers, account=account)


def is_signed_in(home: Path) -> bool:
    return (home / FILE).is_file()


def signed_out(why: str) -> UpstreamError:
    return UpstreamError(f"the sign-in of Qwen is of no use: {why}; sign in again with its program, qwen", status=401)


def read(path: Path) -> Token:
    """Blocks. Raises `UpstreamError`."""
    try:
        return _token(wire_json.loads(path.read_bytes()))
    except OSError as error:
        raise signed_out(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise signed_out(f"{path} holds no token") from None


def _token(stored: dict[str, Any]) -> Token:
    access, refresh, resource = stored["access_token"], stored.get("refresh_token"), stored.get("resource_url")
    if not isinstance(access, str) or not access.isascii() or not access.isprintable() or not access:
        raise ValueError
    return Token(
        access,
        refresh if isinstance(refresh, str) and refresh else None,
        float(stored.get("expiry_date") or 0) / 1000,
        resource if isinstance(resource, str) and resource else None,
        stored,
    )


def _refusal(status: int, body: bytes) -> UpstreamError:
    said = ""
    with suppress(ValueError, AttributeError):
        answer = wire_json.loads(body)
        said = str(answer.get("error_description") or answer.get("error") or "")[:200]
    if 400 <= status < 500 and status != 429:
        return signed_out(f"it was refused with status {status}{f' ({said})' if said else ''}")
    return UpstreamError(f"the sign-in of Qwen cannot be renewed: status {status} {said}".rstrip(), status=502)


def write(path: Path, stored: dict[str, Any]) -> None:
    """All or nothing, readable by its owner alone. Blocks. Raises OSError."""
    place = path.resolve()
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")  # made with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(wire_json.dumps(stored))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, place)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
