"""REST client: rate-limited, retried; rejects HTML, truncated and empty bodies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import requests
import structlog

from pipeline.core import events, metrics
from pipeline.core.errors import PipelineError, Refused, Throttled, Unavailable, WrongAnswer
from pipeline.core.log import get_logger
from pipeline.core.retry import retry_request
from pipeline.core.runtime import now_us
from pipeline.core.stopping import abandonable
from venues.rest.bounded import BoundedSession, TooLate, TooMuch
from venues.rest.date_clock import DateClock, age_s, date_us
from venues.rest.rate_limit import LONGEST_HOLD_S, RateLimit

T = TypeVar("T")

# (connect, read) in seconds. A page of 1000 trades takes well under one second.
TIMEOUT_S = (5.0, 15.0)
MOST_AGE_S = 10.0  # less than what a claim of completeness allows for
ATTEMPTS = 6  # 1 + 2 + 4 + 8 + 16 s plus jitter: half a minute; a caller that wants more calls again later
THROTTLED_S = 5.0  # where the answer has no Retry-After ("a few seconds or more")


@dataclass(frozen=True)
class Answer:
    """A complete body with its headers."""

    body: bytes
    headers: Mapping[str, str]

    def check_age(self) -> None:
        """Raise `WrongAnswer` if a cache kept it (`Age`, RFC 9111): it says nothing about now and is no second look."""
        if (age := age_s(self.headers)) > MOST_AGE_S:
            raise WrongAnswer(f"the answer is {age:.10g} s old, out of a cache")


class Client:
    """One venue's REST interface. `get` raises `Refused`, `Unavailable` (after all retries) or `Stopped`."""

    def __init__(
        self,
        venue: str,
        base_url: str,
        stop: threading.Event,
        *,
        attempts: int = ATTEMPTS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.venue, self._base, self._stop, self._attempts = venue, base_url.rstrip("/"), stop, attempts
        self.clock = DateClock()
        self._log = get_logger().bind(venue=venue)
        self._session = BoundedSession(redirects=True)  # `check` raises for them, naming the status
        self._session.headers["User-Agent"] = "market-data-pipeline"  # some venues refuse the default one
        self._session.headers["Accept"] = "application/json"
        self._session.headers.update(headers or {})

    def get(self, path: str, params: Mapping[str, str | int], limit: RateLimit, understand: Callable[[Answer], T]) -> T:
        """Request `path` and return `understand(answer)`. Errors raised by `understand` are retried if retryable."""

        def attempt() -> T:
            limit.wait(self._stop)
            try:
                answer = abandonable(lambda: self.ask(path, params), self._stop, f"GET {path}")
                made = understand(answer)
            except PipelineError as error:
                metrics.REQUESTS.labels(self.venue, type(error).__name__).inc()
                if isinstance(error, Throttled):
                    hold(limit, error, self._log)
                raise
            metrics.REQUESTS.labels(self.venue, "ok").inc()
            return made

        return retry_request(path, attempt, self._attempts, self._stop, self._log)

    def ask(self, path: str, params: Mapping[str, str | int], headers: Mapping[str, str] | None = None) -> Answer:
        """Request `path` once, without rate limit and retries. Raises `Refused`, `Unavailable` or another
        `PipelineError`."""
        url = f"{self._base}/{path}"
        sent_us = now_us()
        try:
            response = self._session.get(url, params=params, headers=headers, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise mapped(url, error) from None
        self.clock.note(response.headers.get("Date"), sent_us, now_us())
        check(url, response.status_code, response.headers, response.content)
        return Answer(response.content, response.headers)


def hold(limit: RateLimit, error: Throttled, log: structlog.typing.FilteringBoundLogger) -> None:
    """Hold back the requests of all processes for as long as the venue asked."""
    hold_s = min(LONGEST_HOLD_S, error.retry_after_s or THROTTLED_S)
    limit.hold(hold_s)
    log.warning(events.RATE_LIMIT, limit=limit.name, status="exceeded", hold_s=hold_s)


def mapped(url: str, error: requests.RequestException) -> PipelineError:
    """Map an error of `requests`: TLS and network errors are retryable, an invalid URL is not."""
    if isinstance(
        error,
        (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
            requests.exceptions.InvalidProxyURL,
            requests.exceptions.UnrewindableBodyError,
            requests.exceptions.InvalidHeader,
        ),
    ):
        return Refused(f"{url} is not a valid URL: {type(error).__name__}")
    if isinstance(error, (TooMuch, TooLate)):
        return (WrongAnswer if isinstance(error, TooMuch) else Unavailable)(f"{url}: {error}")
    if isinstance(error, (requests.exceptions.ContentDecodingError, requests.exceptions.ChunkedEncodingError)):
        return WrongAnswer(f"{url}: the answer was truncated or damaged ({type(error).__name__})")
    return Unavailable(f"{url}: {type(error).__name__}")


def check(url: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Raise the error for an HTTP status, or for a body that is HTML or empty. Returns None for a good answer."""
    if status == 429 or status == 418:
        raise Throttled(f"{url}: {status}", retry_after_s(headers))
    # a byte range of a file may begin with anything
    html = (status != 206 and body.lstrip()[:1] == b"<") or "html" in headers.get("Content-Type", "")
    # a 403 page comes from the firewall in front of the venue
    if status >= 500 or status == 408 or (status == 403 and html):
        raise Unavailable(f"{url}: {status}")
    if status >= 400:
        raise Refused(f"{url}: {status} {body[:200].decode(errors='replace')}")
    if status >= 300:
        raise WrongAnswer(f"{url}: {status}")
    if html:
        raise WrongAnswer(f"{url}: a web page instead of data")
    if not body.strip():
        raise WrongAnswer(f"{url}: an empty answer")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Parse `Retry-After` into seconds; it is a number or a date, by the sender's clock, which is `Date`."""
    text = headers.get("Retry-After")
    if text and text.strip().isdecimal():
        return float(text)
    until_us, sent_us = date_us(text), date_us(headers.get("Date"))
    return None if until_us is None else max(0.0, (until_us - (now_us() if sent_us is None else sent_us)) / 1e6)
