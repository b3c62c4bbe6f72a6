"""Everything that can go wrong, as one tree:

    ProxyError                  has the HTTP status and the words for the client
    ├── BadRequest              400: the client's own fault; `param` names what was wrong
    ├── NotAuthenticated        401: the proxy's key is missing or wrong
    ├── Forbidden               403
    ├── NotFound                404
    ├── TooLarge                413
    ├── CannotExpress           400: the target protocol has no words for something that was asked
    └── UpstreamError           what a provider answered, or that it did not answer

Protocols turn any of them into their own error shape; nothing else ever reaches a client.
"""

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class ProxyError(Exception):
    """`message` is for the person at the client; `kind` is the error type in OpenAI's words (others map it)."""

    message: str
    status: int = 500
    kind: str = "api_error"
    code: str | None = None
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.message


@dataclass(slots=True, eq=False)
class BadRequest(ProxyError):
    status: int = 400
    kind: str = "invalid_request_error"


@dataclass(slots=True, eq=False)
class NotAuthenticated(ProxyError):
    status: int = 401
    kind: str = "authentication_error"
    code: str | None = "invalid_api_key"


@dataclass(slots=True, eq=False)
class Forbidden(ProxyError):
    status: int = 403
    kind: str = "permission_error"


@dataclass(slots=True, eq=False)
class NotFound(ProxyError):
    status: int = 404
    kind: str = "not_found_error"


@dataclass(slots=True, eq=False)
class TooLarge(ProxyError):
    status: int = 413
    kind: str = "request_too_large"


@dataclass(slots=True, eq=False)
class CannotExpress(BadRequest):
    """Refused instead of dropped: `param` names the field that the target protocol cannot say."""


@dataclass(slots=True, eq=False)
class UpstreamError(ProxyError):
    """A provider's refusal. `kind` and `code` are the provider's own words where it had any.

    `details` keeps its error object for a client of the same protocol; `headers` those that a client may act on
    (retry-after and rate limits, TRAPS T91). `status` is 502 when there was no HTTP answer, 504 when it took too long.
    """

    status: int = 502
    kind: str = "upstream_error"
    protocol: str | None = None
    body: bytes = b""
    details: dict[str, object] = field(default_factory=dict)
