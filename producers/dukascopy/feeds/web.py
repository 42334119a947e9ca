"""HTTP client for the vendor: rate-limited, with circuit breakers; rejects HTML and truncated bodies."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import requests

from pipeline.core import events, metrics
from pipeline.core.errors import PipelineError, Throttled
from pipeline.core.log import get_logger
from pipeline.core.stopping import abandonable
from producers.dukascopy.feeds.clock import VenueClock, monotonic_us
from producers.dukascopy.feeds.limiter import AdaptiveLimit
from venues.rest.bounded import BoundedSession
from venues.rest.client import check, mapped

# (connect, read) in seconds: throttled answers have been seen to arrive after 30 s of silence.
TIMEOUT_S = (5.0, 35.0)
SLOW_S = 10.0  # an answer this slow counts as throttling


@dataclass(frozen=True)
class Got:
    """An answer. `body` is None for a 404 and b"" for an empty 200; `fetched_at_us` is by the vendor's clock."""

    body: bytes | None
    fetched_at_us: int


class Breaker:
    """Circuit breaker: opens after several consecutive failures, so that a dead feed costs no time."""

    AFTER = 5
    FIRST_S, LONGEST_S = 60.0, 900.0

    def __init__(self) -> None:
        self._failures = 0
        self._rest_s = 0.0
        self.open_until = 0.0  # monotonic

    def wait_s(self) -> float:
        """Seconds until the next attempt is allowed; 0 when closed."""
        return max(0.0, self.open_until - time.monotonic())

    def succeeded(self) -> None:
        self._failures, self._rest_s, self.open_until = 0, 0.0, 0.0

    def failed(self) -> bool:
        """Count a failure; returns True if it opened the breaker."""
        self._failures += 1
        if self._failures < self.AFTER or self.wait_s():
            return False
        self._rest_s = min(self.LONGEST_S, self._rest_s * 2 or self.FIRST_S)
        self.open_until = time.monotonic() + self._rest_s
        return True


# More than the breaker allows, so that even a single hour switches to the other feed.
TRIES = Breaker.AFTER + 1
T = TypeVar("T")


class Web:
    """One of the vendor's hosts. Thread-safe; each concurrent request has its own connection.

    Two kinds of circuit breakers: one for the host when it does not answer, one per instrument when its answers cannot
    be parsed.
    """

    def __init__(
        self,
        feed: str,
        base_url: str,
        limit: AdaptiveLimit,
        stop: threading.Event,
        clock: VenueClock | None = None,
    ) -> None:
        self.feed, self._base, self._limit, self._stop = feed, base_url.rstrip("/"), limit, stop
        self.clock = clock or VenueClock()
        self._lock = threading.Lock()
        self._idle: list[requests.Session] = []
        self._silent = Breaker()
        self._strange: defaultdict[str, Breaker] = defaultdict(Breaker)  # by instrument

    def wait_s(self, about: str | None = None) -> float:
        """Return the seconds until the next request (for this instrument) makes sense; 0: now."""
        strange = self._strange.get(about) if about is not None else None
        return max(self._silent.wait_s(), strange.wait_s() if strange else 0.0)

    def get(self, path: str, about: str, understand: Callable[[Got], T], params: dict[str, int] | None = None) -> T:
        """Make one request, without retries, and return `understand(answer)`. `about`: the instrument.

        Raises `Unavailable` (and subclasses), `Refused`, `Stopped`, and what `understand` raises.
        """
        asked_at = self._limit.wait(self._stop)
        url = f"{self._base}/{path}"
        try:
            got = abandonable(lambda: self._request(url, params or {}), self._stop, f"GET {path}")
        except PipelineError as error:
            self._count(error)
            if isinstance(error, Throttled):
                self._slow_down(asked_at, str(error), error.retry_after_s)
            elif error.retryable:
                self._slow_down(asked_at, str(error))
                self._rest(self._silent, str(error))
            raise
        try:
            made = understand(got)
        except PipelineError as error:
            self._count(error)
            if error.retryable:
                self._rest(self._strange[about], f"{path}: {error}")
            raise
        metrics.REQUESTS.labels("dukascopy", "ok").inc()
        if time.monotonic() - asked_at > SLOW_S:
            self._slow_down(asked_at, "a very slow answer")
        else:
            self._limit.succeeded()
        self._silent.succeeded()
        self._strange.pop(about, None)
        return made

    @staticmethod
    def _count(error: PipelineError) -> None:
        metrics.REQUESTS.labels("dukascopy", type(error).__name__).inc()

    def _slow_down(self, asked_at: float, why: str, retry_after_s: float | None = None) -> None:
        pause = self._limit.failed(asked_at, retry_after_s)
        get_logger().warning(
            events.RATE_LIMIT,
            venue="dukascopy",
            feed=self.feed,
            status="slower",
            rate=round(self._limit.rate, 2),
            pause_s=round(pause, 2),
            error=why,
        )

    def _rest(self, breaker: Breaker, why: str) -> None:
        if breaker.failed():
            get_logger().warning(events.FEED_DOWN, feed=self.feed, error=why, next_try_in_s=round(breaker.wait_s(), 1))

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        """Yield a connection for one request; it is reused unless the request failed."""
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is None:
            session = BoundedSession(redirects=True)  # `check` raises for them, naming the status
            session.headers["User-Agent"] = "Mozilla/5.0 (compatible; market-data-pipeline)"
            session.headers["Accept"] = "*/*"
        yield session
        with self._lock:
            self._idle.append(session)

    def _request(self, url: str, params: dict[str, int]) -> Got:
        sent_us = monotonic_us()
        try:
            with self._session() as session:
                response = session.get(url, params=params, timeout=TIMEOUT_S)
                self.clock.note(response.headers, sent_us, monotonic_us())
                body = response.content
                if response.status_code == 404:
                    return Got(None, self.clock.fetched_us(response.headers))
                if response.status_code != 200 or body:
                    check(url, response.status_code, response.headers, body)
                return Got(body, self.clock.fetched_us(response.headers))
        except requests.RequestException as error:
            raise mapped(url, error) from None
