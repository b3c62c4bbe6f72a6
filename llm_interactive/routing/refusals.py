"""What a provider's refusal means: whether another attempt may do better, and how long a key has to rest (SPEC 6).

Providers say the same thing in many ways: a wrong key is a 400 at Google and xAI, an empty account a 400 at Anthropic
and a 429 at OpenAI; the time to wait stands in one of a dozen headers, in the body, or only in the words for a person.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from llm_interactive.errors import ProxyError, UpstreamError

MOVES_ON = frozenset({401, 402, 403, 404, 408, 409, 425, 429})

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LONGEST = DAY
"""Seconds; whatever is named beyond is cut (TRAPS T91)."""
AT_ONCE = 1.0
"""Seconds of a wait that was named as none: a refusal is a refusal."""
WRONG_KEY = HOUR
NO_MONEY = 6 * HOUR
NO_ACCESS = HOUR
OVERLOADED = 30.0
"""Seconds until a key is tried again: somebody may have set it right meanwhile."""
USED_UP = HOUR
"""A longer wait is for a quota. A smaller request may still fit into it, or somebody buys more: where nothing else is
left, the key is asked."""

INVALID_KEY = re.compile(
    r"api[ _]key[ _](?:not valid|invalid|expired|not found)|(?:incorrect|invalid|expired) api[ _]key", re.I
)
EMPTY_ACCOUNT = re.compile(
    r"insufficient[_ ](?:user[_ ])?(?:quota|balance|funds)|credit balance is too low"
    r"|billing[_ ](?:hard[_ ]limit|not[_ ]active)",
    re.I,
)
EMPTY_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "1113"})
NO_MODEL_CODES = frozenset({"model_not_found", "model_decommissioned", "model_not_available"})
STORED_THING = re.compile(
    r"\b(?:files?|response|conversation|container|cached ?contents?|prompt|vector store|thread|batch|item|message)\b",
    re.I,
)
ABOUT_MODEL = re.compile(r"\bmodels?\b|\bendpoints?\b", re.I)
FOREIGN_THINKING = re.compile(r"signature\W+in\W+thinking|thinking\W+block\w*\W.*\bsignature", re.I | re.S)
TOO_MUCH_ASKED = re.compile(r"fewer max_tokens|can only afford", re.I)


@dataclass(frozen=True, slots=True)
class Rest:
    """`seconds`: None for a growing default, of `longest` at most. `whole_key`: for every model. `aside`: it is not the
    time that helps, or it is only a guess, so that the key is asked again where nothing else is left. `why`: a
    few words without anything secret."""

    seconds: float | None
    why: str
    whole_key: bool = False
    aside: bool = False
    longest: float = 5 * MINUTE


def status_of(error: ProxyError) -> int:
    """What the refusal's status should have been."""
    if not isinstance(error, UpstreamError) or error.status not in (400, 403, 404):
        return error.status
    if error.status == 400 and error.details.get("status") == "RESOURCE_EXHAUSTED":
        return 429
    if error.status == 400 and (error.code == "API_KEY_INVALID" or INVALID_KEY.search(error.message)):
        return 401
    if error.status == 400 and (error.code in EMPTY_CODES or EMPTY_ACCOUNT.search(error.message)):
        return 402
    return 404 if error.code in NO_MODEL_CODES else error.status


def moves_on(error: ProxyError) -> bool:
    """Whether another attempt may do better; other 4xx are the client's own fault."""
    status = status_of(error)
    if status == 404:
        return is_about_model(error)
    return status in MOVES_ON or status >= 500


def is_about_thinking(error: ProxyError) -> bool:
    """Whether reasoning in the history is what was refused: another model has signed it (TRAPS T55)."""
    return error.status == 400 and bool(FOREIGN_THINKING.search(error.message))


def is_about_model(error: ProxyError) -> bool:
    """Of a 404: not about a file or something else that was stored, which no other attempt will find either."""
    if error.code in NO_MODEL_CODES or error.param == "model" or ABOUT_MODEL.search(error.message):
        return True
    return not STORED_THING.search(f"{error.code or ''} {error.param or ''} {error.message}".replace("_", " "))


def rest_of(error: ProxyError, now: float) -> Rest | None:
    """How long the attempt's key has to rest; None where the refusal says nothing of the key. `now`: seconds since the
    epoch."""
    if not isinstance(error, UpstreamError):
        return None
    match status_of(error):
        case 401:
            return Rest(WRONG_KEY, "the key was refused", whole_key=True, aside=True)
        case 402:
            if TOO_MUCH_ASKED.search(error.message):
                return Rest(NO_ACCESS, "not enough credit for such a request", aside=True)
            return Rest(NO_MONEY, "no credit is left", whole_key=True, aside=True)
        case 403:
            return _forbidden(error)
        case 429 | 529 as status:
            if error.code in EMPTY_CODES or EMPTY_ACCOUNT.search(error.message):
                return Rest(NO_MONEY, "no credit is left", whole_key=True, aside=True)
            wait = named_wait(error, now)
            if status == 529:  # nobody's quota: it may be over at any moment
                return Rest(wait, "overloaded", aside=wait is None, longest=OVERLOADED)
            if wait is not None and wait > USED_UP:
                return Rest(wait, "the quota is used up", aside=True)
            # a 400 whose body says otherwise is not trusted to keep a lone key from being asked
            return Rest(wait, "the rate limit is reached", aside=wait is None or error.status != status)
    return None


