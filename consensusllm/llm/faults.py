"""From what a provider said, or failed to say, to the port's errors.

Owns the one mapping of HTTP statuses, error objects and exceptions, and the wording: one line,
named after the provider, without control characters and without keys. Refuses to quote the text
of exceptions, which may hold request headers; a provider's own message is quoted, scrubbed and cut.
Sources: RFC 9110 sections 10.2.3 (Retry-After) and 15; google.rpc.RetryInfo.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from .port import ProviderError, RateLimited, Rejected, TimedOut, Unavailable

DETAIL_MAX = 300
"""Characters of a provider's own message that an error quotes."""

SECRET_CHARACTERS_MIN = 8
"""A shorter value in the environment is no key, and taken out would make a message unreadable."""

_SECRET_NAME = re.compile(r"(^|_)(APIKEY|CREDENTIALS|KEY|PASSWORD|SECRET|TOKEN)(_|$)", re.I)
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_ADVICE = {
    401: "check the API key",
    403: "check the API key and what it may use",
    404: "check the model's name and base_url",
}
_LIMIT_WORDS = ("rate_limit", "rate limit", "quota", "too many requests", "resource_exhausted")
_REFUSAL_WORDS = (
    "invalid",
    "not found",
    "not_found",
    "authentication",
    "permission",
    "unauthorized",
    "context_length",
    "content_filter",
    "content_policy",
    "does not support",
)


@dataclass(frozen=True, slots=True)
class Faults:
    """Words errors for the provider ``name``; ``secrets`` are what must not appear in them."""

    name: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def status(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The error for a response with a ``status`` of 300 or more."""
        report = _parsed(body)
        retry_after_s = _retry_after_s(headers)
        if retry_after_s is None:
            retry_after_s = _retry_info_s(report)
        error = self._of_status(status, _message(report), retry_after_s)
        error.status = status
        return error

    def report(self, report: object) -> ProviderError:
        """The error for an error object that came where an answer was due (with status 200)."""
        fields: Mapping[str, Any] = report if isinstance(report, dict) else {}
        detail = _message(report)
        code = fields.get("code")
        if isinstance(code, int | str) and str(code).isdecimal() and 400 <= int(code) < 600:
            return self._of_status(int(code), detail, _retry_info_s({"error": report}))
        words = " ".join(
            str(word).lower() for word in (code, fields.get("type"), fields.get("status"), detail)
        )
        text = self.line("reported an error", detail)
        if any(word in words for word in _LIMIT_WORDS):
            return RateLimited(text, retry_after_s=_retry_info_s({"error": report}))
        if any(word in words for word in _REFUSAL_WORDS):
            return Rejected(text)
        return Unavailable(text)

    def line(self, what: str, detail: str = "") -> str:
        """``name: what: detail`` in one line, cut, scrubbed."""
        for secret in sorted(filter(None, self.secrets), key=len, reverse=True):
            detail = detail.replace(secret, "[key]")
        printable = "".join(c if c.isprintable() else " " for c in detail[: 4 * DETAIL_MAX])
        detail = " ".join(printable.split())
        if len(detail) > DETAIL_MAX:
            detail = detail[: DETAIL_MAX - 1] + "…"
        return f"{self.name}: {what}: {detail}" if detail else f"{self.name}: {what}"

    def _of_status(self, status: int, detail: str, retry_after_s: float | None) -> ProviderError:
        if status == 429:
            return RateLimited(self.line("429 rate limited", detail), retry_after_s=retry_after_s)
        if status >= 500:
            text = self.line(f"{status} the server failed", detail)
            return Unavailable(text, retry_after_s=retry_after_s)
        if status == 408:
            return TimedOut(self.line("408 the server gave up waiting", detail))
        if status < 400:
            return Rejected(self.line(f"{status} a redirect, which is not followed: fix base_url"))
        advice = _ADVICE.get(status)
        what = f"{status} refused ({advice})" if advice else f"{status} refused"
        return Rejected(self.line(what, detail))


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of variables that are named as keys are: a vendor's package may send any."""
    return tuple(
        value.strip()
        for name, value in environment.items()
        if _SECRET_NAME.search(name) and len(value.strip()) >= SECRET_CHARACTERS_MIN
    )


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        text = body[: 8 * DETAIL_MAX].decode("utf-8", "replace").strip()
        return "" if text.startswith("<") else text


def error_in(body: bytes) -> object:
    """The error object of a JSON body, None where there is none (or the body is no JSON)."""
    report = _parsed(body)
    if isinstance(report, list) and report:
        report = report[0]
    return report.get("error") if isinstance(report, dict) else None


def _message(report: object) -> str:
    """What an error object or body says, in the shapes that servers use."""
    if isinstance(report, list) and report:
        report = report[0]
    while isinstance(report, dict):
        report = report.get("error") or report.get("message") or report.get("detail") or ""
    return report if isinstance(report, str) else ""


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Retry-After, which some give in parts of a second, or OpenAI's own in milliseconds."""
    value = headers.get("retry-after", "").strip()
    if not value:
        ms = headers.get("retry-after-ms", "").strip()
        return float(ms) / 1000 if _NUMBER.fullmatch(ms) else None
    if _NUMBER.fullmatch(value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _retry_info_s(report: object) -> float | None:
    """The delay of a google.rpc.RetryInfo among the details of an error: "12.5s"."""
    if isinstance(report, list) and report:
        report = report[0]
    error = report.get("error") if isinstance(report, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and delay.endswith("s"):
            try:
                return max(0.0, float(delay[:-1]))
            except ValueError:
                return None
    return None
