"""One exchange's markets and candles: calls with a rate limit and retries, and what its clock allows to be closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline.core import events, metrics
from pipeline.core.errors import PipelineError, Throttled, Unavailable, WrongAnswer, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.products import AssetClass
from pipeline.core.retry import retry_request
from pipeline.core.runtime import now_us
from pipeline.core.settings import load
from pipeline.core.stopping import Stopped, abandonable
from producers.exchange_candles.ccxt_source import CcxtSource
from producers.exchange_candles.looks import Answer
from producers.exchange_candles.names import with_own_candles
from producers.exchange_candles.rows import read_rows
from venues.candle_source import CandleSource
from venues.registry import adapter_of
from venues.rest import client
from venues.rest.date_clock import date_us
from venues.rest.rate_limit import RateLimit

T = TypeVar("T")

ATTEMPTS = 5  # 1 + 2 + 4 + 8 s plus jitter; an exchange that is down for longer is retried in the next pass
ATTEMPTS_AGAIN = 2  # at the start, while the others wait, and for an exchange that failed last time
# If an exchange's clock is this far behind ours, one of the two is wrong and no candle can be called closed.
CLOCKS_APART_US = 900_000_000


class Exchange:
    """Rate-limited calls, retried with backoff. They raise `Refused`, `Unavailable` or `Stopped`. Not thread-safe."""

    def __init__(
        self, venue: str, stop: threading.Event, state_dir: Path, *, base_url: str | None = None, delay_s: float = 0.0
    ) -> None:
        """`base_url`: in place of ccxt's. Raises `WrongUse` where a venue's own settings are not as they must be."""
        self.venue = venue
        self._stop, self._delay_s = stop, delay_s
        self.source: CandleSource
        self.asset_class: Callable[[str], AssetClass] = lambda product_id: "crypto"
        if venue in with_own_candles():
            adapter = adapter_of(venue)
            if base_url:
                raise WrongUse(f"EXCHANGE_CANDLES_URLS: {venue} has its own setting, {venue.upper()}_REST_URL.")
            assert adapter.candles is not None
            self.source, self.asset_class = adapter.candles(load(adapter.settings), stop), adapter.asset_class
        else:
            self.source = CcxtSource(venue, base_url)
        self.page_size = self.source.page_size
        self.behind_us = 0  # how far its clock is behind ours
        self._attempts = ATTEMPTS
        # Shared by all processes of the machine; ccxt's own limit is per process.
        self._limit = RateLimit(state_dir, f"{venue}-candles", self.source.calls_per_s)
        self._log = get_logger().bind(venue=venue)

    def gives_at_most(self, candles: int) -> None:
        """Reduce the page size: the exchange returns fewer candles per call than its documents say."""
        if 0 < candles < self.page_size:
            self.page_size = candles
            self._log.info(events.RATE_LIMIT, status="smaller pages", candles=candles)

    def granularities(self) -> list[int]:
        """The offered granularities in seconds, ascending."""
        return sorted(self.source.granularities())

    def load_markets(self, attempts: int = ATTEMPTS) -> None:
        self._request("markets", self.source.load, attempts)

    @property
    def loaded(self) -> bool:
        return self.source.loaded

    def lists(self, product_id: str) -> bool:
        """Whether the exchange has an active spot market for this product."""
        return self.source.lists(product_id)

    def now_us(self) -> int:
        """The earlier of our time and the exchange's, so that a candle closed by it is closed for both."""
        return now_us() - self.behind_us

    def candles(self, product_id: str, granularity_s: int, since_us: int, limit: int) -> Answer:
        """Request `limit` candles from `since_us`; returns whatever the exchange gives."""
        width_us = granularity_s * 1_000_000

        def fetch() -> Answer:
            asked_us, began_s = now_us(), time.monotonic()
            given = self.source.fetch(product_id, granularity_s, since_us, limit)
            took_us = round((time.monotonic() - began_s) * 1e6)
            rows = read_rows(given.pairs, width_us, self.source.units(product_id))
            if rows.refused and not rows.good and all(one.bucket_us is None for one in rows.refused):
                raise WrongAnswer(f"{self.venue}: no candle in the answer: {rows.refused[0].detail}"[:300])
            at_us = asked_us - self._compare_clocks(given.date, asked_us, took_us)
            if given.running_us is not None:  # whatever the clocks say
                at_us = min(at_us, given.running_us + width_us - 1)
            return Answer(rows, at_us)

        return self._request(f"candles of {product_id}", fetch)

    def _compare_clocks(self, date: str | None, asked_us: int, took_us: int) -> int:
        """Return by how many µs the answer may be older than the request, according to its `Date`: because the
        exchange's clock is slow, or the answer comes from a cache. Raises `WrongAnswer` if the clocks are too far
        apart.

        `Date` has whole seconds and is the time of sending. The content may be older by up to the whole time that the
        answer took, because our clock can be ahead of the exchange's by that much without showing.
        """
        sent_us = date_us(date)
        behind = 0 if sent_us is None else max(0, asked_us - sent_us + took_us)
        if behind > CLOCKS_APART_US + took_us:
            raise WrongAnswer(f"{self.venue}: its clock is {behind / 1e6:.0f} s behind ours; is ours right?")
        self.behind_us = behind
        return behind

    def _request(self, what: str, call: Callable[[], T], attempts: int | None = None) -> T:
        def attempt() -> T:
            self._limit.wait(self._stop)
            if self._delay_s and self._stop.wait(self._delay_s):
                raise Stopped
            try:
                made = abandonable(call, self._stop, f"{self.venue} {what}")
            except PipelineError as error:
                metrics.REQUESTS.labels(self.venue, type(error).__name__).inc()
                if isinstance(error, Throttled):
                    client.hold(self._limit, error, self._log)
                raise
            metrics.REQUESTS.labels(self.venue, "ok").inc()
            return made

        try:
            made = retry_request(what, attempt, attempts or self._attempts, self._stop, self._log)
        except Unavailable:
            self._attempts = ATTEMPTS_AGAIN
            raise
        self._attempts = ATTEMPTS
        return made