def _forbidden(error: UpstreamError) -> Rest | None:
    metadata = error.details.get("metadata")
    if isinstance(metadata, dict) and ("reasons" in metadata or "flagged_input" in metadata):
        return None  # OpenRouter's moderation: the prompt, not the key
    if error.body.lstrip().startswith(b"<"):
        return None  # a firewall's page: it disliked something in the request
    if ABOUT_MODEL.search(error.message):
        return Rest(NO_ACCESS, "no access to the model", aside=True)
    return Rest(WRONG_KEY, "the key has no access", whole_key=True, aside=True)


def named_wait(error: UpstreamError, now: float) -> float | None:
    """Seconds that the provider names, at most a day; None where it names none."""
    headers = dict(error.headers)
    found = _daily_quota(error, now)
    for look in (_retry_after, _resets):
        found = look(headers, now) if found is None else found
    found = _in_words(error.message, now) if found is None else found
    return None if found is None else min(max(found, AT_ONCE if found <= 0 else 0.0), LONGEST)


def _daily_quota(error: UpstreamError, now: float) -> float | None:
    """Google names seconds even where the quota of the day is used up; that one comes back at midnight in California
    (taken as UTC-8 all year, so that it is an hour late in summer, not an hour early)."""
    details = error.details.get("details")
    for detail in details if isinstance(details, list) else ():
        violations = detail.get("violations") if isinstance(detail, dict) else None
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId")):
                return DAY - (now - 8 * HOUR) % DAY
    return None


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The first that is more than nothing; Azure sends `retry-after-ms: 0` beside `retry-after: 1`."""
    named = [
        seconds / scale
        for name, scale in (("retry-after-ms", 1000), ("retry-after", 1))
        if (seconds := moment(headers.get(name, ""), now)) is not None
    ]
    return next((seconds for seconds in named if seconds > 0), named[0] if named else None)


def _resets(headers: Mapping[str, str], now: float) -> float | None:
    """Of the limits that have nothing left, or of all where none says so, the latest reset."""
    resets: list[float] = []
    exhausted: list[float] = []
    for name, value in headers.items():
        if "reset" not in name or "fallback" in name or (seconds := moment(value, now)) is None or seconds <= 0:
            continue
        resets.append(seconds)
        left = headers.get(name.replace("reset", "remaining"))
        if (left is not None and left.strip() in ("0", "0.0")) or headers.get(
            name.replace("reset", "status")
        ) == "rejected":
            exhausted.append(seconds)
    return max(exhausted or resets, default=None)


EPOCH_SECONDS, EPOCH_MILLISECONDS = 1e9, 1e12
"""Numbers from here on are moments, not durations."""
NUMBER = re.compile(r"[0-9]{1,16}(?:\.[0-9]{1,12})?")
DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,12})?\s*(?:ms|d|h|m|s)\s*)+")
PIECE = re.compile(r"([0-9.]+)\s*(ms|d|h|m|s)")
UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": MINUTE, "h": HOUR, "d": DAY}
STRUCTURED = re.compile(r"\bt=([0-9]{1,9})\b")
"""`"default";r=0;t=30`, the newest drafts of `RateLimit`."""


def moment(text: str, now: float) -> float | None:
    """Seconds from now until what a header names: `7`, `1.5`, `6m0s`, `12ms`, an epoch's seconds or milliseconds, an
    ISO or HTTP date. None for anything else."""
    text = text.strip()
    if NUMBER.fullmatch(text):
        number = float(text)
        if number >= EPOCH_MILLISECONDS:
            return number / 1000 - now
        return number - now if number >= EPOCH_SECONDS else number
    if DURATION.fullmatch(text):
        return sum(float(number) * UNITS[unit] for number, unit in PIECE.findall(text))
    if (structured := STRUCTURED.search(text)) is not None:
        return float(structured[1])
    return _date(text, now)


def _date(text: str, now: float) -> float | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(text)
            return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None


WORDS = re.compile(
    r"(?:again|retry|wait|resets?|available)\s+(?:in|after|for)?\s*"
    r"([0-9][0-9.]*)\s*(ms|milliseconds?|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)\b",
    re.I,
)
CLOCKED = re.compile(r"(?:again|retry|wait)\s+(?:in|after|for)?\s*((?:[0-9][0-9.]*(?:ms|d|h|m|s)){2,})", re.I)
DATED = re.compile(r"reset(?:s)?\s+at\s+(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)", re.I)
CHINA = timezone(timedelta(hours=8))


def _in_words(message: str, now: float) -> float | None:
    """`Please try again in 1h2m3s`, `Please retry in 48.9s`, `wait 20 seconds`, `will reset at 2026-08-27 21:31:39`."""
    if (clocked := CLOCKED.search(message)) is not None:
        return moment(clocked[1].rstrip("."), now)
    if (worded := WORDS.search(message)) is not None:
        number, unit = worded[1].rstrip("."), worded[2].lower()
        return (
            float(number) * UNITS["ms" if unit.startswith(("ms", "mil")) else unit[0]]
            if number.count(".") < 2
            else None
        )
    if (dated := DATED.search(message)) is not None:  # Z.ai's clock is China's; too early costs less than too late
        found = datetime.fromisoformat(dated[1])
        moments = (found.replace(tzinfo=zone).timestamp() - now for zone in (CHINA, UTC))
        return next((seconds for seconds in moments if seconds > 0), None)
    return None
