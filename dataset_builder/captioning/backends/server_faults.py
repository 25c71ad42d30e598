"""What a server's refusal, a broken connection or a header means, without the keys that they may carry."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dataset_builder.captioning.requests import Fault, RateHint

MESSAGE_LIMIT = 300  # characters of a server's error text that are kept
SHORTEST_DISTINCT_KEY = 8  # characters; a shorter key is scrubbed only where it stands as a word

_KEY_LIKE = re.compile(
    r"\b(?:sk|hf|gsk|pk|rk|xai|nvapi|tgp|fw|key)[-_][A-Za-z0-9_\-*.]{6,}"  # OpenAI and most others, Hugging Face, Groq
    r"|\bAIza[A-Za-z0-9_\-]{10,}"  # Google
    r"|(?<=Bearer )[A-Za-z0-9_\-*.~+/]{6,}=*"
    r"|(?<=://)[^\s/@]+(?=@)"  # user:password@ of an address
    r"|(?<=key=)[^\s&\"']{6,}"
)
_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"}
_UNAVAILABLE_STATUS = {502, 503, 504}
_FATAL_STATUS = {401, 402, 403, 404}  # 402: several hosts' word for an empty account

_HINTS = {
    "x-ratelimit-limit-requests": "requests_per_minute",
    "x-ratelimit-limit-tokens": "tokens_per_minute",
    "x-ratelimit-remaining-requests": "remaining_requests",
    "x-ratelimit-remaining-tokens": "remaining_tokens",
}


@dataclass(frozen=True)
class ServerError:
    """The error object of an answer; `message` is scrubbed of nothing yet."""

    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None


def read_error(content: bytes) -> ServerError:
    """The error in the body of an answer, whichever of the common shapes it has."""
    try:
        body: Any = json.loads(content)
    except ValueError:
        return ServerError(content[:4096].decode(errors="replace"))
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, dict):
        body = body.get("error") or body
    if not isinstance(body, dict):
        return ServerError(body if isinstance(body, str) else json.dumps(body))
    message = body.get("message") or body.get("detail") or body
    code, kind, param = (
        str(value) if value is not None else None for value in map(body.get, ("code", "type", "param"))
    )
    return ServerError(message if isinstance(message, str) else json.dumps(message), code, kind, param)


def status_fault(
    status: int, error: ServerError, secret: str, retry_after: float | None = None, hint: RateHint | None = None
) -> Fault:
    """The `Fault` of an answer with an error status, decided by the status and the error's code, never by its words."""
    message = f"HTTP {status}: {scrub(error.message, secret)}"
    if status == 429 and {error.code, error.type} & _QUOTA_CODES:
        kind = "fatal"
    elif status == 429:
        kind = "rate_limited"
    elif status in _FATAL_STATUS:
        kind = "fatal"
    elif status in _UNAVAILABLE_STATUS:
        kind = "unavailable"
    elif status in (408, 409) or status >= 500:
        kind = "transient"
    else:
        kind = "refused"
    waits = kind in ("rate_limited", "unavailable", "transient")
    return Fault(kind, message, retry_after if waits else None, hint)


def scrub(text: str, secret: str) -> str:
    """`text` in one line of at most 300 characters, without `secret` and whatever else looks like a key."""
    if len(secret) >= SHORTEST_DISTINCT_KEY:
        text = text.replace(secret, "[key]")
    elif secret:
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "[key]", text)
    return " ".join(_KEY_LIKE.sub("[key]", text).split())[:MESSAGE_LIMIT]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait (`Retry-After` in milliseconds, seconds or as a date), None if it doesn't.

    A date is taken relative to the server's own `Date`, so that a wrong clock here makes no difference.
    """
    for name, per_second in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / per_second
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    date = _seconds_of_date(headers.get("retry-after"))
    if date is None:
        return None
    now = _seconds_of_date(headers.get("date"))
    return max(0.0, date - (time.time() if now is None else now))


def _seconds_of_date(value: str | None) -> float | None:
    parsed = email.utils.parsedate_tz(value) if value else None
    try:
        return float(email.utils.mktime_tz(parsed)) if parsed else None
    except (ValueError, OverflowError):
        return None


def rate_hint(headers: Iterable[tuple[bytes, bytes]]) -> RateHint | None:
    """What the `x-ratelimit-*` headers say, None when there are none. One pass, as this runs at every answer."""
    found: dict[str, int] = {}
    for name, value in headers:
        if name[:12].lower() == b"x-ratelimit-":
            field = _HINTS.get(name.decode("latin-1").lower())
            number = re.match(rb"\s*(\d{1,15})", value)
            if field and number:
                found[field] = int(number[1])
    return RateHint(**found) if found else None
